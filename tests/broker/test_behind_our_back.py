"""Messages that somebody else takes away while the participants work are found, each by number.

The verdict knows nothing of these tricks: it is asked as for any run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.identity import identify
from rabbitproof.model import Advanced, Decision
from rabbitproof.proof.books import lost_ids
from rabbitproof.proof.evidence import Drop, QueueEvidence, proves_drained
from rabbitproof.proof.verdict import judge
from support import consumer, producer, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.model import Verdict

COUNT = 3000
WORK, AUDIT = "work.queue", "audit.queue"


def send(url: str, meddle: Callable[[int], None] | None = None) -> Any:
    """Publish ``COUNT`` messages; ``meddle`` hears how many are confirmed, again and again."""
    sender = producer(url, COUNT, window=200, topology=topology())
    for event in sender.run():
        if isinstance(event, Advanced) and meddle is not None:
            meddle(event.done)
    assert sender.summary().published == COUNT
    return sender.outcomes


def read(url: str, queue: str, meddle: Callable[[int], None] | None = None) -> QueueEvidence:
    """Consume a queue to its end; ``meddle`` hears how many came, again and again."""
    reader = consumer(url, queue, expect=COUNT, drain=True, idle_timeout=0.7, prefetch=100)
    for event in reader.run():
        if isinstance(event, Advanced) and meddle is not None:
            meddle(event.done)
    return QueueEvidence(
        queue, "classic", reader.receipts, left=reader.left,
        drained=proves_drained("classic", reader.left), consumers=1,
    )  # fmt: skip


def at(threshold: int, act: Callable[[], None]) -> Callable[[int], None]:
    """Do something once, as soon as so many are done."""
    left = [act]

    def meddle(done: int) -> None:
        if done >= threshold and left:
            left.pop()()

    return meddle


def books_are_good(verdict: Verdict, queue: str) -> None:
    books = verdict.queues[queue].books
    assert (books.wanted, books.seen, books.lost, books.undecided) == (COUNT, COUNT, 0, 0)


def test_what_pika_takes_is_lost_by_its_number(vhost: Any) -> None:
    """From the head before anybody consumes, and from the middle while we do."""
    taken: list[str] = []

    def take(count: int) -> None:
        with witness(vhost.url) as channel:
            for _ in range(count):
                _, properties, _ = channel.basic_get(WORK, auto_ack=True)
                taken.append(properties.message_id)

    outcomes = send(vhost.url)
    take(3)
    work = read(vhost.url, WORK, at(COUNT // 2, lambda: take(4)))
    evidence = {WORK: work, AUDIT: read(vhost.url, AUDIT)}
    verdict = judge([outcomes], evidence)
    assert verdict.decision is Decision.FAIL
    found = verdict.queues[WORK]
    assert list(found.lost_ids) == list(lost_ids([outcomes], work)) == sorted(taken)
    assert (found.lost, found.lost_head, found.lost_middle, found.lost_tail) == (7, 3, 4, 0)
    books_are_good(verdict, AUDIT)


@pytest.mark.parametrize("told", [False, True])
def test_a_purge_in_the_middle_is_found(vhost: Any, told: bool) -> None:
    """Lost, unless the broker's answer to the purge is among the evidence: then purged."""
    purged: list[int] = []

    def purge() -> None:
        with witness(vhost.url) as channel:
            purged.append(channel.queue_purge(WORK).method.message_count)

    outcomes = send(vhost.url, at(COUNT // 2, purge))
    assert purged[0] > 0
    work = read(vhost.url, WORK)
    if told:
        work = QueueEvidence(
            work.name, work.kind, work.receipts, work.left, work.drained, consumers=1,
            drops=(Drop("purged", count=purged[0]),),
        )  # fmt: skip
    verdict = judge([outcomes], {WORK: work, AUDIT: read(vhost.url, AUDIT)})
    found = verdict.queues[WORK]
    assert verdict.decision is Decision.FAIL
    assert found.unique == COUNT - purged[0]
    if told:
        assert (found.lost, found.dropped) == (0, {"purged": purged[0]})
    else:
        numbers = [identity.n for one in found.lost_ids if (identity := identify(one))]
        assert (found.lost, found.lost_head) == (purged[0], purged[0])
        assert numbers == [*range(1, purged[0] + 1)][:1000]
    books_are_good(verdict, AUDIT)


def test_a_binding_that_is_gone_for_a_while_is_found(vhost: Any) -> None:
    """Every publish is confirmed and none returned, because the other queue has them all."""

    def wire(done: int) -> None:
        if done >= COUNT // 3 and not cut:
            cut.append(done)
            with witness(vhost.url) as channel:
                channel.queue_unbind(WORK, "direct.exchange", "work")
        elif done >= 2 * COUNT // 3 and len(cut) == 1:
            cut.append(done)
            with witness(vhost.url) as channel:
                channel.queue_bind(WORK, "direct.exchange", "work")

    cut: list[int] = []
    outcomes = send(vhost.url, wire)
    assert not outcomes.returned
    short = COUNT - ready(vhost.url, WORK)  # as pika counts it
    assert short > 0
    verdict = judge([outcomes], {WORK: read(vhost.url, WORK), AUDIT: read(vhost.url, AUDIT)})
    found = verdict.queues[WORK]
    assert verdict.decision is Decision.FAIL
    assert (found.lost, found.lost_middle) == (short, short)
    numbers = [identity.n for one in found.lost_ids if (identity := identify(one))]
    assert numbers == list(range(numbers[0], numbers[0] + min(short, 1000)))
    books_are_good(verdict, AUDIT)


def test_a_message_moved_to_the_end_is_out_of_order(vhost: Any) -> None:
    """Nothing is lost; it came behind later ones, where order is promised."""
    outcomes = send(vhost.url)
    with witness(vhost.url) as channel:
        _, properties, body = channel.basic_get(WORK, auto_ack=True)
        channel.basic_publish("", WORK, body, properties)
    verdict = judge([outcomes], {WORK: read(vhost.url, WORK), AUDIT: read(vhost.url, AUDIT)})
    found = verdict.queues[WORK]
    assert (verdict.decision, found.lost, found.reordered) == (Decision.FAIL, 0, 1)
    assert verdict.queues[AUDIT].reordered == 0


def test_what_nobody_touched_passes(vhost: Any) -> None:
    """The same steps without anybody behind our back."""
    outcomes = send(vhost.url)
    verdict = judge([outcomes], {WORK: read(vhost.url, WORK), AUDIT: read(vhost.url, AUDIT)})
    assert (verdict.decision, verdict.reasons) == (Decision.PASS, ())
    books_are_good(verdict, WORK)
    books_are_good(verdict, AUDIT)
