"""``rabbitproof consume``, also ``python src/consumer.py``: receive, check, acknowledge."""

from __future__ import annotations

import platform
from contextlib import closing
from typing import Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.ledger import recorder
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import RabbitproofError, UsageError
from rabbitproof.model import Consumed

app = new_app()


@app.command()
@with_connection
def consume(
    *,
    connection: Connection,
    queue: options.Queue = options.QUEUE,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Who consumes; heads every line.")
    ] = options.CONSUMER_NAME,
    prefetch: Annotated[
        int,
        typer.Option(
            "--prefetch",
            metavar="N",
            min=1,
            max=65_535,
            help="Messages that may be here without an acknowledgement.",
        ),
    ] = options.PREFETCH,
    expect: Annotated[
        int | None,
        typer.Option(
            "--expect", metavar="N", min=1, help="Stop after N messages.  [default: never]"
        ),
    ] = None,
    lazy: options.Lazy = False,
    progress_every: options.ProgressEvery = options.PROGRESS_EVERY,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            "--idle-timeout", metavar="SECONDS", help="Stop when nothing came for so long."
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--show", help="One line for every message.")] = False,
    requeue: Annotated[
        bool,
        typer.Option("--requeue", help="Experiment: return every message instead of acking it."),
    ] = False,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject", help="Experiment: reject every message; it is dropped or dead-lettered."
        ),
    ] = False,
    give_up_after: options.GiveUpAfter = options.GIVE_UP_AFTER,
    ledger: options.Ledger = None,
    as_json: options.Json = False,
) -> Exit:
    """Receive messages, check each one, and acknowledge it only after it was recorded."""
    from rabbitproof.cli.show import Show
    from rabbitproof.work.consume import Consumer, Task

    if requeue and reject:
        raise UsageError("--requeue and --reject are two ways to answer a message; give one.")
    if idle_timeout is not None and not 0 < idle_timeout < float("inf"):
        raise UsageError("--idle-timeout is in seconds and has to be above 0.")
    task = Task(
        queue=options.queue_name(queue, "--queue"),
        name=name,
        prefetch=prefetch,
        expect=expect,
        idle_timeout=idle_timeout,
        lazy=lazy,
        answer="requeue" if requeue else "reject" if reject else "ack",
        progress_every=progress_every,
        show_all=show_all,
        give_up_s=give_up_after,
        host=platform.node(),
    )
    show = Show(name, as_json=as_json)
    client = f"RabbitMQ Consumer {name} ({platform.node()})"
    consumer = Consumer(task, connection.dialer(client), recorder(ledger, connection))
    try:
        with closing(consumer.run()) as progress:  # so that it ends in good order before we do
            show.all(progress, waiting=True)
    except (KeyboardInterrupt, RabbitproofError):
        if consumer.began:
            end = consumer.summary()
            show.end(end, latency=_live(end))
            if consumer.unanswered:
                show.note(
                    f"{consumer.unanswered} of these were not acknowledged yet; they return to "
                    "the queue and will come again."
                )
        raise
    end = consumer.summary()
    show.end(end, latency=_live(end))
    if end.expected is not None and end.consumed < end.expected:
        show.note(f"only {end.consumed} of the expected {end.expected} messages came.")
        return Exit.FAILED
    return Exit.DONE


def _live(end: Consumed) -> bool:
    """Say whether it was there in time; otherwise latency is mostly the time in the queue."""
    return end.latency is not None and bool(end.latency["live"])
