# `just check` is what CI runs, in the environment you are in.

check: lint test

lint:
    ruff format --check .
    ruff check .
    mypy
    lint-imports

test:
    pytest

# minutes long: soak tests
slow:
    pytest -m slow

format:
    ruff format .
    ruff check --fix .

# the README's figures, measured here and now
bench:
    python -m tests.bench
