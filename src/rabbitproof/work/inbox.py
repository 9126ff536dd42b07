"""The last messages that a window received: bounded, found by number, read only when looked at.

Two bounds: how many messages are kept, and how many bytes they have. What has been shown and
answered goes first. What still waits for an answer by hand stays, because one could not answer it
otherwise; there are never more of those than the prefetch. When they alone fill the room, the
oldest lose their bodies.

One thread adds messages and another one looks at them, so everything here is done under a lock,
briefly. Refuses to know connections (``window``) and what anything looks like (``view``).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.amqp.deliveries import open_head
from rabbitproof.amqp.session import decode_header
from rabbitproof.errors import UsageError
from rabbitproof.identity import identify
from rabbitproof.received import Counts, Found, Message, Row
from rabbitproof.work.inspect import sample
from rabbitproof.work.query import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rabbitproof.amqp.deliveries import Batch, Delivery
    from rabbitproof.identity import Identity
    from rabbitproof.received import State, Verb

ROOM: Final = 64 << 20
"""Bytes of messages that are kept at most, the newest one left out."""
_OVERHEAD: Final = 350
"""Bytes that keeping one message costs beside its own (measured: 330)."""

REDELIVERED, FOREIGN, CORRUPT = 1, 2, 4

_SHORT_BODY: Final = 64 * 1024
"""Bytes of a body that a row is made of: parsing this much takes 0.3 ms at worst."""

Head = bytes | tuple[bytes, bytes, bytes]
"""Frames as ``Batch.heads`` has them, or exchange, routing key and content header."""
_Entry = tuple[float, int, Head, bytes | int]
"""When it arrived, flags, head, and the body or its size."""

_DONE: Final[dict[Verb, State]] = {"ack": "acked", "requeue": "requeued", "reject": "rejected"}


@dataclass(slots=True)
class _Tally:
    """How many deliveries ended how."""

    acked: int = 0
    requeued: int = 0
    rejected: int = 0
    returned: int = 0


class Messages:
    """The messages that one window holds. Numbers count deliveries, from 1."""

    def __init__(self, keep: int, *, by_hand: bool, room: int = ROOM) -> None:
        """``keep`` messages of ``room`` bytes at most; ``by_hand``: a person answers each."""
        self.keep = keep
        self.room = room
        self.by_hand = by_hand
        self._lock = threading.Lock()
        self._entries: deque[_Entry] = deque()
        self._first = 1
        """The number of the first entry."""
        self._end = 1
        """The number that the next one gets."""
        self._bytes = 0
        self._lean = 1
        """All before this number have lost their bodies, if they are still here."""
        self._aside: dict[int, _Entry] = {}
        """Old ones that still wait for an answer."""
        self._shown = 0
        self._settled = 0
        """Without hands: all up to this number were acknowledged, or returned before that."""
        self._open: dict[int, None] = {}
        """With hands: those that wait for an answer, in order."""
        self._marks: dict[int, State] = {}
        """What became of those that were not simply acknowledged."""
        self._tally = _Tally()
        self.changes = 0
        self._pressing_at = 1 << 62

    # --- for the thread that receives ---

    def take(self, batch: Batch, arrived: float, damaged: Iterable[int]) -> None:
        """Add a batch that came at this time (seconds since 1970) with these entries damaged."""
        size = len(batch.bodies)
        flag = REDELIVERED if batch.redelivered else 0
        wrong = set(damaged)
        flags: Iterable[int] = itertools.repeat(flag, size)
        if wrong:
            flags = [flag | CORRUPT if i in wrong else flag for i in range(size)]
        rows = zip(itertools.repeat(arrived, size), flags, batch.heads, batch.bodies, strict=True)
        bulk = sum(map(len, batch.heads)) + sum(map(len, batch.bodies)) + size * _OVERHEAD
        self._add(rows, size, bulk)

    def take_one(self, delivery: Delivery, arrived: float, flags: int) -> None:
        """Add one delivery that came alone."""
        head = (delivery.exchange, delivery.routing_key, delivery.header)
        flags |= REDELIVERED if delivery.redelivered else 0
        entry = (arrived, flags, head, delivery.body)
        self._add((entry,), 1, _weight(entry))

    def _add(self, rows: Iterable[_Entry], size: int, bulk: int) -> None:
        with self._lock:
            self._entries.extend(rows)
            self._bytes += bulk
            if self.by_hand:
                self._open.update(dict.fromkeys(range(self._end, self._end + size)))
            self._end += size
            self._trim()

    def _trim(self) -> None:
        entries = self._entries
        while entries and self._first <= self._shown:
            unshown = self._end - 1 - self._shown
            if len(entries) - unshown <= self.keep and (
                self._bytes <= self.room or len(entries) == 1
            ):
                break
            self._drop_first()
        if self._bytes > self.room:
            self._thin()

    def _drop_first(self) -> None:
        number, entry = self._first, self._entries.popleft()
        self._first += 1
        if number in self._open:
            self._aside[number] = entry
            return
        self._bytes -= _weight(entry)
        if self._marks:
            self._marks.pop(number, None)

    def _thin(self) -> None:
        """Take the bodies of the oldest, as many as have to go; the newest keeps its own."""
        for number, entry in self._aside.items():
            if self._bytes <= self.room:
                return
            self._aside[number] = self._thinner(entry)
        self._lean = max(self._lean, self._first)
        while self._bytes > self.room and self._lean < self._end - 1:
            at = self._lean - self._first
            self._entries[at] = self._thinner(self._entries[at])
            self._lean += 1

    def _thinner(self, entry: _Entry) -> _Entry:
        body = entry[3]
        if isinstance(body, int):
            return entry
        self._bytes -= len(body)
        return (*entry[:3], len(body))

    @property
    def last(self) -> int:
        """The number of the newest one; 0 when there was none."""
        return self._end - 1

    def due(self) -> int:
        """Without hands: return the number up to which everything has been shown."""
        return min(self._shown, self._end - 1)

    def acknowledged(self, upto: int) -> None:
        """Without hands: note that all up to this number were acknowledged."""
        with self._lock:
            self._tally.acked += upto - self._settled
            self._settled = upto
            self.changes += 1

    def press_when(self, unacked: int) -> None:
        """Say so when this many wait to be shown, so that they can be acknowledged."""
        self._pressing_at = unacked

    def waiting(self, numbers: Iterable[int]) -> list[int]:
        """Return those of the numbers that wait for an answer, ascending."""
        with self._lock:
            return sorted(number for number in numbers if number in self._open)

    def all_open_up_to(self, number: int) -> int:
        """Return how many wait for an answer up to this number."""
        with self._lock:
            return sum(1 for each in self._open if each <= number)

    def identities(self, numbers: Sequence[int]) -> list[Identity]:
        """Return which messages of ours these are: those that are whole and still held."""
        with self._lock:
            entries = [entry for n in numbers if (entry := self._entry(n)) is not None]
        found = []
        for _, flags, head, _ in entries:
            properties = None if flags & (FOREIGN | CORRUPT) else _opened(head)[2]
            identity = identify(str((properties.message_id if properties else None) or ""))
            found += [] if identity is None else [identity]
        return found

    def answered(self, numbers: Sequence[int], verb: Verb) -> None:
        """Note what a person decided about these, which waited for it."""
        with self._lock:
            state = _DONE[verb]
            for number in numbers:
                self._settle(number, None if verb == "ack" else state)
            setattr(self._tally, state, getattr(self._tally, state) + len(numbers))
            self._trim()
            self.changes += 1

    def _settle(self, number: int, mark: State | None) -> None:
        self._open.pop(number, None)
        aside = self._aside.pop(number, None)
        if aside is not None:  # older than what is kept: it stayed for its answer alone
            self._bytes -= _weight(aside)
        elif mark is not None:
            self._marks[number] = mark

    def lost(self) -> None:
        """Note that the connection ended: what was not answered is in its queue again."""
        with self._lock:
            if self.by_hand:
                numbers = list(self._open)
            else:
                numbers = list(range(max(self._settled + 1, self._first), self._end))
                self._settled = self._end - 1
            for number in numbers:
                self._settle(number, "returned")
            self._tally.returned += len(numbers)
            self._trim()
            self.changes += 1

    @property
    def unacked(self) -> int:
        """How many were not answered yet."""
        return len(self._open) if self.by_hand else self._end - 1 - self._settled

    def tally(self) -> Counts:
        """Return how many there were and what became of them; the rest is for the ledger."""
        with self._lock:
            return Counts(
                received=self._end - 1,
                unacked=self.unacked,
                acked=self._tally.acked,
                requeued=self._tally.requeued,
                rejected=self._tally.rejected,
                returned=self._tally.returned,
            )

    # --- for the window ---

    def span(self) -> tuple[tuple[int, ...], range]:
        """Return the numbers of what is held: the single ones before, then all of a range."""
        with self._lock:
            return tuple(self._aside), range(self._first, self._end)

    @property
    def pressing(self) -> bool:
        """Whether messages wait for their acknowledgement until some others were shown."""
        return self._end - 1 - self._shown >= self._pressing_at

    def shown(self, number: int) -> None:
        """Note that all up to this number are on the screen, or would be if it had the room."""
        with self._lock:
            self._shown = max(self._shown, number)
            self._trim()

    def _entry(self, number: int) -> _Entry | None:
        at = number - self._first
        if 0 <= at < len(self._entries):
            return self._entries[at]
        return self._aside.get(number)

    def _state(self, number: int) -> State:
        mark = self._marks.get(number)
        if mark is not None:
            return mark
        waits = number in self._open if self.by_hand else number > self._settled
        return "unacked" if waits else "acked"

    def _held(self, number: int) -> tuple[_Entry, State] | None:
        with self._lock:
            entry = self._entry(number)
            return None if entry is None else (entry, self._state(number))

    def rows(self, numbers: Sequence[int]) -> list[Row | None]:
        """Return what a table shows of these; None for what is no longer held."""
        with self._lock:
            held = [(n, self._entry(n), self._state(n)) for n in numbers]
        return [None if entry is None else _row(n, entry, state) for n, entry, state in held]

    def message(self, number: int) -> Message | None:
        """Return all of one message; None when it is no longer held."""
        held = self._held(number)
        return None if held is None else _message(number, *held)

    def check(self, query: str) -> str | None:
        """Return what is wrong with a query, a sentence; None when nothing is."""
        try:
            Query(query)
        except UsageError as error:
            return str(error)
        return None

    def search(self, query: str, start: int, end: int, seconds: float) -> Found:
        """Look at the messages from ``start`` to before ``end``, for about so many seconds."""
        asked, found = Query(query), Found()
        until = time.monotonic() + seconds
        aside, span = self.span()
        for number in aside if start < span.start else ():
            if start <= number < end and self._matches(asked, number):
                found.numbers.append(number)
        number = max(start, span.start)
        while number < end and time.monotonic() < until:
            for each in range(number, min(number + _AT_ONCE, end)):
                if self._matches(asked, each):
                    found.numbers.append(each)
            number = min(number + _AT_ONCE, end)
        return Found(found.numbers, number)

    def find(self, query: str, start: int, step: int, seconds: float) -> tuple[int | None, int]:
        """Look for one message from ``start`` on, upwards or downwards.

        Return its number or None, and where to go on; 0 when there is nothing left to look at.
        """
        asked = Query(query)
        until = time.monotonic() + seconds
        aside, span = self.span()
        numbers = [*aside, *span] if step > 0 else [*reversed(span), *reversed(aside)]
        for number in numbers:
            if number < start if step > 0 else number > start:
                continue
            if self._matches(asked, number):
                return number, 0
            if time.monotonic() >= until:
                return None, number + step
        return None, 0

    def _matches(self, query: Query, number: int) -> bool:
        held = self._held(number)
        if held is None:
            return False
        entry, state = held
        head, body = entry[2], entry[3]
        return query.matches(
            head if isinstance(head, bytes) else b"\xff".join(head),
            b"" if isinstance(body, int) else body,
            lambda: _kinds(entry, state),
            lambda: _row(number, entry, state),
        )

    def clear(self, upto: int) -> None:
        """Forget what is settled, up to this number."""
        with self._lock:
            while self._entries and self._first <= upto:
                self._drop_first()
            self.changes += 1


_AT_ONCE: Final = 16
"""Messages looked at between two looks at the clock."""


def _weight(entry: _Entry) -> int:
    """Return the bytes that keeping an entry costs."""
    head, body = entry[2], entry[3]
    size = len(head) if isinstance(head, bytes) else sum(map(len, head))
    return size + _OVERHEAD + (0 if isinstance(body, int) else len(body))


def _kinds(entry: _Entry, state: State) -> frozenset[str]:
    flags = entry[1]
    names = {REDELIVERED: "redelivered", CORRUPT: "corrupt", FOREIGN: "foreign"}
    return frozenset({state, *(name for bit, name in names.items() if flags & bit)})


def _opened(head: Head) -> tuple[bytes, bytes, Any]:
    exchange, routing_key, header = open_head(head) if isinstance(head, bytes) else head
    return exchange, routing_key, decode_header(header)


def _row(number: int, entry: _Entry, state: State) -> Row:
    arrived, flags, head, body = entry
    _, _, properties = _opened(head)
    headers: dict[str, Any] = (properties.headers if properties else None) or {}
    message_id = str((properties.message_id if properties else None) or "")
    sender = str(headers.get("producer_id") or (properties.app_id if properties else "") or "")
    size, n, text = body if isinstance(body, int) else len(body), "", ""
    if not isinstance(body, int):
        # Of a large body the beginning is shown as it is: to parse it all would take too long.
        shown = sample(number, message_id, body[:_SHORT_BODY], sender)
        n, text = shown.n, shown.text or _beginning(body)
        sender = sender or shown.sender.removeprefix("?")
    if n in ("", "?"):
        identity = identify(message_id.encode("utf-8", "replace"))
        n = "" if identity is None else str(identity.n)
    return Row(
        number=number,
        arrived=arrived,
        state=state,
        message_id=message_id,
        sender=sender,
        n=n,
        text=text,
        size=size,
        redelivered=bool(flags & REDELIVERED),
        corrupt=bool(flags & CORRUPT),
    )


def _beginning(body: bytes) -> str:
    """Return the beginning of a body that has no text of its own to show."""
    return body[:400].decode("utf-8", "backslashreplace")


def _message(number: int, entry: _Entry, state: State) -> Message:
    arrived, flags, head, body = entry
    exchange, routing_key, properties = _opened(head)
    values: dict[str, Any] = {}
    if properties is not None:
        values = {
            name: value
            for name in properties.attributes()
            if name != "headers" and (value := getattr(properties, name)) not in (None, "")
        }
    return Message(
        number=number,
        arrived=arrived,
        state=state,
        redelivered=bool(flags & REDELIVERED),
        corrupt=bool(flags & CORRUPT),
        foreign=bool(flags & FOREIGN),
        exchange=exchange.decode("utf-8", "surrogateescape"),
        routing_key=routing_key.decode("utf-8", "surrogateescape"),
        properties=values,
        headers=dict((properties.headers if properties else None) or {}),
        malformed=properties is None,
        body=None if isinstance(body, int) else body,
        size=body if isinstance(body, int) else len(body),
    )
