"""``rabbitproof selftest``: lose messages in every known way, and pass only if each was found."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Flags, connection_from
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app
from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.model import Topology
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.selftest import Outcome

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
    from rabbitproof.trial import selftest as trials

    chosen = _chosen(only, trials.unsafe())
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        where, private = _place(stack, url, management_url, rabbitmq)
        for event in trials.run(where, private=private, chosen=chosen):
            if isinstance(event, trials.Outcome):
                outcomes.append(event)
                if not as_json:
                    _show(event)
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


def _place(
    stack: ExitStack, url: str | None, management_url: str | None, rabbitmq: str | None
) -> tuple[Callable[[Topology, str], AbstractContextManager[Place]], bool]:
    """Return what gives a place for each scenario, and whether the broker is ours."""
    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide
    from rabbitproof.trial import place

    if url is not None:
        if rabbitmq is not None:
            raise UsageError("--rabbitmq is about a private broker; leave out --url or --rabbitmq.")
        connection = connection_from(Flags(url=url, management_url=management_url), environment={})
        api = connection.api

        def theirs(topology: Topology, run: str) -> AbstractContextManager[Place]:
            return place.shared(
                connection.addresses, api.url, api.address, topology, run, lambda _: None
            )

        return theirs, False
    installation = provide(rabbitmq, _say)
    _say(f"starting a private RabbitMQ {installation.version}")
    node = stack.enter_context(Node.start(installation))

    def ours(topology: Topology, run: str) -> AbstractContextManager[Place]:
        return place.on_node(node, topology, run)

    return ours, True


def _show(outcome: Outcome) -> None:
    mark = "skip" if outcome.skipped else "ok" if outcome.passed else "MISS"
    told = outcome.skipped or ", ".join(_told(outcome))
    print(f"[{mark}]".ljust(7) + f"{outcome.name:<25} {safe(told, 400)}  ({outcome.seconds:.1f} s)")
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
    skipped = sum(one.skipped is not None for one in outcomes)
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
                "name": one.name,
                "title": one.title,
                "passed": one.passed,
                "skipped": one.skipped,
                "verdict": None if one.result is None else str(one.result.verdict.decision),
                "planted": [
                    {"queue": queue or None, "count": key, "number": number}
                    for queue, key, number in one.found
                ],
                "surprises": list(one.surprises),
                "seconds": one.seconds,
            }
            for one in outcomes
        ],
        "seconds": round(seconds, 1),
    }


def _say(text: str) -> None:
    print(f"[selftest] {text}", file=sys.stderr, flush=True)
