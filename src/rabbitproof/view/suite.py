"""Several scenarios as one table: for a terminal, for a README, as an object, and as a page.

Pure. Refuses to print and to write files (``cli``), and to word a single verdict (``verdict``).
All texts that come from outside are made safe here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import Decision
from rabbitproof.text import safe
from rabbitproof.view import verdict as words
from rabbitproof.view.pages import render
from rabbitproof.view.surroundings import when

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from rabbitproof.model import Entry, Suite, TrialResult

NONE: Final = "-"
"""Stands where there is no figure."""
LEFT_OUT: Final = "left out"
COLUMNS: Final = (
    "scenario", "verdict", "confirmed", "lost", "duplicates", "in doubt", "without service",
    "longest gap", "faults", "seconds",
)  # fmt: skip
_NAME, _SENTENCE, _REASONS = 40, 500, 3
COLOURS: Final = {
    Decision.PASS: "green", Decision.FAIL: "bold red", Decision.UNKNOWN: "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of one result, all queues together."""

    confirmed: int
    lost: int
    duplicates: int
    in_doubt: int
    fired: int
    faults: int


def totals(result: TrialResult) -> Totals:
    """Return the sums over all queues, and how many of the faults fired."""
    verdict = result.verdict
    queues = verdict.queues.values()
    return Totals(
        verdict.confirmed,
        sum(queue.lost for queue in queues),
        sum(
            queue.duplicates_redelivered + queue.duplicates_resent + queue.duplicates_unflagged
            for queue in queues
        ),
        verdict.in_doubt,
        sum(fault.fired for fault in result.faults),
        len(result.faults),
    )


def cells(entry: Entry) -> tuple[str, ...]:
    """Return a row: one text for each of ``COLUMNS``."""
    name = safe(entry.scenario, _NAME)
    state = LEFT_OUT if entry.decision is None else str(entry.decision)
    seconds = NONE if entry.decision is None else f"{entry.seconds:.1f}"
    if entry.result is None:
        return (name, state, *[NONE] * (len(COLUMNS) - 3), seconds)
    found = totals(entry.result)
    return (
        name,
        state,
        f"{found.confirmed:,}",
        f"{found.lost:,}",
        f"{found.duplicates:,}",
        f"{found.in_doubt:,}",
        _seconds(entry.result.without_service_s),
        _seconds(entry.result.longest_gap_s),
        f"{found.fired}/{found.faults}" if found.faults else NONE,
        seconds,
    )


def _seconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f} s"


def said(entry: Entry) -> str:
    """Say in one line what came of a scenario."""
    if entry.left_out is not None:
        return f"{LEFT_OUT}: {safe(entry.left_out, _SENTENCE)}"
    if entry.result is None:
        return f"{entry.decision}: {safe(entry.broken or '', _SENTENCE)}"
    found = totals(entry.result)
    faults = f", {found.fired} of {found.faults} faults fired" if found.faults else ""
    return (
        f"{entry.decision}: {found.confirmed:,} confirmed, {found.lost:,} lost{faults} "
        f"({entry.seconds:.1f} s)"
    )


def headline(suite: Suite) -> str:
    """Return what came of all of them in one sentence."""
    if suite.broken is not None:
        return f"Nothing is proven: {safe(suite.broken, _SENTENCE)}"
    done = [entry for entry in suite.entries if entry.decision is not None]
    passed = sum(entry.decision is Decision.PASS for entry in done)
    left = len(suite.entries) - len(done)
    out = f"{passed} of {len(done)} scenarios passed"
    if left:
        out += f", {left} left out, of which nothing is proven"
    if suite.interrupted:
        out += "; it was interrupted"
    return f"{out}."


