"""The values that all rooms share. Frozen, without behaviour beyond what follows from them.

Refuses to hold: anything that does I/O, and anything that only one room needs.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  codecs read the types of the fields
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Set

QueueType = Literal["classic", "quorum", "stream"]

LONGEST_NAME: Final = 255
"""Bytes of a queue's or an exchange's name: a short string (AMQP 0-9-1, section 4.2.5.3)."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue as it is wanted."""

    name: str
    kind: QueueType = "classic"
    durable: bool = False
    lazy: bool = False
    """Ask for x-queue-mode=lazy, where the broker's release still knows it."""
    bound: bool = True
    """False: nothing binds it to the exchange, by design or to show what comes of it."""
    explicit: bool = False
    """Name its type also where it is a classic one: a queue that is declared without a type has the
    default of its vhost, which may be another."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, such as x-message-ttl."""

    def arguments(self, *, lazy_works: bool) -> dict[str, Any]:
        """Return the arguments to declare it with."""
        out: dict[str, Any] = {}
        if self.kind != "classic" or self.explicit:
            out["x-queue-type"] = self.kind
        if self.lazy and lazy_works:
            out["x-queue-mode"] = "lazy"
        return out | dict(self.extra)


@dataclass(frozen=True, slots=True)
class Topology:
    """An exchange and the queues that get a copy of everything published to it."""

    exchange: str
    routing_key: str
    work: Queue
    audit: Queue | None = None
    dead: Queue | None = None
    """Where dead letters of the others go; no copy of what is published goes there."""

    @property
    def queues(self) -> tuple[Queue, ...]:
        """All its queues, the work queue first."""
        return (self.work,) if self.audit is None else (self.work, self.audit)

    @property
    def all(self) -> tuple[Queue, ...]:
        """The same, and the queue of dead letters behind them."""
        return self.queues if self.dead is None else (*self.queues, self.dead)

    def role(self, queue: Queue) -> str:
        """Return what a queue of it is for: ``work``, ``audit`` or ``dead``."""
        return "work" if queue is self.work else "audit" if queue is self.audit else "dead"


# --- progress: what work and trial yield, and cli and view show -------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know. A whole sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Purged:
    """A queue was emptied."""

    queue: str
    audit: bool
    messages: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One message, to be shown. Its texts are as they came: not safe to print."""

    number: int
    """The how many-th message this is, from 1."""
    message_id: str
    sender: str
    n: str
    text: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """So much is done. ``mark``: at one of the points where a line was asked for."""

    done: int
    total: int | None
    mark: bool
    sample: Sample | None = None
    blocked: str | None = None
    """Why the broker does not take publishes at the moment, if it does not."""
    seconds: float = 0.0
    """Since the first publish or basic.consume; told with ``mark``."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no connection at the moment; told before each attempt to get one."""

    seconds: float
    """Since it was lost."""
    why: str
    """What the last attempt met, or what ended the connection. A sentence."""


@dataclass(frozen=True, slots=True)
class Started:
    """The participant is ready and begins."""


@dataclass(frozen=True, slots=True)
class Produced:
    """The end of a producer's work. Counts are messages, not sends."""

    run: str
    producer: int
    attempted: int
    published: int
    """Confirmed and not returned."""
    nacked: int
    returned: int
    in_doubt: int
    resent: int
    confirms: bool
    """False: sent without confirms, nothing is known of the outcome."""
    ready: int | None
    """Messages in the work queue after the last confirm; None when that can't be read."""
    seconds: float
    """From the first publish to the last confirm."""
    cpu_seconds: float
    """What this process used of the processors in that time."""
    latency: dict[str, Any] | None = None
    """From when a message was due to its confirm, in milliseconds; None without confirms."""


@dataclass(frozen=True, slots=True)
class Consumed:
    """The end of a consumer's work."""

    consumed: int
    """Distinct messages and foreign ones."""
    unique: int
    redelivered: int
    duplicates: int
    missing: int | None
    """Gaps; None when other consumers shared the queue, so that a gap means nothing."""
    corrupt: int
    foreign: int
    expected: int | None
    seconds: float
    """From basic.consume to the last acknowledgement."""
    cpu_seconds: float
    """What this process used of the processors in that time."""
    latency: dict[str, Any] | None = None
    """From when a message was due to its arrival here, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trial, for people: it begins, or (``done``) this came of it."""

    text: str
    done: bool = False


Progress = Step | Note | Purged | Started | Sample | Advanced | Disconnected | Produced | Consumed


# --- verdict ----------------------------------------------------------------------------------


class Decision(StrEnum):
    """What a verdict says."""

    PASS = "PASS"  # noqa: S105  not a password
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Books:
    """Where each message is that a queue should have had; the parts add up to ``wanted``.

    Each counts messages, not copies. ``residue`` is what the broker counts beyond them.
    """

    wanted: int = 0
    """Confirmed; of a producer without confirms, sent."""
    seen: int = 0
    damaged: int = 0
    """Only damaged copies came."""
    dropped: int = 0
    """Not seen, and gone for a known reason."""
    left: int = 0
    """Not seen, and still in the queue by the broker's count."""
    lost: int = 0
    undecided: int = 0
    """Not seen, and it is not known whether they are still there or why they went."""
    residue: int = 0
    """Below 0: the broker counted so many copies more than there are messages to explain them."""


