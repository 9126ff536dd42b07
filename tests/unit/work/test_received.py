"""What a consumer makes of messages that only look like ours, or that somebody sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from pamqp import commands

from rabbitproof.amqp.deliveries import Batch, DeliveryReader
from rabbitproof.identity import Source, checksum, message_id
from rabbitproof.proof.evidence import QueueEvidence
from rabbitproof.proof.verdict import judge
from rabbitproof.work.consume import Consumer, Task
from wire import delivery

if TYPE_CHECKING:
    from rabbitproof.proof.ledger import QueueReceipts

SOURCE = Source("0a1b2c3d4e5f", 1)
BODY = b'{"n":1}'
OURS: dict[str, Any] = {"host": "h", "sent_ns": 1_700_000_000_000_000_000}


def properties(n: int = 1, body: bytes = BODY, **headers: Any) -> commands.Basic.Properties:
    """Those of a whole message of ours; ``headers`` are added."""
    name = message_id(SOURCE, n)
    stated = checksum(name.encode(), body).decode()
    return commands.Basic.Properties(
        message_id=name,
        app_id="rabbitmq.producer",
        headers={"checksum": stated, **OURS, **headers},
    )


def received(*sent: tuple[commands.Basic.Properties, bytes], whole: bool = False) -> QueueReceipts:
    """What a consumer wrote down of these, which came one after another."""

    def nowhere() -> Any:
        raise AssertionError("nobody connects here")

    consumer = Consumer(Task("work.queue"), nowhere)
    raw = b"".join(
        b"".join(delivery(one, body, tag=tag)) for tag, (one, body) in enumerate(sent, 1)
    )
    reader = DeliveryReader(131_072)
    reader.whole = whole
    found, _, _ = reader.read(raw, 0)
    for event in found:
        take = consumer._batch if isinstance(event, Batch) else consumer._single
        for _ in take(event):  # type: ignore[arg-type]  # each takes what it is given
            pass
    return consumer.receipts


BOTH_WAYS = pytest.mark.parametrize("whole", [False, True], ids=["in a batch", "alone"])

STRANGERS = {
    "a sha256 and no id": commands.Basic.Properties(headers={"checksum": "9f86d081884c7d659a2f"}),
    "a crc of the body and a uuid": commands.Basic.Properties(
        message_id=str(UUID(int=0xB0B0B0B0_1111_4222_8333_444455556666)),
        headers={"checksum": "deadbeef"},
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("who", STRANGERS)
def test_who_calls_a_header_as_we_do_is_foreign_and_not_damaged(who: str, whole: bool) -> None:
    got = received((STRANGERS[who], b"test"), whole=whole)
    assert (got.foreign, got.corrupt) == (1, 0)


@BOTH_WAYS
@pytest.mark.parametrize("rest", ["app_id", "headers", "id"])
def test_what_has_more_of_our_shape_is_damaged(rest: str, whole: bool) -> None:
    """An id that names nobody, or a body that was altered."""
    one = properties()
    if rest != "id":
        one.message_id = "x" * 36
    if rest != "app_id":
        one.app_id = None
    if rest != "headers":
        one.headers = {"checksum": one.headers["checksum"]}  # type: ignore[index]  # set above
    got = received((one, b"altered"), whole=whole)
    assert (got.foreign, got.corrupt) == (0, 1)


MARKS: dict[str, Any] = {
    "rabbitproof_replayed_ns": 1,
    "rabbitproof_retries": 2,
    "x-death": [{"queue": "work.queue", "reason": "expired", "count": 1}],
}


@BOTH_WAYS
@pytest.mark.parametrize("mark", MARKS)
def test_a_copy_that_somebody_sent_again_is_not_the_brokers_fault(mark: str, whole: bool) -> None:
    """It comes as a first copy, and behind a later message."""
    again = properties(1, **{mark: MARKS[mark]})
    got = received((properties(1), BODY), (properties(2), BODY), (again, BODY), whole=whole)
    verdict = judge_one(got)
    queue = verdict.queues["q"]
    assert (queue.duplicates_resent, queue.duplicates_unflagged, queue.reordered) == (1, 0, 0)
    assert str(verdict.decision) == "PASS"


def test_a_marked_copy_that_comes_first_puts_no_message_behind_it() -> None:
    marked = properties(2, rabbitproof_replayed_ns=1)
    got = received((marked, BODY), (properties(1), BODY), (properties(2), BODY))
    assert judge_one(got).queues["q"].reordered == 0


def test_without_a_mark_it_is() -> None:
    verdict = judge_one(received(*[(properties(n), BODY) for n in (1, 2, 1)]))
    assert verdict.queues["q"].duplicates_unflagged == 1


def judge_one(got: QueueReceipts) -> Any:
    """The verdict over two messages that were sent once, of which these came."""
    from rabbitproof.proof.ledger import Outcomes

    outcomes = Outcomes(SOURCE)
    outcomes.attempt(range(1, 3))
    outcomes.confirm(range(1, 3))
    evidence = QueueEvidence("q", "classic", got, left=0, drained=True, consumers=1)
    return judge([outcomes], {"q": evidence})
