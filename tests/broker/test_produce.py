"""Our producer, read by somebody else's client."""

from __future__ import annotations

import json
import time
import uuid
import zlib
from typing import Any

import pytest

from rabbitproof.errors import NotFound, PreconditionFailed
from rabbitproof.identity import Source
from rabbitproof.model import Advanced, Purged
from rabbitproof.work import produce
from support import consumer, drive, producer, ready, topology, witness


def test_pika_reads_every_property_as_documented(vhost: Any) -> None:
    """A message has the documented body, properties and headers."""
    before = int(time.time())
    drive(
        producer(
            vhost.url,
            12,
            source=Source("0a1b2c3d4e5f", 7),
            text='Grüße, "you" 100%',
            sender="alice",
            host="here",
        )
    )
    with witness(vhost.url) as channel:
        for n in range(1, 13):
            method, properties, body = channel.basic_get("work.queue", auto_ack=True)
            assert (method.exchange, method.routing_key) == ("direct.exchange", "work")
            content = json.loads(body.decode("utf-8"))
            assert list(content) == ["n", "text", "sent_by"]
            assert content == {"n": n, "text": 'Grüße, "you" 100%', "sent_by": "alice"}
            identity = uuid.UUID(properties.message_id)
            assert (identity.version, identity.variant) == (8, uuid.RFC_4122)
            assert properties.message_id == f"0a1b2c3d-4e5f-8007-8000-{n:012x}"
            assert properties.content_type == "application/json"
            assert properties.app_id == "rabbitmq.producer"
            assert properties.delivery_mode == 2
            assert before <= properties.timestamp <= time.time()
            assert set(properties.headers) == {"producer_id", "host", "checksum", "sent_ns"}
            assert properties.headers["producer_id"] == "alice"
            assert properties.headers["host"] == "here"
            crc = zlib.crc32(properties.message_id.encode() + body)
            assert properties.headers["checksum"] == f"{crc:08x}"
            assert before * 10**9 <= properties.headers["sent_ns"] <= time.time_ns()
        assert channel.basic_get("work.queue")[0] is None


def test_both_queues_get_every_message(vhost: Any) -> None:
    """Work and audit queue hold exactly what was confirmed, and purge starts anew."""
    first = drive(producer(vhost.url, 1000))
    assert (first.published, first.ready) == (1000, 1000)
    again = producer(vhost.url, 2500, purge=True)
    purged = [event for event in again.run() if isinstance(event, Purged)]
    assert [(event.queue, event.messages) for event in purged] == [
        ("work.queue", 1000),
        ("audit.queue", 1000),
    ]
    assert again.summary().published == 2500
    assert ready(vhost.url, "work.queue") == ready(vhost.url, "audit.queue") == 2500


def test_transient_messages_when_not_persistent(vhost: Any) -> None:
    """Without persistence the delivery mode is 1."""
    drive(producer(vhost.url, 1, persistent=False))
    with witness(vhost.url) as channel:
        assert channel.basic_get("work.queue", auto_ack=True)[1].delivery_mode == 1


@pytest.mark.parametrize("size", [0, 10, 4_000, 300_000, 3_000_000])
def test_a_padded_body_has_the_size_asked_for(vhost: Any, size: int) -> None:
    """A body has at least the size asked for, over as many frames as it takes."""
    drive(producer(vhost.url, 11, size=size))
    with witness(vhost.url) as channel:
        bodies = [channel.basic_get("work.queue", auto_ack=True)[2] for _ in range(11)]
    assert [json.loads(body)["n"] for body in bodies] == list(range(1, 12))
    shortest = len(b'{"n":1,"text":"Hello World","sent_by":"unknown"}')
    assert {len(body) for body in bodies[:9]} == {max(size, shortest)}
    assert len(bodies[9]) == max(size, shortest + 1)


def test_a_message_that_no_queue_takes_is_returned(vhost: Any) -> None:
    """Unroutable messages are returned and do not count as published."""
    with witness(vhost.url) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
    end = drive(producer(vhost.url, 50, declare=False))
    assert (end.published, end.returned, end.in_doubt) == (0, 50, 0)


