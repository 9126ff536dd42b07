"""Publishing messages that exist already, each known by a key, and what became of each.

Mandatory and with confirms: a message is ``confirmed`` only when the broker confirmed it and did
not return it. Until then it is kept here, so that it can be sent again over another connection.

A returned message is recognised by its content. Of two with the same content it does not matter
which of them it was.

A message that the broker will not have (another user's id in it, too large, no such exchange) makes
it close the channel, without a word of which one it was. Then what was in flight is sent again in
smaller and smaller pieces, until one message is alone with the refusal: that one is ``refused``,
with the broker's reason, and all others go on.

What goes straight into a queue goes nowhere else: ``CC`` and ``BCC`` would send it to further ones.

Refuses to decide what is sent and where to, and to reconnect (``audit``, ``deadletter``).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pamqp import commands

from rabbitproof.amqp.confirms import Confirms, Unconfirmed
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.amqp.copies import copy_frames
from rabbitproof.amqp.session import Blocked, Returned, Unblocked
from rabbitproof.errors import AccessRefused, ChannelClosed, NotFound
from rabbitproof.text import safe
from rabbitproof.work.link import check_silence, passes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.session import Event
    from rabbitproof.work.retry import Retry

WINDOW: Final = 10_000
"""Messages in flight at most."""
WINDOW_BYTES: Final = 32 << 20
"""Bytes of them at most: they are kept until they are confirmed. One message always may."""

_ALONE: Final = 64
"""So few that were in flight at a refusal are sent again one by one."""
_PIECES: Final = 8
"""More are sent again in so many pieces."""
_FRAME_OVERHEAD: Final = 20
"""Bytes of a content header's frame beside the properties (AMQP 0-9-1, section 4.2.6.1)."""

_OF_A_KEY: Final = "to topic"
"""In RabbitMQ's refusal where a topic permission, and not the exchange, is in the way."""
_MOST_CLOSED: Final = 1_000
"""Exchanges remembered, so that not every message to one of them costs a channel."""

REROUTING: Final = frozenset({"CC", "BCC"})
"""Headers by which a message would go to further queues."""

Outcome = Literal["confirmed", "nacked", "returned", "refused"]


def without(table: Any, drop: Callable[[str], bool]) -> Any:
    """Return a message's headers, as JSON, but for those whose names are to be dropped."""
    pairs = table.items() if isinstance(table, dict) else table
    kept = [(key, value) for key, value in pairs if not (isinstance(key, str) and drop(key))]
    unique = {key for key, _ in kept if isinstance(key, str)}
    return dict(kept) if len(unique) == len(kept) else [list(pair) for pair in kept]


class Copy(NamedTuple):
    """A message as it is to be published."""

    exchange: bytes
    routing_key: bytes
    properties: bytes
    """Encoded, from their flags on."""
    body: bytes

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.properties) + len(self.body) + 64


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one message."""

    key: int
    copy: Copy
    outcome: Outcome
    reason: str = ""
    """Why it was refused: the broker's words."""


