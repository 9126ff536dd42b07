"""The bytes of a ledger and of a history: checksummed frames, and numbers in few bytes.

Holds: how a frame and what stands in it are written and read. Refuses to hold: files, and what
a frame means for a ledger (``journal``) or for a run (``history``).

::

    file    = line frame*
    line    = "rabbitproof ledger 1" LF                  the format's name and version
            | "rabbitproof history 1" LF
    frame   = length:u32  type:u8  crc:u32  payload      length is the payload's, in bytes
    crc     = CRC-32 of length, type and payload, begun with the crc of the frame before
              (of the first: the CRC-32 of the line)
    numbers = 0  start:u64  count:u32                    start, start + 1, …
            | 1  count:u32  deflate(first:i64, then each number less the one before:i64)

Integers are big-endian. Because each checksum goes on from the one before, a frame that is
missing from the middle is noticed as well as one that was altered.

Pure: bytes in, bytes out. What is read is untrusted: bounded in size, checked in shape.
"""

from __future__ import annotations

import re
import struct
import zlib
from itertools import accumulate
from operator import sub
from typing import TYPE_CHECKING, Final

from rabbitproof.identity import MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from mmap import mmap

FORMAT: Final = 1
"""The version that is written, and the newest that is read."""
LINE: Final = b"rabbitproof ledger %d\n" % FORMAT
HISTORY: Final = b"rabbitproof history %d\n" % FORMAT
"""What a history begins with, instead of ``LINE``."""

_HEAD: Final = struct.Struct(">IBI")
_SUMMED: Final = struct.Struct(">IB")
_RANGE: Final = struct.Struct(">BQI")
_LIST: Final = struct.Struct(">BI")

LONGEST_PAYLOAD: Final = 16 << 20
"""Bytes. Batches take a few hundred; this is far above what is ever written."""
LONGEST_LIST: Final = 1 << 20
"""Numbers in one frame, when they are no range: 8 MiB before deflating."""

LONGEST_RANGE: Final = 1 << 24
"""Numbers in one frame, when they are a range: hundreds of times what ever comes between two
writes. It bounds what a frame of 31 bytes can make of itself."""

_SMALL: Final = 1 << 10
"""Bytes of a list that may be inflated whatever count it says: it makes a thousand times as many at
most, so deflate is made."""

OPTIONAL: Final = 0x80
"""From this type on, a reader that does not know a frame may pass over it."""


Frame = tuple[int, bytes]
"""One whole frame: its kind and its payload."""
START: Final = zlib.crc32(LINE)
"""What the checksum of a ledger's first frame begins with."""


def frame(crc: int, kind: int, payload: bytes) -> bytes:
    """Return the frame that follows one whose checksum is ``crc``."""
    size = len(payload)
    if size > LONGEST_PAYLOAD:
        raise ValueError(f"a frame of {size} bytes is above the format's limit")
    own = zlib.crc32(payload, zlib.crc32(_SUMMED.pack(size, kind), crc))
    return _HEAD.pack(size, kind, own) + payload


def crc_of(frame: bytes) -> int:
    """Return the checksum that stands in a frame."""
    return int.from_bytes(frame[_SUMMED.size : _HEAD.size], "big")


class Reader:
    """Reads the frames of one file up to the last whole one.

    Iterate over it; afterwards ``end`` is where the last whole frame ends, ``crc`` its checksum,
    and ``torn`` or ``damaged`` says what is behind it, if anything is.
    """

    __slots__ = ("_data", "crc", "damaged", "end", "torn")

    def __init__(self, data: bytes | mmap, line: bytes = LINE) -> None:
        """Read ``data``, the whole file; it begins with ``line``."""
        self._data = data
        self.end = len(line)
        self.crc = zlib.crc32(line)
        self.torn = 0
        """Bytes of a last frame that was not written to its end."""
        self.damaged = 0
        """Bytes behind a frame whose checksum is wrong, that frame included."""

    def __iter__(self) -> Iterator[Frame]:
        data, whole, crc32 = self._data, len(self._data), zlib.crc32
        while (at := self.end) < whole:
            start = at + _HEAD.size
            if start > whole:
                self.torn = whole - at
                return
            size, kind, crc = _HEAD.unpack_from(data, at)
            if size > LONGEST_PAYLOAD:
                self._spoiled(whole - at)
                return
            end = start + size
            if end > whole:
                self.torn = whole - at
                return
            payload = data[start:end]
            if crc32(payload, crc32(data[at : at + _SUMMED.size], self.crc)) != crc:
                self._spoiled(whole - at)
                return
            self.end, self.crc = end, crc
            yield kind, payload

    def _spoiled(self, rest: int) -> None:
        # A file that grew and lost its end with the power is filled with zeros.
        if not self._data[self.end :].strip(b"\0"):
            self.torn = rest
        else:
            self.damaged = rest


def version_of(data: bytes | mmap, line: bytes = LINE) -> int | None:
    """Return the version of the format that a file begins with; None when it is no such file."""
    found = re.match(re.escape(line[:-2]) + rb"([0-9]{1,9})\n", data)
    return int(found[1]) if found else None


def pack(numbers: Sequence[int]) -> bytes:
    """Return numbers, in their order, as bytes."""
    if isinstance(numbers, range) and numbers.step == 1:
        return _RANGE.pack(0, numbers.start, len(numbers))
    count = len(numbers)
    if count > LONGEST_LIST:
        raise ValueError(f"{count} numbers in one frame are above the format's limit")
    steps = (numbers[0], *map(sub, numbers[1:], numbers)) if count else ()
    return _LIST.pack(1, count) + zlib.compress(struct.pack(f">{count}q", *steps), 1)


def unpack(data: bytes) -> Sequence[int]:
    """Return what ``pack`` was given. Raise ValueError when these bytes are none of its."""
    try:
        if data[:1] == b"\0":
            _, start, count = _RANGE.unpack(data)
            if count > LONGEST_RANGE:
                raise ValueError("a range of message numbers is longer than the format allows")
            numbers: Sequence[int] = range(start, start + count)
        else:
            numbers = _unpack_list(data)
    except (struct.error, zlib.error):
        raise ValueError("these bytes are no list of message numbers") from None
    if numbers:
        straight = isinstance(numbers, range)
        lowest, highest = (numbers[0], numbers[-1]) if straight else (min(numbers), max(numbers))
        if not 0 < lowest <= highest <= MAX_NUMBER:
            raise ValueError("a message number is outside of what the format allows")
    return numbers


def _unpack_list(data: bytes) -> tuple[int, ...]:
    kind, count = _LIST.unpack_from(data)
    if kind != 1 or count > LONGEST_LIST:
        raise ValueError("these bytes are no list of message numbers")
    if len(data) <= _SMALL:  # nearly all are, and this takes half the time
        raw, whole = zlib.decompress(data[_LIST.size :]), True
    else:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(data[_LIST.size :], 8 * count + 1)
        whole = inflater.eof
    if len(raw) != 8 * count or not whole:
        raise ValueError("a list of message numbers is not as long as it says")
    return tuple(accumulate(struct.unpack(f">{count}q", raw)))
