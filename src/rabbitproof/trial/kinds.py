"""The catalogue of faults: what each hits, needs and does, as values. Pure.

How they are carried out stands in ``breaking``; which of them a scenario has, in ``plan``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One entry of the catalogue of faults; ``faults`` carries them out."""

    hits: Literal[
        "broker", "cluster", "network", "clients", "consumer", "producer", "connection", "queue"
    ]
    about: str
    """What is done, in plain words."""
    lasts: tuple[float, float] = (0.0, 0.0)
    """Between how many seconds it lasts where a seed decides. One that has to last for more than
    0 makes no sense without a length."""
    takes_s: float = 4.0
    """About how long it takes beside that: commands, starting again, being whole again."""
    needs: Literal["nothing", "node", "cluster", "proxy", "owner"] = "nothing"
    """What it can't be done without: a node or a cluster of our own, a proxy of ours before the
    broker, or a person who says that the broker is theirs."""

    @property
    def needs_node(self) -> bool:
        """Only to be done to a broker that nobody else uses."""
        return self.needs in {"node", "cluster"}

    @property
    def meanwhile(self) -> bool:
        """Whether everybody goes on working while it is done; else it is a matter of an instant."""
        return self.hits in {"broker", "cluster", "network", "clients"}


CATALOGUE: Final = {
    "broker-kill": FaultKind(
        "broker",
        "the broker is killed (SIGKILL) and started again",
        lasts=(0.0, 3.0),
        takes_s=8.0,
        needs="node",
    ),
    "broker-restart": FaultKind(
        "broker",
        "the broker is stopped in good order and started again",
        lasts=(0.0, 3.0),
        takes_s=12.0,
        needs="node",
    ),
    "broker-pause": FaultKind(
        "broker",
        "the broker is paused (SIGSTOP), so that it is silent for longer than the heartbeat",
        lasts=(5.0, 8.0),
        needs="node",
    ),
    "memory-alarm": FaultKind(
        "broker",
        "the broker's memory limit is set so low that it raises an alarm and blocks publishers",
        lasts=(1.0, 4.0),
        needs="node",
    ),
    "disk-alarm": FaultKind(
        "broker",
        "the broker's disk limit is set so high that it raises an alarm and blocks publishers",
        lasts=(1.0, 4.0),
        needs="node",
    ),
    "leader-kill": FaultKind(
        "cluster",
        "the node that leads the queue is killed (SIGKILL), later started again",
        lasts=(0.0, 3.0),
        takes_s=15.0,
        needs="cluster",
    ),
    "node-kill": FaultKind(
        "cluster",
        "a node is killed (SIGKILL), later started again",
        lasts=(0.0, 3.0),
        takes_s=15.0,
        needs="cluster",
    ),
    "node-pause": FaultKind(
        "cluster",
        "a node is paused (SIGSTOP), so that it is silent for longer than the net tick",
        lasts=(8.0, 12.0),
        takes_s=35.0,
        needs="cluster",
    ),
    "partition": FaultKind(
        "cluster",
        "a node is cut off from all others",
        lasts=(8.0, 12.0),
        takes_s=15.0,
        needs="cluster",
    ),
    "rolling-restart": FaultKind(
        "cluster",
        "every node is stopped in good order and started again, one after the other",
        takes_s=60.0,
        needs="cluster",
    ),
    "network-cut": FaultKind(
        "network",
        "all connections are cut and nobody gets through to the broker",
        lasts=(1.0, 4.0),
        needs="proxy",
    ),
    "half-open": FaultKind(
        "network",
        "the network drops everything in silence while all connections seem to be open",
        lasts=(5.0, 8.0),
        needs="proxy",
    ),
    "network-delay": FaultKind(
        "network",
        "everything takes longer on its way to the broker and back",
        lasts=(1.0, 3.0),
        needs="proxy",
    ),
    "network-throttle": FaultKind(
        "network",
        "the network carries only so many bytes a second",
        lasts=(1.0, 3.0),
        needs="proxy",
    ),
    "confirms-swallowed": FaultKind(
        "network",
        "the broker's confirms are lost on their way back",
        lasts=(1.0, 3.0),
        needs="proxy",
    ),
    "connection-close": FaultKind(
        "clients",
        "all connections of the run are closed by an operator, with the Management API",
        needs="owner",
    ),
    "consumer-kill": FaultKind("consumer", "a consumer's process is killed (SIGKILL)"),
    "producer-kill": FaultKind(
        "producer",
        "a producer's process is killed (SIGKILL); another one goes on from its ledger",
    ),
    "connection-cut": FaultKind("connection", "the producer's connection ends without a word"),
    "queue-delete": FaultKind("queue", "a queue is deleted, then declared and bound again"),
    "queue-purge": FaultKind("queue", "a queue is purged"),
    "unbind": FaultKind("queue", "all bindings of the exchange are taken away"),
    "poison": FaultKind("queue", "some messages are rejected until the broker gives them up"),
}
