"""Latency on a real broker: what counts, from when, and what an outage does to it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.model import Advanced, Started
from rabbitproof.work import produce
from support import consumer, drive, producer, topology, witness

if TYPE_CHECKING:
    from rabbitproof.broker.node import Node

OUTAGE_S = 2.0


def counted(latency: dict[str, Any] | None) -> int:
    assert latency is not None
    return int(latency["count"]) + int(latency["warm_up_left_out"])


def test_what_an_outage_delays_counts_from_when_it_was_due(private_node: Node) -> None:
    """A broker that stands still for 2 s: half of 4 s of messages are late, some by all of it.

    The window is full after a fraction of the outage, so most of them can't even be sent. Measured
    from when they were sent, they would seem to have been fast.
    """
    count, rate = 2_000, 500
    drive(producer(private_node.url, 1))
    reading = consumer(private_node.url, expect=count + 1)
    received: list[Any] = []
    listening = threading.Event()

    def listen() -> None:
        for event in reading.run():
            if isinstance(event, Started):
                listening.set()
        received.append(reading.summary())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert listening.wait(20)
    sending = producer(private_node.url, count, rate=rate, window=100)
    resume = threading.Timer(OUTAGE_S, private_node.resume)
    try:
        for event in sending.run():
            if isinstance(event, Advanced) and event.done >= 500 and not resume.ident:
                private_node.pause()
                resume.start()
    finally:
        if resume.ident:
            resume.join()
        listener.join(30)
    sent = sending.summary()
    assert (sent.published, sent.resent) == (count, 0)
    (got,) = received
    outage = OUTAGE_S * 1000
    for latency in (sent.latency, got.latency):
        assert latency is not None
        assert latency["negative"] == 0
        assert latency["max"] >= 0.95 * outage
        assert latency["p99"] >= 0.9 * outage
        # Half of the run, less what came before it was over: far from all messages are fast.
        assert latency["p90"] >= 0.6 * outage
        assert latency["p50"] < 0.9 * outage
    # 5 % of the messages, which came within the first second.
    assert (sent.latency["count"], sent.latency["warm_up_left_out"]) == (1_900, 100)
    assert counted(got.latency) == count + 1
    assert got.latency["clocks"] == "one host"
    assert got.latency["live"] is False  # the first message had been waiting


@pytest.mark.parametrize(
    ("count", "sending", "receiving"),
    [
        (300, {"window": 1}, {"prefetch": 1}),
        (300, {"window": 1, "rate": 2_000}, {"prefetch": 65_535}),
        (3_000, {"size": 0}, {}),
        (3_000, {"rate": 1e9}, {}),
        (3, {"size": 10_000_000}, {}),
    ],
)
def test_extreme_settings_measure_every_message(
    vhost: Any, count: int, sending: dict[str, Any], receiving: dict[str, Any]
) -> None:
    """A window or prefetch of 1, the largest prefetch, no padding, 10 MB, an absurd rate."""
    sent = drive(producer(vhost.url, count, **sending))
    assert sent.published == count
    got = drive(consumer(vhost.url, expect=count, **receiving))
    assert got.unique == count
    for latency in (sent.latency, got.latency):
        assert counted(latency) == count
        assert latency["negative"] == 0
        assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 60_000
    assert got.latency["clocks"] == "one host"


def test_only_first_copies_of_ours_count(vhost: Any) -> None:
    """Neither a redelivered copy, nor a second one, nor a damaged or foreign message."""
    drive(producer(vhost.url, 10))
    with witness(vhost.url) as channel:
        first, _, _ = channel.basic_get("work.queue")
        _, properties, body = channel.basic_get("work.queue")
        _, altered, rest = channel.basic_get("work.queue")
        channel.basic_ack(first.delivery_tag + 2)  # the third is taken away, and comes damaged
        channel.basic_nack(first.delivery_tag + 1, multiple=True, requeue=True)
        channel.basic_publish("", "work.queue", body, properties)  # a second copy
        channel.basic_publish("", "work.queue", rest.replace(b"World", b"Warld"), altered)
        channel.basic_publish("", "work.queue", b"{}")
    got = drive(consumer(vhost.url, idle_timeout=1.0))
    assert (got.unique, got.redelivered, got.duplicates) == (9, 2, 1)
    assert (got.corrupt, got.foreign) == (1, 1)
    assert counted(got.latency) == 10 - 2 - 1


def test_a_second_copy_among_whole_messages_does_not_count(vhost: Any) -> None:
    """Its first one did."""
    drive(producer(vhost.url, 10))
    with witness(vhost.url) as channel:
        _, properties, body = channel.basic_get("work.queue", auto_ack=True)
        for _ in range(3):
            channel.basic_publish("", "work.queue", body, properties)
    got = drive(consumer(vhost.url, idle_timeout=1.0))
    assert (got.unique, got.duplicates, got.corrupt) == (10, 2, 0)
    assert counted(got.latency) == 10


def test_a_redelivered_copy_beside_a_damaged_one_does_not_count(vhost: Any) -> None:
    """They are looked at one by one then."""
    drive(producer(vhost.url, 5))
    with witness(vhost.url) as channel:
        for n in range(1, 6):  # all by one client, so that they are read together
            _, properties, body = channel.basic_get("work.queue", auto_ack=True)
            body = body.replace(b"World", b"Warld") if n == 3 else body
            channel.basic_publish("", "work.queue", body, properties)
        for _ in range(5):
            method, _, _ = channel.basic_get("work.queue")
        channel.basic_nack(method.delivery_tag, multiple=True, requeue=True)
    got = drive(consumer(vhost.url, idle_timeout=1.0))
    assert (got.unique, got.redelivered, got.corrupt) == (4, 4, 1)
    assert counted(got.latency) == 0


def test_large_messages_know_their_time_and_host(vhost: Any) -> None:
    """What is too large for the fast path is measured as well."""
    for host, clocks in (("here", "one host"), ("there", "different hosts")):
        drive(producer(vhost.url, 2, size=3_000_000, host=host))
        got = drive(consumer(vhost.url, expect=2, host="here"))
        assert counted(got.latency) == 2
        assert got.latency["clocks"].startswith(clocks)


def test_a_sender_on_another_host_is_told(vhost: Any) -> None:
    """Its clock is another one."""
    for hosts, clocks in ((["here"], "one host"), (["here", "over"], "different hosts")):
        for host in hosts:
            drive(producer(vhost.url, 20, host=host))
        got = drive(consumer(vhost.url, expect=20 * len(hosts), host="here"))
        assert got.latency["clocks"].startswith(clocks)
        assert got.latency["live"] is False


def test_a_hostile_time_of_sending_is_no_crash(vhost: Any) -> None:
    """Long ago, far ahead, or no number at all: counted as what it is, or not."""
    drive(producer(vhost.url, 5, topology=topology(audit=None)))
    with witness(vhost.url) as channel:
        for when in (10**10, 2**62, -(2**62), "yesterday", None):
            _, properties, body = channel.basic_get("work.queue", auto_ack=True)
            properties.headers["sent_ns"] = when
            channel.basic_publish("", "work.queue", body, properties)
    got = drive(consumer(vhost.url, expect=5))
    assert got.unique == 5
    assert (got.latency["count"], got.latency["negative"]) == (2, 1)
    assert got.latency["p50"] <= 3_600_000 * 1.001 < got.latency["max"]


def test_a_nacked_message_counts_until_its_confirm(
    vhost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full queue refuses is tried again after a pause, and the pause is in its latency."""
    monkeypatch.setattr(produce, "_NACK_PAUSE_S", 0.3)
    full = {"x-max-length": 5, "x-overflow": "reject-publish"}
    with witness(vhost.url) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
        channel.queue_declare("work.queue", durable=True, arguments=full)
        channel.queue_bind("work.queue", "direct.exchange", "work")
    sending = producer(vhost.url, 30, declare=False)
    with witness(vhost.url) as channel:
        for _ in sending.run():
            if sending.outcomes.nacked:
                channel.queue_purge("work.queue")
    sent = sending.summary()
    assert (sent.published, counted(sent.latency)) == (30, 30)
    assert sent.latency["max"] >= 300
    assert sent.latency["count"] == 29  # 5 % of 30 is one message
