"""The verdict of a folder: the ledgers of a run and its history, from one host or several.

Find the files (``folder``), choose the run (``run``), see how far each can be trusted (``whole``),
what they say of each queue (``queues``) and of what was claimed (``claims``), judge (``verdict``),
tell it (``result``). This is the only way to a verdict: whoever carries out a run writes a folder.

Refuses to show (``view``) and to ask a broker: there may be none any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rabbitproof.proof.books import lost_ids
from rabbitproof.proof.claims import claims, unfired
from rabbitproof.proof.folder import gather
from rabbitproof.proof.history import Broke
from rabbitproof.proof.ledger import one_each
from rabbitproof.proof.queues import evidence
from rabbitproof.proof.result import result
from rabbitproof.proof.run import chosen
from rabbitproof.proof.verdict import judge
from rabbitproof.proof.whole import gaps, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rabbitproof.model import TrialResult
    from rabbitproof.proof.evidence import QueueEvidence
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.ledger import Outcomes
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and what it was made of."""

    result: TrialResult
    outcomes: list[Outcomes]
    queues: dict[str, QueueEvidence]
    """By logical name."""

    def lost(self) -> dict[str, Iterator[str]]:
        """Return the ids of all that was lost, by the logical name of the queue."""
        return {name: lost_ids(self.outcomes, queue) for name, queue in self.queues.items()}


def verify(folders: Sequence[Path], run: str | None = None) -> TrialResult:
    """Judge a run by its folder alone; ``run`` chooses where there are several.

    Raise UsageError where it can't be known which run is meant, or where there is none, and
    LedgerFailed for files that can't be read.
    """
    return examine(folders, run).result


def examine(folders: Sequence[Path], run: str | None = None) -> Judged:
    """Do the same, and keep what the verdict was made of."""
    found = gather(folders)
    return judged(found, chosen(found, run))


def judged(found: Folder, run: Run) -> Judged:
    """Judge one run of what was found."""
    history = run.history
    outcomes = one_each(_told(one, one.outcomes) for one in run.producers if one.outcomes)
    queues = {logical: evidence(run, logical) for logical in run.queues}
    absent, cut = missing(found, run), gaps(found, run)
    whole = not (absent or cut.producers or cut.consumers)
    claimed = claims(run, outcomes, queues, whole=whole)
    broke = [one.record for one in history.of(Broke)] if history is not None else []
    verdict = judge(
        outcomes,
        queues,
        claimed,
        missing=absent,
        gaps=cut,
        unfired=unfired(run, [one.name for one in broke if one.fired]),
        permits=history.plan.claims.permits if history is not None else (),
        others=history is None,
    )
    notes = (*verdict.notes, *(one.torn for one in run.everybody if one.torn), *found.notes)
    return Judged(result(run, replace(verdict, notes=notes), claimed), outcomes, queues)


def _told(one: Record, outcomes: Outcomes) -> Outcomes:
    """Return what became of a producer's messages.

    One that asked for no confirms and has no end may have died between writing a number down and
    sending it: all of it is in doubt, as without an answer.
    """
    return outcomes if one.ended else replace(outcomes, unsure=outcomes.attempted)
