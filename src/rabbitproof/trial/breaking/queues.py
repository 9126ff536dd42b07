"""Faults of queues: done to the trial's own ones, with what any client of RabbitMQ may do.

Refuses to know when (``schedule``) and what it does to a verdict.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pamqp import commands

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.errors import Overdue
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.plan import FaultPlan

_POISON_S: Final = 30.0
_GIVEN_UP_S: Final = 0.5
"""For how long a rejected message must not come again to count as given up."""


def _queue_delete(plan: FaultPlan, scene: Scene) -> str | None:
    place = scene.place
    queue = place.queue(plan.queue)
    with place.connect("RabbitMQ Fault") as connection:
        channel = connection.open_channel()
        answer = connection.call(channel, methods.QueueDelete(queue=queue.name))
        wiring.declare_queue(connection, channel, queue)
        if queue.bound:
            wiring.bind(connection, channel, place.topology, queue)
    return f"{plan.queue} was deleted with {answer.message_count:,} messages and made again."


def _queue_purge(plan: FaultPlan, scene: Scene) -> str | None:
    with scene.place.connect("RabbitMQ Fault") as connection:
        channel = connection.open_channel()
        name = scene.place.queue(plan.queue).name
        answer = connection.call(channel, methods.QueuePurge(queue=name))
    if not answer.message_count:
        return None
    text = f"The broker says that it purged {answer.message_count:,} messages of {plan.queue}."
    scene.dropped(plan.queue, "purged", answer.message_count, text)
    return text


def _unbind(_: FaultPlan, scene: Scene) -> str | None:
    topology = scene.place.topology
    with scene.place.connect("RabbitMQ Fault") as connection:
        channel = connection.open_channel()
        for queue in topology.queues:
            connection.call(
                channel,
                methods.QueueUnbind(
                    queue=queue.name,
                    exchange=topology.exchange,
                    routing_key=topology.routing_key,
                ),
            )
    return f"The broker unbound {' and '.join(scene.place.logical.values())}."


def _poison(plan: FaultPlan, scene: Scene) -> str | None:
    """Reject the same messages each time they come, until they come no more; hold the others."""
    queue = scene.place.queue(plan.queue)
    with scene.place.connect("RabbitMQ Fault") as connection:
        channel = connection.open_channel()
        # Room for as many others, which may come in between.
        connection.call(channel, commands.Basic.Qos(prefetch_count=2 * plan.messages))
        connection.call(channel, methods.BasicConsume(queue=queue.name, consumer_tag="poison"))
        seen: dict[bytes, int] = {}
        deadline = time.monotonic() + _POISON_S
        while connection.look_ahead(_GIVEN_UP_S):
            if time.monotonic() > deadline:
                raise Overdue("The broker gives no message up; set x-delivery-limit.")
            for name, tag in _told_apart(connection.wait(0)):
                if name in seen or len(seen) < plan.messages:
                    seen[name] = seen.get(name, 0) + 1
                    connection.tell(channel, commands.Basic.Reject(tag, requeue=True))
        # What was held goes back with the channel.
        connection.call(channel, commands.Channel.Close(200, "done", 0, 0))
    if not seen:
        return None
    times = sorted(set(seen.values()))
    return (
        f"{len(seen):,} messages of {plan.queue} were rejected each time they came, "
        f"{' or '.join(map(str, times))} times, until the broker delivered them no more."
    )


def _told_apart(events: Iterable[object]) -> Iterator[tuple[bytes, int]]:
    """Yield what tells a message from others, and its delivery tag."""
    for event in events:
        if isinstance(event, Batch):
            tags = range(event.first_tag, event.last_tag + 1)
            yield from zip(event.message_ids, tags, strict=True)
        elif isinstance(event, Delivery):
            yield event.body, event.delivery_tag


HOW: Final = {
    "queue-delete": _queue_delete,
    "queue-purge": _queue_purge,
    "unbind": _unbind,
    "poison": _poison,
}
