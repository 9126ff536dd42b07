"""Several scenarios in one table: what is shown of those that passed, failed and were left out."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from rich.console import Console

from rabbitproof.model import (
    Decision,
    Entry,
    FaultRecord,
    QueueVerdict,
    Suite,
    TrialResult,
    Verdict,
)
from rabbitproof.view import suite as words
from rabbitproof.view.junit import junit_of_all


def queue(name: str, **more: Any) -> QueueVerdict:
    known: dict[str, Any] = {
        "name": name, "judged_by": "ledger", "received": 10, "unique": 10, "lost": 0,
        "lost_ids": (), "undecided": 0, "recovered": 0, "duplicates_redelivered": 0,
        "duplicates_resent": 0, "duplicates_unflagged": 0, "corrupt": 0, "foreign": 0,
        "reordered": 0, "order_unchecked": None, "left_in_queue": 0,
    }  # fmt: skip
    return QueueVerdict(**(known | more))


def result(decision: Decision, *reasons: str, **more: Any) -> TrialResult:
    queues = {
        "work.queue": queue("work.queue", duplicates_redelivered=3, lost=more.pop("lost", 0)),
        "audit.queue": queue("audit.queue", duplicates_resent=2, duplicates_unflagged=1),
    }
    verdict = Verdict(decision, reasons, 10, 10, 0, 0, 4, queues)
    return TrialResult(verdict, "s", "0a1b2c3d4e5f", 1, 1, (), {"rabbitmq": "3.10.8"}, **more)


FAULTS = (FaultRecord("broker-kill", 1.0, fired=True, evidence=""),
          FaultRecord("broker-kill", 2.0, fired=False, evidence=""))  # fmt: skip
PASSED = Entry("good", "A good one", 1.25, result(Decision.PASS))
OUTAGE = {"without_service_s": 6.26, "longest_gap_s": 5.0, "faults": FAULTS}
FAILED = Entry("bad", "A bad one", 2.0, result(Decision.FAIL, "5 are lost.", lost=5, **OUTAGE))
OPEN = Entry("open", "Nobody knows", 3.0, result(Decision.UNKNOWN, "A fault never fired."))
BROKEN = Entry("broken", "It broke", 4.0, broken="It was not over after 180 s.")
LEFT = Entry("left", "Left out", left_out="It needs three nodes.")


def suite(*entries: Entry, **more: Any) -> Suite:
    return Suite(entries, 10.0, **more)


@pytest.mark.parametrize(
    ("entries", "decision"),
    [
        ((PASSED,), Decision.PASS),
        ((PASSED, LEFT), Decision.PASS),
        ((PASSED, OPEN), Decision.UNKNOWN),
        ((PASSED, BROKEN), Decision.UNKNOWN),
        ((PASSED, OPEN, FAILED), Decision.FAIL),
        ((LEFT,), Decision.UNKNOWN),
        ((), Decision.UNKNOWN),
    ],
)
def test_all_have_to_pass_and_left_out_is_not_passed(
    entries: tuple[Entry, ...], decision: Decision
) -> None:
    """One FAIL fails all, one UNKNOWN leaves all open, and nothing carried out proves nothing."""
    assert suite(*entries).decision is decision


def test_what_was_interrupted_has_not_passed() -> None:
    """But what failed before that has failed."""
    assert suite(PASSED, interrupted=True).decision is Decision.UNKNOWN
    assert suite(PASSED, FAILED, interrupted=True).decision is Decision.FAIL


def test_a_row_has_the_sums_of_all_queues() -> None:
    """Lost and duplicates of both, and how many of the faults fired."""
    assert words.cells(FAILED) == (
        "bad", "FAIL", "10", "5", "6", "4", "6.3 s", "5.0 s", "1/2", "2.0",
    )  # fmt: skip
    assert words.cells(PASSED)[8:] == ("-", "1.2")
    assert words.cells(LEFT) == ("left", "left out", *["-"] * 8)
    assert words.cells(BROKEN) == ("broken", "UNKNOWN", *["-"] * 7, "4.0")
    assert len(words.COLUMNS) == len(words.cells(BROKEN))


def shown(found: Suite, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(words.table(found))
    return out.getvalue()


def test_the_table_has_a_line_for_each() -> None:
    """In the order in which they were carried out, and inside 80 columns."""
    text = shown(suite(PASSED, FAILED, LEFT), 80)
    lines = [line.split() for line in text.splitlines()]
    assert [line[0] for line in lines[3:]] == ["good", "bad", "left"]
    assert [lines[1][-1], lines[3][-1]] == ["s", "1.2"]  # the last column is there
    assert "1/2" in text
    assert max(map(len, text.splitlines())) <= 80


def test_below_it_stands_why() -> None:
    """What failed, what could not be proven and what was left out, each with its reason."""
    found = suite(PASSED, FAILED, OPEN, BROKEN, LEFT, seed=7)
    assert words.remarks(found) == [
        "bad: 5 are lost.",
        "open: A fault never fired.",
        "broken: It was not over after 180 s.",
        "left: It needs three nodes.",
    ]
    assert words.headline(found) == (
        "1 of 4 scenarios passed, 1 left out, of which nothing is proven."
    )
    assert "seed 7" in words.surroundings(found)


def test_the_object_has_each_result_whole() -> None:
    """And it can be written as JSON."""
    found = json.loads(json.dumps(words.as_object(suite(PASSED, LEFT, BROKEN, seed=3))))
    assert (found["verdict"], found["seed"]) == ("UNKNOWN", 3)
    good, left, broken = found["scenarios"]
    assert good["result"]["confirmed"] == 10
    assert (left["verdict"], left["left_out"]) == (None, "It needs three nodes.")
    assert (broken["verdict"], broken["broken"]) == ("UNKNOWN", "It was not over after 180 s.")


def test_the_page_leads_to_each_report_and_escapes_what_it_shows() -> None:
    """A link where there is a report, and no name becomes HTML."""
    bad = replace(PASSED, title="<b>&", scenario="good")
    page = words.page(
        suite(bad, LEFT, command="rabbitproof prove --all"), {"good": "good/report.html"}
    )
    assert '<a href="good/report.html">good</a>' in page
    assert "<b>" not in page
    assert "left: It needs three nodes." in page
    assert '<meta name="generator" content="rabbitproof">' in page


def test_markdown_is_a_table() -> None:
    """As many cells in each line."""
    lines = words.markdown(suite(PASSED, LEFT)).splitlines()
    assert "1 of 1 scenarios passed" in lines[-1]
    assert {line.count("|") for line in lines[:-2]} == {len(words.COLUMNS) + 1}
    assert lines[2].startswith("| `good` | PASS | 10 | 0 | 6 | 4 |")


def test_junit_has_a_case_for_each() -> None:
    """Failures and errors stop a pipeline; what was left out is skipped."""
    text = junit_of_all(suite(PASSED, FAILED, OPEN, BROKEN, LEFT))
    root = Xml.fromstring(text)  # noqa: S314  we wrote it
    found = root.find("testsuite")
    assert found is not None
    assert {key: found.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "2", "skipped": "1",
    }  # fmt: skip
    kinds = {case.get("name"): [child.tag for child in case] for case in found.iter("testcase")}
    assert kinds == {
        "good": [], "bad": ["failure"], "open": ["error"], "broken": ["error"], "left": ["skipped"],
    }  # fmt: skip
