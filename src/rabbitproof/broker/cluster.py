"""Several private nodes that are one RabbitMQ: started together, broken one by one, whole again.

Holds: what nodes have in common (names, cookie, how they find each other), starting them at the
same time, who leads a queue, cutting nodes from each other, and when a cluster is whole.
Refuses to hold: the life of one node (``node.py``: each can be killed, paused and started again by
itself), what goes through the cables between them (``cables.py``), and when something is broken
(``trial/``).

Rules
-----
- Nodes are numbered from 1, for people; ``nodes[0]`` is node 1.
- An owned cluster's nodes talk through cables of ours, which can be cut; one of ``broker up``
  outlives its command, so its nodes talk directly.
- Whole means: each node answers, runs in the eyes of each other, and sees no partition; and each
  queue with replicas has a leader and all its replicas. Nothing less is called started or healed.
- Every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final, Self

from rabbitproof.broker import lease, ports, readiness, script
from rabbitproof.broker.install import Installation, cache_folder, check_path, version_key
from rabbitproof.broker.layout import Identity, Layout, Membership, State
from rabbitproof.broker.management import Management
from rabbitproof.broker.node import Node
from rabbitproof.errors import ManagementError, NodeFailed, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

MOST_NODES: Final = 7
"""RabbitMQ's own advice for a quorum; more would only be slower."""

_START_S: Final = 120.0
"""For all nodes together; 12 s on two cores that do nothing else."""
_POLL_S: Final = 0.1
"""Between two looks at a cluster that is not whole yet."""
_ASK_S: Final = 3.0
"""For one answer of a Management API; one that asks a node that hangs takes longer."""
_TRIES: Final = 4
"""Free ports are found by trying; somebody else can be faster."""


