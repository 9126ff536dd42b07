"""Where a trial happens: a private node, or a corner of somebody's broker.

On a private node everything is ours. On a broker that was named with --url a trial works in a
vhost of its own, where the login may create one; else with an exchange, a key and queues that
carry the run's name. It removes what it made and touches nothing else.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rabbitproof.address import parse
from rabbitproof.amqp import methods
from rabbitproof.amqp.connection import open_connection
from rabbitproof.amqp.dial import Dialer
from rabbitproof.broker import vhosts
from rabbitproof.broker.cluster import Cluster
from rabbitproof.broker.install import cache_folder
from rabbitproof.broker.management import Management
from rabbitproof.broker.ports import LOOPBACK
from rabbitproof.errors import LedgerFailed, ManagementError, RabbitproofError, UsageError
from rabbitproof.process import Process
from rabbitproof.proof import history
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rabbitproof.address import Address
    from rabbitproof.amqp.connection import Connection
    from rabbitproof.broker.node import Node
    from rabbitproof.broker.proxy import Proxy
    from rabbitproof.model import Queue, Topology


@dataclass(frozen=True, slots=True)
class Place:
    """A broker and the names to use on it."""

    addresses: tuple[Address, ...]
    topology: Topology
    """With the real names."""
    logical: dict[str, str]
    """Real queue name -> the name that the scenario uses."""
    where: str
    """For people: which broker this is."""
    vhost: str
    open_api: Callable[[], Management]
    """Opens the broker's Management API, to be used in a ``with`` statement."""
    nodes: tuple[Node, ...] = ()
    """The broker itself where it is a private one, which may be broken."""
    cluster: Cluster | None = None
    """What the nodes form where there are several."""
    apart: bool = True
    """Whether the run has the vhost for itself."""
    proxy: Proxy | None = None
    """What stands between the participants and the broker, if anything."""

    @property
    def node(self) -> Node | None:
        """The private broker's only node, or the first one."""
        return self.nodes[0] if self.nodes else None

    @property
    def ways(self) -> tuple[Address, ...]:
        """The addresses that participants use: through the proxy, where there is one."""
        if self.proxy is None:
            return self.addresses
        return tuple(
            replace(address, host=LOOPBACK, port=port)
            for address, port in zip(self.addresses, self.proxy.ports, strict=True)
        )

    def connect(self, name: str) -> Connection:
        """Open a connection of that name, for whoever looks on."""
        return open_connection(self.addresses, name)

    def dialer(self, name: str, heartbeat_s: int) -> Dialer:
        """Return what opens a participant's connections of that name."""
        return Dialer(self.ways, name, heartbeat=heartbeat_s)

    def behind(self, proxy: Proxy) -> Place:
        """Return the same place with a proxy before the broker.

        Raises UsageError where TLS is used: a certificate does not fit the proxy's address.
        """
        if any(address.tls is not None for address in self.addresses):
            raise UsageError(
                "A fault of the network happens in a proxy, which can't stand before amqps://; "
                "give an address with amqp://, or leave out --url."
            )
        return replace(self, proxy=proxy)

    def queue(self, logical: str) -> Queue:
        """Return a queue by the name that scenarios use."""
        for queue in self.topology.queues:
            if self.logical[queue.name] == logical:
                return queue
        raise UsageError(f"The scenario has no {logical}; name a queue that it has.")

    def queue_count(self, queue: str) -> int | None:
        """Ask the Management API for a queue's messages; None when it does not know."""
        try:
            with self.open_api() as api:
                found = api.queue(self.vhost, queue)
        except RabbitproofError:
            return None
        return None if found is None else found.messages


