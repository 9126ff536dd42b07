"""What audit and work copies lack, and when nothing can be said."""

from pathlib import Path
from typing import Any

import pytest

from rabbitproof.identity import Source, message_id
from rabbitproof.model import Decision
from rabbitproof.proof.journal import Header, Record
from rabbitproof.proof.ledger import Outcomes, QueueReceipts
from rabbitproof.work.audit_check import NAMED, compare

SOURCE = Source("0a1b2c3d4e5f", 1)
QUEUES = {"queues": [{"name": "w", "role": "work"}, {"name": "a", "role": "audit"}]}


def producer(confirmed: range) -> Record:
    outcomes = Outcomes(SOURCE)
    outcomes.attempt(confirmed)
    outcomes.confirm(confirmed)
    header = Header("producer", SOURCE.run, 1, "p", "h", 1, 0, "", topology=QUEUES)
    return Record(Path("p"), header, outcomes, None)


def consumer(queue: str, seen: Any, left: int | None = 0) -> Record:
    receipts = QueueReceipts()
    receipts.of(SOURCE).add(seen, redelivered=False)
    header = Header("consumer", "", 0, queue, "h", 1, 0, queue)
    return Record(Path(queue), header, None, receipts, counts={queue: left})


FULL = range(1, 101)


@pytest.mark.parametrize(
    ("records", "decision", "lacks"),
    [
        ([producer(FULL), consumer("w", FULL), consumer("a", FULL)], Decision.PASS, (0, 0)),
        ([producer(FULL), consumer("w", FULL), consumer("a", range(1, 98))], Decision.FAIL, (0, 3)),
        ([producer(FULL), consumer("w", range(5, 101)), consumer("a", FULL)],
         Decision.FAIL, (4, 0)),
        ([producer(FULL), consumer("w", FULL), consumer("a", range(1, 98), 3)],
         Decision.UNKNOWN, (0, 3)),
        ([producer(FULL), consumer("w", FULL), consumer("a", range(1, 98), None)],
         Decision.UNKNOWN, (0, 3)),
        ([producer(FULL), consumer("w", FULL)], Decision.UNKNOWN, (0, 100)),
        ([producer(range(1, 102)), consumer("w", FULL), consumer("a", FULL)],
         Decision.FAIL, (1, 1)),
        ([producer(FULL), consumer("w", range(1, 51)), consumer("w", range(51, 101)),
          consumer("a", FULL)], Decision.PASS, (0, 0)),
        ([], Decision.UNKNOWN, (0, 0)),
    ],
)  # fmt: skip
def test_what_each_side_lacks(
    records: list[Record], decision: Decision, lacks: tuple[int, int]
) -> None:
    found = compare(records)
    assert (found.work.lacks, found.audit.lacks) == lacks
    assert found.decision is decision
    assert bool(found.reasons) == (decision is not Decision.PASS)


def test_without_a_producer_the_queues_have_to_be_named() -> None:
    records = [consumer("w", FULL), consumer("a", range(1, 51))]
    assert compare(records).decision is Decision.UNKNOWN
    named = compare(records, "w", "a")
    assert (named.decision, named.confirmed) == (Decision.FAIL, None)
    assert named.audit.lacks_ids == tuple(message_id(SOURCE, n) for n in range(51, 51 + NAMED))
