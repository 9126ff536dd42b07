"""Every option that more than one command has, with its default and its help, once.

Holds: the options as types, the defaults, and the decorator that gives a command the options of
a connection. Refuses to hold: what a single command alone understands, and how flags become
addresses (``cli/connection``).

A command that talks AMQP takes one parameter and one decorator::

    app = new_app()

    @app.command()
    @with_connection
    def produce(*, connection: Connection, count: Count = COUNT) -> Exit:
        ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rabbitproof.address import HIGHEST_PORT
from rabbitproof.cli.connection import (
    HEARTBEAT_S,
    MANAGEMENT_VARIABLE,
    URL_VARIABLE,
    Flags,
    connection_from,
)
from rabbitproof.errors import UsageError
from rabbitproof.model import LONGEST_NAME, Topology
from rabbitproof.model import Queue as QueueSpec
from rabbitproof.text import safe

COUNT = 10_000
"""Messages of a run: the size of the reliability test."""
PROGRESS_EVERY = 10_000
"""Messages between two progress lines."""
QUEUE = "work.queue"
AUDIT_QUEUE = "audit.queue"
EXCHANGE = "direct.exchange"
ROUTING_KEY = "work"
TEXT = "Hello World"
CONSUMER_NAME = "Worker"
PREFETCH = 1_000
"""Unacknowledged messages a consumer holds at most."""
WINDOW = 20_000
"""Unconfirmed messages a producer has in flight at most."""
GIVE_UP_AFTER = 120.0
"""Seconds; a broker that was killed is back within ten, a machine that boots within a minute."""
CONFIRM_TIMEOUT = 60.0
"""Seconds; a broker that works confirms within a few."""

_WHERE = "Where RabbitMQ is: amqp[s]://user:password@host:port/vhost, several separated by commas."
_WHERE_ITS_API_IS = (
    "Where the Management API is.  [default: port 15672 of RabbitMQ's host, with TLS 15671"
)
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help=f"{_WHERE} Also in {URL_VARIABLE}."),
]
UrlAlone = Annotated[
    str | None, typer.Option("--url", metavar="URL", help=f"{_WHERE}  [default: a private one]")
]
"""For a command that ignores the environment."""
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="HOST", help="RabbitMQ's host.  [default: localhost]"),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=1,
        max=HIGHEST_PORT,
        help="RabbitMQ's port.  [default: 5672, with TLS 5671]",
    ),
]
Vhost = Annotated[
    str | None, typer.Option("--vhost", metavar="NAME", help="The virtual host.  [default: /]")
]
Username = Annotated[
    str | None, typer.Option("--username", metavar="NAME", help="The login.  [default: guest]")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", metavar="FILE", help="Its first line is the password of the login."
    ),
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        metavar="PASSWORD",
        help="The password; it shows in the process list, so prefer --password-file.  "
        "[default: guest]",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", metavar="FILE", help="PEM file of the certificate authorities to trust."
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option("--cert-file", metavar="FILE", help="PEM file of the client's certificate."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="PEM file of the client's private key."),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="With TLS, accept any certificate. For experiments only."),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        "--management-url",
        metavar="URL",
        help=f"{_WHERE_ITS_API_IS}; also in {MANAGEMENT_VARIABLE}]",
    ),
]
ManagementUrlAlone = Annotated[
    str | None,
    typer.Option("--management-url", metavar="URL", help=f"{_WHERE_ITS_API_IS}]"),
]
"""For a command that ignores the environment."""
Heartbeat = Annotated[
    int | None,
    typer.Option(
        "--heartbeat",
        metavar="SECONDS",
        min=1,
        max=65_535,
        help="Between two signs of life, at most; the connection is lost when nothing came for "
        f"twice as long.  [default: {HEARTBEAT_S}]",
    ),
]
GiveUpAfter = Annotated[
    float,
    typer.Option(
        "--give-up-after",
        metavar="SECONDS",
        min=0,
        help="How long to try again without progress, from the loss of a connection on, until this "
        "ends with exit code 3.",
    ),
]
ConfirmTimeout = Annotated[
    float,
    typer.Option(
        "--confirm-timeout",
        metavar="SECONDS",
        min=0.1,
        help="When the broker confirms nothing for so long, connect and send again. Does not run "
        "while it says that it is blocked.",
    ),
]

Exchange = Annotated[
    str,
    typer.Option("--exchange", metavar="NAME", help="The direct exchange to publish to."),
]
RoutingKey = Annotated[
    str | None,
    typer.Option(
        "--routing-key",
        metavar="KEY",
        help=f"Binds both queues.  [default: {ROUTING_KEY} for {QUEUE}, else the queue's name]",
    ),
]
WorkType = Annotated[
    Literal["classic", "quorum"],
    typer.Option("--queue-type", help="Type of the work queue; quorum implies --durable."),
]
AuditType = Annotated[
    Literal["classic", "quorum", "stream"],
    typer.Option(
        "--audit-type", help="Type of the audit queue; quorum and stream imply --durable."
    ),
]
Queue = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue.")]
AuditQueue = Annotated[
    str,
    typer.Option(
        "--audit-queue", metavar="NAME", help="The queue for the mirror copy; '' for none."
    ),
]
Count = Annotated[
    int, typer.Option("--count", metavar="N", min=1, help="How many messages to send.")
]
Durable = Annotated[
    bool,
    typer.Option("--durable", help="Durable queues and persistent messages, kept by a restart."),
]
Lazy = Annotated[
    bool,
    typer.Option("--lazy", help="Lazy queues, which live on disk. From 3.12 on all of them do."),
]
ProgressEvery = Annotated[
    int,
    typer.Option("--progress-every", metavar="N", min=1, help="Say so after every N messages."),
]
Ledger = Annotated[
    Path | None,
    typer.Option("--ledger", metavar="DIR", help="Keep a record on disk that can be verified."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")]

Rabbitmq = Annotated[
    str | None,
    typer.Option(
        "--rabbitmq",
        metavar="RELEASE|DIR",
        help="Which RabbitMQ a private broker is: 4.3, 4.0, 3.10 (of those that Debian has), "
        "`installed`, or the folder of a generic Unix archive; with prove --all also `all`.  "
        "[default: RABBITPROOF_RABBITMQ, else the newest in the cache, fetched once]",
    ),
]


def new_app(**settings: Any) -> typer.Typer:
    """Return an empty command line with the settings that all commands share.

    Plain help (rich would cost more than the rest of the start), plain tracebacks, and no
    options to install shell completion.
    """
    return typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )


def with_connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the connection, as its argument ``connection``.

    The returned function has the command's own parameters and one per option, which is what
    typer reads; called, it makes a ``Connection`` of those.
    """

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        flags = Flags(**{name: given.pop(name) for name in _CONNECTION_OPTIONS})
        return command(connection=connection_from(flags), **given)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "connection"]
    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Flags(), name), annotation=kind
        )
        for name, kind in _CONNECTION_OPTIONS.items()
    ]
    wrapper.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]  # what inspect documents
    return wrapper


