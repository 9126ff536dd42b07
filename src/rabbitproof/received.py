"""What a window shows of the messages it received: values, and what it asks its inbox for.

Refuses to hold: how messages are kept and found (``work/inbox``) and what they look like
(``view``). All texts are as they came: not safe to show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Sequence

State = Literal["unacked", "acked", "requeued", "rejected", "returned"]
"""What became of one delivery. ``returned``: the connection ended first, so it is in its queue
again and will come once more."""

Verb = Literal["ack", "requeue", "reject"]


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery, whole."""

    number: int
    """The how many-th delivery to this window it is, from 1."""
    arrived: float
    """Seconds since 1970."""
    state: State
    redelivered: bool
    corrupt: bool
    """Its checksum is wrong."""
    foreign: bool
    """It has no identity of ours."""
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    """Those that are set, without the headers."""
    headers: dict[str, Any]
    malformed: bool
    """The properties could not be read."""
    body: bytes | None
    """None when it is no longer kept."""
    size: int
    """Bytes of the body."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a table shows of one delivery."""

    number: int
    arrived: float
    state: State
    message_id: str
    sender: str
    n: str
    text: str
    size: int
    redelivered: bool
    corrupt: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """What was received so far."""

    received: int = 0
    unique: int = 0
    redelivered: int = 0
    duplicates: int = 0
    missing: int | None = 0
    """None while others consume from the queue as well."""
    corrupt: int = 0
    foreign: int = 0
    unacked: int = 0
    acked: int = 0
    requeued: int = 0
    rejected: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """How the connection is."""

    phase: Literal["connected", "broken", "no queue", "closed"]
    text: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """One part of a search."""

    numbers: list[int] = field(default_factory=list)
    """Those that match, ascending."""
    after: int = 0
    """The search has to go on with this number."""


class Inbox(Protocol):
    """What a window asks for. All of it returns at once, also while messages come."""

    def span(self) -> tuple[tuple[int, ...], range]:
        """Return the numbers of what is held: the single ones before, then all of a range."""

    @property
    def changes(self) -> int:
        """A number that is another one when the state of some message changed."""

    @property
    def pressing(self) -> bool:
        """Whether messages wait for their acknowledgement until some others were shown."""

    def shown(self, number: int) -> None:
        """Note that all up to this number are on the screen, or would be if it had the room."""

    def rows(self, numbers: Sequence[int]) -> list[Row | None]:
        """Return what a table shows of these; None for what is no longer held."""

    def message(self, number: int) -> Message | None:
        """Return all of one message; None when it is no longer held."""

    def check(self, query: str) -> str | None:
        """Return what is wrong with a query, a sentence; None when nothing is."""

    def search(self, query: str, start: int, end: int, seconds: float) -> Found:
        """Look at the messages from ``start`` to before ``end``, for about so many seconds."""

    def find(self, query: str, start: int, step: int, seconds: float) -> tuple[int | None, int]:
        """Look for one message from ``start`` on, upwards or downwards.

        Return its number or None, and where to go on; 0 when there is nothing left to look at.
        """

    def clear(self, upto: int) -> None:
        """Forget what is settled, up to this number."""


class Control(Protocol):
    """What a window tells the consumer behind it, and what it reads from it."""

    counts: Counts
    link: Link
    failure: BaseException | None

    @property
    def notes(self) -> deque[str]:
        """Sentences for the window's user, who takes them out."""

    def shown(self, number: int) -> None:
        """Note that all up to this number were shown."""

    def answer(self, verb: Verb, numbers: Sequence[int]) -> None:
        """Answer these messages, those that still wait for it."""
