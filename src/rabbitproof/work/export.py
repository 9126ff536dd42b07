"""An export: messages in a file, and out of it again.

JSON lines, as plain text, gzip (``.gz``) or zstd (``.zst``) by the file's name. The first line
says what the file is, the last one how many messages there are and their checksum: without it the
file was cut. Each line between is one message (``export_lines``):

    {"exchange": …, "routing_key": …, "properties": {…}, "body": text}

``body_base64`` stands for a body that is not UTF-8; ``replayed`` for the mark of a replay. What
belongs to one delivery and not to the message (redelivered, delivery count, a stream's offset) is
left out, so the same messages make the same bytes. ``docs/audit.md`` describes it for others.

Refuses to know brokers.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import os
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import zstandard

from rabbitproof.amqp import content
from rabbitproof.errors import ExportBroken, UsageError
from rabbitproof.text import safe
from rabbitproof.work.export_lines import BARE_MARK_HEADER, MARK_HEADER, Lines, dump
from rabbitproof.work.resend import REROUTING, Copy, without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rabbitproof.amqp.deliveries import Batch, Delivery
    from rabbitproof.work.export_lines import Record

HEAD: Final = b'{"rabbitproof":"export","version":1}\n'
_LONGEST_LINE: Final = 700 << 20
"""Bytes. A message may have 512 MiB at most (RabbitMQ's highest max_message_size), 683 in base64,
as what is so large is written; its properties, one frame, take some hundred kB."""
_READ_SIZE: Final = 1 << 20
_UNITS: Final = (1, 10**3, 10**6, 10**9)
"""Of a timestamp, a second."""
_LAST_S: Final = 10**11
"""Later seconds since 1970 (the year 5138) are meant in another unit."""


def copy_of(record: Record, at_ns: int, *, exchange: bytes | None, key: bytes | None) -> Copy:
    """Return a record as a publish with the mark of a replay; ``exchange`` and ``key`` replace
    its own. Raise ValueError for what is no record.

    With a ``key`` of ours it goes to that place alone: CC and BCC are taken out.
    """
    properties = record["properties"]
    if "raw" not in properties:  # else there is no table to put the mark into
        table = properties.get("headers")
        if key is not None and table is not None:
            table = without(table, REROUTING.__contains__)
        name = BARE_MARK_HEADER if table is None else MARK_HEADER
        if table is None or isinstance(table, dict):
            table = {**(table or {}), name: {"l": at_ns}}
        else:
            table = [*table, [name, {"l": at_ns}]]
        properties = {**properties, "headers": table}
    return Copy(
        content.bytes_of(record["exchange"]) if exchange is None else exchange,
        content.bytes_of(record["routing_key"]) if key is None else key,
        content.encode(properties),
        body_of(record),
    )


def body_of(record: Record) -> bytes:
    """Return a record's body."""
    text = record.get("body")
    if text is not None:
        body: bytes = text.encode()
        return body
    return base64.b64decode(record["body_base64"], validate=True)


def names_of(record: Record) -> set[str]:
    """Return the names of a record's headers."""
    table = record["properties"].get("headers") or {}
    keys = table if isinstance(table, dict) else [key for key, _ in table]
    return {key for key in keys if isinstance(key, str)}


def sent_at(record: Record) -> float | None:
    """Return when a message was sent, seconds since 1970, as it says itself."""
    properties = record["properties"]
    table = properties.get("headers")
    if isinstance(table, dict):
        sent = table.get("sent_ns")
        if isinstance(sent, dict) and isinstance(sent.get("l"), int):
            return float(sent["l"]) / 1e9
    stamp = properties.get("timestamp")
    if not isinstance(stamp, int) or not 0 < stamp < 1 << 63:
        return None  # zero is what is not set; one before 1970 wraps around
    # By AMQP it is seconds, and many write milliseconds, microseconds or nanoseconds: as seconds
    # these are no dates.
    return next((stamp / unit for unit in _UNITS if stamp / unit <= _LAST_S), None)


class Writer:
    """Writes an export. Without ``end`` it counts as cut, whatever ended it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.messages = 0
        self._crc = zlib.crc32(HEAD)
        self._lines = Lines()
        file.write(HEAD)

    def write(self, some: Iterable[Batch | Delivery]) -> None:
        """Write messages."""
        lines = list(self._lines.of(some))
        if not lines:
            return
        self.messages += len(lines)
        data = b"".join(lines)
        self._crc = zlib.crc32(data, self._crc)
        self._file.write(data)

    def end(self) -> None:
        """Say that this is all."""
        end = {"end": {"messages": self.messages, "crc32": f"{self._crc:08x}"}}
        self._file.write((dump(end) + "\n").encode())


@contextmanager
def create(path: Path, *, replace: bool = False) -> Iterator[Writer]:
    """Write a new file. The end mark is put behind it only when the block ends well.

    It has all bodies, so only its owner may read it.
    """
    try:
        raw: IO[bytes] = open(path, "wb" if replace else "xb", opener=_for_its_owner)  # noqa: SIM115 - a path's has no opener; closed below
    except FileExistsError:
        raise UsageError(
            f"{safe(str(path))} exists; name another file, or say --replace."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{safe(str(path))} can't be written ({error.strerror}); name another file."
        ) from None
    with raw, _packed(raw, path.name) as file:
        writer = Writer(file)
        yield writer
        writer.end()


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _packed(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    if name.endswith(".gz"):
        # No name and no time in it, so that the same messages make the same file.
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as zipped:
            yield zipped  # type: ignore[misc]  # it writes as a file does
    elif name.endswith(".zst"):
        with zstandard.ZstdCompressor(3).stream_writer(raw, closefd=False) as compressed:
            yield compressed
    else:
        yield raw


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield a file's lines unpacked. Raise ExportBroken where they end too early."""
    try:
        with path.open("rb", buffering=0) as raw:
            if path.name.endswith(".gz"):
                yield from _lines(gzip.GzipFile("", "rb", fileobj=raw), path)
            elif path.name.endswith(".zst"):
                yield from _lines(zstandard.ZstdDecompressor().stream_reader(raw), path)
            else:
                yield from _lines(raw, path)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise ExportBroken(_cut(path, f"it is no whole gzip file: {error}")) from None
        raise UsageError(
            f"{safe(str(path))} can't be read ({error.strerror}); name another file."
        ) from None
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ExportBroken(_cut(path, safe(str(error)))) from None


def _lines(file: Any, path: Path) -> Iterator[bytes]:
    with io.BufferedReader(file, _READ_SIZE) as lines:
        # What begins otherwise is no export, however long its first line is.
        if head := lines.readline(len(HEAD)):
            yield head.removesuffix(b"\n")
        while line := lines.readline(_LONGEST_LINE + 1):
            if len(line) > _LONGEST_LINE:
                raise ExportBroken(
                    f"{safe(str(path))} has a line of more than {_LONGEST_LINE >> 20} MiB, and no "
                    "message makes one so long: it is no export, or was changed; export again."
                )
            yield line.removesuffix(b"\n")


def check(path: Path) -> int:
    """Return how many messages a whole export has. Raise ExportBroken unless it is one."""
    crc, count, end = 0, 0, None
    for line in lines_of(path):
        if end is not None:
            raise ExportBroken(_cut(path, "something follows its last line"))
        if not count and line + b"\n" != HEAD:
            raise ExportBroken(
                f"{safe(str(path))} is no export of this program (its first line is "
                f"{safe(line, 60) or 'empty'}); name one that `audit export` wrote."
            )
        if line.startswith(b'{"end":'):
            end = _end(line)
        else:
            crc = zlib.crc32(b"\n", zlib.crc32(line, crc))
            count += 1
    messages = max(count - 1, 0)
    if end is None:
        raise ExportBroken(_cut(path, f"it has no last line; {messages} messages came before"))
    if end != {"messages": messages, "crc32": f"{crc:08x}"}:
        raise ExportBroken(
            f"{safe(str(path))} was changed: it does not have the messages that its last line "
            "says; export again."
        )
    return messages


def records(path: Path, *, cut: bool = False) -> Iterator[Record]:
    """Yield the messages of an export; with ``cut``, those before the place where it was cut."""
    lines = lines_of(path)
    number = 1
    try:
        next(lines, None)
        for line in lines:
            number += 1
            if line.startswith(b'{"end":'):
                return
            yield _record(line, path, number)
    except ExportBroken:
        if not cut:
            raise


def _record(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
        ok = isinstance(record["properties"], dict) and "exchange" in record
        ok = ok and isinstance(record.get("body", record.get("body_base64")), str)
        if ok and "routing_key" in record:
            return dict(record)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ExportBroken(_cut(path, f"line {number} is no message"))


def _end(line: bytes) -> Any:
    try:
        return json.loads(line)["end"]
    except (ValueError, KeyError, TypeError):
        return None


def checked_copy(record: Record, at_ns: int, exchange: bytes | None, key: bytes | None) -> Copy:
    """Do as ``copy_of``; raise ExportBroken for what is no message."""
    try:
        return copy_of(record, at_ns, exchange=exchange, key=key)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ExportBroken(
            f"A line of the export is no message ({safe(str(error))}); export again."
        ) from None


def _cut(path: Path, why: str) -> str:
    return (
        f"{safe(str(path))} is not whole ({why}); it was cut or its export did not end. Export "
        "again, or take what there is with --allow-cut."
    )
