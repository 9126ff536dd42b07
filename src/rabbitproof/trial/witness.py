"""The second witness: what is in a queue, seen without the consumer that is under test.

``peek`` reads a queue over a connection of its own, acknowledges nothing and lets everything go
back; ``dead_letters`` asks the Management API, which says why each message was dropped. Where a
crash decides how many messages are lost, these numbers are what the verdict has to come to.

Refuses to judge, and to know what was expected (``expect``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pamqp import commands
from pyroaring import BitMap

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.broker.answers import mapping
from rabbitproof.errors import NotFound, RabbitproofError
from rabbitproof.identity import identify, identify_all
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.identity import Source
    from rabbitproof.model import Queue
    from rabbitproof.proof.ledger import Outcomes
    from rabbitproof.trial.place import Place

_SILENCE_S: Final = 5.0
"""For how long nothing may come of what the broker counts, before it counts as not there."""
_RETURN_S: Final = 20.0
"""Within which the broker has everything back in the queue."""
_UNLIMITED: Final = {"classic": 0, "quorum": 65_535}
"""Prefetch. A quorum queue takes 0 for 2,000."""


@dataclass(slots=True)
class Sight:
    """What was seen in a queue."""

    found: dict[Source, BitMap] = field(default_factory=dict)
    copies: int = 0

    def missing(self, outcomes: Iterable[Outcomes], known: QueueReceipts | None = None) -> int:
        """Return how many of the messages that were attempted are not there.

        ``known``: what had been received and recorded before the witness looked.
        """
        missing = 0
        for ledger in outcomes:
            gone = ledger.attempted - self.found.get(ledger.source, BitMap())
            missing += len(gone if known is None else gone - known.of(ledger.source).known)
        return missing


def peek(place: Place, queue: Queue) -> Sight | None:
    """Look at all that is Ready in a queue that nobody reads or writes; leave it there.

    Everything in it is flagged as redelivered afterwards. None for a stream, and when the broker
    shows less than it counts.
    """
    if queue.kind == "stream":
        return None
    sight = Sight()
    with place.connect("RabbitMQ Witness") as connection:
        channel = connection.open_channel()
        try:
            ready = wiring.message_count(connection, channel, queue.name)
        except NotFound:
            return sight
        connection.call(channel, commands.Basic.Qos(prefetch_count=_UNLIMITED[queue.kind]))
        connection.call(channel, methods.BasicConsume(queue=queue.name, consumer_tag="witness"))
        while sight.copies < ready:
            if not connection.look_ahead(_SILENCE_S):
                return None
            for event in connection.wait(0):
                _note(sight, event)
        connection.call(channel, commands.Channel.Close(200, "done", 0, 0))
        _wait_for_return(connection, queue, ready)
    return sight


@dataclass(slots=True)
class DeadLetters:
    """What was dropped for one reason."""

    reason: str
    receipts: QueueReceipts = field(default_factory=QueueReceipts)
    copies: int = 0


def dead_letters(place: Place, queue: Queue, most: int) -> list[DeadLetters] | None:
    """Return what is in the queue of dead letters, by the reason why.

    None when the Management API does not tell: then nobody knows the reasons.
    """
    try:
        with place.open_api() as api:
            found = api.peek(place.vhost, queue.name, most)
    except RabbitproofError:
        return None
    dead: dict[str, DeadLetters] = {}
    for message in found:
        properties = mapping(message, "properties")
        if properties is None:  # not told, which is not the same as having none
            return None
        headers = mapping(properties, "headers") or {}
        reason = safe(str(headers.get("x-first-death-reason") or "unknown"), 40)
        identity = identify(str(properties.get("message_id", "")))
        here = dead.setdefault(reason, DeadLetters(reason))
        here.copies += 1
        if identity is None:
            here.receipts.foreign += 1
        else:
            here.receipts.of(identity.source).add([identity.n], redelivered=False)
    return list(dead.values())


def _note(sight: Sight, event: object) -> None:
    if isinstance(event, Batch):
        sight.copies += len(event.message_ids)
        for source, numbers in identify_all(event.message_ids) or ():
            sight.found.setdefault(source, BitMap()).update(numbers)
    elif isinstance(event, Delivery):
        sight.copies += 1


def _wait_for_return(connection: Connection, queue: Queue, ready: int) -> None:
    channel = connection.open_channel()
    deadline = time.monotonic() + _RETURN_S
    while wiring.message_count(connection, channel, queue.name) < ready:
        if time.monotonic() > deadline:
            return  # the verdict will find what is missing
        connection.wait(0.02)
