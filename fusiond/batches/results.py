"""The lines that come out of a batch."""

from __future__ import annotations

import msgspec


class Response(msgspec.Struct, frozen=True):
    """What was answered. `body` is JSON, as it came."""

    status_code: int
    request_id: str
    body: bytes


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer; `code` is a wire code of `fusiond.errors`."""

    code: str
    message: str


def result_line(id: str, custom_id: str, response: Response | None, error: Failure | None) -> bytes:
    """One line of JSON without its end: `{"id", "custom_id", "response", "error"}`, null where there is none."""
    return msgspec.json.encode(
        {
            "id": id,
            "custom_id": custom_id,
            "response": response
            and {**msgspec.structs.asdict(response), "body": _on_one_line(response.body)},
            "error": error,
        }
    )


def _on_one_line(body: bytes) -> msgspec.Raw:
    # In JSON a line's end can only be space between tokens: within a string it is escaped.
    return msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" "))
