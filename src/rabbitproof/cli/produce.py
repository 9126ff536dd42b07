"""``rabbitproof produce``, also ``python src/producer.py``: send messages, account for each."""

from __future__ import annotations

import getpass
import platform
from typing import Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import RabbitproofError, UsageError

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
    as_json: options.Json = False,
) -> Exit:
    """Send messages and account for every one: confirmed, nacked, returned or in doubt."""
    from rabbitproof.amqp.connection import open_connection
    from rabbitproof.cli.show import Show
    from rabbitproof.identity import MAX_NUMBER, Source, new_run
    from rabbitproof.work.produce import Producer, Task

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
    )
    show = Show("producer", as_json=as_json)
    if no_confirms:
        show.note(
            "--no-confirms gives up the proof: what the broker loses now, nobody is told. "
            "Leave it out for anything that matters."
        )
    name = f"RabbitMQ Producer ({platform.node()})"
    producer = Producer(task, lambda: open_connection(connection.addresses, name))
    try:
        show.all(producer.run())
    except (KeyboardInterrupt, RabbitproofError):
        if producer.outcomes.attempted:
            show.end(producer.summary(), latency=rate is not None)
        raise
    end = producer.summary()
    show.end(end, latency=rate is not None)
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
