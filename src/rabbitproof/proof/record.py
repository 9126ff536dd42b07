"""A ledger file read again: the same ledger, up to the file's last whole frame.

Holds: reading. Refuses to hold: writing (``journal``), judging (``verdict``). A file is read as it
is, also while it is written, from a copy, or from a read-only folder.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import LedgerEmpty, LedgerFailed
from rabbitproof.identity import MAX_NUMBER, MAX_PRODUCER, Source
from rabbitproof.proof import frames
from rabbitproof.proof.codec import decode
from rabbitproof.proof.entries import End, Happening, Header, Kind, Moment
from rabbitproof.proof.ledger import Outcomes, QueueReceipts
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rabbitproof.proof.ledger import Receipts

SUFFIX: Final = ".ledger"
"""Files in a folder that end in this are ledgers; others are left alone."""

_WAIT: Final = 1 << 16
"""Numbers that wait at most for being put into the receipts together: some 2 MiB."""
_MANY: Final = 100
"""Numbers of a frame that do not wait: a call for so many is worth it, and a range stays one."""

_SEEN: Final = struct.Struct(">B6sH")
_CORRUPT: Final = struct.Struct(">6sHQ")
_REJECTED: Final = struct.Struct(">6sH")
_COUNT: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Record:
    """What one file holds."""

    path: Path
    header: Header
    """Of the process that wrote last."""
    outcomes: Outcomes | None
    """A producer's ledger."""
    receipts: QueueReceipts | None
    """A consumer's ledger."""
    samples: tuple[Moment, ...] = ()
    events: tuple[Happening, ...] = ()
    torn: str | None = None
    """A sentence, when the file does not end with a whole frame."""
    damaged: str | None = None
    """A sentence, when a frame is not as it was written: what is behind it is not known."""
    end: End | None = field(default=None, hash=False)
    """It did all it was asked, or was stopped in good order. None: it died, or still runs."""
    size: int = 0
    """Bytes up to the end of the last whole frame."""
    crc: int = 0
    """The checksum of the last whole frame."""
    frames: int = 0
    clock_ns: int | None = None
    """The latest time that the host's own clock had in it; None where nobody wrote it down."""
    passes: tuple[int, ...] = ()
    """How many messages came over each of a consumer's connections."""
    first: Header | None = None
    """Of the process that wrote first; the same as ``header`` unless it was resumed."""

    @property
    def ended(self) -> bool:
        """Whether it has an end."""
        return self.end is not None

    @property
    def last_ns(self) -> int:
        """The latest time in it: of its end, an event, a sample, or its beginning."""
        times = [self.header.started_ns]
        times += [moment.t_ns for moment in self.samples[-1:]]
        times += [event.t_ns for event in self.events[-1:]]
        times += [self.end.t_ns] if self.end is not None else []
        return max(times)


def mark(path: Path) -> tuple[int, int]:
    """Return where the last whole frame of a file ends, and its checksum: what tells later
    whether a copy of it is whole. Raise OSError when it can't be read.
    """
    with contents(path) as data:
        reader = frames.Reader(data)
        for _ in reader:
            pass
        return reader.end, reader.crc


def begins_with(longer: Record, shorter: Record) -> bool:
    """Say whether a file begins with all the whole frames of another one.

    Each checksum goes on from the one before, so the last one speaks for all. Raise OSError when
    the file can't be read.
    """
    with contents(longer.path) as data:
        reader = frames.Reader(data)
        for _ in reader:
            if reader.end >= shorter.size:
                break
        return (reader.end, reader.crc) == (shorter.size, shorter.crc)


def read(path: Path) -> Record:
    """Read one file. Raise LedgerFailed with a sentence when it is none that can be read."""
    name = safe(str(path))
    try:
        with contents(path) as data:
            return _understand(path, name, data)
    except OSError as error:
        raise LedgerFailed(
            f"The ledger {name} can't be read ({error.strerror or error}); check who may read it."
        ) from None


