"""Percentiles against numbers worked out by hand, and against the plain definition."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.proof import latency as module
from rabbitproof.proof.latency import LONGEST_NS, WARM_UP_NS, Latency, RunLatency

MS = 1_000_000
NAMES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "p99_99": 99.99}


def counted(*values: tuple[int, int]) -> Latency:
    out = Latency()
    for ns, count in values:
        out.record(ns, count)
    return out


def test_percentiles_of_one_to_a_hundred_milliseconds() -> None:
    """Of 1, 2, … 100 ms, half took no more than 50 ms, 99 % no more than 99 ms.

    Three digits are kept: 99 ms is told as 99.0-something. 99.9 % of 100 messages are all of them.
    """
    found = counted(*[(n * MS, 1) for n in range(1, 101)]).summary()
    assert found["count"] == 100
    assert found["p50"] == pytest.approx(50, rel=1e-3)
    assert found["p90"] == pytest.approx(90, rel=1e-3)
    assert found["p99"] == pytest.approx(99, rel=1e-3)
    assert (found["p99_9"], found["p99_99"], found["max"]) == (100.0, 100.0, 100.0)


def test_percentiles_of_counts() -> None:
    """9,990 took 1 ms, nine took 20 ms and one took 3 s.

    The 9,990th of 10,000 is the last that took 1 ms (p99.9), the 9,999th took 20 ms (p99.99).
    """
    found = counted((MS, 9_990), (20 * MS, 9), (3_000 * MS, 1)).summary()
    assert found["count"] == 10_000
    for name in ("p50", "p90", "p99", "p99_9"):
        assert found[name] == pytest.approx(1, rel=1e-3)
    assert found["p99_99"] == pytest.approx(20, rel=1e-3)
    assert found["max"] == 3_000.0


def test_a_percentile_covers_no_less_than_it_says() -> None:
    """Of 16 messages 14 are 87.5 %: for 90 % it takes the 15th, which is 2 ms."""
    found = counted((MS, 14), (2 * MS, 2)).summary()
    assert found["p50"] == pytest.approx(1, rel=1e-3)
    assert found["p90"] == 2.0


def test_one_message_is_every_percentile() -> None:
    """Its own value, not the end of its bucket."""
    found = counted((1_234_567, 1)).summary()
    assert found == {"count": 1, "negative": 0} | dict.fromkeys((*NAMES, "max"), 1.235)


def test_no_message_has_no_percentile() -> None:
    """Nothing is made up, and negative ones are told all the same."""
    nothing: dict[str, Any] = dict.fromkeys((*NAMES, "max"))
    assert Latency().summary() == {"count": 0, "negative": 0} | nothing
    assert counted((-1, 3)).summary() == {"count": 0, "negative": 3} | nothing


def test_negative_values_are_counted_apart() -> None:
    """A clock that was set back changes no percentile."""
    found = counted((MS, 10), (-5 * MS, 7)).summary()
    assert (found["count"], found["negative"]) == (10, 7)
    assert found["p50"] == found["max"] == 1.0


def test_what_takes_longer_than_an_hour_keeps_its_maximum() -> None:
    """A percentile says one hour at most, the maximum says what it was."""
    day = 24 * LONGEST_NS
    found = counted((MS, 1), (day, 1)).summary()
    assert found["p99"] == pytest.approx(LONGEST_NS / MS, rel=1e-3)
    assert found["max"] == day / MS
    assert counted((2**63 - 1, 1)).summary()["count"] == 1


VALUES = st.lists(
    st.tuples(
        st.integers(0, 5_000) | st.integers(0, 10**9) | st.integers(0, LONGEST_NS),
        st.integers(1, 3) | st.just(1_000),
    ),
    min_size=1,
    max_size=60,
)


@given(VALUES)
def test_every_percentile_is_the_definitions(values: list[tuple[int, int]]) -> None:
    """The lowest value that so many percent do not exceed, no lower and 0.1 % higher at most."""
    found = counted(*values).summary()
    ordered = sorted(ns for ns, count in values for _ in range(count))
    for name, percent in NAMES.items():
        rank = max(1, math.ceil(round(percent * 100) * len(ordered) / 10_000))
        exact = ordered[rank - 1] / MS
        # Rounded to a microsecond, which is also the shortest time that is told apart.
        assert exact - 0.0005 <= found[name] <= exact * 1.001 + 0.001
    assert found["max"] == round(ordered[-1] / MS, 3)
    assert found["count"] == len(ordered)


@given(VALUES, VALUES)
def test_two_united_are_one(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    """As if one participant had recorded all of it."""
    one, other = counted(*left, (-1, 2)), counted(*right, (-1, 3))
    one.add(other.dump())
    assert one.summary() == counted(*left, *right, (-1, 5)).summary()
    assert other.summary() == counted(*right, (-1, 3)).summary()


def test_what_is_kept_does_not_grow_with_the_messages() -> None:
    """A bucket is as wide as a thousandth of its value."""
    many = Latency()
    for ns in range(MS, 4 * MS, 7):
        many.record(ns)
    assert len(many._counts) < 2_100


def test_the_library_is_imported_only_for_a_summary() -> None:
    """Whoever measures nothing does not pay for it."""
    code = (
        "import sys\n"
        "from rabbitproof.proof.latency import Latency\n"
        "latency = Latency()\n"
        "assert 'hdrh' not in sys.modules\n"
        "latency.record(5)\n"
        "latency.summary()\n"
        "assert 'hdrh' in sys.modules\n"
    )
    source = module.__file__.rsplit("rabbitproof", 1)[0]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": source})


# --- warm-up ------------------------------------------------------------------------------------


def test_the_warm_up_ends_with_its_share_of_the_messages() -> None:
    """Of 1,000 messages the first 50 are left out when they come within the first second."""
    run = RunLatency(1_000)
    for done in range(1_000):
        run.record((9 if done < 50 else 1) * MS, 1, after_ns=done, done=done)
    found = run.summary()
    assert (found["count"], found["warm_up_left_out"], found["max"]) == (950, 50, 1.0)


def test_the_warm_up_ends_within_a_buffer() -> None:
    """Of 1,000 messages in two buffers 50 are left out, not the first 500."""
    run = RunLatency(1_000)
    run.record(9 * MS, 500, after_ns=0, done=0)
    run.record(MS, 500, after_ns=0, done=500)
    found = run.summary()
    assert (found["count"], found["warm_up_left_out"], found["max"]) == (950, 50, 9.0)


def test_few_messages_have_no_warm_up() -> None:
    """5 % of 19 is not one message."""
    run = RunLatency(19)
    run.record(MS, 19, after_ns=0, done=0)
    assert (run.summary()["count"], run.summary()["warm_up_left_out"]) == (19, 0)


@pytest.mark.parametrize("total", [10**9, None])
def test_the_warm_up_ends_after_a_second(total: int | None) -> None:
    """However many messages there are, and also when nobody knows how many."""
    run = RunLatency(total)
    run.record(9 * MS, 30, after_ns=WARM_UP_NS - 1, done=0)
    run.record(MS, 20, after_ns=WARM_UP_NS, done=30)
    found = run.summary()
    assert (found["count"], found["warm_up_left_out"], found["max"]) == (20, 30, 1.0)


def test_a_run_that_is_all_warm_up_is_told_whole() -> None:
    """And that nothing was left out."""
    run = RunLatency(None)
    run.record(MS, 5, after_ns=0, done=0)
    run.record(-MS, 1, after_ns=0, done=5)
    found = run.summary()
    assert (found["count"], found["negative"], found["warm_up_left_out"]) == (5, 1, 0)


def test_negative_ones_after_the_warm_up_hide_nothing() -> None:
    """A clock that was set back after it does not bring the warm-up back."""
    run = RunLatency(None)
    run.record(MS, 5, after_ns=0, done=0)
    run.record(-MS, 2, after_ns=0, done=0)
    run.record(-MS, 1, after_ns=WARM_UP_NS, done=5)
    found = run.summary()
    assert (found["count"], found["negative"], found["warm_up_left_out"]) == (0, 1, 7)


def test_two_runs_united_keep_their_warm_ups_apart() -> None:
    one, other = RunLatency(None), RunLatency(None)
    for run, slow in ((one, 8), (other, 9)):
        run.record(slow * MS, 3, after_ns=0, done=0)
        run.record(MS, 4, after_ns=WARM_UP_NS, done=3)
    one.add(other.dump())
    found = one.summary()
    assert (found["count"], found["warm_up_left_out"], found["max"]) == (8, 6, 1.0)