def test_a_missing_exchange_is_an_error_that_says_so(vhost: Any) -> None:
    """Publishing to an exchange that does not exist ends in the broker's words."""
    with pytest.raises(NotFound, match=r"no exchange 'direct\.exchange'"):
        drive(producer(vhost.url, 50, declare=False))


def test_other_settings_are_shown_side_by_side(vhost: Any) -> None:
    """A queue with other arguments is an error with both values and two ways out."""
    with witness(vhost.url) as channel:
        channel.queue_declare("work.queue", durable=True, arguments={"x-max-length": 5})
    with pytest.raises(PreconditionFailed) as caught:
        drive(producer(vhost.url, 5))
    text = str(caught.value)
    assert "x-max-length: declared 5, wanted none" in text
    assert "--no-declare" in text
    assert "delete_queue work.queue" in text


def test_a_nacked_message_is_tried_again(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a full queue refuses is sent again until there is room."""
    monkeypatch.setattr(produce, "_NACK_PAUSE_S", 0.05)
    full = {"x-max-length": 10, "x-overflow": "reject-publish"}
    with witness(vhost.url) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
        channel.queue_declare("work.queue", durable=True, arguments=full)
        channel.queue_bind("work.queue", "direct.exchange", "work")
    sending = producer(vhost.url, 30, declare=False, window=5)
    taken = set()
    with witness(vhost.url) as channel:
        for event in sending.run():
            if isinstance(event, Advanced) and sending.outcomes.nacked:
                _, properties, _ = channel.basic_get("work.queue", auto_ack=True)
                if properties is not None:
                    taken.add(properties.message_id)
    end = sending.summary()
    assert (end.published, end.nacked, end.in_doubt) == (30, 0, 0)
    assert end.resent > 0
    rest = consumer(vhost.url, idle_timeout=0.5)
    drive(rest)
    assert rest.receipts.unique + len(taken) >= 30


def test_a_message_refused_to_the_end_is_nacked(vhost: Any) -> None:
    """After the deadline a refused message keeps the outcome nacked."""
    full = {"x-max-length": 10, "x-overflow": "reject-publish"}
    with witness(vhost.url) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
        channel.queue_declare("work.queue", durable=True, arguments=full)
        channel.queue_bind("work.queue", "direct.exchange", "work")
    end = drive(producer(vhost.url, 30, declare=False, nack_deadline_s=0.5))
    assert end.published + end.nacked == 30
    assert end.nacked > 0
    assert end.in_doubt == 0


def test_a_rate_is_kept(vhost: Any) -> None:
    """With a rate, the run takes as long as the rate says."""
    end = drive(producer(vhost.url, 200, rate=400))
    assert end.published == 200
    assert end.seconds >= 199 / 400


def test_without_confirms_everything_stays_in_doubt(vhost: Any) -> None:
    """Without confirms nothing counts as published, though all arrive on a healthy broker."""
    end = drive(producer(vhost.url, 2000, confirms=False))
    assert (end.attempted, end.published, end.in_doubt) == (2000, 0, 2000)
    assert ready(vhost.url, "work.queue") == 2000


@pytest.mark.parametrize("audit", ["quorum", "stream"])
def test_quorum_queues_and_streams(vhost: Any, audit: str) -> None:
    """Quorum queues and streams take and keep every message; purge empties both."""
    wiring = topology(kind="quorum")
    wiring = type(wiring)(
        wiring.exchange,
        wiring.routing_key,
        wiring.work,
        type(wiring.work)("audit.queue", audit, durable=True),  # type: ignore[arg-type]
    )
    for _ in range(2):
        end = drive(producer(vhost.url, 500, topology=wiring, purge=True))
        assert (end.published, end.ready) == (500, 500)
    received = consumer(
        vhost.url,
        "audit.queue",
        expect=500,
        stream_offset="first" if audit == "stream" else None,
    )
    assert drive(received).unique == 500
    assert received.receipts.duplicates == 0
