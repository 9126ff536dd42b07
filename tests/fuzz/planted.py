"""Wrong verdicts of the past, put back one by one: the fuzz has to find each.

``PYTHONPATH=tests python -m fuzz.planted`` says after how many worlds it found which.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from pyroaring import BitMap

from fuzz import runner
from rabbitproof.proof import (
    books,
    ends,
    history,
    queues,
    record,
    refusals,
    run,
    verdict,
    verify,
    whole,
)
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.proof.evidence import Gaps

WORLDS = 3_000
"""Within which each has to be found, but for those in ``RARE``."""
RARE = {
    # A refusal, another reader that lost its connection, and nothing else.
    "what was given back counts as handled": 6_000,
    # A loss, no history, and somebody who still holds some when another one counts.
    "a count while somebody consumes": 15_000,
}
"""What takes several things at once -> within how many worlds it has to be found."""


def _put(where: Any, name: str, what: Any) -> Callable[[], Any]:
    return lambda: patch.object(where, name, what)


# --- producers' ledgers ---


@contextmanager
def cut_producer() -> Iterator[None]:
    """H1: what a producer's ledger lacks is no matter."""
    real = whole.gaps

    def gaps(found: Any, run: Any) -> Gaps:
        return replace(real(found, run), producers=(), resent=False)

    with (
        patch.object(verify, "gaps", gaps),
        patch.object(verdict, "_unattempted", lambda *_: []),
    ):
        yield


@contextmanager
def apart_copies() -> Iterator[None]:
    """M4: two files that went apart are copies, and the shorter one is left out."""
    with patch.object(record, "begins_with", lambda *_: True):
        yield


def _unite(self: Outcomes, later: Outcomes) -> None:
    """L1: what was returned before it was sent again is confirmed."""
    self.resent |= later.resent | (self.attempted & later.attempted)
    self.attempted |= later.attempted
    self.acked |= later.acked
    self.refused |= later.refused
    self.returned = (self.returned - later.attempted) | later.returned
    self.confirms = self.confirms and later.confirms


def _attempt(self: Outcomes, numbers: Any, *, again: bool = False) -> None:
    """What was returned, confirmed with it, and sent again without an answer is confirmed."""
    self.attempted.update(numbers)
    if again:
        self.resent.update(numbers)
        self.returned -= BitMap(numbers)


# --- consumers' ledgers ---


@contextmanager
def cut_consumer() -> Iterator[None]:
    """H2: what a consumer's ledger lacks was never received."""
    real = whole.gaps

    def gaps(found: Any, run: Any) -> Gaps:
        return replace(real(found, run), consumers=())

    with (
        patch.object(verify, "gaps", gaps),
        patch.object(whole, "unsaid", lambda *_: []),
        patch.object(whole, "_absent", lambda *_: []),
    ):
        yield


@contextmanager
def rejected_is_done() -> Iterator[None]:
    """M1: what came was handled, also where its consumer refused it."""
    nothing = QueueReceipts(), QueueReceipts()
    with patch.object(queues, "refusals", lambda *_, **__: nothing):
        yield


def _add(self: Receipts, numbers: Any, *, redelivered: bool, again: bool = False) -> int:
    """M2: a replay is nothing but a second copy."""
    return _ADD(self, numbers, redelivered=redelivered, again=False)


_ADD = Receipts.add


def _note(
    self: QueueReceipts, identity: Any, *, intact: bool, redelivered: bool, again: bool = False,
    ours: bool = True,
) -> int:  # fmt: skip
    """H6: whoever has a header called checksum is one of ours."""
    return _NOTE(self, identity, intact=intact, redelivered=redelivered, again=again, ours=True)


_NOTE = QueueReceipts.note


# --- queues ---


def _evidence(**changes: Any) -> Callable[[], Any]:
    real = queues.evidence

    def evidence(run: Any, logical: str) -> Any:
        return replace(real(run, logical), **changes)

    return lambda: patch.object(verify, "evidence", evidence)


def _classic(queue: Any) -> Any:
    """M3: a queue of which nobody knows the type is a classic one."""
    found = _TYPED(queue)
    return found if found.kind_known else replace(found, kind="classic", kind_known=True)


_TYPED = run._typed


def _unread(count: int | None, readers: Any) -> int | None:
    """M5: of a stream all is read that came, however often, wherever that began."""
    return None if count is None else max(0, count - sum(sum(one.passes) for one in readers))


def _said_only_balance(tally: Any, queue: Any, *, incomplete: bool) -> Any:
    """H4: copies that nothing explains leave the rest as it is."""
    found = _BALANCE(tally, queue, incomplete=incomplete)
    if found.residue < 0 and queue.receipts is None:
        return replace(found, left=found.undecided + found.left, undecided=0, lost=0)
    return found


