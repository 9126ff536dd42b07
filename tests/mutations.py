"""Every way to spoil good ledgers, and what the verdict has to say of each.

A verdict that is never seen to fail proves nothing. So each thing that it can find is done here
to a copy of good ledgers, and afterwards every figure has to be exactly as told: those that the
spoiling changes, by so much, and all others as they were.

Knows what follows when something went wrong in the ledgers; ``rabbitproof selftest`` makes things
go wrong for real.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import spoils as do
from rabbitproof.identity import message_id
from rabbitproof.model import Books, Decision, QueueVerdict
from spoils import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.model import Verdict
    from spoils import Ledgers


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to spoil good ledgers, and what has to come of it."""

    name: str
    spoil: Callable[[Bench], None]
    decision: Decision
    queue: dict[str, Any] = field(default_factory=dict)
    """Figure of the spoiled queue -> by how much it changes; a figure of its books has ``books.``
    before its name. A value that is no number is what it becomes."""
    run: dict[str, int] = field(default_factory=dict)
    """The same for the figures of the run."""
    lost: tuple[int, ...] = ()
    """Of the numbers that were spoiled, by index, those whose ids have to be named as lost."""
    everywhere: bool = False
    """All queues change alike."""


_GONE: Final = {"received": -1, "unique": -1, "books.seen": -1}
"""One message less came."""
_LOST: Final = _GONE | {"lost": 1, "lost_among": 1, "books.lost": 1}

ALL: Final[tuple[Mutation, ...]] = (
    Mutation("lost-head", do.lose("head"), Decision.FAIL, _LOST | {"lost_head": 1}, lost=(0,)),
    Mutation("lost-middle", do.lose("middle"), Decision.FAIL,
             _LOST | {"lost_middle": 1}, lost=(0,)),
    Mutation("lost-tail", do.lose("tail"), Decision.FAIL, _LOST | {"lost_tail": 1}, lost=(0,)),
    Mutation("confirmed-for-nothing", do.confirm_one_more, Decision.FAIL,
             {"lost": 1, "lost_among": 1, "lost_tail": 1, "books.lost": 1, "books.wanted": 1},
              {"attempted": 1, "confirmed": 1}, lost=(0,), everywhere=True),
    Mutation("sent-without-confirms", do.no_confirms, Decision.FAIL,
             _LOST | {"lost_middle": 1}, lost=(0,)),
    Mutation("doubled", do.double, Decision.FAIL, {"received": 1, "duplicates_unflagged": 1}),
    Mutation("redelivered", do.double_flagged, Decision.PASS,
             {"received": 1, "duplicates_redelivered": 1}),
    Mutation("resent", do.double_resent, Decision.PASS, {"received": 1, "duplicates_resent": 1}),
    Mutation("swapped", do.swap, Decision.FAIL, {"reordered": 1}),
    Mutation("altered", do.alter, Decision.FAIL,
             {"unique": -1, "corrupt": 1, "books.seen": -1, "books.damaged": 1}),
    Mutation("id-altered", do.alter_id, Decision.FAIL,
             _LOST | {"received": 0, "corrupt": 1, "lost_middle": 1}, lost=(0,)),
    Mutation("foreign", do.foreign, Decision.PASS, {"received": 1, "foreign": 1}),
    Mutation("other-run", do.other_run, Decision.PASS, {"received": 1, "foreign": 1}),
    Mutation("never-sent", do.never_sent, Decision.UNKNOWN, {"received": 1, "foreign": 1}),
    Mutation("confirm-forgotten", do.forget_confirm, Decision.PASS,
             {"recovered": 1, "books.wanted": -1, "books.seen": -1}, {"confirmed": -1,
              "in_doubt": 1}, everywhere=True),
    Mutation("nacked-but-delivered", do.nack, Decision.PASS,
             {"recovered": 1, "nacked_delivered": 1, "books.wanted": -1, "books.seen": -1},
              {"confirmed": -1, "nacked": 1}, everywhere=True),
    Mutation("returned-but-delivered", do.give_back, Decision.PASS,
             {"recovered": 1, "returned_delivered": 1, "books.wanted": -1, "books.seen": -1},
              {"confirmed": -1, "returned": 1}, everywhere=True),
    Mutation("purged", do.purge(do.PURGED), Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "books.dropped": 3,
              "dropped": {"purged": 3}, "unhandled": {"purged": 3}}),
    Mutation("purge-unaccounted", do.purge(0), Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "lost": 3, "lost_among": 3,
              "lost_middle": 3, "books.lost": 3}, lost=(0, 1, 2)),
    Mutation("purge-partly-accounted", do.purge(2), Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "lost": 1, "lost_among": 3,
              "books.lost": 1, "books.dropped": 2, "dropped": {"purged": 2},
              "unhandled": {"purged": 2}}),
    *(
        Mutation(reason.replace("_", "-"), do.dead_letter(reason), Decision.FAIL,
                 _GONE | {"books.dropped": 1, "dead_lettered": 1, "dropped": {reason: 1},
                          "unhandled": {reason: 1}})
        for reason in ("expired", "maxlen", "delivery_limit", "rejected")
    ),
    Mutation("delivery-limit-seen", do.dead_letter("delivery_limit", seen=True), Decision.FAIL,
             {"dead_lettered": 1, "dropped": {"delivery_limit": 1},
              "unhandled": {"delivery_limit": 1}}),
    Mutation("expired-seen", do.dead_letter("expired", seen=True), Decision.PASS,
             {"dead_lettered": 1, "dropped": {"expired": 1}}),
    Mutation("left", do.leave(1, 1), Decision.UNKNOWN,
             _GONE | {"left_in_queue": 1, "books.left": 1}),
    Mutation("left-and-lost", do.leave(1, 2), Decision.FAIL,
             {"received": -2, "unique": -2, "books.seen": -2, "left_in_queue": 1, "books.left": 1,
              "lost": 1, "lost_among": 2, "books.lost": 1}),
    Mutation("not-counted", do.leave(None, 1), Decision.UNKNOWN,
             _GONE | {"left_in_queue": None, "undecided": 1, "books.undecided": 1}),
    Mutation("false-zero", do.false_zero, Decision.UNKNOWN,
             _GONE | {"undecided": 1, "books.undecided": 1}),
    Mutation("too-many", do.leave(2, 0), Decision.UNKNOWN,
             {"left_in_queue": 2, "residue": -2, "books.residue": -2}),
    Mutation("one-less-counted", do.only_counted, Decision.FAIL),
    Mutation("read-twice", do.read_twice, Decision.PASS),
    Mutation("missing-ledger", do.lose_ledger, Decision.UNKNOWN,
             _GONE | {"undecided": 1, "books.undecided": 1}),
    Mutation("fault-not-fired", do.fizzle, Decision.UNKNOWN),
    Mutation("claim-broken", do.break_promise, Decision.FAIL),
)  # fmt: skip


