"""A verdict as JUnit XML, as Jenkins, GitLab and their kind read it. Pure.

One suite, with a case for the verdict as a whole, one for each claim and one for each queue; of
several scenarios a case for each, of several releases a suite for each. What failed is a
``failure``, what could not be proven is an ``error``: both make a pipeline stop, as the exit codes
1 and 4 do, so the file and the exit code never disagree. Refuses to write files.
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
    from rabbitproof.model import QueueVerdict, Releases, Suite, TrialResult

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
        kind = {True: "", False: "failure", None: "error"}[held]
        _case(suite, result, f"claim: {sentence}", kind, [sentence])
    for name, queue in verdict.queues.items():
        kind, found = _queue(queue)
        if verdict.decision is Decision.PASS:
            kind = ""  # what a queue's count alone left open does not decide
        _case(suite, result, f"queue: {_text(name, _NAME)}", kind, found)
    return _file(_counted(suite, _seconds(result), result.started))


def junit_of_all(suite: Suite) -> str:
    """Return one file's text about several scenarios, a case for each.

    What was left out is ``skipped``: it makes no pipeline stop, and nobody takes it for passed.
    """
    return _file(_scenarios(suite, "rabbitproof.prove"))


def junit_of_releases(found: Releases) -> str:
    """Return one file's text about several releases, a suite for each."""
    # A dot would make readers see a package 4 with a class 3.
    return _file(
        *(
            _scenarios(suite, f"rabbitproof.prove.rabbitmq-{version.replace('.', '-')}")
            for version, suite in found.suites.items()
        )
    )


def _scenarios(suite: Suite, classname: str) -> Xml.Element:
    """Return a suite with a case for each scenario; one without a broker has that as its case."""
    classname = _text(classname, _NAME)
    found = Xml.Element("testsuite", name=f"{classname}.all")
    properties = Xml.SubElement(found, "properties")
    seed = "none" if suite.seed is None else str(suite.seed)
    for name, value in (("verdict", str(suite.decision)), ("seed", seed)):
        Xml.SubElement(properties, "property", name=name, value=value)
    for entry in suite.entries:
        case = Xml.SubElement(
            found,
            "testcase",
            classname=classname,
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
    if suite.broken is not None:
        case = Xml.SubElement(found, "testcase", classname=classname, name="broker", time="0")
        Xml.SubElement(case, "error", message=_text(suite.broken, _SENTENCE), type="UNKNOWN")
    return _counted(found, suite.seconds, suite.started)


def _counted(suite: Xml.Element, seconds: float, started: str) -> Xml.Element:
    """Have a suite say how many cases it has, how they ended, and when it was."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("time", f"{seconds:.3f}")
    if stamp := _timestamp(started):
        suite.set("timestamp", stamp)
    return suite


def _file(*suites: Xml.Element) -> str:
    sums: dict[str, str] = {
        name: str(sum(int(suite.get(name, "0")) for suite in suites))
        for name in ("tests", "failures", "errors")
    }
    seconds = sum(float(suite.get("time", "0")) for suite in suites)
    root = Xml.Element("testsuites", {"name": "rabbitproof", **sums, "time": f"{seconds:.3f}"})
    root.extend(suites)
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
