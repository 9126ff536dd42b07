"""A random run, played message by message: brokers, producers, consumers, strangers, clocks.

``script`` draws a run from a seed; ``play`` carries it out, with no chance left in it, so that a
script with some steps taken out can be played as well. What comes of it is what really happened to
each message, and a log of all that was written down meanwhile, in its order, for ``files``.

Knows nothing of ``rabbitproof.proof``: dicts, lists and sets.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

SECOND = 10**9
RUN, OTHER_RUN = "0a1b2c3d4e5f", "ffffffffffff"
BEGINNING = 1_700_000_000 * SECOND
REPORT_S = 6.0
"""Within which the Management API has the count of a queue with replicas, and of a stream."""

Step = tuple[Any, ...]
Key = tuple[str, int, int]
"""Run, producer, number."""


@dataclass(frozen=True)
class HostSetup:
    linux: bool = True
    """It names its boot, and its clock since the boot goes on while it sleeps."""
    skew_s: float = 0.0


@dataclass(frozen=True)
class QueueSetup:
    kind: str = "classic"
    told: str = "api"
    """How the files know its type: ``api``, ``declared``, or ``silent``: nobody says."""
    limit: str = ""
    limit_told: str = ""
    """``argument``, ``policy``; empty: no file tells of it."""
    before: int = 0
    before_told: bool = True


@dataclass(frozen=True)
class Setup:
    history: bool
    hosts: tuple[HostSetup, ...]
    queues: tuple[QueueSetup, ...]
    producers: tuple[int, ...]
    """The host of each."""
    confirms: bool
    consumers: tuple[tuple[int, int, str, str], ...]
    """Queue, host, answer, where in a stream it begins."""
    run_told: bool
    permits: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    consumed: bool = True


class Script(NamedTuple):
    seed: int
    setup: Setup
    steps: tuple[Step, ...]
    spoils: tuple[Step, ...]


@dataclass(eq=False)
class Copy:
    """One copy of one message in one queue."""

    key: Key | None
    origin: str
    """``sent``, ``before``, ``foreign``, ``replay`` or ``double``, which is the broker's."""
    flagged: bool = False
    again: bool = False
    damage: str = ""
    """``body`` or ``id``."""
    fate: str = ""
    """Empty while it is in the queue."""
    place: int = 0
    """In a stream."""
    recorded: bool = False
    """By a consumer's ledger."""


@dataclass(eq=False)
class Queue:
    name: str
    role: str
    setup: QueueSetup
    ready: deque[Copy] = field(default_factory=deque)
    copies: list[Copy] = field(default_factory=list)
    log: list[Copy] = field(default_factory=list)
    """All that was ever appended to a stream, what is gone included."""
    head: int = 0
    """The first one of a stream that is still there."""
    held: list[Copy] = field(default_factory=list)
    """By strangers."""
    strangers: int = 0
    """Of those that consume it now."""
    away: bool = False
    """The leader does not answer: the next count is 0."""
    counts: list[tuple[int, int]] = field(default_factory=list)
    """When it had how many."""
    counted: set[Key | None] = field(default_factory=set)
    """What was in it when it was counted last."""
    count: int = 0
    """How many that were."""

    @property
    def stream(self) -> bool:
        return self.setup.kind == "stream"

    def size(self) -> int:
        return len(self.log) - self.head if self.stream else len(self.ready)


@dataclass(eq=False)
class Host:
    name: str
    setup: HostSetup
    skew: int
    booted: int = 0
    boots: int = 1
    slept: int = 0

    def wall(self, now: int) -> int:
        return now + self.skew

    def since_boot(self, now: int) -> int:
        return now - self.booted - (0 if self.setup.linux else self.slept)

    @property
    def boot(self) -> str:
        return f"{self.name}-{self.boots}" if self.setup.linux else ""


