"""What has to be known and asked before a queue is read without taking anything out of it.

Shared by the commands that do so. Refuses to hold: the reading itself (``work/hold``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rabbitproof.cli.ask import confirm
from rabbitproof.cli.exits import note
from rabbitproof.errors import NotFound, RabbitproofError, UsageError
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.cleanup import require_same_cluster

if TYPE_CHECKING:
    from rabbitproof.amqp.connection import Connection as Amqp
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.cli.connection import Connection
    from rabbitproof.routing import Vhost

_LIMIT_BY_DEFAULT = (4, 0)
"""From this release on every quorum queue has a delivery limit, of 20."""
_TOLD_S = 7.0
"""Within which the Management API tells which policy applies to a quorum queue that is new; it took
6 s (measured, 3.10.8). Without metrics it never does."""
_AGAIN_S = 0.2


def look_at(opened: Amqp, connection: Connection, queue: str) -> QueueInfo:
    """Return what kind of queue it is; raise NotFound or UsageError."""
    if queue in {".", ".."}:
        raise UsageError(f"The Management API can't name a queue called {queue!r}; rename it.")
    with connection.api.open() as api:
        require_same_cluster(opened, api)
        info = api.queue(opened.address.vhost, queue)
        until = time.monotonic() + _TOLD_S
        while info and info.type == "quorum" and info.policy_definition is None:
            if time.monotonic() > until:
                break
            time.sleep(_AGAIN_S)
            info = api.queue(opened.address.vhost, queue)
    if info is None:
        raise NotFound(
            f"There is no queue '{safe(queue)}' in vhost '{safe(opened.address.vhost)}'; "
            "see `rabbitmqctl list_queues`.",
            code=404,
            reply="",
        )
    return info


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


def may_hold(opened: Amqp, info: QueueInfo, *, yes: bool) -> bool:
    """Say what reading this queue does to it; ask where it could drop messages."""
    name = safe(info.name)
    if info.type == "stream":
        return True
    note(
        f"'{name}' is a {safe(info.type, 20) or '?'} queue, which can't be read without taking: "
        "its messages are held meanwhile and given back to their places, marked as redelivered."
    )
    if info.type == "classic":
        return True
    untold = None in (info.arguments, info.policy_definition) or not info.type
    of_policy = (info.policy_definition or {}).get("delivery-limit")
    limit = (info.arguments or {}).get("x-delivery-limit", of_policy)
    unlimited = (0, 0) < wiring.release(opened) < _LIMIT_BY_DEFAULT and not untold
    if (limit is None and unlimited) or limit == -1:
        return True
    has = f"has a delivery limit ({safe(str(limit), 20)})"
    if limit is None:
        has = "may have a delivery limit (20 from RabbitMQ 4.0 on, unless a policy says otherwise)"
    return confirm(
        f"'{name}' {has}: each reading counts, and what is over the limit is dropped or "
        "dead-lettered. Read it all the same?",
        yes=yes,
    )
