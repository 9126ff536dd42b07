"""Several releases of RabbitMQ beside each other: what came of each, and where they differ.

Pure. Refuses to hold what is said of one release (``suite``).

Rules: a difference is one of kind, such as a verdict, a loss, a fault that never fired or an outage
twice as long. Seconds and copies differ from one run to the next on the same release, and are none.
A release that came to nothing is said once, not in a row for each scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import Decision
from rabbitproof.text import safe
from rabbitproof.view import suite as words
from rabbitproof.view.pages import render
from rabbitproof.view.surroundings import when

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.table import Table

    from rabbitproof.model import Entry, Releases, Suite, TrialResult

SUMMARY: Final = ("RabbitMQ", "verdict", "passed", "confirmed", "lost", "seconds")
_NAME, _SENTENCE = 40, 500
_OUTAGE_S: Final = 5.0
"""Between outages that differ. On a machine of two cores with a load of 10 the longest gap of one
scenario was up to 4 s longer than on another release without any reason in the release."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of one scenario that is of another kind on another release."""

    scenario: str
    column: str
    figures: tuple[str, ...]
    """For each release, as its table shows it."""


def differences(found: Releases) -> list[Difference]:
    """Return what another release would change, in the order of the scenarios."""
    out = []
    for name in scenarios(found):
        entries = [_entry(suite, name) for suite in found.suites.values()]
        # What an interrupt left out says nothing of its release; what a release refused does.
        told = [
            entry
            for entry, suite in zip(entries, found.suites.values(), strict=True)
            if entry is not None and not (suite.interrupted and entry.decision is None)
        ]
        results = [entry.result for entry in told if entry.result is not None]
        columns = ["verdict"] if len({entry.decision for entry in told}) > 1 else []
        columns += [column for column, differ in _COMPARED.items() if differ(results)]
        for column in columns:
            at = words.COLUMNS.index(column)
            figures = tuple(
                words.NONE if entry is None else words.cells(entry)[at] for entry in entries
            )
            out.append(Difference(safe(name, _NAME), column, figures))
    return out


def scenarios(found: Releases) -> dict[str, str]:
    """Return the names of all scenarios and their titles, in the order of the first release."""
    return {
        entry.scenario: entry.title for suite in found.suites.values() for entry in suite.entries
    }


def _entry(suite: Suite, name: str) -> Entry | None:
    return next((entry for entry in suite.entries if entry.scenario == name), None)


def _of_kinds(kind: Callable[[TrialResult], object]) -> Callable[[Sequence[TrialResult]], bool]:
    return lambda results: len({kind(result) for result in results}) > 1


def _confirmed(result: TrialResult) -> str:
    verdict = result.verdict
    return "all" if verdict.confirmed == verdict.attempted else "some" if verdict.confirmed else ""


def _copied(result: TrialResult) -> bool:
    """Tell whether there were copies although nothing broke that could have made any."""
    return not result.faults and words.totals(result).duplicates > 0


def _outage(results: Sequence[TrialResult]) -> bool:
    seconds = [one.longest_gap_s for one in results if one.longest_gap_s is not None]
    least, most = min(seconds, default=0.0), max(seconds, default=0.0)
    return most >= 2 * least and most - least >= _OUTAGE_S


_COMPARED: Final[dict[str, Callable[[Sequence[TrialResult]], bool]]] = {
    "confirmed": _of_kinds(_confirmed),
    "lost": _of_kinds(lambda result: words.totals(result).lost),
    "duplicates": _of_kinds(_copied),
    "in doubt": _of_kinds(lambda result: words.totals(result).in_doubt > 0),
    "longest gap": _outage,
    "faults": _of_kinds(lambda result: words.totals(result).fired),
}
"""Column -> whether results of one scenario differ in it enough to be told."""


def row(version: str, suite: Suite) -> tuple[str, ...]:
    """Return what came of one release: one text for each of ``SUMMARY``."""
    sums = [words.totals(one.result) for one in suite.entries if one.result is not None]
    done = [entry for entry in suite.entries if entry.decision is not None]
    passed = sum(entry.decision is Decision.PASS for entry in done)
    return (
        safe(version, _NAME),
        str(suite.decision),
        f"{passed} of {len(done)}" if done else words.NONE,
        f"{sum(one.confirmed for one in sums):,}" if sums else words.NONE,
        f"{sum(one.lost for one in sums):,}" if sums else words.NONE,
        f"{suite.seconds:.0f}" if done else words.NONE,
    )


def headline(found: Releases) -> str:
    """Return what came of all of them in one sentence."""
    suites = found.suites.values()
    passed = sum(suite.decision is Decision.PASS for suite in suites)
    left = sum(entry.decision is None for suite in suites for entry in suite.entries)
    what = "what was carried out" if left else f"all {len(scenarios(found))} scenarios"
    out = f"{passed} of {len(suites)} releases passed {what}"
    if left:
        out += f", {left} left out, of which nothing is proven"
    if found.interrupted:
        out += "; it was interrupted"
    return f"{out}."