@dataclass(frozen=True, slots=True)
class QueueVerdict:
    """What became of a run's messages in one queue."""

    name: str
    """The queue's real name on the broker."""
    judged_by: Literal["ledger", "count"]
    received: int
    unique: int
    lost: int
    lost_ids: tuple[str, ...]
    """The first 1,000 message ids; none when it is only known how many of ``lost_among``."""
    undecided: int
    """Confirmed and not seen, in a queue that is not provably drained: lost or still there."""
    recovered: int
    """In doubt or refused for the producer, and here all the same."""
    duplicates_redelivered: int
    duplicates_resent: int
    duplicates_unflagged: int
    corrupt: int
    foreign: int
    reordered: int | None
    order_unchecked: str | None
    """Why order was not checked, when it was not."""
    left_in_queue: int | None
    """Messages that the broker still counts; None when it could not be asked."""
    lost_head: int = 0
    """Of the lost: before the first number that was seen, of each producer."""
    lost_middle: int = 0
    lost_tail: int = 0
    """Of the lost: behind the last number that was seen."""
    nacked_delivered: int = 0
    """Of the recovered: refused to the producer, because another queue refused it, and here all
    the same."""
    returned_delivered: int = 0
    """Of the recovered: returned to the producer, and here all the same."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Copies that are gone for a known reason: ``expired``, ``maxlen``, ``delivery_limit``,
    ``rejected``, ``purged``."""
    residue: int = 0
    """Confirmed copies less those seen, left, dropped with a reason, lost and undecided."""
    lost_among: int = 0
    """The lost are among so many unseen messages; more than ``lost`` when it is only known how
    many went for another reason. Then head, middle and tail are not told either."""
    dead_lettered: int = 0
    """Of the dropped: copies that were found again in a dead-letter queue."""
    unhandled: dict[str, int] = field(default_factory=dict)
    """Of the dropped, by reason: confirmed messages that nobody saw, or that were refused by
    those who did."""
    books: Books = field(default_factory=Books)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict over every message of a run."""

    decision: Decision
    reasons: tuple[str, ...]
    """Whole sentences; empty for PASS."""
    attempted: int
    confirmed: int
    nacked: int
    returned: int
    in_doubt: int
    queues: dict[str, QueueVerdict] = field(default_factory=dict)
    """By logical name, such as ``work.queue``, in topology order."""
    notes: tuple[str, ...] = ()
    """What has to be said and decides nothing. Whole sentences."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What the scenario promises beyond losing nothing."""

    ready_before: bool = False
    """All queues hold exactly the confirmed messages before a consumer starts."""
    empties: bool = True
    """Nothing is left in the work queue at the end."""
    audit_equals_work: bool = False
    """The audit queue had the same messages as the work queue."""
    permits: tuple[str, ...] = ()
    """Reasons for which a queue may drop what was confirmed, such as ``expired``: whoever asks for
    a time to live wants just that."""


