from __future__ import annotations

from typing import Any

import pytest

from rabbitproof.model import Client, Comparison, Role, Row, Spread
from rabbitproof.view import figures


def flat(value: float | None) -> Spread | None:
    return None if value is None else Spread(value, value, value)


def row(
    client: str = "rabbitproof",
    *,
    topology: str = "classic",
    role: Role = "publish",
    rounds: int = 5,
    messages: int = 1000,
    per_s: Spread | None = None,
    of_ceiling: Spread | None = None,
    of_java: Spread | None = None,
    cpu_us: float = 2.0,
    peak: int = 50_000_000,
) -> Row:
    return Row(
        topology, role, client, rounds, messages, per_s or Spread(900, 1000, 1100), of_ceiling,
        of_java, Spread(cpu_us, cpu_us, cpu_us), peak,
    )  # fmt: skip


def compared(
    *rows: Row, clients: tuple[Client, ...] = (), environment: dict[str, Any] | None = None
) -> Comparison:
    return Comparison(clients, (), rows, (), environment or {})


def only(*rows: Row, clients: tuple[Client, ...] = ()) -> figures.Line:
    ((line, *_),) = [job.lines for job in figures.jobs(compared(*rows, clients=clients))]
    return line


# --- the headline -----------------------------------------------------------------------------


def test_the_headline_says_how_near_to_the_ceiling_we_come() -> None:
    """0.934 and 0.978 in percent."""
    comparison = compared(
        row("ceiling"),
        row(of_ceiling=flat(0.934)),
        row(role="consume", of_ceiling=flat(0.978)),
        row("pika", of_ceiling=flat(0.1)),
    )
    assert figures.headline(comparison) == (
        "rabbitproof publishes at 93% and consumes at 98% of the wire ceiling."
    )


def test_over_several_topologies_it_is_a_range() -> None:
    """From the lowest median to the highest; one number where they come out the same."""
    comparison = compared(
        row(of_ceiling=flat(0.97)),
        row(of_ceiling=flat(0.91), topology="quorum"),
        row(of_ceiling=flat(0.881), role="consume"),
        row(of_ceiling=flat(0.879), role="consume", topology="quorum"),
    )
    assert figures.headline(comparison) == (
        "rabbitproof publishes at 91% to 97% and consumes at 88% of the wire ceiling."
    )


def test_it_uses_the_median_of_the_ratios() -> None:
    """Not the best round."""
    comparison = compared(row(of_ceiling=Spread(0.5, 0.8, 1.2)))
    assert figures.headline(comparison) == "rabbitproof publishes at 80% of the wire ceiling."


def test_without_a_ceiling_it_says_the_rates() -> None:
    """And that nothing tells how good they are."""
    assert figures.headline(compared(row(per_s=Spread(1, 36_200.4, 9e9)))) == (
        "rabbitproof publishes 36,200 messages a second; "
        "there was no wire ceiling to set that against."
    )


def test_without_us_it_says_so() -> None:
    """In the plural and in the singular."""
    assert figures.headline(compared(row("a"), row("b"), row("b", role="consume"))) == (
        "2 clients measured, without rabbitproof."
    )
    assert figures.headline(compared(row("a"))) == "1 client measured, without rabbitproof."


def test_nothing_measured_is_said() -> None:
    """In words."""
    assert figures.headline(compared()) == "Nothing was measured."
    assert figures.beside_java(compared()) == ""


def test_the_java_client_has_a_sentence_of_its_own() -> None:
    """Where it ran."""
    comparison = compared(row(of_java=flat(1.18)), row(role="consume", of_java=flat(1.2)))
    assert figures.beside_java(comparison) == (
        "It publishes at 118% and consumes at 120% of the rate of the official Java client."
    )
    assert figures.beside_java(compared(row(of_ceiling=flat(0.9)))) == ""


# --- tables -----------------------------------------------------------------------------------


def test_each_topology_and_role_is_a_table() -> None:
    """In the order of the rows, even if they are not side by side."""
    comparison = compared(
        row("a", topology="q"), row("a", topology="q", role="consume"), row("b", topology="q")
    )
    assert [
        (job.topology, job.name, [line.client for line in job.lines])
        for job in figures.jobs(comparison)
    ] == [("q", "Publish", ["a", "b"]), ("q", "Consume", ["a"])]


@pytest.mark.parametrize(
    ("per_s", "shown", "spread"),
    [
        (Spread(34_100.4, 36_200.5, 37_900.6), "36,200", "34,100–37,901"),
        (Spread(1.04, 2.25, 9.5), "2.2", "1.0–9.5"),
    ],
)
def test_rates_have_no_more_digits_than_they_need(per_s: Spread, shown: str, spread: str) -> None:
    """Below ten messages a second one after the point."""
    line = only(row(per_s=per_s))
    assert (line.per_s, line.per_s_range) == (shown, spread)


