"""Good ledgers spoiled on purpose, and what the verdict has to say of each.

A verdict that is never seen to fail proves nothing. So each thing that it can find is done here
to a copy of good ledgers, and afterwards every figure has to be exactly as told: those that the
spoiling changes, by so much, and all others as they were.

Pure: no I/O, no clock. Knows how ledgers look when something went wrong; the selftest of
``trial`` makes things go wrong for real.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from pyroaring import BitMap

from rabbitproof.identity import Source, message_id
from rabbitproof.model import Books, Decision, QueueVerdict
from rabbitproof.proof import verdict
from rabbitproof.proof.evidence import Drop, QueueEvidence
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.model import Verdict
    from rabbitproof.proof.verdict import Claim

_STRANGER: Final = Source("ffffffffffff", 1)
_PURGED: Final = 3


@dataclass(slots=True)
class Ledgers:
    """Everything that a verdict is made of."""

    outcomes: list[Outcomes]
    queues: dict[str, QueueEvidence]
    claims: list[Claim] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unfired: list[str] = field(default_factory=list)

    def judge(self) -> Verdict:
        """Return the verdict over them."""
        return verdict.judge(
            self.outcomes, self.queues, self.claims, missing=self.missing, unfired=self.unfired
        )


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to spoil good ledgers, and what has to come of it."""

    name: str
    what: str
    """A whole sentence: what was done."""
    spoil: Callable[[_Bench], None]
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


@dataclass(frozen=True, slots=True)
class Check:
    """What the verdict said of one mutation."""

    name: str
    what: str
    caught: bool
    found: str
    """What was wrong with the answer, or why it does not apply; nothing when it was caught."""
    applies: bool = True


class _Unfit(Exception):
    """These ledgers have nothing that could be spoiled in this way."""


@dataclass(slots=True)
class _Bench:
    """A copy of the ledgers that one mutation works on."""

    ledgers: Ledgers
    target: str
    """The logical name of the queue that is spoiled."""
    touched: list[int] = field(default_factory=list)

    @property
    def outcomes(self) -> Outcomes:
        return self.ledgers.outcomes[0]

    @property
    def evidence(self) -> QueueEvidence:
        return self.ledgers.queues[self.target]

    @property
    def receipts(self) -> QueueReceipts:
        receipts = self.evidence.receipts
        if receipts is None:
            raise _Unfit("nobody consumed a queue")
        return receipts

    @property
    def got(self) -> Receipts:
        return self.receipts.of(self.outcomes.source)

    def know(self, **changes: Any) -> None:
        """Change what is known of the queue."""
        self.ledgers.queues[self.target] = replace(self.evidence, **changes)

    def pick(self, where: str = "middle") -> int:
        """Choose a message that was sent once, confirmed, and came once, fresh and whole."""
        got, seen = self.got, self.got.seen
        plain = (got.fresh.once & self.outcomes.confirmed) - self.outcomes.resent
        plain -= got.redelivered.once | got.corrupt | BitMap(self.touched) | got.behind
        for layer in got.fresh.layers[1:]:
            plain -= layer
        if len(plain) < 3:  # a first, a last and one between
            raise _Unfit("too few messages came exactly once")
        n: int = {"head": plain[0], "middle": plain[len(plain) // 2], "tail": plain[-1]}[where]
        if where != "middle" and n not in (seen.min(), seen.max()):
            raise _Unfit(f"the {where} is not one message that came exactly once")
        self.touched.append(n)
        return n

    def forget(self, where: str = "middle") -> int:
        """Choose a message and let it never have come."""
        n, got = self.pick(where), self.got
        got.fresh.layers[0].discard(n)
        got.known.discard(n)
        return n

    def next_number(self) -> int:
        """Return a number that was never sent."""
        return int(self.outcomes.attempted.max()) + 1


# --- the ways to spoil them -------------------------------------------------------------------


def _lose(where: str) -> Callable[[_Bench], None]:
    def spoil(bench: _Bench) -> None:
        bench.forget(where)
        bench.know(drained=True, left=0)

    return spoil


def _double(bench: _Bench) -> None:
    bench.got.fresh.add([bench.pick()])


def _double_flagged(bench: _Bench) -> None:
    bench.got.redelivered.add([bench.pick()])


def _double_resent(bench: _Bench) -> None:
    n = bench.pick()
    bench.outcomes.attempt([n], again=True)
    bench.outcomes.confirm([n])
    bench.got.fresh.add([n])


def _swap(bench: _Bench) -> None:
    if bench.evidence.consumers != 1 or bench.evidence.unordered:
        raise _Unfit("no order is promised in a queue")
    bench.got.behind.add(bench.pick())


def _alter(bench: _Bench) -> None:
    bench.got.add_corrupt(bench.forget())


def _alter_id(bench: _Bench) -> None:
    bench.forget()
    bench.receipts.corrupt_nameless += 1


def _foreign(bench: _Bench) -> None:
    bench.receipts.foreign += 1


def _other_run(bench: _Bench) -> None:
    bench.receipts.of(_STRANGER).add([1], redelivered=False)


def _never_sent(bench: _Bench) -> None:
    bench.got.fresh.add([bench.next_number()])


def _forget_confirm(bench: _Bench) -> None:
    bench.outcomes.acked.discard(bench.pick())


def _nack(bench: _Bench) -> None:
    n = bench.pick()
    bench.outcomes.acked.discard(n)
    bench.outcomes.nack([n])


def _return(bench: _Bench) -> None:
    bench.outcomes.give_back([bench.pick()])


def _confirm_one_more(bench: _Bench) -> None:
    n = bench.next_number()
    bench.touched.append(n)
    bench.outcomes.attempt([n])
    bench.outcomes.confirm([n])


def _purge(accounted: int) -> Callable[[_Bench], None]:
    def spoil(bench: _Bench) -> None:
        for _ in range(_PURGED):
            bench.forget()
        drops = (*bench.evidence.drops, Drop("purged", count=accounted))
        bench.know(drops=drops if accounted else bench.evidence.drops, drained=True, left=0)

    return spoil


def _dead_letter(reason: str, *, seen: bool = False) -> Callable[[_Bench], None]:
    def spoil(bench: _Bench) -> None:
        n = bench.pick() if seen else bench.forget()
        dead = QueueReceipts()
        dead.of(bench.outcomes.source).add([n], redelivered=False)
        bench.know(drops=(*bench.evidence.drops, Drop(reason, receipts=dead)))

    return spoil


def _leave(left: int | None, forget: int) -> Callable[[_Bench], None]:
    def spoil(bench: _Bench) -> None:
        for _ in range(forget):
            bench.forget()
        bench.know(kind="classic", drained=False, left=left, second=None)

    return spoil


def _false_zero(bench: _Bench) -> None:
    bench.forget()
    bench.know(kind="quorum", drained=False, left=0, second=None)


def _only_counted(bench: _Bench) -> None:
    wanted = sum(len(ledger.wanted) for ledger in bench.ledgers.outcomes)
    bench.know(kind="classic", receipts=None, drained=False, left=wanted - 1, second=None)


def _read_twice(bench: _Bench) -> None:
    again = deepcopy(bench.receipts)
    again.foreign = again.corrupt_nameless = 0
    bench.know(kind="stream", passes=2)
    bench.receipts.unite([again])


def _lose_ledger(bench: _Bench) -> None:
    bench.forget()
    bench.ledgers.missing.append("Worker-2")


def _fizzle(bench: _Bench) -> None:
    bench.ledgers.unfired.append("broker-kill")


def _break_promise(bench: _Bench) -> None:
    bench.ledgers.claims.append(verdict.Claim("All was well.", held=False, found="It was not."))


def _no_confirms(bench: _Bench) -> None:
    n = bench.forget()
    ledger = bench.outcomes
    ledger.confirms = False
    ledger.acked = BitMap()
    bench.touched[:] = [n]
    bench.know(drained=True, left=0)


_GONE: Final = {"received": -1, "unique": -1, "books.seen": -1}
"""One message less came."""
_LOST: Final = _GONE | {"lost": 1, "lost_among": 1, "books.lost": 1}

ALL: Final[tuple[Mutation, ...]] = (
    Mutation("lost-head", "The first message was never seen.", _lose("head"), Decision.FAIL,
             _LOST | {"lost_head": 1}, lost=(0,)),
    Mutation("lost-middle", "A message in the middle was never seen.", _lose("middle"),
             Decision.FAIL, _LOST | {"lost_middle": 1}, lost=(0,)),
    Mutation("lost-tail", "The last message was never seen.", _lose("tail"), Decision.FAIL,
             _LOST | {"lost_tail": 1}, lost=(0,)),
    Mutation("confirmed-for-nothing", "One message more was confirmed, and no queue had it.",
             _confirm_one_more, Decision.FAIL,
             {"lost": 1, "lost_among": 1, "lost_tail": 1, "books.lost": 1, "books.wanted": 1},
             {"attempted": 1, "confirmed": 1}, lost=(0,), everywhere=True),
    Mutation("sent-without-confirms", "The producer asked for no confirms, and a message is gone.",
             _no_confirms, Decision.FAIL, _LOST | {"lost_middle": 1}, lost=(0,)),
    Mutation("doubled", "A message came twice, the second time as if it were the first.", _double,
             Decision.FAIL, {"received": 1, "duplicates_unflagged": 1}),
    Mutation("redelivered", "A message came again and the broker said so.", _double_flagged,
             Decision.PASS, {"received": 1, "duplicates_redelivered": 1}),
    Mutation("resent", "A message was sent twice and came twice.", _double_resent,
             Decision.PASS, {"received": 1, "duplicates_resent": 1}),
    Mutation("swapped", "Two messages came in the wrong order.", _swap, Decision.FAIL,
             {"reordered": 1}),
    Mutation("altered", "A message's body was altered.", _alter, Decision.FAIL,
             {"unique": -1, "corrupt": 1, "books.seen": -1, "books.damaged": 1}),
    Mutation("id-altered", "A message's id was altered, so that it names nobody.", _alter_id,
             Decision.FAIL, _LOST | {"received": 0, "corrupt": 1, "lost_middle": 1}, lost=(0,)),
    Mutation("foreign", "A message of somebody else came.", _foreign, Decision.PASS,
             {"received": 1, "foreign": 1}),
    Mutation("other-run", "A message of another run came.", _other_run, Decision.PASS,
             {"received": 1, "foreign": 1}),
    Mutation("never-sent", "A message came that was never sent.", _never_sent, Decision.PASS,
             {"received": 1, "foreign": 1}),
    Mutation("confirm-forgotten", "A confirm never arrived, and the message did.", _forget_confirm,
             Decision.PASS, {"recovered": 1, "books.wanted": -1, "books.seen": -1},
             {"confirmed": -1, "in_doubt": 1}, everywhere=True),
    Mutation("nacked-but-delivered", "A message was nacked, and came.", _nack, Decision.PASS,
             {"recovered": 1, "nacked_delivered": 1, "books.wanted": -1, "books.seen": -1},
             {"confirmed": -1, "nacked": 1}, everywhere=True),
    Mutation("returned-but-delivered", "A message was returned, and came.", _return, Decision.PASS,
             {"recovered": 1, "returned_delivered": 1, "books.wanted": -1, "books.seen": -1},
             {"confirmed": -1, "returned": 1}, everywhere=True),
    Mutation("purged", "Three messages were purged, and the broker said how many.",
             _purge(_PURGED), Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "books.dropped": 3,
              "dropped": {"purged": 3}, "unhandled": {"purged": 3}}),
    Mutation("purge-unaccounted", "Three messages were purged, and nobody said so.", _purge(0),
             Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "lost": 3, "lost_among": 3,
              "lost_middle": 3, "books.lost": 3}, lost=(0, 1, 2)),
    Mutation("purge-partly-accounted", "Three messages are gone, and two were purged.", _purge(2),
             Decision.FAIL,
             {"received": -3, "unique": -3, "books.seen": -3, "lost": 1, "lost_among": 3,
              "books.lost": 1, "books.dropped": 2, "dropped": {"purged": 2},
              "unhandled": {"purged": 2}}),
    *(
        Mutation(reason.replace("_", "-"), f"A message was dead-lettered as {reason}.",
                 _dead_letter(reason), Decision.FAIL,
                 _GONE | {"books.dropped": 1, "dead_lettered": 1, "dropped": {reason: 1},
                          "unhandled": {reason: 1}})
        for reason in ("expired", "maxlen", "delivery_limit", "rejected")
    ),
    Mutation("delivery-limit-seen", "A message was seen, and dropped at the delivery limit.",
             _dead_letter("delivery_limit", seen=True), Decision.FAIL,
             {"dead_lettered": 1, "dropped": {"delivery_limit": 1},
              "unhandled": {"delivery_limit": 1}}),
    Mutation("expired-seen", "Of a message that was seen, a copy expired.",
             _dead_letter("expired", seen=True), Decision.PASS,
             {"dead_lettered": 1, "dropped": {"expired": 1}}),
    Mutation("left", "A message was not seen, and the queue holds one.", _leave(1, 1),
             Decision.UNKNOWN, _GONE | {"left_in_queue": 1, "books.left": 1}),
    Mutation("left-and-lost", "Two messages were not seen, and the queue holds one.", _leave(1, 2),
             Decision.FAIL,
             {"received": -2, "unique": -2, "books.seen": -2, "left_in_queue": 1, "books.left": 1,
              "lost": 1, "lost_among": 2, "books.lost": 1}),
    Mutation("not-counted", "A message was not seen, and the queue could not be counted.",
             _leave(None, 1), Decision.UNKNOWN,
             _GONE | {"left_in_queue": None, "undecided": 1, "books.undecided": 1}),
    Mutation("false-zero", "A message was not seen in a quorum queue that says it is empty.",
             _false_zero, Decision.UNKNOWN, _GONE | {"undecided": 1, "books.undecided": 1}),
    Mutation("too-many", "Everything was seen, and the queue holds two more.", _leave(2, 0),
             Decision.UNKNOWN, {"left_in_queue": 2, "residue": -2, "books.residue": -2}),
    Mutation("one-less-counted", "Nobody consumed the queue, and it holds one too few.",
             _only_counted, Decision.FAIL),
    Mutation("read-twice", "A stream was read twice.", _read_twice, Decision.PASS),
    Mutation("missing-ledger", "A consumer's ledger is missing, and a message was not seen.",
             _lose_ledger, Decision.UNKNOWN, _GONE | {"undecided": 1, "books.undecided": 1}),
    Mutation("fault-not-fired", "The fault never happened.", _fizzle, Decision.UNKNOWN),
    Mutation("claim-broken", "A claim of the scenario did not hold.", _break_promise,
             Decision.FAIL),
)  # fmt: skip


