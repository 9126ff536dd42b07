from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap

from rabbitproof.identity import Identity, Source
from rabbitproof.proof.copies import Copies
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts, add

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = [Source("0a1b2c3d4e5f", 1), Source("0a1b2c3d4e5f", 2), Source("ffffffffffff", 1)]
N = st.integers(1, 20)
HUGE = 4_294_967_294
NUMBERS = (
    st.builds(lambda a, n: range(a, a + n), N, st.integers(0, 12))
    | st.lists(N, max_size=12)
    | st.lists(N, max_size=12).map(tuple)
    | st.builds(lambda a, n, step: range(a, a + n, step), N, st.integers(0, 12), st.integers(1, 3))
    | st.builds(lambda a, n: range(a, max(a - n, 0), -1), N, st.integers(0, 12))
    | st.sampled_from([range(HUGE - 2, HUGE + 1), [HUGE]])
)


@given(st.lists(NUMBERS, max_size=6))
def test_adding_is_a_union(batches: list[Sequence[int]]) -> None:
    """Ranges of any step and lists, empty ones included."""
    numbers = BitMap()
    for batch in batches:
        add(batch, numbers)
    assert set(numbers) == {n for batch in batches for n in batch}


# --- a producer's ------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(["send", "ack", "nack", "return"]), NUMBERS))


def outcomes_of(steps: list[tuple[str, Sequence[int]]]) -> tuple[Outcomes, set[int]]:
    """Play a history in which only what was attempted is answered, however oddly."""
    outcomes, attempted = Outcomes(SOURCES[0]), set[int]()
    for what, numbers in steps:
        if what == "send":
            again = [n for n in numbers if n in attempted]
            outcomes.attempt([n for n in numbers if n not in attempted])
            outcomes.attempt(again, again=True)
            attempted.update(numbers)
            continue
        answered = [n for n in numbers if n in attempted]
        {"ack": outcomes.confirm, "nack": outcomes.nack, "return": outcomes.give_back}[what](
            answered
        )
    return outcomes, attempted


@given(STEPS)
def test_every_attempted_message_has_exactly_one_outcome(
    steps: list[tuple[str, Sequence[int]]],
) -> None:
    """Also when the broker contradicts itself."""
    outcomes, attempted = outcomes_of(steps)
    parts = [outcomes.confirmed, outcomes.nacked, outcomes.returned, outcomes.in_doubt]
    assert Counter(n for part in parts for n in part) == Counter(attempted)
    assert outcomes.resent <= outcomes.attempted


@given(STEPS)
def test_an_outcome_is_what_the_answers_say(steps: list[tuple[str, Sequence[int]]]) -> None:
    """Returned beats confirmed, confirmed beats nacked, and in doubt is what nobody answered."""
    outcomes, attempted = outcomes_of(steps)
    answers: dict[int, set[str]] = {n: set() for n in attempted}
    sent: set[int] = set()
    for what, numbers in steps:
        for n in numbers:
            if what == "send":
                if n in sent:  # the new attempt gets an answer of its own
                    answers[n] -= {"return", "ack", "nack"} if "return" in answers[n] else {"nack"}
                sent.add(n)
            elif n in sent:
                answers[n].add(what)
    for n, said in answers.items():
        assert (n in outcomes.returned) == ("return" in said)
        assert (n in outcomes.confirmed) == ("ack" in said and "return" not in said)
        assert (n in outcomes.nacked) == (said == {"nack"})
        assert (n in outcomes.in_doubt) == (not said)


@given(STEPS, STEPS)
def test_two_sessions_of_a_producer_are_one(
    first: list[tuple[str, Sequence[int]]], second: list[tuple[str, Sequence[int]]]
) -> None:
    """What the first sent, the second sends again; its answer replaces a return, as ever.

    What the first knows to be confirmed stays that.
    """
    united, attempted = outcomes_of(first)
    later, attempted_later = outcomes_of(second)
    known = outcomes_of(first)[0]
    united.unite(later)
    assert set(united.attempted) == attempted | attempted_later
    again = attempted & attempted_later
    assert set(united.resent) == set(known.resent) | set(later.resent) | again
    answered_anew = set(known.returned) & attempted_later
    assert set(united.acked) == (set(known.acked) - answered_anew) | set(later.acked)
    returned = set(known.returned) - attempted_later
    returned |= set(later.returned) - set(known.confirmed)
    assert set(united.returned) == returned
    assert set(united.wanted) == set(united.acked) - returned
    parts = [united.confirmed, united.nacked, united.returned, united.in_doubt]
    assert Counter(n for part in parts for n in part) == Counter(attempted | attempted_later)


def test_without_confirms_all_that_was_sent_is_wanted() -> None:
    """But what came back as unroutable is not."""
    outcomes = Outcomes(SOURCES[0], confirms=False)
    outcomes.attempt(range(1, 6))
    outcomes.give_back([2])
    assert set(outcomes.wanted) == {1, 3, 4, 5}
    assert not outcomes.confirmed


