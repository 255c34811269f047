"""Ids of sessions: short, pronounceable, made from the turn that began the session.

Five letters stand for 16 bits, as in "proquints" (Wilkerson, arXiv:0901.4016): `lusab-babad` is 32 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"
_LONGEST = 64  # bytes, blake2b's own limit


def _quint(word: int) -> str:
    return (
        _CONSONANTS[word >> 12]
        + _VOWELS[word >> 10 & 3]
        + _CONSONANTS[word >> 6 & 15]
        + _VOWELS[word >> 4 & 3]
        + _CONSONANTS[word & 15]
    )


def candidates(turn: str) -> Iterator[str]:
    """Ids for the session that `turn` begins; the later ones are longer, for when the first is taken."""
    for size in range(4, _LONGEST + 1, 2):
        digest = hashlib.blake2b(turn.encode(), digest_size=size).digest()
        yield "-".join(_quint(int.from_bytes(digest[at : at + 2], "big")) for at in range(0, size, 2))
