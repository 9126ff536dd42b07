"""Our consumer, fed by our producer and by somebody else's client."""

from __future__ import annotations

import json
import threading
from typing import Any

import pika
import pytest

from rabbitproof.errors import GivenUp
from rabbitproof.identity import Source, message_id
from rabbitproof.model import Advanced, Note, Sample, Started
from support import consumer, drive, eventually, producer, ready, witness


def test_every_message_is_recorded_and_acknowledged(vhost: Any) -> None:
    """All of a run is received once, checked, and gone from the queue."""
    drive(producer(vhost.url, 5000))
    end = drive(consumer(vhost.url, expect=5000))
    assert (end.consumed, end.unique, end.missing) == (5000, 5000, 0)
    assert (end.redelivered, end.duplicates, end.corrupt, end.foreign) == (0, 0, 0, 0)
    assert ready(vhost.url, "work.queue") == 0
    assert ready(vhost.url, "audit.queue") == 5000


def test_each_mark_of_the_progress_shows_the_message_that_reached_it(vhost: Any) -> None:
    """However many arrive at once, the line for 700 shows the 700th, not the last of its batch."""
    drive(producer(vhost.url, 1000))
    reading = consumer(vhost.url, expect=1000, progress_every=7)
    marks = [event for event in reading.run() if isinstance(event, Advanced) and event.mark]
    assert [event.done for event in marks] == list(range(7, 1001, 7))
    assert [event.sample.n for event in marks if event.sample] == [str(m.done) for m in marks]


def test_a_name_of_any_length_and_of_any_bytes_is_taken(vhost: Any) -> None:
    drive(producer(vhost.url, 10))
    end = drive(consumer(vhost.url, expect=10, name="\udce9" + "é" * 300))
    assert end.consumed == 10


def test_what_is_prefetched_beyond_expect_goes_back(vhost: Any) -> None:
    """A consumer that expects fewer leaves the rest in the queue."""
    drive(producer(vhost.url, 1000))
    end = drive(consumer(vhost.url, expect=333, prefetch=1000))
    assert end.consumed == 333
    eventually(lambda: ready(vhost.url, "work.queue") == 667, "the rest is ready again")


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (b"", {}),
        (b"not json", {}),
        (b"\xff\xfe\x00 not UTF-8 \xce", {}),
        (b"[1, 2, 3]", {"content_type": "application/json"}),
        (b"x" * 1_000_000, {"message_id": "0a1b2c3d-4e5f-4001-8000-000000000001"}),
        (
            b"\x1b]0;title\x07",
            {"headers": {"\x1b[31m": "\x1b[0m", "deep": {"a": [1, {"b": None}]}}},
        ),
        (b"{}", {"message_id": "", "headers": {"checksum": 17}}),
        (b"{}", {"headers": {}, "timestamp": 2**63 - 1, "priority": 9, "expiration": "60000"}),
        (b'{"n":' + b"[" * 5000, {"type": "t", "user_id": None, "correlation_id": "c"}),
    ],
)
def test_somebody_elses_message_is_foreign_and_never_a_crash(
    vhost: Any, body: bytes, properties: dict[str, Any]
) -> None:
    """Whatever is in a message, it is consumed, shown and counted as foreign."""
    drive(producer(vhost.url, 3))
    with witness(vhost.url) as channel:
        channel.basic_publish("direct.exchange", "work", body, pika.BasicProperties(**properties))
    drive(producer(vhost.url, 3))
    reading = consumer(vhost.url, expect=7, show_all=True)
    shown = [event for event in reading.run() if isinstance(event, Sample)]
    end = reading.summary()
    assert (end.consumed, end.unique, end.foreign, end.corrupt) == (7, 6, 1, 0)
    assert [sample.number for sample in shown] == list(range(1, 8))
    assert ready(vhost.url, "work.queue") == 0


def test_pikas_messages_of_the_demo_are_shown(vhost: Any) -> None:
    """A message in the demo's format, by another client, is shown with its sender and text."""
    with witness(vhost.url) as channel:
        channel.queue_declare("work.queue", durable=True)
        for n in (1, 2):
            channel.basic_publish(
                "",
                "work.queue",
                json.dumps({"n": n, "text": "Hi", "sent_by": "bob"}),
                pika.BasicProperties(message_id=f"id-{n}", headers={"producer_id": "bob"}),
            )
    reading = consumer(vhost.url, expect=2, show_all=True)
    shown = [event for event in reading.run() if isinstance(event, Sample)]
    assert [(s.message_id, s.sender, s.n, s.text) for s in shown] == [
        ("id-1", "bob", "1", "Hi"),
        ("id-2", "bob", "2", "Hi"),
    ]