_CONNECTION_OPTIONS: dict[str, Any] = {
    "url": Url,
    "host": Host,
    "port": Port,
    "vhost": Vhost,
    "username": Username,
    "password_file": PasswordFile,
    "password": Password,
    "ca_file": CaFile,
    "cert_file": CertFile,
    "key_file": KeyFile,
    "insecure": Insecure,
    "management_url": ManagementUrl,
    "heartbeat": Heartbeat,
}


def topology(
    *,
    queue: str,
    audit_queue: str,
    exchange: str,
    routing_key: str | None,
    queue_type: Literal["classic", "quorum"],
    audit_type: Literal["classic", "quorum", "stream"],
    durable: bool,
    lazy: bool,
) -> Topology:
    """Return the topology that the options describe. Raise ``UsageError`` for bad names."""
    if routing_key is None:
        # One key for all would let a run on another queue fill work.queue as well.
        routing_key = ROUTING_KEY if queue == QUEUE else queue
    audit = None
    if audit_queue:
        name = queue_name(audit_queue, "--audit-queue")
        audit = QueueSpec(name, audit_type, durable, lazy)
    return Topology(
        queue_name(exchange, "--exchange"),
        queue_name(routing_key, "--routing-key"),
        QueueSpec(queue_name(queue, "--queue"), queue_type, durable, lazy),
        audit,
    )


def queue_name(name: str, option: str) -> str:
    """Return a name if AMQP can carry it; raise ``UsageError`` if not."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{option} has bytes that are not UTF-8; give another name.") from None
    if not 0 < size <= LONGEST_NAME:
        raise UsageError(
            f"{option} {safe(name, 40)!r} has {size} bytes; a name has 1 to {LONGEST_NAME}."
        )
    return name
