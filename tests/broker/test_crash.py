"""The broker killed with -9 in the middle: nothing that was confirmed is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.model import Advanced, Note
from support import consumer, drive, producer, ready

if TYPE_CHECKING:
    from rabbitproof.broker.node import Node


def test_a_producer_survives_a_killed_broker(private_node: Node) -> None:
    """It reconnects, sends what was in doubt again, and ends with everything confirmed."""
    drive(producer(private_node.url, 1))
    private_node.settle()  # a queue that was just declared is not on disk yet
    sending = producer(private_node.url, 40_000, purge=True)
    notes = []
    killed = False
    for event in sending.run():
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Advanced) and event.done >= 15_000 and not killed:
            killed = True
            private_node.kill()
            private_node.start_again()
    end = sending.summary()
    assert (end.published, end.in_doubt, end.nacked) == (40_000, 0, 0)
    assert end.resent > 0
    assert any("Reconnecting" in note for note in notes)
    for queue in ("work.queue", "audit.queue"):
        reading = consumer(private_node.url, queue, expect=40_000, drain=True, idle_timeout=5)
        got = drive(reading)
        assert (got.unique, got.corrupt, got.foreign) == (40_000, 0, 0)
        (receipts,) = reading.receipts.by_source.values()
        assert not sending.outcomes.confirmed - receipts.seen
        # Only what was sent twice may have come twice.
        assert receipts.fresh.extra() == receipts.fresh.extra(sending.outcomes.resent)


def test_a_consumer_survives_a_killed_broker(private_node: Node) -> None:
    """It reconnects and goes on; what was unacknowledged comes again, nothing is missing."""
    drive(producer(private_node.url, 40_000, purge=True))
    private_node.settle()
    reading = consumer(private_node.url, expect=40_000, drain=True, idle_timeout=10)
    killed = False
    for event in reading.run():
        if isinstance(event, Advanced) and event.done >= 10_000 and not killed:
            killed = True
            private_node.kill()
            private_node.start_again()
    end = reading.summary()
    assert (end.unique, end.missing, end.corrupt) == (40_000, 0, 0)
    assert end.redelivered > 0
    assert ready(private_node.url, "work.queue") == 0
