"""``rabbitproof broker``: a private RabbitMQ to work with, without root.

Holds: the commands and what they print. Refuses to hold: how a node is started and found again
(``broker/standing.py``).
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.options import new_app
from rabbitproof.errors import NodeFailed, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.broker.node import Node

app = new_app(no_args_is_help=True, help="Start, stop and inspect a private RabbitMQ.")

_RABBITMQCTL_EXITS = {0: Exit.DONE, 64: Exit.USAGE, 69: Exit.UNREACHABLE}
"""rabbitmqctl's exit codes (sysexits.h) that mean one of ours; all others are a failure."""


@app.command()
def up(
    *,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="AMQP; 0: any free port.  [default: 5672]",
        ),
    ] = None,
    management_port: Annotated[
        int | None,
        typer.Option(
            "--management-port",
            metavar="N",
            min=0,
            max=65535,
            help="Management API and its page; 0: any free port.  [default: 15672, and any free "
            "port with another --port]",
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            metavar="N",
            min=1,
            max=7,
            help="So many nodes that are one cluster, on ports one after the other.  [default: as "
            "the last time, or 1]",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start empty: delete the data of the last time.")
    ] = False,
    rabbitmq: options.Rabbitmq = None,
) -> Exit:
    """Start a private RabbitMQ on 127.0.0.1, login guest/guest, with the data of the last time.

    On Debian and Ubuntu it fetches a current RabbitMQ into the cache folder, once, without root;
    elsewhere it uses the one that is installed. It runs until `broker down`.
    """
    from rabbitproof.broker import standing  # psutil is slow to import

    found, started = standing.up(
        amqp_port=port,
        management_port=management_port,
        fresh=fresh,
        note=note,
        nodes=nodes,
        rabbitmq=rabbitmq,
    )
    if not started:
        note("it is up already" + (", so its data were kept." if fresh else "."))
    _show(found)
    return Exit.DONE


@app.command()
def down(
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete its data as well.")] = False,
) -> Exit:
    """End the private RabbitMQ; its queues and messages are kept unless --delete."""
    from rabbitproof.broker import standing  # psutil is slow to import

    was_up = standing.down(delete=delete)
    kept = "its data are deleted" if delete else "its data are kept for the next `broker up`"
    print(f"down; {kept}." if was_up or delete else "it was not up.")
    return Exit.DONE


@app.command()
def status() -> Exit:
    """Show whether the private RabbitMQ is up, and where; exit 3 when a node is down or paused."""
    from rabbitproof.broker import standing  # psutil is slow to import

    found = standing.known()
    if not any(node.pid for node in found):
        kept = ", with data of the last time" if standing.folder().is_dir() else ""
        print(f"down{kept}")
        return Exit.UNREACHABLE
    _show(found)
    well = all(node.pid and not node.paused for node in found)
    return Exit.DONE if well else Exit.UNREACHABLE


Which = Annotated[
    int | None, typer.Option("--node", metavar="N", min=1, help="Which node of a cluster.")
]


def _do(verb: str, node: int | None, done: str, then: str) -> Exit:
    from rabbitproof.broker import standing  # psutil is slow to import

    changed, pid = getattr(standing, verb)(node)
    _tell(changed, pid, node, done, then)
    return Exit.DONE


@app.command()
def kill(*, node: Which = None) -> Exit:
    """Kill a node at once, as kill -9 does; its data stay, and `broker restart` brings it back."""
    return _do("kill", node, "was killed", f"restart{_of(node)}` starts it again, with its data")


@app.command()
def pause(*, node: Which = None) -> Exit:
    """Stop a node with SIGSTOP: its connections stay open and nothing answers."""
    return _do("pause", node, "is paused", f"resume{_of(node)}` lets it go on")


@app.command()
def resume(*, node: Which = None) -> Exit:
    """Let a node go on that `broker pause` stopped."""
    return _do("resume", node, "goes on", f"pause{_of(node)}` stops it again")


@app.command()
def restart(*, node: Which = None) -> Exit:
    """End a node in good order, if it is up, and start it again: same ports, same data.

    Without --node: all nodes of a cluster, at the same time.
    """
    from rabbitproof.broker import standing  # psutil is slow to import

    found = standing.restart(node)
    for number, started in enumerate(found, start=1):
        which = number if len(found) > 1 else node
        _tell(started, started.pid, which, "was started again", "status` shows it")
    return Exit.DONE


