"""One question: the embedded model is fetched where it is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import pytest

from fusionctl import fetching
from fusionctl.asking import Question
from fusionctl.client import Client
from fusionctl.paper import Whole
from fusiond.errors import FusionError, ModelMissing, ProviderDown
from fusiond.protocol.chat import ChatChunk

ANSWER = SimpleNamespace(text="Paris", left_out=0)


class Stream:
    def __init__(self, turn: str, error: FusionError | None) -> None:
        self.turn = turn or "0" * 32
        self.session = "s1"
        self.answer = ANSWER
        self._error = error

    async def __aiter__(self) -> AsyncIterator[ChatChunk]:
        if self._error is not None:
            raise self._error
        yield ChatChunk("Paris")


class Fusion:
    """A client whose first answers are these errors."""

    def __init__(self, *errors: FusionError) -> None:
        self._errors = list(errors)
        self.turns: list[str] = []

    def stream(self, prompt: str, *, turn: str = "", on_note: object = None) -> Stream:
        self.turns.append(turn)
        return Stream(turn, self._errors.pop(0) if self._errors else None)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The homes for which the model was fetched."""
    homes: list[str | None] = []

    async def fetch(home: str | None) -> None:
        homes.append(home)

    monkeypatch.setattr(fetching, "fetch_embedded_model", fetch)
    return homes


async def test_a_missing_model_is_fetched_and_the_same_turn_asked_again(
    fetched: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    fusion = Fusion(ModelMissing("not here"))
    assert await Question(cast(Client, fusion), Whole(), "home").ask("Capital?") == cast(object, ANSWER)
    assert fetched == ["home"]
    assert fusion.turns == ["", "0" * 32]
    assert capsys.readouterr().out == "Paris\n"


async def test_a_model_that_is_missing_still_is_an_error(fetched: list[str | None]) -> None:
    with pytest.raises(ModelMissing):
        await Question(cast(Client, Fusion(*[ModelMissing("not here")] * 2)), Whole(), None).ask("Capital?")
    assert len(fetched) == 1


async def test_other_errors_fetch_nothing(fetched: list[str | None]) -> None:
    with pytest.raises(ProviderDown):
        await Question(cast(Client, Fusion(ProviderDown("away"))), Whole(), None).ask("Capital?")
    assert fetched == []
