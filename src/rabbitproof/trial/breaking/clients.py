"""Faults of the trial's own clients: their processes and their connections.

A client's process and its connection belong to the trial, so they may be broken wherever the
broker is. Closing connections through the Management API is an operator's act: it needs one who
says that the broker is theirs (``faults.refusal``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rabbitproof.errors import Overdue
from rabbitproof.trial.breaking.waiting import until

if TYPE_CHECKING:
    from rabbitproof.broker.management import Management
    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.plan import FaultPlan

_PARTICIPANTS: Final = ("RabbitMQ Producer", "RabbitMQ Consumer")
_REASON: Final = "rabbitproof closes it on purpose"
_LISTED_S: Final = 15.0
"""Within which the broker lists what is open and no more; a new connection appears after up to
5 s."""
_ASK_S: Final = 0.2


def _consumer_kill(plan: FaultPlan, scene: Scene) -> str | None:
    return scene.kill_consumer(plan.pick)


def _producer_kill(plan: FaultPlan, scene: Scene) -> str | None:
    return scene.kill_producer(plan.pick)


def _connection_cut(_: FaultPlan, scene: Scene) -> str | None:
    return scene.cut()


def _connection_close(_: FaultPlan, scene: Scene) -> str | None:
    """Close every connection of a participant, and no other of the same vhost."""
    if not scene.place.apart:
        raise Overdue(
            "The run has no vhost of its own here, so its connections can't be told from those of "
            "others; give the login the right to create vhosts."
        )
    vhost = scene.place.vhost
    with scene.place.open_api() as api:
        found = until(
            scene,
            lambda: _participants(api, vhost),
            _LISTED_S,
            "The broker lists no participant.",
            every_s=_ASK_S,
        )
        closed = {name for name in found if api.close_connection(name, _REASON)}
        until(
            scene,
            # By their names alone: what is about to go may be listed without all that it was.
            lambda: closed.isdisjoint(one.name for one in api.connections()),
            _LISTED_S,
            "The broker still lists what it was asked to close.",
            every_s=_ASK_S,
        )
    if not closed:
        return None
    count = f"{len(closed)} connection{'s were' if len(closed) > 1 else ' was'}"
    return f"The broker says that {count} closed and lists none of them any more."


def _participants(api: Management, vhost: str) -> list[str]:
    """Return the broker's names of the connections of producers and consumers in a vhost."""
    return [
        one.name
        for one in api.connections()
        if one.vhost == vhost and one.client_name.startswith(_PARTICIPANTS)
    ]


HOW: Final = {
    "connection-close": _connection_close,
    "connection-cut": _connection_cut,
    "consumer-kill": _consumer_kill,
    "producer-kill": _producer_kill,
}
