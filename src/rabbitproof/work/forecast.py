"""Which queues would get copies of messages that are sent again, before one is sent.

Refuses to know how a vhost is read (``broker``) and by what rules it routes (``routing``).
"""

from __future__ import annotations

import base64
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.amqp import content
from rabbitproof.matching import Timestamp

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rabbitproof.routing import Routes, Vhost
    from rabbitproof.work.resend import Copy


_MOST: Final = 10_000
"""Answers that are kept."""


class Forecast:
    """Counts where copies would go. The counters are of copies and may be read at any time."""

    def __init__(self, vhost: Vhost) -> None:
        self._vhost = vhost
        self._by_headers = any(one.type == "headers" for one in vhost.exchanges.values())
        self._known: dict[Hashable, Routes] = {}
        self.queues: Counter[tuple[str, str]] = Counter()
        """By queue, and by the header (CC, BCC) that leads there; "" for the routing key."""
        self.nowhere = 0
        """No queue takes them: they would come back."""
        self.refused: Counter[str] = Counter()
        """By why the broker would close the channel, a clause."""
        self.unknown: Counter[str] = Counter()
        """By why it can't be told whether further queues get one, a clause."""

    def add(self, copy: Copy) -> None:
        """Count one copy."""
        routes = self.routes(copy)
        for queue, path in routes.queues.items():
            self.queues[queue, next((hop.by for hop in path if "CC" in hop.by), "")] += 1
        self.nowhere += routes.unroutable is True
        if routes.refused is not None:
            self.refused[f"'{_text(copy.exchange)}': {routes.refused}"] += 1
        self.unknown.update(routes.unknown)

    def last_death(self, copy: Copy, queue: str) -> bool | None:
        """Say whether a copy that is rejected in a queue to which it goes ends there, because no
        queue takes the dead letter. None: can't be told, or it does not come there.
        """
        routes = self.routes(copy)
        if queue not in routes.queues or routes.message is None:
            return None
        return self._vhost.dead_letter(queue, routes.message, "rejected").unroutable

    def routes(self, copy: Copy) -> Routes:
        """Say where one copy would go."""
        headers = headers_of(content.decode(copy.properties))
        # Of these alone it depends, unless there is an exchange that looks at headers.
        named = [(name, str(headers.get(name))) for name in ("CC", "BCC", "x-death")]
        asked = (copy.exchange, copy.routing_key, *named)
        if self._by_headers or len(self._known) > _MOST:
            self._known.clear()
        if asked not in self._known:
            self._known[asked] = self._vhost.publish(
                _text(copy.exchange), _text(copy.routing_key), headers
            )
        return self._known[asked]


def headers_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return a message's headers as routing compares them."""
    table = properties.get("headers") or {}
    pairs = table.items() if isinstance(table, dict) else table
    return {str(key): _value(value) for key, value in pairs}


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((letter, inner),) = value.items()
    match letter:
        case "T":
            return Timestamp(inner)
        case "D":
            scale, unscaled = inner
            return Decimal(unscaled).scaleb(-scale)
        case "S" | "x":
            return base64.b64decode(inner)
        case "A":
            return [_value(one) for one in inner]
        case _:
            return content.plain(value)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
