"""A comparison of clients: as tables for a terminal, as an object, as CSV, and as one page.

Refuses to print, to write files and to compute figures (``trial/figures.py``); the words are
those of ``view/figures.py``, which also makes names and notes from outside safe to show. On the
page they are escaped as well, and the page forbids its browser to load or to run anything.

rich, jinja2 and pygal are imported where they are needed: ``--help`` does not pay for them.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import Measurement
from rabbitproof.text import safe
from rabbitproof.view import figures
from rabbitproof.view.chart import Bar, bars
from rabbitproof.view.pages import drawing, render

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from rabbitproof.model import Comparison
    from rabbitproof.view.figures import Job, Line

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a text for a formula (CWE-1236); some take the wide ones too."""


# --- for a terminal ---------------------------------------------------------------------------


def table(comparison: Comparison) -> Group:
    """Return what a terminal shows: the headline, a table for each job, and what to know of it.

    Made for 80 columns and more. Our own row is bold, and has a mark where there is no bold.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(figures.headline(comparison), "bold")]
    if beside := figures.beside_java(comparison):
        parts.append(Text(beside))
    for job in figures.jobs(comparison):
        parts += ["", Text.assemble((f"{job.name}, {job.topology}", "bold"), f", {job.length}")]
        parts.append(_job(job))
    remarks = [
        (f"[{number}]", f"{name}: {note}")
        for number, (name, note) in enumerate(figures.notes(comparison), 1)
    ]
    remarks += [("Left out:", reason) for reason in figures.skipped(comparison)]
    if versions := figures.versions(comparison):
        remarks.append(("Versions:", ", ".join(versions)))
    if about := figures.environment(comparison):
        remarks.append(("Where:", "; ".join(f"{name} {value}" for name, value in about)))
    if remarks:
        parts += ["", _remarks(remarks)]
    return Group(*parts)


def _job(job: Job) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    out.add_column("client", overflow="fold", min_width=13)
    publish = job.role == "publish"  # a consumer has no confirms
    if publish:
        out.add_column("con-\nfirms", no_wrap=True)
    for name in ("msg/s", "low–high", "of\nceiling", "of\nJava", "CPU\nµs/msg", "peak\nMB"):
        out.add_column(name, justify="right", no_wrap=True)
    for line in job.lines:
        cells = (
            _who(line), *([line.confirms] if publish else []), line.per_s, line.per_s_range,
            line.of_ceiling, line.of_java, line.cpu_us, line.peak_mb,
        )  # fmt: skip
        out.add_row(*map(Text, cells), style="bold" if line.ours else None)
    return out


def _who(line: Line) -> str:
    parts = (
        f"› {line.client}" if line.ours else line.client,
        f"[{line.note}]" if line.note else "",
        f"({line.missed})" if line.missed else "",
    )
    return " ".join(filter(None, parts))


def _remarks(remarks: list[tuple[str, str]]) -> Group:
    """Return sentences whose further lines stand below the first word, not below the mark."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    out = []
    for mark, sentence in remarks:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(mark), Text(sentence))
        out.append(grid)
    return Group(*out)


# --- for programs -----------------------------------------------------------------------------


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return what ``bench --json`` prints. The keys:

    - ``clients``: ``name``, ``version``, ``confirms``, ``note``.
    - ``skipped``: sentences.
    - ``rows``: ``topology``, ``role``, ``client``, ``rounds``, ``messages`` (of one round),
      ``peak_bytes``, and with ``low``, ``median`` and ``high`` each: ``per_s``, ``of_ceiling``
      and ``of_java`` (the last two can be null), ``cpu_us`` (microseconds a message).
    - ``measurements``, as they were taken: ``topology``, ``role``, ``client``, ``round``,
      ``messages``, ``seconds``, ``cpu_seconds``, ``peak_bytes``.
    - ``environment``: what is known of the surroundings.
    """
    return {
        "clients": [asdict(client) for client in comparison.clients],
        "skipped": list(comparison.skipped),
        "rows": [asdict(row) for row in comparison.rows],
        "measurements": [asdict(one) for one in comparison.measurements],
        "environment": comparison.environment,
    }


def as_csv(comparison: Comparison) -> str:
    """Return a header line, then a line for each measurement, with the fields of that value.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    names = [field.name for field in fields(Measurement)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for one in comparison.measurements:
        writer.writerow(_cell(getattr(one, name)) for name in names)
    return out.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(_FORMULA) else "") + safe(value)


# --- for a browser ----------------------------------------------------------------------------


def page(comparison: Comparison) -> str:
    """Return one HTML page that needs nothing but itself: no script, no font, no network."""
    topologies: dict[str, list[dict[str, object]]] = {}
    for job in figures.jobs(comparison):
        part = {"job": job, "chart": drawing(_chart(job))}
        topologies.setdefault(job.topology, []).append(part)
    return render(
        "bench.html.j2",
        headline=figures.headline(comparison),
        beside_java=figures.beside_java(comparison),
        topologies=topologies,
        notes=figures.notes(comparison),
        skipped=figures.skipped(comparison),
        environment=figures.environment(comparison),
        rounds=max((row.rounds for row in comparison.rows), default=0),
        ceiling=any(row.client == figures.CEILING for row in comparison.rows),
    )


def _chart(job: Job) -> str:
    """Return a bar for each client below a line for the ceiling; nothing without clients."""
    lines = [line for line in job.lines if line.row.client != figures.CEILING]
    if not lines:
        return ""
    reference = next(
        (("ceiling", line.row.per_s.median) for line in job.lines if line not in lines), None
    )
    told = ", ".join(f"{line.client} {line.per_s}" for line in job.lines)
    return bars(
        f"{job.name}, {job.topology}, messages a second: {told}.",
        "msg/s",
        [Bar(line.client, line.row.per_s, line.ours) for line in lines],
        reference,
    )
