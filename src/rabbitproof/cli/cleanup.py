"""``rabbitproof cleanup``, also ``scripts/cleanup_queues.sh`` and ``….ps1``: delete queues and
exchanges.

Holds: its options, its guards, its lines. Refuses to hold: finding and deleting (``work``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from rabbitproof.address import is_local
from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.work.cleanup import Deleted, Item, What

app = new_app()

_SHOWN = 20
"""Lines of the list of what will be deleted; more are counted."""


@app.command()
@with_connection
def cleanup(
    *,
    connection: Connection,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="all | exchanges | QUEUE…",
            help="all: every queue and exchange of the vhost; exchanges: those that nothing uses; "
            "else the names of queues. Behind --, names that begin with a dash.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help="A queue, whatever its name: --queue=all deletes the queue called all.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Exit:
    """Delete queues with all that is in them, and exchanges; show what goes and ask first.

    RabbitMQ's own exchanges (amq.…, and the default one) are never touched. `all` on a broker
    that is not on this machine wants the vhost's name typed, whatever was answered beforehand.
    """
    from rabbitproof.cli.ask import confirm, confirm_by_name
    from rabbitproof.work.cleanup import carry_out, plan

    task, names = _task(what or [], queue or [])
    with (
        connection.open("RabbitMQ Cleanup") as opened,
        connection.api.open() as api,
    ):
        vhost = opened.address.vhost
        items = plan(opened, api, vhost, task, names)
        there = [item for item in items if item.found and not item.kept]
        _show(items, vhost, dry_run=dry_run)
        if dry_run:
            return Exit.DONE if all(item.found for item in items) else Exit.FAILED
        remote = _remote(connection)
        if task == "all" and there and remote is not None:
            wanted = f"This is {remote}, not this machine. Type the vhost's name to go on:"
            if not confirm_by_name(wanted, vhost):
                note("that is not its name, so nothing was deleted.")
                return Exit.FAILED
        elif there and not confirm("Delete this?", yes=yes):
            note("nothing was deleted.")
            return Exit.FAILED
        failed = False
        for result in carry_out(opened, api, vhost, task, items):
            print(_line(result), flush=True)
            failed = failed or not result.ok
        return Exit.FAILED if failed else Exit.DONE


def _task(what: Sequence[str], queues: Sequence[str]) -> tuple[What, tuple[str, ...]]:
    """Return what is to be deleted, and the queues' names."""
    if not what and not queues:
        raise UsageError("say what to delete: all, exchanges, or the names of queues; see --help.")
    for word in ("all", "exchanges"):
        if word in what:
            if len(what) + len(queues) > 1:
                raise UsageError(
                    f"'{word}' stands alone; for a queue of that name say --queue={word}."
                )
            return ("all" if word == "all" else "exchanges"), ()
    return "queues", tuple(options.queue_name(name, "a queue's name") for name in (*what, *queues))


def _remote(connection: Connection) -> str | None:
    """Return the first host that is not this machine; None when all are."""
    hosts = [address.host for address in connection.addresses]
    hosts.append(urlsplit(connection.api.url).hostname or "")
    return next((safe(host, 60) for host in hosts if not is_local(host)), None)


def _show(items: Sequence[Item], vhost: str, *, dry_run: bool) -> None:
    """Say on standard error what will go, and what stays."""
    _list([f"exchange {_named(item)} stays: {item.kept}" for item in items if item.kept])
    _list([f"not found: {_named(item)}" for item in items if not item.found])
    there = [item for item in items if item.found and not item.kept]
    if not there:
        note(f"there is nothing to delete in vhost {safe(vhost, 60)}.")
        return
    queues = [item for item in there if item.kind == "queue"]
    held = sum(item.messages or 0 for item in queues)
    messages = _count(held, "message")
    if any(item.more or item.messages is None for item in queues):
        messages = f"at least {messages}" if held else "? messages"
    count = f"{_count(len(queues), 'queue')} with {messages}" if queues else ""
    others = len(there) - len(queues)
    exchanges = _count(others, "exchange") if others else ""
    note(
        f"{'would delete' if dry_run else 'to delete'} in vhost {safe(vhost, 60)}: "
        + " and ".join(filter(None, (count, exchanges)))
    )
    _list([f"  {_described(item)}" for item in there])


def _list(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        note(line)
    if len(lines) > _SHOWN:
        note(f"  … and {len(lines) - _SHOWN:,} more")


def _described(item: Item) -> str:
    if item.kind == "exchange":
        if not item.published:
            return f"exchange {_named(item)}"
        return f"exchange {_named(item)}: {_count(item.published, 'message')} came, none lately"
    held = "? messages"
    if item.messages is not None:
        held = f"{'at least ' if item.more else ''}{_count(item.messages, 'message')}"
    users = f", {_count(item.consumers, 'consumer')} will be cut off" if item.consumers else ""
    return f"queue {_named(item)}: {held}{users}"


def _named(item: Item) -> str:
    """Return a name, with quotes around it if blanks at its ends would not be seen."""
    name = safe(item.name)
    return f"'{name}'" if name != name.strip() else name


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _line(result: Deleted) -> str:
    name = _named(result.item)
    if result.ok:
        return f"[OK] Deleted: {name}"
    if not result.found:
        return f"[FAIL] Not found: {name}"
    return f"[FAIL] Could not delete: {name} ({safe(result.why, 500).rstrip('.')})"