def test_a_message_that_is_missing_is_counted(vhost: Any) -> None:
    """A message taken away behind our back is a gap."""
    drive(producer(vhost.url, 100))
    with witness(vhost.url) as channel:
        for _ in range(41):
            method, _, _ = channel.basic_get("work.queue")
        channel.basic_ack(method.delivery_tag)
    reading = consumer(vhost.url, idle_timeout=1.0)
    assert drive(reading).missing == 1
    (receipts,) = reading.receipts.by_source.values()
    assert 41 not in receipts.seen
    assert len(receipts.seen) == 99


def test_redelivered_copies_are_told_from_duplicates(vhost: Any) -> None:
    """A first sight with the flag is no duplicate; a second copy is one."""
    drive(producer(vhost.url, 10))
    with witness(vhost.url) as channel:
        method, properties, body = channel.basic_get("work.queue")
        channel.basic_nack(method.delivery_tag, requeue=True)
        channel.basic_publish("direct.exchange", "work", body, properties)
    end = drive(consumer(vhost.url, idle_timeout=1.0))
    assert (end.unique, end.redelivered, end.duplicates) == (10, 1, 1)


def test_duplicates_do_not_count_towards_expect(vhost: Any) -> None:
    """A duplicate is acknowledged and counted, and one more message is waited for."""
    drive(producer(vhost.url, 2))
    with witness(vhost.url) as channel:
        _, properties, body = channel.basic_get("work.queue", auto_ack=True)
        for _ in range(3):
            channel.basic_publish("direct.exchange", "work", body, properties)
    end = drive(consumer(vhost.url, expect=2))
    assert (end.consumed, end.unique) == (2, 2)
    rest = drive(consumer(vhost.url, idle_timeout=1.0))
    assert end.duplicates + rest.unique + rest.duplicates == 2


@pytest.mark.parametrize("what", ["body", "id", "checksum", "nameless"])
def test_an_altered_message_is_corrupt(vhost: Any, what: str) -> None:
    """An altered body, id or checksum is found."""
    source = Source("0a1b2c3d4e5f", 1)
    drive(producer(vhost.url, 20, source=source))
    with witness(vhost.url) as channel:
        _, properties, body = channel.basic_get("work.queue", auto_ack=True)
        match what:
            case "body":
                body = body.replace(b"World", b"Warld")
            case "id":
                properties.message_id = message_id(source, 20)
            case "checksum":
                properties.headers["checksum"] = "zzzzzzzz"
            case "nameless":
                properties.message_id = "x" * 36
        channel.basic_publish("direct.exchange", "work", body, properties)
    end = drive(consumer(vhost.url, idle_timeout=1.0))
    assert (end.unique, end.corrupt, end.duplicates) == (19, 1, 0)


def test_unacknowledged_messages_return_when_a_consumer_dies(vhost: Any) -> None:
    """Closing the socket in the middle loses nothing; the rest is flagged as redelivered."""
    drive(producer(vhost.url, 3000))
    dying = consumer(vhost.url, prefetch=500)
    for event in dying.run():
        if isinstance(event, Advanced) and event.done >= 100:
            break
    taken = dying.summary().consumed
    returned = dying.unanswered
    dying._open.abandon()
    rest = consumer(vhost.url, idle_timeout=1.0)
    end = drive(rest)
    assert end.unique >= 3000 - taken
    dying.receipts.unite([rest.receipts])
    assert dying.receipts.unique == 3000
    assert dying.receipts.duplicates <= 500
    assert returned <= 500


def test_a_missing_queue_is_created_durable(vhost: Any) -> None:
    """Consuming from a queue that does not exist makes it, says so, and waits."""
    reading = consumer(vhost.url, "new.queue", idle_timeout=0.2)
    notes = [event.text for event in reading.run() if isinstance(event, Note)]
    assert len(notes) == 1
    assert "'new.queue'" in notes[0]
    with witness(vhost.url) as channel:
        channel.queue_declare("new.queue", durable=True)  # equivalent, or it would raise


def test_a_queue_of_any_settings_can_be_consumed(vhost: Any) -> None:
    """The queue's own arguments never matter."""
    with witness(vhost.url) as channel:
        channel.queue_declare(
            "odd\x1b[31m.queue", durable=True, arguments={"x-max-length": 7, "x-max-priority": 3}
        )
        channel.basic_publish("", "odd\x1b[31m.queue", b"{}")
    assert drive(consumer(vhost.url, "odd\x1b[31m.queue", expect=1)).foreign == 1