def compared(found: Releases) -> str:
    """Say how the releases differ, in one sentence."""
    count = len(differences(found))
    told = sum(
        any(entry.decision is not None for entry in suite.entries)
        for suite in found.suites.values()
    )
    if told < 2:
        return "There is nothing to compare: fewer than two releases carried out a scenario."
    if count:
        return "Where they differ, beside seconds and copies:"
    return "No scenario tells them apart, but by seconds and copies."


def remarks(found: Releases) -> list[str]:
    """Return what has to be said of single releases; what is said of several stands once."""
    told: dict[str, list[str]] = {}
    for version, suite in found.suites.items():
        broken = [] if suite.broken is None else [safe(suite.broken, _SENTENCE)]
        for remark in [*broken, *words.remarks(suite)]:
            told.setdefault(remark, []).append(safe(version, _NAME))
    everywhere = len(found.suites)
    return [
        remark if len(on) == everywhere else f"RabbitMQ {', '.join(on)}: {remark}"
        for remark, on in told.items()
    ]


def surroundings(found: Releases) -> str:
    """Return how all of it was carried out, in one line."""
    return ", ".join(
        (
            f"Python {safe(str(found.environment.get('python', '?')), _NAME)}",
            f"{found.seconds:.0f} s",
            "faults as the scenarios say" if found.seed is None else f"seed {found.seed}",
        )
    )


def tables(found: Releases) -> list[Table]:
    """Return what a terminal shows: the releases, and where they differ if they do."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    def new(*names: str, left: int) -> Table:
        out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        for number, name in enumerate(names):
            justify: Any = "left" if number < left else "right"
            out.add_column(name, justify=justify, overflow="fold", no_wrap=number >= left)
        return out

    def coloured(cell: str) -> Text:
        return Text(cell, words.COLOURS[Decision(cell)] if cell in set(Decision) else "")

    summary = new(*SUMMARY, left=2)
    for version, suite in found.suites.items():
        summary.add_row(*map(coloured, row(version, suite)))
    differ = new("scenario", "figure", *(safe(one, _NAME) for one in found.suites), left=2)
    rows = differences(found)
    for one in rows:
        differ.add_row(one.scenario, one.column, *map(coloured, one.figures))
    return [summary, differ] if rows else [summary]


def markdown(found: Releases) -> str:
    """Return the releases and their differences for a README, then each release's own table."""
    lines = _grid(SUMMARY, [row(*one) for one in found.suites.items()], left=2)
    lines += ["", compared(found)]
    if rows := differences(found):
        cells = [(f"`{one.scenario}`", one.column, *one.figures) for one in rows]
        lines += ["", *_grid(("scenario", "figure", *found.suites), cells, left=2)]
    if told := remarks(found):
        lines += ["", *(f"- {remark}" for remark in told)]
    command = safe(found.command, _SENTENCE)
    lines += ["", f"{headline(found)} {surroundings(found)}, `{command}`.", ""]
    for version, suite in found.suites.items():
        if suite.entries:
            lines += [f"### RabbitMQ {safe(version, _NAME)}", "", words.markdown(suite)]
    return "\n".join(lines)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    marks = "|" + "---|" * left + "--:|" * (len(head) - left)
    cells = [[safe(cell, _SENTENCE).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    first, *others = [f"| {' | '.join(row)} |" for row in cells]
    return [first, marks, *others]


def as_object(found: Releases) -> dict[str, Any]:
    """Return what ``prove --all --rabbitmq all --json`` prints: one release's object for each."""
    return {
        "verdict": str(found.decision),
        "seed": found.seed,
        "interrupted": found.interrupted,
        "seconds": round(found.seconds, 1),
        "started": found.started,
        "command": found.command,
        "environment": found.environment,
        "releases": {version: words.as_object(suite) for version, suite in found.suites.items()},
        "differences": [
            {
                "scenario": one.scenario,
                "column": one.column,
                "releases": dict(zip(found.suites, one.figures, strict=True)),
            }
            for one in differences(found)
        ],
    }


def page(found: Releases, reports: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page that leads to each release and each report.

    ``reports``: version -> scenario -> address; the release's own page stands under no name.
    """
    versions = list(found.suites)

    def cells(name: str, figures: Sequence[str]) -> list[tuple[str, str | None]]:
        return [
            (figure, reports.get(version, {}).get(name))
            for version, figure in zip(versions, figures, strict=True)
        ]

    def verdicts(name: str) -> list[str]:
        entries = [_entry(suite, name) for suite in found.suites.values()]
        return [words.NONE if entry is None else words.cells(entry)[1] for entry in entries]

    return render(
        "releases.html.j2",
        headline=headline(found),
        decision=str(found.decision),
        versions=[safe(version, _NAME) for version in versions],
        summary=SUMMARY,
        releases=[
            (row(version, suite), reports.get(version, {}).get(""))
            for version, suite in found.suites.items()
        ],
        compared=compared(found),
        differences=[
            (one.scenario, one.column, cells(one.scenario, one.figures))
            for one in differences(found)
        ],
        scenarios=[
            (safe(name, _NAME), safe(title, 120), cells(name, verdicts(name)))
            for name, title in scenarios(found).items()
        ],
        remarks=remarks(found),
        surroundings=surroundings(found),
        started=safe(when(found.started), _NAME),
        command=safe(found.command, _SENTENCE),
    )
