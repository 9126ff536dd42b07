"""What is wrong between here and a broker, one finding for each check, each with its fix.

Holds: the checks in the order in which they depend on each other: reachable, login, version,
management plugin, permissions, queues as wanted, bindings, what the broker itself shows (alarms,
stuck consumers: ``diagnosis``), and what the window needs. It changes nothing: a queue is declared
only when it is there, which does nothing when the settings are the same.

Refuses to know flags, colours and exit codes (``cli``).
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rabbitproof.amqp import methods
from rabbitproof.broker import vhosts
from rabbitproof.broker.watch import Watch
from rabbitproof.errors import (
    BrokerRefused,
    ConnectionLost,
    LoginRefused,
    ManagementError,
    ManagementUnreachable,
    NotFound,
    PreconditionFailed,
    RabbitproofError,
)
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.broker.management import Management
    from rabbitproof.model import Topology
    from rabbitproof.snapshot import Snapshot

_DEPRECATES = (3, 13)
"""The release from which an operator can deny what is deprecated."""

Level = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. Texts are safe to show; ``fix`` is empty where there is none to do."""

    level: Level
    check: str
    text: str
    fix: str = ""


def examine(
    connect: Callable[[], Connection],
    api: Management,
    topology: Topology,
    *,
    demanded: bool,
) -> Iterator[Finding]:
    """Yield what every check finds.

    ``demanded``: these queue settings were asked for, so that others are a failure; else they are
    what `produce` wants by itself, and others a warning.
    """
    connection = None
    try:
        connection = connect()
    except LoginRefused as error:
        yield Finding("ok", "reachable", "a broker answers")
        yield _failed("login", error)
    except RabbitproofError as error:
        yield _failed("reachable", error)
    try:
        yield from _about(connection, api, topology)
        yield from _management(api, connection, topology)
        if connection is not None:
            yield from _queues(connection, topology, demanded=demanded)
        yield from _window(os.environ, sys.platform)
    finally:
        if connection is not None:
            connection.close()


def _about(connection: Connection | None, api: Management, topology: Topology) -> Iterator[Finding]:
    if connection is None:
        return
    address = connection.address
    yield Finding("ok", "reachable", f"{safe(address.host)}:{address.port} answers in AMQP")
    yield Finding("ok", "login", f"{safe(address.username)} may use vhost {safe(address.vhost)}")
    version = safe(str(connection.server_properties.get("version", "?")), 40)
    release = wiring.release(connection)
    yield from judge_version(
        release, version, topology, permits_transient=_permits_transient(api, release)
    )


def _permits_transient(api: Management, release: tuple[int, int]) -> bool | None:
    """Return whether the broker takes queues that are not durable; None where it does not say.

    4.0 says only what it does by default, and not whether an operator denied it.
    """
    if release < _DEPRECATES:
        return True
    try:
        known = api.ask("deprecated-features")
    except ManagementError:
        return None
    for one in known if isinstance(known, list) else ():
        if isinstance(one, dict) and one.get("name") == wiring.TRANSIENT:
            said = str(one.get("state") or one.get("deprecation_phase"))
            return True if said.startswith("permitted") else False if said == "denied" else None
    return None


def judge_version(
    release: tuple[int, int], version: str, topology: Topology, *, permits_transient: bool | None
) -> Iterator[Finding]:
    """Say what this release no longer allows, as far as it concerns this topology.

    ``permits_transient``: whether this very broker takes queues that are not durable; None where
    nobody knows.
    """
    said = False
    if not permits_transient and any(not queue.durable for queue in topology.queues):
        said = True
        refuses = "may refuse" if permits_transient is None else "refuses"
        yield Finding(
            "warn",
            "version",
            f"RabbitMQ {version} {refuses} queues that are not durable",
            "add --durable",
        )
    if release >= wiring.LAZY_ENDED and any(queue.lazy for queue in topology.queues):
        said = True
        yield Finding(
            "warn",
            "version",
            f"RabbitMQ {version} ignores lazy queues: all classic queues write to disk",
            "leave out --lazy",
        )
    if (3, 13) <= release <= (4, 1) and not _at_least(version, (4, 1, 5)):
        said = True
        yield Finding(
            "warn",
            "version",
            f"RabbitMQ {version} can lose messages of 4 kB and more in classic queues (a bug that "
            "4.1.5 and 4.2.0 mended)",
            "upgrade to 4.1.5, 4.2 or newer",
        )
    if release >= (4, 0) and any(queue.kind == "quorum" for queue in topology.queues):
        said = True
        yield Finding(
            "warn",
            "version",
            f"RabbitMQ {version} drops or dead-letters a message of a quorum queue when it "
            "failed 21 times",
            "set a dead letter exchange, or x-delivery-limit",
        )
    if not said:
        yield Finding("ok", "version", f"RabbitMQ {version}")