@dataclass(eq=False)
class Process:
    """A participant with a ledger."""

    name: str
    file: str
    host: Host
    kind: str
    queue: Queue | None = None
    answer: str = "ack"
    offset: str = ""
    number: int = 0
    state: str = "new"
    """``new``, ``runs``, ``dead``, ``ended``."""
    started: int = 0
    mono: int = 0
    skews: list[int] = field(default_factory=list)
    """By how much its host's clock was wrong, whenever it wrote the time."""
    slept: int = 0
    """What its host had slept when it began."""
    alone: int = 0
    """True time since when nobody else had to do with its queue; at its end."""
    last: int = 0
    """When it did something last; true time."""
    # a producer's
    answers: dict[int, str] = field(default_factory=dict)
    """Number -> ``c``, ``n``, ``r``, or ``d`` for no answer."""
    resent: set[int] = field(default_factory=set)
    twin: bool = False
    forked_from: dict[int, str] | None = None
    outside: bool = False
    """The history knows nothing of it."""
    # a consumer's
    position: int = 0
    unacked: list[Copy] = field(default_factory=list)
    unflushed: list[tuple[Copy, bool]] = field(default_factory=list)
    recorded: Counter[Key] = field(default_factory=Counter)
    """Whole copies by name that are in its file."""
    fresh: Counter[Key] = field(default_factory=Counter)
    refused: set[Key] = field(default_factory=set)
    acknowledged: set[Key] = field(default_factory=set)
    corrupt: int = 0
    corrupt_keys: set[Key | None] = field(default_factory=set)
    foreign: int = 0
    end_count: dict[str, Any] = field(default_factory=dict)
    gave_back: bool = False


