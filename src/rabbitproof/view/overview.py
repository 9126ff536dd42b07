"""A whole picture of a broker: as text from top to bottom, and as what ``--json`` prints.

Holds: the order of the sections, how many of each are listed, and the names of the JSON. Refuses
to hold: what a card or a line says (``cards``, ``lists``). Pure, except that an age needs the time.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.snapshot import Rates
from rabbitproof.text import safe
from rabbitproof.view import cards, lists
from rabbitproof.view.humanize import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rabbitproof.snapshot import Picture
    from rabbitproof.view.cards import Line

RULE = "─" * 67
SHOWN = 100
"""Queues, consumers and connections that plain text lists of each; more are counted."""
EVENTS_SHOWN = 10


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
    out += cards.box(seen) + cards.problems(seen) + [[]]
    out += heading("📊 QUEUES")
    out += _listed(
        cards.ordered(seen),
        lambda queue: cards.card(queue, seen),
        "queues",
        empty="no queues" if snapshot.listed else "?",
    )
    out += [] if snapshot.queues else [[]]
    if snapshot.consumers is not None:
        out += heading("👥 CONSUMERS")
        lines = lists.consumer_lines(snapshot)
        out += _listed(lines, lambda line: [line], "consumers", empty="no consumers")
        out += [[]]
    if snapshot.connections is not None:
        out += heading("🔌 CONNECTIONS")
        out += _listed(
            snapshot.connections,
            lambda one: [lists.connection_line(one)],
            "connections",
            total=snapshot.connection_count,
            empty="no connections",
        )
        out += [[]]
    if snapshot.nodes:
        out += heading("💻 NODES")
        for node in snapshot.nodes:
            out += lists.node_lines(node)
        out += [[]]
    if seen.events:
        out += heading("🕒 EVENTS")
        out += [lists.event_line(event) for event in seen.events[:EVENTS_SHOWN]] + [[]]
    return [*out, *footer(seen)]


def heading(text: str) -> list[Line]:
    """Return a section's title and its rule."""
    return [[(text, "bold")], [(RULE, "dim")]]


def footer(seen: Picture) -> list[Line]:
    """Return what was asked, when, and what the rates are."""
    snapshot = seen.snapshot
    if snapshot is None:
        return []
    who = f"RabbitMQ {safe(snapshot.version, 20) or '?'} at {safe(snapshot.source, 80)}"
    return [[(f"{who}, {lists.time_of_day(snapshot.clock)}; {cards.rates_note(seen)}.", "dim")]]


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
        "rabbitmq": snapshot.version or None,
        "cluster": snapshot.cluster or None,
        "metrics": snapshot.metrics,
        "rates_from": "own samples" if seen.own else "broker",
        "requests": snapshot.requests,
        "refresh_s": None if seen.seconds is None else round(seen.seconds, 3),
        "missing": list(snapshot.missing),
        "queues": [
            {
                "vhost": queue.vhost,
                "name": queue.name,
                "type": queue.type or None,
                "state": queue.state or None,
                "ready": queue.ready,
                "unacked": queue.unacked,
                "total": queue.total,
                "consumers": cards.consumer_count(queue, seen),
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
    """Return values as they are printed; an empty text is what the broker does not tell."""
    if values is None:
        return None
    return [
        {name: None if value == "" else value for name, value in asdict(one).items()}
        for one in values
    ]


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


def _age(seen: Picture) -> str:
    if seen.snapshot is None:
        return "?"
    return duration(time.time() - seen.snapshot.clock)


def _iso(clock: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock))
