"""The consumer behind the window: what it acknowledges and when, and what comes back."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.address import parse
from rabbitproof.amqp.connection import open_connection
from rabbitproof.work.consume import Task
from rabbitproof.work.inbox import Messages
from rabbitproof.work.recorder import LedgerRecorder
from rabbitproof.work.window import Receiver
from support import connector, drive, eventually, poisoned, producer, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rabbitproof.amqp.connection import Connection


@contextmanager
def receiving(
    url: str, *, by_hand: bool = False, prefetch: int = 100, keep: int = 1000, **settings: Any
) -> Iterator[Receiver]:
    task = Task(queue="work.queue", name="Window-1", prefetch=prefetch)
    receiver = Receiver(task, connector(url), Messages(keep, by_hand=by_hand), **settings)
    receiver.open()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.close()
    assert receiver.failure is None


def states(receiver: Receiver, numbers: range) -> list[str]:
    return [row.state for row in receiver.messages.rows(numbers) if row]


def test_what_was_shown_is_acknowledged_and_the_rest_stays_in_the_queue(vhost: Any) -> None:
    drive(producer(vhost.url, 300, topology=topology(audit=None)))
    with receiving(vhost.url) as receiver:
        eventually(lambda: receiver.messages.last == 100, "the prefetch is full")
        assert receiver.messages.unacked == 100
        receiver.shown(60)
        eventually(lambda: receiver.messages.last == 160, "what was shown makes room")
        assert states(receiver, range(59, 63)) == ["acked", "acked", "unacked", "unacked"]
        eventually(lambda: receiver.counts.acked == 60, "it is counted")
    assert receiver.returned == 100
    assert ready(vhost.url, "work.queue") == 240
    assert receiver.summary().unique == 160


def test_by_hand_each_answer_does_what_it_says(vhost: Any) -> None:
    drive(producer(vhost.url, 10, topology=topology(audit=None)))
    with receiving(vhost.url, by_hand=True) as receiver:
        eventually(lambda: receiver.messages.last == 10, "all are here")
        receiver.shown(10)
        receiver.answer("ack", [2, 4])
        receiver.answer("reject", [3])
        receiver.answer("requeue", [1, 2])  # 2 has its answer already
        eventually(lambda: receiver.counts.received == 11, "what was requeued comes again")
        assert states(receiver, range(1, 6)) == [
            "requeued", "acked", "rejected", "acked", "unacked",
        ]  # fmt: skip
        (again,) = receiver.messages.rows([11])
        assert again is not None
        assert (again.n, again.redelivered) == ("1", True)
        receiver.answer("ack", range(1, 12))  # all that is left, at once
        eventually(lambda: receiver.messages.unacked == 0, "all are answered")
        counts = eventually(lambda: receiver.counts if receiver.counts.acked else None, "counted")
        assert (counts.requeued, counts.rejected, counts.acked) == (1, 1, 9)
    (got,) = receiver.receipts.by_source.values()
    assert list(got.rejected) == [3], "its ledger knows that nobody handled it"
    assert receiver.returned == 0
    assert ready(vhost.url, "work.queue") == 0


def test_a_queue_that_is_deleted_is_waited_for(vhost: Any) -> None:
    drive(producer(vhost.url, 5, topology=topology(audit=None)))
    with receiving(vhost.url, by_hand=True) as receiver:
        eventually(lambda: receiver.messages.last == 5, "all are here")
        with witness(vhost.url) as channel:
            channel.queue_delete("work.queue")
        eventually(lambda: receiver.link.phase == "no queue", "it notices")
        assert states(receiver, range(1, 6)) == ["returned"] * 5
        receiver.answer("ack", [1])  # too late, and no crash
        eventually(lambda: "any more" in receiver.link.text, "it looks for the queue")
        drive(producer(vhost.url, 3, topology=topology(audit=None)))
        eventually(lambda: receiver.messages.last == 8, "it goes on")
        assert receiver.link.phase == "connected"


def test_a_missing_queue_is_made(vhost: Any) -> None:
    with receiving(vhost.url) as receiver:
        assert "durable one was created" in receiver.notes[0]
        assert ready(vhost.url, "work.queue") == 0


def test_others_on_the_queue_make_missing_unknown(vhost: Any) -> None:
    drive(producer(vhost.url, 40, topology=topology(audit=None)))
    with receiving(vhost.url, prefetch=20) as first:
        eventually(lambda: first.messages.last == 20, "the first has its share")
        with receiving(vhost.url, prefetch=20) as second:
            eventually(lambda: second.messages.last == 20, "the second has the rest")
            assert second.counts.missing is None


def test_a_ledger_is_kept_and_ends_with_the_brokers_count(vhost: Any, tmp_path: Path) -> None:
    from files import read_all

    drive(producer(vhost.url, 50, topology=topology(audit=None)))
    with receiving(vhost.url, prefetch=30, recorder=LedgerRecorder(tmp_path)) as receiver:
        eventually(lambda: receiver.messages.last == 30, "the prefetch is full")
        receiver.shown(10)
        eventually(lambda: receiver.messages.last == 40, "it goes on")
    (record,) = read_all(tmp_path)
    assert record.receipts is not None
    assert record.receipts.unique == 40
    assert record.end is not None
    assert record.end.counts == {"work.queue": 40}


@pytest.mark.usefixtures("strict")
def test_what_can_not_be_read_is_asked_for_less_and_less_often(vhost: Any) -> None:
    """The same messages come on each connection, so none of them is progress."""
    poisoned(vhost.url, "work.queue")
    asked: list[float] = []
    with receiving(vhost.url) as receiver:
        connect = receiver._connect

        def counted() -> Connection:
            asked.append(time.monotonic())
            return connect()

        receiver._connect = counted
        eventually(lambda: len(asked) >= 6, "it tries again and again")
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert min(gaps) > 0.099
    assert gaps[4] > 0.6


@pytest.mark.slow
def test_a_broker_that_restarts_is_found_again(private_node: Any) -> None:
    url = private_node.url
    drive(producer(url, 100, topology=topology(audit=None)))
    with receiving(url, by_hand=True) as receiver:
        eventually(lambda: receiver.messages.last == 100, "all are here")
        receiver.shown(100)
        private_node.kill()
        eventually(lambda: receiver.link.phase == "broken", "it notices")
        private_node.start_again()
        eventually(lambda: receiver.messages.last == 200, "all come again", 60)
        assert set(states(receiver, range(1, 101))) == {"returned"}
        assert all(row.redelivered for row in receiver.messages.rows(range(101, 201)) if row)


def test_a_wait_ends_when_it_is_woken(vhost: Any) -> None:
    with open_connection(parse(vhost.url), "test") as connection:
        wake = connection.waker()
        began = time.monotonic()
        threading.Timer(0.1, wake).start()
        assert connection.wait(20.0) == []
        assert time.monotonic() - began < 10
    wake()  # of a closed one: harmless