class Cluster:
    """Some private nodes, owned by this process unless started with ``owned=False``.

    Use it as a context manager, or call ``stop``.
    """

    def __init__(self, nodes: tuple[Node, ...], wires: Cables | None = None) -> None:
        self.nodes = nodes
        self._cables = wires

    @classmethod
    def start(
        cls,
        installation: Installation,
        *,
        nodes: int = 3,
        directory: Path | None = None,
        amqp_port: int = 0,
        management_port: int = 0,
        username: str | None = None,
        password: str | None = None,
        owned: bool = True,
        settings: Mapping[str, str] | None = None,
        deadline_s: float = _START_S,
    ) -> Cluster:
        """Start that many nodes and return them as a whole cluster.

        Port 0 means any free ones; else the nodes get that port and the ones after it. With
        ``owned=False`` they outlive this process and keep their data below ``directory``. Raise
        NodeFailed with the log's own lines; nothing is left behind then, except data that were
        there before.
        """
        if not 1 <= nodes <= MOST_NODES:
            raise UsageError(f"A cluster has 1 to {MOST_NODES} nodes; choose another number.")
        lease.collect(cache_folder() / "nodes")
        for attempt in range(1, _TRIES + 1):
            mark = secrets.token_hex(16)
            places = _places(directory, nodes)
            states = [State.read(place) for place in places] if places else [None] * nodes
            login = Identity.new(mark, username, password)
            identities = [
                state.identity
                if state
                else Identity.new(mark, login.username, login.password, number)
                for number, state in enumerate(states, start=1)
            ]
            names = tuple(identity.name for identity in identities)
            wires = Cables([name.partition("@")[0] for name in names]) if owned else None
            try:
                layouts = _layouts(
                    installation,
                    identities,
                    places,
                    Membership(names, secrets.token_hex(20)),
                    (amqp_port, management_port),
                    wires.epmd if wires else [ports.any_free()] * nodes,
                )
                started = tuple(Node(layout, owned=owned) for layout in layouts)
                cluster = cls(started, wires)
            except BaseException:
                if wires is not None:
                    wires.close()
                raise
            try:
                cluster._launch(settings or {}, deadline_s)
            except NodeFailed:
                chosen = [port for layout in layouts for port in astuple(layout.ports)]
                taken = [port for port in chosen if port and not ports.is_free(port)]
                if not taken or attempt == _TRIES:
                    raise
            else:
                return cluster
        raise NodeFailed  # not reached: the last attempt raises or returns

    @property
    def url(self) -> str:
        """All addresses, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def version(self) -> str:
        """The version of RabbitMQ."""
        return self.nodes[0].version

    @property
    def username(self) -> str:
        """The login of every node."""
        return self.nodes[0].username

    @property
    def password(self) -> str:
        """The password of every node."""
        return self.nodes[0].password

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, *, gracefully: bool | None = None) -> None:
        """End every node at the same time, as ``Node.stop`` does; an owned one leaves no trace."""
        try:
            self._each(lambda node: node.stop(gracefully=gracefully))
        finally:
            if self._cables is not None:
                self._cables.close()

    # --- what it knows of itself ---

    def number(self, name: str) -> int | None:
        """Return the number of the node of that name; None for a stranger."""
        return next((i for i, node in enumerate(self.nodes, start=1) if node.name == name), None)

    def api(self, timeout: float = _ASK_S) -> Management:
        """Open the Management API of the first node that answers and runs."""
        for node in self.nodes:
            if node.pid is None:
                continue
            api = self._api(node, timeout)
            try:
                api.whoami()
            except ManagementError:
                api.close()
                continue
            return api
        raise NodeFailed("No node of the cluster answers; look at its logs.")

    def leader(self, vhost: str, name: str, *, besides: int | None = None) -> int | None:
        """Return the number of the node that leads a queue or a stream; None while nobody does.

        A classic queue is led by the one node that has it. ``besides``: a node that is not asked
        and whose leadership does not count, because it was just taken away.
        """
        for number, node in enumerate(self.nodes, start=1):
            if number == besides or node.pid is None:
                continue
            with contextlib.suppress(ManagementError), self._api(node) as api:
                found = api.ask("queues", vhost, name)
                if isinstance(found, dict):
                    # A queue without a leader says so; a stream of 3.10 tells its node alone.
                    led = found.get("leader")
                    leads = self.number(str(found.get("node") if led is None else led))
                    return None if leads == besides else leads
        return None

    def problem(self) -> str | None:
        """Return what keeps the cluster from being whole, as a sentence; None when it is."""
        names = {node.name for node in self.nodes}
        for number, node in enumerate(self.nodes, start=1):
            if node.pid is None:
                return f"Node {number} is down."
            try:
                with self._api(node) as api:
                    views = api.ask("nodes")
                    lacking_replicas = _incomplete(api, node.version)
            except ManagementError as error:
                return f"Node {number} does not answer: {error}"
            seen = _by_name(views)
            running = {name for name, view in seen.items() if view.get("running") is True}
            if names - running:
                lacking = ", ".join(str(self.number(name)) for name in sorted(names - running))
                return f"Node {number} sees node {lacking} down."
            if any(view.get("partitions") for view in seen.values()):
                return f"Node {number} sees a partition."
            if lacking_replicas is not None:
                return lacking_replicas
            if readiness.amqp_version(node.port, unnamed="?") is None:
                return f"Node {number} does not answer AMQP."
        return None

    def await_whole(self, deadline_s: float = _START_S) -> None:
        """Wait until the cluster is whole; raise NodeFailed with what is missing."""
        until = time.monotonic() + deadline_s
        while (problem := self.problem()) is not None:
            if time.monotonic() > until:
                raise NodeFailed(
                    f"The cluster was not whole within {deadline_s:.0f} s. {problem} Look at the "
                    "nodes' logs, and whether the machine is overloaded."
                )
            time.sleep(_POLL_S)

    # --- what is done to it ---

    def shut_down(self) -> None:
        """End every node that is up in good order, at the same time; the data stay."""
        self._each(Node.shut_down)

    def start_again(self) -> None:
        """Start every node again, at the same time; all of them are down."""
        self._each(Node.start_again)

    def settle(self) -> None:
        """Have every node write what was declared so far to its disk; see ``Node.settle``."""
        self._each(Node.settle)

    def cut(self, *sides: Iterable[int]) -> dict[str, int]:
        """Cut nodes from each other: each side, a set of numbers, hears only itself from now on.

        Nothing is refused: what crosses the cut is held back silently. Return ``open``, the
        connections between nodes, and ``held``, how many of them are silent now.
        """
        return self._wires().tell(do="cut", sides=[sorted(side) for side in sides])

    def heal(self) -> None:
        """Mend all cables; what was held back arrives."""
        self._wires().tell(do="heal")

    def carried(self) -> int:
        """Return how many bytes the nodes have said to each other."""
        return int(self._wires().tell(do="tell")["bytes"])

    def _wires(self) -> Cables:
        if self._cables is None:
            raise NodeFailed(
                "The nodes of `broker up` are joined directly and can't be cut from each other; "
                "`rabbitproof prove` starts a cluster of its own that can."
            )
        return self._cables

    def _api(self, node: Node, timeout: float = _ASK_S) -> Management:
        return Management(node.management_url, node.username, node.password, timeout=timeout)

    def _launch(self, settings: Mapping[str, str], deadline_s: float) -> None:
        """Start all nodes at once; undo all of it when one fails."""
        until = time.monotonic() + deadline_s
        try:
            self._each(lambda node: node.launch(settings, deadline_s=deadline_s))
            self.await_whole(max(1.0, until - time.monotonic()))
        except BaseException:
            self.stop(gracefully=False)
            raise

    def _each(self, do: Callable[[Node], object]) -> None:
        """Do something to all nodes at the same time; raise what went wrong first.

        When it does, or at Ctrl-C, the others are ended, so that nobody waits for them.
        """
        failure: BaseException | None = None
        pool = ThreadPoolExecutor(len(self.nodes))
        jobs = [pool.submit(do, node) for node in self.nodes]
        try:
            for job in jobs:
                job.result()
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is not None:
                for node in self.nodes:
                    node.give_up()
            pool.shutdown()


class Cables(script.Program):
    """The process of ``cables.py``, from this side."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("The cable between the nodes", "cables", *names)
        self.epmd: list[int] = self.first["epmd"]


