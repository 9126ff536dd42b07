"""The other clients: each does the whole job, with our message, and says so when it could not."""

from __future__ import annotations

import json
import math
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.address import parse
from rabbitproof.identity import Identity, Source, identify
from rabbitproof.trial.peers import catalogue
from rabbitproof.trial.peers.program import HOST, SENDER
from support import consumer, drive, eventually, producer, ready, witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.model import Role
    from rabbitproof.trial.peers.catalogue import Peer

RUN = "0a1b2c3d4e5f"
TEXT = r'100 % of "it", \o/ {n} %d'
"""Everything that a template or JSON could take for something else."""
PUBLISHERS = catalogue.NAMES
CONSUMERS = [name for name in catalogue.NAMES if name != "pika-confirms"]
LIMIT_S = 60.0


def start(peer: Peer, url: str, role: Role, *more: str, **changed: Any) -> Any:
    """Run a peer to its end."""
    settings = {
        "exchange": "direct.exchange",
        "routing_key": "work",
        "queue": "work.queue",
        "count": 2000,
        "window": 300,
        "prefetch": 500,
        "text": TEXT,
        "run": RUN,
        "deadline_s": LIMIT_S,
        **changed,
    }
    if peer.client.name == "java":
        more = ("--warm-up", "10", *more)
    return subprocess.run(
        [*peer.command, *catalogue.arguments(role, **settings), *more],
        env=catalogue.environment(url),
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 10,
        check=False,
    )


def result(done: Any) -> dict[str, Any]:
    """Return the line of a peer that did its job, and check what holds for all of them."""
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    assert set(said) == {"messages", "unique", "seconds", "cpu_seconds"}
    assert 0 < said["seconds"] < LIMIT_S
    assert 0 <= said["cpu_seconds"] <= said["seconds"] * 64  # Java counts in steps of 10 ms
    return said


def declare(url: str) -> None:
    with witness(url) as channel:
        channel.exchange_declare("direct.exchange", "direct", durable=True)
        for queue in ("work.queue", "audit.queue"):
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "direct.exchange", "work")


