from __future__ import annotations

import re
from itertools import islice, pairwise

from fusiond.storage.names import candidates


def test_a_name_is_two_pronounceable_words() -> None:
    for n in range(200):
        assert re.fullmatch(
            r"(?:[^aiou][aiou]){2}[^aiou]-(?:[^aiou][aiou]){2}[^aiou]", next(candidates(str(n)))
        )


def test_the_same_turn_makes_the_same_names_and_another_turn_others() -> None:
    assert list(candidates("a")) == list(candidates("a"))
    assert len({next(candidates(str(n))) for n in range(1000)}) == 1000


def test_further_names_are_longer_and_all_different() -> None:
    names = list(islice(candidates("a"), 5))
    assert all(len(second) > len(first) for first, second in pairwise(names))
