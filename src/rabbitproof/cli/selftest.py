"""``rabbitproof selftest``: lose messages in every known way, and pass only if each was found."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Flags, connection_from
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app
from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from rabbitproof.model import Entry, Progress
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.suite import Carried

app = new_app()


@app.command()
def selftest(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="SCENARIO", help="This one; several times for several."),
    ] = None,
    url: options.UrlAlone = None,
    management_url: options.ManagementUrlAlone = None,
    rabbitmq: options.Rabbitmq = None,
    as_json: options.Json = False,
) -> Exit:
    """Lose, double and spoil messages on purpose; pass only if each was found, exactly.

    Runs every scenario that loses by design on one private RabbitMQ. With --url, what needs a
    broker of our own is skipped and says so. A broker that the environment names is not used.
    """
    from rabbitproof.cli import suite
    from rabbitproof.trial import suite as trials

    chosen = _chosen(only, trials.scenarios_of(safe=False))
    began = time.monotonic()
    outcomes: list[Outcome] = []
    venue: Callable[[Scenario, str], AbstractContextManager[Place]]
    with ExitStack() as stack:
        if url is None:
            nodes = suite.private(stack, rabbitmq, _say)
            if chosen:
                nodes.ready(chosen[0])
            venue = nodes.venue
        elif rabbitmq is not None:
            raise UsageError("--rabbitmq is about a private broker; leave out --url or --rabbitmq.")
        else:
            flags = Flags(url=url, management_url=management_url)
            venue = suite.elsewhere(connection_from(flags, environment={}))
        for scenario in chosen:
            trial = trials.run_scenario(scenario, venue, private=url is None, sender="selftest")
            outcomes.append(Outcome(_carried(trial).entry))
            if not as_json:
                _show(outcomes[-1])
    missed = [one for one in outcomes if one.surprises]
    passed = not missed and any(one.passed for one in outcomes)
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps(_as_object(passed, outcomes, seconds)))
    else:
        _sum_up(passed, outcomes, seconds)
    return Exit.DONE if passed else Exit.FAILED


def _chosen(only: Sequence[str] | None, known: list[Scenario]) -> list[Scenario]:
    if not only:
        return known
    found = {one.name: one for one in known}
    for name in only:
        if name not in found:
            raise UsageError(
                f"--only {safe(name, 60)} is no scenario that loses by design; there are "
                f"{', '.join(found)}."
            )
    return [found[name] for name in only]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one scenario."""

    entry: Entry

    @property
    def surprises(self) -> tuple[str, ...]:
        """What came out differently than expected; none when exactly that was found."""
        result, broken = self.entry.result, self.entry.broken
        return result.surprises if result is not None else (broken,) if broken else ()

    @property
    def found(self) -> tuple[tuple[str, str, int], ...]:
        """What was to be found: queue, count's name, number."""
        return () if self.entry.result is None else self.entry.result.planted

    @property
    def passed(self) -> bool:
        """Whether exactly the expected was found."""
        return self.entry.result is not None and not self.surprises


def _carried(trial: Generator[Progress, None, Carried]) -> Carried:
    """Carry out a scenario without showing how it goes."""
    while True:
        try:
            next(trial)
        except StopIteration as end:
            carried: Carried = end.value
            return carried


def _show(outcome: Outcome) -> None:
    mark = "skip" if outcome.entry.left_out else "ok" if outcome.passed else "MISS"
    told = outcome.entry.left_out or ", ".join(_told(outcome))
    took = f"  ({outcome.entry.seconds:.1f} s)"
    print(f"[{mark}]".ljust(7) + f"{outcome.entry.scenario:<25} {safe(told, 400)}{took}")
    for surprise in outcome.surprises:
        print(f"       {safe(surprise, 600)}")
    sys.stdout.flush()


def _told(outcome: Outcome) -> list[str]:
    """Return what was planted, in words: each number was found exactly, or a surprise says so."""
    out = []
    for queue, key, number in outcome.found:
        if number:
            name = key.removeprefix("dropped.").replace("_", " ")
            out.append(f"{number:,} {name}" + (f" in {queue}" if queue else ""))
    return out


def _sum_up(
    passed: bool,  # noqa: FBT001  what it says
    outcomes: Sequence[Outcome],
    seconds: float,
) -> None:
    found = sum(one.passed for one in outcomes)
    skipped = sum(one.entry.left_out is not None for one in outcomes)
    parts = [f"{found} of {len(outcomes) - skipped} scenarios found exactly"]
    if skipped:
        parts.append(f"{skipped} skipped, which proves nothing about them")
    print(f"{'PASS' if passed else 'FAIL'}  {'; '.join(parts)}; {seconds:.0f} s")


def _as_object(
    passed: bool,  # noqa: FBT001  what it says
    outcomes: Sequence[Outcome],
    seconds: float,
) -> dict[str, Any]:
    return {
        "passed": passed,
        "scenarios": [
            {
                "name": one.entry.scenario,
                "title": one.entry.title,
                "passed": one.passed,
                "skipped": one.entry.left_out,
                "verdict": one.entry.result and str(one.entry.result.verdict.decision),
                "planted": [
                    {"queue": queue or None, "count": key, "number": number}
                    for queue, key, number in one.found
                ],
                "surprises": list(one.surprises),
                "seconds": one.entry.seconds,
            }
            for one in outcomes
        ],
        "seconds": round(seconds, 1),
    }


def _say(text: str) -> None:
    print(f"[selftest] {text}", file=sys.stderr, flush=True)
