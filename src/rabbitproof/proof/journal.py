"""A ledger on disk: one append-only file for each participant, written ahead.

What is about to be published is in the file before the connection gets it, and what was received
is there before its acknowledgement goes out. A frame is written with one ``write(2)``: once that
returns, the kernel has it, and a writer that is killed with -9 at any instant loses at most a
frame that it had not acted on yet. Nothing waits for the disk (``fsync``) before the end, so a
machine that loses its power may lose the last seconds of its ledgers.

A journal is the log of the calls that change a ledger: ``outcomes`` and ``receipts`` give ledgers
that write each call down first, and whoever reads the file makes the same calls again. So what is
read is the ledger, exactly, whatever the ledger learns to count.

Holds: writing. ``record`` reads; ``frames`` knows the bytes. Refuses to know what is lost
(``verdict``) and how a participant works (``work``).
"""

from __future__ import annotations

import os
import struct
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import LedgerFailed, UsageError
from rabbitproof.identity import Source
from rabbitproof.proof.codec import encode
from rabbitproof.proof.entries import End, Happening, Header, Kind, Moment
from rabbitproof.proof.frames import LINE, LONGEST_LIST, LONGEST_RANGE, START, crc_of, frame, pack
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts
from rabbitproof.proof.record import SUFFIX, Record, read
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

_ENTRIES: Final = 1_000
"""Entries kept back at most before they are written without being asked for."""

_Entry = tuple[Kind, bytes, "Sequence[int] | None"]
"""A frame to be: its kind, what its payload begins with, and the numbers behind it."""

SEEN: Final = struct.Struct(">B6sH")
CORRUPT: Final = struct.Struct(">6sHQ")
REJECTED: Final = struct.Struct(">6sH")
COUNT: Final = struct.Struct(">I")