_BALANCE = books._balance


def _told_by_the_clock(one: Any, other: Any) -> bool:
    """M7: the time in a ledger is the time."""
    return bool(ends.end_ns(one) > other.last_ns)


def _believes_at_once(queue: Any, history: Any) -> Any:
    """L10: the Management API's count is believed at once."""
    with patch.object(ends, "REPORT_NS", 0):
        return _TOLD(queue, history)


_TOLD = ends.told


def _whoever_consumes(queue: Any, producers: Any, readers: Any) -> Any:
    """A count is believed although somebody consumes."""
    for one in sorted(readers or producers, key=ends.end_ns, reverse=True):
        if one.end is not None and all(
            ends._later(one, other) for other in producers if other is not one
        ):
            return one
    return None


def _whoever_told(queue: Any, history: Any) -> Any:
    """The same, of a history."""
    over = ends.all_gone(queue, history)
    counts = [one for one in history.entries[over:]
              if isinstance(one, ends.Counted) and one.queue == queue.name]  # fmt: skip
    declared = [one for one in counts if one.by == "declare"]
    if history.cut is not None or not declared:
        return None
    second = [one for one in counts if one.by == "api"
              and one.t_ns >= history.entries[over - 1].t_ns + ends.REPORT_NS]  # fmt: skip
    return declared[-1].messages, second[-1].messages if second else None


def _any_time(queue: Any, history: Any) -> Any:
    """A count is believed, whenever it was taken."""
    counts = {one.by: one for one in history.of(ends.Counted) if one.queue == queue.name}
    if history.cut is not None or "declare" not in counts:
        return None
    second = counts.get("api")
    return counts["declare"].messages, None if second is None else second.messages


def _uncut(path: Any) -> Any:
    """A history that is cut is all that was written."""
    return replace(_READ(path), cut=None)


_READ = history.read
_GAPS = whole.gaps


def _without_size(one: Any, told: Any) -> str | None:
    """How long a file was when its writer had gone is no matter."""
    return one.damaged  # type: ignore[no-any-return]


def _never_resent(found: Any, run: Any) -> Gaps:
    """What a torn ledger has as sent once was sent once."""
    return replace(_GAPS(found, run), resent=False)


FAULTS: dict[str, Callable[[], Any]] = {
    "H1 a producer's ledger that is cut": cut_producer,
    "H2 a consumer's ledger that is cut": cut_consumer,
    "H4 books that do not balance": _put(books, "_balance", _said_only_balance),
    "H5 a stream that was read twice": _evidence(passes=1),
    "H6 a foreign checksum": _put(QueueReceipts, "note", _note),
    "M1 what was rejected": rejected_is_done,
    "M2 a replay": _put(Receipts, "add", _add),
    "M3 a queue of which nobody knows the type": _put(run, "_typed", _classic),
    "M4 ledgers that went apart": apart_copies,
    "M5 what is left of a stream": _put(ends, "unread", _unread),
    "M6 what a consumer gave back": _evidence(unended=0),
    "M7 clocks": _put(ends, "_later", _told_by_the_clock),
    "L1 sent again after a return, in two files": _put(Outcomes, "unite", _unite),
    "the same, in one": _put(Outcomes, "attempt", _attempt),
    "L7 a queue's own limits": _evidence(limits=()),
    "L10 a count of the API, at once": _put(ends, "told", _believes_at_once),
    "a count while somebody consumes": _put(ends, "last_look", _whoever_consumes),
    "the same, in a history": _put(ends, "told", _whoever_told),
    "a count from any time": _put(ends, "told", _any_time),
    "what was there before": _evidence(before=0),
    "a file's length in the history": _put(whole, "_cut", _without_size),
    "a cut history": _put(history, "read", _uncut),
    "a torn ledger's second copies": _put(verify, "gaps", _never_resent),
    "what was given back counts as handled": _put(refusals, "gave_back", lambda _: False),
    "refusals that nobody heard": _put(refusals, "_unheard", lambda _: False),
    "drops told before the end": _put(queues, "_final", lambda *_: 0),
}
"""What was wrong, in a word -> makes it so again."""


def worlds_until_found(name: str) -> int | None:
    """Return after how many worlds the fuzz says that something is wrong; None: it does not."""
    most = RARE.get(name, WORLDS)
    with FAULTS[name]():
        account = runner.run_all(range(most), stop=True)
    return account.worlds if account.wrong else None


def main() -> int:
    missed = 0
    for name in FAULTS:
        found = worlds_until_found(name)
        missed += found is None
        print(f"{'missed' if found is None else f'{found:6,}'}  {name}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
