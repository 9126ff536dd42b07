"""When a session is tried again and when it is given up, on a clock that the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.work.retry import FIRST_GAP_S, LEAST_PATIENCE_S, LONGEST_GAP_S, QUIET_S, Retry


def retry(give_up_s: float = 120.0, chance: float = 0.0) -> Retry:
    return Retry(give_up_s, lambda: chance)


def breaking(give_up_s: float, lasts: float = 0.0, chance: float = 0.0) -> list[float]:
    """Return when each try began, where every connection opens and ends after ``lasts``."""
    one, now = retry(give_up_s, chance), 0.0
    began = []
    while one.left(now):
        now += one.pause(now)
        one.begin(now)
        began.append(now)
        now += lasts
        one.lost(now)
    return began


# --- pauses --------------------------------------------------------------------------------------


def test_the_gap_doubles_from_a_tenth_of_a_second_to_five_seconds() -> None:
    """A connection that opens and breaks at once is no reason to come back at once."""
    began = breaking(30.0)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert gaps[:-1] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5])
    assert began[-1] == pytest.approx(30.0), "the last try is when it is given up"


def test_a_loss_after_progress_is_tried_again_at_once() -> None:
    """And a second one within a tenth of a second after the first is not."""
    one = retry()
    one.begin(0.0)
    one.progress()
    one.lost(50.0)
    assert one.pause(50.0) == 0
    one.begin(50.0)
    one.lost(50.01)
    assert one.pause(50.01) == pytest.approx(0.09)
    one.begin(50.1)
    one.progress()
    one.lost(50.11)
    assert one.pause(50.11) == pytest.approx(FIRST_GAP_S - 0.01), "also after progress"


@given(
    st.floats(0, 300),
    st.floats(0, 10),
    st.floats(0, 1),
)
def test_tries_are_never_too_near_and_never_too_far(
    give_up_s: float, lasts: float, chance: float
) -> None:
    """However long each connection stands, and whatever chance draws."""
    began = breaking(give_up_s, lasts, chance)
    for earlier, later in pairwise(began):
        gap = later - earlier
        assert gap >= FIRST_GAP_S - 1e-9
        assert gap <= max(LONGEST_GAP_S, lasts + FIRST_GAP_S) + 1e-9
    # The clock runs from the first loss, and the last try may be up to a first gap late.
    assert began[-1] <= lasts + give_up_s + FIRST_GAP_S + 1e-9


def test_chance_never_makes_a_gap_longer() -> None:
    one = retry(chance=1.0)
    for _ in range(20):
        one.begin(0.0)
    assert one.pause(0.0) == pytest.approx(0.8 * LONGEST_GAP_S)


def test_until_cuts_a_pause_but_not_the_least_one() -> None:
    one = retry()
    for _ in range(20):
        one.begin(10.0)
    assert one.pause(10.0, until=12.0) == pytest.approx(2.0)
    assert one.pause(10.0, until=3.0) == pytest.approx(FIRST_GAP_S)


# --- giving up -----------------------------------------------------------------------------------


def test_it_is_given_up_so_long_after_the_first_loss() -> None:
    """A new connection changes nothing of that, progress does."""
    one = retry(6.0)
    one.begin(0.0)
    assert one.left(1_000.0) == float("inf"), "nothing was lost"
    one.lost(1_000.0)
    one.begin(1_000.0)
    assert one.left(1_002.0) == 4.0
    one.lost(1_003.0)
    assert one.left(1_003.0) == 3.0
    assert one.left(1_010.0) == 0.0
    one.begin(1_003.0)
    one.progress()
    assert one.left(2_000.0) == float("inf")
    one.lost(2_000.0)
    assert one.left(2_000.0) == 6.0


def test_zero_means_that_nothing_is_tried_again() -> None:
    one = retry(0.0)
    one.begin(0.0)
    one.lost(5.0)
    assert one.left(5.0) == 0


def test_without_a_limit_it_is_never_given_up() -> None:
    one = Retry()
    one.lost(0.0)
    assert one.left(1e9) == float("inf")


def test_an_answer_gets_what_is_left_but_always_a_little() -> None:
    one = retry(6.0)
    assert one.patience(0.0, 60.0) == 60.0
    one.lost(0.0)
    assert one.patience(2.0, 60.0) == 4.0
    assert one.patience(2.0, 3.0) == 3.0
    assert one.patience(9.0, 60.0) == LEAST_PATIENCE_S


# --- progress ------------------------------------------------------------------------------------


def lost(may_come_again: int = 0) -> Retry:
    """Return one whose connection was lost and came back, at 0."""
    one = retry()
    one.begin(-1.0)
    one.lost(0.0, may_come_again)
    one.begin(0.0)
    return one


def test_a_confirm_is_progress() -> None:
    one = lost()
    assert one.unproven
    one.progress()
    assert (one.unproven, one.since) == (False, None)


def test_a_connection_on_which_nothing_is_due_is_progress_when_it_stands() -> None:
    one = lost()
    one.stands(1.0, due=False)
    one.stands(1.0 + QUIET_S - 0.01, due=False)
    assert one.unproven
    one.stands(1.0 + QUIET_S, due=False)
    assert not one.unproven


def test_waiting_for_an_answer_that_is_due_is_no_progress() -> None:
    """However long; and what was quiet before that does not count."""
    one = lost()
    one.stands(1.0, due=False)
    one.stands(2.0, due=True)
    one.stands(6.5, due=False)
    one.stands(100.0, due=True)
    assert one.unproven
    one.begin(100.0)
    one.stands(101.0, due=False)
    assert one.unproven, "a new connection has to stand by itself"


def test_what_had_come_before_is_no_progress() -> None:
    one = lost(may_come_again=10)
    for now in range(1, 30):
        one.received(5, fresh=False)
        one.received(5, fresh=False)
        assert one.unproven
        one.stands(float(now), due=False)
        one.lost(float(now), may_come_again=10 if now < 15 else 3)
        one.begin(float(now))


def test_a_delivery_that_is_known_to_be_new_is_progress() -> None:
    one = lost(may_come_again=10)
    one.received(1, fresh=True)
    assert not one.unproven


def test_more_than_may_come_again_is_progress() -> None:
    """One of eleven is new when there were ten."""
    one = lost(may_come_again=10)
    one.received(10, fresh=False)
    assert one.unproven
    one.received(1, fresh=False)
    assert not one.unproven


def test_deliveries_that_come_again_are_not_quiet() -> None:
    """A subscription that brings the same again for long has not proved anything by standing."""
    one = lost(may_come_again=1_000)
    for now in range(20):
        one.stands(float(now), due=False)
        one.received(1, fresh=False)
    assert one.unproven


@given(st.lists(st.sampled_from(["open", "lost", "again", "due"]), max_size=60))
def test_nothing_but_progress_ends_the_trouble(steps: list[str]) -> None:
    """Once lost, no number of connections makes it last longer before it is given up."""
    one, now = retry(60.0), 0.0
    one.begin(now)
    one.lost(now, may_come_again=100)
    for step in steps:
        now += 0.5
        match step:
            case "open":
                one.begin(now)
            case "lost":
                one.lost(now)
            case "again":
                one.received(1, fresh=False)
            case "due":
                one.stands(now, due=True)
        assert one.since == 0.0
        assert one.left(now) == pytest.approx(60.0 - now)
