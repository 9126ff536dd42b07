from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import pytest

from rabbitproof.trial.order import rounds, whole

NAMES = [f"c{i}" for i in range(9)]


def positions(design: list[list[str]]) -> Counter[tuple[int, str]]:
    return Counter(pair for row in design for pair in enumerate(row))


def neighbours(design: list[list[str]]) -> Counter[tuple[str, str]]:
    return Counter(pair for row in design for pair in pairwise(row))


@pytest.mark.parametrize(("k", "size"), [(1, 1), (2, 2), (3, 6), (4, 4), (5, 10), (6, 6), (9, 18)])
def test_a_whole_design_has_as_many_rounds_as_clients_or_twice_that(k: int, size: int) -> None:
    """Twice for odd numbers."""
    assert whole(k) == size


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("k", range(2, 10))
def test_whole_designs_are_balanced(k: int, times: int) -> None:
    """Counted: everyone in each position, and everyone behind each other, equally often."""
    clients = NAMES[:k]
    count = times * whole(k)
    design = rounds(clients, count)
    assert len(design) == count
    assert all(sorted(row) == clients for row in design)
    assert positions(design) == {(i, c): count // k for i in range(k) for c in clients}
    # A round has k-1 pairs of neighbours, for the k(k-1) pairs there are.
    assert neighbours(design) == dict.fromkeys(permutations(clients, 2), count // k)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 13])
@pytest.mark.parametrize("k", range(1, 10))
def test_the_number_of_rounds_is_kept_exactly(k: int, count: int) -> None:
    """Cut short, every round still has every client once, and no design begins in the middle."""
    design = rounds(NAMES[:k], count)
    assert len(design) == count
    assert all(sorted(row) == NAMES[:k] for row in design)
    assert design == rounds(NAMES[:k], count + 5)[:count]


@pytest.mark.parametrize("k", [3, 5, 7, 9])
def test_half_a_design_of_an_odd_number_has_everyone_in_each_position(k: int) -> None:
    """Once each."""
    assert set(positions(rounds(NAMES[:k], k)).values()) == {1}


def test_the_first_design_of_four_is_the_published_one() -> None:
    """Williams' square, worked out by hand: 0 1 3 2, then each plus one."""
    assert rounds("abcd", 4) == [list("abdc"), list("bcad"), list("cdba"), list("dacb")]


def test_a_client_named_twice_is_refused() -> None:
    """Nobody could tell its turns apart."""
    with pytest.raises(ValueError, match="twice; name each of them once"):
        rounds(["a", "b", "a"], 3)


def test_a_negative_number_of_rounds_is_refused() -> None:
    """It says what would do."""
    with pytest.raises(ValueError, match="ask for 0 or more"):
        rounds(["a"], -1)


def test_without_clients_every_round_is_empty() -> None:
    """And nothing divides by zero."""
    assert rounds([], 2) == [[], []]
