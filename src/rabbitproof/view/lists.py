"""What stands beside the queue cards: consumers, connections, nodes and events, a line or so each.

Pure; what comes from the broker is made safe here. Lines are as in ``cards``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rabbitproof.text import safe
from rabbitproof.view.cards import NAME
from rabbitproof.view.humanize import duration, number, size

if TYPE_CHECKING:
    from rabbitproof.snapshot import (
        ConnectionSample,
        ConsumerSample,
        Event,
        NodeSample,
        Snapshot,
    )
    from rabbitproof.view.cards import Line


def consumer_lines(snapshot: Snapshot, most: int | None = None) -> list[Line]:
    """Return a line for each of the first ``most`` consumers, with its connection."""
    clients = {one.name: one.client for one in snapshot.connections or ()}
    return [consumer_line(one, clients) for one in (snapshot.consumers or ())[:most]]


def consumer_line(consumer: ConsumerSample, clients: dict[str, str]) -> Line:
    """Return one consumer, what it consumes and over which connection."""
    client = clients.get(consumer.connection)
    via = safe(client, NAME) if client else ""
    where = safe(consumer.connection, NAME) or "?"
    waiting = "  [waiting]" if consumer.active is False else ""
    return [
        ("  ● ", "green" if consumer.active else "dim"),
        (safe(consumer.tag, 40) or "?", "bold"),
        (
            f" ← {safe(consumer.queue, NAME)}  {manner(consumer)}  "
            f"{f'{via}, ' if via else ''}{where}",
            "",
        ),
        (waiting, "dim"),
    ]


def manner(consumer: ConsumerSample) -> str:
    """Return how a consumer acknowledges, and how much it may hold until then."""
    if consumer.manual is False:
        return "auto-ack"
    # The limit of a whole channel is not told of its consumers.
    limits = {None: "?", 0: "none or its channel's"}
    return f"prefetch={limits.get(consumer.prefetch, consumer.prefetch)}"


def connection_line(one: ConnectionSample) -> Line:
    """Return one connection."""
    shade = "yellow" if one.state in {"blocked", "blocking", "flow"} else "green"
    shade = shade if one.state else "dim"
    client = safe(one.client, NAME)
    return [
        ("  ● ", shade),
        (client or safe(one.name, NAME), "bold"),
        (f"  {safe(one.user, 30) or '?'}@{safe(one.vhost, 30) or '?'}  ", ""),
        (f"[{safe(one.state, 20) or '?'}]", shade),
        (f"  {safe(one.name, NAME)}" if client else "", "dim"),
    ]


def node_lines(node: NodeSample) -> list[Line]:
    """Return one node: memory, disk, file descriptors, sockets, uptime."""
    name = safe(node.name, NAME)
    if node.running is False:
        return [[("  ● ", "red"), (name, "bold"), ("  [down]", "red")]]
    told = None not in (node.running, node.memory_alarm, node.disk_alarm)
    bad = node.memory_alarm or node.disk_alarm or node.partitions
    return [
        [
            ("  ● ", "red" if bad else "green" if told else "dim"),
            (name, "bold"),
            (f"  up {duration(node.uptime)}", ""),
        ],
        [
            (f"    Memory={size(node.memory)} of {size(node.memory_limit)}",
             "red" if node.memory_alarm else ""),
            (f"  Disk free={size(node.disk_free)} (limit {size(node.disk_limit)})",
             "red" if node.disk_alarm else ""),
        ],
        [
            (
                f"    File descriptors={_of(node.files, node.files_limit)}"
                f"  Sockets={_of(node.sockets, node.sockets_limit)}",
                "",
            )
        ],
    ]  # fmt: skip


def event_line(event: Event) -> Line:
    """Return one event with its time of day."""
    return [(f"  {time_of_day(event.clock)}  ", "dim"), (event.text, "")]


def _of(value: int | None, limit: int | None) -> str:
    return number(value) if limit is None else f"{number(value)} of {number(limit)}"


def time_of_day(clock: float) -> str:
    """Return hours, minutes and seconds of this machine's time."""
    return time.strftime("%H:%M:%S", time.localtime(clock))
