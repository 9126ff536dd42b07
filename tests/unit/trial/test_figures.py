"""The numbers are worked out by hand; the working stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rabbitproof.model import Client, Measurement, Role, Row, Spread
from rabbitproof.trial.figures import compare

CLIENTS = tuple(Client(name, "1", confirms=True) for name in ("ours", "ceiling", "java", "pika"))


def took(
    client: str,
    n: int,
    seconds: float,
    *,
    cpu: float = 0.5,
    messages: int = 1000,
    topology: str = "classic",
    role: Role = "publish",
    peak: int = 1_000_000,
) -> Measurement:
    return Measurement(topology, role, client, n, messages, seconds, cpu, peak)


def row_of(client: str, *measurements: Measurement) -> Row:
    (row,) = [row for row in compare(measurements, CLIENTS) if row.client == client]
    return row


def test_a_rate_is_messages_over_seconds() -> None:
    """1,000 messages in 4, 2 and 5 seconds are 250, 500 and 200 a second; 250 is the middle."""
    row = row_of("ours", took("ours", 1, 4.0), took("ours", 2, 2.0), took("ours", 3, 5.0))
    assert row.per_s == Spread(low=200.0, median=250.0, high=500.0)
    assert (row.topology, row.role, row.client, row.rounds, row.messages) == (
        ("classic", "publish", "ours", 3, 1000)
    )


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    """100, 200, 250 and 1,000 a second: (200 + 250) / 2 = 225."""
    seconds = (1.0, 10.0, 4.0, 5.0)
    row = row_of("ours", *(took("ours", n, s) for n, s in enumerate(seconds, 1)))
    assert row.per_s == Spread(low=100.0, median=225.0, high=1000.0)


def test_one_round_is_its_own_low_median_and_high() -> None:
    """1,000 messages in 4 seconds."""
    row = row_of("ours", took("ours", 1, 4.0))
    assert row.per_s == Spread(250.0, 250.0, 250.0)
    assert row.rounds == 1


def test_cpu_is_microseconds_a_message() -> None:
    """0.002, 0.004 and 0.003 s for 1,000 messages are 2, 4 and 3 µs each."""
    taken = [took("ours", n, 1.0, cpu=cpu) for n, cpu in enumerate((0.002, 0.004, 0.003), 1)]
    cpu_us = row_of("ours", *taken).cpu_us
    assert (cpu_us.low, cpu_us.median, cpu_us.high) == pytest.approx((2.0, 3.0, 4.0))


def test_cpu_may_be_too_little_to_measure() -> None:
    """A coarse clock says 0, which is a figure."""
    assert row_of("ours", took("ours", 1, 1.0, cpu=0.0)).cpu_us == Spread(0.0, 0.0, 0.0)


def test_memory_is_the_most_of_all_rounds() -> None:
    """Not the last, not the median."""
    taken = [took("ours", n, 1.0, peak=peak) for n, peak in enumerate((5, 9, 7), 1)]
    assert row_of("ours", *taken).peak_bytes == 9


def test_ratios_are_paired_within_a_round() -> None:
    """The median of the ratios, which here is not the ratio of the medians.

    Ours 250, 500, 100 a second; the ceiling 500, 625, 1,000. In pairs 0.5, 0.8, 0.1: median 0.5.
    The medians' ratio would be 250 / 625 = 0.4.
    """
    ours = [took("ours", n, s) for n, s in enumerate((4.0, 2.0, 10.0), 1)]
    ceiling = [took("ceiling", n, s) for n, s in enumerate((2.0, 1.6, 1.0), 1)]
    ratio = row_of("ours", *ours, *ceiling).of_ceiling
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.1, 0.5, 0.8))


def test_the_java_client_is_another_base() -> None:
    """Ours 250 and 500 a second, Java 200 and 250: 1.25 and 2; their mean is 1.625."""
    row = row_of(
        "ours", took("ours", 1, 4.0), took("java", 1, 5.0), took("ours", 2, 2.0),
        took("java", 2, 4.0),
    )  # fmt: skip
    assert row.of_java == Spread(1.25, 1.625, 2.0)
    assert row.of_ceiling is None


def test_nobody_is_compared_with_itself() -> None:
    """The ceiling stands beside Java (500 / 250 = 2), and Java beside the ceiling (0.5)."""
    taken = (took("ceiling", 1, 2.0), took("java", 1, 4.0))
    ceiling, java = row_of("ceiling", *taken), row_of("java", *taken)
    assert (ceiling.of_ceiling, ceiling.of_java) == (None, Spread(2.0, 2.0, 2.0))
    assert (java.of_ceiling, java.of_java) == (Spread(0.5, 0.5, 0.5), None)


def test_only_pairs_that_exist_count() -> None:
    """Round 1 lacks the ceiling, round 3 lacks ours: round 2 remains, 500 / 1,000 = 0.5.

    Order does not pair: the ceiling's first measurement is of round 2.
    """
    taken = (
        took("ours", 1, 4.0), took("ceiling", 2, 1.0), took("ours", 2, 2.0), took("ceiling", 3, 9.0)
    )  # fmt: skip
    row = row_of("ours", *taken)
    assert row.of_ceiling == Spread(0.5, 0.5, 0.5)
    assert row.per_s == Spread(250.0, 375.0, 500.0)
    assert row.rounds == 2


def test_no_pair_is_no_ratio() -> None:
    """Both ran, never in the same round."""
    assert row_of("ours", took("ours", 1, 4.0), took("ceiling", 2, 1.0)).of_ceiling is None


@pytest.mark.parametrize("other", [{"topology": "quorum"}, {"role": "consume"}])
def test_ratios_stay_within_topology_and_role(other: dict[str, str]) -> None:
    """The ceiling of something else is no ceiling."""
    taken = (took("ours", 1, 4.0), replace(took("ceiling", 1, 2.0), **other))  # type: ignore[arg-type]
    assert row_of("ours", *taken).of_ceiling is None


def test_each_role_has_its_own_ceiling() -> None:
    """Publishing 250 / 500, consuming 1,000 / 4,000."""
    taken = (
        took("ours", 1, 4.0), took("ceiling", 1, 2.0),
        took("ours", 1, 1.0, role="consume"), took("ceiling", 1, 0.25, role="consume"),
    )  # fmt: skip
    shares = [row.of_ceiling for row in compare(taken, CLIENTS) if row.client == "ours"]
    assert shares == [Spread(0.5, 0.5, 0.5), Spread(0.25, 0.25, 0.25)]


def test_rates_are_compared_not_seconds() -> None:
    """2,000 messages in 4 seconds against 1,000 in 1: 500 / 1,000 = 0.5."""
    taken = (took("ours", 1, 4.0, messages=2000), took("ceiling", 1, 1.0))
    assert row_of("ours", *taken).of_ceiling == Spread(0.5, 0.5, 0.5)


def test_messages_of_a_round_are_a_number_that_occurred() -> None:
    """Of 900 and 1,000 the lower, not 950."""
    taken = (took("ours", 1, 1.0, messages=1000), took("ours", 2, 1.0, messages=900))
    assert row_of("ours", *taken).messages == 900


def test_rows_are_in_the_order_of_the_table() -> None:
    """Topologies as they first appear, publish before consume, clients as given."""
    taken = [
        took(client, 1, 1.0, topology=topology, role=role)
        for topology in ("quorum", "classic")
        for role in ("consume", "publish")
        for client in ("pika", "ceiling", "ours")
    ]
    rows = compare(taken, CLIENTS)
    assert [(row.topology, row.role, row.client) for row in rows] == [
        (topology, role, client)
        for topology in ("quorum", "classic")
        for role in ("publish", "consume")
        for client in ("ours", "ceiling", "pika")
    ]


def test_the_two_bases_can_have_other_names() -> None:
    """250 / 500 of the first, 250 / 200 of the second."""
    taken = (took("ours", 1, 4.0), took("pika", 1, 2.0), took("java", 1, 5.0))
    row = compare(taken, CLIENTS, ceiling="pika", java="java")[0]
    assert row.of_ceiling == Spread(0.5, 0.5, 0.5)
    assert row.of_java == Spread(1.25, 1.25, 1.25)
    assert compare(taken, CLIENTS)[0].of_ceiling is None


def test_nothing_measured_makes_no_rows() -> None:
    """With clients and without."""
    assert compare([], CLIENTS) == ()
    assert compare([], ()) == ()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_measurement_has_to_last(seconds: float) -> None:
    """What took no time has no rate."""
    with pytest.raises(ValueError, match=r"Round 2 of ours \(publish, classic\).*has to last"):
        compare([took("ours", 2, seconds)], CLIENTS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (took("ours", 1, 1.0, messages=0), "at least one"),
        (took("ours", 1, 1.0, cpu=-0.1), "check how it was measured"),
        (took("ours", 1, 1.0, cpu=float("nan")), "check how it was measured"),
        (took("\x1bodd", 1, 1.0), r"\\x1bodd .*unknown client"),
    ],
)
def test_what_cannot_be_computed_is_refused(wrong: Measurement, words: str) -> None:
    """In a sentence that says what to do."""
    with pytest.raises(ValueError, match=words):
        compare([wrong], CLIENTS)


def test_a_round_measured_twice_is_refused() -> None:
    """Nobody could say which of the two makes the pair."""
    with pytest.raises(ValueError, match="measured twice"):
        compare([took("ours", 1, 1.0), took("ours", 1, 2.0)], CLIENTS)