def test_a_deleted_queue_ends_the_consumer_with_a_sentence(vhost: Any) -> None:
    """The broker's cancel is noticed; a queue that does not come back is given up."""
    drive(producer(vhost.url, 1))
    reading = consumer(vhost.url, give_up_s=0.3)
    events = reading.run()
    assert any(isinstance(event, Advanced) for event in events)
    with witness(vhost.url) as channel:
        channel.queue_delete("work.queue")
    with pytest.raises(GivenUp, match=r"no queue 'work\.queue' .* any more; declare it again"):
        list(events)


def test_a_queue_that_was_deleted_and_made_again_is_subscribed_to_again(vhost: Any) -> None:
    """The consumer says that it was ended, waits for the queue, and goes on."""
    drive(producer(vhost.url, 1))
    reading = consumer(vhost.url, expect=3)
    notes = []
    for event in reading.run():
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Advanced) and event.done == 1 and not notes:
            with witness(vhost.url) as channel:
                channel.queue_delete("work.queue")
            drive(producer(vhost.url, 2))
    assert reading.summary().unique == 3
    assert "The broker ended the consumer on 'work.queue'" in notes[0]
    assert notes[-1] == "Connected again."


def test_other_consumers_make_gaps_meaningless(vhost: Any) -> None:
    """While somebody else consumes too, missing is unknown."""
    drive(producer(vhost.url, 10))
    with witness(vhost.url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("work.queue", lambda *_: None)
        assert drive(consumer(vhost.url, idle_timeout=0.5)).missing is None


def test_a_consumer_that_left_made_gaps_meaningless_too(vhost: Any) -> None:
    """Somebody who consumed when we began and is gone at the end counts as well."""
    drive(producer(vhost.url, 10))
    reading = consumer(vhost.url, idle_timeout=0.5)
    with witness(vhost.url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("work.queue", lambda *_: None)
        events = reading.run()
        assert any(isinstance(event, Started) for event in events)
    list(events)
    assert reading.summary().missing is None


def test_a_consumer_that_came_later_and_left_earlier_is_seen(vhost: Any) -> None:
    """Its share is a gap, and somebody else's business."""
    drive(producer(vhost.url, 1))  # makes the queues
    ours = consumer(vhost.url, idle_timeout=2.0)
    thread = threading.Thread(target=lambda: drive(ours))
    thread.start()
    eventually(lambda: ours.began, "our consumer has begun")
    with witness(vhost.url) as channel:
        taken: list[int] = []
        channel.basic_consume(
            "work.queue", lambda *found: taken.append(found[1].delivery_tag), auto_ack=True
        )
        for _ in producer(vhost.url, 300, rate=200.0).run():
            channel.connection.process_data_events(0)
        assert taken
    thread.join(20)

    assert not thread.is_alive()
    assert ours.receipts.missing
    assert ours.summary().missing is None


def test_rejected_messages_are_dropped_and_requeued_ones_come_again(vhost: Any) -> None:
    """The two experiments do what they are called."""
    drive(producer(vhost.url, 50))
    again = drive(consumer(vhost.url, expect=50, answer="requeue", prefetch=200))
    assert again.unique == 50
    eventually(lambda: ready(vhost.url, "work.queue") == 50, "all are back")
    gone = drive(consumer(vhost.url, expect=50, answer="reject", prefetch=10))
    assert gone.unique == 50
    assert ready(vhost.url, "work.queue") == 0


def test_mixed_traffic_of_two_producers(vhost: Any) -> None:
    """Two producers of one run, messages of many sizes and foreign ones are told apart."""
    run = "0a1b2c3d4e5f"
    for number in (1, 2):
        for size in (0, 5000, 200_000):
            source = Source(run, number if size else number + 10)
            drive(producer(vhost.url, 40, source=source, size=size))
    with witness(vhost.url) as channel:
        for _ in range(20):
            channel.basic_publish("direct.exchange", "work", b"?")
    reading = consumer(vhost.url, idle_timeout=1.0)
    end = drive(reading)
    # The runs with 5,000 and 200,000 bytes share their names, so each is a second copy.
    assert (end.unique, end.duplicates, end.foreign, end.corrupt) == (160, 80, 20, 0)


def test_started_comes_before_the_first_message(vhost: Any) -> None:
    """The participant says when it is ready."""
    drive(producer(vhost.url, 1))
    first = next(e for e in consumer(vhost.url, expect=1).run() if not isinstance(e, Note))
    assert isinstance(first, Started)
