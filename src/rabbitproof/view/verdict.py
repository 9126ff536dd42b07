"""A verdict as text for people and as an object for programs. Pure; imports the model only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.text import safe
from rabbitproof.view import lines

if TYPE_CHECKING:
    from rabbitproof.model import QueueVerdict, TrialResult

_COLUMNS = (
    "received", "unique", "lost", "duplicates", "corrupt", "foreign", "reordered", "left",
)  # fmt: skip
_IDS_SHOWN = 5
_LATENCIES = {"confirm": "confirm", "end_to_end": "end-to-end"}
"""In the object -> in words."""


def as_object(result: TrialResult) -> dict[str, Any]:
    """Return what ``prove --json`` prints."""
    verdict = result.verdict
    return {
        "verdict": str(verdict.decision),
        "reasons": list(verdict.reasons),
        "scenario": result.scenario,
        "run": result.run,
        "attempted": verdict.attempted,
        "confirmed": verdict.confirmed,
        "nacked": verdict.nacked,
        "returned": verdict.returned,
        "in_doubt": verdict.in_doubt,
        "queues": {name: _queue(queue) for name, queue in verdict.queues.items()},
        "claims": [{"claim": text, "held": held} for text, held in result.claims],
        "faults": [],
        "publish_per_s": result.publish_per_s,
        "consume_per_s": result.consume_per_s,
        "latency_ms": {kind: result.latency.get(kind) for kind in _LATENCIES},
        "environment": result.environment,
    }


def _queue(queue: QueueVerdict) -> dict[str, Any]:
    out = asdict(queue)
    out["lost_ids"] = list(queue.lost_ids)
    out["reordered_reason"] = out.pop("order_unchecked")
    out["dropped"] = {}
    return out


def headline(result: TrialResult) -> str:
    """Return the verdict in one sentence."""
    verdict = result.verdict
    match verdict.decision:
        case "PASS":
            return (
                f"{verdict.confirmed:,} messages were confirmed, and every one of them was "
                "accounted for in every queue."
            )
        case "FAIL":
            return "RabbitMQ, this topology or what happened to it broke a promise."
        case _:
            return "It could not be proven either way."


def details(result: TrialResult) -> list[str]:
    """Return the books below the headline, line by line."""
    verdict = result.verdict
    out = [f"  - {safe(reason, 500)}" for reason in verdict.reasons]
    if out:
        out.append("")
    out.append(
        f"sent      attempted={verdict.attempted:,}  confirmed={verdict.confirmed:,}  "
        f"nacked={verdict.nacked:,}  returned={verdict.returned:,}  in_doubt={verdict.in_doubt:,}"
    )
    out += _table(verdict.queues)
    for name, queue in verdict.queues.items():
        if queue.lost_ids:
            shown = ", ".join(queue.lost_ids[:_IDS_SHOWN])
            more = "" if queue.lost <= _IDS_SHOWN else " …"
            out.append(f"lost in {safe(name)}: {shown}{more}")
    checked = {queue.order_unchecked for queue in verdict.queues.values()} - {None}
    out += [f"order was not checked: {reason}." for reason in sorted(filter(None, checked))]
    out.append("")
    for text, held in result.claims:
        out.append(f"  [{'ok' if held else 'FAIL'}] {safe(text, 300)}")
    out.append("")
    out.append(
        f"publish {result.publish_per_s:,} msg/s, consume {result.consume_per_s:,} msg/s, "
        f"RabbitMQ {result.environment.get('rabbitmq', '?')}, "
        f"Erlang/OTP {result.environment.get('erlang', '?')}, "
        f"Python {result.environment.get('python', '?')}, run {result.run}"
    )
    out += [
        lines.latency(words, found)
        for kind, words in _LATENCIES.items()
        if (found := result.latency.get(kind)) is not None
    ]
    return out


def _table(queues: dict[str, QueueVerdict]) -> list[str]:
    rows: list[tuple[str, ...]] = [("", *_COLUMNS)]
    for name, queue in queues.items():
        copies = queue.duplicates_redelivered + queue.duplicates_resent + queue.duplicates_unflagged
        cells = (
            queue.received,
            queue.unique,
            queue.lost if not queue.undecided else f"{queue.lost}+{queue.undecided}?",
            copies,
            queue.corrupt,
            queue.foreign,
            "-" if queue.reordered is None else queue.reordered,
            "?" if queue.left_in_queue is None else queue.left_in_queue,
        )
        rows.append(
            (safe(name, 40), *(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0])
        + "  "
        + "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
