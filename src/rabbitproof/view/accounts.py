"""The books of a report: where each message is, what else was counted, and what was lost.

Refuses to count (that is ``proof/books.py``) and to know HTML. Pure; what comes back is safe to
show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rabbitproof.text import safe
from rabbitproof.view import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rabbitproof.model import QueueVerdict, TrialResult

_NAME, _SENTENCE = 60, 500
"""Characters shown of a name and of a sentence, at most."""
_IDS = 10
"""Lost ids shown of each queue."""
_DROPPED: Final = {
    "expired": "dropped: expired",
    "maxlen": "dropped: the queue was full",
    "delivery_limit": "dropped: delivered too often",
    "rejected": "dropped: rejected",
    "purged": "dropped: purged",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the books: what it is, and a figure for each queue."""

    sign: str
    name: str
    figures: tuple[str, ...]
    kind: str = ""
    """A class of the page's style."""


def books(result: TrialResult, queues: Mapping[str, QueueVerdict]) -> list[Entry]:
    """Return where each message is that had to be there; the parts add up to the first line."""
    books = [queue.books for queue in queues.values()]
    if not books:
        return []
    confirmed = all(one.wanted == result.verdict.confirmed for one in books)
    rows: tuple[tuple[str, str, str, str], ...] = (
        ("wanted", "", "confirmed" if confirmed else "had to be here", ""),
        ("seen", "=", "seen by a consumer", ""),
        ("left", "+", "still in the queue", ""),
        ("dropped", "+", "dropped for a known reason", ""),
        ("damaged", "+", "came, and only damaged", "bad"),
        ("undecided", "+", "nobody can tell", "unsure"),
        ("lost", "+", "lost", "bad"),
        ("residue", "", "copies too many for that", "unsure"),
    )
    rare = {"damaged", "undecided", "residue"}
    out = []
    for field, sign, name, kind in rows:
        values = [abs(getattr(one, field)) for one in books]
        if field not in rare or any(values):
            shown = tuple(f"{value:,}" for value in values)
            out.append(Entry(sign, name, shown, kind if any(values) else "good" if kind else ""))
    return out


def counted(queues: Mapping[str, QueueVerdict]) -> list[Entry]:
    """Return what else was counted in the queues, each with a word on what it means."""
    all_of = list(queues.values())
    rows: tuple[tuple[str, str, bool], ...] = (
        ("received", "received, copies and all", True),
        ("left_in_queue", "left at the end, by the broker’s count", True),
        ("recovered", "not confirmed, and here all the same", False),
        ("nacked_delivered", "of these: refused to the sender", False),
        ("returned_delivered", "of these: returned to the sender", False),
        ("duplicates_redelivered", "copies, flagged as redelivered", True),
        ("duplicates_resent", "copies of what was sent twice", False),
        ("duplicates_unflagged", "copies that came as if they were the first", True),
        ("corrupt", "damaged", True),
        ("foreign", "not of this run", True),
        ("reordered", "came behind a later one", True),
    )
    bad = {"duplicates_unflagged", "corrupt"}
    out = []
    for field, name, always in rows:
        values = [getattr(queue, field) for queue in all_of]
        if always or any(values):
            none = "?" if field == "left_in_queue" else surroundings.NONE
            shown = tuple(none if value is None else f"{value:,}" for value in values)
            out.append(Entry("", name, shown, "bad" if field in bad and any(values) else ""))
    for reason in dict.fromkeys(reason for queue in all_of for reason in queue.dropped):
        name = _DROPPED.get(reason, f"dropped: {safe(reason, _NAME)}")
        shown = tuple(f"{queue.dropped.get(reason, 0):,}" for queue in all_of)
        out.append(Entry("", name, shown))
    if any(queue.dead_lettered for queue in all_of):
        shown = tuple(f"{queue.dead_lettered:,}" for queue in all_of)
        out.append(Entry("", "of these: found in a dead-letter queue", shown))
    return out


def remarks(queues: Mapping[str, QueueVerdict]) -> list[str]:
    """Return what has to be known of a queue's figures: whole sentences."""
    out = []
    for name, queue in queues.items():
        shown = safe(name, _NAME)
        if queue.judged_by == "count":
            out.append(f"{shown} was judged by the broker’s count alone: nobody consumed it.")
        elif queue.order_unchecked:
            why = safe(queue.order_unchecked, _SENTENCE).rstrip(".")
            out.append(f"In {shown} the order was not checked: {why}.")
        if queue.lost_among > queue.lost:
            out.append(
                f"The lost in {shown} are among {queue.lost_among:,} that were not seen; the "
                "others went for a known reason, and it is only known how many did."
            )
        elif parts := _where_lost(queue):
            out.append(f"Of the lost in {shown}, {parts}.")
    return out


def _where_lost(queue: QueueVerdict) -> str:
    parts = [
        f"{number:,} {'is' if number == 1 else 'are'} {where}"
        for number, where in (
            (queue.lost_head, "from before the first that was seen"),
            (queue.lost_middle, "from between others that were seen"),
            (queue.lost_tail, "from behind the last that was seen"),
        )
        if number
    ]
    return listed(parts) if parts else ""


def lost(queues: Mapping[str, QueueVerdict], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return for each queue that lost some: how many, the first ids, and the file with all."""
    return [
        {
            "queue": safe(name, _NAME),
            "count": queue.lost,
            "ids": [safe(one, _NAME) for one in queue.lost_ids[:_IDS]],
            "file": safe(files.get(name, "")),
            "address": quote(files.get(name, "")),
        }
        for name, queue in queues.items()
        if queue.lost
    ]


def listed(parts: list[str]) -> str:
    """Return one sentence's part: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
