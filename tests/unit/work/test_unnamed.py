"""Messages that nothing tells apart, counted over connections that end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.work.unnamed import Unnamed


def came(unnamed: Unnamed, count: int, *, redelivered: bool = True) -> int:
    """Let so many come; return how many of them are new."""
    return sum(not unnamed.came_before(redelivered=redelivered) for _ in range(count))


def test_what_was_unanswered_comes_again_and_no_more() -> None:
    unnamed = Unnamed()
    assert came(unnamed, 5, redelivered=False) == 5
    unnamed.lost(100)
    assert came(unnamed, 3, redelivered=False) == 3, "what is not flagged is new"
    assert came(unnamed, 7) == 2, "two of these were somebody else's"


def test_it_comes_again_over_many_connections() -> None:
    """Also when each of them ends before all of it came."""
    unnamed = Unnamed()
    assert came(unnamed, 5, redelivered=False) == 5
    for again in (5, 3, 0, 5, 1):
        unnamed.lost(100)
        assert came(unnamed, again) == 0
    unnamed.lost(100)
    assert came(unnamed, 6) == 1


def test_the_broker_may_not_have_heard_an_answer() -> None:
    """What was answered last may come again as well, until something new comes."""
    unnamed = Unnamed()
    came(unnamed, 5, redelivered=False)
    unnamed.answered()
    unnamed.lost(100)
    assert came(unnamed, 4) == 0
    assert came(unnamed, 1, redelivered=False) == 1
    assert came(unnamed, 1) == 1, "the fifth was heard"


def test_no_more_than_the_prefetch_was_not_heard() -> None:
    unnamed = Unnamed()
    came(unnamed, 50, redelivered=False)
    unnamed.answered()
    unnamed.lost(10)
    assert came(unnamed, 50) == 40


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=20))
def test_the_same_messages_are_never_counted_twice(
    count: int, connections: list[tuple[int, bool]]
) -> None:
    """However many of them come on each connection, answered in vain or not at all."""
    unnamed = Unnamed()
    assert came(unnamed, count, redelivered=False) == count
    for again, answered in connections:
        unnamed.lost(100)
        assert came(unnamed, min(again, count)) == 0
        if answered:
            unnamed.answered()