def _places(directory: Path | None, nodes: int) -> list[Path]:
    """Return where each node keeps its data; nothing where that does not matter."""
    if directory is None:
        return []
    return [check_path(directory.absolute() / f"node-{number}") for number in range(1, nodes + 1)]


def _layouts(
    installation: Installation,
    identities: list[Identity],
    places: list[Path],
    membership: Membership,
    asked: tuple[int, int],
    epmds: list[int],
) -> list[Layout]:
    """Return the layout of each node, no two with the same port."""
    amqp, management = asked
    taken: set[int] = set(epmds)
    layouts = []
    for i, identity in enumerate(identities):
        chosen = ports.choose(
            amqp + i if amqp else 0,
            management + i if management else 0,
            tls=False,
            epmd=epmds[i],
            besides=taken,
        )
        taken.update(astuple(chosen))
        mark = secrets.token_hex(16)
        place = places[i] if places else check_path(cache_folder() / "nodes" / mark)
        layouts.append(Layout(installation, place, identity, chosen, mark, membership))
    return layouts


def _by_name(answer: object) -> dict[str, dict[str, Any]]:
    if not isinstance(answer, list):
        return {}
    return {str(one.get("name")): one for one in answer if isinstance(one, dict)}


def _incomplete(api: Management, version: str) -> str | None:
    """Return which queue with replicas lacks what, as a sentence; None when none does.

    On 4.3 the list of queues tells of replicas what was so more than 5 s ago, or only which nodes
    run; but there each replica of a quorum queue can be asked. Older ones may not know that.
    """
    can_be_asked = version_key(version) >= (4, 3)
    queues = api.ask("queues")
    if not isinstance(queues, list):
        return "The queues are not told."
    for found in queues:
        vhost, name = str(found.get("vhost")), str(found.get("name"))
        replicas = None
        if can_be_asked and found.get("type") == "quorum":
            replicas = api.ask("queues", "quorum", vhost, name, "status")
        lacks = _lacking(found) if replicas is None else _lacking_among(replicas)
        if lacks:
            return f"The queue {safe(name)} {lacks}."
    return None


def _lacking_among(replicas: Iterable[dict[str, Any]]) -> str | None:
    """Return what a quorum queue lacks by what each of its replicas says of itself."""
    states = {replica.get("Raft State") for replica in replicas}
    if "leader" not in states:
        return "has no leader"
    return None if states <= {"leader", "follower"} else "lacks a replica"


def _lacking(found: dict[str, Any]) -> str | None:
    """Return what a queue with replicas lacks, None for nothing and for other queues."""
    kind, members, online = found.get("type"), found.get("members"), found.get("online")
    if kind not in {"quorum", "stream"}:
        return None if kind else "does not tell its type"
    if kind == "stream" and "members" not in found:
        return None  # 3.10 tells nothing of an empty one
    if not isinstance(members, list) or not isinstance(online, list):
        return "does not tell its replicas"
    leader = found.get("leader")
    if leader == "" or (leader is None and kind == "quorum"):  # a stream of 3.10 tells none
        return "has no leader"
    return "lacks a replica" if set(members) - set(online) else None
