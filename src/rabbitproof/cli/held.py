"""What has to be known and asked before a queue is read without taking anything out of it.

Shared by the commands that do so. Refuses to hold: the reading itself (``work/hold``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.cli.ask import confirm
from rabbitproof.cli.exits import note
from rabbitproof.errors import NotFound, UsageError
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.cleanup import require_same_cluster

if TYPE_CHECKING:
    from rabbitproof.amqp.connection import Connection as Amqp
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.cli.connection import Connection

_LIMIT_BY_DEFAULT = (4, 0)
"""From this release on every quorum queue has a delivery limit, of 20."""


def look_at(opened: Amqp, connection: Connection, queue: str) -> QueueInfo:
    """Return what kind of queue it is; raise NotFound or UsageError."""
    if queue in {".", ".."}:
        raise UsageError(f"The Management API can't name a queue called {queue!r}; rename it.")
    with connection.api.open() as api:
        require_same_cluster(opened, api)
        info = api.queue(opened.address.vhost, queue)
    if info is None:
        raise NotFound(
            f"There is no queue '{safe(queue)}' in vhost '{safe(opened.address.vhost)}'; "
            "see `rabbitmqctl list_queues`.",
            code=404,
            reply="",
        )
    return info


def may_hold(opened: Amqp, info: QueueInfo, *, yes: bool) -> bool:
    """Say what reading this queue does to it; ask where it could drop messages."""
    name = safe(info.name)
    if info.type == "stream":
        return True
    note(
        f"'{name}' is a {info.type} queue, which can't be read without taking: its messages are "
        "held meanwhile and given back to their places, marked as redelivered."
    )
    if info.type != "quorum":
        return True
    limit = info.arguments.get("x-delivery-limit", info.policy_definition.get("delivery-limit"))
    if (limit is None and wiring.release(opened) < _LIMIT_BY_DEFAULT) or limit == -1:
        return True
    said = "20, unless a policy says otherwise" if limit is None else safe(str(limit), 20)
    return confirm(
        f"'{name}' has a delivery limit ({said}): each reading counts, and what is over the limit "
        "is dropped or dead-lettered. Read it all the same?",
        yes=yes,
    )