@app.command()
def versions(
    *,
    fetch: Annotated[
        str | None,
        typer.Option("--fetch", metavar="V", help="Fetch the newest of a release, such as 4.3."),
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="V", help="Remove a release from the cache.")
    ] = None,
) -> Exit:
    """Show which RabbitMQ releases can be started here without a network, and which one would be.

    Any release that a suite of Debian offers can be fetched, beside the others.
    """
    from rabbitproof.broker import releases  # psutil is slow to import

    for asked in (fetch, remove):
        if asked is not None and not releases.is_release(asked):
            raise UsageError(f"{safe(asked, 60)!r} is no release; say one such as 4.3 or 4.3.6.")
    if fetch is not None:
        found = releases.fetch(fetch, note, refresh=True)
        print(f"RabbitMQ {found.version} is in {releases.tree(found)}")
        return Exit.DONE
    if remove is not None:
        for version in releases.remove(remove):
            print(f"RabbitMQ {version} is removed.")
        return Exit.DONE
    known = releases.here()
    meant = releases.default()
    for one in known:
        mark = "*" if one == meant else " "
        print(f"{mark} {one.version:<9} {one.origin:<9}  {one.home}")
    if meant is None:
        asked = os.environ.get(releases.VARIABLE)
        wanted = f"RabbitMQ {safe(asked, 60)}" if asked else "the newest RabbitMQ that is offered"
        note(f"the next private broker would be {wanted}, which is not here yet.")
    return Exit.DONE


@app.command()
def env() -> Exit:
    """Print what a shell needs: eval "$(rabbitproof broker env)".

    After that every command here, and rabbitmqctl, means the private RabbitMQ.
    """
    found = _current()
    node = found[0]
    variables = {
        # Those that are down, too, but last: they may be up again when a client asks.
        "RABBITMQ_URL": ",".join(one.url for one in found + _down()),
        "RABBITMQ_MANAGEMENT_URL": node.management_url,
    }
    if os.name == "nt":
        for name, text in variables.items():
            print(f"$env:{name} = '{text}'")
        return Exit.DONE
    for name, text in variables.items():
        print(f"export {name}={shlex.quote(text)}")
    print(f'export PATH={shlex.quote(str(node.tools))}:"$PATH"  # rabbitmqctl and its kin')
    return Exit.DONE


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def ctl(context: typer.Context) -> Exit:
    """Run rabbitmqctl on the private RabbitMQ, with all arguments as they are.

    On a cluster it is the first node that is up, or the one after a leading --node N.
    """
    arguments = list(context.args)
    number = None
    if arguments[:1] == ["--node"] and arguments[1:2] and arguments[1].isdigit():
        number = int(arguments[1])
        del arguments[:2]
    node = _chosen(number)
    if node.paused:  # it would be waited for
        raise NodeFailed("That node is paused; `rabbitproof broker resume` lets it go on.")
    status = node.ctl_here(arguments)
    if status and {"list_consumers", "channel_name"} <= set(arguments):
        note("RabbitMQ knows no channel_name of a consumer; ask for channel_pid instead.")
    return _RABBITMQCTL_EXITS.get(status, Exit.FAILED)


@app.command()
def logs(
    *,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=1, help="How many of the last lines.")
    ] = 50,
    node: Annotated[
        int, typer.Option("--node", metavar="N", min=1, help="Which node of a cluster.")
    ] = 1,
) -> Exit:
    """Show the end of the private RabbitMQ's log, also after it went down."""
    from rabbitproof.broker import standing  # psutil is slow to import

    tail = standing.log_tail(lines, node)
    for line in tail:
        print(line)
    if not tail:
        note("there is no log; `rabbitproof broker up` starts one.")
    return Exit.DONE


def _current() -> list[Node]:
    from rabbitproof.broker import standing  # psutil is slow to import

    found = standing.current()
    if not found:
        raise NodeFailed("No private RabbitMQ is up; start it with `rabbitproof broker up`.")
    return found


def _down() -> list[Node]:
    from rabbitproof.broker import standing  # psutil is slow to import

    return [node for node in standing.known() if node.pid is None]


def _chosen(number: int | None) -> Node:
    """Return the node of that number, or the first that is up, rather one that is not paused."""
    from rabbitproof.broker import standing  # psutil is slow to import

    if number is None:
        return min(_current(), key=lambda node: node.paused)
    found = standing.known()
    if not 1 <= number <= len(found):
        raise NodeFailed(f"There is no node {number}; `rabbitproof broker status` shows them.")
    return found[number - 1]


def _tell(node: Node, pid: int | None, number: int | None, what: str, then: str) -> None:
    """Print what became of a node, and what to type next."""
    who = "RabbitMQ" if number is None else f"node {number}"
    print(f"{who} {what} (pid {pid}, port {node.port}); `rabbitproof broker {then}.")


def _of(number: int | None) -> str:
    return "" if number is None else f" --node {number}"


def _show(found: list[Node]) -> None:
    for number, node in enumerate(found, start=1):
        which = f"node {number}: " if len(found) > 1 else ""
        if node.pid is None:
            print(f"{which}down")
            continue
        if node.paused:
            print(
                f"{which}RabbitMQ {node.version} is paused (pid {node.pid}); `rabbitproof broker "
                f"resume{_of(number if which else None)}` lets it go on"
            )
        else:
            print(f"{which}RabbitMQ {node.version} is up (pid {node.pid})")
        print(f"  amqp        {node.url}")
        print(f"  management  {node.management_url}  (login {node.username}/{node.password})")
        print(f"  data        {node.directory}")
