"""When a reading ends, and how what was read goes back: on a broker that plays a part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.errors import UsageError
from rabbitproof.work import hold, topology

TICK_S = 0.25


class Broker:
    """A connection to a queue that says it has so many messages, and is silent for a while.

    Once somebody consumes it says that it has 0, as a quorum queue does while it still reads them
    from its log.
    """

    def __init__(self, clock: list[float], *, there: int, silent_s: float, version: str) -> None:
        self.clock = clock
        self.server_properties = {"version": version}
        self.there = there
        self.silent_s = silent_s
        self.said: list[tuple[int, str]] = []
        self.channel_max = 2047
        self._opened = self._tag = 0
        self._consumed_at: float | None = None

    def open_channel(self) -> int:
        self._opened += 1
        return self._opened

    def call(self, channel: int, method: Any) -> Any:
        self.said.append((channel, method.name))
        if method.name == "Basic.Consume":
            self._consumed_at = self.clock[0]
        count = self.there if self._consumed_at is None else 0
        return SimpleNamespace(message_count=count, consumer_count=1)

    def tell(self, channel: int, method: Any) -> None:
        self.said.append((channel, method.name))

    def wait(self, timeout: float) -> list[Delivery]:
        self.clock[0] += timeout
        late = self._consumed_at is None or self.clock[0] < self._consumed_at + self.silent_s
        if late or self._tag == self.there:
            return []
        self._tag += 1
        return [Delivery(self._opened, b"t", self._tag, False, b"", b"", b"", b"")]

    def look_ahead(self, _timeout: float) -> bool:
        return False

    def deliver_whole(self) -> None: ...

    def gather(self, _size: int) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, of all that is tried here."""
    now = [100.0]
    for module in (hold, topology):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def read(broker: Broker, *, classic: bool) -> tuple[hold.Held, int]:
    held = hold.Held(broker, "q", classic=classic)  # type: ignore[arg-type]
    return held, sum(len(some) for some in held.read())


def test_a_quorum_queue_that_reads_its_log_is_waited_for(clock: list[float]) -> None:
    """Its 0 means that all is on its way; a classic queue's that nothing is there."""
    slow = Broker(clock, there=3, silent_s=2.0, version="3.10.8")
    assert read(slow, classic=False)[1] == 3
    gone = Broker(clock, there=3, silent_s=2.0, version="3.10.8")
    assert read(gone, classic=True)[1] == 0


def test_what_somebody_else_took_is_not_waited_for_long(clock: list[float]) -> None:
    """Less came than was there: after some seconds of silence that is all."""
    taken = Broker(clock, there=3, silent_s=1e9, version="3.10.8")
    began = clock[0]
    assert read(taken, classic=False)[1] == 0
    assert clock[0] - began <= 4


@pytest.mark.parametrize(
    ("version", "classic", "nacks"),
    [("3.10.8", False, False), ("3.13.7", False, False), ("4.0.5", False, True),
     ("4.3.0", False, True), ("3.10.8", True, True), ("4.3.0", True, True)],
)  # fmt: skip
def test_a_message_goes_back_without_a_failed_delivery(
    clock: list[float], version: str, classic: bool, nacks: bool
) -> None:
    """A closed channel gives back as well, and quicker, where it counts no more than a nack."""
    broker = Broker(clock, there=3, silent_s=0.0, version=version)
    held, count = read(broker, classic=classic)
    assert count == 3
    broker.said.clear()
    held.give_back()
    said = [name for channel, name in broker.said if channel == 2]
    assert said[0] == "Basic.Cancel"
    assert said[-1] == "Channel.Close"
    assert ("Basic.Nack" in said) == nacks


@pytest.mark.parametrize(
    ("there", "most"), [(25_000, 12_500), (3, 5_000), (131_070, 65_535), (10_000_000, 65_535)]
)
def test_few_channels_hold_more_each(clock: list[float], there: int, most: int) -> None:
    """As many as basic.qos can say; of the two beside, one asks."""
    broker = Broker(clock, there=there, silent_s=0.0, version="3.10.8")
    broker.channel_max = 4
    held = hold.Held(broker, "q", classic=True)  # type: ignore[arg-type]
    assert held._hold == most


def test_and_what_they_cannot_hold_is_refused_before_anything_is_read(clock: list[float]) -> None:
    broker = Broker(clock, there=131_071, silent_s=0.0, version="3.10.8")
    broker.channel_max = 4
    held = hold.Held(broker, "q", classic=True)  # type: ignore[arg-type]
    broker.said.clear()
    with pytest.raises(UsageError, match=r"131,070 can be held at once: say --limit 131070"):
        next(held.read())
    assert broker.said == []
