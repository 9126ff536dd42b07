"""``rabbitproof produce``, also ``python src/producer.py``: send messages, account for each."""

from __future__ import annotations

import getpass
import platform
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection, Flags
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.ledger import recorder
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import GivenUp, RabbitproofError, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.proof.ledger import Outcomes
    from rabbitproof.work.produce import Task
    from rabbitproof.work.recorder import Recorder

app = new_app()


@app.command()
@with_connection
def produce(
    *,
    connection: Connection,
    queue: options.Queue = options.QUEUE,
    audit_queue: options.AuditQueue = options.AUDIT_QUEUE,
    count: options.Count = options.COUNT,
    durable: options.Durable = False,
    lazy: options.Lazy = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Empty both queues before the first message.")
    ] = False,
    progress_every: options.ProgressEvery = options.PROGRESS_EVERY,
    producer_id: Annotated[
        str | None,
        typer.Option(
            "--producer-id", metavar="NAME", help="Who sends.  [default: the current user]"
        ),
    ] = None,
    text: Annotated[
        str, typer.Option("--text", metavar="TEXT", help="What every message says.")
    ] = options.TEXT,
    exchange: options.Exchange = options.EXCHANGE,
    routing_key: options.RoutingKey = None,
    queue_type: options.WorkType = "classic",
    audit_type: options.AuditType = "classic",
    size: Annotated[
        int,
        typer.Option(
            "--size", metavar="BYTES", min=0, help="Pad the text so that a body has this size."
        ),
    ] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="N",
            help="Messages a second.  [default: as fast as the broker confirms]",
        ),
    ] = None,
    window: Annotated[
        int,
        typer.Option(
            "--window", metavar="N", min=1, help="Unconfirmed messages in flight at most."
        ),
    ] = options.WINDOW,
    no_confirms: Annotated[
        bool,
        typer.Option(
            "--no-confirms", help="Do not ask for confirms: nothing is known of the outcome."
        ),
    ] = False,
    no_declare: Annotated[
        bool,
        typer.Option(
            "--no-declare", help="Publish into a topology that exists, whatever its settings."
        ),
    ] = False,
    confirm_timeout: options.ConfirmTimeout = options.CONFIRM_TIMEOUT,
    give_up_after: options.GiveUpAfter = options.GIVE_UP_AFTER,
    ledger: options.Ledger = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="DIR",
            help="Finish the run whose producer died, from its ledger and with its options.",
        ),
    ] = None,
    as_json: options.Json = False,
    context: typer.Context,
) -> Exit:
    """Send messages and account for every one: confirmed, nacked, returned or in doubt."""
    from rabbitproof.identity import MAX_NUMBER, Source, new_run
    from rabbitproof.work.produce import Task

    if resume is not None:
        return _resume(resume, connection, context, as_json=as_json)
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError("--rate is messages a second and has to be above 0; leave it out for all.")
    if count > MAX_NUMBER:
        raise UsageError(f"--count can be {MAX_NUMBER:,} at most; split it into several runs.")
    durable = durable or queue_type != "classic" or (bool(audit_queue) and audit_type != "classic")
    task = Task(
        topology=options.topology(
            queue=queue,
            audit_queue=audit_queue,
            exchange=exchange,
            routing_key=routing_key,
            queue_type=queue_type,
            audit_type=audit_type,
            durable=durable,
            lazy=lazy,
        ),
        source=Source(new_run(), 1),
        count=count,
        text=text,
        sender=_user() if producer_id is None else producer_id,
        host=platform.node(),
        size=size,
        persistent=durable,
        rate=rate,
        window=window,
        purge=purge,
        declare=not no_declare,
        confirms=not no_confirms,
        progress_every=progress_every,
        give_up_s=give_up_after,
        confirm_timeout_s=confirm_timeout,
    )
    return _carry_out(task, connection, recorder(ledger, connection), as_json=as_json)


def _resume(folder: Path, connection: Connection, context: typer.Context, *, as_json: bool) -> Exit:
    """Finish the one unfinished run in a folder."""
    from rabbitproof.work import resume as work

    given = _given(context)
    more = given - _WITH_RESUME
    if more:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(more))
        raise UsageError(f"--resume takes every option from the ledger; leave out {names}.")
    record = work.unfinished(folder)
    if record is None:
        note(f"nothing to do: no producer's ledger in {safe(str(folder))} is unfinished.")
        return Exit.DONE
    task = work.task_of(record)
    waits = {_WAITS[name]: context.params[name] for name in given & _WAITS.keys()}
    task = replace(task, **waits)
    try:
        here = connection.as_before(record.header.options)
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            "The ledger does not say where its broker is; give it with --url."
        ) from None
    outcomes = record.outcomes
    if outcomes is None:
        raise AssertionError("a producer's ledger has outcomes")
    open_ends = len(outcomes.attempted) - len(outcomes.confirmed)
    note(
        f"resuming run {task.source.run}: {len(outcomes.confirmed)} of {task.count} messages are "
        f"confirmed; {open_ends} that were sent without that are sent again."
    )
    for text in (work.elsewhere(record), record.torn):
        if text:
            note(text)
    keeper = recorder(folder, here, resume=record)
    return _carry_out(task, here, keeper, as_json=as_json, known=outcomes)


_WAITS = {"confirm_timeout": "confirm_timeout_s", "give_up_after": "give_up_s"}
"""How long to wait: the parameters, and what the task calls them."""

_WITH_RESUME = (
    frozenset({"resume", "as_json"}) | _WAITS.keys() | {one.name for one in fields(Flags)}
)
"""What may be said beside ``--resume``: how to show it, how long to wait, and where the broker is
now."""


def _given(context: typer.Context) -> set[str]:
    """Return the names of the parameters that were typed."""
    return {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }


def _carry_out(
    task: Task,
    connection: Connection,
    keeper: Recorder,
    *,
    as_json: bool,
    known: Outcomes | None = None,
) -> Exit:
    """Send what the task asks for and say how it ended."""
    from rabbitproof.cli.show import Show
    from rabbitproof.work.produce import Producer

    show = Show("producer", as_json=as_json)
    if not task.confirms:
        show.note(
            "--no-confirms gives up the proof: what the broker loses now, nobody is told. "
            "Leave it out for anything that matters."
        )
    name = f"RabbitMQ Producer ({platform.node()})"
    producer = Producer(task, connection.dialer(name), keeper, known=known)
    paced = task.rate is not None
    try:
        show.all(producer.run())
    except (KeyboardInterrupt, RabbitproofError) as error:
        if producer.outcomes.attempted:
            show.end(producer.summary(), latency=paced)
            if isinstance(error, GivenUp) and keeper.path is not None:
                folder = safe(shlex.quote(str(keeper.path.parent)), 500)
                show.note(f"`rabbitproof produce --resume {folder}` finishes it later.")
        raise
    end = producer.summary()
    show.end(end, latency=paced)
    if end.returned:
        show.note(
            f"{end.returned} messages were returned: no queue is bound to the exchange with the "
            "routing key; leave out --no-declare, or bind one."
        )
    if end.nacked:
        show.note(
            f"{end.nacked} messages were refused by the broker to the end (nack); a queue is full "
            "or down: look at its limits and its node."
        )
    return Exit.FAILED if end.returned or end.nacked else Exit.DONE


def _user() -> str:
    """Return this user's name, also where no account has one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
