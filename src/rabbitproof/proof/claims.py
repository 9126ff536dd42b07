"""What a scenario claims of a run, held against what its files say.

Pure: no I/O, no clock. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rabbitproof.proof import ends
from rabbitproof.proof.verdict import Claim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rabbitproof.proof.evidence import QueueEvidence
    from rabbitproof.proof.history import Plan
    from rabbitproof.proof.ledger import Outcomes
    from rabbitproof.proof.run import Run


def claims(
    run: Run, outcomes: Sequence[Outcomes], queues: Mapping[str, QueueEvidence], *, whole: bool
) -> list[Claim]:
    """Return what was claimed, and whether it held.

    Unless all files are ``whole``, what speaks against a claim may be what they lack.
    """
    if run.history is None:
        return []
    plan = run.history.plan
    whole = whole and not any(queue.unsaid for queue in queues.values())
    found = [
        *(_ready(run, outcomes) if plan.claims.ready_before else ()),
        *(_empty(run, queues) if plan.claims.empties and plan.consumed else ()),
        *(_same(run, outcomes, queues) if plan.claims.audit_equals_work else ()),
    ]
    return [one if whole or one.held is not False else _open(one) for one in found]


def _open(claim: Claim) -> Claim:
    told = claim.found.removesuffix(".")
    return replace(claim, held=None, found=f"{told}, as far as the files here tell.")


def _ready(run: Run, outcomes: Sequence[Outcomes]) -> Iterator[Claim]:
    """Say whether all queues held exactly what was confirmed before anybody consumed."""
    confirmed = sum(len(ledger.wanted) for ledger in outcomes)
    for name, queue in run.queues.items():
        ready = None if run.history is None else ends.held(queue, run.history, "consumer")
        yield Claim(
            f"{name} held exactly {confirmed:,} Ready messages before a consumer started.",
            None if ready is None else ready == confirmed,
            f"Nobody counted {name} before a consumer started."
            if ready is None
            else f"{name} held {ready:,} Ready messages before a consumer started, not the "
            f"{confirmed:,} that were confirmed.",
        )


def _empty(run: Run, queues: Mapping[str, QueueEvidence]) -> Iterator[Claim]:
    """Say whether nothing is left in the work queue."""
    name = run.of_role("work")
    if name is not None:
        left = queues[name].left
        yield Claim(
            f"{name} was empty at the end.",
            None if left is None else left == 0,
            f"Nobody could count {name} at the end."
            if left is None
            else f"{name} still held {left:,} messages at the end.",
        )


def _same(
    run: Run, outcomes: Sequence[Outcomes], queues: Mapping[str, QueueEvidence]
) -> Iterator[Claim]:
    """Say whether both queues had the same messages."""
    names = [run.of_role("work"), run.of_role("audit")]
    got = [queues[name].receipts for name in names if name is not None]
    if len(got) < 2:  # there is no audit queue
        return
    work, audit = got
    text = "The audit queue had the same messages as the work queue."
    if work is None or audit is None:
        yield Claim(text, None, "Nobody's ledger says what came from both queues.")
        return
    differ = sum(
        len(work.of(one.source).seen ^ audit.of(one.source).seen)
        for one in {one.source: one for one in outcomes}.values()
    )
    yield Claim(text, not differ, f"{differ:,} messages were in only one of work and audit queue.")


def unfired(run: Run, fired: Sequence[str]) -> list[str]:
    """Return which of the planned faults did not happen, each as often as it did not.

    A history that is cut may lack what it says of them.
    """
    history = run.history
    plan: Plan | None = None if history is None or history.cut is not None else history.plan
    left = list(fired)
    out = []
    for name in plan.faults if plan is not None else ():
        if name in left:
            left.remove(name)
        else:
            out.append(name)
    return out
