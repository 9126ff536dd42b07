"""Bytes are gathered while they come fast, and not a moment longer."""

from rabbitproof.amqp.gather import LONGEST_S, Gather


def fast(gather: Gather, start: float = 0.0, times: int = 1) -> float:
    """Let enough bytes come in half of the time allowed, so many times."""
    now = start
    for _ in range(times):
        gather.read(gather.least // 2, now + LONGEST_S / 4)
        now += LONGEST_S / 2
        gather.read(gather.least - gather.least // 2, now)
    return now


def test_it_begins_when_enough_came_fast() -> None:
    gather = Gather(1000)

    gather.read(999, 0.001)
    assert not gather.active
    gather.read(1, 0.002)
    assert gather.active


def test_slow_traffic_is_never_held_back() -> None:
    gather = Gather(1000)
    now = 1.0

    for _ in range(100):
        now += LONGEST_S / 9
        gather.read(100, now)

    assert not gather.active


def test_a_wait_in_vain_ends_it_and_makes_it_cautious() -> None:
    gather = Gather(1000)
    now = fast(gather)

    gather.in_vain()

    assert not gather.active
    now = fast(gather, now)
    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_a_pause_starts_the_row_again() -> None:
    gather = Gather(1000)
    now = fast(gather)
    gather.in_vain()

    now = fast(gather, now)
    gather.read(1000, now + 2 * LONGEST_S)  # too late
    now = fast(gather, now + 2 * LONGEST_S)

    assert not gather.active
    fast(gather, now)
    assert gather.active


def test_success_makes_it_bold_again() -> None:
    gather = Gather(1000)
    now = fast(gather)
    gather.in_vain()
    now = fast(gather, now, 2)

    gather.enough()
    gather.in_vain()

    assert not gather.active
    assert fast(gather, now, 2)
    assert gather.active


def test_a_peer_that_waits_for_us_is_soon_left_alone() -> None:
    gather = Gather(1000)
    now, held = 0.0, 0

    for _ in range(10_000):
        now = fast(gather, now)
        if gather.active:
            held += 1
            gather.in_vain()

    assert held <= 14  # each time twice as much has to come first, up to a limit
