"""What a producer decides by itself: what is due, how long to sleep, since when it counts."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from rabbitproof.amqp.confirms import Confirms
from rabbitproof.amqp.session import Blocked, Unblocked
from rabbitproof.errors import ConnectionLost, GivenUp
from rabbitproof.identity import Source
from rabbitproof.model import Queue, Topology
from rabbitproof.work import produce

WIRING = Topology("x", "key", Queue("q"))
MS = 1_000_000


class Connection:
    """Stands in for one: takes everything, and says nothing."""

    frame_max = 131_072
    backlog = 0
    patience = 60.0
    where = "here:5672"
    closed = False

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


def fill(sending: produce.Producer) -> list[tuple[range, int]]:
    """Let it send what it may; return the buffers as (numbers, since when)."""
    buffers: list[tuple[range, int]] = []
    sent = sending._unconfirmed.sent
    kept = _Spy(sending._unconfirmed, sent, buffers)
    sending._unconfirmed = kept  # type: ignore[assignment]
    sending._fill(sending._open)
    sending._unconfirmed = kept.real
    return buffers


class _Spy:
    """Notes what is sent on the way to the real thing."""

    def __init__(self, real: Any, sent: Any, buffers: list[Any]) -> None:
        self.real, self._sent, self._buffers = real, sent, buffers

    def __len__(self) -> int:
        return len(self.real)

    def sent(self, numbers: Any, since: int) -> None:
        self._buffers.append((numbers, since))
        self._sent(numbers, since)


# --- from when a message counts ------------------------------------------------------------------


def test_with_a_rate_a_message_counts_from_when_it_was_due(clock: list[int]) -> None:
    """At 1,000 a second, 12.5 ms after the start 13 are due, each a millisecond after the last."""
    sending = producer(100, rate=1_000)
    start = clock[0]
    clock[0] += 12_500_000
    buffers = fill(sending)
    assert [list(numbers) for numbers, _ in buffers] == [[n] for n in range(1, 14)]
    assert [since - start for _, since in buffers] == pytest.approx(
        [n * MS for n in range(13)], abs=1000
    )


def test_what_is_due_within_a_fifth_of_a_millisecond_shares_a_buffer(clock: list[int]) -> None:
    """At 20,000 a second that is four messages, counted from the first of them."""
    sending = producer(100, rate=20_000)
    start = clock[0]
    clock[0] += MS + 1_000
    buffers = fill(sending)
    assert [len(numbers) for numbers, _ in buffers] == [4, 4, 4, 4, 4, 1]
    assert [since - start for _, since in buffers] == pytest.approx(
        [0, 0.2 * MS, 0.4 * MS, 0.6 * MS, 0.8 * MS, MS], abs=1000
    )


def test_what_piled_up_shares_a_buffer_for_a_hundredth_of_the_time(clock: list[int]) -> None:
    """Late by 2 s, messages are sent together that were due within 20 ms: 1 % of what they took."""
    sending = producer(100_000, rate=20_000)
    start = clock[0]
    clock[0] += 2_000 * MS
    first, second, *rest = fill(sending)
    assert (first[1] - start, len(first[0])) == (0, 400)
    assert len(second[0]) == pytest.approx(396, abs=1)
    buffers = [first, second, *rest]
    for (_, since), (_, after) in pairwise(buffers):
        late = clock[0] - since
        assert after - since <= max(0.2 * MS, late / 100) + 1000


def test_without_a_rate_a_message_counts_from_when_it_was_encoded(clock: list[int]) -> None:
    sending = producer(700)
    assert fill(sending) == [(range(1, 501), clock[0]), (range(501, 701), clock[0])]


def test_latency_runs_to_the_confirm(clock: list[int]) -> None:
    """All that one confirm answers, by when its buffer was sent."""
    sending = producer(500)
    fill(sending)
    clock[0] += 7 * MS
    confirm(sending, 450)
    clock[0] += 2 * MS
    confirm(sending, 500)
    found = sending.summary().latency
    assert found is not None
    assert (found["count"], found["warm_up_left_out"]) == (475, 25)
    assert found["p50"] == pytest.approx(7, rel=1e-3)
    assert found["p99"] == found["max"] == 9.0


def test_the_warm_up_is_left_out(clock: list[int]) -> None:
    """The first 5 %: of 2,000 messages 100, by whole buffers."""
    sending = producer(2_000, rate=20_000)
    for _ in range(10):
        clock[0] += 10 * MS
        fill(sending)
        confirm(sending, sending._unconfirmed._next - 1)
    found = sending.summary().latency
    assert found is not None
    assert found["count"] + found["warm_up_left_out"] == 2_000
    assert found["warm_up_left_out"] == 100


def test_a_nacked_message_counts_until_its_confirm(clock: list[int]) -> None:
    """From when it was sent first."""
    sending = producer(1)
    fill(sending)
    clock[0] += 5 * MS
    confirm(sending, 1, nack=True)
    clock[0] += 1_000 * MS
    ((numbers, _),) = fill(sending)
    assert list(numbers) == [1]
    clock[0] += 2 * MS
    confirm(sending, 2)
    found = sending.summary().latency
    assert found is not None
    assert (found["count"], found["max"]) == (1, 1_007.0)


def test_what_is_sent_again_counts_from_the_first_time(clock: list[int]) -> None:
    """After a broken connection, by buffers as they were sent first."""
    sending = producer(30, rate=1_000)
    start = clock[0]
    clock[0] += 9_500_000
    fill(sending)
    confirm(sending, 4)
    clock[0] += 3_000 * MS
    for _ in sending._recover(ConnectionLost()):
        pass
    again = fill(sending)[:6]
    assert [list(numbers) for numbers, _ in again] == [[n] for n in range(5, 11)]
    assert [since - start for _, since in again] == pytest.approx(
        [n * MS for n in range(4, 10)], abs=1000
    )
    confirm(sending, 6)
    found = sending.summary().latency
    assert found is not None
    assert found["max"] == pytest.approx(3_009.5 - 4, rel=1e-3)


def reconnected(count: int, **settings: Any) -> produce.Producer:
    """One that lost its connection before anything was confirmed, and has another one."""
    sending = producer(count, give_up_s=30.0, **settings)
    fill(sending)
    for _ in sending._recover(ConnectionLost()):
        pass
    fill(sending)
    return sending


def pass_time(sending: produce.Producer, clock: list[int], seconds: int) -> None:
    """Let it look at the clock so often."""
    for _ in range(seconds):
        clock[0] += 1_000 * MS
        sending._check_deadline()


def test_silence_after_a_loss_lasts_no_longer_than_until_it_is_given_up(clock: list[int]) -> None:
    """The confirm timeout alone would let it wait for 60 s on a connection that was just opened."""
    sending = reconnected(10)
    pass_time(sending, clock, 30)
    with pytest.raises(ConnectionLost, match="answered no publish for 31 s"):
        pass_time(sending, clock, 1)
    with pytest.raises(GivenUp, match="no progress for 31 s, in 1 tries"):
        list(sending._recover(ConnectionLost()))


def test_a_confirm_after_a_loss_ends_the_time_until_it_is_given_up(clock: list[int]) -> None:
    sending = reconnected(10)
    confirm(sending, 1)
    pass_time(sending, clock, 60)
    with pytest.raises(ConnectionLost, match="answered no publish for 61 s"):
        pass_time(sending, clock, 1)
    for _ in sending._recover(ConnectionLost()):
        pass


def test_being_blocked_after_a_loss_is_no_lack_of_progress(clock: list[int]) -> None:
    """For however long; when that is over its answers get as long as ever."""
    sending = reconnected(10)
    sending._take(Blocked("memory"))
    pass_time(sending, clock, 600)
    sending._take(Unblocked())
    pass_time(sending, clock, 60)
    with pytest.raises(ConnectionLost):
        pass_time(sending, clock, 1)
    for _ in sending._recover(ConnectionLost()):
        pass


def test_waiting_for_the_rate_after_a_loss_is_no_lack_of_progress(clock: list[int]) -> None:
    """Nothing is due for ten minutes, and the next loss starts a time of its own."""
    sending = reconnected(10, rate=1 / 600)
    confirm(sending, 1)
    for _ in sending._recover(ConnectionLost()):
        pass
    pass_time(sending, clock, 590)
    for _ in sending._recover(ConnectionLost()):
        pass


def test_without_confirms_a_connection_that_stands_is_progress(clock: list[int]) -> None:
    sending = reconnected(1, confirms=False)
    pass_time(sending, clock, 4)
    assert sending._retry.unproven
    pass_time(sending, clock, 2)
    assert not sending._retry.unproven


def test_without_confirms_there_is_no_latency(clock: list[int]) -> None:
    sending = producer(10, confirms=False)
    fill(sending)
    assert sending.summary().latency is None


@pytest.mark.parametrize("jump_ms", [0, 5_000, -5_000])
def test_the_header_follows_a_clock_that_was_set(
    clock: list[int], monkeypatch: pytest.MonkeyPatch, jump_ms: int
) -> None:
    """What is due now says the time of now, by the clock that a consumer compares it with."""
    stamps: list[int] = []
    sending = producer(100, rate=1_000)
    real = sending._publishes.encode

    class Noting:
        size = staticmethod(sending._publishes.size)

        @staticmethod
        def encode(numbers: Any, *, sent_ns: int) -> bytes:
            stamps.append(sent_ns)
            return real(numbers, sent_ns=sent_ns)

    sending._publishes = Noting()  # type: ignore[assignment]
    clock[0] += 10 * MS + 1_000
    wall = clock[0] + 10**18 + jump_ms * MS
    monkeypatch.setattr(produce.time, "time_ns", lambda: wall)
    fill(sending)
    assert [wall - stamp for stamp in stamps] == pytest.approx(
        [n * MS + 1_000 for n in range(10, -1, -1)], abs=1000
    )


# --- how long nothing has to be done -------------------------------------------------------------


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
