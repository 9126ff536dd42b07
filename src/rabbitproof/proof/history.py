"""The history of a run: what whoever carries it out knows, written down when it is known.

One append-only file in the run's folder, checksummed like a ledger: what is wanted (``Plan``), who
takes part, when each begins and how it ends, with its file's length and last checksum; each queue
as it is and every count of it; faults, drops, alarms. It holds no verdict, and nothing that follows
from the rest. What a count proves follows from its place among the other entries: that of before
the first producer's beginning is what a queue held before, that behind the end of all who had to do
with it is what is left.

Holds: the entries, writing, reading. Refuses to know what follows from them (``run``, ``whole``,
``queues``).
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as one_of
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from msgspec import field, structs

from rabbitproof.errors import LedgerFailed
from rabbitproof.identity import MAX_NUMBER, MAX_PRODUCER
from rabbitproof.model import Claims, Expectation, FaultRecord
from rabbitproof.process import since_boot_ns
from rabbitproof.proof import expect, frames
from rabbitproof.proof.codec import Count, Time, Value, decode, encode
from rabbitproof.proof.entries import RUN, Effective, Wiring
from rabbitproof.proof.ledger import runs
from rabbitproof.proof.record import contents, mark
from rabbitproof.text import safe

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from rabbitproof.proof.ledger import QueueReceipts

_E = TypeVar("_E", bound="Entry")

Kind = Literal["producer", "consumer"]
How = Literal["done", "failed", "killed"]

SUFFIX: Final = ".history"
ENTRY: Final = 0x20
"""The kind of frame that an entry is."""
RANGES: Final = 10_000
"""Ranges of numbers in one entry about dropped messages at most; more make several entries."""


class Entry(Value, frozen=True, kw_only=True, tag_field="entry"):
    """Something that became known."""

    t_ns: Time = 0
    """When, in nanoseconds since 1970: the writer's clock at its beginning, and what the clock
    since the boot says has passed."""


class Plan(Entry, frozen=True, kw_only=True, tag="plan"):
    """What is to be done. The first entry."""

    run: str
    scenario: str
    title: str = ""
    teaches: str = ""
    safe: bool = True
    """False: it loses, doubles or spoils by design."""
    command: str = ""
    """What to type to repeat it; no password in it."""
    started: str = ""
    """When it began, ISO 8601 with the offset from UTC."""
    process: dict[str, Any] = field(default_factory=dict)
    """Who writes this; see ``rabbitproof.process``."""
    where: str = ""
    """For people: which broker."""
    versions: dict[str, str] = field(default_factory=dict)
    """``rabbitmq``, ``erlang``, ``python``, ``platform``."""
    topology: Wiring = Wiring()
    names: dict[str, str] = field(default_factory=dict)
    """Real name of each queue that is judged -> the one that the scenario uses."""
    workload: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """For people: ``producers``, ``consumers``, ``window`` and so on."""
    confirms: bool = True
    consumed: bool = True
    """False: nobody is to consume the work queue."""
    claims: Claims = Claims()
    faults: tuple[str, ...] = ()
    """What has to happen, each as often as it stands here."""
    expects: Expectation | None = None
    """What has to come out where messages are lost by design."""
    seed: int | None = None
    private: bool = False
    """The broker is one of our own."""
    nodes: int = 1
    proxied: bool = False
    """The network is broken by a proxy."""

    def __post_init__(self) -> None:
        """Refuse an expectation of what no verdict has."""
        if self.expects is not None:
            expect.check(self.expects)


class Began(Entry, frozen=True, kw_only=True, tag="began"):
    """A participant is about to begin; again when another process goes on in its place."""

    name: str
    kind: Kind
    queue: str = ""
    """What a consumer reads, by its real name."""


class Ended(Entry, frozen=True, kw_only=True, tag="ended"):
    """A participant is known to be gone."""

    name: str
    kind: Kind
    how: How
    why: str = ""
    """What it said last when it failed."""
    file: str = ""
    """The name of its ledger, without a folder; empty when it never came to write one."""
    size: Count | None = None
    """Bytes up to the end of the ledger's last whole frame; None when it could not be read."""
    crc: Count | None = None
    """The checksum of that frame."""


