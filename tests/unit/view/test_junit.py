"""The shape is what the readers of Jenkins (its xunit plugin's schema) and GitLab accept."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitproof.model import Books, Decision, QueueVerdict, TrialResult, Verdict
from rabbitproof.view.junit import junit

ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "time"},
    "testsuite": {
        "name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id",
    },
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
}  # fmt: skip
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "property": set(),
    "testcase": {"failure", "error"},
    "failure": set(),
    "error": set(),
}


def queue(**changed: Any) -> QueueVerdict:
    given: dict[str, Any] = {
        "name": "q", "judged_by": "ledger", "received": 10, "unique": 10, "lost": 0,
        "lost_ids": (), "undecided": 0, "recovered": 0, "duplicates_redelivered": 0,
        "duplicates_resent": 0, "duplicates_unflagged": 0, "corrupt": 0, "foreign": 0,
        "reordered": 0, "order_unchecked": None, "left_in_queue": 0,
    }  # fmt: skip
    return QueueVerdict(**given | changed)


def result(
    decision: Decision = Decision.PASS,
    reasons: tuple[str, ...] = (),
    claims: tuple[tuple[str, bool], ...] = (),
    scenario: str = "offline",
    started: str = "",
    **queues: QueueVerdict,
) -> TrialResult:
    verdict = Verdict(decision, reasons, 10, 10, 0, 0, 0, queues)
    return TrialResult(verdict, scenario, "0a1b", 1, 1, claims, {}, started=started)


def read(one: TrialResult) -> Xml.Element:
    """Parse it and see that it has the shape."""
    root = Xml.fromstring(junit(one).encode())  # noqa: S314 - our own
    assert root.tag == "testsuites"
    for node in root.iter():
        assert set(node.attrib) <= ATTRIBUTES[node.tag]
        assert {child.tag for child in node} <= CHILDREN[node.tag]
    (suite,) = root
    assert suite[0].tag == "properties"
    cases = suite.findall("testcase")
    for node in (root, suite):
        assert node.get("tests") == str(len(cases))
        assert node.get("failures") == str(len(suite.findall("*/failure")))
        assert node.get("errors") == str(len(suite.findall("*/error")))
        assert float(node.attrib["time"]) >= 0
    assert all(len(case) <= 1 for case in cases)
    return suite


def ends(suite: Xml.Element) -> dict[str, str]:
    return {
        case.attrib["name"]: case[0].tag if len(case) else "" for case in suite.findall("testcase")
    }


def test_a_pass_is_a_case_each_for_verdict_claims_and_queues() -> None:
    """All of them passed."""
    suite = read(result(claims=(("It was empty.", True),), work=queue(), audit=queue()))
    assert ends(suite) == {
        "verdict": "", "claim: It was empty.": "", "queue: work": "", "queue: audit": "",
    }  # fmt: skip
    assert suite.get("name") == "rabbitproof.offline"


def test_a_failure_carries_the_reasons() -> None:
    """All in the verdict's case, its own in each other."""
    suite = read(
        result(
            Decision.FAIL,
            ("3 are lost in work.", "It held 4."),
            (("It held 4.", False),),
            work=queue(lost=3, lost_ids=("a", "b")),
            audit=queue(),
        )
    )
    assert ends(suite) == {
        "verdict": "failure", "claim: It held 4.": "failure", "queue: work": "failure",
        "queue: audit": "",
    }  # fmt: skip
    first, _, third = suite.findall("*/failure")
    assert first.get("message") == "3 are lost in work."
    assert first.text == "3 are lost in work.\nIt held 4."
    assert third.text == "3 confirmed messages are lost.\nThe first lost: a, b"


def test_what_could_not_be_proven_is_an_error() -> None:
    """It stops a pipeline as exit code 4 does."""
    suite = read(result(Decision.UNKNOWN, ("3 were not seen.",), work=queue(undecided=3)))
    assert ends(suite) == {"verdict": "error", "queue: work": "error"}


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"corrupt": 1}, "failure"),
        ({"duplicates_unflagged": 2}, "failure"),
        ({"books": Books(residue=-1)}, "error"),
        ({"duplicates_redelivered": 5, "foreign": 3, "reordered": 2, "left_in_queue": 9}, ""),
    ],
)
def test_a_queue_fails_for_what_fails_a_verdict(changed: dict[str, Any], kind: str) -> None:
    """And for nothing else."""
    suite = read(result(Decision.FAIL, ("Why.",), work=queue(**changed)))
    assert ends(suite)["queue: work"] == kind


@given(
    st.sampled_from(Decision),
    st.builds(
        queue,
        lost=st.integers(0, 2),
        undecided=st.integers(0, 2),
        books=st.builds(Books, residue=st.integers(-1, 0)),
    ),
)
def test_it_never_disagrees_with_the_verdict(decision: Decision, one: QueueVerdict) -> None:
    """A PASS has neither failure nor error, anything else has one."""
    found = set(ends(read(result(decision, work=one))).values()) - {""}
    assert bool(found) == (decision is not Decision.PASS)


@pytest.mark.parametrize(
    ("started", "stamp"),
    [
        ("2026-11-25T03:31:00+01:00", "2026-11-25T02:31:00"),
        ("2026-11-25T03:31:00", "2026-11-25T03:31:00"),
        ("", None),
        ("yesterday", None),
    ],
)
def test_the_time_has_no_offset(started: str, stamp: str | None) -> None:
    """The schemas of such files forbid one."""
    assert read(result(started=started)).get("timestamp") == stamp


def hostile(text: str) -> TrialResult:
    """Return a result in which every text comes from somebody else."""
    made = result(Decision.FAIL, (text,), ((text, False),), text, text)
    # Not as keywords: a queue may be called as one of the parameters is.
    queues = {text: queue(lost=1, lost_ids=(text,))}
    return replace(made, verdict=replace(made.verdict, queues=queues))


EVIL = "<script>]]>&\"'\x00\x1b[2J\ud800\ufffe\uffff\u202e\n"


def test_hostile_texts_are_only_text() -> None:
    """Nothing that XML does not allow, and no element of theirs."""
    suite = read(hostile(EVIL))
    assert len(suite.findall("testcase")) == 3
    text = "".join(node.attrib.get("name", "") for node in suite.iter())
    assert "<script>" in text
    assert not re.search("[\x00-\x1f\ufffe\uffff\ud800-\udfff\u202e]", text)


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_text_leaves_it_well_formed(text: str) -> None:
    """In every place."""
    read(hostile(text))


def test_it_stays_small() -> None:
    """A million lost ids and a thousand reasons are not for a CI server."""
    many = result(
        Decision.FAIL, ("why " * 999,) * 1000,
        work=queue(lost=10**6, lost_ids=("0a1b2c3d-4e5f-8001-8000-000000000001",) * 1000),
    )  # fmt: skip
    assert len(junit(replace(many, claims=()))) < 150_000
