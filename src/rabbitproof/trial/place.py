"""Where a trial happens: a private node, or a corner of somebody's broker.

On a private node everything is ours. On a broker that was named with --url a trial works in a
vhost of its own, where the login may create one; else with an exchange, a key and queues that
carry the run's name. It removes what it made and touches nothing else.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rabbitproof.address import parse
from rabbitproof.amqp import methods
from rabbitproof.amqp.connection import open_connection
from rabbitproof.broker.install import provide
from rabbitproof.broker.management import Management
from rabbitproof.broker.node import Node
from rabbitproof.errors import ManagementError, RabbitproofError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rabbitproof.address import Address
    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Topology


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
    node: Node | None = None
    """The broker itself where it is a private one, which may be broken."""

    def connect(self, name: str) -> Connection:
        """Open a connection of that name."""
        return open_connection(self.addresses, name)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder that is gone afterwards; on a node of ours also if we are killed."""
        inside = None if self.node is None else self.node.directory
        with tempfile.TemporaryDirectory(prefix="rabbitproof-", dir=inside) as folder:
            yield Path(folder)

    def queue_count(self, queue: str) -> int | None:
        """Ask the Management API for a queue's messages; None when it does not know."""
        try:
            with self.open_api() as api:
                found = api.queue(self.vhost, queue)
        except RabbitproofError:
            return None
        return None if found is None else found.messages


@contextmanager
def private(topology: Topology, note: Callable[[str], None]) -> Iterator[Place]:
    """Give a node of our own, gone afterwards."""
    installation = provide(note)
    note(f"starting a private RabbitMQ {installation.version}")
    with Node.start(installation) as node:
        address = parse(node.url)[0]

        yield Place(
            (address,),
            topology,
            {queue.name: queue.name for queue in topology.queues},
            f"a private RabbitMQ {node.version} on {address.host}:{address.port}",
            "/",
            lambda: Management(node.management_url, node.username, node.password),
            node,
        )


@contextmanager
def on_node(node: Node, topology: Topology, run: str) -> Iterator[Place]:
    """Give a vhost of its own on a node of ours, gone afterwards."""
    address = parse(node.url)[0]
    where = shared([address], node.management_url, address, topology, run, lambda _: None, node)
    with where as place:
        yield place


@contextmanager
def shared(
    addresses: Sequence[Address],
    management_url: str,
    login: Address,
    topology: Topology,
    run: str,
    note: Callable[[str], None],
    node: Node | None = None,
) -> Iterator[Place]:
    """Give a corner of a broker that others use; ``login`` is for its Management API.

    ``node``: that broker, if it is ours after all.
    """
    with open_connection(addresses, f"RabbitMQ Prover {run}") as first:
        version = safe(str(first.server_properties.get("version", "?")))
        cluster = str(first.server_properties.get("cluster_name", ""))
    where = f"RabbitMQ {version} on {safe(addresses[0].host)}:{addresses[0].port}"
    vhost = f"rabbitproof-{run}"

    def open_api() -> Management:
        return Management(management_url, login.username, login.password, tls=login.tls)

    with open_api() as api:
        problem = _make_vhost(api, vhost, cluster, addresses[0].username)
        if problem is None:
            note(f"working in a vhost of its own, {vhost}, which is deleted afterwards")
            inside = tuple(replace(address, vhost=vhost) for address in addresses)

            try:
                names = {queue.name: queue.name for queue in topology.queues}
                yield Place(inside, topology, names, where, vhost, open_api, node)
            finally:
                api.delete_vhost(vhost)
            return
    note(f"no vhost of its own ({problem}); working with names that carry the run's name")
    real = _renamed(topology, vhost)
    pairs = zip(real.queues, topology.queues, strict=True)
    names = {mine.name: theirs.name for mine, theirs in pairs}

    try:
        yield Place(tuple(addresses), real, names, where, addresses[0].vhost, open_api, node)
    finally:
        _remove(addresses, real)


def _make_vhost(api: Management, vhost: str, cluster: str, user: str) -> str | None:
    """Create a vhost; return why it could not be done, None when it was."""
    try:
        theirs = api.overview().cluster
        if theirs != cluster:
            return (
                f"the Management API belongs to cluster '{safe(theirs)}', AMQP to '{safe(cluster)}'"
            )
        api.create_vhost(vhost)
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
