"""A picture of a broker as in the project's first description, for the tests of the view."""

from __future__ import annotations

from typing import Any

from rabbitproof.snapshot import (
    ConnectionSample,
    ConsumerSample,
    Event,
    NodeSample,
    Picture,
    Problem,
    QueueSample,
    Rates,
    Snapshot,
)

CLOCK = 1_700_000_000.0
WORK = QueueSample("/", "work.queue", ready=5200, unacked=500, total=5700, consumers=1)
AUDIT = QueueSample("/", "audit.queue", ready=10_000, unacked=0, total=10_000, consumers=0)
RATES = {
    WORK.key: Rates(publish=0.0, deliver=250.5, ack=250.5, redeliver=0.0),
    AUDIT.key: Rates(0.0, 0.0, 0.0, 0.0),
}
CONSUMERS = (
    ConsumerSample("/", "work.queue", "Worker-1", "127.0.0.1:4 -> 127.0.0.1:5672", prefetch=1000),
)
CONNECTIONS = (
    ConnectionSample(
        "127.0.0.1:4 -> 127.0.0.1:5672", "RabbitMQ Consumer Worker-1 (h)", "guest", "/", "running"
    ),
    ConnectionSample("127.0.0.1:5 -> 127.0.0.1:5672", "", "guest", "/", "blocked"),
)
NODES = (
    NodeSample(
        "rabbit@h", memory=2**28, memory_limit=2**30, disk_free=2**35, disk_limit=2**26,
        files=40, files_limit=20_000, sockets=2, sockets_limit=17_910, uptime=7260.0,
    ),
)  # fmt: skip


def snapshot(**changed: Any) -> Snapshot:
    settings: dict[str, Any] = {
        "at": 10.0, "clock": CLOCK, "source": "http://localhost:15672", "version": "4.3.6",
        "queues": (WORK, AUDIT), "consumers": CONSUMERS, "connections": CONNECTIONS,
        "connection_count": 2, "nodes": NODES,
    }  # fmt: skip
    return Snapshot(**(settings | changed))


def picture(taken: Snapshot | None = None, **changed: Any) -> Picture:
    settings: dict[str, Any] = {
        "rates": RATES,
        "consumer_counts": {WORK.key: 1},
        "events": (Event(CLOCK, "queue audit.queue appeared"),),
        "problems": (
            Problem("yellow", "10,000 message(s) wait in 1 queue(s) without consumer: audit.queue",
                    "start a consumer, unless they are kept on purpose"),
        ),
    }  # fmt: skip
    return Picture(snapshot() if taken is None else taken, **(settings | changed))
