"""What several test files need: participants in one line, and pika as the independent witness."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pika

from rabbitproof.address import parse
from rabbitproof.amqp.connection import Connection, open_connection
from rabbitproof.identity import Source, new_run
from rabbitproof.model import Queue, Topology
from rabbitproof.work import consume, produce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def topology(
    work: str = "work.queue", audit: str | None = "audit.queue", **settings: Any
) -> Topology:
    """The project's own topology with durable queues, unless told otherwise."""
    settings.setdefault("durable", True)
    return Topology(
        "direct.exchange",
        "work",
        Queue(work, **settings),
        None if audit is None else Queue(audit, **settings),
    )


def connector(url: str, name: str = "test") -> Callable[[], Connection]:
    return lambda: open_connection(parse(url), name)


def producer(url: str, count: int = 100, **settings: Any) -> produce.Producer:
    settings.setdefault("topology", topology())
    settings.setdefault("source", Source(new_run(), 1))
    settings.setdefault("persistent", True)
    return produce.Producer(produce.Task(count=count, **settings), connector(url, "producer"))


def consumer(url: str, queue: str = "work.queue", **settings: Any) -> consume.Consumer:
    return consume.Consumer(consume.Task(queue=queue, **settings), connector(url, "consumer"))


def drive(participant: produce.Producer | consume.Consumer) -> Any:
    """Run a participant to its end and return its summary."""
    for _ in participant.run():
        pass
    return participant.summary()


@contextmanager
def witness(url: str) -> Iterator[Any]:
    """A pika channel: somebody else's client."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def ready(url: str, queue: str) -> int:
    """How many messages pika counts in a queue."""
    with witness(url) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until a condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)  # between two looks at the condition, with the deadline above
