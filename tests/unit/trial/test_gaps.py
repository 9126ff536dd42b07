"""How long nothing was confirmed."""

from __future__ import annotations

import pytest

from rabbitproof.trial.gaps import Gaps


def measured(*points: tuple[float, int], rate: float | None = None) -> tuple[float, float]:
    gaps = Gaps(rate)
    for now, done in points:
        gaps.note(now, done)
    return round(gaps.longest_s, 3), round(gaps.without_service_s, 3)


@pytest.mark.parametrize(
    ("points", "longest", "without"),
    [
        ((), 0.0, 0.0),
        (((0.1, 5), (0.2, 9)), 0.1, 0.0),
        (((0.1, 5), (3.0, 5), (4.1, 6)), 4.0, 4.0),
        (((2.0, 5), (2.4, 6), (3.4, 7)), 2.0, 3.0),
    ],
)
def test_a_gap_lasts_from_one_confirm_to_the_next(
    points: tuple[tuple[float, int], ...], longest: float, without: float
) -> None:
    """A look at which nothing was new ends none; short ones are no outage."""
    assert measured(*points) == (longest, without)


def test_a_slow_rate_has_gaps_by_itself() -> None:
    """At one message in ten seconds, ten seconds are no outage."""
    assert measured((10.0, 1), (20.0, 2), rate=0.1) == (10.0, 0.0)
    assert measured((10.0, 1), (20.0, 2), rate=5.0) == (10.0, 20.0)


def test_what_we_took_ourselves_is_left_out() -> None:
    """As long as the trial was busy with something else, the producer could not read."""
    gaps = Gaps()
    gaps.note(1.0, 1)
    gaps.leave_out(3.0)
    gaps.note(4.2, 2)
    assert round(gaps.longest_s, 3) == 1.0


def test_a_broker_that_never_comes_back_is_a_gap_to_the_end() -> None:
    """What had no answer at the end ends no gap by itself, and must not hide it."""
    gaps = Gaps()
    gaps.note(1.0, 5)
    gaps.note(9.0, 5)
    gaps.over(9.0)
    assert (gaps.longest_s, gaps.without_service_s) == (8.0, 9.0)
