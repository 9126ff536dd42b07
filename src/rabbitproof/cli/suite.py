"""``rabbitproof prove --all``: every safe scenario, one table, one exit code.

Not a command of its own: ``prove`` calls it. Refuses to word the table (``view/suite``) and to
decide what can be carried out where (``trial/suite``).

Rules: what is left out is named with its reason and never counts as passed. Ctrl+C ends it with the
table of what is known by then.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rabbitproof.broker import releases
from rabbitproof.cli import report as files
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.follow import follow, say
from rabbitproof.cli.outcome import EXITS
from rabbitproof.errors import ReportFailed, UsageError
from rabbitproof.model import Decision, Entry, Suite
from rabbitproof.text import safe
from rabbitproof.trial import dice, suite
from rabbitproof.trial import scenario as scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text

    from rabbitproof.cli.connection import Connection
    from rabbitproof.model import QueueType, TrialResult
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.suite import Carried

_NOTES = 20
"""Shown of a trial that did not pass, the last ones."""
_WIDTH = 110
"""Columns of the table where there is no terminal."""


@dataclass(slots=True)
class All:
    """What was asked for, and what came of it so far."""

    command: str
    seed: int | None = None
    theirs: Connection | None = None
    """The broker that --url names; None for private nodes."""
    report: Path | None = None
    as_json: bool = False
    rabbitmq: str | None = None
    """Which release a private node is of, as --rabbitmq says it."""
    owner: bool = False
    """A person said that the broker of --url is theirs to break."""
    label: str = ""
    """Stands before each line of progress."""
    entries: list[Entry] = field(default_factory=list)
    interrupted: bool = False
    broken: str | None = None
    """Why there is no broker. A whole sentence."""
    _started: str = ""
    _seconds: float = 0.0

    def run(self, wanted: Sequence[Scenario | Entry]) -> Exit:
        """Carry out all of them, show the table, return the exit code."""
        if self.theirs is None:  # before an earlier report is taken away
            releases.provide(self.rabbitmq, say)
        if self.report is not None:
            files.prepare_all(self.report, names(wanted))
        say(announced(wanted, self.seed))
        try:
            self.carry_out(wanted)
        except KeyboardInterrupt:
            self._end()
            raise
        return EXITS[self._end().decision]

    def carry_out(self, wanted: Sequence[Scenario | Entry]) -> None:
        """Carry out all of them; whoever interrupts it finds all of them in ``found()``."""
        began = time.monotonic()
        self._started = now()
        chosen = [one for one in wanted if not isinstance(one, Entry)]
        self.entries += [one for one in wanted if isinstance(one, Entry)]
        try:
            self._carry_out_all(chosen)
        except KeyboardInterrupt:
            self.stop(wanted)
            raise
        finally:
            self._seconds = time.monotonic() - began

    def stop(self, wanted: Sequence[Scenario | Entry]) -> None:
        """Leave out what has not been carried out."""
        self.interrupted = True
        done = {entry.scenario for entry in self.entries}
        why = "It was interrupted before this was over."
        self.entries += [
            one if isinstance(one, Entry) else Entry(one.name, one.title, left_out=why)
            for one in wanted
            if (one.scenario if isinstance(one, Entry) else one.name) not in done
        ]

    def found(self) -> Suite:
        """Return all that is known."""
        return Suite(
            tuple(self.entries),
            self._seconds,
            self.seed,
            self.interrupted,
            environment([entry.result for entry in self.entries], self.rabbitmq),
            self._started,
            self.command,
            self.broken,
        )

    def _carry_out_all(self, chosen: Sequence[Scenario]) -> None:
        with ExitStack() as stack:
            venue, discard = self._venue(stack, chosen)
            for number, scenario in enumerate(chosen, 1):
                at = f"{self.label}{number}/{len(chosen)} {scenario.name}"
                say(f"{at}: {scenario.title}")
                notes: list[str] = []
                ledgers = None if self.report is None else self.report / scenario.name / "ledgers"
                carried = follow(
                    suite.run_scenario(
                        scenario,
                        venue,
                        private=self.theirs is None,
                        owner=self.owner,
                        command=self._command(scenario),
                        ledgers=ledgers,
                    ),
                    label=at,
                    notes=notes,
                )
                if carried.entry.decision is not Decision.PASS:
                    for note in notes[-_NOTES:]:
                        say(f"     {note}")
                self._note(carried, at)
                if suite.went_wrong(carried):
                    discard()

    def _venue(
        self, stack: ExitStack, chosen: Sequence[Scenario]
    ) -> tuple[Callable[[Scenario, str], AbstractContextManager[Place]], Callable[[], None]]:
        """Return what gives a place for each scenario, and what ends one that is suspect."""
        if self.theirs is not None:
            return elsewhere(self.theirs), lambda: None
        nodes = private(stack, self.rabbitmq, say)
        if chosen:
            nodes.ready(chosen[0])  # what can't be started fails once, not for every scenario
        return nodes.venue, nodes.discard

    def _command(self, scenario: Scenario) -> str:
        """Return what to type to repeat this one alone."""
        words = shlex.split(self.command.replace("--all", scenario.name, 1))
        if self.report is not None:  # its own part of the report, not all of it
            words[words.index("--report") + 1] = str(self.report / scenario.name)
        command = shlex.join(words)
        if self.seed is None and scenario.seed is not None:
            command += f" --seed {scenario.seed}"
        return command

    def _note(self, carried: Carried, at: str) -> None:
        """Keep what came of one, and write its report."""
        from rabbitproof.view import suite as words

        entry = carried.entry
        trial = carried.trial
        if self.report is not None and entry.result and trial is not None and trial.judged:
            try:
                lost = trial.judged.lost()
                files.write(self.report / entry.scenario, entry.result, lost, trial.logs)
            except ReportFailed as error:
                if entry.decision is Decision.PASS:
                    raise
                say(str(error))
        if entry.result is not None:
            # What was drawn over time is in the report by now; figures alone stay here.
            slim = replace(entry.result, series=(), curves={})
            entry = replace(entry, result=slim)
        self.entries.append(entry)
        say(f"{at}: {words.said(entry)}")

    def _end(self) -> Suite:
        """Show all that is known."""
        from rabbitproof.view import suite as words

        found = self.found()
        if self.as_json:
            print(json.dumps(words.as_object(found)), flush=True)
        else:
            show(found)
        if self.report is not None:
            written = files.write_all(self.report, found)
            say(f"wrote {', '.join(written)} and a folder for each in {safe(str(self.report))}")
        return found


def private(stack: ExitStack, rabbitmq: str | None, note: Callable[[str], None]) -> suite.Nodes:
    """Return what gives each scenario a corner of a private broker."""
    return stack.enter_context(suite.Nodes(releases.provide(rabbitmq, note), note))


def elsewhere(
    connection: Connection, note: Callable[[str], None] = lambda _: None
) -> Callable[[Scenario, str], AbstractContextManager[Place]]:
    """Return what gives each scenario a corner of somebody's broker."""
    from rabbitproof.trial import place

    def shared(scenario: Scenario, run: str) -> AbstractContextManager[Place]:
        api = connection.api
        return place.shared(
            connection.addresses, api.url, api.address, scenario.wiring(), run, note
        )

    return shared


