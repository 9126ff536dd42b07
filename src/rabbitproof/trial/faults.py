"""The faults: how each is carried out, and what shows that it really happened.

What is broken on purpose and leaves no trace proves nothing, so every fault ends in a record: when,
how many publishes were unanswered at that moment, and what the broker or the process showed.

Rules: a fault of the broker needs a node of our own (``refusal``). A fault of a queue is done to
the trial's own queues, one of a consumer or a connection to its own, wherever the broker is.
Refuses to know what a fault does to a verdict.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol

from pamqp import commands

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.errors import Overdue, RabbitproofError, UsageError
from rabbitproof.model import FaultRecord, Step
from rabbitproof.trial.plan import CATALOGUE
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from rabbitproof.broker.node import Node
    from rabbitproof.model import Progress, Queue
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import FaultPlan, Scenario

_POISON_S: Final = 30.0
_GIVEN_UP_S: Final = 0.5
"""For how long a rejected message must not come again to count as given up."""


class Scene(Protocol):
    """What faults need to know of the trial that is going on, and may do to it."""

    place: Place

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None:
        """Note that so many copies in ``queue`` (its logical name) are gone for that reason."""

    def in_flight(self) -> int | None:
        """Count publishes without an answer at this moment; None where nobody can tell."""

    def cut(self) -> str | None:
        """End the producers' connections without a word; return what was cut, None for nothing."""

    def kill_consumer(self) -> str | None:
        """Kill a consumer's process; return what it showed, None when there was none."""


@dataclass(slots=True)
class Schedule:
    """Which fault is due when."""

    plans: tuple[FaultPlan, ...]
    _fired: list[int] = field(init=False)
    _last: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._fired = [0] * len(self.plans)
        self._last = [0.0] * len(self.plans)

    def due(self, sent: float, received: float, seconds: float) -> list[FaultPlan]:
        """Return what is due at these shares of the messages, so long after the first publish.

        What is returned counts as carried out.
        """
        out = []
        for i, plan in enumerate(self.plans):
            if self._fired[i] >= plan.times:
                continue
            if self._fired[i]:
                ready = seconds - self._last[i] >= plan.every_s
            elif plan.at_s is not None:
                ready = seconds >= plan.at_s
            else:
                share = received if CATALOGUE[plan.name].hits == "consumer" else sent
                ready = share >= (plan.at_share or 0.0)
            if ready:
                self._fired[i] += 1
                self._last[i] = seconds
                out.append(plan)
        return out

    @property
    def missed(self) -> list[FaultPlan]:
        """What never was due."""
        return [plan for plan, fired in zip(self.plans, self._fired, strict=True) if not fired]


def refusal(scenario: Scenario) -> str | None:
    """Return why a scenario can't be carried out on somebody's broker; None when it can."""
    for plan in scenario.faults:
        kind = CATALOGUE[plan.name]
        if kind.needs_node:
            return (
                f"{scenario.name} needs a broker of our own: {kind.about}, and others may use "
                "the one that --url names"
            )
    return None


def check(scenario: Scenario, *, private: bool) -> None:
    """Raise UsageError for a scenario that may not be carried out there."""
    why = None if private else refusal(scenario)
    if why is not None:
        raise UsageError(f"{why}; leave out --url, then a private node is started for it.")


def fire(plan: FaultPlan, scene: Scene, at_s: float) -> Generator[Progress, None, FaultRecord]:
    """Carry out one fault, ``at_s`` seconds after the first publish; return its record."""
    yield Step(f"now {CATALOGUE[plan.name].about}")
    in_flight = scene.in_flight()
    began = time.monotonic()
    try:
        evidence = _HOW[plan.name](plan, scene)
        fired = evidence is not None
    except RabbitproofError as error:
        evidence, fired = f"It could not be done: {error}", False
    text = evidence or "There was nothing to do it to."
    yield Step(text, done=True)
    took = time.monotonic() - began
    return FaultRecord(
        name=plan.name,
        at_s=round(at_s, 3),
        fired=fired,
        evidence=text,
        until_s=round(at_s + took, 3),
        in_flight=in_flight,
    )


def unfired(plans: Iterable[FaultPlan]) -> list[FaultRecord]:
    """Return the records of faults whose moment never came."""
    return [
        FaultRecord(plan.name, 0.0, fired=False, evidence="Its moment never came.")
        for plan in plans
    ]


# --- the broker ---


def _broker_kill(plan: FaultPlan, scene: Scene) -> str | None:
    node = _node(scene)
    before = node.pid
    if before is None:
        return None
    node.kill()
    gone = node.pid is None
    began = time.monotonic()
    _outage(plan.lasts_s)
    node.start_again()
    if not gone or node.pid in {None, before}:
        return None
    return (
        f"The broker's process {before} was gone after SIGKILL; process {node.pid} answered "
        f"{time.monotonic() - began:.1f} s later."
    )


def _broker_restart(plan: FaultPlan, scene: Scene) -> str | None:
    node = _node(scene)
    before = node.pid
    if before is None:
        return None
    node.shut_down()
    began = time.monotonic()
    _outage(plan.lasts_s)
    node.start_again()
    if node.pid in {None, before}:
        return None
    return (
        f"The broker's process {before} ended in good order; process {node.pid} answered "
        f"{time.monotonic() - began:.1f} s later."
    )


def _node(scene: Scene) -> Node:
    if scene.place.node is None:
        raise UsageError("This broker is not ours; leave out --url.")
    return scene.place.node


def _outage(seconds: float) -> None:
    """Let an outage last: what is waited for is the time itself."""
    if seconds:
        Event().wait(seconds)


# --- the participants ---


def _consumer_kill(_: FaultPlan, scene: Scene) -> str | None:
    return scene.kill_consumer()


def _connection_cut(_: FaultPlan, scene: Scene) -> str | None:
    return scene.cut()


# --- the queues ---


def _queue_delete(plan: FaultPlan, scene: Scene) -> str | None:
    place = scene.place
    queue = real(place, plan.queue)
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
        name = real(scene.place, plan.queue).name
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
    queue = real(scene.place, plan.queue)
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


def real(place: Place, logical: str) -> Queue:
    """Return a queue of the trial by the name that scenarios use."""
    for queue in place.topology.queues:
        if place.logical[queue.name] == logical:
            return queue
    raise UsageError(f"The scenario has no {logical}; name a queue that it has.")


_HOW: Final = {
    "broker-kill": _broker_kill,
    "broker-restart": _broker_restart,
    "consumer-kill": _consumer_kill,
    "connection-cut": _connection_cut,
    "queue-delete": _queue_delete,
    "queue-purge": _queue_purge,
    "unbind": _unbind,
    "poison": _poison,
}
