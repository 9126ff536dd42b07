from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.proof.latency import Latency
from rabbitproof.work.arrivals import Arrivals

MS = 1_000_000
T0 = 1_700_000_000 * 10**9
"""Some moment, nanoseconds since 1970."""


def arrivals(expect: int | None = None, began: int = T0) -> Arrivals:
    out = Arrivals("here", expect)
    out.begin(began)
    return out


def test_latency_is_from_due_to_arrival() -> None:
    """Two buffers in one piece of bytes: two times, and a maximum."""
    found = arrivals()
    found.at(T0 + 50 * MS)
    found.count((T0 + 10 * MS,) * 3 + (T0 + 20 * MS,) * 7, b"here")
    assert found.summary() == {
        "count": 10,
        "p50": 30.015,
        "p90": 40.0,
        "p99": 40.0,
        "p99_9": 40.0,
        "p99_99": 40.0,
        "max": 40.0,
        "negative": 0,
        "warm_up_left_out": 0,
        "clocks": "one host",
        "live": True,
    }


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_grouping_changes_nothing(offsets: list[int]) -> None:
    """Messages of one time, of several, in any order, are counted one by one as well."""
    found, one_by_one = arrivals(), Latency()
    found.at(T0)
    found.count(tuple(T0 - offset * MS for offset in offsets), b"here")
    for offset, count in Counter(offsets).items():
        one_by_one.record(offset * MS, count)
    assert one_by_one.summary().items() <= found.summary().items()


def test_a_message_without_a_time_is_not_counted() -> None:
    """0 stands for none."""
    found = arrivals()
    found.at(T0)
    found.count((0, T0 - MS, 0), b"here")
    assert (found.summary()["count"], found.summary()["max"]) == (1, 1.0)


def test_a_clock_that_was_set_is_told() -> None:
    found = arrivals()
    found.at(T0)
    found.count((T0 + 3 * MS, T0 + 3 * MS, T0 - MS), b"here")
    assert (found.summary()["count"], found.summary()["negative"]) == (1, 2)


def test_other_hosts_have_other_clocks() -> None:
    """One message from elsewhere is enough, and one that says nothing may be from anywhere."""
    for host, clocks in (
        (b"here", "one host"),
        (b"there", "different hosts: their clocks' difference is in it"),
        (b"", "different hosts: their clocks' difference is in it"),
    ):
        found = arrivals()
        found.at(T0)
        found.count((T0,), b"here")
        found.count((T0,), host)
        found.count((T0,), b"here")
        assert found.summary()["clocks"] == clocks


def test_the_warm_up_counts_from_the_first_arrival() -> None:
    """Not from when the consumer began to wait: 5 % of 100 messages, then a second."""
    found = arrivals(expect=100, began=T0 - 60_000 * MS)
    found.at(T0)
    found.count((T0 - 9 * MS,) * 3 + (T0 - 8 * MS,) * 2 + (T0 - MS,) * 5, b"here")
    assert (found.summary()["count"], found.summary()["warm_up_left_out"]) == (5, 5)
    assert found.summary()["max"] == 1.0
    found = arrivals(began=T0 - 60_000 * MS)
    found.at(T0)
    found.count((T0 - 9 * MS,) * 50, b"here")
    found.at(T0 + 1_000 * MS)
    found.count((T0 + 999 * MS,) * 5, b"here")
    assert (found.summary()["count"], found.summary()["warm_up_left_out"]) == (5, 50)


def test_live_is_who_was_there_before_the_first_message_was_sent() -> None:
    """Later messages do not make up for a backlog."""
    for first, live in ((T0 + MS, True), (T0 - MS, False)):
        found = arrivals()
        found.at(T0 + 2 * MS)
        found.count((first,), b"here")
        found.count((T0 + 2 * MS,), b"here")
        assert found.summary()["live"] is live


def test_nothing_came() -> None:
    assert arrivals().summary()["count"] == 0