# --- a consumer's ------------------------------------------------------------------------------


def counted(copies: Copies) -> Counter[int]:
    sets = (*copies.layers, *copies.more)
    return Counter(n for layer in sets for n in layer) + copies.beyond


def test_a_message_that_comes_for_ever_is_counted_and_keeps_the_sets_few() -> None:
    """A requeue loop makes no set for each time round."""
    copies, other = Copies(), Copies()
    for _ in range(100):
        copies.add(range(5, 8))
        copies.add([6])
        other.add([6, 6, 9])
    assert len(copies.layers) == len(other.layers) == 16
    assert counted(copies) == {5: 100, 6: 200, 7: 100}
    copies.unite(other)
    assert counted(copies) == {5: 100, 6: 400, 7: 100, 9: 100}
    assert copies.total == 700
    assert copies.extra() == 696
    assert copies.extra(BitMap([6, 9])) == 399 + 99
    assert copies.extra(free=150) == 250


def test_many_that_come_for_ever_are_kept_as_sets() -> None:
    """A million of them, twenty times, out of files of some bytes."""
    copies, other, million = Copies(), Copies(), range(1, 1_000_001)
    for _ in range(20):
        copies.add(million)
        other.add(range(5, 1_005))
    for _ in range(3):
        copies.add([7])
    assert not other.beyond
    assert copies.total == 20_000_003
    assert copies.extra(free=18) == 2_000_003
    assert copies.extra(BitMap([7, 8]), free=22) == 1
    copies.unite(other)
    assert copies.total == 20_020_003
    assert copies.extra(BitMap([7, 1_000]), free=0) == 43 + 40


def copies_of(batches: list[Sequence[int]]) -> Copies:
    copies = Copies()
    for batch in batches:
        copies.add(batch)
    return copies


@given(st.lists(NUMBERS, max_size=6), st.sets(N))
def test_copies_count_like_a_counter(batches: list[Sequence[int]], among: set[int]) -> None:
    """A number may come again in the same batch or in another one."""
    copies = copies_of(batches)
    naive = Counter(n for batch in batches for n in batch)
    assert counted(copies) == naive
    assert set(copies.once) == set(naive)
    assert copies.total == naive.total()
    assert copies.extra() == sum(count - 1 for count in naive.values())
    some = sum(count - 1 for n, count in naive.items() if n in among)
    assert copies.extra(among=BitMap(among)) == some
    for free in (0, 1, 2, 17):
        beyond = {n: max(0, count - free) for n, count in naive.items()}
        assert copies.extra(free=free) == sum(beyond.values())
        assert copies.extra(BitMap(among), free=free) == sum(beyond.get(n, 0) for n in among)
    for upper, lower in zip(copies.layers, copies.layers[1:], strict=False):
        assert lower <= upper


@given(st.lists(st.lists(NUMBERS, max_size=4), max_size=4), st.randoms(use_true_random=False))
def test_uniting_copies_adds_them_in_any_order(
    parts: list[list[Sequence[int]]], random: object
) -> None:
    """Nothing is lost between participants, and the parts stay as they were."""
    several = [copies_of(batches) for batches in parts]
    before = [counted(copies) for copies in several]
    shuffled = list(several)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    united = Copies()
    for copies in shuffled:
        united.unite(copies)
    assert counted(united) == sum(before, Counter[int]())
    assert [counted(copies) for copies in several] == before


EVENTS = st.lists(
    st.tuples(st.sampled_from(SOURCES), NUMBERS, st.sampled_from(["fresh", "again", "corrupt"])),
    max_size=8,
)


def gaps(whole: set[tuple[Source, int]], broken: set[tuple[Source, int]]) -> int:
    """Return the numbers up to the highest whole one that came neither whole nor damaged."""
    highest: dict[Source, int] = {}
    for source, n in whole:
        highest[source] = max(n, highest.get(source, 0))
    filled = {(s, n) for s, n in whole | broken if n <= highest.get(s, 0)}
    return sum(highest.values()) - len(filled)


def play(events: list[tuple[Source, Sequence[int], str]]) -> QueueReceipts:
    receipts = QueueReceipts()
    for source, numbers, how in events:
        mine = receipts.of(source)
        known = set(mine.known)
        if how == "corrupt":
            new = sum(mine.add_corrupt(n) for n in numbers)
        else:
            new = mine.add(numbers, redelivered=how == "again")
        assert new == len(set(numbers) - known)
    return receipts


def facts(receipts: QueueReceipts) -> dict[Source, object]:
    return {
        source: (
            counted(mine.fresh), counted(mine.redelivered), set(mine.corrupt), set(mine.known),
            mine.corrupt_copies, mine.inversions, mine.highest, set(mine.behind),
        )
        for source, mine in receipts.by_source.items()
    }  # fmt: skip


