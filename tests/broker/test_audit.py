"""Reading, exporting and replaying on a real broker; pika publishes what is odd."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

from rabbitproof.amqp import content
from rabbitproof.broker.management import Management
from rabbitproof.broker.routes import read_vhost
from rabbitproof.work import audit, export
from rabbitproof.work import topology as wiring
from rabbitproof.work.forecast import Forecast
from rabbitproof.work.hold import Held, offset_of
from rabbitproof.work.resend import Copy, Sender
from rabbitproof.work.retry import Retry
from support import connector, drive, eventually, producer, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rabbitproof.broker.node import Node

KINDS = ("classic", "quorum", "stream")


def odd_messages(channel: Any, exchange: str, key: str, kind: str = "classic") -> int:
    """Publish messages with every field type that pika knows, and of every sort.

    Less for a stream: RabbitMQ 3.10 answers tables, arrays and others with a crash.
    """
    channel.confirm_delivery()
    headers = {
        "text": "ü\u202e\x1b[2J",
        "bytes": b"\xff\x00",
        "yes": True,
        "none": None,
        "small": 5,
        "large": 2**40,
        "negative": -7,
        "decimal": decimal.Decimal("3.14"),
        "time": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
        "nested": {"list": [1, "two", {"three": [None, False]}], "empty": {}},
    }
    if kind == "stream":
        headers = {key: headers[key] for key in ("text", "yes", "small", "large", "negative")}
    properties = [
        None,
        # An empty table and none are the same once the broker has put a header of its own in.
        pika.BasicProperties(headers={} if kind == "classic" else None),
        pika.BasicProperties(headers=headers),
        pika.BasicProperties(
            content_type="text/plain",
            content_encoding="x",
            delivery_mode=2,
            priority=3,
            correlation_id="c",
            reply_to="r",
            expiration="3600000",
            message_id="m",
            timestamp=1_700_000_000,
            type="t",
            app_id="a",
            headers={f"h{i}": i for i in range(200)},
        ),
    ]
    bodies = [b"", "Grüße 🐰".encode(), os.urandom(300), b'{"n": 1}\n', b"x" * 300_000]
    for one in properties:
        for body in bodies:
            channel.basic_publish(exchange, key, body, one)
    return len(properties) * len(bodies)


def typed_message(url: str, exchange: str, key: str) -> None:
    """Publish one message with the field types that pika does not write."""
    headers = {
        "b": {"b": -5}, "s": {"s": -300}, "I": {"I": 7}, "l": {"l": -1}, "f": {"f": 0.5},
        "d": {"d": -1e300}, "T": {"T": 2**40},
        "x": {"x": "/wA="}, "S": "text", "not UTF-8": {"S": "/w=="}, "A": {"A": [{"b": 1}]},
    }  # fmt: skip
    with connector(url)() as connection:
        sender = Sender(connection, Retry())
        properties = content.encode({"headers": headers})
        sender.send(1, Copy(exchange.encode(), key.encode(), properties, b"typed"))
        (result,) = sender.settle(10)
        assert result.outcome == "confirmed"


def write(url: str, queue: str, path: Path, kind: str, **settings: Any) -> int:
    with (
        connector(url)() as connection,
        export.create(path, replace=True) as writer,
    ):
        held = Held(connection, queue, stream=kind == "stream", **settings)
        for _ in audit.export(held, writer, None):
            pass
        return writer.messages


def send(url: str, path: Path, **settings: Any) -> audit.Counts:
    settings.setdefault("speed", None)
    replayer = audit.Replayer(
        audit.Task(**settings), audit.Records(export.records(path)), connector(url, "replay")
    )
    for _ in replayer.run():
        pass
    return replayer.counts


def declare(channel: Any, kind: str) -> None:
    channel.exchange_declare("trail", "direct", durable=True)
    channel.queue_declare("audit", durable=True, arguments={"x-queue-type": kind})
    channel.queue_bind("audit", "trail", "key")


def without_mark(path: Path) -> list[Any]:
    records = list(export.records(path))
    assert all(record.pop("replayed") for record in records)
    return records


@pytest.mark.parametrize("kind", KINDS)
def test_export_replay_export_differs_in_the_mark_alone(
    vhost: Any, tmp_path: Path, kind: str
) -> None:
    """Every field type, property and body comes through the file as it was, in every queue type."""
    with witness(vhost.url) as channel:
        declare(channel, kind)
        count = odd_messages(channel, "trail", "key", kind)
    if kind != "stream":  # it keeps messages in AMQP 1.0, which has other types
        typed_message(vhost.url, "trail", "key")
        count += 1
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl.zst"
    assert write(vhost.url, "audit", first, kind) == count
    assert write(vhost.url, "audit", second, kind) == count, "it is all still there"
    assert list(export.records(second)) == list(export.records(first))
    if kind != "stream":
        # Not the last one: a quorum queue of RabbitMQ 4.3 heeds priorities.
        headers = [one["properties"].get("headers", {}) for one in export.records(first)]
        (typed,) = [one for one in headers if "not UTF-8" in one]
        assert typed["f"] == {"f": 0.5}
        assert typed["not UTF-8"] == {"S": "/w=="}
    with witness(vhost.url) as channel:
        channel.queue_delete("audit")
        declare(channel, kind)
    counts = send(vhost.url, first)
    assert (counts.read, counts.confirmed, counts.returned) == (count, count, 0)
    assert write(vhost.url, "audit", second, kind) == count
    assert without_mark(second) == list(export.records(first))


def test_a_replayed_message_is_what_pika_published(vhost: Any, tmp_path: Path) -> None:
    """Properties and body by another client's reading, with the mark among the headers."""
    with witness(vhost.url) as channel:
        declare(channel, "classic")
        odd_messages(channel, "trail", "key")
    write(vhost.url, "audit", tmp_path / "e.jsonl", "classic")
    before = []
    with witness(vhost.url) as channel:
        while (found := channel.basic_get("audit", auto_ack=True))[0]:
            before.append(found)
    send(vhost.url, tmp_path / "e.jsonl")
    with witness(vhost.url) as channel:
        for _, properties, body in before:
            _, got, copy = channel.basic_get("audit", auto_ack=True)
            name = "rabbitproof_replayed" + ("_bare_ns" if properties.headers is None else "_ns")
            assert abs(got.headers.pop(name) / 1e9 - time.time()) < 60
            assert copy == body
            assert got.headers == (properties.headers or {})
            got.headers = properties.headers
            assert got == properties


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_is_read_over_several_channels_and_given_back(vhost: Any, kind: str) -> None:
    """More than one consumer may hold is read in order, and all of it stands there again."""
    drive(producer(vhost.url, 1_000, topology=topology(kind=kind)))
    with connector(vhost.url)() as connection:
        held = Held(connection, "work.queue", hold=150, classic=kind == "classic")
        found = [json.loads(one.body)["n"] for some in held.read() for one in some]
        assert found == list(range(1, 1_001))
        held.give_back()
    eventually(lambda: ready(vhost.url, "work.queue") == 1_000, "all of it")
    with witness(vhost.url) as channel:
        left = [json.loads(channel.basic_get("work.queue", auto_ack=True)[2])["n"] for _ in found]
    assert left == found


