"""Several releases beside each other: what counts as a difference, and what is said of each."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console

from rabbitproof.model import (
    Books,
    Decision,
    Entry,
    FaultRecord,
    QueueVerdict,
    Releases,
    Suite,
    TrialResult,
    Verdict,
)
from rabbitproof.view import releases as words
from rabbitproof.view.junit import junit_of_releases


def queue(**more: int) -> QueueVerdict:
    known: dict[str, Any] = {
        "name": "work.queue", "judged_by": "ledger", "received": 10, "unique": 10, "lost": 0,
        "lost_ids": (), "undecided": 0, "recovered": 0, "duplicates_redelivered": 0,
        "duplicates_resent": 0, "duplicates_unflagged": 0, "corrupt": 0, "foreign": 0,
        "reordered": 0, "order_unchecked": None, "left_in_queue": 0, "books": Books(),
    }  # fmt: skip
    return QueueVerdict(**(known | more))


def fault(*, fired: bool = True) -> FaultRecord:
    return FaultRecord("broker-kill", 1.0, fired=fired, evidence="")


def entry(
    name: str = "one",
    decision: Decision = Decision.PASS,
    *reasons: str,
    confirmed: int = 10,
    in_doubt: int = 0,
    copies: int = 0,
    lost: int = 0,
    seconds: float = 1.0,
    **more: Any,
) -> Entry:
    queues = {"work.queue": queue(lost=lost, duplicates_resent=copies)}
    verdict = Verdict(decision, reasons, 10, confirmed, 0, 0, in_doubt, queues)
    found = TrialResult(verdict, name, "0a1b2c3d4e5f", 1, 1, (), {}, **more)
    return Entry(name, f"Title of {name}", seconds, found)


def suite(*entries: Entry, **more: Any) -> Suite:
    return Suite(entries, 60.0, **more)


def compared(*suites: Suite, **more: Any) -> Releases:
    versions = ("4.3.6", "4.0.5", "3.10.8")
    return Releases(dict(zip(versions, suites, strict=False)), 130.0, **more)


def rows(*entries: Entry) -> list[tuple[str, tuple[str, ...]]]:
    found = compared(*(suite(one) for one in entries))
    return [(one.column, one.figures) for one in words.differences(found)]


BROKEN = suite(broken="It did not start; its log says why.")
INTERRUPTED = suite(Entry("one", "", left_out="It was interrupted."), interrupted=True)
NEVER = {"faults": (fault(fired=False),)}
ONCE = {"faults": (fault(),)}


# --- what is a difference ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "column", "figures"),
    [
        (entry(lost=2), entry(), "lost", ("2", "0")),
        (entry(lost=2), entry(lost=3), "lost", ("2", "3")),
        (entry(**ONCE), entry(**NEVER), "faults", ("1/1", "0/1")),
        (entry(in_doubt=1), entry(), "in doubt", ("1", "0")),
        (entry(confirmed=9), entry(), "confirmed", ("9", "10")),
        (entry(confirmed=0), entry(confirmed=9), "confirmed", ("0", "9")),
        (entry(copies=1), entry(), "duplicates", ("1", "0")),
        (
            entry(longest_gap_s=0.1),
            entry(longest_gap_s=5.1),
            "longest gap",
            ("0.1 s", "5.1 s"),
        ),
    ],
)
def test_what_is_of_another_kind_has_a_row(
    first: Entry, second: Entry, column: str, figures: tuple[str, str]
) -> None:
    """With the figure of each release."""
    assert rows(first, second) == [(column, figures)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (entry(seconds=1.0), entry(seconds=90.0)),
        (entry(copies=0, **ONCE), entry(copies=5_000, **ONCE)),
        (entry(longest_gap_s=0.1), entry(longest_gap_s=5.0)),
        (entry(longest_gap_s=6.0), entry(longest_gap_s=11.5)),
        (entry(longest_gap_s=None), entry(longest_gap_s=9.0)),
        (entry(without_service_s=0.0), entry(without_service_s=9.0)),
        (entry(in_doubt=1), entry(in_doubt=7)),
        (entry(confirmed=8), entry(confirmed=9)),
    ],
)
def test_what_another_run_would_change_has_none(first: Entry, second: Entry) -> None:
    """Seconds, copies that a fault made, outages of one length."""
    assert rows(first, second) == []


def test_a_verdict_is_compared_also_where_there_is_no_result() -> None:
    """A trial that broke has no figures, and those of the others do not differ from them."""
    failed = entry("one", Decision.FAIL, "2 are lost.", lost=2)
    broken = Entry("one", "", 3.0, broken="It was not over after 180 s.")
    assert rows(failed, entry(), broken) == [
        ("verdict", ("FAIL", "PASS", "UNKNOWN")),
        ("lost", ("2", "0", "-")),
    ]
    refused = Entry("one", "", left_out="This release has no such queue.")
    assert rows(entry(), refused) == [("verdict", ("PASS", "left out"))]


@pytest.mark.parametrize("nothing", [BROKEN, INTERRUPTED])
def test_a_release_that_came_to_nothing_differs_in_no_row(nothing: Suite) -> None:
    """It would differ in all of them."""
    assert words.differences(compared(suite(entry()), nothing)) == []
    assert "nothing to compare" in words.compared(compared(suite(entry()), nothing))
    others = compared(suite(entry()), suite(entry(lost=1)), nothing)
    assert [one.figures for one in words.differences(others)] == [("0", "1", "-")]


# --- all together -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "decision"),
    [
        (compared(suite(entry()), suite(entry())), Decision.PASS),
        (compared(suite(entry()), BROKEN), Decision.UNKNOWN),
        (compared(suite(entry()), INTERRUPTED, interrupted=True), Decision.UNKNOWN),
        (compared(BROKEN, suite(entry("one", Decision.FAIL, "x."))), Decision.FAIL),
        (compared(suite(entry()), suite(entry()), interrupted=True), Decision.UNKNOWN),
    ],
)
def test_all_releases_have_to_pass(found: Releases, decision: Decision) -> None:
    """One that could not be had leaves it open, and a FAIL stays one."""
    assert found.decision is decision


def test_the_headline_counts_releases() -> None:
    """And never says of what was left out that it passed."""
    assert words.headline(compared(suite(entry()), BROKEN)) == (
        "1 of 2 releases passed all 1 scenarios."
    )
    assert words.headline(compared(suite(entry()), INTERRUPTED, interrupted=True)) == (
        "1 of 2 releases passed what was carried out, 1 left out, of which nothing is proven; "
        "it was interrupted."
    )


def test_a_row_has_what_came_of_a_release() -> None:
    """The sums over its scenarios; none where nothing was carried out."""
    found = suite(entry("one"), entry("two", Decision.FAIL, "1 is lost.", lost=1))
    assert words.row("4.3.6", found) == ("4.3.6", "FAIL", "1 of 2", "20", "1", "60")
    assert words.row("4.0.5", BROKEN) == ("4.0.5", "UNKNOWN", "-", "-", "-", "-")
    assert len(words.SUMMARY) == len(words.row("4.0.5", BROKEN))


def test_what_is_said_of_all_releases_is_said_once() -> None:
    """What is said of one names it."""
    left = Entry("two", "", left_out="It makes no sense.")
    failed = entry("one", Decision.FAIL, "2 are lost.", lost=2)
    assert words.remarks(compared(suite(failed, left), suite(entry("one"), left))) == [
        "RabbitMQ 4.3.6: one: 2 are lost.",
        "two: It makes no sense.",
    ]
    assert words.remarks(compared(suite(entry()), BROKEN)) == [
        "RabbitMQ 4.0.5: It did not start; its log says why."
    ]


# --- how it is shown --------------------------------------------------------------------------

WORST = entry("confirms-swallowed-stream", Decision.UNKNOWN, "It never fired.", **NEVER)
BEST = entry("confirms-swallowed-stream", **ONCE)


def shown(found: Releases, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(*words.tables(found), sep="\n")
    return out.getvalue()


@pytest.mark.parametrize("number", [2, 7])
def test_the_tables_fit_eighty_columns(number: int) -> None:
    """Also where seven releases differ in the longest name; no figure is cut."""
    suites = {f"4.{n}.10": suite(WORST if n % 2 else BEST) for n in range(number)}
    text = shown(Releases(suites, 1.0), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("UNKNOWN") == 2 * (number // 2)
    assert text.count("0/1") == number // 2
    assert all(text.count(version) == 2 for version in suites)


def test_without_a_difference_there_is_one_table() -> None:
    """And a sentence in place of the other."""
    found = compared(suite(BEST), suite(BEST))
    (_,) = words.tables(found)
    assert words.compared(found) == "No scenario tells them apart, but by seconds and copies."


def test_markdown_has_the_differences_first() -> None:
    """Then each release's own table; as many cells in each line of a table."""
    found = compared(suite(WORST), suite(BEST), command="rabbitproof prove --all --rabbitmq all")
    text = words.markdown(found)
    assert "| `confirms-swallowed-stream` | faults | 0/1 | 1/1 |" in text
    assert text.index("### RabbitMQ 4.3.6") < text.index("### RabbitMQ 4.0.5")
    assert text.index("| faults | 0/1") < text.index("### RabbitMQ 4.3.6")
    head, marks = text.splitlines()[:2]
    assert head.count("|") == marks.count("|") == len(words.SUMMARY) + 1


