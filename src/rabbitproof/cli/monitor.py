"""``rabbitproof monitor``, also ``python src/monitor.py``: see whether it flows, and why not."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from rabbitproof.address import is_local
from rabbitproof.cli import options
from rabbitproof.cli.connection import (
    MANAGEMENT_VARIABLE,
    URL_VARIABLE,
    Connection,
    Flags,
    connection_from,
)
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.options import new_app
from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.snapshot import Picture
    from rabbitproof.work.monitor import Amqp, Monitor

app = new_app()

WATCH_S = 3.0
"""Seconds between two refreshes."""
SHORTEST_S, LONGEST_S = 0.5, 86_400.0
"""What --watch may be: a broker with many queues needs a second for an answer."""
TIMEOUT_S = 30.0
"""Seconds for one request: an API under load may take 20 and is still worth waiting for."""
FIRST_TIMEOUT_S = 10.0
"""Seconds for one request with --once, where somebody waits for the answer."""
PORT = 8000
"""Where --serve listens."""


@app.command()
def monitor(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="URL",
            help="Where the Management API is.  [default: http://localhost:15672; also in "
            f"{MANAGEMENT_VARIABLE}]",
        ),
    ] = None,
    watch: Annotated[
        float,
        typer.Option(
            "--watch", metavar="SECONDS", min=0, help="Refresh every so often; 0 = run once."
        ),
    ] = WATCH_S,
    once: Annotated[
        bool, typer.Option("--once", help="Run once and exit, the same as --watch 0.")
    ] = False,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    password: options.Password = None,
    vhost: Annotated[
        str | None,
        typer.Option("--vhost", metavar="NAME", help="This virtual host only.  [default: all]"),
    ] = None,
    filter_by: Annotated[
        str | None,
        typer.Option("--filter", metavar="REGEX", help="Only queues whose name has a match."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object a refresh, on a line of its own, and no picture."
        ),
    ] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Show the live view in a browser, on this machine only."),
    ] = False,
    serve_port: Annotated[
        int,
        typer.Option(
            "--serve-port", metavar="PORT", min=1, max=65535, help="Where --serve listens."
        ),
    ] = PORT,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="Ask for this queue over AMQP when the Management API does not answer; may be "
            "given several times.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where RabbitMQ itself is, for --queue.  [default: port 5672 of the API's host; "
            "also in RABBITMQ_URL]",
        ),
    ] = None,
    ca_file: options.CaFile = None,
    cert_file: options.CertFile = None,
    key_file: options.KeyFile = None,
    insecure: options.Insecure = False,
) -> Exit:
    """Watch queues, consumers, connections and nodes; say what is wrong and what to do."""
    if watch and not SHORTEST_S <= watch <= LONGEST_S:
        raise UsageError(
            f"--watch is out of range; give {SHORTEST_S:g} to {LONGEST_S:,.0f} seconds (queues "
            "report every 5), or 0 to run once."
        )
    pattern = _pattern(filter_by)
    flags = Flags(
        url=url,
        host=_amqp_host(host) if queue and url is None else None,
        username=username,
        password_file=password_file,
        password=password,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        insecure=insecure,
        management_url=_api_url(host),
    )
    connection = connection_from(flags)
    _warn_of_plain_http(connection)
    single = once or watch == 0
    live = not (single or as_json) and (serve or _is_terminal())
    if serve and not live:
        raise UsageError("--serve shows the live view; leave out --once, --watch 0 and --json.")
    if serve:
        from rabbitproof.cli.serve import serve as serve_it

        arguments = ["--watch", f"{watch:g}"]
        for option, value in (
            ("--vhost", vhost),
            ("--filter", filter_by),
            *(("--queue", name) for name in queue or ()),
            ("--ca-file", ca_file),
            ("--cert-file", cert_file),
            ("--key-file", key_file),
        ):
            arguments += [] if value is None else [f"{option}={value}"]
        arguments += ["--insecure"] if insecure else []
        return serve_it(connection, serve_port, arguments)
    timeout = FIRST_TIMEOUT_S if single else TIMEOUT_S
    with connection.api.open(timeout) as api:
        from rabbitproof.broker.watch import Watch
        from rabbitproof.work.monitor import Monitor

        fallback = None
        if queue:
            names = [options.queue_name(name, "--queue") for name in queue]
            fallback = _amqp(connection, names, vhost)
        eyes = Monitor(
            Watch(api, vhost=vhost, every_page=single), fallback=fallback, filter_by=pattern
        )
        if single:
            _show(eyes.look_well(note), as_json=as_json)
            return Exit.DONE
        if live:
            from rabbitproof.view.monitor import MonitorApp

            shown = MonitorApp(eyes.refresh, eyes.close_up, every=watch, wanted=_still_wanted())
            code = shown.run()
            if shown.bug is not None:
                raise shown.bug
            return Exit(code or Exit.DONE)
        return _lines(eyes, watch, as_json=as_json)


def _lines(eyes: Monitor, watch: float, *, as_json: bool) -> Exit:
    """Print a picture each time, until Ctrl+C. The first one has to succeed."""
    seen = eyes.look_once()
    never = threading.Event()
    began = time.monotonic()
    while True:
        _show(seen, as_json=as_json)
        # Rates need samples at even intervals; a late answer must not move the next ones.
        never.wait(watch - (time.monotonic() - began) % watch)
        seen = eyes.refresh()
        if seen.error is not None:
            note(seen.error)


def _show(seen: Picture, *, as_json: bool) -> None:
    from rabbitproof.view import cards, overview

    if as_json:
        print(json.dumps(overview.as_object(seen)), flush=True)
        return
    form = cards.ansi if _colours() else cards.plain
    print("\n".join(form(line) for line in overview.picture(seen)), flush=True)


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _served() -> bool:
    """Tell whether this is a process of --serve."""
    return bool(os.environ.get("TEXTUAL_DRIVER"))


def _is_terminal() -> bool:
    if _served():  # the page is the terminal
        return True
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _warn_of_plain_http(connection: Connection) -> None:
    host = urlsplit(connection.api.url).hostname or ""
    if connection.api.url.startswith("http:") and not is_local(host):
        note(
            f"warning: the password goes to {safe(host)} unencrypted; use https:// where it is on."
        )


def _still_wanted() -> Callable[[], bool]:
    """Return what tells whether the server behind --serve still lives, where there is one."""
    parent = os.getppid()
    return lambda: not _served() or os.getppid() == parent


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(
            f"--filter is no regular expression ({error}); write \\ before . or * that are meant "
            "as such."
        ) from None


def _api_url(host: str | None) -> str | None:
    """Return the API's URL; a bare host, as other commands take it, gets scheme and port."""
    if host is None or "://" in host:
        return host
    bare = host.strip("/")
    has_port = bare.rpartition(":")[2].isdigit() and bare.count(":") == 1
    return f"http://{bare}" if has_port else f"http://{bare}:15672"


def _amqp_host(host: str | None) -> str | None:
    """Return the API's host, where RabbitMQ itself is if nothing else says where."""
    if host is None or os.environ.get(URL_VARIABLE):
        return None
    return urlsplit(_api_url(host) or "").hostname


def _amqp(connection: Connection, names: list[str], vhost: str | None) -> Amqp:
    from rabbitproof.amqp.dial import Dialer
    from rabbitproof.work.monitor import Amqp

    addresses = connection.addresses
    if vhost is not None:
        addresses = tuple(replace(address, vhost=vhost) for address in addresses)
    return Amqp(
        Dialer(addresses, "RabbitMQ Monitor", heartbeat=connection.heartbeat),
        names,
        addresses[0].vhost,
        addresses[0].masked(),
    )
