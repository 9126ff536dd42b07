"""A verdict as text for people and as an object for programs. Pure; imports the model only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.text import safe
from rabbitproof.view import lines

if TYPE_CHECKING:
    from rabbitproof.model import QueueVerdict, TrialResult, Verdict

_IDS_SHOWN = 5
_LONGEST_LINE = 4_000
"""Characters: more than the books of twenty queues need."""
_REASONS = ("expired", "maxlen", "delivery_limit", "rejected", "purged")
"""For which copies are dropped: an object names them all, also those that dropped none."""
_HELD = {True: "ok", False: "FAIL", None: "?"}
_LATENCIES = {"confirm": "confirm", "end_to_end": "end-to-end"}
"""In the object -> in words."""


def as_object(result: TrialResult) -> dict[str, Any]:
    """Return what ``prove --json`` prints."""
    verdict = result.verdict
    return {
        "verdict": str(verdict.decision),
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "scenario": result.scenario,
        "run": result.run,
        "attempted": verdict.attempted,
        "confirmed": verdict.confirmed,
        "nacked": verdict.nacked,
        "returned": verdict.returned,
        "in_doubt": verdict.in_doubt,
        "queues": {name: _queue(queue) for name, queue in verdict.queues.items()},
        "claims": [{"claim": text, "held": held} for text, held in result.claims],
        "faults": [asdict(fault) for fault in result.faults],
        "without_service_s": result.without_service_s,
        "longest_gap_s": result.longest_gap_s,
        "publish_per_s": result.publish_per_s,
        "consume_per_s": result.consume_per_s,
        "latency_ms": {kind: result.latency.get(kind) for kind in _LATENCIES},
        "environment": result.environment,
    }


def _queue(queue: QueueVerdict) -> dict[str, Any]:
    out = asdict(queue)
    out["lost_ids"] = list(queue.lost_ids)
    out["reordered_reason"] = out.pop("order_unchecked")
    out["dropped"] = dict.fromkeys(_REASONS, 0) | queue.dropped
    return out


def headline(result: TrialResult) -> str:
    """Return the verdict in one sentence."""
    verdict = result.verdict
    match verdict.decision:
        case "PASS":
            return (
                f"{verdict.confirmed:,} messages were confirmed, and every one of them was "
                f"accounted for in every queue{_but(verdict)}."
            )
        case "FAIL":
            return "RabbitMQ, this topology or what happened to it broke a promise."
        case _:
            return "It could not be proven either way."


def _but(verdict: Verdict) -> str:
    """Name the queues of which that can't be said."""
    names = [safe(name, 40) for name, queue in verdict.queues.items() if queue.books.undecided]
    return f" but {' and '.join(names)}, which nobody read" if names else ""


def details(result: TrialResult) -> list[str]:
    """Return the books below the headline, line by line."""
    verdict = result.verdict
    out = [f"  - {safe(reason, 500)}" for reason in verdict.reasons]
    out += [f"  note: {safe(note, 500)}" for note in verdict.notes]
    out += [
        "",
        f"of {verdict.attempted:,} messages: {verdict.confirmed:,} confirmed, "
        f"{verdict.nacked:,} nacked, {verdict.returned:,} returned, {verdict.in_doubt:,} in doubt",
        "",
    ]
    out += books(verdict)
    for name, queue in verdict.queues.items():
        if queue.lost_ids:
            shown = ", ".join(queue.lost_ids[:_IDS_SHOWN])
            more = "" if queue.lost <= _IDS_SHOWN else " …"
            out.append(f"lost in {safe(name)}{_where(queue)}: {shown}{more}")
    checked = {queue.order_unchecked for queue in verdict.queues.values()} - {None}
    out += [f"order was not checked: {reason}." for reason in sorted(filter(None, checked))]
    if result.claims:
        out.append("")
    for text, held in result.claims:
        out.append(f"  [{_HELD[held]}] {safe(text, 300)}")
    out.append("")
    out.append(
        f"publish {result.publish_per_s:,} msg/s, consume {result.consume_per_s:,} msg/s, "
        f"RabbitMQ {_said(result, 'rabbitmq')}, Erlang/OTP {_said(result, 'erlang')}, "
        f"Python {_said(result, 'python')}, run {safe(result.run, 40)}"
    )
    out += [
        lines.latency(words, found)
        for kind, words in _LATENCIES.items()
        if (found := result.latency.get(kind)) is not None
    ]
    if result.without_service_s:
        out.append(
            f"without service {result.without_service_s:.1f} s, the longest time without a confirm "
            f"{result.longest_gap_s or 0.0:.1f} s"
        )
    # Much of it is out of files that anybody may have written.
    return [safe(line, _LONGEST_LINE) for line in out]


