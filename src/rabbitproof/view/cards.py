"""A broker as cards of text: what the monitor shows, line by line.

Holds: the summary box, the queue cards, the lists below them, and what colour each line has.
Refuses to hold: when it is shown and where (``cli``, ``view/monitor``). Pure; what comes from
the broker is made safe here.

A line is a list of spans, each a text and a style: green, yellow, red, bold, dim, or none. The
text alone says everything; a colour only repeats it.
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.snapshot import Rates
from rabbitproof.text import safe
from rabbitproof.view.humanize import duration, number, rate, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rabbitproof.snapshot import (
        ConnectionSample,
        ConsumerSample,
        Event,
        NodeSample,
        Picture,
        QueueSample,
        Snapshot,
    )

Span = tuple[str, str]
Line = list[Span]

INNER = 63
"""Columns inside the summary box."""
RULE = "─" * 67
YELLOW_FROM = 1_000
"""Messages in a queue from which it is yellow: more than one full prefetch."""
RED_FROM = 100_000
"""Messages in a queue from which it is red: no consumer gets through that at once."""
SHOWN = 100
"""Queues, consumers and connections that plain text lists of each; more are counted."""
EVENTS_SHOWN = 10
_STYLES = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}
_NAME = 60
"""Characters shown of a name."""

PUBLISHING = "⬆ Publishing"
CONSUMING = "⬇ Consuming"


def ansi(line: Line) -> str:
    """Return a line as a terminal with colours wants it."""
    return "".join(
        f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text for text, style in line
    )


def plain(line: Line) -> str:
    """Return a line without colours."""
    return "".join(text for text, _ in line)


def picture(seen: Picture) -> list[Line]:
    """Return everything, from top to bottom."""
    snapshot = seen.snapshot
    out: list[Line] = []
    if seen.error is not None:
        out += [[(f"✗ {safe(seen.error, 500)}", "red")]]
        if snapshot is not None:
            out += [[(f"  Below is what was last known, {_age(seen)} old.", "dim")]]
        out += [[]]
    if snapshot is None:
        return out
    out += box(seen) + problems(seen) + [[]]
    out += heading("📊 QUEUES")
    out += _listed(ordered(seen), lambda queue: card(queue, seen), "queues", empty="no queues")
    out += [] if snapshot.queues else [[]]
    if snapshot.consumers is not None:
        out += heading("👥 CONSUMERS")
        lines = consumer_lines(snapshot)
        out += _listed(lines, lambda line: [line], "consumers", empty="no consumers")
        out += [[]]
    if snapshot.connections is not None:
        out += heading("🔌 CONNECTIONS")
        out += _listed(
            snapshot.connections,
            lambda one: [connection_line(one)],
            "connections",
            total=snapshot.connection_count,
            empty="no connections",
        )
        out += [[]]
    if snapshot.nodes:
        out += heading("💻 NODES")
        for node in snapshot.nodes:
            out += node_lines(node)
        out += [[]]
    if seen.events:
        out += heading("🕒 EVENTS")
        out += [event_line(event) for event in seen.events[:EVENTS_SHOWN]] + [[]]
    return [*out, *footer(seen)]


def heading(text: str) -> list[Line]:
    """Return a section's title and its rule."""
    return [[(text, "bold")], [(RULE, "dim")]]


def box(seen: Picture, shown: dict[str, str] | None = None) -> list[Line]:
    """Return the summary in its box; ``shown``: its figures, where they are known already."""
    first, second = summary(shown or figures(seen))
    return [
        [("╔" + "═" * INNER + "╗", "")],
        [("║", ""), ("  RabbitMQ Monitor Summary".ljust(INNER), "bold"), ("║", "")],
        [("╠" + "═" * INNER + "╣", "")],
        [(f"║  {first}".ljust(INNER + 1) + "║", "")],
        [(f"║  {second}".ljust(INNER + 1) + "║", "")],
        [("╚" + "═" * INNER + "╝", "")],
    ]


def figures(seen: Picture) -> dict[str, str]:
    """Return the figures of the summary by their names, in order."""
    snapshot = seen.snapshot
    if snapshot is None:
        return {}
    queues = snapshot.queues
    if snapshot.consumers is not None:
        consumers: int | None = len(snapshot.consumers)
    else:
        consumers = _sum(queue.consumers for queue in queues)
    connections = snapshot.connection_count
    if connections is None and snapshot.connections is not None:
        connections = len(snapshot.connections)
    active = sum(bool(activity(queue, seen)) for queue in queues)
    return {
        "Queues": number(len(queues)),
        "Consumers": number(consumers),
        "Connections": number(connections),
        "Ready": number(_sum(queue.ready for queue in queues)),
        "Unacked": number(_sum(queue.unacked for queue in queues)),
        "Active": f"{number(active)}/{number(len(queues))}" if snapshot.metrics else "metrics off",
    }


