"""Bytes are gathered while they come fast, and not a moment longer."""

import pytest

from rabbitproof.amqp.gather import LONGEST_S, Gather

LEAST, QUARTER = 1000, 250
VAIN = 8
"""Waits in a row that bring little, until it ends."""


def fast(gather: Gather, start: float = 0.0, times: int = 1) -> float:
    """Let a quarter come in half of the time allowed, so many times."""
    now = start
    for _ in range(times):
        gather.read(QUARTER // 2, now + LONGEST_S / 4)
        now += LONGEST_S / 2
        gather.read(QUARTER - QUARTER // 2, now)
    return now


def vain(gather: Gather, size: int = 0, times: int = VAIN) -> None:
    """Let it wait for little, so many times."""
    for _ in range(times):
        assert gather.active
        gather.read(size, 0.0)


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
    vain(gather, QUARTER - 1)
    assert not gather.active


def test_a_short_pause_of_the_peer_does_not_end_it() -> None:
    gather = Gather(LEAST)
    fast(gather)

    for _ in range(3):
        vain(gather, times=VAIN - 1)
        gather.read(QUARTER, 0.0)

    assert gather.active


@pytest.mark.parametrize("size", [0, 1, QUARTER - 1])
def test_waits_in_vain_end_it_and_make_it_cautious(size: int) -> None:
    gather = Gather(LEAST)
    now = fast(gather)

    vain(gather, size)

    assert not gather.active
    now = fast(gather, now)
    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_a_pause_starts_the_row_again() -> None:
    gather = Gather(LEAST)
    now = fast(gather)
    vain(gather)

    now = fast(gather, now)
    gather.read(QUARTER, now + 2 * LONGEST_S)  # too late
    now = fast(gather, now + 2 * LONGEST_S)

    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_success_makes_it_bold_again() -> None:
    gather = Gather(LEAST)
    now = fast(gather)
    vain(gather)
    now = fast(gather, now, 2)

    gather.read(LEAST, now)
    vain(gather)

    assert not gather.active
    fast(gather, now, 2)
    assert gather.active


def test_a_peer_that_waits_for_us_is_soon_left_alone() -> None:
    gather = Gather(LEAST)
    now, held = 0.0, 0

    for _ in range(10_000):
        now = fast(gather, now)
        if gather.active:
            held += VAIN
            vain(gather)

    assert held <= 14 * VAIN  # each time twice as much has to come first, up to a limit
