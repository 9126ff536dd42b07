"""Publishing messages that exist already, each known by a key, and what became of each.

Mandatory and with confirms: a message is ``confirmed`` only when the broker confirmed it and did
not return it. Until then it is kept here, so that it can be sent again over another connection.

A returned message is recognised by its content. Of two with the same content it does not matter
which of them it was.

What goes straight into a queue goes nowhere else: ``CC`` and ``BCC`` would send it to further ones.

Refuses to decide what is sent and where to, and to reconnect (``audit``, ``deadletter``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pamqp import commands

from rabbitproof.amqp.confirms import Confirms, Unconfirmed
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.amqp.copies import copy_frames
from rabbitproof.amqp.session import Blocked, Returned, Unblocked
from rabbitproof.work.link import check_silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.session import Event
    from rabbitproof.work.retry import Retry

WINDOW: Final = 10_000
"""Messages in flight at most."""
WINDOW_BYTES: Final = 32 << 20
"""Bytes of them at most: they are kept until they are confirmed. One message always may."""

REROUTING: Final = frozenset({"CC", "BCC"})
"""Headers by which a message would go to further queues."""

Outcome = Literal["confirmed", "nacked", "returned"]


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


class Sender:
    """One channel to publish on. Tells ``retry`` of its confirms."""

    def __init__(self, connection: Connection, retry: Retry) -> None:
        self.connection = connection
        self._retry = retry
        self.blocked: str | None = None
        """Why the broker does not take publishes at the moment, if it does not."""
        self._channel = connection.open_channel()
        connection.call(self._channel, commands.Confirm.Select())
        self._unconfirmed = Unconfirmed()
        self._open: dict[int, Copy] = {}
        self._bytes = 0
        self._returned: set[int] = set()
        self._buffer: list[bytes] = []
        self._waiting_since = 0.0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """True when nothing more should be sent now."""
        return (
            len(self._open) >= WINDOW
            or self._bytes >= WINDOW_BYTES
            or self.connection.backlog >= WINDOW_BYTES
        )

    def send(self, key: int, copy: Copy) -> None:
        """Publish a copy; ``flush`` hands it over. Keys of open messages differ."""
        if not self._open:
            self._waiting_since = time.monotonic()
        self._open[key] = copy
        self._bytes += copy.size
        self._buffer.append(copy_frames(self._channel, *copy, self.connection.frame_max))
        self._unconfirmed.sent((key,), 0)

    def flush(self) -> None:
        """Hand over what was sent."""
        if self._buffer:
            self.connection.send(self._channel, b"".join(self._buffer))
            self._buffer.clear()

    def settle(self, timeout: float) -> list[Result]:
        """Let at most ``timeout`` seconds pass and return what became known.

        Raises what ``link.check_silence`` does when the broker answers nothing.
        """
        self.flush()
        results: list[Result] = []
        for event in self.connection.wait(timeout):
            self._take(event, results)
        if self._retry.unproven:
            due = bool(self._open) and self.blocked is None
            self._retry.stands(time.monotonic(), due=due)
        if self._open and not results:
            check_silence(
                self.connection, self._retry, self._waiting_since, len(self._open), self.blocked
            )
        return results

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
