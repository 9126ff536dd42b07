"""Faults in the stream itself: somebody between the broker and the consumer.

All messages of a queue are taken out of it and put back in their order, but for a few, chosen by a
seed: those are left out, put in twice, exchanged with their neighbour, or altered in body or id.
A verdict that does not find exactly these is blind to something.

Only real messages on a real broker are touched, over a connection of its own. Refuses to judge.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pamqp.frame
from pamqp import body, commands, header

from rabbitproof.amqp import methods
from rabbitproof.amqp.confirms import Confirms, Unconfirmed
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.amqp.session import decode_header
from rabbitproof.errors import Overdue
from rabbitproof.identity import CHECKSUM_HEADER, HOST_HEADER, SENT_HEADER
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Queue
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Planted

_DEADLINE_S: Final = 60.0
_PREFETCH: Final = {"classic": 0, "quorum": 65_535}
"""All of it; a quorum queue takes 0 for 2,000."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is put back."""

    message_id: str
    properties: commands.Basic.Properties
    body: bytes


def meddle(planted: Planted, messages: Sequence[Message]) -> list[Message]:
    """Return the messages as they are put back. Pure: the seed decides which are touched."""
    chosen = _choose(planted, len(messages))
    spare = [i for i in range(len(messages)) if i not in chosen]
    names = iter(random.Random(planted.seed + 1).sample(spare, planted.id_altered))
    out: list[Message] = []
    for i, message in enumerate(messages):
        match chosen.get(i):
            case "dropped":
                continue
            case "doubled":
                out += [message, message]
            case "swapped":
                out += [messages[i + 1], message]
            case "taken along":
                continue
            case "body_altered":
                out.append(replace(message, body=_altered(message.body)))
            case "id_altered":
                # The hardest one to see: the name of a message that exists as well.
                out.append(replace(message, message_id=messages[next(names)].message_id))
            case _:
                out.append(message)
    return out


def _choose(planted: Planted, count: int) -> dict[int, str]:
    """Return which position gets which fault; no two are neighbours."""
    wanted = [
        kind
        for kind in ("swapped", "dropped", "doubled", "body_altered", "id_altered")
        for _ in range(getattr(planted, kind))
    ]
    dice = random.Random(planted.seed)
    pairs = sorted(dice.sample(range((count - 1) // 2), len(wanted)))
    dice.shuffle(wanted)
    chosen: dict[int, str] = {}
    for pair, kind in zip(pairs, wanted, strict=True):
        chosen[2 * pair] = kind
        if kind == "swapped":
            chosen[2 * pair + 1] = "taken along"
    return chosen


def _altered(content: bytes) -> bytes:
    """Return a body in which one letter is another one."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 0x01]) + content[at + 1 :]


def plant(planted: Planted, place: Place, queue: Queue) -> str:
    """Meddle with a queue that nobody else reads or writes; return what was done."""
    with place.connect("RabbitMQ Meddler") as connection:
        channel = connection.open_channel()
        count = wiring.message_count(connection, channel, queue.name)
        connection.call(channel, commands.Basic.Qos(prefetch_count=_PREFETCH[queue.kind]))
        connection.call(channel, methods.BasicConsume(queue=queue.name, consumer_tag="meddler"))
        taken, last_tag = _take(connection, count)
        # Else what is put back would be taken out again.
        connection.call(channel, commands.Basic.Cancel("meddler"))
        put = meddle(planted, taken)
        _put(connection, queue.name, put)
        connection.tell(channel, commands.Basic.Ack(last_tag, multiple=True))
    done = [f"{getattr(planted, kind)} {kind.replace('_', ' ')}" for kind in _KINDS
            if getattr(planted, kind)]  # fmt: skip
    return f"Of {count:,} messages in {queue.name}: {', '.join(done)} (seed {planted.seed})."


_KINDS: Final = ("dropped", "doubled", "swapped", "body_altered", "id_altered")


def _take(connection: Connection, count: int) -> tuple[list[Message], int]:
    taken: list[Message] = []
    last_tag = 0
    deadline = time.monotonic() + _DEADLINE_S
    while len(taken) < count:
        if time.monotonic() > deadline:
            raise Overdue
        for event in connection.wait(1.0):
            if isinstance(event, Batch):
                taken += _of_batch(event)
                last_tag = event.last_tag
            elif isinstance(event, Delivery):
                properties = decode_header(event.header) or commands.Basic.Properties()
                taken.append(Message(properties.message_id or "", properties, event.body))
                last_tag = event.delivery_tag
    return taken, last_tag


def _of_batch(batch: Batch) -> list[Message]:
    """Put messages together again from the columns of the fast path."""
    out = []
    for name, checksum, sent, content in zip(
        batch.message_ids, batch.checksums, batch.sent_ns, batch.bodies, strict=True
    ):
        headers: dict[str, Any] = {
            HOST_HEADER: batch.host.decode("utf-8", "replace"),
            CHECKSUM_HEADER: checksum.decode("ascii", "replace"),
            SENT_HEADER: sent,
        }
        properties = commands.Basic.Properties(
            content_type="application/json", headers=headers, delivery_mode=2
        )
        out.append(Message(name.decode(), properties, content))
    return out


def _put(connection: Connection, queue: str, messages: Sequence[Message]) -> None:
    """Publish to the queue itself and wait until the broker has all of it."""
    channel = connection.open_channel()
    connection.call(channel, commands.Confirm.Select())
    for message in messages:
        connection.send(channel, _encoded(channel, queue, message))
    waiting = Unconfirmed()
    waiting.sent(range(1, len(messages) + 1), time.monotonic_ns())
    deadline = time.monotonic() + _DEADLINE_S
    while waiting:
        if time.monotonic() > deadline:
            raise Overdue
        for event in connection.wait(1.0):
            if isinstance(event, Confirms):
                waiting.settle(event)


def _encoded(channel: int, queue: str, message: Message) -> bytes:
    properties = message.properties
    properties.message_id = message.message_id
    publish = commands.Basic.Publish(exchange="", routing_key=queue)
    content = header.ContentHeader(0, len(message.body), properties)
    return b"".join(
        pamqp.frame.marshal(frame, channel)
        for frame in (publish, content, body.ContentBody(message.body))
    )
