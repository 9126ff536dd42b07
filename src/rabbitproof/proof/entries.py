"""What stands in the frames of a ledger file, and who wrote it.

Holds: the kinds of frames, and the values that some of them are, as JSON (``codec``). Refuses to
hold: bytes around them (``frames``), files (``journal``, ``record``). Pure.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, field

from rabbitproof.identity import MAX_PRODUCER
from rabbitproof.model import QueueType  # noqa: TC001  the codec reads the types
from rabbitproof.proof.codec import Count, Time, Value, decode, encode
from rabbitproof.proof.frames import OPTIONAL
from rabbitproof.proof.latency import Latencies  # noqa: TC001  the codec reads the types


class Kind(IntEnum):
    """What a frame says. A reader may pass over those of ``OPTIONAL`` and above."""

    HEADER = 0x01
    """JSON. The first frame; again, when another process goes on with the file."""
    ATTEMPT = 0x02
    """flags:u8 numbers. These are about to be published; flag 1: they may have been before."""
    CONFIRM = 0x03
    """numbers. The broker took responsibility for these."""
    NACK = 0x04
    """numbers. The broker refused these."""
    RETURN = 0x05
    """numbers. No queue took these."""
    SEEN = 0x06
    """flags:u8 run:6 producer:u16 numbers. These came whole; flag 1: marked as redelivered; flag
    2: with the mark of somebody who sent them again."""
    CORRUPT = 0x07
    """run:6 producer:u16 n:u64. A copy with a wrong checksum claims to be this message."""
    FOREIGN = 0x08
    """count:u32. Messages without an identity of ours."""
    NAMELESS = 0x09
    """count:u32. Messages with our checksum header, whose id names nobody."""
    END = 0x0F
    """JSON. The participant has done all it was asked; its counts of the queues."""
    SAMPLE = OPTIONAL | 0x01
    """JSON. Figures at one moment."""
    EVENT = OPTIONAL | 0x02
    """JSON. Something that happened."""
    REJECTED = OPTIONAL | 0x03
    """run:6 producer:u16 numbers. These, seen before, were refused one by one, for good."""


RUN: Final = re.compile(r"[0-9a-f]{12}")
"""What names a run."""


class Effective(Value, frozen=True, kw_only=True):
    """What the Management API says of a queue; None is what it does not tell."""

    type: str
    durable: bool | None = None
    arguments: dict[str, Any] | None = None
    policy: str | None = None
    policy_definition: dict[str, Any] | None = None
    """What that policy and the operator's make of it together."""


class DeclaredQueue(Value, frozen=True, kw_only=True):
    """One queue of a topology."""

    name: str
    role: str = ""
    """``work``, ``audit`` or ``dead``; empty where nobody says."""
    type: QueueType | None = None
    durable: bool | None = None
    lazy: bool = False
    bound: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    """Arguments beyond those of type and mode."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """All of them, as declared."""
    effective: Effective | None = None
    messages: Count | None = None
    """How many it held before the first publish; None where that was not asked."""


class Wiring(Value, frozen=True, kw_only=True):
    """An exchange and its queues, by their real names."""

    vhost: str = ""
    exchange: str = ""
    routing_key: str = ""
    queues: tuple[DeclaredQueue, ...] = ()


class Header(Value, frozen=True, kw_only=True):
    """Who writes a ledger, and of what."""

    kind: Literal["producer", "consumer"]
    run: str
    """Twelve lower-case hex digits. A consumer that was not told has none: an empty text."""
    producer: Count
    """Which producer of the run; 0 for a consumer."""
    name: str
    """What the participant calls itself. Untrusted."""
    host: str
    pid: Count
    started_ns: Time
    """When this process began to write, by its clock, nanoseconds since 1970. Later times in the
    file are this one and what the clock since the boot says has passed: a clock that is set
    meanwhile changes nothing."""
    queue: str
    """What a consumer reads; empty for a producer."""
    topology: Wiring = Wiring()
    options: dict[str, Any] = field(default_factory=dict)
    """All that is needed to go on; no password."""
    versions: dict[str, str] = field(default_factory=dict)
    """``rabbitmq``, ``erlang``, ``cluster``, ``python``, ``rabbitproof``, ``platform``."""
    process: dict[str, Any] = field(default_factory=dict)
    """What tells this process from every other one, so that it can be asked whether the writer
    lives; see ``rabbitproof.process``."""
    boot: str = ""
    """Names this boot of the machine; empty where the system does not say."""
    monotonic_ns: Time = 0
    """The clock since the boot at ``started_ns``; comparable between processes of one boot."""

    def to_json(self) -> bytes:
        """Return it as a frame's payload."""
        return encode(self)

    @classmethod
    def from_json(cls, payload: bytes) -> Header:
        """Read a frame's payload; raise ValueError when it is none."""
        header: Header = decode(payload, cls)
        producing = header.kind == "producer"
        if (producing or header.run) and not RUN.fullmatch(header.run):
            raise ValueError("the header names no run")
        if producing and not 0 < header.producer <= MAX_PRODUCER:
            raise ValueError("the header names no producer")
        return header


class End(Value, frozen=True, kw_only=True):
    """The end of a ledger: all is done."""

    t_ns: Time
    clock_ns: Time | None = None
    """What the host's own clock said, which may have been set; it knows of the time for which the
    machine stood still."""
    counts: dict[str, Count | None] = field(default_factory=dict)
    """Queue -> messages, by a passive declare; null when nobody answered."""
    consumers: dict[str, Count | None] = field(default_factory=dict)
    """Queue -> how many consume it."""
    second: dict[str, Count | None] = field(default_factory=dict)
    """Queue -> what the Management API counts, where it was asked."""
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """From the first publish, or subscription, to the last answer."""
    latency: Latencies | None = None
    interrupted: bool = False
    returned: Count = 0
    """How many a window gave back."""


class Moment(Value, frozen=True, kw_only=True):
    """Figures at one moment."""

    t_ns: Time
    values: dict[str, Any]
    """Such as ``attempted``, ``confirmed``, ``received``; ``depth``: queue -> ready messages."""
    clock_ns: Time | None = None


class Happening(Value, frozen=True, kw_only=True):
    """Something that happened to a participant."""

    t_ns: Time
    name: str
    """``connected``, ``lost``, ``blocked``, ``unblocked``, ``stopped``, ``resumed``."""
    details: dict[str, Any] = field(default_factory=dict)
