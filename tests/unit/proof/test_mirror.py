"""``audit check`` says what ``verify`` says, and what each of the two queues lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import convert

from files import OTHER, RUN, SECOND, consumed, header, produced
from rabbitproof.errors import UsageError
from rabbitproof.identity import Source, message_id
from rabbitproof.proof.entries import End
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.mirror import NAMED, check
from rabbitproof.proof.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

CLASSIC = {"type": "classic"}
QUEUES = [
    {"name": "work.queue", "role": "work", "effective": CLASSIC},
    {"name": "trail", "role": "audit", "effective": CLASSIC},
]
TOPOLOGY = {"vhost": "/", "queues": QUEUES}
ALL = range(1, 101)


def sent(folder: Path, **values: Any) -> Path:
    values = {"numbers": ALL, "confirmed": ALL, "topology": TOPOLOGY} | values
    return produced(folder, **values)


def both(folder: Path, work: Any = ALL, audit: Any = ALL, **values: Any) -> None:
    consumed(folder, "w", numbers=work, **values)
    consumed(folder, "a", numbers=audit, queue="trail", pid=2, **values)


def kinds(kind: str) -> dict[str, Any]:
    return {"queues": [queue | {"effective": {"type": kind}} for queue in QUEUES]}


@pytest.mark.parametrize(
    ("work", "audit", "decision", "lacks"),
    [
        (ALL, ALL, "PASS", (0, 0)),
        (ALL, range(1, 98), "FAIL", (0, 3)),
        (range(5, 101), ALL, "FAIL", (4, 0)),
        (range(1, 98), range(1, 98), "FAIL", (3, 3)),
    ],
)
def test_what_each_side_lacks(
    tmp_path: Path, work: range, audit: range, decision: str, lacks: tuple[int, int]
) -> None:
    sent(tmp_path)
    both(tmp_path, work, audit)
    found = check([tmp_path])
    assert (str(found.decision), found.work.lacks, found.audit.lacks) == (decision, *lacks)
    assert bool(found.reasons) == (decision != "PASS")
    assert (found.run, found.confirmed, found.work.seen) == (RUN, 100, len(work))


def test_a_queue_that_nobody_read_leaves_it_open(tmp_path: Path) -> None:
    sent(tmp_path)
    consumed(tmp_path, numbers=ALL)
    found = check([tmp_path])
    assert str(found.decision) == "UNKNOWN"
    assert "No consumer of 'trail' left a ledger" in " ".join(found.reasons)


def test_several_consumers_are_one_side_and_ids_are_named(tmp_path: Path) -> None:
    sent(tmp_path)
    both(tmp_path, range(1, 51), range(1, 51))
    consumed(tmp_path, "w2", numbers=range(51, 101), pid=3)
    found = check([tmp_path])
    assert (found.work.lacks, found.audit.lacks) == (0, 50)
    ids = tuple(message_id(Source(RUN, 1), n) for n in range(51, 51 + NAMED))
    assert found.audit.lacks_ids == ids


def test_a_queue_that_no_ledger_gives_a_role_can_be_named(tmp_path: Path) -> None:
    sent(tmp_path, topology={"vhost": "/", "queues": QUEUES[:1]})
    both(tmp_path, ALL, range(1, 98))
    assert "name it with --audit-queue" in " ".join(check([tmp_path]).reasons)
    found = check([tmp_path], audit="trail")
    assert (str(found.decision), found.audit.lacks) == ("UNKNOWN", 3), "its type is not known"


# --- where it was another, weaker judge -------------------------------------------------------


def test_what_was_confirmed_after_the_queues_were_empty_is_not_lacking(tmp_path: Path) -> None:
    sent(tmp_path, end=60, left=50)
    both(tmp_path, range(1, 51), range(1, 51))
    agree(tmp_path, "UNKNOWN")


def test_a_quorum_queue_whose_zero_nobody_seconds_is_not_empty(tmp_path: Path) -> None:
    sent(tmp_path, topology={"vhost": "/", **kinds("quorum")})
    both(tmp_path, ALL, range(1, 51))
    agree(tmp_path, "UNKNOWN")


def test_a_damaged_producers_ledger_is_no_pass(tmp_path: Path) -> None:
    path = sent(tmp_path, numbers=range(1, 51), confirmed=range(1, 51))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    both(tmp_path, range(1, 51), range(1, 51))
    agree(tmp_path, "UNKNOWN")


def test_a_damaged_copy_is_a_fail(tmp_path: Path) -> None:
    sent(tmp_path)
    consumed(tmp_path, "w", numbers=ALL)
    with Journal.create(
        tmp_path, "consumer-d", header("consumer", "d", queue="trail", pid=2)
    ) as journal:
        got = journal.receipts().of(Source(RUN, 1))
        got.add(ALL, redelivered=False)
        got.add_corrupt(5)
        at = journal.header.started_ns + 20 * SECOND
        journal.end(convert({"t_ns": at, "counts": {"trail": 0}, "consumers": {"trail": 0}}, End))
    agree(tmp_path, "FAIL")


def test_yesterdays_copies_are_not_of_this_run(tmp_path: Path) -> None:
    sent(tmp_path)
    both(tmp_path)
    consumed(tmp_path, "old", queue="trail", numbers=ALL, source=Source(OTHER, 1), run=RUN, pid=9)
    found = agree(tmp_path, "PASS")
    assert found.work.lacks == 0


def test_of_two_runs_one_is_chosen(tmp_path: Path) -> None:
    sent(tmp_path)
    both(tmp_path)
    produced(tmp_path, "q", run=OTHER, pid=5, topology=TOPOLOGY)
    with pytest.raises(UsageError, match="Choose one with --run"):
        check([tmp_path])
    assert check([tmp_path], RUN).run == RUN


def agree(folder: Path, decision: str) -> Any:
    """Both give this."""
    found = check([folder])
    assert str(verify([folder]).verdict.decision) == str(found.decision) == decision, found
    return found
