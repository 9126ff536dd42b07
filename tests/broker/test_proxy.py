"""Clients whose network breaks: ours and pika, through the proxy, to a real broker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pika
import pika.exceptions
import pytest

from rabbitproof.address import parse
from rabbitproof.amqp.dial import Dialer
from rabbitproof.broker.proxy import Proxy
from rabbitproof.model import Advanced, Disconnected, Note
from support import consumer, drive, eventually, producer, ready, witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Vhost
    from rabbitproof.work.consume import Consumer
    from rabbitproof.work.produce import Producer

COUNT = 6_000


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
    parts = urlsplit(vhost.url)
    with Proxy.start([(parts.hostname or "", parts.port or 5672)]) as started:
        yield started


@pytest.fixture
def url(vhost: Vhost, proxy: Proxy) -> str:
    """The broker, seen through the proxy."""
    parts = urlsplit(vhost.url)
    login = f"{parts.username}:{parts.password}"
    return parts._replace(netloc=f"{login}@127.0.0.1:{proxy.ports[0]}").geturl()


def broken(
    participant: Producer | Consumer, at: int, fault: Callable[[], object], proxy: Proxy
) -> tuple[Any, list[str]]:
    """Run a participant: ``fault`` when so much is done, healed when it has tried in vain."""
    notes: list[str] = []
    fired, tries = False, 0
    for event in participant.run():
        if isinstance(event, Advanced) and event.done >= at and not fired:
            fired = True
            fault()
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Disconnected):
            tries += 1
            if tries == 2:
                proxy.heal()
    assert fired
    assert tries >= 2
    return participant.summary(), notes


def all_is_there(url: str, count: int) -> Any:
    """Consume to the end and find every message at least once."""
    end = drive(consumer(url, idle_timeout=0.5))
    assert (end.unique, end.missing) == (count, 0)
    return end


def test_a_cut_loses_nothing_that_was_confirmed(vhost: Vhost, url: str, proxy: Proxy) -> None:
    sending = producer(url, COUNT, window=1_000, progress_every=500)
    end, notes = broken(sending, 2_000, proxy.cut, proxy)
    assert (end.published, end.in_doubt) == (COUNT, 0)
    told = proxy.told()
    assert told.cut == 1
    assert told.refused >= 1
    assert "Reconnecting" in notes[0]
    all_is_there(vhost.url, COUNT)


def test_a_consumer_goes_on_after_a_cut(vhost: Vhost, url: str, proxy: Proxy) -> None:
    drive(producer(vhost.url, COUNT))
    reading = consumer(url, expect=COUNT, prefetch=100)
    end, _ = broken(reading, 2_000, proxy.cut, proxy)
    assert end.unique == COUNT
    eventually(lambda: ready(vhost.url, "work.queue") == 0, "all of them are acknowledged")


@pytest.mark.slow
def test_a_half_open_line_is_noticed_by_a_producers_heartbeat(
    vhost: Vhost, url: str, proxy: Proxy
) -> None:
    """It is silent for longer than two heartbeats; all goes on as soon as it is healed."""
    sending = producer(url, COUNT, window=1_000, progress_every=500)
    sending._connect = Dialer(parse(url), "test", heartbeat=1)
    end, notes = broken(sending, 2_000, proxy.half_open, proxy)
    assert "missed heartbeats" in notes[0]
    assert (end.published, end.in_doubt) == (COUNT, 0)
    told = proxy.told()
    assert told.silenced >= 2
    assert told.dropped > 0
    all_is_there(vhost.url, COUNT)


@pytest.mark.slow
def test_a_half_open_line_is_noticed_by_a_consumers_heartbeat(
    vhost: Vhost, url: str, proxy: Proxy
) -> None:
    drive(producer(vhost.url, COUNT))
    reading = consumer(url, expect=COUNT, prefetch=100)
    reading.connect = Dialer(parse(url), "test", heartbeat=1)
    end, notes = broken(reading, 2_000, proxy.half_open, proxy)
    assert "missed heartbeats" in notes[0]
    assert end.unique == COUNT


def test_swallowed_confirms_end_at_the_deadline_and_are_sent_again(
    vhost: Vhost, url: str, proxy: Proxy
) -> None:
    """The broker has those messages: the same ids come twice, and none is missing."""
    sending = producer(url, COUNT, confirm_timeout_s=0.5, window=1_000)
    end, notes = broken(sending, 2_000, proxy.swallow_confirms, proxy)
    assert "answered no publish" in notes[0]
    assert (end.published, end.in_doubt) == (COUNT, 0)
    assert end.resent > 0
    told = proxy.told()
    assert told.acks > 0
    assert told.messages > 0
    assert told.unread == 0
    read = all_is_there(vhost.url, COUNT)
    assert told.messages <= read.duplicates <= 2 * end.resent, "two connections had no answer"


def test_consumers_do_not_miss_confirms(vhost: Vhost, url: str, proxy: Proxy) -> None:
    """Their own acknowledgements go the other way, and pass."""
    drive(producer(vhost.url, 1_000))
    proxy.swallow_confirms()
    assert drive(consumer(url, expect=1_000)).unique == 1_000
    eventually(lambda: ready(vhost.url, "work.queue") == 0, "all of them are acknowledged")
    told = proxy.told()
    assert (told.acks, told.nacks, told.unread) == (0, 0, 0)


def test_a_delay_makes_it_slower_and_complete(vhost: Vhost, url: str, proxy: Proxy) -> None:
    proxy.delay(0.02)
    began = time.monotonic()
    assert drive(producer(url, 1_000)).published == 1_000
    assert time.monotonic() - began > 0.4, "at least ten questions and answers"
    assert proxy.told().longest_delay >= 0.02
    proxy.heal()
    all_is_there(url, 1_000)


def test_a_throttle_makes_it_slower_and_complete(vhost: Vhost, url: str, proxy: Proxy) -> None:
    proxy.throttle(1_000_000)
    began = time.monotonic()
    assert drive(producer(url, 500, size=800)).published == 500
    assert time.monotonic() - began > 0.3, "half a megabyte, after a tenth at once"
    all_is_there(url, 500)
    told = proxy.told()
    assert told.throttled == told.to_broker + told.to_client


def test_pika_hears_a_cut_and_comes_back(vhost: Vhost, url: str, proxy: Proxy) -> None:
    with witness(url) as channel:
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        channel.basic_publish("", "kept", b"before")
        proxy.cut()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            channel.basic_publish("", "kept", b"during")
    with pytest.raises(pika.exceptions.AMQPConnectionError), witness(url):
        pass
    proxy.heal()
    with witness(url) as channel:
        assert channel.basic_get("kept")[2] == b"before"


@pytest.mark.slow
def test_pika_misses_heartbeats_of_a_half_open_line(vhost: Vhost, url: str, proxy: Proxy) -> None:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 1
    connection = pika.BlockingConnection(parameters)
    proxy.half_open()
    began = time.monotonic()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        while time.monotonic() < began + 15:
            connection.process_data_events(time_limit=1)
    assert time.monotonic() - began > 1


def test_pika_waits_for_a_swallowed_confirm(vhost: Vhost, url: str, proxy: Proxy) -> None:
    """The message is in the queue; whoever sent it hears nothing until the connection ends."""
    heard: list[BaseException | None] = []

    def publish() -> None:
        try:
            with witness(url) as channel:
                channel.queue_declare("kept", durable=True)
                channel.confirm_delivery()
                channel.basic_publish("", "kept", b"x", mandatory=True)
        except pika.exceptions.AMQPError as error:
            heard.append(error)
        else:
            heard.append(None)

    proxy.swallow_confirms()
    waiting = threading.Thread(target=publish, daemon=True)
    waiting.start()
    told = eventually(lambda: (now := proxy.told()).acks and now, "its confirm is swallowed")
    assert (told.acks, told.messages, told.highest_tag) == (1, 1, 1)
    assert ready(vhost.url, "kept") == 1
    assert not heard
    proxy.cut()
    waiting.join(20)
    assert isinstance(heard[0], pika.exceptions.AMQPConnectionError)
