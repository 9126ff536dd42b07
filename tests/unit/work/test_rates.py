from dataclasses import replace

import pytest

from rabbitproof.snapshot import ConsumerSample, Counters, NodeSample, QueueSample, Rates, Snapshot
from rabbitproof.work.rates import IMPOSSIBLE, STILL_S, History

KEY = ("/", "q")


def at(seconds: float, publish: int | None = 0, **more: object) -> Snapshot:
    """A snapshot with one queue whose publish counter is given."""
    counters = None if publish is None else Counters(publish)
    told = more.pop("told", None)
    queue = QueueSample("/", "q", counters=counters, rates=told)  # type: ignore[arg-type]
    queue = replace(queue, **{k: more.pop(k) for k in ("total", "ready") if k in more})  # type: ignore[arg-type]
    return Snapshot(at=seconds, clock=1000 + seconds, source="s", queues=(queue,), **more)  # type: ignore[arg-type]


def rates(history: History, *snapshots: Snapshot) -> list[float | None]:
    return [history.add(snapshot)[KEY].publish for snapshot in snapshots]


def reported(seconds: float, phases: tuple[float, ...] = (0.0,)) -> int:
    """The counter of 100 messages a second, of channels that report every 5 s in one step."""
    each = 500 // len(phases)
    return sum(int((seconds + phase) // 5 * each) for phase in phases)


def test_a_single_sample_has_the_brokers_own_rate() -> None:
    assert rates(History(), at(0, 7, told=Rates(publish=42.0))) == [42.0]


@pytest.mark.parametrize("phases", [(0.1,), (2.9,), (0.3, 4.1), (0.2, 1.1, 1.9, 3.3, 4.6)])
@pytest.mark.parametrize("every", [1.0, 2.0, 3.0, 5.0, 7.0, 10.0])
def test_a_rate_is_right_however_often_samples_are_taken_and_channels_report(
    every: float, phases: tuple[float, ...]
) -> None:
    history = History()
    found = [
        history.add(at(i * every, reported(i * every, phases)))[KEY].publish
        for i in range(int(150 / every))
    ]
    settled = found[int(40 / every) :]
    assert settled == pytest.approx([100.0] * len(settled), rel=0.001)


@pytest.mark.parametrize("phase", [0.1, 1.3, 2.9, 4.2])
def test_a_broker_that_answers_at_odd_times_has_its_rate_all_the_same(phase: float) -> None:
    history = History()
    times = [3.3 * i + 0.1 * (i % 7) for i in range(40)]
    found = [history.add(at(time, reported(time, (phase,))))[KEY].publish for time in times]
    settled = found[12:]
    assert settled == pytest.approx([100.0] * len(settled), rel=0.25)
    assert sum(filter(None, settled)) / len(settled) == pytest.approx(100, rel=0.05)


def test_counters_that_move_at_different_times_do_not_disturb_each_other() -> None:
    history = History()
    for i in range(20):
        published, acked = reported(i * 3.0, (0.1,)), reported(i * 3.0, (2.6,)) // 2
        seen = at(i * 3.0)
        queue = replace(seen.queues[0], counters=Counters(publish=published, ack=acked))
        rates = history.add(replace(seen, queues=(queue,)))[KEY]
    assert (rates.publish, rates.deliver, rates.ack) == (100.0, 0.0, 50.0)


def test_a_broker_that_reports_at_another_interval_has_its_rate_all_the_same() -> None:
    history = History()
    found = [history.add(at(i * 1.0, int(i // 7 * 700)))[KEY].publish for i in range(90)]
    settled = [value for value in found[40:] if value is not None]
    assert sum(settled) / len(settled) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("phase", [0.1, 1.3, 2.9, 4.2])
def test_a_rate_that_begins_or_ends_while_it_is_watched_is_never_half_of_it(phase: float) -> None:
    """The first report of a start and the last one before an end are of part of 5 s."""
    history = History()
    found = []
    for i in range(60):
        now = reported(min(max(i * 3.0, 60.0), 120.0), (phase,))
        before = reported(min(max(i * 3.0 - 5.0, 60.0), 120.0), (phase,))
        told = Rates(publish=(now - before) / 5.0)
        found.append((i * 3.0, history.add(at(i * 3.0, now, told=told))[KEY].publish))
    assert all(value == 0.0 for when, value in found[1:] if when <= 60)
    assert all(value == pytest.approx(100.0) for when, value in found if 69 <= when <= 120)
    assert all(value == 0.0 for when, value in found if when >= 135)


def test_a_rate_of_a_queue_that_is_asked_for_more_often_forgets_the_long_gaps() -> None:
    history = History()
    history.add(at(0, 0))
    told = Rates(publish=100.0)
    found = [
        history.add(at(60 + i * 3.0, reported(60 + i * 3.0, (0.1,)), told=told))[KEY].publish
        for i in range(10)
    ]
    assert found == pytest.approx([100.0] * 10)


def test_the_brokers_own_rate_that_no_broker_reaches_is_no_rate() -> None:
    assert rates(History(), at(0, 7, told=Rates(publish=2 * IMPOSSIBLE))) == [None]


def test_what_moves_fastest_is_what_is_asked_for() -> None:
    history = History()

    def seen(seconds: float, *depths: int) -> Snapshot:
        queues = tuple(QueueSample("/", f"q{i}", total=n) for i, n in enumerate(depths))
        return Snapshot(at=seconds, clock=seconds, source="s", queues=queues)

    history.add(seen(0, 1, 1, 1))
    assert history.moving(9) == ()
    history.add(seen(3, 1, 4, 31))
    assert history.moving(9) == (("/", "q2"), ("/", "q1"))
    assert history.moving(1) == (("/", "q2"),)
    assert history.trends == {("/", "q1"): 3, ("/", "q2"): 30}


def test_a_counter_that_does_not_move_for_two_reports_is_a_rate_of_zero() -> None:
    history = History()
    rates(history, *(at(i * 3.0, reported(i * 3.0)) for i in range(10)))
    (last,) = rates(history, at(27 + STILL_S + 3, reported(27)))
    assert last == 0.0


def test_a_counter_that_falls_begins_anew_without_a_claim() -> None:
    history = History()
    rates(history, at(0, 1000), at(5, 2000), at(10, 3000))
    assert rates(history, at(15, 10, told=Rates(publish=9e9))) == [None]
    assert rates(history, at(18, 10), at(20, 510)) == [None, 100.0]


def test_a_node_that_started_again_begins_anew_even_with_higher_counters() -> None:
    history = History()
    up = NodeSample("n", uptime=500.0)
    rates(history, at(0, 0, nodes=(up,)), at(5, 500, nodes=(up,)), at(10, 1000, nodes=(up,)))
    fresh = at(15, 1_000_000, nodes=(replace(up, uptime=3.0),))
    assert rates(history, fresh) == [None]
    assert history.events[0].text == "node n started again"


def test_a_node_that_starts_and_does_not_say_for_how_long_is_told_when_it_does() -> None:
    history = History()
    up = NodeSample("n", uptime=500.0)
    rates(history, at(0, 0, nodes=(up,)), at(5, 500, nodes=(up,)))
    rates(history, at(8, 500, nodes=(replace(up, uptime=None),)), at(11, 500))
    assert texts(history) == []
    rates(history, at(14, 500, nodes=(replace(up, uptime=9.0),)))
    assert texts(history) == ["node n started again"]


def test_a_growth_that_no_broker_reaches_is_never_shown() -> None:
    history = History()
    found = rates(history, at(0, 0), at(5, 500), at(10, int(IMPOSSIBLE * 5.1)))
    assert found == [None, 100.0, None]


def test_a_queue_that_was_gone_has_no_history() -> None:
    history = History()
    rates(history, at(0, 0), at(5, 500), at(10, 1000))
    history.add(replace(at(15), queues=()))
    assert rates(history, at(20, 5000)) == [None]


def test_metrics_that_are_off_are_no_rate_and_not_zero() -> None:
    assert rates(History(), at(0, 5, metrics=False, told=Rates(publish=0.0))) == [None]


def test_a_queue_that_is_asked_in_turn_keeps_its_rate_in_between() -> None:
    history = History()
    rates(history, at(0, 0), at(30, 3000), at(60, 6000))
    assert rates(history, at(63, None), at(87, None), at(90, 9000)) == [100.0, 100.0, 100.0]


def texts(history: History) -> list[str]:
    return [event.text for event in history.events]


def test_what_happened_between_two_samples_is_told() -> None:
    history = History()
    consumer = ConsumerSample("/", "q", "tag\x1b", "c", "ch")
    history.add(at(0, 0, total=100))
    history.add(at(3, 0, total=5000, consumers=(consumer,)))
    assert texts(history) == [
        "consumer tag\\x1b came to q",
        "queue q went from 100 to 5,000 messages",
    ]
    other = QueueSample("/", "new")
    history.add(Snapshot(at=6, clock=6, source="s", queues=(other,)))
    assert texts(history)[:3] == [
        "consumer tag\\x1b left q",
        "queue q is gone",
        "queue new appeared",
    ]


def test_many_alike_are_counted_and_not_told_one_by_one() -> None:
    history = History()
    history.add(Snapshot(at=0, clock=0, source="s"))
    many = tuple(QueueSample("/", f"q{i:03}") for i in range(100))
    history.add(Snapshot(at=3, clock=3, source="s", queues=many))
    assert len(texts(history)) == 6
    assert "95 more" in texts(history)[0]


def test_alarms_and_nodes_are_told() -> None:
    history = History()
    up = NodeSample("n")
    history.add(Snapshot(at=0, clock=0, source="s", nodes=(up,)))
    history.add(Snapshot(at=1, clock=1, source="s", nodes=(replace(up, memory_alarm=True),)))
    history.add(Snapshot(at=2, clock=2, source="s", nodes=(replace(up, running=False),)))
    assert texts(history) == [
        "memory alarm of n ended",
        "node n is down",
        "memory alarm of n began",
    ]


def acked(seconds: float, ack: int | None, told: float | None = 0.0) -> Snapshot:
    queue = QueueSample("/", "q", counters=Counters(ack=ack), rates=Rates(ack=told))
    return Snapshot(at=seconds, clock=seconds, source="s", queues=(queue,))


def test_a_queue_is_silent_once_we_saw_it_for_two_reports_and_not_because_it_is_told() -> None:
    """A broker tells a rate of 0 of what has just begun, too."""
    history = History()
    found = []
    for seconds, ack in ((0, 5), (5, 5), (STILL_S, 5), (STILL_S + 3, 9), (20, 9), (26, 9)):
        history.add(acked(seconds, ack))
        found.append(history.silent(KEY))
    assert found == [False, False, True, False, False, True]
    assert not history.silent(("/", "another"))


def test_what_is_not_told_is_never_silent() -> None:
    """With rates_mode = none no counter is, however long it is watched."""
    history = History()
    for seconds in range(0, 60, 3):
        history.add(acked(seconds, None, None))
    assert not history.silent(KEY)
    history.add(acked(60, 0))
    assert not history.silent(KEY)


def test_a_counter_that_is_not_told_for_a_while_is_no_zero_from_which_it_jumps() -> None:
    history = History()
    for i, publish in enumerate((1_000_000, 1_000_030, None, None, 1_000_120, 1_000_150)):
        queue = QueueSample("/", "q", counters=Counters(publish), rates=Rates())
        rate = history.add(Snapshot(3.0 * i, 0.0, "s", queues=(queue,)))[KEY].publish
        assert rate is None or rate <= 30


def test_a_counter_that_has_not_begun_stands_still_after_two_reports() -> None:
    """The others of its queue are told, or its broker says that it counts."""
    history = History()
    found = [
        history.add(at(seconds, 5, told=Rates()))[KEY].ack for seconds in (0.0, 6.0, STILL_S + 1)
    ]
    assert found == [None, None, 0.0]


def test_an_alarm_that_is_not_told_has_not_ended() -> None:
    history = History()
    up = NodeSample("n", memory_alarm=True)
    silent = replace(up, running=None, memory_alarm=None, disk_alarm=None)
    for seconds, node in enumerate((up, silent, silent, replace(up, memory_alarm=False))):
        history.add(Snapshot(at=seconds, clock=seconds, source="s", nodes=(node,)))
        told = [event.text for event in history.events]
        assert told == (["memory alarm of n ended"] if seconds == 3 else [])


def test_queues_that_could_not_be_listed_are_not_gone() -> None:
    history = History()
    history.add(at(0, 5))
    history.add(replace(at(3, 5), queues=(), listed=False))
    history.add(at(6, 5))
    assert history.events == ()
