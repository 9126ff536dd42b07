"""What stands in the frames of a ledger file, and who wrote it.

Holds: the kinds of frames, the header, and how both are written as JSON. Refuses to hold: bytes
around them (``frames``), files (``journal``, ``record``). Pure.

JSON from a file is untrusted: every field is checked for its type.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple, TypeGuard

from rabbitproof.identity import MAX_PRODUCER
from rabbitproof.proof.frames import OPTIONAL


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


_RUN: Final = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Header:
    """Who writes a ledger, and of what."""

    kind: Literal["producer", "consumer"]
    run: str
    """Twelve lower-case hex digits. A consumer that was not told has none: an empty text."""
    producer: int
    """Which producer of the run; 0 for a consumer."""
    name: str
    """What the participant calls itself. Untrusted."""
    host: str
    pid: int
    started_ns: int
    """When this process began to write, by its clock, nanoseconds since 1970. Later times in the
    file are this one and what its monotonic clock says has passed: a clock that is set
    meanwhile changes nothing."""
    queue: str
    """What a consumer reads; empty for a producer."""
    topology: dict[str, Any] = field(default_factory=dict, hash=False)
    """``exchange``, ``routing_key`` and ``queues``: a list of objects with ``name``, ``role``,
    ``type``, ``durable``, ``lazy``, and the effective ``arguments`` and ``policy``."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """All that is needed to go on; no password."""
    versions: dict[str, Any] = field(default_factory=dict, hash=False)
    """``rabbitmq``, ``erlang``, ``python``, ``rabbitproof``, ``platform``."""
    process: dict[str, Any] = field(default_factory=dict, hash=False)
    """What tells this process from every other one, so that it can be asked whether the writer
    lives; see ``rabbitproof.process``. Empty in files of versions that did not know it."""
    boot: str = ""
    """Names this boot of the machine; empty where the system does not say."""
    monotonic_ns: int = 0
    """The monotonic clock at ``started_ns``; comparable between processes of one boot."""

    def to_json(self) -> bytes:
        """Return it as a frame's payload."""
        return to_json(asdict(self))

    @classmethod
    def from_json(cls, payload: bytes) -> Header:
        """Read a frame's payload; raise ValueError when it is none."""
        found = from_json(payload)
        values: dict[str, Any] = {}
        for one in fields(cls):
            value = found.get(one.name, {} if one.name == "process" else None)
            kind = _TYPES[one.name]
            if isinstance(value, bool) or not isinstance(value, kind):
                # To callers all of it is a bad file.
                raise ValueError(f"the header's {one.name} is missing or of another type")  # noqa: TRY004
            values[one.name] = value
            if kind is int and not is_number(value):
                raise ValueError(f"the header's {one.name} is no number of 64 bits")
        header = cls(**values)
        queues = header.topology.get("queues", [])
        if not isinstance(queues, list) or not all(isinstance(one, dict) for one in queues):
            raise ValueError("the header's queues are no list of objects")
        if header.kind not in ("producer", "consumer"):
            raise ValueError("the header names no kind of participant that this version knows")
        producing = header.kind == "producer"
        if (producing or header.run) and not _RUN.fullmatch(header.run):
            raise ValueError("the header names no run")
        if producing and not 0 < header.producer <= MAX_PRODUCER:
            raise ValueError("the header names no producer")
        return header


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "kind": str,
    "run": str,
    "producer": int,
    "name": str,
    "host": str,
    "pid": int,
    "started_ns": int,
    "queue": str,
    "topology": dict,
    "options": dict,
    "versions": dict,
    "process": dict,
    "boot": str,
    "monotonic_ns": int,
}


def end_from_json(payload: bytes) -> dict[str, Any]:
    """Read the payload of an end; raise ValueError when it is none.

    Its time is a number; ``counts``, ``consumers`` and ``second`` are objects of counts or nulls.
    """
    found = from_json(payload)
    if not is_number(found.get("t_ns")) or not is_number(found.get("clock_ns", 0)):
        raise ValueError("an end without a time")
    for name in ("counts", "consumers", "second"):
        value = found.get(name)
        if value is None:
            continue
        if not isinstance(value, dict) or not all(
            count is None or (is_number(count) and count >= 0) for count in value.values()
        ):
            raise ValueError(f"the end's {name} are no counts")
    return found


def is_number(value: object) -> TypeGuard[int]:
    """Say whether this is an integer that has 64 bits at most."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


class Moment(NamedTuple):
    """Figures at one moment."""

    t_ns: int
    """Nanoseconds since 1970, by the writer's clock."""
    values: dict[str, Any]
    """Such as ``attempted``, ``confirmed``, ``received``; ``depth``: queue -> ready messages."""


class Happening(NamedTuple):
    """Something that happened to a participant."""

    t_ns: int
    name: str
    """``connected``, ``lost``, ``blocked``, ``unblocked``, ``interrupted``, ``resumed`` …"""
    details: dict[str, Any]


def to_json(value: dict[str, Any]) -> bytes:
    """Return an object as compact JSON; text that is no Unicode is escaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, default=str).encode()


def from_json(payload: bytes) -> dict[str, Any]:
    """Return an object; raise ValueError when it is none."""
    try:
        found = json.loads(payload)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - to callers all of it is a bad file
    return found
