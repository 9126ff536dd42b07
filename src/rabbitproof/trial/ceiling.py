"""The wire ceiling: how fast the broker takes and gives, with next to no client in the way.

``publish`` replays one buffer of publishes that was encoded before the clock starts, with
confirms and a window; nothing is encoded, recorded or judged. ``consume`` reads deliveries
without looking into them: the queue holds the messages 1 to N of one producer in order, whose
sizes are known, so a count of bytes is a count of messages. Of mixed traffic only the total is
known (``--bytes``), so there everything that came is acknowledged, whatever it is (delivery tag
0). No client can be faster.

Runs as a process of its own, ``python -m rabbitproof.trial.ceiling publish|consume``, and prints
one JSON object like the other clients that ``bench`` compares. Measures the default path: the
same socket options, window and spacing of acknowledgements as the work it is the ceiling of.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

from pamqp import commands
from pamqp.frame import marshal

from rabbitproof.address import parse
from rabbitproof.amqp import methods
from rabbitproof.amqp.confirms import read_confirms
from rabbitproof.amqp.connection import open_connection
from rabbitproof.amqp.gather import LONGEST_S
from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.errors import Overdue, RabbitproofError, UsageError
from rabbitproof.identity import Source, id_prefix
from rabbitproof.trial.peers.program import HOST, SENDER, URL_VARIABLE
from rabbitproof.work.consume import GATHER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 500
"""Messages in the buffer that is replayed, as many as a producer encodes at once."""
READ_SIZE = 1 << 20
CONSUMER_TAG = "ceiling"
IDLE_S = 10.0
"""Seconds of silence after which nothing more comes; a broker under load pauses for one or two."""


def whole_deliveries(received: int, first: int) -> int:
    """Return how many whole deliveries ``received`` bytes of a queue hold.

    The queue holds messages 1, 2, 3 … whose bodies differ in the digits of their number alone;
    ``first`` is the bytes of message 1's delivery, so one of d digits has ``first + d - 1``.
    """
    done, digits = 0, 1
    while True:
        size, group = first + digits - 1, 9 * 10 ** (digits - 1)
        if received < size * group:
            return done + received // size
        received -= size * group
        done, digits = done + group, digits + 1


def first_delivery(data: bytes) -> int | None:
    """Return the bytes of the delivery at the start of ``data``; None when it is not all there."""
    end = 0
    for _ in range(3):  # method, content header, one body frame
        if len(data) < end + 7:
            return None
        end += 8 + int.from_bytes(data[end + 3 : end + 7], "big")
    return end if len(data) >= end else None


def publish(url: str, envelope: Envelope, count: int, window: int, deadline: float) -> float:
    """Replay ``count`` publishes; return seconds from the first byte to the last confirm."""
    connection = open_connection(parse(url), "rabbitproof ceiling, publish", heartbeat=0)
    channel = connection.open_channel()
    connection.call(channel, commands.Confirm.Select())
    batch = min(BATCH, max(1, window // 4), count)
    # All of one size: with as many digits as most of the numbers of a run of this length have.
    lowest = max(10 ** (len(str(count)) - 1), 10 ** (len(str(batch)) - 1))
    data = Publishes(envelope).encode(range(lowest, lowest + batch), sent_ns=time.time_ns())
    size = len(data) // batch
    buffer = memoryview(data)
    wire = connection.detach()
    poll = select.poll()
    began = time.perf_counter()
    sent = confirmed = 0  # whole messages handed over; messages confirmed
    offset = 0  # bytes of the buffer that the kernel has taken
    singles: set[int] = set()
    up_to = 0
    rest = b""
    with contextlib.closing(wire):
        while confirmed < count:
            room = min(batch, count - sent)
            may_send = offset > 0 or (room > 0 and sent - confirmed + room <= window)
            while may_send:
                end = size * min(batch, count - sent)
                try:
                    offset += wire.send(buffer[offset:end])
                except BlockingIOError:
                    break
                if offset == end:
                    sent, offset = sent + end // size, 0
                    room = min(batch, count - sent)
                    may_send = room > 0 and sent - confirmed + room <= window
            poll.register(wire, select.POLLIN | (select.POLLOUT if may_send else 0))
            for _, ready in poll.poll(1000):
                if ready & select.POLLIN:
                    rest += _read(wire)
            position = 0
            while True:
                confirms, after = read_confirms(rest, position)
                if confirms is None:
                    break
                position = after
                if confirms.up_to > up_to:
                    up_to = confirms.up_to
                    singles = {tag for tag in singles if tag > up_to}
                singles.update(tag for tag in confirms.singles if tag > up_to)
                while up_to + 1 in singles:
                    up_to += 1
                    singles.discard(up_to)
            confirmed = up_to + len(singles)
            rest = rest[position:]
            _check(began, deadline)
        return time.perf_counter() - began


def consume(
    url: str, queue: str, count: int, prefetch: int, deadline: float, total: int | None = None
) -> float:
    """Count ``count`` deliveries; return seconds from basic.consume to the last ack.

    ``total``: bytes of all of them, when they are not those of one producer in order.
    """
    connection = open_connection(parse(url), "rabbitproof ceiling, consume", heartbeat=0)
    channel = connection.open_channel()
    connection.call(channel, commands.Basic.Qos(prefetch_count=prefetch))
    wire = connection.detach()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, GATHER_BYTES)
    consume_it = methods.BasicConsume(queue=queue, consumer_tag=CONSUMER_TAG)
    began = heard = time.perf_counter()
    wire.send(marshal(consume_it, channel))
    quarter = max(1, prefetch // 4)
    poll = select.poll()
    poll.register(wire, select.POLLIN)
    head = b""
    first = received = done = acked = 0
    with contextlib.closing(wire):
        while acked < count:
            in_time = poll.poll(LONGEST_S * 1000)  # else there may be fewer bytes than asked for
            data = _read(wire)
            if data:
                heard = time.perf_counter()
                if not first:
                    head += data
                    answer = 8 + int.from_bytes(head[3:7], "big") if len(head) > 7 else 0  # ok
                    first = first_delivery(head[answer:]) or 0 if answer else 0
                    received = len(head) - answer
                else:
                    received += len(data)
                if first:
                    done = received * count // total if total else whole_deliveries(received, first)
            if done > acked and (not in_time or done - acked >= quarter or done >= count):
                tag = 0 if total else done
                wire.send(marshal(commands.Basic.Ack(tag, multiple=True), channel))
                acked = done
            elif time.perf_counter() - heard > IDLE_S:
                break  # what came has fewer bytes than it should have
            _check(began, deadline)
        seconds = time.perf_counter() - began
        _say_goodbye(wire, poll, channel)
    if acked != count or received != (total or _total(count, first)):
        raise UsageError(
            f"The queue '{queue}' held something else than the messages 1 to {count} of one "
            "producer; fill a queue of its own for the measurement."
        )
    return seconds


def _say_goodbye(wire: socket.socket, poll: select.poll, channel: int) -> None:
    """Close the channel: a connection that just ends may take its last ack with it."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    wire.send(marshal(commands.Channel.Close(200, "done", 0, 0), channel))
    end = time.perf_counter() + IDLE_S
    answer = b""
    while marshal(commands.Channel.CloseOk(), channel) not in answer:
        if not poll.poll(IDLE_S * 1000) or time.perf_counter() > end:
            raise Overdue("The broker did not answer the end of the measurement; see its log.")
        answer = answer[-16:] + _read(wire)