def everything_in(url: str, queue: str, count: int) -> list[tuple[Any, bytes]]:
    """Take so many messages with pika; fail when there are fewer or more."""
    taken: list[tuple[Any, bytes]] = []
    with witness(url) as channel:
        for method, properties, body in channel.consume(queue, inactivity_timeout=10):
            assert method is not None, f"only {len(taken)} of {count} messages came"
            taken.append((properties, body))
            if len(taken) == count:
                channel.basic_ack(method.delivery_tag, multiple=True)
                break
        channel.cancel()
    assert ready(url, queue) == 0
    return taken


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_publisher_sends_every_message_once_and_as_ours(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """All arrive in both queues, each under its own id and with the properties of ours."""
    peer = found(name)
    declare(vhost.url)
    before = time.time_ns()
    said = result(start(peer, vhost.url, "publish"))
    after = time.time_ns()
    assert (said["messages"], said["unique"]) == (2000, 2000)
    eventually(lambda: ready(vhost.url, "audit.queue") == 2000, "the audit queue has all")
    taken = everything_in(vhost.url, "work.queue", 2000)
    assert [identify(properties.message_id) for properties, _ in taken] == [
        Identity(Source(RUN, 1), n) for n in range(1, 2001)
    ]
    for n, (properties, body) in enumerate(taken, start=1):
        assert json.loads(body) == {"n": n, "text": TEXT, "sent_by": SENDER}
        assert properties.content_type == "application/json"
        assert properties.app_id == "rabbitmq.producer"
        assert properties.delivery_mode == 2
        sent = properties.headers["sent_ns"]
        assert before <= sent <= after
        assert properties.timestamp == sent // 1_000_000_000
    # No two were stamped together, unless the clock is coarse: it is read for each message.
    assert len({properties.headers["sent_ns"] for properties, _ in taken}) > 20


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_message_is_as_large_as_ours(vhost: Any, found: Callable[[str], Peer], name: str) -> None:
    """Ours and theirs differ in the checksum and in when they were sent, and in nothing else."""
    peer = found(name)
    declare(vhost.url)
    result(start(peer, vhost.url, "publish", count=11))
    ours = producer(
        vhost.url, 11, source=Source(RUN, 1), text=TEXT, sender=SENDER, host=HOST, declare=False
    )
    assert drive(ours).published == 11
    eventually(lambda: ready(vhost.url, "work.queue") == 22, "all 22 are there")
    taken = everything_in(vhost.url, "work.queue", 22)
    for (theirs, body), (mine, my_body) in zip(taken[:11], taken[11:], strict=True):
        assert body == my_body
        assert len(theirs.headers["checksum"]) == len(mine.headers["checksum"])
        for properties in (theirs, mine):
            assert abs(properties.headers["sent_ns"] - time.time_ns()) < 60e9
            properties.headers |= {"checksum": "", "sent_ns": 0}
            properties.timestamp = 0
        if name == "aio-pika":  # it cannot leave this out
            assert theirs.priority == 0
            theirs.priority = None
        assert theirs == mine


@pytest.mark.parametrize("name", CONSUMERS)
@pytest.mark.parametrize(
    ("prefetch", "count"), [(500, 2000), (5000, 2000), (400, 1999), (1, 50), (7, 1)]
)
def test_a_consumer_takes_and_acknowledges_every_message(
    vhost: Any, found: Callable[[str], Peer], name: str, prefetch: int, count: int
) -> None:
    """Whatever our producer sent is counted, and nothing is left or comes again."""
    peer = found(name)
    assert drive(producer(vhost.url, count)).published == count
    said = result(start(peer, vhost.url, "consume", count=count, prefetch=prefetch))
    assert (said["messages"], said["unique"]) == (count, count)
    # Its connection is gone: what it had not acknowledged would be ready again.
    assert ready(vhost.url, "work.queue") == 0
    assert ready(vhost.url, "audit.queue") == count


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_counts_ids_and_not_deliveries(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """Two messages with one id are one unique message."""
    peer = found(name)
    for text in ("one", "two"):
        twice = producer(vhost.url, 500, source=Source(RUN, 1), text=text)
        assert drive(twice).published == 500
    said = result(start(peer, vhost.url, "consume", count=1000))
    assert (said["messages"], said["unique"]) == (1000, 500)


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_consumer_leaves_what_it_was_not_asked_for(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """Prefetched messages beyond the count stay in the queue, and only those."""
    peer = found(name)
    assert drive(producer(vhost.url, 2000)).published == 2000
    said = result(start(peer, vhost.url, "consume", count=1300))
    assert (said["messages"], said["unique"]) == (1300, 1300)
    eventually(lambda: ready(vhost.url, "work.queue") == 700, "the other 700 are back")
    rest = consumer(vhost.url, expect=700, idle_timeout=5)
    assert drive(rest).unique == 700
    (receipts,) = rest.receipts.by_source.values()
    assert min(receipts.seen) == 1301


@pytest.mark.parametrize("name", ["aio-pika", "java"])
def test_more_messages_cost_more_time_and_more_processor_time(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """Both clocks run while the work is done: ten times the messages cost more of both."""
    peer = found(name)
    declare(vhost.url)
    few, many = (result(start(peer, vhost.url, "publish", count=count)) for count in (500, 5000))
    assert many["seconds"] > few["seconds"]
    assert many["cpu_seconds"] > few["cpu_seconds"]
    assert not math.isclose(many["cpu_seconds"], many["seconds"], rel_tol=1e-6)


def complaint(done: Any) -> str:
    """Return the one sentence of a peer that failed."""
    assert done.stdout == ""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.endswith(".")
    return str(line)


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_message_that_no_queue_takes_fails_the_publisher(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """What is returned does not count as published."""
    peer = found(name)
    declare(vhost.url)
    said = complaint(start(peer, vhost.url, "publish", routing_key="nowhere"))
    assert "return" in said.lower()


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_missing_exchange_fails_the_publisher(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """The broker's own words are in the sentence."""
    said = complaint(start(found(name), vhost.url, "publish", exchange="nope"))
    assert "no exchange 'nope'" in said


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_missing_queue_fails_the_consumer(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """The broker's own words are in the sentence."""
    said = complaint(start(found(name), vhost.url, "consume", queue="nope"))
    assert "no queue 'nope'" in said


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_refused_login_never_shows_the_password(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """The sentence says that the login was refused."""
    url = replace(parse(vhost.url)[0], password="s3cret").url()
    said = complaint(start(found(name), url, "consume"))
    assert "ACCESS_REFUSED" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("name", CONSUMERS)
def test_a_queue_that_stays_empty_ends_at_the_deadline(
    vhost: Any, found: Callable[[str], Peer], name: str
) -> None:
    """A consumer that waits for more than there is ends with a code of its own."""
    peer = found(name)
    assert drive(producer(vhost.url, 30)).published == 30
    done = start(peer, vhost.url, "consume", count=31, deadline_s=4)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Not done within 4")
    eventually(lambda: ready(vhost.url, "work.queue") == 30, "what it held came back")
