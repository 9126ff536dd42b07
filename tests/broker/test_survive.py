"""Clients whose broker goes away, is silent, or is one of two."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from rabbitproof.address import parse
from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import GivenUp
from rabbitproof.model import Advanced, Disconnected, Note
from support import consumer, drive, producer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Vhost
    from rabbitproof.broker.node import Node


@pytest.fixture
def two(private_node: Node, vhost: Vhost) -> tuple[Node, Vhost]:
    """Two brokers, each of its own; the first may be broken."""
    return private_node, vhost


@contextlib.contextmanager
def paused(node: Node) -> Iterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()


def test_a_paused_broker_ends_in_doubt_and_not_in_a_hang(two: tuple[Node, Vhost]) -> None:
    """It confirms nothing: dropped, tried again to the limit, and each message has an outcome."""
    node = two[0]
    sending = producer(
        node.url, 500_000, purge=True, window=1000, give_up_s=1.0, confirm_timeout_s=0.5
    )
    sending._connect = Dialer(parse(node.url), "test")
    began = 0.0
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        with pytest.raises(GivenUp, match="--give-up-after"):
            for event in sending.run():
                if isinstance(event, Note):
                    notes.append(event.text)
                if isinstance(event, Advanced) and event.done >= 2_000 and not began:
                    began = time.monotonic()
                    stack.enter_context(paused(node))
        took = time.monotonic() - began
    end = sending.summary()
    assert took < 5
    assert end.in_doubt > 0
    assert end.published + end.in_doubt == end.attempted
    assert "answered no publish" in notes[0]


def test_a_producer_goes_on_with_the_other_broker(two: tuple[Node, Vhost]) -> None:
    """The first is paused: within seconds the second has what was in doubt, and the rest."""
    first, second = two
    addresses = parse(f"{first.url},{second.url}")
    sending = producer(first.url, 60_000, purge=True, confirm_timeout_s=0.5)
    sending._connect = Dialer(addresses, "test")
    waits: list[float] = []
    with contextlib.ExitStack() as stack:
        stopped = False
        for event in sending.run():
            if isinstance(event, Disconnected):
                waits.append(event.seconds)
            if isinstance(event, Advanced) and event.done >= 10_000 and not stopped:
                stopped = True
                stack.enter_context(paused(first))
        assert sending._open.address == addresses[1]
    end = sending.summary()
    assert (end.published, end.in_doubt) == (60_000, 0)
    assert max(waits) < 2


def test_a_consumer_notices_a_paused_broker_by_its_heartbeat(two: tuple[Node, Vhost]) -> None:
    """After two seconds of silence it goes to the other broker and consumes there."""
    first, second = two
    addresses = parse(f"{first.url},{second.url}")
    for node, count in ((first, 10), (second, 20)):
        drive(producer(node.url, count, purge=True))
    reading = consumer(first.url, expect=30)
    reading.connect = Dialer(addresses, "test", heartbeat=1)
    with contextlib.ExitStack() as stack:
        stopped = False
        for event in reading.run():
            if isinstance(event, Advanced) and event.done == 10 and not stopped:
                stopped = True
                stack.enter_context(paused(first))
    assert reading.summary().unique == 30