class World:
    """What happened."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = BEGINNING
        self.log: list[tuple[Any, ...]] = []
        self.happened: Counter[str] = Counter()
        self.hosts = [
            Host(
                f"host-{i}",
                one,
                round(one.skew_s * SECOND),
                BEGINNING - (50_000 + 999 * i) * SECOND,
            )
            for i, one in enumerate(setup.hosts)
        ]
        roles = ("work", "audit")
        self.queues = [
            Queue(f"{roles[i]}.queue", roles[i], one) for i, one in enumerate(setup.queues)
        ]
        self.processes: dict[str, Process] = {}
        for i, host in enumerate(setup.producers):
            name = f"p{i}"
            self.processes[name] = Process(
                name, f"producer-{RUN}-{i + 1:03d}", self.hosts[host], "producer", number=i + 1
            )
        for i, (queue, host, answer, offset) in enumerate(setup.consumers):
            name = f"c{i}"
            self.processes[name] = Process(
                name, f"consumer-{name}", self.hosts[host], "consumer", self.queues[queue],
                answer, offset if self.queues[queue].stream else "",
            )  # fmt: skip
        self.dropped: list[tuple[Queue, str, Copy]] = []
        self.history_counts: dict[str, list[dict[str, Any]]] = {}
        self.left_at: dict[str, int] = {}
        """Queue -> when the last participant that had to do with it was gone, true time."""
        self.reordered: Counter[str] = Counter()
        self.fired: list[str] = []
        for queue in self.queues:
            for i in range(queue.setup.before):
                key = (OTHER_RUN, 1, i + 1) if i % 2 else None
                self._enqueue(queue, Copy(key, "before"))
            if queue.setup.before:
                self.happened["a queue that held something before"] += 1
        if setup.history:
            self._history("plan")
            for queue in self.queues:
                if queue.setup.told == "api":
                    self._history("found", queue.name)
                if queue.setup.before_told:
                    self.do_count(self.queues.index(queue), "declare", 0)

    # --- clocks and log ---

    def _history(self, what: str, *values: Any) -> None:
        if self.setup.history:
            self.log.append(("history", self.now, what, *values))

    def _write(self, who: Process, what: str, *values: Any) -> None:
        self.log.append((what, who.name, *values))

    def _times(self, who: Process) -> tuple[int, int]:
        """Return what a participant writes as the time, and what its host's clock says."""
        who.skews.append(who.host.skew)
        who.last = self.now
        passed = who.host.since_boot(self.now) - who.mono
        return who.started + passed, who.host.wall(self.now)

    def _sample(self, who: Process) -> None:
        if who.unflushed:
            self._flush(who)
        self._write(who, "sample", *self._times(who))

    def _begin(self, who: Process) -> dict[str, Any]:
        who.started, who.mono = who.host.wall(self.now), who.host.since_boot(self.now)
        who.state, who.skews, who.slept = "runs", [], who.host.slept
        self._times(who)
        return {"host": who.host.name, "boot": who.host.boot, "started_ns": who.started,
                "monotonic_ns": who.mono}  # fmt: skip

    # --- the broker ---

    def _enqueue(self, queue: Queue, copy: Copy) -> None:
        queue.copies.append(copy)
        if queue.stream:
            copy.place = len(queue.log)
            queue.log.append(copy)
        else:
            queue.ready.append(copy)
        self._grew(queue)
        if queue.setup.limit == "x-max-length" and not queue.stream and len(queue.ready) > 8:
            self._drop(queue, queue.ready.popleft(), "maxlen")

    def _grew(self, queue: Queue) -> None:
        queue.counts.append((self.now, queue.size()))

    def _drop(self, queue: Queue, copy: Copy, why: str) -> None:
        copy.fate = why
        self.dropped.append((queue, why, copy))
        self.happened["dropped by a limit"] += 1
        self._grew(queue)

    def _back(self, queue: Queue, copies: list[Copy]) -> None:
        """Put unanswered copies back where they were: in front."""
        for copy in reversed(copies):
            if not copy.fate:
                copy.flagged = True
                queue.ready.appendleft(copy)
        self._grew(queue)

    def _consumers(self, queue: Queue) -> int:
        return queue.strangers + sum(
            one.queue is queue and one.state == "runs" for one in self.processes.values()
        )

    def _declared(self, queue: Queue) -> int:
        queue.counted = {one.key for one in queue.copies if not one.fate}
        queue.count = queue.size()
        if queue.away and queue.setup.kind != "classic":
            queue.away = False
            self.happened["a count of 0 as the leader is away"] += 1
            return 0
        return queue.size()

    def _stale(self, queue: Queue) -> int:
        """Return what the Management API says: the count of some seconds ago."""
        then = self.now - int(REPORT_S * SECOND)
        found = [count for at, count in queue.counts if at <= then]
        return found[-1] if found else 0

    def _pick(self, queue: Queue, r: int) -> Copy | None:
        if queue.stream:
            there = queue.log[queue.head :]
            return there[r % len(there)] if there else None
        return queue.ready[r % len(queue.ready)] if queue.ready else None

    def _remove(self, queue: Queue, copy: Copy, fate: str) -> None:
        if queue.stream:
            queue.log.remove(copy)
            for place, one in enumerate(queue.log):
                one.place = place
            for one in self.processes.values():
                if one.queue is queue and one.position > copy.place:
                    one.position -= 1
        else:
            queue.ready.remove(copy)
        copy.fate = fate
        self._grew(queue)

    def do_vanish(self, q: int, r: int, count: int) -> None:
        """The broker loses copies, without a word."""
        queue = self.queues[q % len(self.queues)]
        for i in range(count):
            copy = self._pick(queue, r + i)
            if copy is not None:
                self._remove(queue, copy, "vanished")
                self.happened["the broker lost a copy"] += 1

    def do_double(self, q: int, r: int) -> None:
        """The broker makes a copy of its own."""
        queue = self.queues[q % len(self.queues)]
        copy = self._pick(queue, r)
        if copy is not None:
            self._enqueue(queue, replace(copy, origin="double", fate=""))
            self.happened["the broker made a copy"] += 1

    def do_swap(self, q: int, r: int) -> None:
        """The broker exchanges two messages."""
        queue = self.queues[q % len(self.queues)]
        if not queue.stream and len(queue.ready) > 1:
            at = r % (len(queue.ready) - 1)
            queue.ready[at], queue.ready[at + 1] = queue.ready[at + 1], queue.ready[at]
            self.reordered[queue.name] += 1
            self.happened["the broker exchanged two messages"] += 1

    def do_damage(self, q: int, r: int) -> None:
        """The broker alters a message."""
        queue = self.queues[q % len(self.queues)]
        copy = self._pick(queue, r)
        read = max(
            (one.position for one in self.processes.values() if one.queue is queue), default=0
        )
        if copy is not None and queue.stream and copy.place < read:
            return  # it was read whole
        if copy is not None and copy.key is not None and copy.key[0] == RUN:
            copy.damage = "id" if r % 3 == 0 else "body"
            self.happened["a corrupt copy"] += 1

    def do_limit(self, q: int, count: int) -> None:
        """The broker drops by what the queue was told."""
        queue = self.queues[q % len(self.queues)]
        limit = queue.setup.limit
        for _ in range(count):
            if queue.stream and limit == "x-max-age" and queue.size():
                self._drop(queue, queue.log[queue.head], "maxlen")
                queue.head += 1
                self.happened["retention of a stream"] += 1
                self._grew(queue)
            elif not queue.stream and limit == "x-message-ttl" and queue.ready:
                self._drop(queue, queue.ready.popleft(), "expired")
            elif not queue.stream and limit == "x-delivery-limit":
                for copy in queue.ready:
                    if copy.flagged:
                        queue.ready.remove(copy)
                        self._drop(queue, copy, "delivery_limit")
                        break

    def do_dead_letters(self, q: int) -> None:
        """Somebody reads the queue of dead letters, or the counters, into the history."""
        queue = self.queues[q % len(self.queues)]
        if not self.setup.history or queue.stream:
            return
        for reason in ("expired", "maxlen", "delivery_limit"):
            copies = [one for where, why, one in self.dropped if where is queue and why == reason]
            self.dropped = [
                one for one in self.dropped if not (one[0] is queue and one[1] == reason)
            ]
            if copies:
                self.happened["dead letters in the history"] += 1
                named = [
                    one.key
                    for one in copies
                    if one.key and one.key[0] == RUN and one.damage != "id"
                ]
                self._history("dropped", queue.name, reason, named, len(copies) - len(named))

    def do_purge(self, q: int, r: int) -> None:
        """Somebody purges a queue; where there is a history, it may say so."""
        queue = self.queues[q % len(self.queues)]
        if queue.stream or not queue.ready:
            return
        self.happened["a purge"] += 1
        told = self.setup.history and r % 4 != 0
        copies = list(queue.ready)
        queue.ready.clear()
        for copy in copies:
            copy.fate = "purged" if told else "purged by a stranger"
        self._grew(queue)
        if told:
            self._history("dropped", queue.name, "purged", [], 0, len(copies))

    def do_away(self, q: int) -> None:
        """The leader of a queue does not answer the next count in time."""
        self.queues[q % len(self.queues)].away = True

    # --- strangers ---

    def do_foreign(self, q: int, shape: int) -> None:
        """Somebody else publishes a message."""
        queue = self.queues[q % len(self.queues)]
        self.happened["a foreign message"] += 1
        kinds = ("plain", "their checksum", "other run", "other run, damaged", "their checksum")
        kind = kinds[shape % len(kinds)]
        key = (OTHER_RUN, 1 + shape % 2, 1 + shape % 50) if kind.startswith("other") else None
        damage = {"their checksum": "theirs", "other run, damaged": "body"}.get(kind, "")
        if kind == "their checksum":
            self.happened["a foreign message with a checksum"] += 1
        if kind.startswith("other"):
            self.happened["a message of another run"] += 1
        self._enqueue(queue, Copy(key, "foreign", damage=damage))

    def do_replay(self, q: int, r: int) -> None:
        """Somebody sends a message of the run once more, marked as such."""
        queue = self.queues[q % len(self.queues)]
        known = [one for one in queue.copies if one.key and one.key[0] == RUN and not one.damage]
        if known:
            self.happened["a replay"] += 1
            self._enqueue(queue, Copy(known[r % len(known)].key, "replay", again=True))

    def do_take(self, q: int, count: int) -> None:
        """A stranger takes messages and acknowledges them."""
        queue = self.queues[q % len(self.queues)]
        for _ in range(count):
            if queue.ready:
                queue.ready.popleft().fate = "taken"
                self.happened["a stranger took messages"] += 1
        self._grew(queue)

    def do_hold(self, q: int, count: int) -> None:
        """A stranger begins to consume, and holds what it got."""
        queue = self.queues[q % len(self.queues)]
        queue.strangers += 1
        self.happened["a stranger consumes"] += 1
        while queue.ready and count:
            queue.held.append(queue.ready.popleft())
            count -= 1
        self._grew(queue)

    def do_release(self, q: int) -> None:
        """Strangers go, and what they held goes back."""
        queue = self.queues[q % len(self.queues)]
        queue.strangers = 0
        self._back(queue, queue.held)
        queue.held = []

    # --- hosts ---

    def do_wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def do_clock(self, h: int, seconds: float) -> None:
        """Somebody sets a host's clock; to the right time with 0."""
        host = self.hosts[h % len(self.hosts)]
        host.skew = host.skew + int(seconds * SECOND) if seconds else 0
        self.happened["a clock was set"] += 1

    def do_sleep(self, h: int, seconds: float) -> None:
        host = self.hosts[h % len(self.hosts)]
        host.slept += int(seconds * SECOND)
        self.now += int(seconds * SECOND)
        self.happened["a machine slept"] += 1

    def do_reboot(self, h: int) -> None:
        host = self.hosts[h % len(self.hosts)]
        for one in list(self.processes.values()):
            if one.host is host and one.state == "runs":
                self.do_crash(one.name, 0)
        self.now += 30 * SECOND
        host.booted, host.slept, host.boots = self.now, 0, host.boots + 1
        self.happened["a machine was started again"] += 1

    # --- producers ---

    def _producer(self, p: int | str) -> Process | None:
        """Return it, started if it has never run."""
        who = self.processes.get(p if isinstance(p, str) else f"p{p % len(self.setup.producers)}")
        if who is None or who.kind != "producer":
            return None
        if who.state == "new":
            self._history("began", who.name, "producer", "")
            header = self._begin(who) | {"before": {
                one.name: one.size() if one.setup.before_told else None for one in self.queues
            }}  # fmt: skip
            self._write(who, "create", header)
            self._write(who, "event", self._times(who)[0], "connected")
        return who if who.state == "runs" else None

    def do_publish(self, p: int | str, fates: str) -> None:
        """Publish as many new messages, each with a fate: see ``_send``."""
        who = self._producer(p)
        if who is None:
            return
        first = max(who.answers, default=0) + 1
        numbers = list(range(first, first + len(fates)))
        self._sample(who)
        self._write(who, "attempt", numbers, False)
        self._send(who, numbers, fates)

    def _send(self, who: Process, numbers: list[int], fates: str) -> None:
        """Have the broker take these, and answer.

        ``c`` confirmed, and in each queue; ``u`` the same, and an audit queue has none (its binding
        is missing); ``l`` confirmed, and lost at once; ``n`` nacked, ``N`` nacked and in the first
        queue all the same; ``r`` returned; ``d`` taken without an answer; ``D`` neither.
        """
        got: dict[str, list[int]] = {"c": [], "n": [], "r": []}
        for n, fate in zip(numbers, fates, strict=True):
            where = self.queues
            if fate in "lnrD":
                where = []
            elif fate == "u":
                where = self.queues[:1] if n % 2 else self.queues[1:]
                self.happened["a missing binding"] += len(self.queues) > 1
            elif fate == "N":
                where = self.queues[:1]
            if fate == "l":
                self.happened["the broker lost a copy"] += 1
            for queue in where:
                self._enqueue(queue, Copy((RUN, who.number, n), "sent"))
            answer = {"u": "c", "l": "c", "N": "n", "D": "d"}.get(fate, fate)
            if not self.setup.confirms and answer in "cn":
                answer = "d"
            self.happened["in doubt"] += answer == "d"
            self.happened["nacked or returned"] += answer in "nr"
            if who.answers.get(n) != "c":
                who.answers[n] = answer
            if answer in got:
                got[answer].append(n)
        if got["n"]:
            self._write(who, "nack", got["n"])
        if got["r"]:
            self._write(who, "give_back", got["r"])
        confirmed = [*got["c"], *(got["r"] if self.setup.confirms else [])]
        if confirmed:
            self._write(who, "confirm", sorted(confirmed))
        self._write(who, "flush")
        self._times(who)

    def do_again(self, p: int | str, fates: str) -> None:
        """Lose the connection, connect, and send again all that has no good answer."""
        who = self._producer(p)
        if who is None:
            return
        self._write(who, "event", self._times(who)[0], "lost")
        self.now += SECOND // 5
        self._write(who, "event", self._times(who)[0], "connected")
        self._resend(who, fates)

    def _resend(self, who: Process, fates: str) -> None:
        owed = sorted(n for n, answer in who.answers.items() if answer != "c")
        if not owed:
            return
        self.happened["sent again"] += 1
        self._sample(who)
        self._write(who, "attempt", owed, True)
        who.resent.update(owed)
        self._send(who, owed, (fates * len(owed))[: len(owed)])

    def do_twice(self, p: int | str, count: int) -> None:
        """Send some a second time, as a program does that does not look at its confirms."""
        who = self._producer(p)
        if who is None or not who.answers:
            return
        numbers = sorted(who.answers)[:count]
        self.happened["sent again"] += 1
        self._write(who, "attempt", numbers, True)
        who.resent.update(numbers)
        self._send(who, numbers, "c" * len(numbers))

    def do_crash(self, name: str, torn: int) -> None:
        """Kill a participant with -9, perhaps within a write."""
        who = self.processes.get(name)
        if who is None or who.state != "runs":
            return
        who.state = "dead"
        self.happened["a crash"] += 1
        self._write(who, "kill", torn)
        if who.queue is not None:
            if who.answer == "none":
                for copy in who.unacked:
                    copy.fate = "acked"
            self._back(who.queue, [] if who.queue.stream else who.unacked)
            who.unacked, who.unflushed = [], []
        self._gone(who, "killed")

    def _gone(self, who: Process, how: str) -> None:
        if not who.outside:
            self._history("ended", who.name, who.kind, how)
        for queue in self.queues if who.queue is None else [who.queue]:
            self.left_at[queue.name] = self.now

    def do_resume(self, name: str, fates: str) -> None:
        """Go on with the ledger of a producer that died."""
        who = self.processes.get(name)
        if who is None or who.state != "dead" or who.kind != "producer":
            return
        self.happened["resumed"] += 1
        if not who.outside:
            self._history("began", who.name, "producer", "")
        self._write(who, "resume", self._begin(who))
        self._write(who, "event", self._times(who)[0], "resumed")
        self._write(who, "event", self._times(who)[0], "connected")
        self._resend(who, fates)

    def do_fork(self, name: str, h: int, fates: str) -> None:
        """Resume a copy of a ledger on another host, while its writer lives, or not."""
        who = self.processes.get(name)
        twin = f"{name}-twin"
        if who is None or who.kind != "producer" or who.state == "new" or twin in self.processes:
            return
        if who.state == "ended" or who.twin:
            return
        self.happened["two files that went apart"] += 1
        other = Process(
            twin, who.file, self.hosts[h % len(self.hosts)], "producer", number=who.number,
            answers=dict(who.answers), twin=True, forked_from=dict(who.answers), outside=True,
        )  # fmt: skip
        self.processes[twin] = other
        self._write(other, "fork", name, self._begin(other))
        self._write(other, "event", self._times(other)[0], "resumed")
        self._resend(other, fates)

    def do_copy(self, name: str) -> None:
        """Copy a participant's file while it works."""
        who = self.processes.get(name)
        if who is not None and who.state != "new":
            self._write(who, "snapshot")

    def do_end(self, name: str, second: bool) -> None:
        """End a participant in good order."""
        who = self.processes.get(name)
        if who is None or who.state != "runs":
            return
        if who.kind == "producer":
            self._sample(who)
            t, clock = self._times(who)
            counts = {one.name: self._declared(one) for one in self.queues}
            consumers = {one.name: self._consumers(one) for one in self.queues}
            who.end_count = {"counts": counts, "consumers": consumers, "second": {}}
            who.state = "ended"
            self._write(who, "end", t, clock, counts, consumers, {}, 0)
            self._gone(who, "done")
            return
        self._answer(who, "")
        queue = who.queue
        assert queue is not None
        returned = len(who.unacked) if who.answer == "hand" else 0
        who.gave_back = who.gave_back or returned > 0
        if not queue.stream:
            self._back(queue, who.unacked)
        who.unacked = []
        who.state = "ended"
        left = self._declared(queue)
        more: int | None = None
        if second:
            self.now += int(REPORT_S * SECOND) + SECOND // 10
            more, left = queue.size(), self._declared(queue)
        self._sample(who)
        t, clock = self._times(who)
        consumers = {queue.name: self._consumers(queue)}
        who.end_count = {"counts": {queue.name: left}, "consumers": consumers,
                         "second": {queue.name: more}, "true": queue.size()}  # fmt: skip
        self._write(
            who, "end", t, clock, {queue.name: left}, consumers, {queue.name: more}, returned
        )
        self._gone(who, "done")

    # --- consumers ---

    def _consumer(self, c: int) -> Process | None:
        who = self.processes.get(f"c{c}")
        if who is None:
            return None
        if who.state == "new":
            assert who.queue is not None
            self._history("began", who.name, "consumer", who.queue.name)
            self._write(who, "create", self._begin(who))
            self._write(who, "event", self._times(who)[0], "connected")
            self._seek(who)
        return who if who.state == "runs" else None

    def _seek(self, who: Process) -> None:
        queue = who.queue
        if queue is not None and queue.stream:
            who.position = queue.head if who.offset == "first" else len(queue.log)
            read = any(one.recorded for one in self.processes.values() if one.queue is queue)
            if who.position < len(queue.log) and read:
                self.happened["a stream read again"] += 1

    def do_start(self, c: int) -> None:
        self._consumer(c)

    def do_deliver(self, c: int, count: int) -> None:
        """Deliver messages to a consumer, which records them."""
        who = self._consumer(c)
        if who is None or who.queue is None:
            return
        queue = who.queue
        came: list[Copy] = []
        for _ in range(count):
            if queue.stream:
                who.position = max(who.position, queue.head)
                if who.position >= len(queue.log):
                    break
                came.append(queue.log[who.position])
                who.position += 1
            elif queue.ready:
                copy = queue.ready.popleft()
                if who.answer == "none":
                    copy.fate = "acked"
                came.append(copy)
        self._record(who, came)
        who.unacked += came
        self._grew(queue)

    def _record(self, who: Process, came: list[Copy]) -> None:
        batch: list[int] = []
        of: tuple[Any, ...] | None = None

        def close() -> None:
            if batch and of is not None:
                self._write(who, "seen", *of, list(batch))
            batch.clear()

        for copy in came:
            who.unflushed.append((copy, copy.flagged))
            key = copy.key
            if key is not None and not copy.damage:
                now = (key[0], key[1], copy.flagged, copy.again)
                if now != of:
                    close()
                    of = now
                batch.append(key[2])
                continue
            close()
            of = None
            named = key if key is not None and copy.damage != "id" else None
            ours = copy.damage in ("id", "body") or copy.origin == "sent"
            # A stranger's message with a checksum is what `note` is told of; a plain one is not.
            plain = named is None and not copy.damage
            self._write(who, "foreign" if plain else "note", named, not copy.damage, copy.flagged,
                        copy.again, ours)  # fmt: skip
        close()

    def _flush(self, who: Process) -> None:
        """Have all that was recorded in the file."""
        self._write(who, "flush")
        for copy, flagged in who.unflushed:
            copy.recorded = True
            if copy.key is not None and not copy.damage:
                who.recorded[copy.key] += 1
                who.refused.discard(copy.key)
                if not flagged:
                    who.fresh[copy.key] += 1
            elif copy.damage in ("id", "body"):
                who.corrupt += 1
                who.corrupt_keys.add(copy.key if copy.damage == "body" else None)
            else:
                who.foreign += 1
        who.unflushed = []

    def _answer(self, who: Process, how: str) -> None:
        """Answer all that was delivered: ``unheard`` if the broker does not get it any more."""
        queue = who.queue
        if queue is None or not (who.unacked or who.unflushed):
            return
        self._flush(who)
        if queue.stream:
            keys = {one.key for one in who.unacked if one.key is not None and not one.damage}
            if who.answer == "reject":  # it stays in there, and nobody did anything with it
                who.refused |= keys
                self.happened["rejected"] += bool(keys)
            elif who.answer != "requeue":
                who.acknowledged |= keys
            who.unacked = []
            return
        if how == "unheard":
            return
        for copy in who.unacked:
            key = copy.key
            if who.answer in ("ack", "none"):
                copy.fate = "acked"
                if key is not None and not copy.damage:
                    who.acknowledged.add(key)
            elif who.answer == "reject":
                copy.fate = "rejected"
                if key is not None and not copy.damage:
                    who.refused.add(key)
                self.happened["rejected"] += 1
            elif who.answer == "requeue":
                continue
        if who.answer == "requeue":
            self._back(queue, who.unacked)
            who.gave_back = True
            self.happened["requeued"] += 1
        if who.answer != "hand":
            who.unacked = []

    def do_ack(self, c: int) -> None:
        who = self._consumer(c)
        if who is not None:
            self._answer(who, "")

    def do_hand(self, c: int, verb: str, count: int) -> None:
        """Somebody at a window decides about what came first."""
        who = self._consumer(c)
        if who is None or who.answer != "hand" or who.queue is None or who.queue.stream:
            return
        self._flush(who)
        for copy in who.unacked[:count]:
            key = copy.key
            if verb == "reject":
                self.happened["rejected"] += 1
                copy.fate = "rejected"
                if key is not None and not copy.damage:
                    self._write(who, "reject", key[0], key[1], [key[2]])
                    who.refused.add(key)
            elif verb == "ack":
                copy.fate = "acked"
                if key is not None and not copy.damage:
                    who.acknowledged.add(key)
            else:
                self._back(who.queue, [copy])
                who.gave_back = True
        who.unacked = who.unacked[count:]
        self._write(who, "flush")

    def do_lose(self, c: int, unheard: bool) -> None:
        """A consumer's connection breaks; what the broker knows to be unanswered comes again."""
        who = self._consumer(c)
        if who is None or who.queue is None:
            return
        self.happened["a consumer connected again"] += 1
        if unheard:
            self._answer(who, "unheard")
        self._flush(who)
        if not who.queue.stream:
            self._back(who.queue, who.unacked)
        who.unacked = []
        who.gave_back = True
        self._write(who, "event", self._times(who)[0], "lost")
        self.now += SECOND // 5
        self._write(who, "event", self._times(who)[0], "connected")
        self._seek(who)

    def do_drain(self, c: int, batch: int) -> None:
        """Receive until the queue is empty."""
        who = self._consumer(c)
        if who is None or who.queue is None or who.answer == "requeue":
            return
        for _ in range(100):
            queue = who.queue
            if queue.stream and who.position >= len(queue.log):
                break
            if not queue.stream and not queue.ready:
                break
            self.do_deliver(c, batch)
            if who.answer == "hand":
                self.do_hand(c, "ack", batch)
            else:
                self._answer(who, "")
            self.now += SECOND // 20
        self._sample(who)

    # --- whoever carries it out ---

    def do_count(self, q: int, by: str, stale: int) -> None:
        """Count a queue, and write it into the history."""
        queue = self.queues[q % len(self.queues)]
        if not self.setup.history:
            return
        if by == "api":
            old = self.now < self.left_at.get(queue.name, 0) + REPORT_S * SECOND or stale
            messages = self._stale(queue) if old else queue.size()
            if messages != queue.size():
                self.happened["a stale count of the API"] += 1
            consumers = None
        else:
            messages, consumers = self._declared(queue), self._consumers(queue)
        self.history_counts.setdefault(queue.name, []).append(
            {"by": by, "messages": messages, "consumers": consumers, "true": queue.size(),
             "at": self.now}
        )  # fmt: skip
        self._history("counted", queue.name, by, messages, consumers)

    def do_break(self, name: str, fired: bool) -> None:
        if fired:
            self.fired.append(name)
        self._history("fault", name, fired)

    def do_over(self) -> None:
        self._history("over")


def play(script: Script) -> World:
    """Carry it out."""
    world = World(script.setup)
    for i, (name, *values) in enumerate(script.steps):
        world.now += (40 + 61 * i % 200) * SECOND // 1000
        getattr(world, f"do_{name}")(*values)
    return world
