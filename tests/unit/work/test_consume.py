"""What a consumer makes of connections that bring the same again and break, on a clock of ours."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.errors import (
    BrokerUnreachable,
    GivenUp,
    NotFound,
    PreconditionFailed,
    RemoteProtocolError,
)
from rabbitproof.model import Started
from rabbitproof.work import consume

if TYPE_CHECKING:
    from collections.abc import Callable

UNREADABLE = RemoteProtocolError("It can't be read.")
HEADER = bytes(14)  # class, weight, size, and no properties


class Connection:
    """Stands in for one: brings what it is told to, and then breaks."""

    where = "here:5672"
    patience = 60.0
    closed = False

    def __init__(self, clock: Clock, script: list[Any]) -> None:
        self._clock = clock
        self._script = script
        self.told: list[str] = []

    def open_channel(self) -> int:
        return 1

    def call(self, _channel: int, method: Any) -> Any:
        return SimpleNamespace(message_count=7, consumer_count=0, name=method.name)

    def tell(self, _channel: int, method: Any) -> None:
        self.told.append(method.name)

    def gather(self, _least: int) -> None:
        pass

    def close(self, _timeout: float = 0) -> None:
        pass

    def abandon(self) -> None:
        pass

    def wait(self, timeout: float) -> list[Any]:
        if not self._script:
            self._clock.sleep(timeout)
            return []
        what = self._script.pop(0)
        if isinstance(what, Exception):
            raise what
        if isinstance(what, float):
            self._clock.sleep(what)
            return []
        return [what]


class Clock:
    """The time, which stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    out = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: out.now)
    monkeypatch.setattr(time, "sleep", out.sleep)
    return out


def foreign(tag: int, *, redelivered: bool = False) -> Delivery:
    return Delivery(1, b"", tag, redelivered, b"", b"", HEADER, b"")


def consumer(
    clock: Clock, scripts: Callable[[int], list[Any] | Exception], **settings: Any
) -> tuple[consume.Consumer, list[float]]:
    """Return one whose connections, from 0, have these scripts, and when each was asked for."""
    asked: list[float] = []

    def connect() -> Any:
        asked.append(clock.now)
        script = scripts(len(asked) - 1)
        if isinstance(script, Exception):
            raise script
        return Connection(clock, script)

    return consume.Consumer(consume.Task("q", **settings), connect), asked


def poisoned(number: int) -> list[Any]:
    """Bring the same three messages, and what can't be read."""
    return [*(foreign(tag, redelivered=number > 0) for tag in (1, 2, 3)), UNREADABLE]


def drive(reading: consume.Consumer) -> list[Any]:
    return list(reading.run())


@pytest.mark.parametrize("answered", [False, True])
def test_what_comes_again_is_counted_once_and_no_progress(clock: Clock, answered: bool) -> None:
    """Without an identity as well; and also where answers are lost with each connection."""

    def scripts(number: int) -> list[Any]:
        script = poisoned(number)
        return [*script[:3], 0.0, UNREADABLE] if answered else script

    reading, asked = consumer(clock, scripts, give_up_s=6.0, expect=4)
    with pytest.raises(GivenUp, match=r"no progress for 6 s, in \d tries .* It can't be read"):
        drive(reading)
    assert 8 <= len(asked) <= 10
    assert asked[-1] - asked[0] == pytest.approx(6.0, abs=0.1)
    end = reading.summary()
    assert (end.consumed, end.foreign) == (3, 3)
    assert reading.unanswered == (0 if answered else 3)


def test_another_message_beside_those_that_come_again_is_one(clock: Clock) -> None:
    """Flagged as well: somebody else may have had it."""

    def scripts(number: int) -> list[Any]:
        script = poisoned(number)
        return [*script[:3], foreign(4, redelivered=True)] if number == 3 else script

    reading, asked = consumer(clock, scripts, expect=4)
    drive(reading)
    assert len(asked) == 4
    assert reading.summary().foreign == 4


def test_what_the_broker_heard_of_does_not_come_again(clock: Clock) -> None:
    """A new message shows it; one that is flagged after that was somebody else's."""
    first = [foreign(1), foreign(2), foreign(3), 0.0, UNREADABLE]
    second = [foreign(1), foreign(2, redelivered=True)]
    reading, _ = consumer(clock, lambda number: second if number else first, idle_timeout=3.0)
    drive(reading)
    assert reading.summary().foreign == 5


def test_it_is_idle_although_the_same_comes_again(clock: Clock) -> None:
    """The last connection reads nothing: it only counts what is left."""
    reading, asked = consumer(clock, poisoned, idle_timeout=3.0)
    drive(reading)
    assert 2.999 < asked[-1] - asked[1] < 3.101, "but never within a tenth of a second of a try"
    assert (reading.summary().consumed, reading.left) == (3, 7)


def test_an_outage_is_not_idle(clock: Clock) -> None:
    """It is away for a minute, twice; what comes after that is received."""
    back: list[float] = []

    def scripts(number: int) -> list[Any] | Exception:
        if number == 0:
            return [foreign(1), 1.0, UNREADABLE]
        if clock.now < (back[0] if back else 1_000) + 60:
            return BrokerUnreachable("Away.")
        back.append(clock.now)
        return [1.0, UNREADABLE if len(back) == 1 else foreign(1)]

    reading, asked = consumer(clock, scripts, idle_timeout=3.0, give_up_s=300.0)
    drive(reading)
    assert reading.summary().consumed == 2
    assert 20 < len(asked) < 60


def test_a_subscription_that_stands_is_progress_where_nothing_comes(clock: Clock) -> None:
    """Broken every minute for an hour, with an empty queue: it is never given up."""
    reading, asked = consumer(
        clock,
        lambda number: [1.0] * 60 + ([UNREADABLE] if number < 60 else [foreign(1)]),
        give_up_s=10.0,
        expect=1,
    )
    drive(reading)
    assert len(asked) == 61
    assert clock.now - asked[0] == pytest.approx(61 * 60, abs=1), "each was opened again at once"


DOWN = "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down"
NO_COPY = "queue 'q' in vhost '/' does not have a replica on the local node"


def test_a_set_up_that_may_pass_is_tried_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a first connection stood: the queue's node comes back a moment later."""
    refusals = [NotFound(DOWN, code=404, reply=DOWN)] * 3

    def look(*_: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return SimpleNamespace(message_count=1, consumer_count=0)

    monkeypatch.setattr(consume.wiring, "look", look)
    reading, asked = consumer(clock, lambda _: [foreign(1)], expect=1)
    events = drive(reading)
    assert len(asked) == 4
    assert sum(isinstance(event, Started) for event in events) == 1
    assert reading.summary().consumed == 1


def test_a_stream_without_a_copy_here_is_refused_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no other broker that may have one."""

    def look(*_: Any) -> Any:
        raise PreconditionFailed(NO_COPY, code=406, reply=NO_COPY)

    monkeypatch.setattr(consume.wiring, "look", look)
    reading, asked = consumer(clock, lambda _: [])
    with pytest.raises(PreconditionFailed):
        drive(reading)
    assert len(asked) == 1
