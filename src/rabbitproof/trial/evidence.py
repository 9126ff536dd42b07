"""What a trial knows at its end: claims that held or not, and the environment it ran in.

Pure: everything is handed in. Refuses to find things out (``trial``) and to judge (``proof``).
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from rabbitproof.proof.verdict import Claim
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rabbitproof.identity import Source
    from rabbitproof.proof.ledger import QueueReceipts
    from rabbitproof.proof.verdict import QueueEvidence
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario


def ready_claim(name: str, confirmed: int, ready: int) -> Claim:
    """Return the claim that a queue held exactly what was confirmed."""
    return Claim(
        f"{name} held exactly {confirmed:,} Ready messages before a consumer started.",
        held=ready == confirmed,
        found=f"{name} held {ready:,} Ready messages before a consumer started, not the "
        f"{confirmed:,} that were confirmed.",
    )


def empty_claim(name: str, left: int | None) -> Claim:
    """Return the claim that nothing is left in a queue."""
    return Claim(
        f"{name} was empty at the end.",
        held=left == 0,
        found=f"{name} still held {'nobody knows how many' if left is None else f'{left:,}'} "
        "messages at the end.",
    )


def same_claim(
    sources: Iterable[Source], work: QueueReceipts | None, audit: QueueReceipts | None
) -> Claim | None:
    """Return the claim that both queues had the same messages; None when one was not read."""
    if work is None or audit is None:
        return None
    differ = sum(len(work.of(source).seen ^ audit.of(source).seen) for source in sources)
    return Claim(
        "The audit queue had the same messages as the work queue.",
        held=not differ,
        found=f"{differ:,} messages were in only one of work and audit queue.",
    )


def deliveries(receipts: QueueReceipts) -> int:
    """Return how many messages one pass over a stream saw."""
    named = sum(
        one.fresh.total + one.redelivered.total + one.corrupt_copies
        for one in receipts.by_source.values()
    )
    return named + receipts.foreign + receipts.corrupt_nameless


def environment(scenario: Scenario, place: Place, server: Mapping[str, Any]) -> dict[str, Any]:
    """Return versions, topology and workload, ready for JSON."""
    topology, work = place.topology, scenario.workload
    return {
        "rabbitmq": safe(str(server.get("version", "?"))),
        "erlang": safe(str(server.get("platform", "?"))).removeprefix("Erlang/OTP "),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "broker": place.where,
        "topology": {
            "exchange": topology.exchange,
            "routing_key": topology.routing_key,
            "queues": {
                place.logical[queue.name]: {
                    "type": queue.kind,
                    "durable": queue.durable,
                    "lazy": queue.lazy,
                    "bound": queue.bound,
                    "arguments": dict(queue.extra),
                }
                for queue in topology.queues
            },
        },
        "workload": {
            "producers": work.producers,
            "consumers": work.consumers,
            "confirms": work.confirms,
            "mandatory": work.mandatory,
            "persistent": scenario.persistent,
            "consume": work.consume,
            "acks": work.acks,
            "prefetch": work.prefetch,
            "window": work.window,
            "size": work.size,
        },
        **({} if scenario.seed is None else {"seed": scenario.seed}),
    }


def not_tested(
    scenario: Scenario, evidence: Mapping[str, QueueEvidence], *, private: bool
) -> tuple[str, ...]:
    """Return what a run says nothing about, in whole sentences."""
    out = []
    names = {fault.name for fault in scenario.faults}
    if names & {"broker-kill", "leader-kill", "node-kill"}:
        out.append(
            "A killed process is no power loss: what the kernel held was still written to the disk."
        )
    else:
        out.append("The broker was not killed, and the machine did not lose its power.")
    if any(queue.kind in {"classic", "stream"} for queue in evidence.values()):
        out.append(
            "A confirm of a classic queue or a stream does not wait for the disk (fsync); only a "
            "power loss would show the difference."
        )
    if scenario.has(needs="proxy"):
        out.append("The network was broken by a proxy on one machine; a real one has more ways.")
    elif private and "partition" not in names:
        out.append("One machine is no network: nothing was delayed, cut off or partitioned.")
    elif not private:
        out.append("The network of this broker was not disturbed.")
    if private and scenario.cluster.nodes == 1:
        out.append("One node is no cluster: no leader changed and no replica was lost.")
    elif private:
        out.append("All nodes had one machine and one disk; real ones fail apart.")
    else:
        out.append("The nodes of this broker were not disturbed.")
    out.append("What was not seen in a run of this length may still happen in a longer one.")
    return tuple(out)
