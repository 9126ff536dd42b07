"""Bringing a topology into being, and asking the broker about it.

Shared by all participants. Refuses to decide what a topology should be (``cli``, ``trial``).
The broker's refusals are turned into sentences here, because only here it is known what was
wanted.
"""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from rabbitproof.amqp import methods
from rabbitproof.errors import (
    BrokerRefused,
    ConnectionClosed,
    NotFound,
    PreconditionFailed,
    UsageError,
)
from rabbitproof.model import Note, Purged
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Queue, Topology

LAZY_ENDED: Final = (3, 12)
"""The release from which classic queues ignore x-queue-mode."""

STREAM_SETTLE_S: Final = 10.0
"""A stream's count lags behind its confirms by seconds (measured: more than one)."""

TRANSIENT: Final = "transient_nonexcl_queues"
"""RabbitMQ's name for the feature that queues are neither durable nor exclusive."""

_MANY: Final = 100_000
"""Messages from which it is said that a queue is being purged: a million took 4 to 5 s (3.10)."""

_UNANSWERED_S: Final = 0.2
"""A count of 0 that took this long may be none."""
_BUSY_S: Final = 5.0
"""For which a queue that does not answer is asked again."""

_INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<arg>[^']+)' for (?P<what>queue|exchange) '.*': "
    r"received (?P<wanted>.+?) but current is (?P<there>.+?)$"
)
_FLAGS: Final = {"durable": "--durable", "x-queue-mode": "--lazy"}
_NOT_SET: Final = ("false", "none", "none of them", "default")


def release(connection: Connection) -> tuple[int, int]:
    """Return the broker's release as (major, minor); (0, 0) when it does not say."""
    found = re.match(r"(\d+)\.(\d+)", str(connection.server_properties.get("version", "")))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def lazy_works(connection: Connection) -> bool:
    """Say whether this broker's classic queues still know x-queue-mode=lazy."""
    return release(connection) < LAZY_ENDED


def check_lazy(queue: Queue) -> None:
    """Raise UsageError for a queue that can't be a lazy one."""
    if queue.kind != "classic":
        raise UsageError(
            f"--lazy is for classic queues and '{safe(queue.name)}' is a {queue.kind}"
            f"{' queue' if queue.kind == 'quorum' else ''}; leave out --lazy: it is always on disk."
        )


def check(topology: Topology) -> None:
    """Raise UsageError for what no broker could do."""
    for queue in topology.queues:
        if queue.lazy:
            check_lazy(queue)
    names = [queue.name for queue in topology.queues]
    if len(set(names)) != len(names):
        raise UsageError(
            f"The work queue and the audit queue are both named '{safe(names[0])}'; "
            'give them two names, or say --audit-queue "" for none.'
        )


def declare(connection: Connection, channel: int, topology: Topology) -> Iterator[Note]:
    """Declare the exchange and the queues, and bind them."""
    works = lazy_works(connection)
    if any(queue.lazy for queue in topology.queues) and not works:
        yield Note(
            "--lazy changes nothing on RabbitMQ "
            f"{safe(str(connection.server_properties.get('version', '')))}: from 3.12 on, classic "
            "queues write to disk by themselves. It was not sent; you can leave it out."
        )
    try:
        connection.call(
            channel,
            methods.ExchangeDeclare(
                exchange=topology.exchange, exchange_type="direct", durable=True
            ),
        )
    except PreconditionFailed as error:
        raise _inequivalent(error, topology.exchange, lazy_works=works) from None
    if topology.dead is not None:
        declare_queue(connection, channel, topology.dead)
    for queue in topology.queues:
        declare_queue(connection, channel, queue)
        if queue.bound:
            bind(connection, channel, topology, queue)


def bind(connection: Connection, channel: int, topology: Topology, queue: Queue) -> None:
    """Let a queue have a copy of what is published to the topology."""
    connection.call(
        channel,
        methods.QueueBind(
            queue=queue.name, exchange=topology.exchange, routing_key=topology.routing_key
        ),
    )


def declare_queue(connection: Connection, channel: int, queue: Queue) -> None:
    """Declare one queue."""
    works = lazy_works(connection)
    arguments = queue.arguments(lazy_works=works)
    try:
        connection.call(
            channel,
            methods.QueueDeclare(
                queue=queue.name,
                durable=queue.durable,
                arguments=arguments,
            ),
        )
    except PreconditionFailed as error:
        raise _inequivalent(error, queue.name, lazy_works=works) from None
    except ConnectionClosed as error:
        # 541 closes the whole connection. So does RabbitMQ from 3.13 on refuse a transient queue,
        # where an operator, or a release by default, does not permit them.
        if error.code == 541 and TRANSIENT in error.reply:
            version = safe(str(connection.server_properties.get("version", "")))
            # No ConnectionClosed: that code otherwise means that trying again may help.
            raise BrokerRefused(
                f"RabbitMQ {version} does not allow queues that are not durable, such as "
                f"'{safe(queue.name)}': {TRANSIENT} is not permitted there; add --durable.",
                code=error.code,
                reply=error.reply,
            ) from None
        raise