# --- and what has to come of it ---------------------------------------------------------------


def check(good: Ledgers) -> Iterator[Check]:
    """Spoil copies of good ledgers in every way and say which the verdict caught.

    ``good`` has to be judged PASS; it stays as it is.
    """
    before = good.judge()
    target = next((name for name, queue in good.queues.items() if queue.receipts is not None), None)
    if before.decision is not Decision.PASS or target is None:
        yield Check("good", "The ledgers as they are.", caught=False,
                    found=f"They are judged {before.decision}, so nothing can be shown with "
                    "them.")  # fmt: skip
        return
    for mutation in ALL:
        bench = _Bench(deepcopy(good), target)
        try:
            mutation.spoil(bench)
        except _Unfit as why:
            yield Check(mutation.name, mutation.what, caught=True, found=str(why), applies=False)
            continue
        wrong = "; ".join(_differences(mutation, bench, before))
        yield Check(mutation.name, mutation.what, caught=not wrong, found=wrong)


def _differences(mutation: Mutation, bench: _Bench, before: Verdict) -> Iterator[str]:
    """Say in what the verdict is not what it has to be."""
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


def sample(messages: int = 100) -> Ledgers:
    """Return good ledgers of an imagined run: one producer, two queues, all of it seen."""
    source = Source("0a1b2c3d4e5f", 1)
    outcomes = Outcomes(source)
    outcomes.attempt(range(1, messages + 1))
    outcomes.confirm(range(1, messages + 1))
    queues: dict[str, QueueEvidence] = {}
    for name in ("work.queue", "audit.queue"):
        receipts = QueueReceipts()
        receipts.of(source).add(range(1, messages + 1), redelivered=False)
        queues[name] = QueueEvidence(name, "classic", receipts, left=0, drained=True, consumers=1)
    return Ledgers([outcomes], queues)
