"""One queue in full: its last ten minutes, what it is, who consumes it, when it will be empty.

Pure. Refuses to hold: how a graph is put on the screen (``view/monitor``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rabbitproof.text import safe
from rabbitproof.view.humanize import duration, number, rate, size
from rabbitproof.view.lists import manner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.snapshot import Detail, QueueSample, Rates
    from rabbitproof.view.cards import Line

NEVER = "never empty at this rate: "
_LEVEL = 0.02
"""A part of what comes in that is no trend: rates are not finer than that."""
_BLOCKS = " ▁▂▃▄▅▆▇█"
MINUTES = 10
_CHART_HEIGHT = 5
_LABEL = 8
"""Columns left of a graph."""
_NAME = 80


def until_empty(queue: QueueSample, now: Rates) -> str | None:
    """Say when a queue will be empty at the current rates; None when they are not known."""
    depth = queue.total if queue.total is not None else queue.ready
    if depth is None or now.publish is None or queue.type == "stream":
        return None
    if not depth:
        return "empty now"
    # What needs no acknowledgement is gone with its delivery.
    out = now.ack or now.deliver
    if out is None:
        return None
    net = out - now.publish
    if now.publish and abs(net) <= _LEVEL * now.publish:
        return "keeps up" if depth <= out else f"{NEVER}as much comes as goes"
    if net > 0:
        return f"empty in {duration(depth / net)}"
    if net < 0:
        return f"{NEVER}grows by {rate(-net)}"
    return f"{NEVER}stands still"


def chart(
    samples: Sequence[tuple[float, float]], width: int, height: int, end: float, span: float
) -> list[str]:
    """Return a graph of (clock, value) over the ``span`` seconds before ``end``.

    Each column shows the highest value of its time; a column without a sample repeats the one
    before it, and is empty where there is none yet.
    """
    columns: list[float | None] = [None] * width
    for when, value in samples:
        place = int((when - (end - span)) / span * width)
        if 0 <= place <= width:
            place = min(place, width - 1)
            columns[place] = max(columns[place] or 0.0, value)
    for place in range(1, width):
        if columns[place] is None:
            columns[place] = columns[place - 1]
    top = max((value for value in columns if value is not None), default=0.0)
    steps = height * (len(_BLOCKS) - 1)
    rows = []
    for row in reversed(range(height)):
        line = ""
        for one in columns:
            filled = 0 if not one or not top else max(1, round(one / top * steps))
            line += _BLOCKS[min(max(filled - row * (len(_BLOCKS) - 1), 0), len(_BLOCKS) - 1)]
        rows.append(line)
    labels = [number(top), *[""] * (height - 2), "0"]
    return [
        f"{label:>{_LABEL - 2}} {'┤' if label else '│'}{row}"
        for label, row in zip(labels, rows, strict=True)
    ]


def lines(detail: Detail, now: Rates, clock: float, width: int) -> list[Line]:
    """Return everything that is known of a queue, for a screen of so many columns."""
    queue = detail.queue
    room = max(10, min(width, 200) - _LABEL - 1)
    out: list[Line] = [
        [("● ", "green"), (safe(queue.name, _NAME), "bold"), (f"  {_kind(detail)}", "")],
        [(f"  Ready={number(queue.ready)}  Unacked={number(queue.unacked)}"
          f"  Total={number(queue.total)}  Size={size(detail.bytes)}", "")],
        [(f"  Pub={rate(now.publish)}  Del={rate(now.deliver)}  Ack={rate(now.ack)}", "")],
    ]  # fmt: skip
    end = until_empty(queue, now)
    out.append([("  Time until empty: ", ""), (end or "? (no rates yet)", "bold")])
    age = "the broker does not know"
    if detail.oldest is not None:
        age = duration(clock - detail.oldest)
    out += [[(f"  Age of the oldest message: {age}", "")], []]
    for title, samples in (
        ("Messages", detail.depth),
        ("Published a second", detail.published),
        ("Acknowledged a second", detail.acknowledged),
    ):
        out.append([(f"{title}, last {MINUTES} minutes", "bold")])
        if samples:
            drawn = chart(samples, room, _CHART_HEIGHT, clock, MINUTES * 60)
            out += [[(row, "green")] for row in drawn]
        else:
            out.append([("  the broker tells no history of it", "dim")])
    out += [[], *_settings(detail), *_bindings(detail), *_consumers(detail)]
    out += [[(f"⚠ {safe(text, 400)}", "yellow")] for text in detail.missing]
    return out


def _kind(detail: Detail) -> str:
    queue = detail.queue
    words = [
        safe(queue.type, 20) or "type ?",
        {True: "durable", False: "transient", None: "durable ?"}[detail.durable],
        *(["exclusive"] if detail.exclusive else []),
        *(["auto-delete"] if detail.auto_delete else []),
        safe(queue.state, 20) or "state ?",
        f"vhost {safe(queue.vhost, 40)}",
    ]
    if queue.type in {"quorum", "stream"}:
        leader = "?" if queue.leader is None else safe(queue.leader, 60) or "none"
        words.append(
            f"leader {leader}, {number(queue.online)} of {number(queue.members)} members online"
        )
    elif queue.node:
        words.append(f"on {safe(queue.node, 60)}")
    return ", ".join(words)


def _settings(detail: Detail) -> list[Line]:
    policy = "?" if detail.policy is None else safe(detail.policy, 60) or "none"
    return [
        [("Arguments  ", "bold"), (_json(detail.arguments), "")],
        [("Policy  ", "bold"), (f"{policy} {_json(detail.policy_definition)}", "")],
    ]


def _json(values: dict[str, object] | None) -> str:
    if not values:
        return "?" if values is None else "-"
    return safe(json.dumps(values, ensure_ascii=False, default=str), 400)


def _bindings(detail: Detail) -> list[Line]:
    out: list[Line] = [[], [(f"Bindings ({_length(detail.bindings)})", "bold")]]
    for exchange, key in detail.bindings or ():
        source = "?" if exchange is None else safe(exchange, _NAME) or "(default)"
        out.append([(f"  {source} → {'?' if key is None else safe(key, _NAME)}", "")])
    return out


def _length(values: Sequence[object] | None) -> str:
    return "?" if values is None else f"{len(values)}"


def _consumers(detail: Detail) -> list[Line]:
    out: list[Line] = [[], [(f"Consumers ({_length(detail.consumers)})", "bold")]]
    for one, held in detail.consumers or ():
        full = bool(one.prefetch and held is not None and held >= one.prefetch)
        how = manner(one)
        how = how if one.manual is False else f"{how}  unacked={number(held)}"
        out.append(
            [
                (f"  {safe(one.tag, 40)}", "bold"),
                (f"  {how}  {safe(one.connection, _NAME)}", "yellow" if full else ""),
            ]
        )
    return out
