"""``rabbitproof prove``: run a scenario and end in a verdict over every message."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Flags, connection_from
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.follow import follow, say
from rabbitproof.cli.options import new_app
from rabbitproof.cli.outcome import exit_of, show_result
from rabbitproof.errors import ReportFailed, UsageError
from rabbitproof.model import Decision
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rabbitproof.address import Address
    from rabbitproof.model import TrialResult
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.trial import Trial

app = new_app()

DEFAULT = "offline"
SOAK = "soak"
MOST_SEED = 2**32 - 1


@app.command()
def prove(
    *,
    scenario: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCENARIO | FILE.toml]",
            help="Which one, see --list; or a file of your own.  [default: offline]",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run every safe scenario; one table at the end.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            max=MOST_SEED,
            help="Draw the faults from this number.  [default: as the scenario says]",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", metavar="N", min=1, help="Messages.  [default: as the scenario says]"
        ),
    ] = None,
    producers: Annotated[
        int | None,
        typer.Option(
            "--producers",
            metavar="N",
            min=1,
            help="Producers; more than one are processes.  [default: as the scenario says]",
        ),
    ] = None,
    consumers: Annotated[
        int | None,
        typer.Option(
            "--consumers",
            metavar="N",
            min=1,
            help="Consumers; more than one are processes.  [default: as the scenario says]",
        ),
    ] = None,
    queue_type: Annotated[
        Literal["classic", "quorum"] | None,
        typer.Option(
            "--queue-type", help="Type of the work queue.  [default: as the scenario says]"
        ),
    ] = None,
    audit_type: Annotated[
        Literal["classic", "quorum", "stream"] | None,
        typer.Option(
            "--audit-type", help="Type of the audit queue.  [default: as the scenario says]"
        ),
    ] = None,
    lazy: options.Lazy = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="S",
            min=0.1,
            help="Send for so long, instead of a number of messages.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="M", min=0.5, max=100_000, help="How long a soak is."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="N", min=1, max=100_000, help="Messages a second of a soak."
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            metavar="N",
            min=1,
            max=7,
            help="Nodes of a soak's private broker: 1, or 3 up.",
        ),
    ] = None,
    rabbitmq: options.Rabbitmq = None,
    url: options.UrlAlone = None,
    management_url: options.ManagementUrlAlone = None,
    owner: Annotated[
        bool,
        typer.Option(
            "--i-own-this-broker",
            help="With --url: allows what an operator does, such as closing connections.",
        ),
    ] = False,
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

    Without --url it starts a private RabbitMQ, uses it and removes it again; a broker that the
    environment names is not used. With --url it works in a vhost of its own, or under names of its
    own. Faults of a broker happen to a private one only.
    """
    if list_all:
        return _list()
    if rabbitmq is not None and url is not None:
        raise UsageError("--rabbitmq is about a private broker; leave out --url or --rabbitmq.")
    if every:
        given = {
            "SCENARIO": scenario,
            "--count": count,
            "--producers": producers,
            "--consumers": consumers,
            "--seconds": seconds,
            "--lazy": lazy or None,
            "--minutes": minutes,
            "--rate": rate,
            "--nodes": nodes,
        }
        return _all(
            given,
            seed,
            queue_type,
            audit_type,
            url,
            management_url,
            report,
            rabbitmq,
            owner=owner,
            as_json=as_json,
        )
    scenario = scenario or DEFAULT
    _check_soak(scenario, count=count, seconds=seconds, minutes=minutes, rate=rate, nodes=nodes)
    if nodes == 2:
        raise UsageError("Two nodes have no majority when one is away; give --nodes 3, or 1.")
    if nodes and url is not None:
        raise UsageError("--nodes is about a private broker; leave out --url or --nodes.")
    from rabbitproof.cli import report as files
    from rabbitproof.cli import suite
    from rabbitproof.identity import new_run
    from rabbitproof.trial import dice, faults, soak
    from rabbitproof.trial import scenario as scenarios
    from rabbitproof.trial.trial import Trial
    from rabbitproof.work import topology as wiring

    if scenario == SOAK:
        seed = dice.new_seed() if seed is None else seed
        found = soak.plan(
            minutes or 0.0, seed, private=url is None, owner=owner, rate=rate, nodes=nodes or 1
        )
    else:
        found = scenarios.find(scenario)
    chosen = scenarios.adapted(
        found,
        count=count,
        producers=producers,
        consumers=consumers,
        seconds=seconds,
        work_type=queue_type,
        audit_type=audit_type,
        lazy=lazy,
    )
    if seed is None and chosen.random is not None:
        seed = dice.new_seed()
    if seed is not None and scenario != SOAK:
        chosen = dice.drawn(chosen, seed)
    wiring.check(chosen.wiring())
    faults.check(chosen, private=url is None, owner=owner)
    run = new_run()
    say(f"{chosen.name}: {chosen.title}. {' '.join(chosen.teaches.split())}")
    if seed is not None:
        say(f"its faults are drawn from seed {seed}")
    addresses: tuple[Address, ...] = ()
    stack = ExitStack()
    venue: Callable[[Scenario, str], AbstractContextManager[Place]]
    if url is None:
        venue = suite.private(stack, rabbitmq, say).venue
    else:
        connection = connection_from(Flags(url=url, management_url=management_url), environment={})
        addresses, venue = connection.addresses, suite.elsewhere(connection, say)
    if report is not None:
        files.prepare(report)
    command = _command(
        scenario,
        addresses,
        count=count,
        producers=producers,
        consumers=consumers,
        queue_type=queue_type,
        audit_type=audit_type,
        lazy=lazy,
        seconds=seconds,
        minutes=minutes,
        rate=rate,
        nodes=nodes,
        rabbitmq=rabbitmq,
        seed=seed,
        i_own_this_broker=owner,
        report=report,
    )
    with stack, venue(chosen, run) as here:
        say(f"using {here.where}")
        ledgers = None if report is None else report / "ledgers" / run
        trial = Trial(chosen, here, run, command=command, keep=ledgers)
        running = soak.Soak(trial) if scenario == SOAK else trial
        follow(running.run())
    result = trial.result
    if result is None:
        raise AssertionError("a trial that ended has a result")
    show_result(result, as_json=as_json)
    if report is not None:
        _write(report, trial, result)
    return exit_of(result)