@given(EVENTS, st.integers(0, 3), st.integers(0, 3))
def test_receipts_count_like_a_loop(
    events: list[tuple[Source, Sequence[int], str]], foreign: int, nameless: int
) -> None:
    """Every figure that a consumer reports, from the plain list of what came."""
    receipts = play(events)
    receipts.foreign, receipts.corrupt_nameless = foreign, nameless
    whole = [(s, n) for s, numbers, how in events if how != "corrupt" for n in numbers]
    broken = [(s, n) for s, numbers, how in events if how == "corrupt" for n in numbers]
    assert receipts.unique == len(set(whole))
    assert receipts.duplicates == len(whole) - len(set(whole))
    flagged = [len(numbers) for _, numbers, how in events if how == "again"]
    assert receipts.redelivered == sum(flagged)
    assert receipts.corrupt == len(broken) + nameless
    known = set(whole + broken)
    assert receipts.consumed == len(known) + nameless + foreign
    assert receipts.missing == gaps(set(whole), set(broken))
    for source, mine in receipts.by_source.items():
        fresh = [n for s, numbers, how in events if (s, how) == (source, "fresh") for n in numbers]
        back = sum(n < max(fresh[:i], default=0) for i, n in enumerate(fresh))
        assert mine.inversions == back
        assert set(mine.behind) == {
            n for i, n in enumerate(fresh) if n < max(fresh[:i], default=0) and n not in fresh[:i]
        }
        assert mine.highest == max(fresh, default=0)
        assert set(mine.seen) == {n for s, n in whole if s == source}


@example([], SOURCES[0], range(1, 1, -1))
@given(EVENTS, st.sampled_from(SOURCES), NUMBERS | st.lists(st.integers(1, 60), max_size=9))
def test_what_is_lacking_is_what_would_be_new(
    events: list[tuple[Source, Sequence[int], str]], source: Source, numbers: Sequence[int]
) -> None:
    """None of it came in any state, and none of it twice."""
    mine = play(events).of(source)
    known = set(mine.known)
    lacking = len(set(numbers)) == len(numbers) and known.isdisjoint(numbers)
    assert mine.lacks(numbers) is lacking
    assert set(mine.known) == known


@given(st.lists(EVENTS, max_size=4), st.randoms(use_true_random=False))
def test_uniting_receipts_does_not_depend_on_the_order(
    parts: list[list[tuple[Source, Sequence[int], str]]], random: object
) -> None:
    """And every copy counts: the sums are those of all consumers."""
    several = [play(events) for events in parts]
    united, shuffled = QueueReceipts(), QueueReceipts()
    united.unite(several)
    random.shuffle(several)  # type: ignore[attr-defined]
    for receipts in several:
        shuffled.unite([receipts])
    assert facts(united) == facts(shuffled)
    whole = [
        (s, n) for events in parts for s, numbers, how in events if how != "corrupt"
        for n in numbers
    ]  # fmt: skip
    assert united.unique == len(set(whole))
    assert united.duplicates == len(whole) - len(set(whole))
    assert united.corrupt == sum(receipts.corrupt for receipts in several)
    known = {(s, n) for events in parts for s, numbers, _ in events for n in numbers}
    assert united.consumed == len(known)
    assert united.missing == gaps(set(whole), known - set(whole))
    for source, mine in united.by_source.items():
        each = [receipts.by_source[source] for receipts in several if source in receipts.by_source]
        assert mine.highest == max(receipts.highest for receipts in each)
        assert mine.inversions == sum(receipts.inversions for receipts in each)


def test_a_million_in_a_row_take_no_room() -> None:
    """Runs of numbers are kept as runs."""
    receipts = Receipts()
    for start in range(1, 1_000_001, 1000):
        assert receipts.add(range(start, start + 1000), redelivered=False) == 1000
    assert len(receipts.fresh.layers) == 1
    assert len(receipts.known.serialize()) < 1000
    assert (receipts.inversions, receipts.highest) == (0, 1_000_000)


def test_each_message_is_noted_for_what_it_is() -> None:
    """New, again, damaged, foreign, or ours without a name."""
    receipts = QueueReceipts()
    ours = Identity(SOURCES[0], 7)
    assert receipts.note(ours, intact=True, redelivered=False) == 1
    assert receipts.note(ours, intact=True, redelivered=True) == 0
    assert receipts.note(Identity(SOURCES[0], 8), intact=False, redelivered=False) == 1
    assert receipts.note(None, intact=True, redelivered=False) == 1
    assert receipts.note(None, intact=False, redelivered=False) == 1
    assert (receipts.unique, receipts.redelivered, receipts.corrupt, receipts.foreign) == (
        1, 1, 2, 1,
    )  # fmt: skip
