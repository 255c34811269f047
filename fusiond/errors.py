"""One tree of errors; each class has a stable wire code and an exit code.

An error is raised where it is known, travels as ``(code, message, advice)`` and is raised again, as the same class,
in the process that asked. The message says what is wrong, the advice what to do; both are for the person who reads.
"""

from __future__ import annotations

from typing import ClassVar


class FusionError(Exception):
    """Something went wrong that the person who asked should read.

    `message` says what is wrong in one line; `advice` what to do about it, "" if nothing is known;
    `retry_after` is in seconds, None where waiting would not help or no time was given.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, advice: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} — {self.advice}" if self.advice else self.message


class UsageError(FusionError):
    """The command or its arguments make no sense: an unknown actor, a bad flag."""

    code = "usage"
    exit_code = 2


class NotFound(UsageError):
    """What was named does not exist: an actor, a session, an agent."""

    code = "not_found"


class NotRunning(FusionError):
    """The actor that was named has no process just now."""

    code = "not_running"


class Unreachable(FusionError):
    """No daemon answers."""

    code = "unreachable"
    exit_code = 4


class AlreadyRunning(FusionError):
    """Another daemon holds this home."""

    code = "already_running"


class ProtocolMismatch(FusionError):
    """Client and daemon speak different versions of the protocol, or one of them none at all."""

    code = "protocol"


class Busy(FusionError):
    """A queue is full or the daemon is on its way down; trying again after `retry_after` is right."""

    code = "busy"
    exit_code = 75


class RateLimited(Busy):
    """The provider asks to slow down."""

    code = "rate_limited"


class ProviderDown(Busy):
    """The provider cannot be reached, or answers 5xx."""

    code = "provider_down"


class Interrupted(Busy):
    """A stream broke after its first chunk; whoever asked holds the text so far and can continue it."""

    code = "interrupted"


class Crashed(Interrupted):
    """The same, and the process that gave the answer died by its own doing: perhaps by this very request."""

    code = "crashed"


class Cancelled(FusionError):
    """Whoever asked took it back, or went away."""

    code = "cancelled"
    exit_code = 130


class DeadlineExceeded(FusionError):
    """The request's time was up."""

    code = "deadline"
    exit_code = 124


class OutcomeUnknown(FusionError):
    """The process died while it worked on something that may not be done twice."""

    code = "outcome_unknown"


MAX_DEATHS = 3
"""Processes that one request may end."""


class PoisonRequest(FusionError):
    """This request has killed as many processes as it may."""

    code = "poison_request"


class Denied(FusionError):
    """Not permitted: by mode, by group, by approval."""

    code = "denied"
    exit_code = 77


class KeyRefused(Denied):
    """The provider does not take the key, or none was given."""

    code = "key_refused"


class ConfigError(FusionError):
    """The configuration is wrong; the message names key, line and the nearest right name."""

    code = "configuration"
    exit_code = 78


class UnknownModel(ConfigError):
    """No provider knows this model."""

    code = "unknown_model"


class ModelMissing(ConfigError):
    """The embedded model is known but its file is not here (yet)."""

    code = "model_missing"


class BadRequest(FusionError):
    """The provider or an actor does not accept the request as it is."""

    code = "bad_request"


class ContextTooLong(BadRequest):
    """The conversation does not fit into the model's context."""

    code = "context_too_long"


class ContentRefused(BadRequest):
    """The provider declines to answer this."""

    code = "refused"


class BadReply(FusionError):
    """The provider answered something that is no answer: HTML, half a JSON document, silence."""

    code = "bad_reply"


class LimitReached(FusionError):
    """An agent came to its cap, or went round in circles."""

    code = "limit"
    exit_code = 5


class StorageError(FusionError):
    """The database or the disk does not take it: full, read-only, corrupt."""

    code = "storage"


def _tree(cls: type[FusionError]) -> dict[str, type[FusionError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE = _tree(FusionError)
"""Every class by its wire code."""


def from_wire(code: str, message: str, advice: str = "", retry_after: float | None = None) -> FusionError:
    """The error that `code` names; an unknown code (a newer daemon's) becomes a plain FusionError."""
    return BY_CODE.get(code, FusionError)(message, advice=advice, retry_after=retry_after)
