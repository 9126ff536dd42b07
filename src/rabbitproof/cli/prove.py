"""``rabbitproof prove``: run a scenario and end in a verdict over every message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Flags, connection_from
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app
from rabbitproof.errors import ReportFailed
from rabbitproof.model import Advanced, Decision, Note, Step
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.model import Progress, TrialResult

app = new_app()

_EXITS = {
    Decision.PASS: Exit.DONE,
    Decision.FAIL: Exit.FAILED,
    Decision.UNKNOWN: Exit.UNKNOWN,
}
_QUIET_S = 1.0
"""Seconds between two lines of progress at least."""
_COLOURS = {Decision.PASS: "green", Decision.FAIL: "red", Decision.UNKNOWN: "yellow"}


@app.command()
def prove(
    *,
    scenario: Annotated[
        str, typer.Argument(metavar="[SCENARIO]", help="Which one; see --list.", show_default=True)
    ] = "offline",
    count: Annotated[
        int | None,
        typer.Option(
            "--count", metavar="N", min=1, help="Messages.  [default: as the scenario says]"
        ),
    ] = None,
    queue_type: options.WorkType = "classic",
    audit_type: options.AuditType = "classic",
    lazy: options.Lazy = False,
    url: options.Url = None,
    management_url: options.ManagementUrl = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Write a page, JSON and JUnit XML there."),
    ] = None,
    as_json: options.Json = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="Show the scenarios and what each teaches.")
    ] = False,
) -> Exit:
    """Run one scenario from an empty broker to a verdict over every message.

    Without --url it starts a private RabbitMQ, uses it and removes it again; the environment is
    ignored. With --url it works in a vhost of its own, or under names of its own.
    """
    if list_all:
        return _list()
    from rabbitproof.cli import report as files
    from rabbitproof.identity import new_run
    from rabbitproof.trial import place
    from rabbitproof.trial import scenario as scenarios
    from rabbitproof.trial.trial import Trial
    from rabbitproof.work import topology as wiring

    chosen = scenarios.find(scenario)
    if report is not None:
        files.prepare(report)
    topology = options.topology(
        queue=options.QUEUE,
        audit_queue=options.AUDIT_QUEUE,
        exchange=options.EXCHANGE,
        routing_key=None,
        queue_type=queue_type,
        audit_type=audit_type,
        durable=chosen.durable or queue_type != "classic" or audit_type != "classic",
        lazy=lazy,
    )
    wiring.check(topology)
    if chosen.lazy:
        topology = wiring.made_lazy(topology)
    run = new_run()
    _say(f"{chosen.name}: {chosen.title}. {' '.join(chosen.teaches.split())}")
    if url is None:
        where = place.private(topology, _say)
    else:
        connection = connection_from(Flags(url=url, management_url=management_url), environment={})
        where = place.shared(
            connection.addresses,
            connection.api.url,
            connection.api.address,
            topology,
            run,
            _say,
        )
    with where as here:
        _say(f"using {here.where}")
        trial = Trial(chosen, here, run, count or chosen.count)
        _follow(trial.run())
    result = trial.result
    if result is None:
        raise AssertionError("a trial that ended has a result")
    _show(result, as_json=as_json)
    if report is not None:
        _write(report, result)
    return _EXITS[result.verdict.decision]


def _write(folder: Path, result: TrialResult) -> None:
    """Write the report. Without it a PASS is not done; any other verdict keeps its exit code."""
    from rabbitproof.cli import report as files

    try:
        written = files.write(folder, result)
    except ReportFailed as error:
        if result.verdict.decision is Decision.PASS:
            raise
        _say(str(error))
    else:
        _say(f"wrote {', '.join(written)} in {safe(str(folder))}")


def _follow(progress: Iterator[Progress]) -> None:
    """Show a trial's steps and the progress of its participants: in a bar, else in lines."""
    from rabbitproof.view import lines
    from rabbitproof.view.bar import Bar

    with Bar("[prove]") as bar:
        said = 0.0
        for event in progress:
            match event:
                case Step():
                    bar.clear()
                    said = 0.0
                    _say(f"  -> {event.text}" if event.done else event.text)
                case Note():
                    _say(event.text)
                case Advanced():
                    bar.advance(event)
                    # A line for every mark, but none that the next step says as well.
                    due = event.mark and event.seconds >= said + _QUIET_S
                    if due and event.done != event.total and not bar.visible:
                        said = event.seconds
                        _say(f"     {lines.pace(event)}")


def _show(result: TrialResult, *, as_json: bool) -> None:
    from rabbitproof.view import verdict as words

    if as_json:
        print(json.dumps(words.as_object(result)))
        return
    from rich.console import Console
    from rich.text import Text

    decision = result.verdict.decision
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(
        Text.assemble(
            (f" {decision} ", f"bold reverse {_COLOURS[decision]}"), " ", words.headline(result)
        )
    )
    for line in words.details(result):
        console.print(Text(line))


def _list() -> Exit:
    from rabbitproof.trial import scenario as scenarios

    for name in scenarios.names():
        found = scenarios.find(name)
        kind = "safe" if found.safe else "loses by design"
        print(f"{name}: {found.title} ({kind}, {found.count:,} messages)")
        print(f"    {' '.join(found.teaches.split())}")
    return Exit.DONE


def _say(text: str) -> None:
    print(f"[prove] {text}", file=sys.stderr, flush=True)
