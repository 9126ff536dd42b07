"""What a producer decides by itself: how long to sleep."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rabbitproof.amqp.confirms import Confirms
from rabbitproof.identity import Source
from rabbitproof.model import Queue, Topology
from rabbitproof.work import produce

WIRING = Topology("x", "key", Queue("q"))
MS = 1_000_000


class Connection:
    """Stands in for one: takes everything, and says nothing."""

    frame_max = 131_072
    backlog = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def open_channel(self) -> int:
        return 1

    def call(self, *_: Any) -> None:
        pass

    def abandon(self) -> None:
        pass

    def send(self, _channel: int, data: bytes) -> None:
        self.sent.append(data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in nanoseconds, which stands still until a test moves it."""
    now = [50 * 10**9]
    monkeypatch.setattr(produce.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(produce.time, "monotonic", lambda: now[0] / 1e9)
    monkeypatch.setattr(produce.time, "time_ns", lambda: now[0] + 10**18)
    return now


def producer(count: int, **settings: Any) -> produce.Producer:
    task = produce.Task(WIRING, Source("0a1b2c3d4e5f", 1), count, declare=False, **settings)
    out = produce.Producer(task, Connection)  # type: ignore[arg-type]
    out._connection = Connection()  # type: ignore[assignment]
    out._begin()
    out._started = time.monotonic()
    return out


def confirm(sending: produce.Producer, up_to: int, *, nack: bool = False) -> None:
    sending._take(Confirms(1, nack, up_to, []))


def fill(sending: produce.Producer) -> list[bytes]:
    """Let it send what it may; return the buffers."""
    sending._open.sent.clear()  # type: ignore[attr-defined]
    sending._fill(sending._open)
    return list(sending._open.sent)  # type: ignore[attr-defined]


@pytest.mark.parametrize("rate", [None, 100_000.0])
def test_a_producer_sleeps_while_its_window_is_nearly_full(
    clock: list[int], rate: float | None
) -> None:
    """However much is overdue: a confirm wakes it."""
    sending = producer(10_000, rate=rate, window=200)
    clock[0] += 1_000 * MS
    fill(sending)
    confirm(sending, 10)
    assert 150 < len(sending._unconfirmed) < 200
    assert fill(sending) == []
    assert sending._patience() == 1.0
    confirm(sending, 60)
    assert fill(sending)


def test_a_producer_sleeps_while_the_kernel_takes_nothing(clock: list[int]) -> None:
    """The kernel wakes it."""
    sending = producer(10_000, rate=100_000)
    clock[0] += 1_000 * MS
    sending._open.backlog = 10**9
    assert fill(sending) == []
    assert sending._patience() == 1.0


def test_a_producer_sleeps_until_the_next_message_is_due(clock: list[int]) -> None:
    sending = producer(100, rate=100)
    fill(sending)
    assert sending._patience() == pytest.approx(0.010, abs=1e-6)
    clock[0] += 9 * MS
    assert fill(sending) == []
    assert sending._patience() == pytest.approx(0.001, abs=1e-6)
    clock[0] += MS + 1_000
    assert len(fill(sending)) == 1


def test_a_nacked_message_is_waited_for_only_while_there_is_room(clock: list[int]) -> None:
    sending = producer(1)
    fill(sending)
    confirm(sending, 1, nack=True)
    assert sending._patience() == pytest.approx(produce._NACK_PAUSE_S, abs=1e-6)