def test_shares_are_percent() -> None:
    """With their range, which is one number where it comes out the same."""
    line = only(row(of_ceiling=Spread(0.904, 0.931, 0.946), of_java=Spread(1.176, 1.18, 1.184)))
    assert (line.of_ceiling, line.of_ceiling_range) == ("93%", "90–95%")
    assert (line.of_java, line.of_java_range) == ("118%", "118%")


def test_no_share_is_a_dash() -> None:
    """Never None."""
    line = only(row())
    assert (line.of_ceiling, line.of_ceiling_range) == ("–", "")
    assert (line.of_java, line.of_java_range) == ("–", "")


@pytest.mark.parametrize(("cpu_us", "shown"), [(1.64, "1.6"), (99.7, "99.7"), (1234.5, "1,234")])
def test_cpu_is_microseconds(cpu_us: float, shown: str) -> None:
    """One digit after the point where that says something."""
    assert only(row(cpu_us=cpu_us)).cpu_us == shown


def test_memory_is_millions_of_bytes() -> None:
    """Rounded: 45,600,000 bytes are 46 MB."""
    assert only(row(peak=45_600_000)).peak_mb == "46"


def test_a_line_knows_its_client() -> None:
    """Version, confirms and the number of its note; notes are counted over those that have one."""
    clients = (
        Client("a", "1", confirms=True, note="It is first."),
        Client("b", "", confirms=True),
        Client("rabbitproof", "0.1", confirms=False, note="It is ours."),
    )
    line = only(row("rabbitproof"), clients=clients)
    assert (line.version, line.confirms, line.note, line.ours) == ("0.1", "no", 2, True)
    line = only(row("b"), clients=clients)
    assert (line.version, line.confirms, line.note, line.ours) == ("", "yes", 0, False)
    line = only(row("stranger"), clients=clients)
    assert (line.version, line.confirms, line.note) == ("", "–", 0)
    comparison = compared(clients=clients)
    assert figures.notes(comparison) == [("a", "It is first."), ("rabbitproof", "It is ours.")]
    assert figures.versions(comparison) == ["a 1", "rabbitproof 0.1"]


def test_who_missed_rounds_is_told_apart() -> None:
    """And only who did."""
    (job,) = figures.jobs(compared(row("a", rounds=3), row("b", rounds=5)))
    assert [line.missed for line in job.lines] == ["3 of 5 rounds", ""]
    assert job.length == "5 rounds of 1,000 messages"


def test_the_length_says_only_what_is_true_of_all() -> None:
    """Rounds of different size have no size."""
    (job,) = figures.jobs(compared(row("a", messages=1), row("b", messages=2)))
    assert job.length == "5 rounds"
    (job,) = figures.jobs(compared(row("a", rounds=1)))
    assert job.length == "1 round of 1,000 messages"


# --- surroundings -----------------------------------------------------------------------------


def test_the_environment_has_names_and_an_order() -> None:
    """What we have a name for first, whatever else comes as it is."""
    given = {"zeta": 1, "count": 150_000, "rabbitmq": "3.10.8", "kernel_flags": ["a", "b"]}
    assert figures.environment(compared(environment=given)) == [
        ("RabbitMQ", "3.10.8"),
        ("Messages a round", "150,000"),
        ("zeta", "1"),
        ("kernel_flags", "a, b"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "unknown"), (float("nan"), "unknown"), (float("inf"), "unknown"), (0.25, "0.25"),
        (True, "yes"), (False, "no"), (5672, "5672"), ("", "–"), ([], "–"), ({}, "–"),
        ({"a": None, "b": [1, "x"]}, "a unknown, b 1, x"),
    ],
)  # fmt: skip
def test_values_of_any_kind_are_words(value: object, shown: str) -> None:
    """No None, no NaN, no brackets."""
    assert figures.environment(compared(environment={"key": value})) == [("key", shown)]


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("2026-11-24T19:24:05+00:00", "2026-11-24 19:24 UTC"),
        ("2026-11-24T19:24:05.123+02:00", "2026-11-24 19:24+02:00"),
        ("yesterday", "yesterday"),
    ],
)
def test_the_start_is_a_time_people_read(started: str, shown: str) -> None:
    """If it is a time."""
    assert figures.environment(compared(environment={"started": started})) == [("Started", shown)]


def test_what_comes_from_outside_is_safe_and_short() -> None:
    """Names, versions, notes, reasons, topologies, keys and values."""
    evil = "\x1b[2J\n\u202e" + "x" * 5000
    clients = (Client(evil, evil, confirms=True, note=evil),)
    comparison = Comparison(clients, (evil,), (row(evil, topology=evil),), (), {evil: [evil]})
    (job,) = figures.jobs(comparison)
    (line,) = job.lines
    shown = [
        job.topology, line.client, line.version, *figures.versions(comparison),
        *figures.notes(comparison)[0], *figures.skipped(comparison),
        *figures.environment(comparison)[0],
    ]  # fmt: skip
    assert all(text.isprintable() and len(text) <= 500 for text in shown)