class Found(Entry, frozen=True, kw_only=True, tag="found"):
    """A queue as the Management API tells it."""

    queue: str
    is_now: Effective


class Counted(Entry, frozen=True, kw_only=True, tag="counted"):
    """Somebody counted a queue."""

    queue: str
    by: Literal["declare", "api"]
    """A passive declare, or the Management API, which is up to some seconds old."""
    messages: Count | None = None
    """None when there was no answer."""
    consumers: Count | None = None


class Broke(Entry, frozen=True, kw_only=True, tag="fault"):
    """A fault happened, or did not."""

    record: FaultRecord


class Dropped(Entry, frozen=True, kw_only=True, tag="dropped"):
    """Copies left a queue for a known reason instead of being acknowledged."""

    queue: str
    reason: str
    """``expired``, ``maxlen``, ``delivery_limit``, ``rejected`` or ``purged``."""
    copies: Count = 0
    """Of these only the number is known."""
    names: dict[Count, tuple[tuple[Count, Count], ...]] = field(default_factory=dict)
    """These are known by name: producer -> [first, last] of each range."""
    foreign: Count = 0
    """Copies that are not of this run, beside those."""
    evidence: str = ""
    """Who says so. A whole sentence, or nothing."""

    def __post_init__(self) -> None:
        """Refuse what names no messages."""
        for producer, ranges in self.names.items():
            if not 0 < producer <= MAX_PRODUCER or len(ranges) > RANGES:
                raise ValueError("an entry names no producer, or too many ranges")
            for first, last in ranges:
                if not 0 < first <= last <= MAX_NUMBER or last - first >= frames.LONGEST_RANGE:
                    raise ValueError("an entry has no range of message numbers")


class Alarm(Entry, frozen=True, kw_only=True, tag="alarm"):
    """The broker told a producer to wait, or to go on."""

    why: str = ""
    """Empty: it may go on."""


class Witnessed(Entry, frozen=True, kw_only=True, tag="witnessed"):
    """What a second witness counted; see ``model.Amount``."""

    name: str
    count: Count | None = None


class Sampled(Entry, frozen=True, kw_only=True, tag="sampled"):
    """Figures at one moment."""

    at_s: float
    """Seconds after the first publish."""
    totals: dict[str, Count] = field(default_factory=dict)
    depths: dict[str, Count] = field(default_factory=dict)
    """Queue, by the scenario's name -> messages that are ready."""


class Measured(Entry, frozen=True, kw_only=True, tag="measured"):
    """What was measured on the way, for people."""

    without_service_s: float | None = None
    """Seconds in which nothing was confirmed; None where nobody confirms."""
    longest_gap_s: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    """Name -> value."""


class Over(Entry, frozen=True, kw_only=True, tag="over"):
    """Nothing more follows."""

    why: str = ""
    """A whole sentence when it ended before its end."""


