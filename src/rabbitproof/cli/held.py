"""What has to be known and asked before a queue is read without taking anything out of it.

Shared by the commands that do so. Refuses to hold: the reading itself (``work/hold``).
"""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any

from rabbitproof.cli.ask import confirm
from rabbitproof.cli.exits import note
from rabbitproof.errors import (
    ManagementError,
    ManagementUnreachable,
    NotFound,
    RabbitproofError,
    UsageError,
)
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.cleanup import require_same_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rabbitproof.amqp.connection import Connection as Amqp
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.broker.management import Management
    from rabbitproof.cli.connection import Connection
    from rabbitproof.routing import Vhost

_LIMIT_BY_DEFAULT = (4, 0)
"""From this release on every quorum queue has a delivery limit, of 20."""
_MEMORY = 0.5
"""Of what a broker has left before it blocks its publishers, so much may be held unasked: 400 MB of
bodies took 230 MB, and 450 MB where the reader was killed (classic queue, 3.10.8)."""


def look_at(opened: Amqp, connection: Connection, queue: str) -> QueueInfo:
    """Return what kind of queue it is; raise NotFound or UsageError."""
    if queue in {".", ".."}:
        raise UsageError(f"The Management API can't name a queue called {queue!r}; rename it.")
    with connection.api.open() as api:
        require_same_cluster(opened, api)
        info = api.queue(opened.address.vhost, queue)
        near = like(queue, api.queue_totals(opened.address.vhost)) if info is None else None
    if info is None:
        advice = "see `rabbitmqctl list_queues`." if near is None else f"is it '{safe(near)}'?"
        raise NotFound(
            f"There is no queue '{safe(queue)}' in vhost '{safe(opened.address.vhost)}'; {advice}",
            code=404,
            reply="",
        )
    return info


def like(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was meant, if one is nearly that: one letter off, or a blank."""
    plain: dict[str, str] = {}
    for one in sorted(names):
        plain.setdefault(_plain(one), one)
    found = difflib.get_close_matches(_plain(name), plain, 1, 0.85)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    """Return what a reader sees of a name, in small letters."""
    return "".join(filter(str.isprintable, name)).strip().casefold()


def vhost_of(connection: Connection) -> Vhost | None:
    """Return what decides on routing at a broker; None, and why, where nobody tells."""
    from rabbitproof.broker.routes import read_vhost

    try:
        with connection.open("RabbitMQ Routing") as opened, connection.api.open() as api:
            require_same_cluster(opened, api)
            return read_vhost(api, opened.address.vhost)
    except RabbitproofError as error:
        note(f"which queues get copies can't be told: {error}")
        return None


def may_hold(
    opened: Amqp, connection: Connection, info: QueueInfo, *, yes: bool, most: int | None = None
) -> bool:
    """Say what reading this queue does to it; ask where it could drop messages, or where its broker
    would need much memory. ``most`` messages are read, all of them without.
    """
    name = safe(info.name)
    if info.type == "stream":
        return True
    note(
        f"'{name}' is a {safe(info.type, 20) or '?'} queue, which can't be read without taking: "
        "its messages are held meanwhile and given back to their places, marked as redelivered."
    )
    with connection.api.open() as api:
        limits = None if info.type == "classic" else _delivery_limits(api, info, opened)
        left = _asked(api.memory_left)
    concerns = [
        concern
        for concern in (
            "" if info.type == "classic" else limited(wiring.release(opened), info, limits),
            expensive(info, left, most),
        )
        if concern
    ]
    if not concerns:
        return True
    return confirm(f"'{name}' {' It '.join(concerns)} Read it all the same?", yes=yes)


def _asked(ask: Callable[[], Any]) -> Any:
    """Return an answer; None where this login may not ask."""
    try:
        return ask()
    except ManagementUnreachable:
        raise
    except ManagementError:
        return None


def _delivery_limits(api: Management, info: QueueInfo, opened: Amqp) -> list[Any] | None:
    """Return the delivery limits that policies may give a queue; None where nobody tells.

    Which one is in effect is told with the metrics, some seconds late, and without them never. So
    each counts whose pattern fits.
    """
    from rabbitproof.broker.routes import may_apply

    found: list[Any] = []
    for operators in (False, True):
        policies = _asked(partial(api.policies, opened.address.vhost, operators=operators))
        if policies is None:
            return None
        found += [
            one.definition["delivery-limit"]
            for one in policies.values()
            if "delivery-limit" in one.definition and may_apply(one, info.name)
        ]
    return found


def limited(release: tuple[int, ...], info: QueueInfo, by_policy: Sequence[Any] | None) -> str:
    """Return what a delivery limit may do to a queue, as the end of a sentence; empty: nothing.

    The smallest of all limits holds, and -1 is none.
    """
    untold = by_policy is None or info.arguments is None or not info.type
    own = (info.arguments or {}).get("x-delivery-limit")
    before = (0, 0) < release < _LIMIT_BY_DEFAULT
    if not untold and not by_policy and (own == -1 or (own is None and before)):
        return ""
    limits = [own, *(by_policy or ())]
    known = [one for one in limits if isinstance(one, int) and one >= 0]
    may = "may have" if untold or by_policy or own is None else "has"
    limit = f"({min(known)})" if known else "(20 from RabbitMQ 4.0 on, unless a policy says other)"
    return (
        f"{may} a delivery limit {limit}: each reading counts, and what is over the limit is "
        "dropped or dead-lettered."
    )


def expensive(info: QueueInfo, left: int | None, most: int | None) -> str:
    """Return what holding a queue costs, as the end of a sentence; empty: not much, or not told.

    ``left`` has the bytes that its broker has left before it blocks its publishers.
    """
    held = info.bytes or 0
    if most is not None and info.messages:
        held = held * min(most, info.messages) // info.messages
    if left is None or held <= left * _MEMORY:
        return ""
    return (
        f"has {held / 1e6:,.0f} MB to hold, and its broker {max(left, 0) / 1e6:,.0f} MB left "
        "before it blocks all publishers."
    )
