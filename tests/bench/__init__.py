"""The figures of the README, measured here and now: `python -m tests.bench`.

Every script measures both sides in one run and alternates between them, because machines are noisy: the ratios are
what counts. A peer that is not installed is left out, and the table says so.
"""
