"""A conversation that is too long for a model: its oldest half is left out, again and again until it fits."""

from __future__ import annotations

from collections.abc import Sequence

from fusiond.protocol.chat import Message


def shorter(messages: Sequence[Message]) -> list[Message]:
    """`messages` without the older half of what comes before the last one; a question goes with its answer.

    System messages stay. Nothing shorter can be made of what is returned unchanged.
    """
    system = [message for message in messages if message.role == "system"]
    said = [message for message in messages if message.role != "system"]
    older = (len(said)) // 2
    kept = said[older:]
    while len(kept) > 1 and kept[0].role == "assistant":
        kept = kept[1:]
    return [*system, *kept]
