"""What is to be kept alive, and how patiently."""

from __future__ import annotations

from typing import Literal

import msgspec

from fusiond.protocol.control import Kind

Restart = Literal["permanent", "transient", "temporary"]
"""OTP's words: restart always; only after an abnormal end; never."""


class ActorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One actor. The order of the specs is the order of starting, and reversed that of stopping.

    `service`: what it serves, "" for none. `standby_for`: the service whose actors it may stand in for; None
    for an actor of its own right. `fingerprint`: two specs of one name with different fingerprints need
    different processes.
    """

    name: str
    kind: Kind
    service: str
    restart: Restart = "permanent"
    heartbeat_timeout_s: float
    heartbeat_interval_s: float
    startup_timeout_s: float
    shutdown_grace_s: float
    standby_for: str | None = None
    fingerprint: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how fast actors are restarted by themselves; a person's word passes all of it.

    `intensity`: at most so many automatic spawns of one actor in any `period_s`. `max_failures`: past so many
    failed lives in a row it is `failed`, and probed every `probe_s`. `stable_s`: ready for so long, its
    failures are forgotten. `refill_s`: a standby that was promoted is replaced after so long. `dump_s`: what a hung
    process gets for its stack dump before it is killed.
    """

    intensity: int = 20
    period_s: float = 2.0
    max_failures: int = 5
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 10.0
    probe_s: float = 15.0
    stable_s: float = 60.0
    refill_s: float = 1.0
    dump_s: float = 0.05
