"""Half of a broker, for the window's bench: it does nothing but push, as fast as is asked.

A real RabbitMQ that shares two processors with a window and an X server gives fewer messages a
second than the window is measured with. This one speaks as much of AMQP as one consumer needs,
keeps to its prefetch, and makes the same bytes that our producer and RabbitMQ would. It stores
nothing, so it proves nothing about messages.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from pamqp import commands
from pamqp.frame import marshal

from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.identity import Source, id_prefix, new_run
from wire import frames_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 500
"""Messages that are made at once."""
_EVERY_S = 0.005
_ANSWERS = {
    commands.Connection.StartOk: lambda _: commands.Connection.Tune(2047, 131_072, 0),
    commands.Connection.Open: lambda _: commands.Connection.OpenOk(),
    commands.Connection.Close: lambda _: commands.Connection.CloseOk(),
    commands.Channel.Open: lambda _: commands.Channel.OpenOk(),
    commands.Channel.Close: lambda _: commands.Channel.CloseOk(),
    commands.Queue.Declare: lambda asked: commands.Queue.DeclareOk(asked.queue, 0, 0),
    commands.Basic.Qos: lambda _: commands.Basic.QosOk(),
    commands.Basic.Consume: lambda asked: commands.Basic.ConsumeOk(asked.consumer_tag),
    commands.Basic.Cancel: lambda asked: commands.Basic.CancelOk(asked.consumer_tag),
}


def deliveries(channel: int, tag: str, count: int) -> Iterator[list[bytes]]:
    """Yield ``count`` deliveries, some at a time."""
    end = b',"text":"Hello World","sent_by":"bench"}'
    publishes = Publishes(
        Envelope(
            channel=channel, exchange="direct.exchange", routing_key="work",
            id_prefix=id_prefix(Source(new_run(), 1)), body_head=b'{"n":', body_tail=lambda _: end,
            headers={"producer_id": "bench", "host": "localhost"}, frame_max=131_072,
            persistent=True,
        )
    )  # fmt: skip
    name = tag.encode()
    payload = b"\0\x3c\0\x3c" + bytes([len(name)]) + name
    where = b"\0" + b"\x0fdirect.exchange" + b"\x04work"
    start = struct.pack(">BHI", 1, channel, len(payload) + 8 + len(where)) + payload
    where += b"\xce"
    for first in range(1, count + 1, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count + 1))
        buffer = publishes.encode(numbers, sent_ns=time.time_ns())
        some, at = [], 0
        for n in numbers:
            # The header and the body of a delivery are those of the publish.
            at += 8 + int.from_bytes(buffer[at + 3 : at + 7], "big")
            content = at
            for _ in range(2):
                at += 8 + int.from_bytes(buffer[at + 3 : at + 7], "big")
            some.append(start + n.to_bytes(8, "big") + where + buffer[content:at])
        yield some


class Consumer:
    """What is known of the one that connected."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self.prefetch = 1
        self.acked = 0
        self.tag: str | None = None
        self.channel = 0
        self.ended = False
        self._read = b""

    def take(self) -> None:
        """Read what it says and answer."""
        data = self.wire.recv(65_536)
        if not data:
            self.ended = True
            return
        self._read += data
        if self._read.startswith(b"AMQP"):
            self._read = self._read[8:]
            properties = {"product": "RabbitMQ", "version": "3.10.8", "capabilities": {}}
            self._say(commands.Connection.Start(0, 9, properties, "AMQPLAIN PLAIN", "en_US"), 0)
        whole = 0
        while len(self._read) >= whole + 8:
            size = 8 + int.from_bytes(self._read[whole + 3 : whole + 7], "big")
            if len(self._read) < whole + size:
                break
            whole += size
        for channel, asked, _ in frames_of(self._read[:whole]):
            self._answer(channel, asked)
        self._read = self._read[whole:]

    def _answer(self, channel: int, asked: object) -> None:
        if isinstance(asked, commands.Basic.Ack):
            self.acked = max(self.acked, asked.delivery_tag)
        if isinstance(asked, commands.Basic.Qos):
            self.prefetch = asked.prefetch_count
        answer = _ANSWERS.get(type(asked))
        if answer is not None:
            self._say(answer(asked), channel)
        if isinstance(asked, commands.Basic.Consume):
            self.tag, self.channel = asked.consumer_tag, channel

    def _say(self, value: object, channel: int) -> None:
        self.wire.sendall(marshal(value, channel))


def push(consumer: Consumer, count: int, rate: int) -> float:
    """Push ``count`` messages, ``rate`` a second while the prefetch allows; return seconds."""
    while consumer.tag is None:
        consumer.take()
    made = deliveries(consumer.channel, consumer.tag, count)
    ready: list[bytes] = []
    sent, began = 0, time.monotonic()
    due_from, due_sent = began, 0
    while not consumer.ended and consumer.acked < count:
        now = time.monotonic()
        due = due_sent + int((now - due_from) * rate) - sent
        room = min(due, consumer.prefetch - (sent - consumer.acked), count - sent)
        if room < due and sent < count:
            # What the prefetch held back is not made up for later.
            due_from, due_sent = now, sent + max(0, room)
        if room > 0:
            while len(ready) < room and (some := next(made, None)):
                ready += some
            consumer.wire.sendall(b"".join(ready[:room]))
            sent += room
            del ready[:room]
        if select.select([consumer.wire], [], [], _EVERY_S)[0]:
            consumer.take()
    return time.monotonic() - began


def main() -> None:
    """Serve one consumer; print the port at the start and the rate at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=50_000)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        wire, _ = server.accept()
    with wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        consumer = Consumer(wire)
        seconds = push(consumer, given.count, given.rate)
        print(json.dumps({"acked": consumer.acked, "per_s": round(consumer.acked / seconds)}))
        wire.settimeout(30)
        while not consumer.ended:
            consumer.take()


if __name__ == "__main__":
    main()