def _total(count: int, first: int) -> int:
    return sum(
        (first + digits - 1) * (min(count, 10**digits - 1) - 10 ** (digits - 1) + 1)
        for digits in range(1, len(str(count)) + 1)
    )


def _read(wire: socket.socket) -> bytes:
    """Return what is there, perhaps nothing."""
    try:
        data = wire.recv(READ_SIZE)
    except BlockingIOError:
        return b""
    if not data:
        raise RabbitproofError("The broker ended the connection; its log says why.")
    return data


def _check(began: float, deadline: float) -> None:
    if time.perf_counter() - began > deadline:
        raise Overdue(
            f"The measurement took more than {deadline:.0f} s; look at the broker's alarms, or "
            "make --count smaller."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure once and print the figures."""
    parser = argparse.ArgumentParser(description="Measure the wire ceiling once.")
    parser.add_argument("role", choices=["publish", "consume"])
    # Not among the arguments, which every user of the machine can see.
    url = os.environ[URL_VARIABLE]
    for name in ("exchange", "routing-key", "queue", "text", "run"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("count", "window", "prefetch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--deadline", type=float, default=300.0)
    parser.add_argument("--bytes", type=int, help="Of all deliveries; for mixed traffic.")
    given = parser.parse_args(arguments)
    cpu = time.process_time()
    if given.role == "publish":
        rest = json.dumps({"text": given.text, "sent_by": SENDER}, separators=(",", ":"))[
            1:
        ].encode()
        envelope = Envelope(
            channel=1,
            exchange=given.exchange,
            routing_key=given.routing_key,
            id_prefix=id_prefix(Source(given.run, 1)),
            body_head=b'{"n":',
            body_tail=lambda _: b"," + rest,
            headers={"producer_id": SENDER, "host": HOST},
            frame_max=131_072,
            persistent=True,
        )
        seconds = publish(url, envelope, given.count, given.window, given.deadline)
    else:
        seconds = consume(
            url, given.queue, given.count, given.prefetch, given.deadline, given.bytes
        )
    spent = time.process_time() - cpu
    end = {"messages": given.count, "unique": None, "seconds": seconds, "cpu_seconds": spent}
    print(json.dumps(end))


if __name__ == "__main__":
    try:
        main()
    except RabbitproofError as error:
        sys.exit(str(error))