@contextlib.contextmanager
def contents(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Give a file's bytes, in memory that the system has back afterwards.

    A producer that goes on with the ledger of a million messages would otherwise keep tens of
    megabytes to its end: what is freed within the heap mostly stays there. The file itself is not
    mapped, because whoever shortens it meanwhile would end this process.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            yield b""
            return
        with mmap.mmap(-1, size) as data:
            read = file.readinto(data)
            yield data if read == size else data[:read]


def _understand(path: Path, name: str, data: bytes | mmap.mmap) -> Record:
    version = frames.version_of(data)
    if version is None:
        if frames.LINE.startswith(data[: len(frames.LINE)]):
            raise LedgerEmpty(
                f"The ledger {name} is empty: whoever began it ended before anything was "
                "recorded, or the copy was cut off; copy it again."
            )
        raise LedgerFailed(
            f"{name} is no ledger of rabbitproof; move it out of the folder, or rename it so that "
            f"it does not end in {SUFFIX}."
        )
    if version > frames.FORMAT or version < 1:
        raise LedgerFailed(
            f"The ledger {name} has version {version} of the format, and this rabbitproof reads "
            f"versions up to {frames.FORMAT}; install a newer rabbitproof."
        )
    return _Reading(path).all(data)


def files(folders: Iterable[Path]) -> list[Path]:
    """Return the ledger files of these folders, by name. Raise LedgerFailed for what is none."""
    found: list[Path] = []
    for folder in folders:
        try:
            found += sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
        except OSError as error:
            raise LedgerFailed(
                f"The folder {safe(str(folder))} can't be read ({error.strerror or error}); name "
                "the one that was given with --ledger."
            ) from None
    return found


class _Reading:
    """Makes the calls that a file remembers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: Header | None = None
        self._first: Header | None = None
        self._outcomes: Outcomes | None = None
        self._receipts: QueueReceipts | None = None
        self._samples: list[Moment] = []
        self._events: list[Happening] = []
        self._end: End | None = None
        self._passes: list[int] = [0]
        self._clock: int | None = None
        self._waiting: dict[bytes, tuple[Receipts, list[int]]] = {}
        """What came of a producer, by the head of its frames, and is not in the receipts yet: of
        some numbers a frame, a call for each frame costs more than all else."""
        self._waits = 0

    def all(self, data: bytes | mmap.mmap) -> Record:
        name = safe(str(self._path))
        reader = frames.Reader(data)
        whole, crc, count = len(frames.LINE), reader.crc, 0
        wrong = ""
        for frame in reader:
            try:
                self._apply(frame)
            except (ValueError, struct.error) as error:
                wrong = str(error)
                break
            whole, crc, count = reader.end, reader.crc, count + 1
        self._settle()
        torn = damaged = None
        if reader.torn:
            torn = (
                f"{name} ends in the middle of a frame: {reader.torn} bytes behind the last whole "
                "one are left out. Its writer was ended just then, or the file was copied just "
                "then."
            )
        if reader.damaged or wrong:
            why = f" ({wrong})" if wrong else ""
            damaged = (
                f"{name} is damaged at byte {whole}{why}: what comes after it is not known; "
                "copy the file again from the host that wrote it."
            )
        if self._header is None:
            if damaged:
                raise LedgerFailed(f"The ledger {damaged}")
            raise LedgerEmpty(
                f"The ledger {name} ends before it says who wrote it: its writer ended before "
                "anything was recorded, or the copy was cut off; copy it again."
            )
        return Record(
            path=self._path,
            header=self._header,
            outcomes=self._outcomes,
            receipts=self._receipts,
            samples=tuple(self._samples),
            events=tuple(self._events),
            torn=torn,
            damaged=damaged,
            end=self._end,
            size=whole,
            crc=crc,
            frames=count,
            passes=tuple(self._passes),
            clock_ns=self._clock,
            first=self._first,
        )

    def _apply(self, frame: frames.Frame) -> None:  # one branch for each kind of frame
        kind, payload = frame
        if self._header is None and kind != Kind.HEADER:
            raise ValueError("the first frame is no header")
        match kind:
            case Kind.SEEN:
                self._seen(payload)
            case Kind.HEADER:
                self._begin(Header.from_json(payload))
            case Kind.ATTEMPT | Kind.CONFIRM | Kind.NACK | Kind.RETURN:
                self._produced(kind, payload)
            case Kind.CORRUPT | Kind.FOREIGN | Kind.NAMELESS | Kind.REJECTED:
                self._consumed(kind, payload)
            case Kind.END:
                self._end = decode(payload, End)
                self._note_clock(self._end.clock_ns)
            case Kind.SAMPLE:
                moment: Moment = decode(payload, Moment)
                self._note_clock(moment.clock_ns)
                self._samples.append(moment)
            case Kind.EVENT:
                event: Happening = decode(payload, Happening)
                self._events.append(event)
                if event.name == "connected":
                    self._passes.append(0)
            case _ if kind < frames.OPTIONAL:
                raise ValueError(f"a frame of the unknown kind {kind}")

    def _note_clock(self, clock: int | None) -> None:
        if clock is not None:
            self._clock = max(clock, self._clock or clock)

    def _begin(self, header: Header) -> None:
        if self._header is None:
            self._first = header
            if header.kind == "producer":
                confirms = bool(header.options.get("confirms", True))
                self._outcomes = Outcomes(Source(header.run, header.producer), confirms=confirms)
            else:
                self._receipts = QueueReceipts()
        elif (header.kind, header.run, header.producer) != (
            self._header.kind,
            self._header.run,
            self._header.producer,
        ):
            raise ValueError("a header of another participant")
        self._header = header
        self._end = None

    def _produced(self, kind: int, payload: bytes) -> None:
        outcomes = self._outcomes
        if outcomes is None:
            raise ValueError("a producer's frame in a consumer's ledger")
        match kind:
            case Kind.ATTEMPT:
                outcomes.attempt(frames.unpack(payload[1:]), again=bool(payload[0] & 1))
            case Kind.CONFIRM:
                outcomes.confirm(frames.unpack(payload))
            case Kind.NACK:
                outcomes.nack(frames.unpack(payload))
            case _:
                outcomes.give_back(frames.unpack(payload))

    def _consumed(self, kind: int, payload: bytes) -> None:
        receipts = self._receipts
        if receipts is None:
            raise ValueError("a consumer's frame in a producer's ledger")
        match kind:
            case Kind.REJECTED:
                self._settle()
                run, producer = _REJECTED.unpack_from(payload)
                receipts.of(_source(run, producer)).reject(frames.unpack(payload[_REJECTED.size :]))
            case Kind.CORRUPT:
                run, producer, n = _CORRUPT.unpack(payload)
                if not 0 < n <= MAX_NUMBER:
                    raise ValueError("a message number is outside of what the format allows")
                self._passes[-1] += 1
                receipts.of(_source(run, producer)).add_corrupt(n)
            case _:
                count = _small(payload)
                self._passes[-1] += count
                (receipts.add_foreign if kind == Kind.FOREIGN else receipts.add_nameless)(count)

    def _seen(self, payload: bytes) -> None:
        numbers = frames.unpack(payload[_SEEN.size :])
        head, count = payload[: _SEEN.size], len(numbers)
        flagged, alone = head[0] & 1 == 1, head[0] > 1
        known = self._waiting.get(head)
        if known is None:
            if self._receipts is None:
                raise ValueError("a consumer's frame in a producer's ledger")
            _, run, producer = _SEEN.unpack(head)
            known = self._receipts.of(_source(run, producer)), []
            if not alone:
                self._waiting[head] = known
        receipts, waiting = known
        self._passes[-1] += count
        if alone:
            self._settle()
            receipts.add(numbers, redelivered=flagged, again=head[0] & 2 == 2)
            return
        if waiting and numbers and (count > _MANY or not numbers[0] > waiting[-1] < numbers[-1]):
            receipts.add(waiting, redelivered=flagged)
            waiting.clear()
        if count > _MANY:
            receipts.add(numbers, redelivered=flagged)
            return
        waiting.extend(numbers)
        self._waits += count
        if self._waits > _WAIT:
            self._settle()

    def _settle(self) -> None:
        """Tell the receipts what waits.

        Of copies that the broker flags and of those that it does not, either may come first. What
        somebody sent again may not: its order says nothing, and it is known before what follows.
        """
        for head, (receipts, numbers) in self._waiting.items():
            receipts.add(numbers, redelivered=head[0] == 1)
        self._waiting.clear()
        self._waits = 0


def _source(run: bytes, producer: int) -> Source:
    if not 0 < producer <= MAX_PRODUCER:
        raise ValueError("a frame names no producer")
    return Source(run.hex(), producer)


def _small(payload: bytes) -> int:
    count = int(_COUNT.unpack(payload)[0])
    if count > frames.LONGEST_LIST:
        raise ValueError("a count is outside of what the format allows")
    return count
