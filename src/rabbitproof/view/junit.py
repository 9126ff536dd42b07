"""A verdict as JUnit XML, as Jenkins, GitLab and their kind read it. Pure.

One suite; a case for the verdict as a whole, one for each claim and one for each queue. What failed
is a ``failure``, what could not be proven is an ``error``: both make a pipeline stop, as the exit
codes 1 and 4 do, so the file and the exit code never disagree. Refuses to write files.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as Xml

from rabbitproof.model import Decision
from rabbitproof.text import safe
from rabbitproof.view import verdict as words

if TYPE_CHECKING:
    from rabbitproof.model import QueueVerdict, Suite, TrialResult

_NAME, _SENTENCE = 250, 1_000
"""Characters of a name and of a sentence, at most."""
_REASONS = 100
_NO_XML: Final = re.compile("[\ufffe\uffff]")
"""What ``text.safe`` lets through and XML 1.0 (section 2.2) does not."""


def junit(result: TrialResult) -> str:
    """Return the file's text."""
    verdict = result.verdict
    suite = Xml.Element("testsuite", name=_text(f"rabbitproof.{result.scenario}", _NAME))
    properties = Xml.SubElement(suite, "properties")
    for name, value in (
        ("run", result.run),
        ("verdict", str(verdict.decision)),
        ("expected", "PASS" if result.safe else "FAIL"),
        ("attempted", str(verdict.attempted)),
        ("confirmed", str(verdict.confirmed)),
        ("rabbitmq", str(result.environment.get("rabbitmq", "?"))),
    ):
        Xml.SubElement(properties, "property", name=name, value=_text(value, _NAME))
    tag = {Decision.PASS: "", Decision.FAIL: "failure", Decision.UNKNOWN: "error"}
    reasons = [_text(reason, _SENTENCE) for reason in verdict.reasons]
    more = len(reasons) - _REASONS
    shown = reasons[:_REASONS] + ([f"… and {more:,} more."] if more > 0 else [])
    headline = _text(words.headline(result), _SENTENCE)
    _case(suite, result, "verdict", tag[verdict.decision], shown or [headline])
    for text, held in result.claims:
        sentence = _text(text, _NAME)
        _case(suite, result, f"claim: {sentence}", "" if held else "failure", [sentence])
    for name, queue in verdict.queues.items():
        kind, found = _queue(queue)
        if verdict.decision is Decision.PASS:
            kind = ""  # what a queue's count alone left open does not decide
        _case(suite, result, f"queue: {_text(name, _NAME)}", kind, found)
    counts = {
        "tests": str(len(suite.findall("testcase"))),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": str(len(suite.findall("testcase/error"))),
        "time": f"{_seconds(result):.3f}",
    }
    suite.attrib |= {**counts, "skipped": "0"}
    if stamp := _timestamp(result.started):
        suite.set("timestamp", stamp)
    return _file(suite, counts)


def junit_of_all(suite: Suite) -> str:
    """Return one file's text about several scenarios, a case for each.

    What was left out is ``skipped``: it makes no pipeline stop, and nobody takes it for passed.
    """
    found = Xml.Element("testsuite", name="rabbitproof.prove.all")
    properties = Xml.SubElement(found, "properties")
    seed = "none" if suite.seed is None else str(suite.seed)
    for name, value in (("verdict", str(suite.decision)), ("seed", seed)):
        Xml.SubElement(properties, "property", name=name, value=value)
    for entry in suite.entries:
        case = Xml.SubElement(
            found,
            "testcase",
            classname="rabbitproof.prove",
            name=_text(entry.scenario, _NAME),
            time=f"{entry.seconds:.3f}",
        )
        if entry.left_out is not None:
            Xml.SubElement(case, "skipped", message=_text(entry.left_out, _SENTENCE))
        elif entry.decision is not Decision.PASS:
            reasons = [entry.broken or "It came to no verdict."]
            if entry.result is not None:
                reasons = [*entry.result.verdict.reasons] or [words.headline(entry.result)]
            kind = "failure" if entry.decision is Decision.FAIL else "error"
            told = [_text(reason, _SENTENCE) for reason in reasons[:_REASONS]]
            made = Xml.SubElement(case, kind, message=told[0], type=str(entry.decision))
            made.text = "\n".join(told)
    counts = {
        "tests": str(len(suite.entries)),
        "failures": str(len(found.findall("testcase/failure"))),
        "errors": str(len(found.findall("testcase/error"))),
        "time": f"{suite.seconds:.3f}",
    }
    found.attrib |= {**counts, "skipped": str(len(found.findall("testcase/skipped")))}
    if stamp := _timestamp(suite.started):
        found.set("timestamp", stamp)
    return _file(found, counts)


def _file(suite: Xml.Element, counts: dict[str, str]) -> str:
    root = Xml.Element("testsuites", {"name": "rabbitproof", **counts})
    root.append(suite)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, "unicode") + "\n"


def _case(suite: Xml.Element, result: TrialResult, name: str, kind: str, found: list[str]) -> None:
    """Add a case; ``kind``: failure, error, or nothing when all is well."""
    scenario = _text(f"rabbitproof.{result.scenario}", _NAME)
    seconds = f"{_seconds(result):.3f}" if name == "verdict" else "0"
    case = Xml.SubElement(suite, "testcase", classname=scenario, name=name, time=seconds)
    if kind:
        what = "UNKNOWN" if kind == "error" else "FAIL"
        Xml.SubElement(case, kind, message=found[0], type=what).text = "\n".join(found)


def _queue(queue: QueueVerdict) -> tuple[str, list[str]]:
    """Return how a queue's case ends and what was found."""
    failures = [
        f"{count:,} {what}"
        for count, what in (
            (queue.lost, "confirmed messages are lost."),
            (queue.corrupt, "messages are damaged."),
            (queue.duplicates_unflagged, "second copies came as if they were the first."),
        )
        if count
    ]
    if failures and queue.lost_ids:
        ids = ", ".join(_text(one, _NAME) for one in queue.lost_ids[:10])
        failures.append(f"The first lost: {ids}")
    doubts = [
        f"{count:,} {what}"
        for count, what in (
            (queue.undecided, "confirmed messages were not seen and are not proven lost."),
            (-queue.books.residue, "copies are too many for the books to balance."),
        )
        if count
    ]
    return "failure" if failures else "error" if doubts else "", failures + doubts


def _seconds(result: TrialResult) -> float:
    """Return how long messages flowed, as far as is known."""
    ends = [series.points[-1][0] for series in result.series if series.points]
    return max([*ends, 0.0])


def _timestamp(started: str) -> str:
    """Return the time as the schemas of JUnit files want it: without an offset, here in UTC."""
    try:
        at = datetime.fromisoformat(started)
    except ValueError:
        return ""
    if at.tzinfo is not None:
        at = at.astimezone(UTC)
    return at.replace(tzinfo=None).isoformat(timespec="seconds")


def _text(value: str, limit: int) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", safe(value, limit))
