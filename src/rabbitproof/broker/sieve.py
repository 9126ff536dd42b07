"""Publisher confirms taken out of what a broker sends, and nothing else touched.

Holds: where the frames of one connection begin and end, across reads of any size, from the
broker's first byte on; and what the confirms that were taken out stood for. Refuses to hold: when
they are taken out (``relay.py``), what else the frames mean, and any import outside the standard
library (``script.py`` says why). Pure.

Rules
-----
- What passes is byte for byte what came, in its order, without whole ``basic.ack`` and
  ``basic.nack`` frames (a broker sends these for nothing else than publishes).
- Less than 21 bytes are held back: the beginning of a frame that may be a confirm.
- What is no frame of AMQP 0-9-1 (TLS, another protocol, a wrong end mark, a frame longer than the
  broker announced) ends the reading: everything passes from there on, and ``broken`` says why.

Frames: AMQP 0-9-1, section 4.2.3; the methods: 1.5.1.5 (tune), 1.8.3.13 (ack), nack is RabbitMQ's.
"""

from __future__ import annotations

import struct
from typing import Final

_HEAD: Final = 7
"""Bytes of type, channel and size."""
_SIZE_AT: Final = 3
_END: Final = 0xCE
_METHOD: Final = 1
_TYPES: Final = frozenset({_METHOD, 2, 3, 8})
"""Method, header, body, heartbeat."""
_SIZE: Final = struct.Struct(">I")
_CONFIRM_SIZE: Final = 13
"""Bytes between head and end mark: class, method, delivery tag, flags."""
_ACK: Final = b"\x00\x3c\x00\x50"
_NACK: Final = b"\x00\x3c\x00\x78"
_TAG_AND_FLAGS: Final = struct.Struct(">QB")
_MULTIPLE: Final = 0b01
_TUNE_SIZE: Final = 12
_TUNE: Final = b"\x00\x0a\x00\x1e"
_FRAME_MAX: Final = struct.Struct(">I")
_NO_LIMIT: Final = 1 << 33

Bytes = bytes | memoryview


class Swallowed:
    """What was taken out, of one connection or of many."""

    __slots__ = ("acks", "highest_tag", "messages", "nacks")

    def __init__(self) -> None:
        self.acks = 0
        """Frames."""
        self.nacks = 0
        self.highest_tag = 0
        """On any channel."""
        self.messages = 0
        """At least so many were answered: how many the first of a channel meant is not known."""


class Sieve:
    """Reads what a broker sends on one connection."""

    __slots__ = ("_held", "_left", "_limit", "_settled", "_swallowed", "broken")

    def __init__(self, swallowed: Swallowed) -> None:
        """``swallowed``: where to count."""
        self.broken: str | None = None
        """Why frames are not looked for any more."""
        self._swallowed = swallowed
        self._held = b""
        self._left = 0
        """Bytes of the frame that has begun which are still to come."""
        self._limit = _NO_LIMIT
        self._settled: dict[int, tuple[int, int]] = {}
        """Of each channel: up to which tag all is answered, and how many above it are."""

    @property
    def held(self) -> bytes:
        """What is held back; to be passed on when nothing more comes."""
        return self._held

    def sift(self, data: Bytes, *, swallow: bool) -> Bytes:
        """Return what passes of the bytes that came next."""
        if self.broken is not None:
            return data
        if self._held:
            data = self._held + bytes(data)
            self._held = b""
        count = len(data)
        at = self._left
        if at > count:
            self._left = at - count
            return data
        if at and data[at - 1] != _END:
            self.broken = "a frame has no end mark"
            return data
        kept: list[Bytes] = []
        copied = 0  # up to here it is in `kept`, or was swallowed
        size_of, size_at, end_mark = _SIZE.unpack_from, _SIZE_AT, _END  # the loop is hot
        left = count - at
        while left >= _HEAD:
            (size,) = size_of(data, at + size_at)
            length = size + 8
            kind = data[at]
            if kind not in _TYPES or length > self._limit:
                self.broken = "a frame is too long" if kind in _TYPES else "these are no frames"
                left = 0
                break
            if length <= left and data[at + length - 1] != end_mark:
                self.broken = "a frame has no end mark"
                left = 0
                break
            if size <= _CONFIRM_SIZE and kind == _METHOD and size >= _TUNE_SIZE:
                if length > left:
                    break
                if size == _TUNE_SIZE:
                    self._look_for_limit(data, at)
                elif swallow and self._is_confirm(data, at):
                    kept.append(data[copied:at])
                    copied = at + length
            at += length
            left -= length
        if left > 0:  # the beginning of a frame that may have to be looked at
            self._held = bytes(data[at:])
            self._left = 0
            data = data[:at]
        else:
            self._left = -left
        if not copied:
            return data
        kept.append(data[copied:])
        return b"".join(kept)

    def _look_for_limit(self, data: Bytes, at: int) -> None:
        if data[at + _HEAD : at + 11] == _TUNE:
            (most,) = _FRAME_MAX.unpack_from(data, at + 13)
            self._limit = most or _NO_LIMIT

    def _is_confirm(self, data: Bytes, at: int) -> bool:
        """Say whether there is a confirm, and count it."""
        method = data[at + _HEAD : at + 11]
        if method not in (_ACK, _NACK):
            return False
        tag, flags = _TAG_AND_FLAGS.unpack_from(data, at + 11)
        told = self._swallowed
        if method == _ACK:
            told.acks += 1
        else:
            told.nacks += 1
        told.highest_tag = max(told.highest_tag, tag)
        channel = int.from_bytes(data[at + 1 : at + 3], "big")
        up_to, above = self._settled.get(channel, (tag - 1, 0))
        if not flags & _MULTIPLE:
            told.messages += 1
            above += 1
        elif tag > up_to:
            told.messages += max(0, tag - up_to - above)
            up_to, above = tag, max(0, above - (tag - up_to))
        self._settled[channel] = (up_to, above)
        return True
