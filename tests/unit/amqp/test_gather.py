"""Bytes are gathered while they come fast, and not a moment longer."""

import pytest

from rabbitproof.amqp.gather import LONGEST_S, Gather

LEAST, QUARTER = 1000, 250


def fast(gather: Gather, start: float = 0.0, times: int = 1) -> float:
    """Let a quarter come in half of the time allowed, so many times."""
    now = start
    for _ in range(times):
        gather.read(QUARTER // 2, now + LONGEST_S / 4)
        now += LONGEST_S / 2
        gather.read(QUARTER - QUARTER // 2, now)
    return now


def test_it_begins_when_a_quarter_came_fast() -> None:
    gather = Gather(LEAST)

    gather.read(QUARTER - 1, 0.001)
    assert not gather.active
    gather.read(1, 0.002)
    assert gather.active


def test_slow_traffic_is_never_held_back() -> None:
    gather = Gather(LEAST)
    now = 1.0

    for _ in range(100):
        now += LONGEST_S / 9
        gather.read(QUARTER // 10, now)

    assert not gather.active


def test_it_goes_on_as_long_as_a_quarter_comes_in_time() -> None:
    gather = Gather(LEAST)
    now = fast(gather)

    gather.read(QUARTER, now + LONGEST_S)
    assert gather.active
    gather.read(QUARTER - 1, now + 2 * LONGEST_S)
    assert not gather.active


@pytest.mark.parametrize("size", [0, 1, QUARTER - 1])
def test_a_wait_in_vain_ends_it_and_makes_it_cautious(size: int) -> None:
    gather = Gather(LEAST)
    now = fast(gather)

    gather.read(size, now)

    assert not gather.active
    now = fast(gather, now)
    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_a_pause_starts_the_row_again() -> None:
    gather = Gather(LEAST)
    now = fast(gather)
    gather.read(0, now)

    now = fast(gather, now)
    gather.read(QUARTER, now + 2 * LONGEST_S)  # too late
    now = fast(gather, now + 2 * LONGEST_S)

    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_success_makes_it_bold_again() -> None:
    gather = Gather(LEAST)
    now = fast(gather)
    gather.read(0, now)
    now = fast(gather, now, 2)

    gather.read(LEAST, now)
    gather.read(0, now)

    assert not gather.active
    fast(gather, now, 2)
    assert gather.active


def test_a_peer_that_waits_for_us_is_soon_left_alone() -> None:
    gather = Gather(LEAST)
    now, held = 0.0, 0

    for _ in range(10_000):
        now = fast(gather, now)
        if gather.active:
            held += 1
            gather.read(0, now)

    assert held <= 14  # each time twice as much has to come first, up to a limit
