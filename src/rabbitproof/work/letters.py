"""Dead letters looked at: what each says of its deaths, which are meant, and where they lie.

Refuses to send any (``deadletter``), and to know flags (``cli``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rabbitproof.amqp import content
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.broker.routes import read_vhost
from rabbitproof.identity import RETRIES_HEADER
from rabbitproof.model import LONGEST_NAME
from rabbitproof.work.hold import Held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.deliveries import Delivery
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.broker.management import Management


@dataclass(frozen=True, slots=True)
class Death:
    """One entry of ``x-death``: a queue in which a message died, and why. Empty: not said."""

    queue: str = ""
    reason: str = ""
    exchange: str = ""
    """To which it had been published before it died there."""
    keys: tuple[str, ...] = ()
    """With which: its routing key, then those of its CC."""
    count: int = 0
    """How often it died there for that reason."""
    began: int = 0
    """When it did so first, seconds since 1970; 0: not known."""

    @property
    def time(self) -> int:
        """When it did so last, seconds since 1970; 0: not known, for the first alone is told."""
        return self.began if self.count == 1 else 0

    @property
    def target(self) -> str:
        """The queue to which a copy may go; empty when what it says can't be a name."""
        return self.queue if len(self.queue.encode()) <= LONGEST_NAME else ""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says of itself."""

    delivery: Delivery
    properties: dict[str, Any]
    last: Death = Death()
    """Its newest death; of an empty queue where it says nothing of one."""
    first: Death = Death()
    """Its oldest."""
    deaths: int = 0
    retries: int = 0

    @property
    def message_id(self) -> str:
        """Its message id as text, empty without."""
        value = self.properties.get("message_id", "")
        return value if isinstance(value, str) else ""

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers as plain values."""
        table = self.properties.get("headers", {})
        pairs = table.items() if isinstance(table, dict) else table
        return {str(key): content.plain(value) for key, value in pairs}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; None and empty: all."""

    reason: str | None = None
    from_queue: str | None = None
    """Where it died last."""
    older_than_s: float | None = None
    """Since the last death. What died more than once in the same way tells the first time alone, so
    it does not fit."""
    headers: tuple[tuple[str, str], ...] = ()

    def fits(self, letter: Letter, now: float) -> bool:
        """Say whether this one is meant; ``now`` is seconds since 1970."""
        last = letter.last
        if self.reason is not None and last.reason != self.reason:
            return False
        if self.from_queue is not None and last.queue != self.from_queue:
            return False
        if self.older_than_s is not None and not (
            last.time and last.time <= now - self.older_than_s
        ):
            return False
        if not self.headers:
            return True
        found = letter.headers
        return all(key in found and _shown(found[key]) == value for key, value in self.headers)


def read_letter(delivery: Delivery) -> Letter:
    """Return what a dead letter says of itself; never fails."""
    properties = content.decode(delivery.header[FLAGS_AT:])
    letter = Letter(delivery, properties)
    headers = letter.headers
    deaths = [_death(one) for one in _list(headers.get("x-death")) if isinstance(one, dict)] or [
        Death()
    ]
    retries = headers.get(RETRIES_HEADER)
    origin = headers.get("x-first-death-queue")
    first = deaths[-1]
    if isinstance(origin, str) and origin:
        # Before 3.13 the entries behind the newest are in no order.
        why = headers.get("x-first-death-reason", first.reason)
        there = [one for one in deaths if one.queue == origin]
        there = [one for one in there if one.reason == why] or there
        first = there[-1] if there else Death(origin)
    return Letter(
        delivery,
        properties,
        last=deaths[0],
        first=first,
        deaths=sum(one.count for one in deaths),
        retries=_number(retries),
    )


def _death(entry: dict[str, Any]) -> Death:
    return Death(
        queue=str(entry.get("queue", "")),
        reason=str(entry.get("reason", "")),
        exchange=str(entry.get("exchange", "")),
        keys=tuple(str(key) for key in _list(entry.get("routing-keys"))),
        count=_number(entry.get("count")),
        began=_number(entry.get("time")),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Queues into which other queues of a vhost dead-letter."""

    queues: dict[str, QueueInfo]
    untold: tuple[str, ...]
    """Queues of which the broker does not tell where their dead letters go."""
    own_key: tuple[str, ...]
    """Queues whose dead letters go to the queue that the message's own routing key names."""


def find(api: Management, vhost: str) -> Found:
    """Find the queues of a vhost that dead letters can come to, over whatever exchanges."""
    model = read_vhost(api, vhost)
    found: set[str] = set()
    untold, own_key = [], []
    for queue in model.queues.values():
        if queue.type == "stream":
            continue
        try:
            exchange, key = queue.exchange, queue.routing_key
        except LookupError:
            untold.append(queue.name)
            continue
        if exchange:
            found |= model.reachable(exchange)
        elif exchange is not None and key is not None:
            found.add(key)
        elif exchange is not None:
            own_key.append(queue.name)
    totals = api.queue_totals(vhost)  # whose counts are newer
    there = {name: totals[name] for name in sorted(found & totals.keys())}
    return Found(there, tuple(sorted(untold)), tuple(sorted(own_key)))


def read(connection: Connection, queue: str, which: Filter, limit: int | None) -> Iterator[Letter]:
    """Read the dead letters of a queue, oldest first, and give all of them back at the end."""
    held = Held(connection, queue)
    count = 0
    try:
        for some in held.read():
            for delivery in some:
                letter = read_letter(delivery)
                if which.fits(letter, time.time()):
                    yield letter
                    count += 1
                    if count == limit:
                        return
    finally:
        if not connection.closed:
            held.give_back()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _shown(value: Any) -> str:
    """Return a header's value as a person would type it."""
    if value is True or value is False:
        return "true" if value else "false"
    return "" if value is None else str(value)
