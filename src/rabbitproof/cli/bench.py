"""``rabbitproof bench``: our client beside the wire ceiling and other clients."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Flags, connection_from
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app
from rabbitproof.model import Note, Step

if TYPE_CHECKING:
    from rabbitproof.model import Comparison

app = new_app()

OUT = Path("bench-results")
QUICK_COUNT, QUICK_ROUNDS = 20_000, 1
QUICK_CLIENTS = "ceiling,rabbitproof,pika,java"
QUICK_TOPOLOGIES = "lazy"


@app.command()
def bench(
    *,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="About a minute: fewer messages, clients and topologies, one round."
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            metavar="N",
            min=100,
            help="Messages of a measurement; twice as many on quorum queues.  [default: 50000]",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="N",
            min=1,
            help="Rounds at least; more where a balanced order needs it.  [default: 5]",
        ),
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option(
            "--topology",
            metavar="LIST",
            help="Of classic,lazy,quorum,mixed.  [default: all of them]",
        ),
    ] = None,
    clients: Annotated[
        str | None,
        typer.Option(
            "--clients",
            metavar="LIST",
            help="Of pika,pika-confirms,aio-pika,java.  [default: all; ours and the ceiling "
            "always take part]",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where bench.json, .csv and .html go.")
    ] = OUT,
    url: options.UrlAlone = None,
    management_url: options.ManagementUrlAlone = None,
    as_json: options.Json = False,
) -> Exit:
    """Compare this client with the wire ceiling and with other clients, in one run.

    Without --url it starts a private RabbitMQ, uses it and removes it again; the environment is
    ignored. With --url it works in a vhost of its own, or under names of its own.
    """
    from rabbitproof.identity import new_run
    from rabbitproof.trial import bench as trial
    from rabbitproof.trial import place

    plan = trial.Plan(
        topologies=trial.select(
            topology or (QUICK_TOPOLOGIES if quick else None), tuple(trial.TOPOLOGIES)
        ),
        clients=trial.select(clients or (QUICK_CLIENTS if quick else None), trial.CLIENTS),
        count=count or (QUICK_COUNT if quick else trial.Plan().count),
        rounds=rounds or (QUICK_ROUNDS if quick else trial.Plan().rounds),
        balanced=not quick,
    )
    _check_folder(out)
    wanted = options.topology(
        queue=options.QUEUE,
        audit_queue=options.AUDIT_QUEUE,
        exchange=options.EXCHANGE,
        routing_key=None,
        queue_type="classic",
        audit_type="classic",
        durable=True,
        lazy=False,
    )
    stack = ExitStack()
    if url is None:
        from rabbitproof.broker.node import Node
        from rabbitproof.broker.releases import provide

        installation = provide(None, _say)
        _say(f"starting a private RabbitMQ {installation.version}")
        node = stack.enter_context(Node.start(installation))
        where = place.on_node(node, wanted, new_run())
    else:
        connection = connection_from(Flags(url=url, management_url=management_url), environment={})
        where = place.shared(
            connection.addresses,
            connection.api.url,
            connection.api.address,
            wanted,
            new_run(),
            _say,
        )
    with stack, where as here, tempfile.TemporaryDirectory(prefix="rabbitproof-bench-") as folder:
        _say(f"using {here.where}")
        running = trial.Bench(plan, here, Path(folder))
        for event in running.run():
            match event:
                case Step():
                    _say(f"  {event.text}" if event.done else event.text)
                case Note():
                    _say(event.text)
    result = running.result
    if result is None:
        raise AssertionError("a bench that ended has a result")
    _write(result, out)
    _show(result, as_json=as_json)
    return Exit.DONE


def _check_folder(out: Path) -> None:
    """Find out before the work, not after it, that the results can't be written."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").touch()


def _write(result: Comparison, out: Path) -> None:
    from rabbitproof.view import bench as words

    (out / "bench.json").write_text(json.dumps(words.as_json(result), indent=1) + "\n", "utf-8")
    (out / "bench.csv").write_text(words.as_csv(result), "utf-8")
    (out / "bench.html").write_text(words.page(result), "utf-8")
    _say(f"wrote bench.json, bench.csv and bench.html in {out}")


def _show(result: Comparison, *, as_json: bool) -> None:
    from rabbitproof.view import bench as words

    if as_json:
        print(json.dumps(words.as_json(result)))
        return
    from rich.console import Console

    Console(highlight=False).print(words.table(result))


def _say(text: str) -> None:
    print(f"[bench] {text}", file=sys.stderr, flush=True)
