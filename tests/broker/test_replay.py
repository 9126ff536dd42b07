"""A replay loses nothing, whichever connection breaks and whatever one message is like."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pika
import pytest

from rabbitproof.amqp import content
from rabbitproof.model import Queue
from rabbitproof.work import audit
from rabbitproof.work.audit import Records, Replayer, StreamRecords, Task
from rabbitproof.work.hold import Held
from support import connector, drive, producer, topology, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 3_000


def record(number: int, **properties: Any) -> dict[str, Any]:
    """A message of an export, sent a thousandth of a second after the one before."""
    headers = {"sent_ns": {"l": 10**18 + number * 10**6}, **properties.pop("headers", {})}
    return {
        "exchange": properties.pop("exchange", ""),
        "routing_key": "q",
        "properties": {"headers": headers, **properties},
        "body": str(number),
    }


def arrived(url: str, queue: str) -> list[int]:
    """The bodies that are in a queue; our own producer's say their number."""
    with connector(url)() as connection:
        held = Held(connection, queue)
        bodies = [json.loads(one.body) for some in held.read() for one in some]
        held.give_back()
    return [body["n"] if isinstance(body, dict) else body for body in bodies]


def cut_now_and_then(replayer: Replayer, chance: random.Random, times: int) -> Iterator[str]:
    """Run it; end its connections without a word, at random moments."""
    moments = sorted(chance.sample(range(COUNT), times))
    sent: list[str] = []
    take = replayer._source.take
    taken = 0

    def taking() -> Any:
        nonlocal taken
        taken += 1
        while moments and taken > moments[0]:
            moments.pop(0)
            held = getattr(replayer._source, "_held", None)
            which = chance.choice(["sender", "reader"] if held is not None else ["sender"])
            (held.connection if which == "reader" else replayer._connection).abandon()
            sent.append(which)
        return take()

    replayer._source.take = taking  # type: ignore[method-assign]
    for _ in replayer.run():
        pass
    yield from sent


@pytest.mark.parametrize("speed", [None, 3.0], ids=["max", "paced"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_no_cut_loses_a_record(vhost: Any, kind: str, speed: float | None) -> None:
    """In a file as well as in a stream, with what is in hand while it waits for its time."""
    chance = random.Random(f"{kind} {speed}")
    with witness(vhost.url) as channel:
        channel.queue_declare("q", durable=True)
    task = Task("", "q", speed)
    if kind == "stream":
        wiring = replace(topology(), audit=Queue("audit.queue", "stream", durable=True))
        drive(producer(vhost.url, COUNT, topology=wiring, rate=3_000.0))
        source: Records = StreamRecords(connector(vhost.url), "audit.queue", "first", None)
    else:
        source = Records(record(n) for n in range(1, COUNT + 1))
    replayer = Replayer(task, source, connector(vhost.url))
    cuts = list(cut_now_and_then(replayer, chance, 8))
    counts = replayer.counts
    assert len(cuts) == 8
    assert source.lacks() is None
    assert counts.balances
    assert (counts.read, counts.confirmed) == (COUNT, COUNT)
    found = arrived(vhost.url, "q")
    assert sorted(set(found)) == list(range(1, COUNT + 1))
    assert len(found) - COUNT <= counts.resent


def test_what_one_message_is_like_stops_no_other(vhost: Any) -> None:
    """Another's user id, properties larger than a frame, an exchange that is not there or takes
    nothing from outside: each is set aside with its reason, and the copies are counted.
    """
    with witness(vhost.url) as channel:
        channel.queue_declare("q", durable=True)
        channel.exchange_declare("inner", "fanout", internal=True)
    odd: dict[int, dict[str, Any]] = {
        700: {"user_id": "somebody"},
        1_500: {"headers": {"large": "x" * 131_000}},
        1_501: {"user_id": "somebody"},
        2_000: {"exchange": "gone"},
        2_900: {"exchange": "gone"},
        2_950: {"exchange": "inner"},
    }
    source = Records(record(n, **odd.get(n, {})) for n in range(1, COUNT + 1))
    replayer = Replayer(Task(None, None, None), source, connector(vhost.url))
    for _ in replayer.run():
        pass
    counts = replayer.counts
    assert counts.balances
    assert (counts.refused, counts.confirmed) == (len(odd), COUNT - len(odd))
    assert {number for some in replayer.aside.values() for number in some} == set(odd)
    why = " ".join(replayer.aside)
    for words in (
        "user_id property set to 'somebody'",
        "a frame",
        "no exchange 'gone'",
        "internal",
    ):
        assert words in why
    found = arrived(vhost.url, "q")
    assert sorted(set(found)) == [n for n in range(1, COUNT + 1) if n not in odd]
    assert len(found) - len(set(found)) <= counts.resent


@pytest.mark.parametrize("inner", [1_000_000, 0])
def test_the_offset_is_that_of_the_message_itself(vhost: Any, inner: int) -> None:
    """Another stream's may stand in a header, or in the bytes of a text."""
    text = "\x0fx-stream-offsetl" + inner.to_bytes(8, "big").decode()[:4]
    with witness(vhost.url) as channel:
        channel.queue_declare("trail", durable=True, arguments={"x-queue-type": "stream"})
        channel.confirm_delivery()
        for n in range(100):
            headers = {"a note": text, "inner": {"x-stream-offset": {"l": inner}}}
            headers = {"a note": text} if n % 2 else headers
            plain = {key: str(value) for key, value in headers.items()}
            channel.basic_publish("", "trail", str(n), pika.BasicProperties(headers=plain))
    source = StreamRecords(connector(vhost.url), "trail", "first", None)
    found = []
    while (one := source.take()) is not None:
        found.append(int(one["body"]))
    source.close()
    assert found == list(range(100))
    assert source.lacks() is None


def test_an_offset_is_found_among_the_headers_of_the_message_alone() -> None:
    from rabbitproof.work.hold import _offset_in

    nested = {"F": {"x-stream-offset": {"l": 7}}}
    before = b"\0\x3c\0\0" + bytes(8)
    for headers, offset in (
        ({"a": nested, "x-stream-offset": {"l": 3}}, 3),
        ({"x-stream-offset": {"l": 3}, "z": nested}, 3),
        ({"a": nested}, None),
        ({"a": "\x0fx-stream-offsetl\0\0\0\0\0\0\0\7", "x-stream-offset": {"l": 4}}, 4),
    ):
        assert _offset_in(before + content.encode({"headers": headers})) == offset


def test_a_source_that_ends_too_early_says_so(vhost: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = replace(topology(), audit=Queue("audit.queue", "stream", durable=True))
    drive(producer(vhost.url, 50, topology=wiring))
    source = StreamRecords(connector(vhost.url), "audit.queue", "first", None)
    for _ in range(20):
        assert source.take() is not None
    source._some, source._here = iter(()), audit.deque()
    assert source.take() is None
    source.close()
    assert "was read up to offset" in str(source.lacks())
