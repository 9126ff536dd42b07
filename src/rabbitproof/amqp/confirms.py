"""Publisher confirms: from frames to delivery tags, and from tags to message numbers.

A confirm is a ``basic.ack`` or ``basic.nack`` from the broker with the number of a publish on
its channel, counted from 1 (the delivery tag), and a flag ``multiple``: all up to and including
this one. Both kinds of frame have 21 bytes and come by the thousand, so they are read in bulk.

Pure. Refuses to know what an outcome means (``proof``). Oracle in the tests: pamqp.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from rabbitproof.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE: Final = 21
_ROW: Final = struct.Struct(">11sQBB")  # type, channel, size, class, method | tag | flag | end
_ACK: Final = b"\x00\x00\x00\x0d\x00\x3c\x00\x50"  # 13 bytes follow; class 60, method 80
_NACK: Final = b"\x00\x00\x00\x0d\x00\x3c\x00\x78"  # ... method 120
_FRAME_END: Final = 0xCE
_MULTIPLE: Final = 0b01
"""The flag's lowest bit. A nack has a second one, requeue, which RabbitMQ sets in every nack."""


class Confirms(NamedTuple):
    """Confirms of one kind that came one after another on one channel."""

    channel: int
    nack: bool
    up_to: int
    """Every tag up to and including this one is meant; 0 when none was ``multiple``."""
    singles: Sequence[int]
    """Tags above ``up_to`` that are meant one by one, in the order they came."""


def read_confirms(data: bytes, start: int) -> tuple[Confirms | None, int]:
    """Read the confirms of one kind at ``start``, where a frame begins.

    Return them, or None when there is none, and the position behind the last one.
    """
    head = data[start : start + 11]
    kind = head[3:]
    if head[:1] != b"\x01" or (kind not in (_ACK, _NACK)):
        return None, start
    end = start + (len(data) - start) // _SIZE * _SIZE
    tags: list[int] = []
    up_to = 0
    position = start
    for found, tag, flags, mark in _ROW.iter_unpack(memoryview(data)[start:end]):
        if found != head:
            break
        if mark != _FRAME_END:
            msg = "The broker sent a confirm without its end mark; look for a proxy in between."
            raise RemoteProtocolError(msg)
        if tag == 0:  # section 1.8.3.13: zero and multiple means all; no broker says so
            msg = "The broker confirmed tag 0, which no publish has; please report this."
            raise RemoteProtocolError(msg)
        position += _SIZE
        if not flags & _MULTIPLE:
            tags.append(tag)
        elif tag > up_to:
            up_to = tag
    if position == start:
        return None, start
    if up_to:
        tags = [tag for tag in tags if tag > up_to]
    return Confirms(int.from_bytes(head[1:3], "big"), kind == _NACK, up_to, tags), position


class Unconfirmed:
    """The publishes of one channel that the broker has not answered yet.

    Maps delivery tags, which count publishes of a channel, to message numbers, which belong to
    a run. Kept in segments, one for each buffer that was sent, with the time that its messages
    count from, which is given back with them.
    """

    __slots__ = ("_next", "_segments", "_settled", "_waiting")

    def __init__(self) -> None:
        self._segments: deque[tuple[int, Sequence[int], int]] = deque()
        """First tag, message numbers, since when."""
        self._settled: set[int] = set()
        """Tags that were answered by themselves while an earlier one is still open."""
        self._next = 1
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def sent(self, numbers: Sequence[int], since: int) -> None:
        """Note that these messages were published next, in this order.

        ``since`` is any number that is wanted back with them.
        """
        if numbers:
            self._segments.append((self._next, numbers, since))
            self._next += len(numbers)
            self._waiting += len(numbers)

    def settle(self, confirms: Confirms) -> list[tuple[Sequence[int], int]]:
        """Take out what these confirms answer; return message numbers and since when.

        A tag that is not open is ignored when it was answered before, and an error when it
        was never given out.
        """
        highest = max(confirms.singles, default=0)
        if max(confirms.up_to, highest) >= self._next:
            msg = "The broker confirmed a message that was never sent; please report this."
            raise RemoteProtocolError(msg)
        found: list[tuple[Sequence[int], int]] = []
        if confirms.up_to:
            self._settle_up_to(confirms.up_to, found)
        singles = confirms.singles
        if not singles:
            return found
        lowest = self._segments[0][0] if self._segments else self._next
        if singles[0] == lowest and singles[-1] == lowest + len(singles) - 1:
            ordered = range(lowest, lowest + len(singles))
            if all(map(int.__eq__, singles, ordered)):
                # The usual case of confirms one by one: they come in order.
                self._settle_up_to(singles[-1], found)
                return found
        self._settle_singles(singles, found)
        return found

    def left(self) -> list[tuple[Sequence[int], int]]:
        """Return what is still open, in the order of its publishes, as ``settle`` does."""
        left = [
            ([n for tag, n in enumerate(numbers, first) if tag not in self._settled], since)
            for first, numbers, since in self._segments
        ]
        return [(numbers, since) for numbers, since in left if numbers]

    def _settle_up_to(self, tag: int, found: list[tuple[Sequence[int], int]]) -> None:
        segments, settled = self._segments, self._settled
        while segments and segments[0][0] <= tag:
            first, numbers, since = segments.popleft()
            take = min(tag - first + 1, len(numbers))
            taken: Sequence[int] = numbers[:take]
            if settled:
                taken = [n for t, n in enumerate(taken, first) if t not in settled]
                settled.difference_update(range(first, first + take))
            if take < len(numbers):
                segments.appendleft((first + take, numbers[take:], since))
            if taken:
                found.append((taken, since))
                self._waiting -= len(taken)
        self._forget_settled_start()

    def _settle_singles(
        self, singles: Sequence[int], found: list[tuple[Sequence[int], int]]
    ) -> None:
        firsts = [first for first, _, _ in self._segments]
        lowest = firsts[0] if firsts else self._next
        taken: list[int] = []
        of = -1
        for tag in singles:
            if tag < lowest or tag in self._settled:
                continue
            at = bisect_right(firsts, tag) - 1
            first, numbers, since = self._segments[at]
            self._settled.add(tag)
            if at != of:
                of, taken = at, []
                found.append((taken, since))
            taken.append(numbers[tag - first])
            self._waiting -= 1
        self._forget_settled_start()

    def _forget_settled_start(self) -> None:
        """Move the lower end behind the tags that are answered, so that it does not grow."""
        segments, settled = self._segments, self._settled
        while segments and segments[0][0] in settled:
            first, numbers, since = segments.popleft()
            done = next((i for i in range(len(numbers)) if first + i not in settled), len(numbers))
            settled.difference_update(range(first, first + done))
            if done < len(numbers):
                segments.appendleft((first + done, numbers[done:], since))
