import itertools
from typing import Any

import pytest
from pamqp import commands

from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.work.inbox import CORRUPT, FOREIGN, Messages
from wire import delivery, header_payload, opened_session

ID = "0a1b2c3d-4e5f-8001-8000-{:012x}"


def foreign(body: bytes, **properties: Any) -> Delivery:
    header = header_payload(commands.Basic.Properties(**properties), len(body))
    return Delivery(1, b"worker", 1, False, b"exchange", b"key", header, body)


def add(inbox: Messages, count: int, size: int = 10) -> None:
    for _ in range(count):
        inbox.take_one(foreign(b"x" * size), 1.0, FOREIGN)


def numbers(inbox: Messages) -> list[int]:
    single, span = inbox.span()
    return [*single, *span]


def batch_of(bodies: list[bytes]) -> Batch:
    """A batch as the reader makes it, heads and all."""
    session = opened_session()
    session.keep_heads()
    frames = [
        delivery(
            commands.Basic.Properties(
                message_id=ID.format(i),
                app_id="rabbitmq.producer",
                headers={"producer_id": "alice", "checksum": "00000000"},
            ),
            body,
            tag=i,
            exchange="direct.exchange",
            routing_key="work",
        )
        for i, body in enumerate(bodies, 1)
    ]
    (batch,) = session.receive(b"".join(itertools.chain(*frames)))
    assert isinstance(batch, Batch)
    return batch


def test_a_batch_keeps_all_that_its_messages_have() -> None:
    inbox = Messages(100, by_hand=False)
    bodies = [b'{"n": %d, "text": "hi %d"}' % (i, i) for i in range(1, 8)]
    inbox.take(batch_of(bodies), 5.0, [2])
    rows = inbox.rows(range(1, 9))
    assert rows[7] is None
    assert [(row.n, row.text, row.sender) for row in rows[:7] if row] == [
        (str(i), f"hi {i}", "alice") for i in range(1, 8)
    ]
    assert [row.corrupt for row in rows[:7] if row] == [i == 2 for i in range(7)]
    message = inbox.message(7)
    assert message is not None
    assert (message.exchange, message.routing_key) == ("direct.exchange", "work")
    assert message.properties == {"message_id": ID.format(7), "app_id": "rabbitmq.producer"}
    assert message.headers["producer_id"] == "alice"
    assert message.body == bodies[6]
    assert (message.arrived, message.state, message.foreign) == (5.0, "unacked", False)


def test_the_last_messages_are_kept_once_they_were_shown() -> None:
    inbox = Messages(10, by_hand=False)
    add(inbox, 25)
    assert numbers(inbox) == list(range(1, 26))
    inbox.shown(25)
    assert numbers(inbox) == list(range(16, 26))
    add(inbox, 5)
    assert numbers(inbox) == list(range(16, 31))
    inbox.shown(30)
    assert numbers(inbox) == list(range(21, 31))
    assert inbox.message(20) is None


def test_bytes_are_bounded_too_and_the_newest_stays() -> None:
    inbox = Messages(1000, by_hand=False, room=100_000)
    for last in range(1, 11):
        add(inbox, 1, size=30_000)
        inbox.shown(last)
    assert numbers(inbox) == [8, 9, 10]
    add(inbox, 1, size=500_000)
    inbox.shown(11)
    assert numbers(inbox) == [11]
    newest = inbox.message(11)
    assert newest is not None
    assert newest.body is not None


def test_what_was_not_shown_yet_loses_its_body_before_its_row() -> None:
    inbox = Messages(1000, by_hand=False, room=100_000)
    add(inbox, 10, size=30_000)
    assert numbers(inbox) == list(range(1, 11))
    (row,) = inbox.rows([1])
    assert row is not None
    assert row.size == 30_000
    first, last = inbox.message(1), inbox.message(10)
    assert first is not None
    assert last is not None
    assert (first.body, first.size) == (None, 30_000)
    assert last.body == b"x" * 30_000


def test_by_hand_what_waits_stays_until_it_is_answered() -> None:
    inbox = Messages(3, by_hand=True)
    add(inbox, 4)
    inbox.shown(4)
    inbox.answered(inbox.waiting([2, 3, 99]), "ack")
    for last in range(5, 10):
        add(inbox, 1)
        inbox.answered([last], "reject")
        inbox.shown(last)
    assert numbers(inbox) == [1, 4, 7, 8, 9]
    states = [row.state for row in inbox.rows(numbers(inbox)) if row]
    assert states == ["unacked", "unacked", "rejected", "rejected", "rejected"]
    inbox.answered([1], "requeue")
    assert numbers(inbox) == [4, 7, 8, 9]
    tally = inbox.tally()
    assert (tally.acked, tally.requeued, tally.rejected, tally.unacked) == (2, 1, 5, 1)
    assert inbox.waiting(range(20)) == [4]


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_lost_connection_returns_what_was_not_answered(by_hand: bool) -> None:
    inbox = Messages(10, by_hand=by_hand)
    add(inbox, 4)
    inbox.shown(2)
    if by_hand:
        inbox.answered([1, 2], "ack")
    else:
        inbox.acknowledged(inbox.due())
    inbox.lost()
    states = [row.state for row in inbox.rows([1, 2, 3, 4]) if row]
    assert states == ["acked", "acked", "returned", "returned"]
    assert (inbox.unacked, inbox.tally().returned) == (0, 2)
    add(inbox, 1)
    assert inbox.unacked == 1


def test_it_presses_when_the_window_is_behind() -> None:
    inbox = Messages(10, by_hand=False)
    inbox.press_when(3)
    add(inbox, 2)
    assert not inbox.pressing
    add(inbox, 1)
    assert inbox.pressing
    inbox.shown(3)
    assert not inbox.pressing


def test_clear_leaves_what_waits_for_an_answer() -> None:
    inbox = Messages(10, by_hand=True)
    add(inbox, 5)
    inbox.shown(5)
    inbox.answered([1, 2, 4], "ack")
    inbox.clear(4)
    assert numbers(inbox) == [3, 5]
    inbox.answered([3], "ack")
    assert numbers(inbox) == [5]


def test_a_search_goes_on_where_it_stopped() -> None:
    inbox = Messages(1000, by_hand=False)
    for i in range(1, 101):
        inbox.take_one(foreign(b"odd" if i % 2 else b"even"), 1.0, FOREIGN | (i == 7) * CORRUPT)
    found: list[int] = []
    start = 1
    parts = 0
    while start < 101:
        part = inbox.search("odd", start, 101, 0.0)
        if not part.numbers and part.after == start:
            part = inbox.search("odd", start, 101, 0.01)
        found += part.numbers
        start = part.after
        parts += 1
    assert found == list(range(1, 101, 2))
    assert inbox.search("is:corrupt", 1, 101, 1.0).numbers == [7]
    assert inbox.find("even", 50, -1, 1.0) == (50, 0)
    assert inbox.find("even", 51, 1, 1.0) == (52, 0)
    assert inbox.find("nothing", 100, -1, 1.0) == (None, 0)
    assert inbox.check("is:x") is not None
    assert inbox.check("x") is None


def test_hostile_properties_make_a_row_all_the_same() -> None:
    inbox = Messages(10, by_hand=False)
    broken = Delivery(
        1, b"w", 1, True, b"\xff", b"\xfe", b"\x00\x3c\x00\x00" + b"\xff" * 30, b"\x00"
    )
    inbox.take_one(broken, 1.0, FOREIGN)
    (row,) = inbox.rows([1])
    message = inbox.message(1)
    assert row is not None
    assert row.redelivered
    assert message is not None
    assert message.malformed