def _inequivalent(error: PreconditionFailed, name: str, *, lazy_works: bool) -> PreconditionFailed:
    found = _INEQUIVALENT.search(error.reply)
    if found is None:
        return error
    what, arg = found["what"], found["arg"]
    there, wanted = _value(found["there"]), _value(found["wanted"])
    if arg == "x-queue-type":  # a queue that was declared without a type is a classic one
        there, wanted = there.replace("none", "classic"), wanted.replace("none", "classic")
    keep = "publish into it with --no-declare"
    if what == "exchange":
        keep = f"name another one with --exchange, or {keep}"
    elif arg == "x-queue-type":
        keep = (
            f"ask for the type that it has ({there}) with --queue-type or --audit-type, or {keep}"
        )
    elif arg == "x-queue-mode" and not lazy_works:
        pass  # it still has to be the same there, and --lazy does not send it
    elif arg in _FLAGS:
        keep = f"{'leave out' if there in _NOT_SET else 'add'} {_FLAGS[arg]}, or {keep}"
    else:
        keep = f"declare it the same way, or {keep}"
    typed = shlex.quote(safe(name))
    delete = (
        f"delete it with its messages (`rabbitmqctl delete_queue {typed}`, or "
        f"`rabbitproof broker ctl delete_queue {typed}`) and run this again"
        if what == "queue"
        else "delete it and run this again"
    )
    text = (
        f"The {what} '{safe(name)}' exists with other settings (PRECONDITION_FAILED):\n"
        f"  {arg}: declared {there}, wanted {wanted}\n"
        f"Two ways out: keep it as it is ({keep}); "
        f"or {delete}."
    )
    return PreconditionFailed(text, code=error.code, reply=error.reply)


def _value(text: str) -> str:
    """Turn the broker's description of an argument into what a person would write."""
    text = text.strip().rstrip(".")
    plain = re.fullmatch(r"'(.*)'", text) or re.fullmatch(r"the value '(.*)' of type '\w+'", text)
    return plain[1] if plain else text


def purge(connection: Connection, channel: int, topology: Topology) -> Iterator[Note | Purged]:
    """Empty the topology's queues. A stream can't be purged: it is deleted and made again."""
    for queue in topology.queues:
        count = message_count(connection, channel, queue.name)
        if count >= _MANY:
            yield Note(f"purging {safe(queue.name)} ({count:,} messages)…")
        if queue.kind == "stream":
            connection.call(channel, methods.QueueDelete(queue=queue.name))
            declare_queue(connection, channel, queue)
            bind(connection, channel, topology, queue)
        else:
            answer = connection.call(channel, methods.QueuePurge(queue=queue.name))
            count = answer.message_count or 0
        yield Purged(queue.name, queue is not topology.work, count)


def look(connection: Connection, channel: int, name: str) -> Any:
    """Return the broker's answer to a passive declare: message_count and consumer_count.

    Raises NotFound, which closes the channel. The count of a quorum queue is 0 when its leader
    does not answer within 250 ms: zero is no proof of an empty queue.
    """
    return connection.call(channel, methods.QueueDeclare(queue=name, passive=True))


def message_count(connection: Connection, channel: int, name: str) -> int:
    """Return how many messages are ready in a queue. A 0 that may be no answer is asked again."""
    return int(look_again(connection, channel, name).message_count or 0)


def look_again(connection: Connection, channel: int, name: str) -> Any:
    """Return what ``look`` does; a 0 that may be no answer is asked again, for 5 s at most."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        found, sure = _look_once(connection, channel, name)
        if sure or time.monotonic() >= deadline:
            return found


def sure_count(connection: Connection, channel: int, name: str) -> int | None:
    """Ask once how many messages are ready in a queue; None when the queue did not answer."""
    found, sure = _look_once(connection, channel, name)
    return int(found.message_count or 0) if sure else None


def _look_once(connection: Connection, channel: int, name: str) -> tuple[Any, bool]:
    """Return the broker's answer, and whether its count is one.

    For a quorum queue that is busy for a quarter of a second RabbitMQ answers 0
    (``rabbit_quorum_queue:stat``), so a 0 that took as long may be no answer.
    """
    asked = time.monotonic()
    found = look(connection, channel, name)
    return found, bool(found.message_count) or time.monotonic() - asked < _UNANSWERED_S


def ready_count(connection: Connection, name: str) -> int | None:
    """Return how many messages are ready, on a channel of its own; None if there is no queue."""
    channel = connection.open_channel()
    try:
        count = message_count(connection, channel, name)
    except (NotFound, BrokerRefused):
        return None
    connection.call(channel, commands.Channel.Close(200, "done", 0, 0))
    return count


def settled_count(connection: Connection, channel: int, queue: Queue, expected: int) -> int:
    """Return how many messages are ready in a queue that nobody reads or writes just now.

    A stream's count lags, and a quorum queue's may be 0 for a moment: it is read until it is
    ``expected`` or more, or stood still for the time that the lag takes.
    """
    count = message_count(connection, channel, queue.name)
    if queue.kind == "classic":
        return count
    deadline = time.monotonic() + STREAM_SETTLE_S
    while count < expected and time.monotonic() < deadline:
        connection.wait(0.1)
        newer = message_count(connection, channel, queue.name)
        if newer != count:
            deadline = time.monotonic() + STREAM_SETTLE_S
        count = newer
    return count


def end_count(connection: Connection, queue: Queue, expected: int) -> tuple[int | None, int | None]:
    """Return how many messages are ready in a queue, and how many consume it, on a channel of
    its own; (None, None) if there is no such queue.

    Where the count lags it is read until it stands still, unless somebody takes from the queue.
    """
    channel = connection.open_channel()
    try:
        found = look_again(connection, channel, queue.name)
        count, consumers = int(found.message_count or 0), int(found.consumer_count or 0)
        if queue.kind == "stream" or (queue.kind == "quorum" and not consumers):
            count = settled_count(connection, channel, queue, expected)
    except BrokerRefused:
        return None, None
    connection.call(channel, commands.Channel.Close(200, "done", 0, 0))
    return count, consumers