class Journal:
    """Writes one ledger file, from ``with`` to its end. Not for several threads.

    Every method that writes raises ``LedgerFailed`` when the file does not take it (a full
    disk); from then on nothing can be recorded, so nothing may be published or acknowledged.
    """

    __slots__ = ("_at", "_fd", "header", "path")

    def __init__(self, path: Path, header: Header, fd: int, crc: int, frames: int) -> None:
        self.path = path
        self.header = header
        self._fd: int | None = fd
        self._at: tuple[int, int, list[_Entry]] = (crc, frames, [])
        """The last written frame's checksum, how many are written, and what is to follow. All
        in one, so that Ctrl+C, which may come between any two steps, finds it whole."""

    @classmethod
    def create(cls, folder: Path, stem: str, header: Header) -> Self:
        """Begin a new file in ``folder``, which is made if it is missing."""
        path = folder / f"{stem}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        except FileExistsError:
            raise UsageError(
                f"{safe(str(path))} exists already; name another folder with --ledger, or go on "
                "with it with --resume."
            ) from None
        except OSError as error:
            raise _failed(path, error) from None
        _lock(fd, path)
        journal = cls(path, header, fd, START, 0)
        first = frame(START, Kind.HEADER, header.to_json())
        journal._write(LINE + first)
        journal._at = (crc_of(first), 1, [])
        return journal

    @classmethod
    def resume(cls, record: Record, header: Header) -> Self:
        """Go on with the file of a writer that has died; what it did not finish is cut off."""
        path = record.path
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise _failed(path, error) from None
        _lock(fd, path)
        try:
            if os.fstat(fd).st_size < record.size or read(path).size != record.size:
                os.close(fd)
                raise UsageError(f"{safe(str(path))} has changed meanwhile; try again.")
            os.ftruncate(fd, record.size)
        except OSError as error:
            os.close(fd)
            raise _failed(path, error) from None
        journal = cls(path, header, fd, record.crc, record.frames)
        journal._emit(Kind.HEADER, header.to_json())
        journal.flush()
        return journal

    # --- ledgers that are written down ---

    def outcomes(self, known: Outcomes | None = None) -> Outcomes:
        """Return a producer's ledger that this file keeps; ``known``: what it held already."""
        confirms = bool(self.header.options.get("confirms", True))
        return _KeptOutcomes(
            self, known or Outcomes(Source(self.header.run, self.header.producer), confirms)
        )

    def receipts(self) -> QueueReceipts:
        """Return a consumer's ledger that this file keeps."""
        return _KeptQueueReceipts(self)

    # --- a producer's entries ---

    def intent(self, numbers: Sequence[int], *, again: bool = False) -> None:
        """Write that these are about to be published. On disk when it returns."""
        self._numbers(Kind.ATTEMPT, b"\1" if again else b"\0", numbers)
        self.flush()

    def confirmed(self, numbers: Sequence[int]) -> None:
        """Note that the broker took responsibility for these."""
        self._numbers(Kind.CONFIRM, b"", numbers)

    def nacked(self, numbers: Sequence[int]) -> None:
        """Note that the broker refused these."""
        self._numbers(Kind.NACK, b"", numbers)

    def returned(self, numbers: Sequence[int]) -> None:
        """Note that no queue took these."""
        self._numbers(Kind.RETURN, b"", numbers)

    # --- a consumer's entries: on disk after ``flush`` ---

    def seen(
        self, source: Source, numbers: Sequence[int], *, redelivered: bool, again: bool = False
    ) -> None:
        """Note that these came, in this order; ``again`` if somebody had sent them again."""
        head = SEEN.pack(redelivered | again << 1, bytes.fromhex(source.run), source.producer)
        self._numbers(Kind.SEEN, head, numbers)

    def rejected(self, source: Source, numbers: Sequence[int]) -> None:
        """Note that these, which were seen, are refused for good."""
        head = REJECTED.pack(bytes.fromhex(source.run), source.producer)
        self._numbers(Kind.REJECTED, head, numbers)

    def corrupt(self, source: Source, n: int) -> None:
        """Note that a copy with a wrong checksum claims to be this one."""
        self._emit(Kind.CORRUPT, CORRUPT.pack(bytes.fromhex(source.run), source.producer, n))

    def foreign(self, count: int = 1) -> None:
        """Note messages without an identity of ours."""
        self._emit(Kind.FOREIGN, COUNT.pack(count))

    def nameless(self, count: int = 1) -> None:
        """Note messages of ours whose id names nobody."""
        self._emit(Kind.NAMELESS, COUNT.pack(count))

    # --- anybody's ---

    def sample(self, t_ns: int, values: dict[str, Any], clock_ns: int | None = None) -> None:
        """Write figures at a moment, nanoseconds since 1970; ``clock_ns``: as the clock has it."""
        moment = Moment(t_ns=t_ns, values=values, clock_ns=clock_ns)
        self._emit(Kind.SAMPLE, encode(moment))
        self.flush()

    def event(self, t_ns: int, name: str, details: dict[str, Any] | None = None) -> None:
        """Write that something happened."""
        self._emit(Kind.EVENT, encode(Happening(t_ns=t_ns, name=name, details=details or {})))
        self.flush()

    def end(self, end: End) -> None:
        """Write that all is done. This alone waits for the disk."""
        self._emit(Kind.END, encode(end))
        self.flush()
        try:
            if self._fd is not None:
                os.fsync(self._fd)
        except OSError as error:
            raise self._fail(error) from None

    def flush(self) -> None:
        """Have all that was noted in the kernel's hands: it outlives this process now."""
        crc, frames, entries = self._at
        if not entries:
            if self._fd is None:
                raise LedgerFailed
            return
        parts = []
        for kind, head, numbers in entries:
            part = frame(crc, kind, head if numbers is None else head + pack(numbers))
            crc = crc_of(part)
            parts.append(part)
        self._write(parts[0] if len(parts) == 1 else b"".join(parts))
        self._at = (crc, frames + len(parts), [])

    def settle(self) -> None:
        """After Ctrl+C: find out whether it came in the middle of a ``flush``."""
        if self._fd is None:
            return
        _, frames, entries = self._at
        found = read(self.path)
        try:
            os.ftruncate(self._fd, found.size)
        except OSError as error:
            raise self._fail(error) from None
        self._at = (found.crc, found.frames, entries[found.frames - frames :])

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            raise LedgerFailed
        try:
            written = os.write(self._fd, data)
            while written < len(data):  # a disk that is nearly full, or a signal
                written += os.write(self._fd, data[written:])
        except OSError as error:
            raise self._fail(error) from None

    @property
    def failed(self) -> bool:
        """True when nothing can be written any more."""
        return self._fd is None

    def close(self) -> None:
        """Write what is left and close the file. May be called more than once."""
        if self._fd is None:
            return
        try:
            self.flush()
        finally:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- inside ---

    def _numbers(self, kind: Kind, head: bytes, numbers: Sequence[int]) -> None:
        """Note numbers; ranges that go on where the last one of the same kind ended become one."""
        if not numbers:
            return
        entries = self._at[2]
        if isinstance(numbers, range) and numbers.step == 1:
            if entries:
                last_kind, last_head, last = entries[-1]
                if (
                    last_kind == kind
                    and last_head == head
                    and isinstance(last, range)
                    and last.stop == numbers.start
                    and numbers.stop - last.start <= LONGEST_RANGE
                ):
                    entries[-1] = (kind, head, range(last.start, numbers.stop))
                    return
            for at in range(0, len(numbers), LONGEST_RANGE):
                entries.append((kind, head, numbers[at : at + LONGEST_RANGE]))
        else:
            plain = tuple(numbers)
            for at in range(0, len(plain), LONGEST_LIST):
                entries.append((kind, head, plain[at : at + LONGEST_LIST]))
        if len(entries) > _ENTRIES:
            self.flush()

    def _emit(self, kind: Kind, payload: bytes) -> None:
        self._at[2].append((kind, payload, None))
        if len(self._at[2]) > _ENTRIES:
            self.flush()

    def _fail(self, error: OSError) -> LedgerFailed:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        return _failed(self.path, error)


