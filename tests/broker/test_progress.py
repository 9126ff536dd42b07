"""Sessions whose connections open well and break as soon as they are used, and broken set-up."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from rabbitproof.broker.proxy import Proxy
from rabbitproof.errors import GivenUp
from rabbitproof.model import Advanced, Disconnected, Note, Purged, Started
from rabbitproof.work.audit import Records, Replayer
from rabbitproof.work.audit import Task as Replay
from rabbitproof.work.deadletter import Mover
from rabbitproof.work.deadletter import Task as Move
from rabbitproof.work.export_lines import record_of
from rabbitproof.work.hold import Held
from support import connector, consumer, drive, poisoned, producer, ready, topology

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Vhost
    from rabbitproof.broker.node import Node

GIVE_UP_S = 2.0
MOST_BYTES = 30_000


class Dropper:
    """A way to a broker on which every connection is reset after so many bytes."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.connections = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                broker = socket.create_connection(self._target)
                passed = [0]
                for ends in ((client, broker), (broker, client)):
                    threading.Thread(target=self._pass, args=(*ends, passed), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, passed: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed[0] += len(data)
                if passed[0] > MOST_BYTES:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()


@pytest.fixture
def dropper(vhost: Vhost) -> Iterator[Dropper]:
    parts = urlsplit(vhost.url)
    started = Dropper((parts.hostname or "", parts.port or 5672))
    yield started
    started.close()


def through(url: str, port: int) -> str:
    """The broker, seen through what listens on a port."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


def given_up(session: Any) -> tuple[str, float]:
    """Run until it is given up; return the sentence, and how long that took."""
    began = time.monotonic()
    with pytest.raises(GivenUp, match="--give-up-after") as caught:
        for _ in session.run():
            pass
    took = time.monotonic() - began
    assert GIVE_UP_S * 0.9 < took < GIVE_UP_S + 3
    return str(caught.value), took


# --- connections that open and break -------------------------------------------------------------


@pytest.mark.parametrize("confirms", [True, False])
def test_a_producer_gives_up_where_nothing_is_ever_confirmed(
    vhost: Vhost, dropper: Dropper, confirms: bool
) -> None:
    """However often it gets a connection; it asks for few, and sends few copies."""
    url = through(vhost.url, dropper.port)
    sending = producer(url, 1_000_000, give_up_s=GIVE_UP_S, confirms=confirms)
    said, _ = given_up(sending)
    assert "broke" in said
    assert 3 <= dropper.connections <= 20
    if confirms:
        assert sending.summary().published == 0
        assert sending.summary().attempted <= 20_000, "no more than the window, again and again"


@pytest.mark.usefixtures("strict")
def test_a_consumer_gives_up_on_what_it_can_not_read(vhost: Vhost) -> None:
    """It never counts what comes again as another message; all stay in the queue."""
    poisoned(vhost.url)
    reading = consumer(vhost.url, "dead", give_up_s=GIVE_UP_S, expect=21)
    tries = 0
    with pytest.raises(GivenUp, match=r"in \d+ tries .*properties larger than"):
        for event in reading.run():
            tries += isinstance(event, Disconnected)
    assert 3 <= tries <= 20
    end = reading.summary()
    assert (end.consumed, end.foreign) == (10, 10)


@pytest.mark.usefixtures("strict")
def test_a_consumer_is_idle_where_only_the_same_comes_again(vhost: Vhost) -> None:
    """``--idle-timeout`` ends it, and what is in the queue is counted without reading it."""
    poisoned(vhost.url)
    reading = consumer(vhost.url, "dead", idle_timeout=1.0)
    began = time.monotonic()
    end = drive(reading)
    assert 0.9 < time.monotonic() - began < 4
    assert end.consumed == 10
    assert reading.left == ready(vhost.url, "dead"), "15, less what could be acknowledged"


def test_a_consumer_of_a_broken_line_gets_on_as_far_as_messages_come(
    vhost: Vhost, dropper: Dropper
) -> None:
    """Some come on each connection, so it is never given up and ends with all of them."""
    drive(producer(vhost.url, 600, size=300))
    reading = consumer(
        through(vhost.url, dropper.port), expect=600, prefetch=20, give_up_s=GIVE_UP_S
    )
    assert drive(reading).unique == 600
    assert dropper.connections > 5


def test_a_replay_gives_up_where_nothing_is_ever_confirmed(vhost: Vhost, dropper: Dropper) -> None:
    drive(producer(vhost.url, 2_000, size=300))
    with connector(vhost.url)() as connection:
        held = Held(connection, "audit.queue")
        records = [record_of(one) for some in held.read() for one in some]
        held.give_back()
    task = Replay(speed=None, give_up_s=GIVE_UP_S)
    given_up(Replayer(task, Records(records), connector(through(vhost.url, dropper.port))))
    assert 3 <= dropper.connections <= 20


@pytest.mark.usefixtures("strict")
def test_dead_letters_are_given_up_where_one_can_not_be_read(vhost: Vhost) -> None:
    """None fits, so none is confirmed either: what is looked at again is no progress."""
    poisoned(vhost.url)
    drive(producer(vhost.url, 1, topology=topology("parked", None)))
    task = Move("dead", "move", to_queue="parked", dry_run=True, give_up_s=GIVE_UP_S)
    said, _ = given_up(Mover(task, connector(vhost.url)))
    assert "properties larger than" in said
    assert ready(vhost.url, "dead") == 15


# --- set-up that breaks --------------------------------------------------------------------------


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
    parts = urlsplit(vhost.url)
    with Proxy.start([(parts.hostname or "", parts.port or 5672)]) as started:
        yield started


def test_a_purge_that_was_cut_off_is_done_again(vhost: Vhost, proxy: Proxy) -> None:
    """All of it: before anything was published, that takes nothing of this run."""
    drive(producer(vhost.url, 50))
    sending = producer(through(vhost.url, proxy.ports[0]), 1_000, purge=True)
    purged, started, tries = [], 0, 0
    for event in sending.run():
        if isinstance(event, Purged):
            purged.append((event.queue, event.messages))
            if len(purged) == 1:
                proxy.cut()
        if isinstance(event, Disconnected):
            tries += 1
            if tries == 2:
                proxy.heal()
        started += isinstance(event, Started)
    assert purged == [("work.queue", 50), ("work.queue", 0), ("audit.queue", 50)]
    assert started == 1
    end = sending.summary()
    assert (end.published, end.in_doubt, end.ready) == (1_000, 0, 1_000)
    assert ready(vhost.url, "audit.queue") == 1_000


def test_nothing_is_purged_once_something_may_have_been_published(
    vhost: Vhost, proxy: Proxy
) -> None:
    """Not even when it was lost between the beginning and the first confirm."""
    sending = producer(through(vhost.url, proxy.ports[0]), 1_000, purge=True)
    purged = tries = 0
    for event in sending.run():
        purged += isinstance(event, Purged)
        if isinstance(event, Started):
            drive(producer(vhost.url, 7))  # another producer of the run
            proxy.cut()
        if isinstance(event, Disconnected):
            tries += 1
            if tries == 2:
                proxy.heal()
    assert (purged, tries >= 2) == (2, True)
    assert sending.summary().published == 1_000
    assert ready(vhost.url, "audit.queue") == 1_007


@pytest.mark.slow
def test_a_broker_killed_during_a_long_purge(private_node: Node) -> None:
    """The purge is announced, done again, and everything is confirmed."""
    wiring = topology("work.1m", "audit.1m", lazy=True)
    drive(producer(private_node.url, 150_000, topology=wiring))
    sending = producer(private_node.url, 100_000, topology=wiring, purge=True)
    notes = []
    killer = threading.Thread(target=lambda: (private_node.kill(), private_node.start_again()))
    for event in sending.run():
        if isinstance(event, Note):
            notes.append(event.text)
            if event.text.startswith("purging") and killer.ident is None:
                killer.start()
        if isinstance(event, Advanced):
            assert not killer.is_alive()
    killer.join()
    assert "purging work.1m (150,000 messages)…" in notes
    assert any("Reconnecting" in note for note in notes)
    end = sending.summary()
    assert (end.published, end.in_doubt, end.ready) == (100_000, 0, 100_000)
