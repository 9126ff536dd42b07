"""What the monitor knows of a broker: values that ``broker``, ``work`` and ``view`` share.

Holds: what was seen at one moment (``Snapshot``), what follows from several (``Picture``), and
one queue looked at closely (``Detail``). Refuses to hold: how it is asked for, computed, worded
or drawn. Pure.

Rules: what the broker does not tell, or tells as nonsense (a negative count), is None and never 0
or False; a text that it does not tell is empty. Names are as they came and not safe to print.
Times ``at`` are seconds of a clock that only runs forward; ``clock`` is the time of day, in seconds
since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Key = tuple[str, str]
"""A queue: its vhost and its name."""

COUNTERS = ("publish", "deliver", "ack", "redeliver")
"""What is counted for each queue, in the order of ``Counters``."""


@dataclass(frozen=True, slots=True)
class Counters:
    """A queue's counters since it was declared or its node started.

    None: the broker tells nothing of it, as long as nothing was counted or for other reasons.
    """

    publish: int | None = None
    deliver: int | None = None
    ack: int | None = None
    redeliver: int | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages a second. None: not known (yet)."""

    publish: float | None = None
    deliver: float | None = None
    ack: float | None = None
    redeliver: float | None = None


@dataclass(frozen=True, slots=True)
class QueueSample:
    """One queue at one moment."""

    vhost: str
    name: str
    type: str = "classic"
    state: str = "running"
    ready: int | None = None
    unacked: int | None = None
    total: int | None = None
    consumers: int | None = None
    counters: Counters | None = None
    """None: not asked for this time, or the metrics are off."""
    rates: Rates | None = None
    """What the broker itself computed of its last two samples, 5 s apart."""
    node: str = ""
    leader: str | None = None
    """Quorum queues and streams: the node that leads; "" when there is none, None when the broker
    does not tell (3.10 never does of a stream)."""
    members: int | None = None
    online: int | None = None

    @property
    def key(self) -> Key:
        """Vhost and name, which name it in the cluster."""
        return (self.vhost, self.name)


@dataclass(frozen=True, slots=True)
class ConsumerSample:
    """One consumer; ``connection`` is the broker's name of its connection."""

    vhost: str
    queue: str
    tag: str
    connection: str
    channel: str = ""
    prefetch: int | None = None
    """0: it has none of its own; its channel may have one for all its consumers."""
    manual: bool | None = True
    """Acknowledges by hand."""
    active: bool | None = True


@dataclass(frozen=True, slots=True)
class ConnectionSample:
    """One connection; ``client`` is what the client calls it."""

    name: str
    client: str
    user: str
    vhost: str
    state: str
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One node of the cluster. Sizes are bytes, uptime seconds."""

    name: str
    running: bool | None = True
    memory: int | None = None
    memory_limit: int | None = None
    memory_alarm: bool | None = False
    disk_free: int | None = None
    disk_limit: int | None = None
    disk_alarm: bool | None = False
    files: int | None = None
    files_limit: int | None = None
    sockets: int | None = None
    sockets_limit: int | None = None
    uptime: float | None = None
    partitions: tuple[str, ...] = ()
    """Nodes it is cut off from."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a broker said at one moment."""

    at: float
    clock: float
    source: str
    """Where it was asked: an address without login."""
    version: str = ""
    cluster: str = ""
    queues: tuple[QueueSample, ...] = ()
    listed: bool = True
    """Whether these are all queues; False: one that is not among them may be there."""
    consumers: tuple[ConsumerSample, ...] | None = ()
    """None: could not be listed."""
    connections: tuple[ConnectionSample, ...] | None = ()
    connection_count: int | None = None
    """All there are, where more exist than are listed."""
    nodes: tuple[NodeSample, ...] = ()
    metrics: bool = True
    """Whether the broker keeps counters; False: rates are off, not 0."""
    unroutable_dropped: int | None = None
    """Messages so far that no queue took and nobody was told of."""
    unroutable_returned: int | None = None
    missing: tuple[str, ...] = ()
    """What could not be asked, as sentences that end in what to do."""
    requests: int = 0
    """How many requests this cost the broker."""


Level = Literal["red", "yellow"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, with its number, and what to do about it."""

    level: Level
    what: str
    do: str
    """The texts are safe to show."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened between two samples. ``text`` is safe to show."""

    clock: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything a monitor shows: the newest snapshot and what follows from those before it."""

    snapshot: Snapshot | None
    """The last good one; None before the first."""
    rates: dict[Key, Rates] = field(default_factory=dict, hash=False)
    """By queue, from our own samples where there are two, else the broker's."""
    trends: dict[Key, int] = field(default_factory=dict, hash=False)
    """By queue, by how many messages its depth has changed since the look before."""
    own: bool = False
    """Whether the rates are from our own samples."""
    consumer_counts: dict[Key, int] = field(default_factory=dict, hash=False)
    """By queue, from the list of consumers."""
    vhosts: int = 1
    """How many the queues are in."""
    problems: tuple[Problem, ...] = ()
    events: tuple[Event, ...] = ()
    """Newest first."""
    error: str | None = None
    """Why there is no newer snapshot; a sentence that ends in what to do."""
    failing_since: float | None = None
    """Clock of the first failure in a row."""
    seconds: float | None = None
    """What the last refresh took."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One queue looked at closely; None: not told. Texts are as they came."""

    queue: QueueSample
    durable: bool | None
    exclusive: bool
    auto_delete: bool
    arguments: dict[str, Any] | None = field(hash=False)
    policy: str | None
    """"": none applies."""
    policy_definition: dict[str, Any] | None = field(hash=False)
    bindings: tuple[tuple[str | None, str | None], ...] | None
    """Exchange ("" for the default one) and routing key."""
    consumers: tuple[tuple[ConsumerSample, int | None], ...] | None
    """Each with what its channel holds unacknowledged."""
    oldest: float | None
    """Clock of the oldest message, where the broker knows it."""
    bytes: int | None
    depth: tuple[tuple[float, float], ...] = ()
    """(clock, messages) as the broker sampled them, oldest first."""
    published: tuple[tuple[float, float], ...] = ()
    """(clock, messages a second)."""
    acknowledged: tuple[tuple[float, float], ...] = ()
    missing: tuple[str, ...] = ()