def _said(result: TrialResult, what: str) -> str:
    """Return a version of the environment."""
    return safe(str(result.environment.get(what, "?")), 60)


def expectation(result: TrialResult) -> list[str]:
    """Return what there is to say of a scenario that loses by design, line by line."""
    if not result.expected:
        return []
    if not result.surprises:
        return [
            "",
            f"This scenario loses, doubles or spoils by design; {result.verdict.decision} was "
            f"expected, and exactly that was found: {safe(result.expected, 500)}",
        ]
    return [
        "",
        f"This scenario was expected to end differently: {safe(result.expected, 500)}",
        *(f"  - {safe(surprise, 500)}" for surprise in result.surprises),
    ]


def _where(queue: QueueVerdict) -> str:
    """Say where among the numbers the lost ones are."""
    parts = {"head": queue.lost_head, "middle": queue.lost_middle, "tail": queue.lost_tail}
    shown = [f"{count:,} at the {part}" for part, count in parts.items() if count]
    return f" ({', '.join(shown).replace('at the middle', 'in the middle')})" if shown else ""


def books(verdict: Verdict) -> list[str]:
    """Return the books as a table: a column for each queue, and below the line what else came.

    The first line of figures is the sum of those below it that begin with a sign. A line whose
    zeros say nothing is left out.
    """
    queues = verdict.queues.values()
    if not queues:
        return []
    return _rows(
        [
            ("should be here", [queue.books.wanted for queue in queues], True),
            ("  = seen", [queue.books.seen for queue in queues], True),
            ("  + came only damaged", [queue.books.damaged for queue in queues], False),
            ("  + dropped, reason known", [queue.books.dropped for queue in queues], False),
            ("  + still in the queue", [queue.books.left for queue in queues], False),
            ("  + nobody can tell", [queue.books.undecided for queue in queues], False),
            ("  + lost", [queue.books.lost for queue in queues], True),
            ("copies too many for that", [-queue.books.residue for queue in queues], False),
            ("", None, True),
            ("copies received", [queue.received for queue in queues], True),
            ("duplicates: redelivered", [q.duplicates_redelivered for q in queues], False),
            ("duplicates: sent twice", [q.duplicates_resent for q in queues], False),
            ("duplicates: not flagged", [q.duplicates_unflagged for q in queues], True),
            ("corrupt", [queue.corrupt for queue in queues], True),
            ("foreign", [queue.foreign for queue in queues], False),
            ("out of order", [queue.reordered for queue in queues], True),
            ("not confirmed, but here", [queue.recovered for queue in queues], False),
            ("  of them nacked", [queue.nacked_delivered for queue in queues], False),
            ("  of them returned", [queue.returned_delivered for queue in queues], False),
            *(
                (f"copies {words}", [queue.dropped.get(reason, 0) for queue in queues], False)
                for reason, words in _dropped(verdict).items()
            ),
            ("left in the queue", [queue.left_in_queue for queue in queues], True),
        ],
        [safe(name, 40) for name in verdict.queues],
    )


def _dropped(verdict: Verdict) -> dict[str, str]:
    """Return the reasons for which copies went, in words."""
    words = {"maxlen": "dropped: queue full", "delivery_limit": "dropped: delivery limit"}
    found = [reason for queue in verdict.queues.values() for reason in queue.dropped]
    return {reason: words.get(reason, safe(reason, 40)) for reason in dict.fromkeys(found)}


def _rows(
    lines_of: list[tuple[str, list[int] | list[int | None] | None, bool]], names: list[str]
) -> list[str]:
    """Return a table; a row whose last element is False only where it has a figure."""
    shown = [(label, cells) for label, cells, always in lines_of if always or any(cells or ())]
    left = max(len(label) for label, _ in shown)
    width = max(len(name) for name in [*names, "1,000,000"])
    out = [" " * left + "".join(f"  {name:>{width}}" for name in names)]
    for label, cells in shown:
        texts = ["?" if cell is None else f"{cell:,}" for cell in cells or ()]
        if label == "out of order":
            texts = ["-" if text == "?" else text for text in texts]
        out.append((f"{label:<{left}}" + "".join(f"  {text:>{width}}" for text in texts)).rstrip())
    return out
