import pytest

from rabbitproof.view.humanize import duration, number, rate, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "?"), (0, "0"), (500, "500"), (999, "999"), (999.7, "1.0K"), (1000, "1.0K"),
        (5200, "5.2K"), (10_000, "10.0K"), (999_949, "999.9K"), (999_950, "1.0M"),
        (1_500_000, "1.5M"), (2e9, "2.0G"), (3e12, "3.0T"), (-1500, "-1.5K"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "?/s"), (0.0, "0.0/s"), (250.5, "250.5/s"), (999.96, "1.0K/s"), (12_345, "12.3K/s")],
)
def test_rates_have_one_decimal(value: float | None, shown: str) -> None:
    assert rate(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "?"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**31, "2.0 GiB"),
     (1023.99 * 1024, "1.0 MiB"), (5 * 2**50, "5120.0 TiB")],
)  # fmt: skip
def test_sizes_are_binary(value: float | None, shown: str) -> None:
    assert size(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "?"), (-3, "0 s"), (45.4, "45 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min"),
     (360_000, "4 d 4 h")],
)  # fmt: skip
def test_durations_have_two_units(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown
