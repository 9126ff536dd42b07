"""The faults: what may be broken where, and what shows that it really happened.

What is broken on purpose and leaves no trace proves nothing, so every fault ends in a record: when,
how many publishes were unanswered at that moment, and what the broker or the process showed.

Rules: a fault of the broker needs a node of our own (``refusal``). A fault of a queue is done to
the trial's own queues, one of a consumer or a connection to its own, wherever the broker is.
Refuses to know how each is done (``breaking``), when (``schedule``) and what it does to a verdict.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from rabbitproof.errors import RabbitproofError, SourceMissing, UsageError
from rabbitproof.model import FaultRecord
from rabbitproof.trial.breaking import broker, clients, cluster, network, queues
from rabbitproof.trial.kinds import CATALOGUE

if TYPE_CHECKING:
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import FaultPlan, Scenario

HOW: Final = broker.HOW | cluster.HOW | network.HOW | clients.HOW | queues.HOW
"""How each of the catalogue is carried out."""


class Scene(Protocol):
    """What faults need to know of the trial that is going on, and may do to it.

    Those that last run in a thread: they may look at all of it, wait with ``last``, and do
    something to the ``place``.
    """

    @property
    def place(self) -> Place:
        """Where it happens."""

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None:
        """Note that so many copies in ``queue`` (its logical name) are gone for that reason."""

    def in_flight(self) -> int | None:
        """Count publishes without an answer at this moment; None where nobody can tell."""

    def blocked(self) -> str | None:
        """Return why the broker has told a producer to wait; None when it has not."""

    def last(self, seconds: float) -> None:
        """Let so much time pass. Raises Interrupted when the trial ends meanwhile."""

    def reconnects(self) -> bool:
        """Tell whether the producer that ``cut`` hits is just connecting again."""

    def cut(self) -> str | None:
        """End the producers' connections without a word; return what was cut, None for nothing."""

    def kill_consumer(self, pick: float | None) -> str | None:
        """Kill a consumer's process; return what it showed, None when there was none."""

    def kill_producer(self, pick: float | None) -> str | None:
        """Kill a producer's process and have it resumed; None when there was none."""


class Interrupted(RabbitproofError):
    """The trial was ended while a fault lasted."""


def refusal(scenario: Scenario, *, owner: bool = False) -> str | None:
    """Return why a scenario can't be carried out on somebody's broker; None when it can.

    ``owner``: a person said that it is theirs to break.
    """
    if scenario.cluster.nodes > 1:
        return f"{scenario.name} needs a cluster of {scenario.cluster.nodes} nodes of our own"
    for name in sorted(scenario.possible):
        kind = CATALOGUE[name]
        if kind.needs_node:
            return (
                f"{scenario.name} needs a broker of our own: {kind.about}, and others may use "
                "the one that --url names"
            )
        if kind.needs == "owner" and not owner:
            return (
                f"{scenario.name} acts as an operator of the broker: {kind.about}; say "
                "--i-own-this-broker if you may"
            )
    return None


def check_sources(scenario: Scenario, place: Place) -> None:
    """Raise SourceMissing for a scenario that needs the Management API where it does not answer.

    Without it nobody would know why a queue dropped a message, and an operator could do nothing.
    """
    what = ""
    if scenario.topology.dead_letters:
        what = "the reasons for which messages were dropped"
    elif scenario.has(needs="owner"):
        what = "what an operator does"
    if not what:
        return
    try:
        with place.open_api() as api:
            api.overview()
    except RabbitproofError as error:
        raise SourceMissing(
            f"{scenario.name} needs the Management API, for {what} ({str(error).rstrip('.')}); "
            "name its address with --management-url."
        ) from None


def check(scenario: Scenario, *, private: bool, owner: bool = False) -> None:
    """Raise UsageError for a scenario that may not be carried out there."""
    why = None if private else refusal(scenario, owner=owner)
    if why is not None:
        raise UsageError(f"{why}; or leave out --url, then it has a private broker.")


def carry_out(
    plan: FaultPlan, scene: Scene, at_s: float, in_flight: int | None = None
) -> FaultRecord:
    """Carry out one fault, ``at_s`` seconds after the first publish; return its record."""
    began = time.monotonic()
    try:
        evidence = HOW[plan.name](plan, scene)
        fired = evidence is not None
    except RabbitproofError as error:
        evidence, fired = f"It could not be done: {error}", False
    took = time.monotonic() - began
    return FaultRecord(
        name=plan.name,
        at_s=round(at_s, 3),
        fired=fired,
        evidence=evidence or "There was nothing to do it to.",
        until_s=round(at_s + took, 3),
        in_flight=in_flight,
    )
