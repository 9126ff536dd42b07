"""``rabbitproof prove --all --rabbitmq all``: every safe scenario on one release after the other.

Not a command of its own: ``prove`` calls it. Holds the order and what is shown over all releases;
refuses to carry out one of them (``cli/suite``), to choose them (``broker/releases``) and to say
what differs (``view/releases``).

Rules: a release that can't be had or does not start is UNKNOWN with its reason, and the others
still run. Faults that are drawn are drawn once: what differs is the release. What came of one is
shown and written as soon as it is over.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rabbitproof.broker import releases
from rabbitproof.cli import report as files
from rabbitproof.cli import suite
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.follow import say
from rabbitproof.cli.outcome import EXITS
from rabbitproof.errors import NodeError, UsageError
from rabbitproof.model import Releases
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.model import Entry
    from rabbitproof.trial.plan import Scenario


@dataclass(slots=True)
class Every:
    """What was asked for, and what came of it so far."""

    command: str
    """Names all releases: ``--rabbitmq all``."""
    seed: int | None = None
    report: Path | None = None
    as_json: bool = False
    _each: dict[str, suite.All] = field(default_factory=dict)
    _began: float = 0.0
    _started: str = ""

    def run(self, wanted: Sequence[Scenario | Entry]) -> Exit:
        """Carry out all of them on each release, show what differs, return the exit code."""
        self._began, self._started = time.monotonic(), suite.now()
        versions = releases.every(say)
        if self.report is not None:
            files.prepare_all(self.report, suite.names(wanted), versions)
        said = f"{', '.join(versions[:-1])} and {versions[-1]}"
        say(f"{suite.announced(wanted, self.seed)}; RabbitMQ {said}, one after the other")
        self._each = {version: self._one(version) for version in versions}
        waiting = list(versions)
        try:
            while waiting:
                one = self._each[waiting[0]]
                try:
                    one.carry_out(wanted)
                except (NodeError, UsageError) as error:
                    one.broken = str(error)
                    say(f"{one.label}UNKNOWN: {safe(one.broken, 500)}")
                self._tell(waiting.pop(0))
        except KeyboardInterrupt:
            for version in waiting:
                self._each[version].stop(wanted)
                self._tell(version)
            self._end()
            raise
        return EXITS[self._end().decision]

    def _one(self, version: str) -> suite.All:
        return suite.All(
            self.command.replace(f"--rabbitmq {releases.ALL}", f"--rabbitmq {version}", 1),
            self.seed,
            report=None if self.report is None else self.report / version,
            rabbitmq=version,
            label=f"{version} ",
        )

    def _tell(self, version: str) -> None:
        """Show what came of one release, and write it."""
        one = self._each[version]
        found = one.found()
        begun = any(entry.decision is not None for entry in found.entries)
        if (begun or found.broken) and not self.as_json:
            suite.show(found, f"RabbitMQ {version}")
        if one.report is not None:
            files.write_all(one.report, found)

    def _end(self) -> Releases:
        """Show all that is known."""
        from rabbitproof.view import releases as words

        suites = {version: one.found() for version, one in self._each.items()}
        found = Releases(
            suites,
            time.monotonic() - self._began,
            self.seed,
            any(one.interrupted for one in suites.values()),
            suite.environment(),
            self._started,
            self.command,
        )
        if self.as_json:
            print(json.dumps(words.as_object(found)), flush=True)
        else:
            _show(found)
        if self.report is not None:
            written = files.write_releases(self.report, found)
            say(f"wrote {', '.join(written)} and a folder for each in {safe(str(self.report))}")
        return found


def _show(found: Releases) -> None:
    from rich.text import Text

    from rabbitproof.view import releases as words

    console = suite.new_console()
    first, *others = words.tables(found)
    console.print()
    console.print(first)
    console.print()
    console.print(Text(words.compared(found)))
    for table in others:
        console.print()
        console.print(table)
    console.print()
    console.print(suite.headline(found.decision, words.headline(found)))
    for remark in words.remarks(found):
        console.print(Text(f"  - {remark}"))
    console.print(Text(words.surroundings(found)))