def test_the_object_has_that_of_each_release_as_it_is() -> None:
    """By version; a difference too. It can be written as JSON."""
    from rabbitproof.view import suite as one

    found = compared(suite(WORST), suite(BEST), BROKEN, seed=7)
    told = json.loads(json.dumps(words.as_object(found)))
    assert (told["verdict"], told["seed"], told["interrupted"]) == ("UNKNOWN", 7, False)
    assert told["releases"] == {
        version: json.loads(json.dumps(one.as_object(each)))
        for version, each in found.suites.items()
    }
    assert told["releases"]["3.10.8"]["broken"] == "It did not start; its log says why."
    assert told["differences"][0] == {
        "scenario": "confirms-swallowed-stream",
        "column": "verdict",
        "releases": {"4.3.6": "UNKNOWN", "4.0.5": "PASS", "3.10.8": "-"},
    }


def test_the_page_leads_to_each_report_and_escapes_what_it_shows() -> None:
    """A link where there is a report, and no title becomes HTML."""
    bad = replace(BEST, title="<b>&")
    name = BEST.scenario
    found = compared(suite(bad), suite(WORST), BROKEN)
    page = words.page(found, {"4.3.6": {"": "4.3.6/index.html", name: "4.3.6/x/report.html"}})
    assert '<a href="4.3.6/index.html">4.3.6</a>' in page
    assert page.count('<a href="4.3.6/x/report.html">') == 3  # verdict twice, faults once
    assert page.count("<a ") == 4
    assert "<b>" not in page
    assert "RabbitMQ 3.10.8: It did not start" in page
    assert '<meta name="generator" content="rabbitproof">' in page


def test_junit_has_a_suite_for_each_release() -> None:
    """Same names in different classes; one that did not start is an error of its own."""
    failed = entry("one", Decision.FAIL, "2 are lost.", lost=2)
    text = junit_of_releases(compared(suite(failed, entry("two")), suite(entry("one")), BROKEN))
    root = Xml.fromstring(text)  # noqa: S314  we wrote it
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    assert root.get("time") == "180.000"
    cases = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert cases == [
        ("rabbitproof.prove.rabbitmq-4-3-6", "one"),
        ("rabbitproof.prove.rabbitmq-4-3-6", "two"),
        ("rabbitproof.prove.rabbitmq-4-0-5", "one"),
        ("rabbitproof.prove.rabbitmq-3-10-8", "broker"),
    ]
    assert [one.get("errors") for one in root] == ["0", "0", "1"]