AnyEntry = (
    Plan | Began | Ended | Found | Counted | Broke | Dropped | Alarm | Witnessed | Sampled
    | Measured | Over
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class History:
    """What one file holds."""

    path: Path
    plan: Plan
    entries: tuple[Entry, ...] = one_of(hash=False)
    """Without the plan, in the order in which they were written."""
    cut: str | None = None
    """Why it may not be all that was written. A whole sentence."""

    def of(self, kind: type[_E]) -> list[_E]:
        """Return all entries of one kind."""
        return [one for one in self.entries if isinstance(one, kind)]


class Writer:
    """Writes a history. Use it as a context manager; several threads may use it.

    Each entry is one ``write(2)``: once that returns, it outlives this process. Raises LedgerFailed
    when the file does not take it.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Begin a file in ``folder``, which is made if it is missing."""
        self.path = folder / f"run-{plan.run}{SUFFIX}"
        self._began, self._boot = time.time_ns(), since_boot_ns()
        self._lock = threading.Lock()
        self._crc = zlib.crc32(frames.HISTORY)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(os.open(self.path, flags, 0o600), "wb", buffering=0)  # noqa: PTH123, SIM115
            self._file.write(frames.HISTORY)
        except OSError as error:
            raise self._failed(error) from None
        self.write(plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, entry: Entry) -> None:
        """Write an entry down, with its time."""
        with self._lock:
            now = self._began + since_boot_ns() - self._boot
            payload = encode(structs.replace(entry, t_ns=now))
            frame = frames.frame(self._crc, ENTRY, payload)
            try:
                done = self._file.write(frame)
                while done < len(frame):  # a disk that is nearly full
                    done += self._file.write(frame[done:])
            except (OSError, ValueError) as error:  # ValueError: it is closed
                raise self._failed(error) from None
            self._crc = frames.crc_of(frame)

    def _failed(self, error: OSError | ValueError) -> LedgerFailed:
        return LedgerFailed(
            f"The history {safe(str(self.path))} can't be written "
            f"({getattr(error, 'strerror', None) or error}); make room there or name another "
            "folder, then run this again."
        )


def ended(name: str, kind: Kind, how: How, why: str, file: Path | None) -> Ended:
    """Return the entry of a participant that is known to be gone, with what its file is now."""
    size = crc = None
    with suppress(OSError):
        size, crc = mark(file) if file is not None else (None, None)
    path = "" if file is None else file.name
    return Ended(name=name, kind=kind, how=how, why=why, file=path, size=size, crc=crc)


def dropped(
    queue: str, reason: str, receipts: QueueReceipts, run: str, evidence: str
) -> Iterator[Dropped]:
    """Yield the entries that say which messages of a run were dropped from a queue."""
    foreign = receipts.foreign
    for source, got in receipts.by_source.items():
        if source.run != run:
            foreign += got.fresh.total
            continue
        ranges = [(one[0], one[-1]) for layer in got.fresh.layers for one in runs(layer)]
        for at in range(0, len(ranges), RANGES):
            names = {source.producer: tuple(ranges[at : at + RANGES])}
            yield Dropped(queue=queue, reason=reason, names=names, evidence=evidence)
    if foreign:
        yield Dropped(queue=queue, reason=reason, foreign=foreign, evidence=evidence)


def read(path: Path) -> History:
    """Read one file. Raise LedgerFailed when it is none, or does not even have a plan."""
    name = safe(str(path))
    try:
        with contents(path) as data:
            return _understand(path, name, data)
    except OSError as error:
        raise LedgerFailed(
            f"The history {name} can't be read ({error.strerror or error}); check who may read it."
        ) from None


def _understand(path: Path, name: str, data: bytes | mmap.mmap) -> History:
    version = frames.version_of(data, frames.HISTORY)
    if version is not None and version != frames.FORMAT:
        raise LedgerFailed(
            f"The history {name} has version {version} of the format, and this rabbitproof reads "
            f"version {frames.FORMAT}; install a newer rabbitproof."
        )
    if version is None:
        raise LedgerFailed(
            f"{name} is no history of a run; copy it again, or move it away to judge without it."
        )
    reader = frames.Reader(data, frames.HISTORY)
    entries: list[Entry] = []
    wrong = ""
    try:
        for kind, payload in reader:
            if kind == ENTRY:
                entry: Entry = decode(payload, AnyEntry)
                if isinstance(entry, Plan) == bool(entries):
                    raise ValueError("the plan is the first entry and no other one")  # noqa: TRY301
                entries.append(entry)
            elif kind < frames.OPTIONAL:
                raise ValueError(f"a frame of the unknown kind {kind}")  # noqa: TRY301
    except ValueError as error:
        wrong = f" ({safe(str(error), 200)})"
    plan = entries[0] if entries else None
    if not isinstance(plan, Plan) or not RUN.fullmatch(plan.run):
        raise LedgerFailed(
            f"The history {name} has no plan{wrong}; copy it again, or move it away to judge "
            "without it."
        )
    cut = None
    if reader.damaged or wrong:
        cut = f"The history {name} is damaged{wrong}; copy it again from the host that wrote it."
    elif not isinstance(entries[-1], Over):
        cut = (
            f"The history {name} has no end: the run was not over when it was written or copied; "
            "judge again when it is."
        )
    return History(path, plan, tuple(entries[1:]), cut)