Amount = int | str
"""A number, or one of the second witness: K, what it missed in the work queue; K_audit, what it
missed in the audit queue; K_dead, what it found in the queue of dead letters; K_purged, what the
broker says that it purged."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What has to come out: exactly this."""

    verdict: Literal["PASS", "FAIL", "UNKNOWN"]
    why: str
    """Which loss and for what reason, in plain words."""
    totals: Mapping[str, Amount] = field(default_factory=dict)
    """Of the whole run: attempted, confirmed, nacked, returned, in_doubt."""
    work: Mapping[str, Amount] = field(default_factory=dict)
    audit: Mapping[str, Amount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """Something that was broken on purpose, and what shows that it really broke."""

    name: str
    at_s: float
    """Seconds after the first publish."""
    fired: bool
    evidence: str
    """What was seen of it; a whole sentence."""
    until_s: float | None = None
    """When it was over; None for what has no length."""
    in_flight: int | None = None
    """Unconfirmed messages at that moment; None when nobody could tell."""


@dataclass(frozen=True, slots=True)
class Series:
    """A figure over time."""

    name: str
    """Such as ``confirmed``, ``received`` or ``work.queue ready``."""
    unit: str
    """``msg/s`` or ``messages``."""
    points: tuple[tuple[float, float], ...]
    """Seconds after the first publish, value."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A scenario carried out."""

    verdict: Verdict
    scenario: str
    run: str
    publish_per_s: int
    consume_per_s: int
    claims: tuple[tuple[str, bool | None], ...]
    """Each claim of the scenario as a sentence that is true, and whether the claim held; None where
    nobody knows."""
    environment: dict[str, Any]
    """Versions and topology, ready for JSON."""
    latency: dict[str, Any] = field(default_factory=dict)
    """In milliseconds: ``confirm`` of the producer, ``end_to_end`` of the work queue's consumer."""
    title: str = ""
    teaches: str = ""
    safe: bool = True
    """False: it loses by design, and a FAIL was expected."""
    started: str = ""
    """When it began, ISO 8601 with the offset from UTC."""
    command: str = ""
    """What to type to repeat it; no password in it."""
    faults: tuple[FaultRecord, ...] = ()
    series: tuple[Series, ...] = ()
    curves: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Per latency: percentile (0 to 100) and milliseconds."""
    not_tested: tuple[str, ...] = ()
    """What this says nothing about. Whole sentences."""
    expected: str = ""
    """What a scenario that loses by design is expected to lose, and why; a whole sentence."""
    surprises: tuple[str, ...] = ()
    """What came out differently. Whole sentences; none when exactly the expected was found."""
    without_service_s: float | None = None
    """Seconds in which nothing was confirmed, gaps of half a second and more together; None where
    nobody confirms, or where it is not known."""
    longest_gap_s: float | None = None
    """The longest of these seconds in one piece."""
    planted: tuple[tuple[str, str, int], ...] = ()
    """What was expected: queue (or nothing for the whole run), name of the count, number."""


# --- several scenarios ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One of several scenarios, and what came of it: a result, or why there is none."""

    scenario: str
    title: str
    seconds: float = 0.0
    result: TrialResult | None = None
    left_out: str | None = None
    """Why it was not carried out. A whole sentence; nothing is proven of it then."""
    broken: str | None = None
    """Why it came to no verdict. A whole sentence."""

    @property
    def decision(self) -> Decision | None:
        """Its verdict; UNKNOWN without one, None when it was left out."""
        if self.left_out is not None:
            return None
        return Decision.UNKNOWN if self.result is None else self.result.verdict.decision


@dataclass(frozen=True, slots=True)
class Suite:
    """Several scenarios, carried out one after the other."""

    entries: tuple[Entry, ...]
    seconds: float
    seed: int | None = None
    """What their faults were drawn from; None when they happened as their files say."""
    interrupted: bool = False
    """Somebody ended it before its time."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Versions, ready for JSON."""
    started: str = ""
    """When it began, ISO 8601 with the offset from UTC."""
    command: str = ""
    """What to type to repeat it; no password in it."""
    broken: str | None = None
    """Why none was carried out: there is no broker for them. A whole sentence."""

    @property
    def decision(self) -> Decision:
        """FAIL if one failed, PASS if all that were carried out passed, and there were some."""
        found = {entry.decision for entry in self.entries}
        return _all_together(found, interrupted=self.interrupted)


@dataclass(frozen=True, slots=True)
class Releases:
    """The same scenarios on several releases of RabbitMQ, one after the other."""

    suites: dict[str, Suite]
    """By version, such as ``4.3.6``; two or more."""
    seconds: float
    seed: int | None = None
    """As in ``Suite``, and so are those below."""
    interrupted: bool = False
    environment: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    command: str = ""

    @property
    def decision(self) -> Decision:
        """FAIL if a release failed, PASS if all of them passed."""
        found = {suite.decision for suite in self.suites.values()}
        return _all_together(found, interrupted=self.interrupted)


def _all_together(found: Set[Decision | None], *, interrupted: bool) -> Decision:
    if Decision.FAIL in found:
        return Decision.FAIL
    done = found - {None} == {Decision.PASS} and not interrupted
    return Decision.PASS if done else Decision.UNKNOWN


# --- bench ------------------------------------------------------------------------------------


Role = Literal["publish", "consume"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One client that did one job once."""

    topology: str
    role: Role
    client: str
    round: int
    """From 1."""
    messages: int
    seconds: float
    """Publishing: from the first publish to the last confirm (without confirms: until the broker
    answered the close of the channel). Consuming: from basic.consume to the last ack."""
    cpu_seconds: float
    """What the client itself used of the processors in that time, start-up left out."""
    peak_bytes: int
    """Most memory that the client's process ever held."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several rounds."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Client:
    """One of those that are compared."""

    name: str
    version: str
    confirms: bool
    """Whether it publishes with confirms."""
    note: str = ""
    """Where its work differs from that of the others. A whole sentence, or nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One client in one role on one topology, over all rounds."""

    topology: str
    role: Role
    client: str
    rounds: int
    messages: int
    """Of one round."""
    per_s: Spread
    of_ceiling: Spread | None
    """Its rate over the wire ceiling's in the same round; None for the ceiling itself."""
    of_java: Spread | None
    """Its rate over the official Java client's in the same round; None where that did not run,
    and for itself."""
    cpu_us: Spread
    """Microseconds of CPU a message."""
    peak_bytes: int
    """The most of all rounds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bench carried out: what was measured, and what follows from it."""

    clients: tuple[Client, ...]
    """In the order of the table."""
    skipped: tuple[str, ...]
    """Which clients did not take part, and what would help. Whole sentences."""
    rows: tuple[Row, ...]
    measurements: tuple[Measurement, ...]
    """In the order in which they were taken."""
    environment: dict[str, Any]
    """Versions, machine, window, prefetch, size of a body; ready for JSON."""