def _at_least(version: str, wanted: tuple[int, ...]) -> bool:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return numbers >= wanted


def _management(
    api: Management, connection: Connection | None, topology: Topology
) -> Iterator[Finding]:
    check = "management"
    try:
        overview = api.overview()
    except ManagementError as error:
        plugin = isinstance(error, ManagementUnreachable)
        yield _failed(check if plugin else "management login", error)
        return
    amqp = overview.cluster
    if connection is not None:
        amqp = str(connection.server_properties.get("cluster_name", ""))
    if not amqp or not overview.cluster:
        yield Finding(
            "warn",
            check,
            f"{safe(api.url)} answers, but {'the Management API' if amqp else 'AMQP'} names no "
            "cluster, so nothing tells whether both are of one broker",
            "look where --url and --management-url lead",
        )
    elif amqp != overview.cluster:
        yield Finding(
            "fail",
            check,
            f"AMQP leads to the cluster '{safe(amqp)}', the Management API to "
            f"'{safe(overview.cluster)}'",
            "name both of the same broker with --url and --management-url",
        )
        return
    else:
        yield Finding("ok", check, f"{safe(api.url)} answers")
    if not overview.counts:
        yield Finding(
            "warn",
            "metrics",
            "the broker counts no messages, so the monitor has no rates",
            "set management.rates_mode = basic"
            if overview.metrics
            else "set management_agent.disable_metrics_collector and management.disable_stats to "
            "false",
        )
    if connection is not None:
        yield from _permissions(api, connection, topology)
        yield from _bindings(api, connection, topology)
    yield from _shown(api, None if connection is None else connection.address.vhost)
    yield from _strays(api)


def _permissions(api: Management, connection: Connection, topology: Topology) -> Iterator[Finding]:
    address = connection.address
    try:
        granted = api.permissions(address.vhost, address.username)
    except ManagementUnreachable as error:
        yield _failed("permissions", error)
        return
    except ManagementError:
        yield Finding(
            "skip",
            "permissions",
            "this login may not read them",
            "ask with one that has the tag administrator: rabbitmqctl list_permissions",
        )
        return
    queues = [queue.name for queue in topology.queues]
    needed = {
        "configure": [topology.exchange, *queues],
        "write": [topology.exchange, *queues],
        "read": [topology.exchange, *queues],
    }
    lacking = [
        f"{kind} on '{safe(name)}'"
        for kind, names in needed.items()
        for name in names
        if not _matches((granted or {}).get(kind, "^$"), name)
    ]
    if lacking:
        user, vhost = safe(address.username), safe(address.vhost)
        yield Finding(
            "fail",
            "permissions",
            f"{user} lacks {', '.join(lacking[:3])}"
            + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""),
            f"rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'",
        )
    else:
        yield Finding("ok", "permissions", "configure, write and read are granted")


def _matches(pattern: str, name: str) -> bool:
    """Say whether a permission covers a name, as RabbitMQ does: anywhere in it; empty is none."""
    try:
        return bool(pattern) and re.search(pattern, name) is not None
    except re.error:
        return True  # Erlang knows some that Python does not; nothing is claimed


def _queues(connection: Connection, topology: Topology, *, demanded: bool) -> Iterator[Finding]:
    for queue in topology.queues:
        name = safe(queue.name)
        channel = connection.open_channel()
        try:
            found = wiring.look(connection, channel, queue.name)
        except NotFound:
            yield Finding("ok", "queue", f"'{name}' does not exist yet; a producer makes it")
            continue
        except (BrokerRefused, ConnectionLost) as error:
            yield _failed("queue", error)
            continue
        try:
            wiring.declare_queue(connection, channel, queue)
        except PreconditionFailed as error:
            what, _, fix = str(error).partition("\nTwo ways out: ")
            yield Finding("fail" if demanded else "warn", "queue", " ".join(what.split()), fix)
            continue
        except (BrokerRefused, ConnectionLost) as error:
            yield _failed("queue", error)
            return
        connection.call(channel, methods.CLOSE)
        count = found.message_count or 0
        yield Finding("ok", "queue", f"'{name}' is as wanted, {count:,} messages ready")


