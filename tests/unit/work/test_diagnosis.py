from typing import Any

import pytest

from rabbitproof.snapshot import (
    ConnectionSample,
    ConsumerSample,
    NodeSample,
    Problem,
    QueueSample,
    Snapshot,
)
from rabbitproof.work.diagnosis import diagnose

MIB = 2**20
KEY = ("/", "q")


def snapshot(*queues: QueueSample, **more: Any) -> Snapshot:
    return Snapshot(at=0, clock=0, source="s", queues=queues, **more)


def nobody(_: object) -> bool:
    """No queue is seen to be without acknowledgements."""
    return False


def only(found: tuple[Problem, ...]) -> Problem:
    (problem,) = found
    return problem


def test_a_broker_that_is_well_has_no_problem() -> None:
    queue = QueueSample("/", "q", ready=5, unacked=1, total=6, consumers=1)
    node = NodeSample("n", memory=1, memory_limit=100, disk_free=1000, disk_limit=1)
    consumer = ConsumerSample("/", "q", "t", "c", prefetch=10)
    assert diagnose(snapshot(queue, nodes=(node,), consumers=(consumer,)), nobody) == ()


NODES = [
    (NodeSample("n", running=False), "red", "node n is down"),
    (NodeSample("n", partitions=("m",)), "red", "cut off from 1 node.*: m"),
    (
        NodeSample("n", memory=300 * MIB, memory_limit=200 * MIB, memory_alarm=True),
        "red",
        "memory alarm on n: 300 of 200 MiB; all publishers",
    ),
    (NodeSample("n", memory=95, memory_limit=100), "yellow", "nearly used up"),
    (
        NodeSample("n", disk_free=5 * MIB, disk_limit=50 * MIB, disk_alarm=True),
        "red",
        "disk alarm on n: 5 MiB free, limit 50",
    ),
    (NodeSample("n", disk_free=105, disk_limit=100), "yellow", "nearly full"),
    (NodeSample("n", files=950, files_limit=1000), "yellow", "950 of 1,000 file desc"),
    (NodeSample("n", sockets=950, sockets_limit=1000), "yellow", "950 of 1,000 sockets"),
]


@pytest.mark.parametrize(("node", "level", "words"), NODES)
def test_a_node_in_trouble_is_told(node: NodeSample, level: str, words: str) -> None:
    import re

    problem = only(diagnose(snapshot(nodes=(node,)), nobody))
    assert problem.level == level
    assert re.search(words, problem.what)
    assert problem.do


def test_blocked_publishers_are_counted_and_named() -> None:
    blocked = ConnectionSample("1 -> 2", "Producer\x1b[31m", "u", "/", "blocked")
    consumer = ConnectionSample("5 -> 6", "", "u", "/", "blocking")
    fine = ConnectionSample("3 -> 4", "", "u", "/", "running")
    problem = only(diagnose(snapshot(connections=(blocked, fine, consumer)), nobody))
    assert (problem.level, problem.what) == (
        "red",
        "1 publisher(s) blocked by the broker: Producer\\x1b[31m",
    )


def test_messages_without_consumer_are_summed_and_the_worst_named() -> None:
    queues = [QueueSample("/", f"q{i}", ready=i, total=i, consumers=0) for i in range(6)]
    stream = QueueSample("/", "s", type="stream", ready=9, total=9, consumers=0)
    problem = only(diagnose(snapshot(*queues, stream), nobody))
    assert problem.level == "yellow"
    assert problem.what == (
        "15 message(s) wait in 5 queue(s) without consumer: q5, q4, q3 and 2 more"
    )


def test_nothing_is_claimed_of_consumers_that_nobody_could_count() -> None:
    assert diagnose(snapshot(QueueSample("/", "q", ready=5), consumers=None), nobody) == ()


FULL = QueueSample("/", "q", ready=70, unacked=20, total=90)
TWO = tuple(ConsumerSample("/", "q", t, "c", prefetch=10) for t in "ab")


def test_consumers_that_hold_all_they_may_and_ack_nothing_are_stuck() -> None:
    problem = only(diagnose(snapshot(FULL, consumers=TWO), {KEY}.__contains__))
    assert problem.level == "red"
    assert problem.what == (
        "2 consumer(s) of q hold all 20 messages that their prefetch allows and acknowledge none, "
        "70 messages wait"
    )


@pytest.mark.parametrize(
    ("queue", "consumers", "silent"),
    [
        (FULL, TWO, False),  # they acknowledge, or nobody knows yet
        (QueueSample("/", "q", ready=70, unacked=19, total=89), TWO, True),
        (QueueSample("/", "q", ready=70), TWO, True),
        (FULL, (*TWO, ConsumerSample("/", "q", "a", "c", prefetch=0)), True),
        (FULL, (*TWO, ConsumerSample("/", "q", "a", "c", prefetch=None)), True),
        (FULL, (*TWO, ConsumerSample("/", "q", "a", "c", prefetch=1, manual=None)), True),
        (FULL, (ConsumerSample("/", "q", "a", "c", prefetch=1, manual=False),), True),
    ],
)
def test_consumers_that_work_or_of_whom_it_is_not_known_are_not_called_stuck(
    queue: QueueSample, consumers: tuple[ConsumerSample, ...], *, silent: bool
) -> None:
    assert diagnose(snapshot(queue, consumers=consumers), lambda _: silent) == ()


def test_unroutable_messages_are_told_and_red_while_they_grow() -> None:
    before = snapshot(unroutable_dropped=5, unroutable_returned=0)
    problem = only(diagnose(before, nobody, before))
    assert (problem.level, "5 message(s) were dropped" in problem.what) == ("yellow", True)
    now = snapshot(unroutable_dropped=8, unroutable_returned=0)
    problem = only(diagnose(now, nobody, before))
    assert (problem.level, "3 of them since watching began" in problem.what) == ("red", True)
    after_restart = snapshot(unroutable_dropped=2, unroutable_returned=3)
    assert [one.level for one in diagnose(after_restart, nobody, before)] == ["yellow", "yellow"]


@pytest.mark.parametrize(
    ("leader", "online", "level", "words"),
    [
        ("", 1, "red", "without leader"),
        ("a", 1, "red", r"without a majority of members online: q (1 of 3)"),
        ("a", 2, "yellow", r"quorum in danger: 1 queue(s) with a bare majority online: q (2 of 3)"),
    ],
)
def test_a_quorum_in_danger_is_told(leader: str, online: int, level: str, words: str) -> None:
    queue = QueueSample("/", "q", type="quorum", leader=leader, members=3, online=online)
    problem = only(diagnose(snapshot(queue), nobody))
    assert problem.level == level
    assert words in problem.what


def test_a_single_member_is_no_danger() -> None:
    queue = QueueSample("/", "q", type="quorum", leader="a", members=1, online=1)
    assert diagnose(snapshot(queue), nobody) == ()


def test_a_queue_that_is_down_is_told_and_red_comes_first() -> None:
    lonely = QueueSample("/", "a", ready=1, consumers=0)
    found = diagnose(snapshot(lonely, QueueSample("/", "b", state="down")), nobody)
    assert [one.level for one in found] == ["red", "yellow"]
    assert "not running: b (down)" in found[0].what