def summary(shown: dict[str, str]) -> tuple[str, str]:
    """Return the two lines inside the box."""
    return (
        f"Queues: {shown['Queues']:<4} Consumers: {shown['Consumers']:<4} "
        f"Connections: {shown['Connections']}",
        f"Ready: {shown['Ready']:>5}  Unacked: {shown['Unacked']:>6}  Active: {shown['Active']}",
    )


def problems(seen: Picture) -> list[Line]:
    """Return what is wrong and what is missing, nothing when all is well."""
    out: list[Line] = []
    for problem in seen.problems:
        mark = "✗" if problem.level == "red" else "⚠"
        out.append([(f"{mark} {problem.what}", problem.level), (f" → {problem.do}", "")])
    if seen.snapshot is not None:
        out += [[(f"⚠ {safe(text, 400)}", "yellow")] for text in seen.snapshot.missing]
    return out


def activity(queue: QueueSample, seen: Picture) -> tuple[str, ...]:
    """Return what goes on in a queue: publishing, consuming, both, or nothing."""
    now = seen.rates.get(queue.key, Rates())
    out = []
    if now.publish:
        out.append(PUBLISHING)
    if now.deliver or now.ack:
        out.append(CONSUMING)
    return tuple(out)


def colour(queue: QueueSample) -> str:
    """Return green, yellow or red by the depth of a queue."""
    depth = queue.total if queue.total is not None else queue.ready
    if depth is None:
        return "dim"
    return "green" if depth < YELLOW_FROM else "yellow" if depth < RED_FROM else "red"


def state(queue: QueueSample, seen: Picture) -> str:
    """Return what stands in a card's brackets."""
    if queue.state not in {"running", "", "idle"}:
        return safe(queue.state, 20)
    known = seen.rates.get(queue.key, Rates())
    if known == Rates():
        off = seen.snapshot is not None and not seen.snapshot.metrics
        return "metrics off" if off else "…"
    return "  ".join(activity(queue, seen)) or "Idle"


def card(queue: QueueSample, seen: Picture, *, narrow: bool = False) -> list[Line]:
    """Return a queue's card and the empty line below it; ``narrow`` for 40 columns."""
    shade = colour(queue)
    now = seen.rates.get(queue.key, Rates())
    ready, unacked, total = number(queue.ready), number(queue.unacked), number(queue.total)
    out: list[Line] = [
        [("●", shade), (" ", ""), (title(queue, seen), "bold"), (f"  [{state(queue, seen)}]", "")]
    ]
    if narrow:
        out.append([(f"  Ready={ready:>6}  Unacked={unacked:>6}", "")])
        out.append([(f"  Total={total:>6}", "")])
    else:
        out.append([(f"  Messages: Ready={ready:>6}  Unacked={unacked:>6}  Total={total:>6}", "")])
    moving = activity_text(now)
    if moving:
        out.append([("  " + moving.replace("  ", " ") if narrow else f"  Activity: {moving}", "")])
    consumers = consumer_count(queue, seen)
    if consumers:
        out.append([(f"  ✓ {consumers:,} active consumer(s)", "green")])
    return [*out, []]


def card_height(queue: QueueSample, seen: Picture) -> int:
    """Return how many lines a card has where it is not narrow (else one more)."""
    now = seen.rates.get(queue.key, Rates())
    moving = bool(now.publish or now.deliver or now.ack)
    return 3 + moving + bool(consumer_count(queue, seen))


def activity_text(now: Rates) -> str:
    """Return the rates that are not 0."""
    pairs = (("Pub", now.publish), ("Del", now.deliver), ("Ack", now.ack))
    return "  ".join(f"{name}={rate(value)}" for name, value in pairs if value)


def title(queue: QueueSample, seen: Picture) -> str:
    """Return a queue's name, with its vhost where several are shown."""
    name = safe(queue.name, _NAME)
    return name if seen.vhosts <= 1 else f"{name} ({safe(queue.vhost, 30)})"


def consumer_count(queue: QueueSample, seen: Picture) -> int | None:
    """Return how many consumers a queue has."""
    snapshot = seen.snapshot
    if snapshot is None or snapshot.consumers is None or queue.consumers:
        return queue.consumers
    return seen.consumer_counts.get(queue.key, 0)


def ordered(seen: Picture) -> list[QueueSample]:
    """Return the queues: what moves first, then the deepest, then by name."""
    if seen.snapshot is None:
        return []
    return sorted(
        seen.snapshot.queues,
        key=lambda queue: (
            not activity(queue, seen),
            -(queue.total or queue.ready or 0),
            queue.name,
            queue.vhost,
        ),
    )


def consumer_lines(snapshot: Snapshot, most: int | None = None) -> list[Line]:
    """Return a line for each of the first ``most`` consumers, with its connection."""
    clients = {one.name: one.client for one in snapshot.connections or ()}
    return [consumer_line(one, clients) for one in (snapshot.consumers or ())[:most]]


