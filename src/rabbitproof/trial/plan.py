"""What a scenario is made of, as values: topology, workload, faults, claims, expectation.

Pure, frozen. Refuses to know TOML (``scenario``) and how any of it is carried out (``trial``,
``faults``, ``planted``). The defaults here are the defaults of the file.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  scenario reads the types of the fields
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from rabbitproof.amqp.dial import HEARTBEAT_S
from rabbitproof.model import Claims, Expectation, Queue, QueueType, Topology
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.work.link import CONFIRM_TIMEOUT_S

WORK: Final = "work.queue"
AUDIT: Final = "audit.queue"
DEAD: Final = "dead.queue"
EXCHANGE: Final = "direct.exchange"
ROUTING_KEY: Final = "work"

Consume = Literal["after", "during", "never"]
Acks = Literal["manual", "auto"]
ReadAudit = Literal["after", "during"]


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """One queue of the topology."""

    type: QueueType = "classic"
    bound: bool = True
    """False: its binding is forgotten."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, such as x-message-ttl."""


@dataclass(frozen=True, slots=True)
class TopologyPlan:
    """Which queues there are."""

    durable: bool = True
    lazy: bool = False
    """Lazy queues where they are classic ones; the other types are on disk anyway."""
    dead_letters: bool = False
    """What the work queue drops goes to a queue of its own, where it can be counted."""
    work: QueuePlan = QueuePlan()
    audit: QueuePlan | None = QueuePlan()


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent, and how it is consumed."""

    count: int
    """Messages, all producers together."""
    size: int = 0
    """Bytes of a body at least."""
    rate: float | None = None
    """Messages a second, all producers together; None for as fast as the broker confirms."""
    producers: int = 1
    consumers: int = 1
    confirms: bool = True
    mandatory: bool = True
    """The broker has to return what no queue took."""
    persistent: bool | None = None
    """None: as the queues are durable."""
    window: int = 20_000
    """Unconfirmed messages in flight at most."""
    retry_nacks: bool = True
    """What was refused is tried again until a deadline."""
    seconds: float | None = None
    """Send for so long at most; None for as long as it takes."""
    send_again: int = 0
    """So many messages, the first ones, are sent a second time under the same id."""
    consume: Consume = "after"
    prefetch: int = 1000
    """Messages that a consumer may hold without having acknowledged them."""
    acks: Acks = "manual"
    """``auto``: the broker forgets a message when it has sent it, before anybody has it."""
    audit: ReadAudit = "after"
    """When the audit queue is read. ``during``: by a process, all the time, so it stays short."""
    pause_ms: int = 0
    """What a consumer takes for each read, as if it did something with the messages."""
    heartbeat_s: int = HEARTBEAT_S
    """A peer that was silent for two of these is given up."""
    confirm_timeout_s: float = CONFIRM_TIMEOUT_S
    """Seconds without any answer to a publish after which its connection is given up."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Something to break, and when."""

    name: str
    at_share: float | None = None
    """When this share of the messages has been sent (or received, for a fault of consumers)."""
    at_s: float | None = None
    """Seconds after the first publish."""
    lasts_s: float = 0.0
    times: int = 1
    every_s: float = 0.0
    """Seconds from one time to the next."""
    queue: str = WORK
    messages: int = 1
    """How many messages it is about, for a fault that picks some."""
    delay_ms: int = 300
    """What each way takes longer."""
    bytes_per_s: int = 200_000
    """What a throttled network carries each way."""
    pick: float | None = None
    """Which of several participants or nodes it is done to, as a share of their list: 0 is the
    first, just below 1 the last. None: the participant that has done most, or a node that does
    not lead the queue."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What the broker is made of."""

    nodes: int = 1


@dataclass(frozen=True, slots=True)
class RandomPlan:
    """Faults that a seed chooses; ``dice`` does."""

    faults: int
    """So many different ones."""
    among: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planted:
    """Faults in the stream itself: what somebody between broker and consumer would do."""

    dropped: int = 0
    doubled: int = 0
    swapped: int = 0
    """Pairs of neighbours that change places."""
    body_altered: int = 0
    id_altered: int = 0
    seed: int = 1
    queue: str = WORK

    @property
    def touched(self) -> int:
        """How many messages it needs that nothing else is done with."""
        return self.dropped + self.doubled + 2 * self.swapped + self.body_altered + self.id_altered


@dataclass(frozen=True, slots=True)
class Scenario:
    """One experiment, before it is carried out."""

    name: str
    title: str
    teaches: str
    """Plain words: what it shows."""
    safe: bool
    """Promises that nothing is lost. An unsafe one loses, doubles or spoils by design."""
    workload: Workload
    topology: TopologyPlan = TopologyPlan()
    faults: tuple[FaultPlan, ...] = ()
    planted: Planted | None = None
    claims: Claims = field(default_factory=Claims)
    expect: Expectation | None = None
    random: RandomPlan | None = None
    cluster: ClusterPlan = ClusterPlan()
    also: tuple[Literal["quorum", "stream"], ...] = ()
    """Types of the audit queue with which, and with a quorum queue, it is a scenario of its own."""
    seed: int | None = None
    """What its faults were drawn from; None when they are as its file says."""

    @property
    def count(self) -> int:
        """Messages, all producers together."""
        return self.workload.count

    @property
    def sent_by_processes(self) -> bool:
        """Whether its producers are processes: several, or one that is killed."""
        return self.workload.producers > 1 or self.has(hits="producer")

    @property
    def possible(self) -> frozenset[str]:
        """The names of all faults that may happen in it."""
        drawn = () if self.random is None else self.random.among
        return frozenset((*(plan.name for plan in self.faults), *drawn))

    def has(self, **wanted: str) -> bool:
        """Tell whether a fault may happen whose kind has these values, such as ``needs``."""
        return any(
            all(getattr(CATALOGUE[name], key) == value for key, value in wanted.items())
            for name in self.possible
        )

    @property
    def persistent(self) -> bool:
        """Whether messages are written to disk."""
        asked = self.workload.persistent
        return self.topology.durable if asked is None else asked

    def wiring(self) -> Topology:
        """Return the topology with the names that everybody knows."""
        plan = self.topology
        work = _queue(WORK, plan.work, plan)
        dead = None
        if plan.dead_letters:
            dead = Queue(DEAD, durable=True, bound=False)
            work = replace(
                work,
                extra={
                    **work.extra,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": DEAD,
                },
            )
        audit = None if plan.audit is None else _queue(AUDIT, plan.audit, plan)
        return Topology(EXCHANGE, ROUTING_KEY, work, audit, dead)


def _queue(name: str, queue: QueuePlan, plan: TopologyPlan) -> Queue:
    return Queue(
        name,
        queue.type,
        plan.durable or queue.type != "classic",
        plan.lazy and queue.type == "classic",
        queue.bound,
        explicit=True,
        extra=dict(queue.arguments),
    )