def test_a_zero_that_took_long_is_no_count(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ says 0 for a quorum queue that is busy: it is asked again, and read to its end."""
    drive(producer(vhost.url, 700, topology=topology(kind="quorum")))
    look, silent = wiring.look, iter(range(6))

    def busy(*asked: Any) -> Any:
        answer = look(*asked)
        if next(silent, None) is not None:
            time.sleep(0.25)  # RabbitMQ waits so long for the queue; the wait is what is tested
            answer.message_count = 0
        return answer

    monkeypatch.setattr(wiring, "look", busy)
    with connector(vhost.url)() as connection:
        held = Held(connection, "work.queue", hold=150)
        assert held.there == 700
        silent = iter(range(3))
        assert sum(len(some) for some in held.read()) == 700
        silent = iter(range(3))
        held.give_back()
        silent = iter(range(2))
        assert wiring.ready_count(connection, "work.queue") == 700, "it waited for all of it"


def test_a_stream_is_read_from_an_offset_to_its_end(vhost: Any) -> None:
    """From the first, from a number, and from the last messages, without a wait for more."""
    wired = topology(audit="trail", kind="stream")
    drive(producer(vhost.url, 3_000, topology=wired, size=100))

    def offsets(start: Any, limit: int | None = None) -> list[int | None]:
        with connector(vhost.url)() as connection:
            held = Held(connection, "trail", stream=True, offset=start)
            return [offset_of(one) for some in held.read(limit) for one in some]

    assert offsets("first") == list(range(3_000))
    assert offsets(2_990) == list(range(2_990, 3_000))
    assert offsets(10, 5) == [10, 11, 12, 13, 14]
    assert offsets("last")[-1] == 2_999
    assert offsets(5_000) == []


def test_the_recorded_speed_is_kept(vhost: Any, tmp_path: Path) -> None:
    """At twice the speed it takes half the time; at once, none."""
    drive(producer(vhost.url, 21, rate=20.0))  # one second
    path = tmp_path / "e.jsonl"
    write(vhost.url, "audit.queue", path, "classic")
    began = time.monotonic()
    assert send(vhost.url, path, speed=2.0, exchange="", routing_key="work.queue").confirmed == 21
    took = time.monotonic() - began
    assert 0.45 < took < 5
    assert send(vhost.url, path, speed=None).seconds < 0.4
    assert ready(vhost.url, "work.queue") == 21 * 3


def test_a_queue_that_refuses_is_tried_again_and_then_named(
    vhost: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused to the end is counted, and nothing more is sent."""
    monkeypatch.setattr(audit, "NACK_DEADLINE_S", 0.6)
    drive(producer(vhost.url, 500))
    path = tmp_path / "e.jsonl"
    write(vhost.url, "audit.queue", path, "classic")
    with witness(vhost.url) as channel:
        full = {"x-max-length": 5, "x-overflow": "reject-publish"}
        channel.queue_declare("small", durable=True, arguments=full)
    counts = send(vhost.url, path, exchange="", routing_key="small")
    assert counts.nacked > 0
    assert counts.confirmed + counts.nacked <= 500
    assert ready(vhost.url, "small") == counts.confirmed


def test_unroutable_records_are_returned(vhost: Any, tmp_path: Path) -> None:
    """What no queue takes does not count as sent."""
    drive(producer(vhost.url, 50))
    path = tmp_path / "e.jsonl"
    write(vhost.url, "audit.queue", path, "classic")
    counts = send(vhost.url, path, exchange="", routing_key="nowhere")
    assert (counts.confirmed, counts.returned) == (0, 50)


def test_a_dry_run_sends_nothing(vhost: Any, tmp_path: Path) -> None:
    """It reads all of it and says where it would go."""
    drive(producer(vhost.url, 10))
    path = tmp_path / "e.jsonl"
    write(vhost.url, "audit.queue", path, "classic")
    counts = send(vhost.url, path, dry_run=True)
    assert dict(counts.targets) == {(b"direct.exchange", b"work"): 10}
    assert ready(vhost.url, "work.queue") == 10


def with_cc(channel: Any) -> None:
    """Two queues by a key and a header each, one by an alternate exchange, one by its name."""
    channel.exchange_declare("catch", "fanout", durable=True)
    ours = {"alternate-exchange": "catch"}
    channel.exchange_declare("shop", "topic", durable=True, arguments=ours)
    for name in ("audit", "prod", "caught", "debug"):
        channel.queue_declare(name, durable=True)
    channel.queue_bind("audit", "shop", "order.#")
    channel.queue_bind("prod", "shop", "copy")
    channel.queue_bind("caught", "catch")
    properties = pika.BasicProperties(headers={"CC": ["copy"], "color": "red"})
    channel.basic_publish("shop", "order.new", b"1", properties)
    channel.basic_publish("shop", "order.new", b"2")


def test_straight_into_a_queue_is_into_no_other(vhost: Any, tmp_path: Path) -> None:
    """A message's CC does not take a debug replay into the production queue."""
    path = tmp_path / "e.jsonl"
    with witness(vhost.url) as channel:
        with_cc(channel)
        eventually(lambda: ready(vhost.url, "audit") == 2, "both are there")
        write(vhost.url, "audit", path, "classic")
        counts = send(vhost.url, path, exchange="", routing_key="debug")
        assert (counts.confirmed, counts.returned, counts.further) == (2, 0, 1)
        assert [ready(vhost.url, name) for name in ("debug", "prod", "audit")] == [2, 1, 2]
        headers = channel.basic_get("debug")[1].headers
        assert headers.keys() == {"color", "rabbitproof_replayed_ns"}


def test_a_forecast_is_what_then_happens(node: Any, vhost: Any, tmp_path: Path) -> None:
    """Every queue that gets a copy, by its key, a header, or an alternate exchange."""
    path = tmp_path / "e.jsonl"
    with witness(vhost.url) as channel:
        with_cc(channel)
        eventually(lambda: ready(vhost.url, "audit") == 2, "both are there")
        write(vhost.url, "audit", path, "classic")
        channel.queue_unbind("audit", "shop", "order.#")
    with Management(node.management_url, node.username, node.password) as api:
        model = read_vhost(api, vhost.name)

    def forecast(**task: Any) -> Forecast:
        found = Forecast(model)
        for _ in audit.Replayer(
            audit.Task(**task, dry_run=True),
            audit.Records(export.records(path)),
            connector(vhost.url),
            found,
        ).run():
            pass
        return found

    assert forecast().queues == {("prod", "CC"): 1, ("caught", ""): 1}
    assert forecast(exchange="", routing_key="debug").queues == {("debug", ""): 2}
    assert forecast(exchange="", routing_key="none").nowhere == 2
    assert forecast(exchange="none").refused == {"'none': there is no such exchange": 2}
    send(vhost.url, path)
    assert [ready(vhost.url, name) for name in ("audit", "prod", "caught")] == [2, 2, 1]


@pytest.mark.slow
def test_a_broker_that_restarts_during_a_replay(private_node: Node, tmp_path: Path) -> None:
    """What was in flight is sent again: nothing is missing, and the copies are counted."""
    url, count = private_node.url, 20_000
    drive(producer(url, count))
    path = tmp_path / "e.jsonl.gz"
    assert write(url, "audit.queue", path, "classic") == count
    with witness(url) as channel:
        channel.queue_declare("again", durable=True)
    private_node.settle()
    killed = False

    def records() -> Iterator[Any]:
        nonlocal killed
        for number, record in enumerate(export.records(path)):
            if number == 12_000:
                killed = True
                private_node.kill()
                private_node.start_again()
            yield record

    task = audit.Task("", "again", None)
    replayer = audit.Replayer(task, audit.Records(records()), connector(url))
    for _ in replayer.run():
        pass
    assert killed
    assert replayer.counts.confirmed == count
    with connector(url)() as connection:
        held = Held(connection, "again")
        found = [json.loads(one.body)["n"] for some in held.read() for one in some]
    assert set(found) == set(range(1, count + 1))
    assert len(found) - count <= replayer.counts.resent