def consumer_line(consumer: ConsumerSample, clients: dict[str, str]) -> Line:
    """Return one consumer, what it consumes and over which connection."""
    client = clients.get(consumer.connection)
    via = safe(client, _NAME) if client else ""
    where = safe(consumer.connection, _NAME) or "?"
    limits = {None: "?", 0: "unlimited"}
    prefetch = limits.get(consumer.prefetch) or f"{consumer.prefetch}"
    kind = f"prefetch={prefetch}" if consumer.manual else "auto-ack"
    waiting = "" if consumer.active else "  [waiting]"
    return [
        ("  ● ", "green" if consumer.active else "dim"),
        (safe(consumer.tag, 40), "bold"),
        (f" ← {safe(consumer.queue, _NAME)}  {kind}  {f'{via}, ' if via else ''}{where}", ""),
        (waiting, "dim"),
    ]


def connection_line(one: ConnectionSample) -> Line:
    """Return one connection."""
    bad = one.state in {"blocked", "blocking", "flow"}
    client = safe(one.client, _NAME)
    return [
        ("  ● ", "yellow" if bad else "green"),
        (client or safe(one.name, _NAME), "bold"),
        (f"  {safe(one.user, 30)}@{safe(one.vhost, 30)}  ", ""),
        (f"[{safe(one.state, 20) or '?'}]", "yellow" if bad else "green"),
        (f"  {safe(one.name, _NAME)}" if client else "", "dim"),
    ]


def node_lines(node: NodeSample) -> list[Line]:
    """Return one node: memory, disk, file descriptors, sockets, uptime."""
    name = safe(node.name, _NAME)
    if not node.running:
        return [[("  ● ", "red"), (name, "bold"), ("  [down]", "red")]]
    alarm = node.memory_alarm or node.disk_alarm
    return [
        [
            ("  ● ", "red" if alarm or node.partitions else "green"),
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
    return [(f"  {_time(event.clock)}  ", "dim"), (event.text, "")]


def footer(seen: Picture) -> list[Line]:
    """Return what was asked, when, and what the rates are."""
    snapshot = seen.snapshot
    if snapshot is None:
        return []
    who = f"RabbitMQ {safe(snapshot.version, 20) or '?'} at {safe(snapshot.source, 80)}"
    return [[(f"{who}, {_time(snapshot.clock)}; {rates_note(seen)}.", "dim")]]


def rates_note(seen: Picture) -> str:
    """Say what the rates are worth."""
    if seen.snapshot is not None and not seen.snapshot.metrics:
        return "metrics off: no rates"
    if seen.own:
        return "rates from own samples of the last 15 s (queues report every 5 s)"
    return "rates are the broker's own over 5 s, up to 5 s old"


def as_object(seen: Picture) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    snapshot = seen.snapshot
    out: dict[str, Any] = {
        "error": seen.error,
        "time": None if snapshot is None else _iso(snapshot.clock),
        "problems": [{"level": one.level, "what": one.what, "do": one.do} for one in seen.problems],
    }
    if snapshot is None:
        return out
    return out | {
        "source": snapshot.source,
        "rabbitmq": snapshot.version,
        "cluster": snapshot.cluster,
        "metrics": snapshot.metrics,
        "rates_from": "own samples" if seen.own else "broker",
        "missing": list(snapshot.missing),
        "queues": [
            {
                "vhost": queue.vhost,
                "name": queue.name,
                "type": queue.type,
                "state": queue.state,
                "ready": queue.ready,
                "unacked": queue.unacked,
                "total": queue.total,
                "consumers": consumer_count(queue, seen),
                "publish_per_s": now.publish,
                "deliver_per_s": now.deliver,
                "ack_per_s": now.ack,
            }
            for queue in snapshot.queues
            for now in (seen.rates.get(queue.key, Rates()),)
        ],
        "consumers": _objects(snapshot.consumers),
        "connections": _objects(snapshot.connections),
        "nodes": _objects(snapshot.nodes),
        "events": [{"time": _iso(one.clock), "text": one.text} for one in seen.events],
    }


def _objects(values: Iterable[Any] | None) -> list[dict[str, Any]] | None:
    return None if values is None else [asdict(one) for one in values]


def _listed(
    things: Iterable[Any],
    lines: Callable[[Any], list[Line]],
    what: str,
    *,
    empty: str,
    total: int | None = None,
) -> list[Line]:
    all_of_them = list(things)
    out = [line for one in all_of_them[:SHOWN] for line in lines(one)]
    more = max(total or 0, len(all_of_them)) - min(SHOWN, len(all_of_them))
    if more > 0:
        out.append([(f"  … and {more:,} more {what}; --filter or --json shows them", "dim")])
    return out or [[(f"  {empty}", "dim")]]


def _sum(values: Iterable[int | None]) -> int | None:
    """Add what is known; None when there are values and nothing is known of any."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    return None if known and not numbers else sum(numbers)


def _of(value: int | None, limit: int | None) -> str:
    return number(value) if limit is None else f"{number(value)} of {number(limit)}"


def _age(seen: Picture) -> str:
    if seen.snapshot is None:
        return "?"
    return duration(time.time() - seen.snapshot.clock)


def _time(clock: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(clock))


def _iso(clock: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock))


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    return sum(
        2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one)
        for one in text
    )