def _check_soak(scenario: str, **given: float | None) -> None:
    """Raise UsageError where a soak was asked for with what it has not, or the other way round."""
    for name, value in given.items():
        if (value is not None) and (name in {"count", "seconds"}) == (scenario == SOAK):
            what = "lasts for --minutes" if scenario == SOAK else "is no soak"
            raise UsageError(f"--{name} does not fit {scenario}, which {what}; leave it out.")
    if scenario == SOAK and given["minutes"] is None:
        raise UsageError("A soak needs to know how long it is; add --minutes 30.")


def _all(
    given: Mapping[str, object],
    seed: int | None,
    queue_type: Literal["classic", "quorum"] | None,
    audit_type: Literal["classic", "quorum", "stream"] | None,
    url: str | None,
    management_url: str | None,
    report: Path | None,
    rabbitmq: str | None,
    *,
    owner: bool,
    as_json: bool,
) -> Exit:
    """Carry out all safe scenarios, on one release or on all of them."""
    from rabbitproof.broker import releases
    from rabbitproof.cli.releases import Every
    from rabbitproof.cli.suite import All, wanted

    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"--all and {name} contradict each other: every scenario runs as it is; leave "
                "out one of them."
            )
    connection = None
    addresses: Sequence[Address] = ()
    if url is not None:
        connection = connection_from(Flags(url=url, management_url=management_url), environment={})
        addresses = connection.addresses
    elif rabbitmq is None and os.environ.get(releases.VARIABLE) == releases.ALL:
        rabbitmq = releases.ALL
    command = _command(
        "--all",
        addresses,
        queue_type=queue_type,
        audit_type=audit_type,
        rabbitmq=rabbitmq,
        seed=seed,
        i_own_this_broker=owner,
        report=report,
    )
    chosen = wanted(seed, queue_type, audit_type)
    if rabbitmq == releases.ALL:
        return Every(command, seed, report, as_json).run(chosen)
    return All(command, seed, connection, report, as_json, rabbitmq, owner).run(chosen)


def _write(folder: Path, trial: Trial, result: TrialResult) -> None:
    """Write the report. Without it a PASS is not done; any other verdict keeps its exit code."""
    from rabbitproof.cli import report as files

    try:
        lost = {} if trial.judged is None else trial.judged.lost()
        written = files.write(folder, result, lost, trial.logs)
    except ReportFailed as error:
        if result.verdict.decision is Decision.PASS:
            raise
        say(str(error))
    else:
        say(f"wrote {', '.join(written)} in {safe(str(folder))}")
        say(f"the ledgers are in {safe(str(trial.keep))}")


def _command(scenario: str, addresses: Sequence[Address], **given: object) -> str:
    """Return what to type to repeat it, without any password."""
    words = ["rabbitproof", "prove", scenario]
    for name, value in given.items():
        if value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    if addresses:
        words += ["--url", ",".join(address.masked() for address in addresses)]
    return shlex.join(words)


def _list() -> Exit:
    from rabbitproof.trial import scenario as scenarios

    for name in scenarios.names():
        found = scenarios.find(name)
        kind = "safe" if found.safe else "unsafe by design"
        print(f"{name}: {found.title} ({kind}, {found.count:,} messages)")
        print(f"    {' '.join(found.teaches.split())}")
    print("soak: Faults at random, for as long as you like (safe, needs --minutes)")
    return Exit.DONE
