"""Which of several addresses is tried, and for how long."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from rabbitproof.address import Address
from rabbitproof.amqp import dial
from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


class Broker:
    """Stands in for a connection; addresses in ``down`` refuse."""

    down: ClassVar[set[Address]] = set()
    asked: ClassVar[list[Address]] = []

    def __init__(self, address: Address, _name: str, **_: Any) -> None:
        type(self).asked.append(address)
        if address in self.down:
            raise BrokerUnreachable
        self.address = address


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> type[Broker]:
    Broker.down, Broker.asked = set(), []
    monkeypatch.setattr(dial, "Connection", Broker)
    return Broker


@contextlib.contextmanager
def silent() -> Iterator[Address]:
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address("127.0.0.1", listener.getsockname()[1])


def test_at_first_the_order_is_as_given(broker: type[Broker]) -> None:
    broker.down = {A}
    assert Dialer([A, B, C], "test")().address is B
    assert broker.asked == [A, B]


def test_what_was_shunned_is_tried_last(broker: type[Broker]) -> None:
    """Whoever lost A goes to another one, in the end to each of the others; A only after them."""
    found = set()
    for _ in range(50):
        dialer = Dialer([A, B, C], "test")
        dialer()
        dialer.shun()
        found.add(dialer.within(5).address)
    assert found == {B, C}
    broker.down, broker.asked = {B, C}, []
    assert dialer.within(5).address is A
    assert broker.asked[-1] is A


def test_a_silent_broker_delays_another_one_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It accepts and never answers: the others get their turn, the last error says so."""
    monkeypatch.setattr(dial, "_QUICK_S", 0.2)
    monkeypatch.setattr(dial, "CONNECT_TIMEOUT", 0.4)
    with silent() as mute:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable):
            Dialer([mute, Address("127.0.0.1", 9)], "test")()
        assert 0.5 < time.monotonic() - began < 2


def test_a_limit_is_kept_with_a_broker_that_never_answers() -> None:
    with silent() as one, silent() as two:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match="does not answer"):
            Dialer([one, two], "test").within(0.3)
        assert time.monotonic() - began < 1