def _bindings(api: Management, connection: Connection, topology: Topology) -> Iterator[Finding]:
    vhost = connection.address.vhost
    try:
        exchanges = {one.name for one in api.exchanges(vhost)}
        for queue in topology.queues:
            if api.queue(vhost, queue.name) is None:
                continue
            bound = topology.exchange in exchanges and any(
                one.source == topology.exchange and one.routing_key == topology.routing_key
                for one in api.bindings(vhost, queue=queue.name)
            )
            what = (
                f"'{safe(queue.name)}' is {'' if bound else 'not '}bound to "
                f"'{safe(topology.exchange)}' with key '{safe(topology.routing_key)}'"
            )
            if bound:
                yield Finding("ok", "binding", what)
            else:
                yield Finding(
                    "fail",
                    "binding",
                    f"{what}: it gets nothing that is published there, and mandatory tells nobody "
                    "as long as another queue is bound",
                    "run `produce` without --no-declare, which binds it, or bind it on the "
                    "management page",
                )
    except ManagementError as error:
        yield _failed("binding", error)


def _shown(api: Management, vhost: str | None) -> Iterator[Finding]:
    """Say what the broker shows of itself, as the monitor does."""
    try:
        seen = Monitor(Watch(api, vhost=vhost, every_page=True)).look_well(lambda _: None)
    except ManagementError as error:
        yield _failed("state", error)
        return
    snapshot = seen.snapshot
    if snapshot is None:  # not reached: it was looked at just now
        return
    for problem in seen.problems:
        yield Finding(
            "fail" if problem.level == "red" else "warn", "state", problem.what, problem.do
        )
    for sentence in snapshot.missing:
        what, _, fix = safe(sentence, 500).rstrip(".").rpartition("; ")
        yield Finding("skip", "state", what or fix, fix if what else "")
    if untold := _untold(snapshot):
        yield Finding(
            "skip",
            "state",
            f"the broker does not tell of its {' and '.join(untold)}, so they may be well or not",
            "ask with a login that has the tag monitoring, on a broker that keeps metrics",
        )
    elif not seen.problems:
        yield Finding("ok", "state", "no alarm, no stuck consumer, nothing unroutable")


def _untold(snapshot: Snapshot) -> list[str]:
    """Name what a broker did not tell of itself, without which nobody knows that all is well."""
    alarms = [
        alarm
        for node in snapshot.nodes
        if node.running is not False
        for alarm in (node.memory_alarm, node.disk_alarm)
    ]
    return [
        what
        for what, lacks in (
            ("alarms", not alarms or None in alarms),
            ("consumers", snapshot.consumers is None),
            ("unroutable messages", not snapshot.metrics),
        )
        if lacks
    ]


def _strays(api: Management) -> Iterator[Finding]:
    """Name the vhosts that trials left, or that belong to trials elsewhere."""
    try:
        found = vhosts.strays(api)
    except ManagementError:
        return  # who may not see all vhosts made none
    for name, ended in found.items():
        whose = (
            "whose process has ended"
            if ended
            else "made on another machine, before this one was started, or in a container"
        )
        fix = "the next `prove` on this broker deletes it"
        yield Finding(
            "warn",
            "vhost",
            f"'{name}' is of a trial {whose}",
            fix if ended else f"if no `prove` runs there: rabbitmqctl delete_vhost {name}",
        )


def _window(environment: Mapping[str, str], platform: str) -> Iterator[Finding]:
    """Check what the window and, on Windows, the scripts need."""
    if importlib.util.find_spec("_tkinter") is None:
        install = {
            "linux": "sudo apt-get install python3-tk (Debian, Ubuntu), or python3-tkinter",
            "darwin": "brew install python-tk, or use the Python of python.org",
        }.get(platform, "install Python again with tcl/tk")
        yield Finding("warn", "window", "this Python has no tkinter, so no window opens", install)
    elif platform.startswith("linux") and not (
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    ):
        yield Finding(
            "warn",
            "window",
            "there is no display, so no window opens",
            "run it on a desktop, or over ssh -X; `consume --show` needs none",
        )
    else:
        yield Finding("ok", "window", "tkinter and a display are there")
    if platform == "win32":
        yield Finding(
            "skip",
            "scripts",
            "if PowerShell says that running scripts is disabled",
            r"powershell -ExecutionPolicy Bypass -File .\scripts\cleanup_queues.ps1 -All, or for "
            "good: Set-ExecutionPolicy -ExecutionPolicy RemoteSigned -Scope CurrentUser",
        )


def _failed(check: str, error: RabbitproofError) -> Finding:
    """Make a finding of an error, whose text is a sentence that ends in what to do."""
    what, _, fix = str(error).rstrip(".").rpartition("; ")
    return Finding("fail", check, what or fix, fix if what else "")