@contextmanager
def scratch(place: Place) -> Iterator[Path]:
    """Give the path of a run's folder that is gone afterwards.

    A private node's watchdog removes it as well. With somebody's broker it is in the cache, where
    the next run removes it if this process is killed: the plan in its history says who wrote it.
    """
    runs = cache_folder() / "runs"
    for path in runs.glob(f"*/*{history.SUFFIX}"):
        with suppress(LedgerFailed):
            writer = Process.read(history.read(path).plan.process)
            if writer is not None and writer.life() in {"ended", "rebooted"}:
                shutil.rmtree(path.parent, ignore_errors=True)
    folder = (runs if place.node is None else place.node.directory) / secrets.token_hex(8)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def on_node(broker: Node | Cluster, topology: Topology, run: str) -> Iterator[Place]:
    """Give a vhost of its own on a broker of ours, gone afterwards."""
    addresses = parse(broker.url)
    first = broker.nodes[0] if isinstance(broker, Cluster) else broker
    where = shared(addresses, first.management_url, addresses[0], topology, run, lambda _: None)
    with where as place:
        called = f"a private RabbitMQ {broker.version}"
        ports = ", ".join(str(address.port) for address in addresses)
        if isinstance(broker, Cluster):
            called += f" of {len(addresses)} nodes on {addresses[0].host}, ports {ports}"
            yield replace(
                place, where=called, nodes=broker.nodes, cluster=broker, open_api=broker.api
            )
        else:
            called += f" on {addresses[0].host}:{ports}"
            yield replace(place, where=called, nodes=(broker,))


@contextmanager
def shared(
    addresses: Sequence[Address],
    management_url: str,
    login: Address,
    topology: Topology,
    run: str,
    note: Callable[[str], None],
) -> Iterator[Place]:
    """Give a corner of a broker that others use; ``login`` is for its Management API."""
    with open_connection(addresses, f"RabbitMQ Prover {run}") as first:
        version = safe(str(first.server_properties.get("version", "?")))
        cluster = str(first.server_properties.get("cluster_name", ""))
    where = f"RabbitMQ {version} on {safe(addresses[0].host)}:{addresses[0].port}"
    vhost = vhosts.name(run)

    def open_api() -> Management:
        return Management(management_url, login.username, login.password, tls=login.tls)

    with open_api() as api:
        problem = _make_vhost(api, vhost, cluster, addresses[0].username)
        if problem is None:
            note(f"working in a vhost of its own, {vhost}, which is deleted afterwards")
            inside = tuple(replace(address, vhost=vhost) for address in addresses)

            try:
                for stray in vhosts.sweep(api):
                    note(f"deleted the vhost {stray} of a trial that was killed")
                names = {queue.name: queue.name for queue in topology.queues}
                yield Place(inside, topology, names, where, vhost, open_api)
            finally:
                try:
                    api.delete_vhost(vhost)
                except ManagementError as error:  # what was found out counts more
                    note(f"the vhost {vhost} could not be deleted: {error}")
            return
    note(f"no vhost of its own ({problem}); working with names that carry the run's name")
    real = _renamed(topology, vhost)
    pairs = zip(real.queues, topology.queues, strict=True)
    names = {mine.name: theirs.name for mine, theirs in pairs}

    try:
        yield Place(tuple(addresses), real, names, where, addresses[0].vhost, open_api, apart=False)
    finally:
        _remove(addresses, real)


def _make_vhost(api: Management, vhost: str, cluster: str, user: str) -> str | None:
    """Create a vhost; return why it could not be done, None when it was."""
    try:
        theirs = api.overview().cluster
        if not cluster or theirs != cluster:  # not told is not the same
            return (
                f"the Management API belongs to cluster '{safe(theirs)}', AMQP to '{safe(cluster)}'"
            )
        api.create_vhost(vhost, vhosts.description())
        try:
            api.set_permissions(vhost, user)
        except ManagementError:
            api.delete_vhost(vhost)
            raise
    except ManagementError as error:
        return str(error).rstrip(".")
    return None


def _renamed(topology: Topology, prefix: str) -> Topology:
    work, dead = topology.work, topology.dead
    if dead is not None:
        dead = replace(dead, name=f"{prefix}.{dead.name}")
        work = replace(work, extra={**work.extra, "x-dead-letter-routing-key": dead.name})
    return replace(
        topology,
        exchange=f"{prefix}.{topology.exchange}",
        routing_key=f"{prefix}.{topology.routing_key}",
        work=replace(work, name=f"{prefix}.{work.name}"),
        audit=None
        if topology.audit is None
        else replace(topology.audit, name=f"{prefix}.{topology.audit.name}"),
        dead=dead,
    )


def _remove(addresses: Sequence[Address], topology: Topology) -> None:
    """Delete what a trial made under its own names."""
    with open_connection(addresses, "RabbitMQ Prover (cleaning up)") as connection:
        channel = connection.open_channel()
        for queue in (*topology.queues, *((topology.dead,) if topology.dead else ())):
            connection.call(channel, methods.QueueDelete(queue=queue.name))
        connection.call(channel, methods.ExchangeDelete(exchange=topology.exchange))