def remarks(suite: Suite) -> list[str]:
    """Return what has to be said below the table: why something failed or was left out."""
    out = []
    left: dict[str, list[str]] = {}
    for entry in suite.entries:
        name = safe(entry.scenario, _NAME)
        if entry.left_out is not None:
            left.setdefault(safe(entry.left_out, _SENTENCE), []).append(name)
        elif entry.broken is not None:
            out.append(f"{name}: {safe(entry.broken, _SENTENCE)}")
        elif entry.result is not None and entry.decision is not Decision.PASS:
            reasons = entry.result.verdict.reasons
            out += [f"{name}: {safe(reason, _SENTENCE)}" for reason in reasons[:_REASONS]]
            if len(reasons) > _REASONS:
                out.append(f"{name}: … and {len(reasons) - _REASONS:,} more reasons.")
    return out + [f"{', '.join(names)}: {why}" for why, names in left.items()]


def surroundings(suite: Suite) -> str:
    """Return where and how all of it was carried out, in one line."""
    known = suite.environment
    parts = [
        f"RabbitMQ {safe(str(known.get('rabbitmq', '?')), _NAME)}",
        f"Erlang/OTP {safe(str(known.get('erlang', '?')), _NAME)}",
        f"Python {safe(str(known.get('python', '?')), _NAME)}",
        f"{suite.seconds:.0f} s",
        "faults as the scenarios say" if suite.seed is None else f"seed {suite.seed}",
    ]
    return ", ".join(parts)


def table(suite: Suite) -> Table:
    """Return what a terminal shows. Made for 80 columns and more."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    out.add_column("scenario", overflow="fold", min_width=12)
    out.add_column("verdict", no_wrap=True)
    for name in (
        "confirmed", "lost", "dupli-\ncates", "in\ndoubt", "no ser-\nvice", "longest\ngap",
        "faults", "s",
    ):  # fmt: skip
        out.add_column(name, justify="right", no_wrap=True)
    for entry in suite.entries:
        name, state, *rest = cells(entry)
        colour = "dim" if entry.decision is None else COLOURS[entry.decision]
        out.add_row(Text(name), Text(state, colour), *(Text(cell) for cell in rest))
    return out


def markdown(suite: Suite) -> str:
    """Return the table for a README, and below it where it comes from."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    for entry in suite.entries:
        row = [cell.replace("|", "\\|") for cell in cells(entry)]
        lines.append("| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |")
    lines += ["", f"{headline(suite)} {surroundings(suite)}, `{safe(suite.command, _SENTENCE)}`."]
    return "\n".join(lines) + "\n"


def as_object(suite: Suite) -> dict[str, Any]:
    """Return what ``prove --all --json`` prints."""
    return {
        "verdict": str(suite.decision),
        "seed": suite.seed,
        "interrupted": suite.interrupted,
        "seconds": round(suite.seconds, 1),
        "started": suite.started,
        "command": suite.command,
        "environment": suite.environment,
        "broken": suite.broken,
        "scenarios": [
            {
                "scenario": entry.scenario,
                "title": entry.title,
                "verdict": None if entry.decision is None else str(entry.decision),
                "seconds": entry.seconds,
                "left_out": entry.left_out,
                "broken": entry.broken,
                "result": None if entry.result is None else words.as_object(entry.result),
            }
            for entry in suite.entries
        ],
    }


def page(suite: Suite, reports: Mapping[str, str]) -> str:
    """Return the page that leads to each scenario's report; ``reports``: scenario -> address."""
    return render(
        "suite.html.j2",
        headline=headline(suite),
        decision=str(suite.decision),
        columns=COLUMNS[2:],
        rows=[
            {
                "name": row[0],
                "title": safe(entry.title, 120),
                "href": reports.get(entry.scenario),
                "verdict": row[1],
                "cells": row[2:],
            }
            for entry in suite.entries
            for row in [cells(entry)]
        ],
        remarks=remarks(suite),
        surroundings=surroundings(suite),
        started=safe(when(suite.started), _NAME),
        command=safe(suite.command, _SENTENCE),
    )
