"""The router's memory: the actors that registered and the requests in flight. Pure: no clock, no socket.

The life of a request here:

    request ─► WAITING ─► SENT ─► RUNNING ─► ANSWERED ─► (forgotten)
                  ▲         │        │            on the asker's acknowledgement, or when nobody is left to give it
                  └─────────┴────────┘ its actor died

- Dead while SENT: to another actor, silently. Dead while RUNNING: the same if it may run twice and no chunk of it has
  been passed on; after a chunk the asker, who holds the text so far, is told `interrupted` and continues it; what may
  not run twice is answered `outcome_unknown`. A request whose work has ended three processes is `poison_request`.
- The same id again is the same request: whoever holds it sends what is missing. So askers repeat freely.
- After a restart of the router nothing is dispatched until every actor that served before has registered again with
  what it holds, or died, or `patience` has passed; after that only what may run twice, until all are here.
- Every request gets exactly one terminal reply from this table; `send` is called with it once (and again only if the
  asker asks again).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from fusiond.errors import (
    MAX_DEATHS,
    BadRequest,
    Busy,
    Cancelled,
    Crashed,
    DeadlineExceeded,
    FusionError,
    Interrupted,
    NotFound,
    NotRunning,
    OutcomeUnknown,
    PoisonRequest,
)
from fusiond.protocol.control import Requests
from fusiond.protocol.envelope import Ack, Cancel, Held, Request, encode, failure
from fusiond.protocol.lifeline import Peer
from fusiond.routing.records import Entry, Phase, Route, Worker, key_of

PATIENCE = 0.25  # seconds after a start in which actors may register before anything is dispatched
CONFIRM = 1.0  # seconds an actor has to confirm a cancel
WINDOW = 256  # requests in flight at one actor; more wait here
KEEP_ANSWERED = 30.0  # seconds an unacknowledged answer is remembered
_KNOWN_WAIT, _KNOWN_MORE = 8, 1000  # times the queue's size and more: the bound for what is asked again
ORPHAN = 10.0  # seconds a request that an actor held at a restart waits for its asker


class Table:
    """See the module's text. `send(route, header, body)` delivers; `stuck(name, generation)` reports."""

    def __init__(
        self,
        send: Callable[[Route, bytes, bytes], None],
        stuck: Callable[[str, int], None],
        *,
        queue_size: int,
        services: Iterable[str],
        now: float,
    ) -> None:
        self._send = send
        self._stuck = stuck
        self._queue_size = queue_size
        self._waiting: dict[str, deque[bytes]] = {service: deque() for service in services}
        self.entries: dict[bytes, Entry] = {}
        self.workers: dict[bytes, Worker] = {}
        self._asked: dict[Route, set[bytes]] = {}
        self._due: dict[int, set[bytes]] = {}
        self._patient_until = now + PATIENCE
        self._known = False  # whether the supervisor has said who lives
        self._open = False
        self._down: dict[str, str] = {}  # services that nobody serves, and why
        self._orphans_until = now + ORPHAN
        self._revoked: set[bytes] = set()  # taken back before an actor said that it holds them
        self._stale: set[bytes] = set()  # answered and unacknowledged at the last sweep
        self._next_sweep = now + KEEP_ANSWERED
        self.done = 0  # terminal replies given, a measure of progress

    # --- actors ------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(1 for entry in self.entries.values() if entry.phase is not Phase.ANSWERED)

    @property
    def settled(self) -> bool:
        """Every actor that served is here again, or patience is over: requests are dispatched."""
        return self._open

    def announce(self, peers: Iterable[Peer], whole: bool = False) -> None:
        """These actors live; they may register. `whole`: there are no others."""
        self._known = self._known or whole
        for peer in peers:
            self.workers.setdefault(key_of(peer.name, peer.generation), Worker(peer, older=whole))

    def register(self, worker: Worker, address: bytes, holds: Iterable[Held], now: float) -> None:
        """An actor is here (again), with the requests it holds."""
        worker.address = address
        worker.registered = True
        self._down.pop(worker.service, None)
        for held in holds:
            entry = self.entries.get(held.id)
            if held.id in self._revoked:
                self._revoked.discard(held.id)
                self._revoke(worker, held.id, now)
                continue
            if entry is None:
                entry = self.entries[held.id] = Entry(None, b"", None, None)
                self._watch(held.id, now + ORPHAN)
            elif entry.worker is not worker and (entry.worker is not None or entry.phase is Phase.ANSWERED):
                self._send(
                    (True, worker.address), encode(Cancel(held.id)), b""
                )  # given to another, or ended, meanwhile
                continue
            elif entry.phase is Phase.WAITING:
                self._unqueue(held.id, entry)
            entry.worker = worker
            if held.answered and entry.header is None:
                entry.phase = Phase.ANSWERED
                continue
            self._hold(worker, held.id, entry)
            if entry.header is not None:
                self._forward(entry)
        self.settle(now)
        self._pull(worker.service)

    def down(self, service: str, why: str) -> None:
        """Nobody serves this, and nobody will soon: what is asked of it is refused until somebody registers for it."""
        if any(worker.service == service for worker in self.workers.values()):
            return
        self._down[service] = why
        waiting = self._waiting.get(service)
        while waiting:
            id = waiting.popleft()
            entry = self.entries.get(id)
            if entry is not None and entry.phase is Phase.WAITING:
                self._fail(id, entry, _not_running(service, why))

    def drain(self, name: str, generation: int) -> None:
        """Nothing new for this one."""
        if worker := self.workers.get(key_of(name, generation)):
            worker.draining = True

    def gone(self, name: str, generation: int, now: float, *, blame: bool = False) -> Requests:
        """This incarnation is dead. `blame`: by its own doing, not by a hand from outside. Returns what became of
        the requests it held."""
        worker = self.workers.pop(key_of(name, generation), None)
        if worker is None:
            return Requests()
        redispatched = resumed = failed = 0
        for id in worker.held:
            entry = self.entries.get(id)
            if entry is None or entry.worker is not worker:
                continue
            entry.worker = None
            if entry.phase is Phase.ANSWERED:
                continue
            entry.deaths += blame
            if entry.header is None:  # its asker never came back: whoever asks again starts it anew
                self._forget(id)
            elif entry.deaths >= MAX_DEATHS:
                self._fail(
                    id,
                    entry,
                    PoisonRequest(f"this request ended {entry.deaths} processes of {worker.service}"),
                )
                failed += 1
            elif entry.chunked:
                broken = Crashed if blame else Interrupted
                self._fail(id, entry, broken(f"{name} died in the middle of its answer"))
                resumed += 1
            elif entry.phase is Phase.SENT or entry.header.repeatable:
                entry.phase = Phase.WAITING
                self._waiting[entry.header.service].appendleft(id)
                redispatched += 1
            else:
                self._fail(
                    id, entry, OutcomeUnknown(f"{name} died while it worked on this; it may have been done")
                )
                failed += 1
        self.asker_gone((True, worker.address), now)
        self.settle(now)
        self._pull(worker.service)
        return Requests(redispatched, resumed, failed)

    # --- askers ------------------------------------------------------------------------------------------------------

    def request(self, route: Route, header: Request, body: bytes, now: float, uid: int = -1) -> None:
        """Somebody asks, perhaps not for the first time. `uid`: who, as the socket says."""
        entry = self.entries.get(header.id)
        if entry is not None:
            entry.uid = uid
            self._again(entry, route, header, body, now)
            return
        waiting = self._waiting.get(header.service)
        if waiting is None:
            self._refuse(route, header, NotFound(f"there is no service {header.service!r}"))
            return
        due = now + header.timeout_ms / 1000 if header.timeout_ms else None
        if (why := self._down.get(header.service)) is not None:
            self._refuse(route, header, _not_running(header.service, why))
            return
        entry = Entry(header, body, route, due, uid)
        entry.tries = (
            header.attempt > 1
        )  # the router before us may have given it to somebody who has died since
        worker = self._choose(header)
        if worker is None and self._is_full(route, header, len(waiting)):
            advice = "the queue is full; try again"
            self._refuse(route, header, Busy(f"{header.service} is busy", advice=advice, retry_after=1.0))
            return
        self.entries[header.id] = entry
        self._asked.setdefault(route, set()).add(header.id)
        if due is not None:
            self._watch(header.id, due)
        if worker is None:
            waiting.append(header.id)
        else:
            self._dispatch(header.id, entry, worker)

    def cancel(self, route: Route, id: bytes, now: float) -> None:
        """The asker takes it back; what it asked of the router before us it takes back here."""
        entry = self.entries.get(id)
        taken_back = Cancelled("cancelled")
        if entry is not None and entry.route not in (route, None):
            return
        if entry is not None and entry.header is not None and entry.phase is not Phase.ANSWERED:
            self._abort(id, entry, taken_back, now)
            return
        if entry is None:
            if now < self._orphans_until:
                self._revoked.add(id)
        else:
            if entry.worker is not None and entry.phase is not Phase.ANSWERED:
                self._revoke(entry.worker, id, now)
            self._forget(id)
        self._send(route, encode(failure(id, taken_back)), b"")  # so that it need not say so to our successor

    def ack(self, route: Route, ids: Iterable[bytes]) -> None:
        """The asker has these terminal replies."""
        for id in ids:
            entry = self.entries.get(id)
            if entry is not None and entry.route == route and entry.phase is Phase.ANSWERED:
                self._forget(id)

    def asker_gone(self, route: Route, now: float) -> None:
        """Nobody is there any more to take replies: what it asked is cancelled."""
        for id in self._asked.pop(route, ()):
            entry = self.entries.get(id)
            if entry is None or entry.route != route:
                continue
            entry.route = None
            if entry.phase is not Phase.ANSWERED:
                self._abort(id, entry, Cancelled("the asker is gone"), now)
            self._forget(id)

    def asks(self, route: Route) -> bool:
        """Whether this asker waits for anything."""
        return route in self._asked

    # --- what actors say ---------------------------------------------------------------------------------------------

    def started(self, worker: Worker, id: bytes) -> None:
        entry = self.entries.get(id)
        if entry is not None and entry.worker is worker and entry.phase is Phase.SENT:
            entry.phase = Phase.RUNNING

    def hand_back(self, worker: Worker, id: bytes) -> None:
        """The actor drains and has not begun on it: to another, silently."""
        worker.draining = True
        entry = self.entries.get(id)
        if (
            entry is None
            or entry.worker is not worker
            or entry.phase not in (Phase.SENT, Phase.RUNNING)
            or entry.chunked
            or entry.header is None
        ):
            return
        worker.held.discard(id)
        entry.worker, entry.phase = None, Phase.WAITING
        entry.tries -= 1
        self._waiting[entry.header.service].appendleft(id)
        self._pull(entry.header.service)

    def chunk(self, worker: Worker, id: bytes, frame: bytes, body: bytes) -> None:
        """A piece of a stream: passed on as it came."""
        entry = self.entries.get(id)
        if entry is None or entry.worker is not worker:
            return
        if entry.phase is not Phase.ANSWERED:  # else its asker has missed it and asked again
            entry.phase = Phase.RUNNING
        if entry.route is not None:
            entry.chunked = True
            self._send(entry.route, frame, body)

    def terminal(self, worker: Worker, id: bytes, frame: bytes, body: bytes) -> bool:
        """The end of a request: passed on as it came. Returns False for one that this actor does not hold."""
        entry = self.entries.get(id)
        known = worker.unconfirmed.pop(id, None) is not None or id in worker.held
        if entry is None or entry.worker is not worker:
            worker.held.discard(id)
            worker.acks.append(id)  # nobody waits for it: the actor need not keep it
            return known
        if entry.route is not None:
            self._send(entry.route, frame, body)
        if entry.phase is not Phase.ANSWERED:
            self._answered(entry)
        waiting = self._waiting[worker.service]
        if waiting:
            self._pull(worker.service)
        return True

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Ends patience, deadlines, unconfirmed cancels and what nobody asks for; passes on acknowledgements."""
        if not self._open and now >= self._patient_until:
            self._open = True
            for service in self._waiting:
                self._pull(service)
        for slot in [slot for slot in self._due if slot <= int(now * 10)]:
            for id in self._due.pop(slot):
                if entry := self.entries.get(id):
                    self._expire(id, entry, now)
        if now >= self._next_sweep:
            self._sweep(now)
        for worker in self.workers.values():
            for id, limit in list(worker.unconfirmed.items()):
                if limit <= now:
                    del worker.unconfirmed[id]
                    self._stuck(worker.name, worker.generation)
            if worker.acks and worker.registered:
                self._send((True, worker.address), encode(Ack(worker.acks)), b"")
                worker.acks = []

    def next_tick(self, now: float) -> float | None:
        """When `tick` should be called, None if nothing waits for it."""
        if not self._open:
            return self._patient_until
        if any(worker.acks or worker.unconfirmed for worker in self.workers.values()) or self._due:
            return now + 0.1
        return self._next_sweep if self.entries else None

    # --- inside ------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Begins to dispatch as soon as nobody is missing."""
        if (
            not self._open
            and self._known
            and all(worker.registered or not worker.ready for worker in self.workers.values())
        ):
            self._patient_until = now
            self.tick(now)

    def _again(self, entry: Entry, route: Route, header: Request, body: bytes, now: float) -> None:
        orphan = entry.header is None
        if entry.header is not None and _subject(entry.header) != _subject(header):
            self._refuse(route, header, BadRequest("this id was given to another request"))
            return
        if header.service not in self._waiting:
            self._refuse(route, header, NotFound(f"there is no service {header.service!r}"))
            return
        if entry.route is not None and entry.route != route:
            self._asked.get(entry.route, set()).discard(header.id)
        entry.route, entry.body = route, body
        entry.header = header
        self._asked.setdefault(route, set()).add(header.id)
        if orphan and header.timeout_ms:
            entry.due = now + header.timeout_ms / 1000
            self._watch(header.id, entry.due)
        if entry.worker is not None and entry.worker.key not in self.workers:
            entry.worker = None  # it died with an answer that nobody had acknowledged
        if entry.worker is not None:
            entry.chunked = entry.chunked or header.offset > 0
            if (
                entry.phase is Phase.ANSWERED
            ):  # its asker has missed that, and the actor may die before it says so again
                self._hold(entry.worker, header.id, entry)
            self._forward(entry)
        elif entry.phase is Phase.ANSWERED:  # the answer died with its actor before it was acknowledged
            if header.repeatable:
                entry.phase = Phase.WAITING
                self._waiting[header.service].append(header.id)
                self._pull(header.service)
            else:
                self._fail(
                    header.id, entry, OutcomeUnknown("the answer was lost with the process that gave it")
                )

    def _is_full(self, route: Route, header: Request, waiting: int) -> bool:
        """Whether a request finds no place. What was begun already does: an actor's own requests, of which there are no
        more than it was given work, and what is asked again."""
        if route[0]:
            return False
        known = header.attempt > 1 or not self._open
        return waiting >= (_KNOWN_WAIT * self._queue_size + _KNOWN_MORE if known else self._queue_size)

    def _choose(self, header: Request) -> Worker | None:
        """The least-loaded actor that may have this request now."""
        if not self._open:
            return None
        best: Worker | None = None
        for worker in self.workers.values():
            if worker.service != header.service:
                continue
            if not worker.registered:
                if worker.older and not header.repeatable:
                    return None  # it may hold this very request
                continue
            if not worker.draining and (best is None or len(worker.held) < len(best.held)):
                best = worker
        return best if best is not None and len(best.held) < WINDOW else None

    def _missing(self, service: str) -> bool:
        """Whether somebody who may hold requests of the router before us is not here yet."""
        return any(
            worker.older and not worker.registered and worker.service == service
            for worker in self.workers.values()
        )

    def _hold(self, worker: Worker, id: bytes, entry: Entry) -> None:
        """This actor has begun on it, or answered it without its asker knowing."""
        entry.phase = Phase.RUNNING
        worker.held.add(id)

    def _dispatch(self, id: bytes, entry: Entry, worker: Worker) -> None:
        entry.worker = worker
        entry.phase = Phase.SENT
        entry.tries += 1
        worker.held.add(id)
        self._forward(entry)

    def _forward(self, entry: Entry) -> None:
        """Sends the request, for the first time or again, to the actor that has it."""
        header, worker = entry.header, entry.worker
        assert header is not None
        assert worker is not None
        acks, worker.acks = worker.acks, []
        frame = encode(
            Request(
                header.id,
                header.service,
                header.verb,
                header.timeout_ms,
                header.repeatable,
                header.offset,
                max(1, entry.tries),
                acks,
                entry.uid,
                self._origin(entry, header),
            )
        )
        self._send((True, worker.address), frame, entry.body)

    @staticmethod
    def _origin(entry: Entry, header: Request) -> bytes:
        """The client's request from which this one follows. A client's own follows from none, whatever it says."""
        by_actor = entry.route is not None and entry.route[0]
        return header.origin if by_actor and header.origin else header.id

    def _pull(self, service: str) -> None:
        """Dispatches what waits, as far as there is room."""
        waiting = self._waiting.get(service)
        aside: list[bytes] = []  # what may run once only waits for those who may hold it; others pass by
        while waiting:
            id = waiting[0]
            entry = self.entries.get(id)
            if entry is None or entry.phase is not Phase.WAITING or entry.header is None:
                waiting.popleft()
                continue
            worker = self._choose(entry.header)
            if worker is None and (entry.header.repeatable or not self._missing(service)):
                break
            waiting.popleft()
            if worker is None:
                aside.append(id)
            else:
                self._dispatch(id, entry, worker)
        if waiting is not None:
            waiting.extendleft(reversed(aside))

    def _unqueue(self, id: bytes, entry: Entry) -> None:
        if entry.header is not None and id in (waiting := self._waiting[entry.header.service]):
            waiting.remove(id)

    def _answered(self, entry: Entry) -> None:
        entry.phase = Phase.ANSWERED
        entry.body = b""
        self.done += 1
        if entry.worker is not None and entry.header is not None:
            entry.worker.held.discard(entry.header.id)

    def _fail(self, id: bytes, entry: Entry, error: FusionError) -> None:
        """The terminal reply comes from here."""
        self._answered(entry)
        if entry.route is not None:
            self._send(entry.route, encode(failure(id, error, max(1, entry.tries))), b"")

    def _refuse(self, route: Route, header: Request, error: FusionError) -> None:
        self.done += 1
        self._send(route, encode(failure(header.id, error)), b"")

    def _abort(self, id: bytes, entry: Entry, error: FusionError, now: float) -> None:
        """Answers the asker now; the actor is told, and must confirm."""
        worker = entry.worker
        self._unqueue(id, entry)
        self._fail(id, entry, error)
        if worker is not None:
            entry.worker = None
            self._revoke(worker, id, now)
            self._pull(worker.service)

    def _revoke(self, worker: Worker, id: bytes, now: float) -> None:
        """The actor is to stop working on it, and must confirm."""
        worker.held.discard(id)
        worker.unconfirmed[id] = now + CONFIRM
        self._send((True, worker.address), encode(Cancel(id)), b"")

    def _expire(self, id: bytes, entry: Entry, now: float) -> None:
        if entry.header is None:
            worker = entry.worker
            self._forget(id)
            if worker is not None and entry.phase is not Phase.ANSWERED:
                self._send((True, worker.address), encode(Cancel(id)), b"")
        elif entry.phase is Phase.ANSWERED:
            self._forget(id)
        elif entry.due is not None and entry.due <= now:
            self._abort(id, entry, DeadlineExceeded("the request's time was up"), now)
        elif entry.due is not None:
            self._watch(id, entry.due)

    def _sweep(self, now: float) -> None:
        """Forgets answers whose acknowledgement must have been lost."""
        for id in self._stale:
            if (entry := self.entries.get(id)) is not None and entry.phase is Phase.ANSWERED:
                self._forget(id)
        self._stale = {id for id, entry in self.entries.items() if entry.phase is Phase.ANSWERED}
        self._next_sweep = now + KEEP_ANSWERED
        self._revoked.clear()

    def _watch(self, id: bytes, when: float) -> None:
        self._due.setdefault(int(when * 10) + 1, set()).add(id)

    def _forget(self, id: bytes) -> None:
        entry = self.entries.pop(id, None)
        if entry is None:
            return
        if entry.route is not None and (asked := self._asked.get(entry.route)) is not None:
            asked.discard(id)
            if not asked:
                del self._asked[entry.route]
        if entry.worker is not None:
            entry.worker.held.discard(id)
            if entry.phase is Phase.ANSWERED:
                entry.worker.acks.append(id)
        if entry.due is not None and (due := self._due.get(int(entry.due * 10) + 1)) is not None:
            due.discard(id)
            if not due:
                self._due.pop(int(entry.due * 10) + 1, None)


def _subject(header: Request) -> tuple[str, str, bool]:
    """What a request is about: the same each time it is asked."""
    return header.service, header.verb, header.repeatable


def _not_running(service: str, why: str) -> NotRunning:
    return NotRunning(f"{service} has failed: {why}", advice="see: fusionctl health")
