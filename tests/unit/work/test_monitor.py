import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rabbitproof.errors import BrokerUnreachable, ManagementError, ManagementUnreachable, NotFound
from rabbitproof.snapshot import (
    ConsumerSample,
    Counters,
    Detail,
    Key,
    QueueSample,
    Rates,
    Snapshot,
)
from rabbitproof.work import monitor, topology
from rabbitproof.work.monitor import Amqp, Monitor

DOWN = ManagementUnreachable("it is down; start it.")


class Source:
    """Gives snapshots or raises, one after the other; the last one again and again."""

    def __init__(self, *answers: Snapshot | Exception) -> None:
        self.answers = list(answers)

    def look(self, moving: Sequence[Key] = ()) -> Snapshot:
        self.wanted = tuple(moving)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close_up(self, *_: str) -> Detail | None:
        return None


def snapshot(seconds: float = 0.0, **more: Any) -> Snapshot:
    queues = (
        QueueSample("/", "work", ready=1, total=1),
        QueueSample("/", "audit", ready=2, total=2),
    )
    return Snapshot(at=seconds, clock=seconds, source="s", **{"queues": queues, **more})


def test_an_error_keeps_the_last_good_picture_and_recovery_clears_it() -> None:
    eyes = Monitor(Source(snapshot(), DOWN, DOWN, snapshot(9)))
    good = eyes.refresh()
    failed = eyes.refresh()
    assert failed.snapshot == good.snapshot
    assert failed.error == "it is down; start it."
    since = failed.failing_since
    assert eyes.refresh().failing_since == since
    again = eyes.refresh()
    assert (again.error, again.failing_since) == (None, None)
    assert [event.text for event in again.events] == [
        "the broker answers again",
        "the broker does not answer",
    ]


def test_an_error_before_the_first_picture_is_in_the_picture() -> None:
    seen = Monitor(Source(DOWN)).refresh()
    assert (seen.snapshot, seen.error) == (None, "it is down; start it.")


def test_looking_once_raises_what_is_wrong() -> None:
    with pytest.raises(ManagementUnreachable):
        Monitor(Source(DOWN)).look_once()


def test_the_first_pictures_have_the_brokers_rates_and_later_ones_its_own() -> None:
    eyes = Monitor(Source(snapshot(), snapshot(3), snapshot(15)))
    assert [eyes.refresh().own for _ in range(3)] == [False, False, True]


def test_queues_that_move_are_asked_for_at_the_next_look() -> None:
    queues = (QueueSample("/", "work", total=7), QueueSample("/", "audit", total=2))
    source = Source(snapshot(), snapshot(3, queues=queues), snapshot(6, queues=queues))
    eyes = Monitor(source)
    wanted = []
    for _ in range(4):
        eyes.refresh()
        wanted.append(source.wanted)
    assert wanted == [(), (), (("/", "work"),), ()]


def test_a_filter_keeps_matching_queues_and_their_consumers() -> None:
    consumers = (ConsumerSample("/", "work", "a", "c"), ConsumerSample("/", "audit", "b", "c"))
    eyes = Monitor(Source(snapshot(consumers=consumers)), filter_by=re.compile("^w"))
    seen = eyes.refresh()
    assert seen.snapshot is not None
    assert [queue.name for queue in seen.snapshot.queues] == ["work"]
    assert seen.snapshot.consumers == consumers[:1]
    assert seen.consumer_counts == {("/", "work"): 1}


def test_without_the_api_the_fallback_is_shown_with_what_is_missing() -> None:
    eyes = Monitor(Source(DOWN), fallback=Source(snapshot(metrics=False)))
    seen = eyes.look_once()
    assert seen.snapshot is not None
    assert seen.error is None
    assert seen.snapshot.missing[-1].endswith("over AMQP: it is down; start it.")


def test_when_the_fallback_fails_too_both_reasons_are_told() -> None:
    eyes = Monitor(Source(DOWN), fallback=Source(BrokerUnreachable("nobody there; start it.")))
    with pytest.raises(ManagementError, match=r"it is down; .* AMQP neither: nobody there"):
        eyes.look_once()


class Connection:
    server_properties = {"version": "4.3.6"}  # noqa: RUF012 - as the real one has it

    def __init__(self) -> None:
        self.channels = 0

    def open_channel(self) -> int:
        self.channels += 1
        return self.channels

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def amqp(monkeypatch: pytest.MonkeyPatch, look: Callable[[str], Any]) -> Snapshot:
    monkeypatch.setattr(topology, "look", lambda _connection, _channel, name: look(name))
    connect: Any = Connection
    return Amqp(connect, ["a", "gone\x1b"], "/v", "amqp://h").look()


def test_amqp_knows_depth_and_consumers_and_says_which_queue_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(name: str) -> Any:
        if name != "a":
            raise NotFound("no", code=404, reply="no")
        return type("Answer", (), {"message_count": 5, "consumer_count": 2})

    seen = amqp(monkeypatch, look)
    (queue,) = seen.queues
    assert (queue.vhost, queue.name, queue.ready, queue.total, queue.consumers) == (
        "/v", "a", 5, None, 2,
    )  # fmt: skip
    assert seen.missing == ("there is no queue gone\\x1b; check its name",)
    assert (seen.metrics, seen.consumers, seen.version) == (False, None, "4.3.6")


def test_who_looks_only_once_waits_until_consumers_show_whether_they_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor.time, "sleep", lambda _: None)
    consumer = ConsumerSample("/", "q", "t", "c", prefetch=10)

    def full(seconds: float, ack: int | None, told: float | None = 0.0) -> Snapshot:
        queue = QueueSample("/", "q", unacked=10, counters=Counters(ack=ack), rates=Rates(ack=told))
        return snapshot(seconds, queues=(queue,), consumers=(consumer,))

    notes: list[str] = []
    stuck = Monitor(Source(*(full(3 * i, 5) for i in range(9))))
    assert "acknowledge none" in stuck.look_well(notes.append).problems[0].what
    assert len(notes) == 1
    begun = Monitor(Source(full(0, 5), full(1, 5), full(2, 25), full(3, 45, 20.0)))
    assert begun.look_well(notes.append).problems == ()
    assert len(notes) == 2
    for one in (full(0, 5, 20.0), full(0, None, None)):  # they work, or nobody will ever know
        assert Monitor(Source(one)).look_well(notes.append).problems == ()
    assert len(notes) == 2