def wanted(
    seed: int | None,
    work_type: Any,
    audit_type: QueueType | None,
) -> list[Scenario | Entry]:
    """Return the safe scenarios as they were asked for; an entry where that makes no sense."""
    out: list[Scenario | Entry] = []
    for found in suite.scenarios_of(safe=True):
        try:
            adapted = scenarios.adapted(found, work_type=work_type, audit_type=audit_type)
        except UsageError as error:
            out.append(Entry(found.name, found.title, left_out=str(error)))
        else:
            draw = seed
            if draw is None and adapted.random is not None:
                draw = dice.new_seed()  # it has no plan of its own
            out.append(adapted if draw is None else dice.drawn(adapted, draw))
    return out


def names(wanted: Sequence[Scenario | Entry]) -> list[str]:
    """Return the names of those that are carried out."""
    return [one.name for one in wanted if not isinstance(one, Entry)]


def announced(wanted: Sequence[Scenario | Entry], seed: int | None) -> str:
    """Say what is about to be done."""
    how = "as the scenarios say" if seed is None else f"drawn from seed {seed}"
    return f"all {len(names(wanted))} safe scenarios; faults {how}"


def now() -> str:
    """Return the time as a report has it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def environment(
    results: Iterable[TrialResult | None] = (), rabbitmq: str | None = None
) -> dict[str, Any]:
    """Return what all of them have in common; ``rabbitmq`` is the release where none has told."""
    known = next((one.environment for one in results if one is not None), {})
    out = {"python": platform.python_version(), "platform": platform.platform()}
    if rabbitmq is not None and not known:
        out["rabbitmq"] = rabbitmq
    return out | {name: known[name] for name in ("rabbitmq", "erlang", "broker") if name in known}


def show(found: Suite, title: str = "") -> None:
    """Print the table and what has to be said below it."""
    from rich.text import Text

    from rabbitproof.view import suite as words

    console = new_console()
    console.print()
    if title:
        console.print(Text(title, "bold"))
    if found.entries:
        console.print(words.table(found))
        console.print()
    console.print(headline(found.decision, words.headline(found)))
    for remark in words.remarks(found):
        console.print(Text(f"  - {remark}"))
    console.print(Text(words.surroundings(found)))


def new_console() -> Console:
    """Return where tables go."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def headline(decision: Decision, text: str) -> Text:
    """Return a verdict and its sentence."""
    from rich.text import Text

    from rabbitproof.cli.outcome import COLOURS

    return Text.assemble((f" {decision} ", f"bold reverse {COLOURS[decision]}"), " ", text)
