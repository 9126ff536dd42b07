"""``rabbitproof doctor``: what is wrong between here and a broker, and what mends it."""

from __future__ import annotations

import json
from dataclasses import asdict

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app, with_connection

app = new_app()

_HEADS = {"ok": "[OK]", "warn": "[WARN]", "fail": "[FAIL]", "skip": "[--]"}


@app.command()
@with_connection
def doctor(
    *,
    connection: Connection,
    queue: options.Queue = options.QUEUE,
    audit_queue: options.AuditQueue = options.AUDIT_QUEUE,
    durable: options.Durable = False,
    lazy: options.Lazy = False,
    exchange: options.Exchange = options.EXCHANGE,
    routing_key: options.RoutingKey = None,
    queue_type: options.WorkType = "classic",
    audit_type: options.AuditType = "classic",
    as_json: options.Json = False,
) -> Exit:
    """Check the way to a broker, one line each, with what mends what is wrong.

    Give it the options of the command that failed: queues that have other settings are then shown
    side by side. It changes nothing.
    """
    from rabbitproof.work.doctor import examine
    from rabbitproof.work.topology import check

    demanded = durable or lazy or queue_type != "classic" or audit_type != "classic"
    wanted = options.topology(
        queue=queue,
        audit_queue=audit_queue,
        exchange=exchange,
        routing_key=routing_key,
        queue_type=queue_type,
        audit_type=audit_type,
        durable=durable or queue_type != "classic" or audit_type != "classic",
        lazy=lazy,
    )
    check(wanted)
    failed: set[str] = set()
    with connection.api.open() as api:
        for found in examine(
            connection.dialer("RabbitMQ Doctor"),
            api,
            wanted,
            demanded=demanded,
        ):
            if found.level == "fail":
                failed.add(found.check)
            if as_json:
                print(json.dumps(asdict(found)), flush=True)
                continue
            fix = f"; fix: {found.fix}" if found.fix else ""
            print(f"{_HEADS[found.level]} {found.check}: {found.text}{fix}", flush=True)
    if failed & {"reachable", "login"}:
        return Exit.UNREACHABLE
    return Exit.FAILED if failed else Exit.DONE
