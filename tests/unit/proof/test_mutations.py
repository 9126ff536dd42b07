from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from mutations import ALL, missed
from rabbitproof.model import Books
from rabbitproof.proof import verdict
from rabbitproof.proof.books import audit
from spoils import sample

FIGURES = (
    "received", "unique", "lost", "lost_ids", "undecided", "recovered", "duplicates_redelivered",
    "duplicates_resent", "duplicates_unflagged", "corrupt", "foreign", "reordered",
    "left_in_queue", "lost_head", "lost_middle", "lost_tail", "nacked_delivered",
    "returned_delivered", "dropped", "residue", "lost_among", "dead_lettered", "unhandled",
)  # fmt: skip


def test_every_way_to_spoil_good_ledgers_is_caught() -> None:
    """Each with its verdict, its figures, and all other figures as they were."""
    good = sample()
    before = good.judge()
    assert missed(good) == {}
    assert good.judge() == before  # they are spoiled in copies


@pytest.mark.parametrize("figure", FIGURES)
def test_a_verdict_that_is_blind_to_one_thing_is_found_out(
    monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    """Whatever a queue's verdict stops to see, some mutation is not caught any more."""
    good = sample()
    empty: Any = {"dropped": {}, "unhandled": {}, "lost_ids": ()}.get(figure, 0)
    if figure in ("received", "unique"):
        empty = 100

    def blind(*args: Any, **settings: Any) -> Any:
        return replace(audit(*args, **settings), **{figure: empty})

    monkeypatch.setattr(verdict, "audit", blind)
    assert missed(good)


@pytest.mark.parametrize("figure", [one.name for one in fields(Books)])
def test_books_with_one_column_blank_are_found_out(
    monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    """The books are what a person reads, so each of their columns is held to as well."""
    blank = 100 if figure in ("wanted", "seen") else 0

    def blind(*args: Any, **settings: Any) -> Any:
        whole = audit(*args, **settings)
        return replace(whole, books=replace(whole.books, **{figure: blank}))

    monkeypatch.setattr(verdict, "audit", blind)
    assert missed(sample())


@pytest.mark.parametrize("deaf_to", ["claims", "missing", "unfired"])
def test_a_verdict_that_does_not_listen_is_found_out(
    monkeypatch: pytest.MonkeyPatch, deaf_to: str
) -> None:
    """Claims, missing ledgers and faults that never fired each decide."""
    judge = verdict.judge

    def deaf(outcomes: Any, queues: Any, claims: Any = (), **settings: Any) -> Any:
        heard = settings | {"claims": claims, deaf_to: ()}
        return judge(outcomes, queues, **heard)

    monkeypatch.setattr(verdict, "judge", deaf)
    assert missed(sample())


def test_a_verdict_that_always_passes_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of all."""
    good = sample()
    fine = good.judge()
    monkeypatch.setattr(verdict, "judge", lambda *_, **__: fine)
    assert len(missed(good)) == len(ALL)


def test_ledgers_with_duplicates_can_be_spoiled_too() -> None:
    """Good ledgers need not be perfect: resent, redelivered and recovered messages are fine."""
    good = sample()
    (ledger,) = good.outcomes
    ledger.attempt([7, 8], again=True)
    ledger.attempt([101])
    for queue in good.queues.values():
        assert queue.receipts is not None
        got = queue.receipts.of(ledger.source)
        got.add([7, 101], redelivered=False)
        got.add([9], redelivered=True)
    # These say what follows where each message was sent once, confirmed, and came once.
    assert missed(good).keys() <= {
        "sent-without-confirms", "purged", "purge-partly-accounted", "left", "left-and-lost",
        "not-counted", "too-many", "one-less-counted", "read-twice", "lost-tail",
    }  # fmt: skip