class _KeptOutcomes(Outcomes):
    """A producer's ledger that is written down, each call before it is made."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal, known: Outcomes) -> None:
        super().__init__(**{one.name: getattr(known, one.name) for one in fields(Outcomes)})
        self._journal = journal

    def attempt(self, numbers: Sequence[int], *, again: bool = False) -> None:
        self._journal.intent(numbers, again=again)
        super().attempt(numbers, again=again)

    def confirm(self, numbers: Sequence[int]) -> None:
        self._journal.confirmed(numbers)
        super().confirm(numbers)

    def nack(self, numbers: Sequence[int]) -> None:
        self._journal.nacked(numbers)
        super().nack(numbers)

    def give_back(self, numbers: Sequence[int]) -> None:
        self._journal.returned(numbers)
        super().give_back(numbers)


class _KeptReceipts(Receipts):
    """What one producer had sent, written down, each call before it is made."""

    __slots__ = ("_journal", "_source")

    def __init__(self, journal: Journal, source: Source) -> None:
        super().__init__()
        self._journal = journal
        self._source = source

    def add(self, numbers: Sequence[int], *, redelivered: bool, again: bool = False) -> int:
        self._journal.seen(self._source, numbers, redelivered=redelivered, again=again)
        return super().add(numbers, redelivered=redelivered, again=again)

    def reject(self, numbers: Sequence[int]) -> None:
        self._journal.rejected(self._source, numbers)
        super().reject(numbers)

    def add_corrupt(self, n: int) -> int:
        self._journal.corrupt(self._source, n)
        return super().add_corrupt(n)


class _KeptQueueReceipts(QueueReceipts):
    """All that a consumer received, written down. On disk after the journal's ``flush``."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def of(self, source: Source) -> Receipts:
        receipts = self.by_source.get(source)
        if receipts is None:
            receipts = self.by_source[source] = _KeptReceipts(self._journal, source)
        return receipts

    def add_foreign(self, count: int = 1) -> None:
        self._journal.foreign(count)
        super().add_foreign(count)

    def add_nameless(self, count: int = 1) -> None:
        self._journal.nameless(count)
        super().add_nameless(count)


def _failed(path: Path, error: OSError) -> LedgerFailed:
    return LedgerFailed(
        f"The ledger {safe(str(path))} can't be written ({error.strerror or error}). Nothing was "
        "published or acknowledged that is not in it; make room there or name another folder "
        "with --ledger, then run this again."
    )


def _lock(fd: int, path: Path) -> None:
    """Have this file to ourselves for as long as this process lives, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows: there a lock would keep readers out; process ids have to do
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(
            f"{safe(str(path))} is still being written by a process that lives; wait for its end, "
            "or stop it."
        ) from None
    except OSError:  # some network file systems have no locks
        return
