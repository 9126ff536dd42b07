"""A ledger file, read as docs/journal.md says and with nothing of ours: no import from the product.

Holds: the frames, and the sets that they make. Refuses to hold: any judgement.
A file may be read on while its writer goes on with it.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

LINE = b"rabbitproof ledger 1\n"

HEADER, ATTEMPT, CONFIRM, NACK, RETURN, SEEN, END = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
EVENT = 0x82

Source = tuple[str, int]
"""Run and producer."""


class Ledger:
    """What one file says so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.ended = False
        self.attempted: set[int] = set()
        self.acked: set[int] = set()
        self.refused: set[int] = set()
        self.returned: set[int] = set()
        self.seen: dict[Source, set[int]] = {}
        self.copies = 0
        """Received whole, whatever came twice."""
        self.events: list[dict[str, Any]] = []
        self._at = 0
        self._crc = 0
        self._rest = b""

    @property
    def confirmed(self) -> set[int]:
        return self.acked - self.returned

    @property
    def in_flight(self) -> int:
        return len(self.attempted - self.acked - self.refused)

    @property
    def source(self) -> Source:
        return self.header["run"], self.header["producer"]

    def read_on(self) -> list[int]:
        """Take the whole frames that came since the last time; return their types."""
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        at, types = 0, []
        if self._at == 0:
            if len(data) < len(LINE):
                return []
            assert data.startswith(LINE), f"{self.path} is no ledger"
            at, self._crc = len(LINE), zlib.crc32(LINE)
        while len(data) - at >= 9:
            length, kind, crc = struct.unpack_from(">IBI", data, at)
            end = at + 9 + length
            if len(data) < end:
                break  # torn, or not written to its end yet
            payload = data[at + 9 : end]
            computed = zlib.crc32(payload, zlib.crc32(data[at : at + 5], self._crc))
            if computed != crc:
                assert not data[at:].strip(b"\0"), f"{self.path} is damaged at {self._at + at}"
                break
            self._crc = crc
            self._apply(kind, payload)
            types.append(kind)
            at = end
        self._at += at
        return types

    def _apply(self, kind: int, payload: bytes) -> None:
        if kind == HEADER:
            self.header = json.loads(payload)
        elif kind == ATTEMPT:
            numbers = set(_numbers(payload[1:]))
            self.attempted |= numbers
            if payload[0] & 1:
                self.acked -= self.returned & numbers
                self.returned -= numbers
        elif kind == CONFIRM:
            self.acked |= set(_numbers(payload))
        elif kind == NACK:
            self.refused |= set(_numbers(payload))
        elif kind == RETURN:
            self.returned |= set(_numbers(payload))
        elif kind == SEEN:
            source = payload[1:7].hex(), int.from_bytes(payload[7:9])
            numbers = _numbers(payload[9:])
            self.copies += len(numbers)
            self.seen.setdefault(source, set()).update(numbers)
        elif kind == EVENT:
            self.events.append(json.loads(payload))
        elif kind == END:
            self.ended = True


def _numbers(data: bytes) -> range | list[int]:
    if data[0] == 0:
        start, count = struct.unpack(">QI", data[1:])
        return range(start, start + count)
    (count,) = struct.unpack_from(">I", data, 1)
    steps = struct.unpack(f">{count}q", zlib.decompress(data[5:]))
    numbers, last = [], 0
    for step in steps:
        last += step
        numbers.append(last)
    return numbers


def read(path: Path) -> Ledger:
    """Read a file to its end."""
    ledger = Ledger(path)
    ledger.read_on()
    return ledger