class Sender:
    """Publishes on one connection. Tells ``retry`` of its confirms."""

    def __init__(self, connection: Connection, retry: Retry) -> None:
        self.connection = connection
        self._retry = retry
        self.blocked: str | None = None
        """Why the broker does not take publishes at the moment, if it does not."""
        self.resent = 0
        """Copies that were sent again after a refusal: there may be two of them."""
        self._open: dict[int, Copy] = {}
        """Without an outcome, in the order in which they were sent."""
        self._bytes = 0
        self._again: deque[int] = deque()
        """Those of them that are sent again in pieces, as one of them was refused."""
        self._piece = 0
        """How many of these are in flight at once."""
        self._results: list[Result] = []
        """Known without asking the broker."""
        self._closed_to: dict[bytes, str] = {}
        """Exchange -> why nothing can be sent to it."""
        self._waiting_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self._channel = self.connection.open_channel()
        self.connection.call(self._channel, commands.Confirm.Select())
        self._unconfirmed = Unconfirmed()
        self._returned: set[int] = set()
        self._buffer: list[bytes] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """True when nothing more should be sent now."""
        return (
            bool(self._again)
            or len(self._open) >= WINDOW
            or self._bytes >= WINDOW_BYTES
            or self.connection.backlog >= WINDOW_BYTES
        )

    def send(self, key: int, copy: Copy) -> None:
        """Publish a copy; ``flush`` hands it over. Keys of open messages differ."""
        if why := self._cannot(copy):
            self._results.append(Result(key, copy, "refused", why))
            return
        if not self._open:
            self._waiting_since = time.monotonic()
        self._open[key] = copy
        self._bytes += copy.size
        if self._again:
            self._again.append(key)
        else:
            self._publish(key)

    def _cannot(self, copy: Copy) -> str:
        """Say why a message can't be published at all; nothing when it can."""
        size, most = len(copy.properties) + _FRAME_OVERHEAD, self.connection.frame_max
        if most and size > most:
            return (
                f"its properties and headers take {size:,} bytes, and a frame of this connection "
                f"has {most:,} at most"
            )
        return self._closed_to.get(copy.exchange, "")

    def _publish(self, key: int) -> None:
        copy = self._open[key]
        self._buffer.append(copy_frames(self._channel, *copy, self.connection.frame_max))
        self._unconfirmed.sent((key,), 0)

    def flush(self) -> None:
        """Hand over what was sent."""
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self.connection.send(self._channel, data)

    def settle(self, timeout: float) -> list[Result]:
        """Let at most ``timeout`` seconds pass and return what became known.

        Raises what ``link.check_silence`` does when the broker answers nothing.
        """
        results, self._results = self._results, []
        try:
            self._go_on()
            self.flush()
            for event in self.connection.wait(0 if results else timeout):
                self._take(event, results)
        except ChannelClosed as refusal:
            if passes(refusal) or not self._open:
                raise
            self._find(refusal, results)
        if self._retry.unproven:
            due = bool(self._open) and self.blocked is None
            self._retry.stands(time.monotonic(), due=due)
        if self._open and not results:
            check_silence(
                self.connection, self._retry, self._waiting_since, len(self._open), self.blocked
            )
        return results

    def _go_on(self) -> None:
        """Send the next piece of what is sent again, once the one before has its outcome."""
        if self._again and len(self._again) == len(self._open):
            for _ in range(min(self._piece, len(self._again))):
                self._publish(self._again.popleft())
            self._piece *= 2

    def _find(self, refusal: ChannelClosed, results: list[Result]) -> None:
        """Set the one in flight aside that was refused; if there were several, look for it."""
        waiting = set(self._again)
        flying = [key for key in self._open if key not in waiting]
        self._begin()
        self._waiting_since = time.monotonic()
        if len(flying) == 1:
            key = flying[0]
            copy = self._open.pop(key)
            self._bytes -= copy.size
            results.append(Result(key, copy, "refused", safe(refusal.reply, 300)))
            of_all = isinstance(refusal, NotFound | AccessRefused)
            if of_all and _OF_A_KEY not in refusal.reply and len(self._closed_to) < _MOST_CLOSED:
                self._closed_to[copy.exchange] = safe(refusal.reply, 300)
            self._piece = 1
            return
        self.resent += len(flying)
        self._again.extendleft(reversed(flying))
        self._piece = 1 if len(flying) <= _ALONE else len(flying) // _PIECES

    def left(self) -> dict[int, Copy]:
        """Return what has no outcome yet, in the order it was sent: it is in doubt."""
        return dict(self._open)

    def _take(self, event: Event, results: list[Result]) -> None:
        match event:
            case Confirms():
                self._waiting_since = time.monotonic()
                self._retry.progress()
                for keys, _ in self._unconfirmed.settle(event):
                    results += [self._done(key, nack=event.nack) for key in keys]
            case Returned():
                self._give_back(event)
            case Blocked():
                self.blocked = event.reason or "no reason given"
            case Unblocked():
                self.blocked = None
                self._waiting_since = time.monotonic()

    def _done(self, key: int, *, nack: bool) -> Result:
        copy = self._open.pop(key)
        self._bytes -= copy.size
        if key in self._returned:
            self._returned.discard(key)
            return Result(key, copy, "returned")
        return Result(key, copy, "nacked" if nack else "confirmed")

    def _give_back(self, event: Returned) -> None:
        """Find the message that came back; if none is like it, it may have been any."""
        found = Copy(event.exchange, event.routing_key, event.header[FLAGS_AT:], event.body)
        for key, copy in self._open.items():
            if copy == found and key not in self._returned:
                self._returned.add(key)
                return
        self._returned.update(self._open)
