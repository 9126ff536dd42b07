"""Traffic as a queue has it that many share, for a consumer that can rely on nothing.

Eight producers take turns, bodies have five sizes, every seventh message is somebody else's (no
identity, other properties), a few bodies fill several frames, and the first tenth was delivered
before and comes back flagged as redelivered. The same ``count`` gives the same messages.

Refuses to measure (``bench``) and to read (``work.consume``, ``ceiling``).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.errors import Overdue
from rabbitproof.identity import Source, id_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.amqp.connection import Connection

_PRODUCERS: Final = 8
_SIZES: Final = (30, 200, 700, 1_500, 4_000)
"""Bytes of padding in a body: from a heartbeat to a small document."""
_LARGE: Final = 300_000
"""Bytes that take three frames of 128 KiB."""
_LARGE_EVERY: Final = 500
_FOREIGN_EVERY: Final = 7
_LONGEST_TURN: Final = 12
"""Messages that one producer sends before another one does, at most; usually fewer."""
_REDELIVERED_SHARE: Final = 10
_MOST_REDELIVERED: Final = 60_000
"""A prefetch is a 16-bit number."""
_BACKLOG_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 60.0

DELIVERY_EXTRA: Final = 7
"""Bytes by which a delivery is longer than its publish, without the consumer tag: the tag's
length, the delivery tag and the redelivered octet, less the reserved short and the flags."""


def fill(connection: Connection, exchange: str, routing_key: str, queue: str, count: int) -> int:
    """Publish ``count`` messages of all kinds; return the bytes that they took on the wire.

    ``queue`` has to be empty and to be the only work queue behind ``routing_key``.
    """
    channel = connection.open_channel()
    total = sum(
        _send(connection, channel, buffer)
        for buffer in _buffers(channel, exchange, routing_key, connection.frame_max, count)
    )
    deadline = time.monotonic() + _PATIENCE_S
    while connection.backlog:
        connection.wait(1.0)
        _check(deadline)
    connection.call(channel, commands.Channel.Close(200, "done", 0, 0))  # all of it was read
    _deliver_and_return(connection, queue, count // _REDELIVERED_SHARE)
    return total


def _send(connection: Connection, channel: int, buffer: bytes) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while connection.backlog > _BACKLOG_BYTES:
        connection.wait(1.0)
        _check(deadline)
    connection.send(channel, buffer)
    return len(buffer)


def _buffers(
    channel: int, exchange: str, routing_key: str, frame_max: int, count: int
) -> Iterator[bytes]:
    """Yield the frames of all messages, in buffers of one producer's turn each."""
    chance = random.Random(count)
    run = "c0ffee0b5e55"

    def templates(size: int) -> list[Publishes]:
        return [
            Publishes(
                Envelope(
                    channel=channel,
                    exchange=exchange,
                    routing_key=routing_key,
                    id_prefix=id_prefix(Source(run, producer)),
                    body_head=b'{"n":',
                    body_tail=lambda _: b',"text":"' + b"." * size + b'","sent_by":"bench"}',
                    headers={"producer_id": f"bench-{producer}", "host": "localhost"},
                    frame_max=frame_max,
                    persistent=True,
                )
            )
            for producer in range(1, _PRODUCERS + 1)
        ]

    usual = [templates(size) for size in _SIZES]
    large = templates(_LARGE)
    sent = [0] * _PRODUCERS
    done = 0
    while done < count:
        producer = chance.randrange(_PRODUCERS)
        turn: list[bytes] = []
        for _ in range(min(chance.randint(1, _LONGEST_TURN), count - done)):
            done += 1
            if done % _FOREIGN_EVERY == 0:
                turn.append(_foreign(channel, exchange, routing_key, done))
                continue
            of_size = large if done % _LARGE_EVERY == 0 else chance.choice(usual)
            sent[producer] += 1
            n = sent[producer]
            turn.append(of_size[producer].encode([n], sent_ns=time.time_ns()))
        yield b"".join(turn)


def _foreign(channel: int, exchange: str, routing_key: str, number: int) -> bytes:
    """Return a publish of somebody who knows nothing of us."""
    body = b"order %d: two of these, one of those" % number
    properties = commands.Basic.Properties(
        content_type="text/plain", delivery_mode=2, headers={"shop": "north", "attempt": number % 3}
    )
    return b"".join(
        (
            marshal(commands.Basic.Publish(0, exchange, routing_key), channel),
            marshal(ContentHeader(body_size=len(body), properties=properties), channel),
            marshal(ContentBody(body), channel),
        )
    )


def _deliver_and_return(connection: Connection, queue: str, count: int) -> None:
    """Let the first messages be delivered, and give them back."""
    count = min(count, _MOST_REDELIVERED)
    if not count:
        return
    channel = connection.open_channel()
    connection.call(channel, commands.Basic.Qos(prefetch_count=count))
    connection.call(channel, methods.BasicConsume(queue=queue, consumer_tag="returns"))
    deadline = time.monotonic() + _PATIENCE_S
    came = 0
    while came < count:
        for event in connection.wait(1.0):
            if isinstance(event, Batch):
                came += len(event.message_ids)
            elif isinstance(event, Delivery):
                came += 1
        _check(deadline)
    connection.call(channel, commands.Channel.Close(200, "done", 0, 0))


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Overdue(
            f"The broker did not take or give the mixed traffic within {_PATIENCE_S:.0f} s; look "
            "at its log and its alarms."
        )