# --- and what has to come of it ---------------------------------------------------------------


def missed(good: Ledgers) -> dict[str, str]:
    """Spoil copies of good ledgers in every way; return what was wrong with which answer."""
    before = good.judge()
    assert before.decision is Decision.PASS
    return {one.name: wrong for one in ALL if (wrong := "; ".join(_wrong(one, good, before)))}


def _wrong(mutation: Mutation, good: Ledgers, before: Verdict) -> Iterator[str]:
    """Say in what the verdict over spoiled ledgers is not what it has to be."""
    bench = Bench(deepcopy(good))
    mutation.spoil(bench)
    after = bench.ledgers.judge()
    if after.decision is not mutation.decision:
        yield f"judged {after.decision}, not {mutation.decision}"
    if (after.decision is Decision.PASS) == bool(after.reasons):
        yield f"reasons are {after.reasons}"
    for name in ("attempted", "confirmed", "nacked", "returned", "in_doubt"):
        wanted = getattr(before, name) + mutation.run.get(name, 0)
        if mutation.name == "sent-without-confirms":
            continue  # everything turns from confirmed to in doubt
        if (found := getattr(after, name)) != wanted:
            yield f"{name} is {found}, not {wanted}"
    for name, queue in after.queues.items():
        if mutation.name in ("one-less-counted", "read-twice") and name == bench.target:
            yield from _special(mutation.name, queue, before.queues[name])
            continue
        changes = mutation.queue if mutation.everywhere or name == bench.target else {}
        was, now = _figures(before.queues[name]), _figures(queue)
        for figure, value in was.items():
            wanted = _changed(value, changes[figure]) if figure in changes else value
            if now[figure] != wanted:
                yield f"{figure} of {name} is {now[figure]}, not {wanted}"
        named = bool(changes) and before.queues[name].judged_by == "ledger"
        ids = {message_id(bench.outcomes.source, bench.touched[i]) for i in mutation.lost if named}
        if set(queue.lost_ids) != ids and queue.judged_by == "ledger":
            yield f"lost_ids of {name} are {', '.join(queue.lost_ids[:3]) or 'none'}"


def _special(name: str, now: QueueVerdict, was: QueueVerdict) -> Iterator[str]:
    """Compare what changes as a whole."""
    if name == "read-twice":
        if (now.unique, now.lost) != (was.unique, 0) or now.received <= was.received:
            yield f"{now.received} copies and {now.unique} messages were counted"
        if now.duplicates_unflagged or now.duplicates_resent != was.duplicates_resent:
            yield "reading again was taken for duplicates"
    elif (now.judged_by, now.lost, now.books.lost) != ("count", 1, 1):
        yield f"{now.lost} are lost by {now.judged_by}, not 1 by count"


def _changed(value: Any, change: Any) -> Any:
    if isinstance(change, dict):
        return {**value, **{key: value.get(key, 0) + more for key, more in change.items()}}
    return None if change is None or value is None else value + change


def _figures(queue: QueueVerdict) -> dict[str, Any]:
    """Return every figure of a queue's verdict by name."""
    words = {"name", "judged_by", "lost_ids", "order_unchecked", "books"}
    out = {one.name: getattr(queue, one.name) for one in fields(queue) if one.name not in words}
    return out | {f"books.{one.name}": getattr(queue.books, one.name) for one in fields(Books)}
