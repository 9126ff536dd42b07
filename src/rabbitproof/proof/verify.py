"""The verdict of a folder: the ledgers of a run, from one host or several, days later.

Find the files (``folder``), choose the run (``run``), see how far each ledger can be trusted
(``whole``) and what it says of each queue (``queues``), judge (``verdict``), tell it (``result``).

Refuses to show (``view``) and to ask a broker: there may be none any more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rabbitproof.proof.folder import gather
from rabbitproof.proof.queues import evidence
from rabbitproof.proof.result import result
from rabbitproof.proof.run import chosen
from rabbitproof.proof.verdict import Claim, judge
from rabbitproof.proof.whole import gaps, missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.model import TrialResult
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.run import Run


def verify(folders: Sequence[Path], run: str | None = None) -> TrialResult:
    """Judge a run by its ledgers alone; ``run`` chooses where there are several.

    Raise UsageError where it can't be known which run is meant, and LedgerFailed for files that
    can't be read.
    """
    found = gather(folders)
    return judged(found, chosen(found, run))


def judged(found: Folder, run: Run) -> TrialResult:
    """Judge one run of what was found."""
    manifest = run.manifest
    verdict = judge(
        [one.outcomes for one in run.producers if one.outcomes is not None],
        {logical: evidence(run, logical) for logical in run.queues},
        [
            Claim(str(one["text"]), one["held"], str(one.get("found", "")))
            for one in (manifest.claims if manifest else ())
        ],
        missing=missing(found, run),
        gaps=gaps(found, run),
        unfired=[one["name"] for one in (manifest.faults if manifest else ()) if not one["fired"]],
        permits=manifest.permits if manifest else (),
        others=manifest is None,
    )
    notes = (*verdict.notes, *(one.torn for one in run.everybody if one.torn), *found.notes)
    return result(run, replace(verdict, notes=notes))
