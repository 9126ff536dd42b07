"""What is re-sent, moved or exported while its connections break at any moment.

``RABBITPROOF_CUTS`` says how many for each job; 10 else.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from rabbitproof.broker.proxy import Proxy
from rabbitproof.errors import RabbitproofError
from rabbitproof.model import Queue
from rabbitproof.work import audit, export
from rabbitproof.work.deadletter import Mover
from rabbitproof.work.deadletter import Task as Moving
from rabbitproof.work.hold import Held
from support import connector, dead_letters, drive, eventually, producer, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Vhost
    from rabbitproof.amqp.connection import Connection

CUTS = int(os.environ.get("RABBITPROOF_CUTS", "10"))
COUNT = 1_500
BYTES_PER_S = 400_000
"""So slow is each way that a job takes seconds."""


class Ways:
    """Two ways to one broker; each connection takes one of them by chance."""

    def __init__(self, proxy: Proxy, url: str, chance: random.Random) -> None:
        self.proxy, self.url, self.chance = proxy, urlsplit(url), chance
        self.cuts = 0
        """Those that reset a connection, at least."""

    def connect(self) -> Connection:
        port = self.chance.choice(self.proxy.ports)
        login = f"{self.url.username}:{self.url.password}"
        way = self.url._replace(netloc=f"{login}@127.0.0.1:{port}")
        return connector(way.geturl())()

    @contextmanager
    def breaking(self, most: int) -> Iterator[None]:
        """Break one way or both, again and again, but no more often than that."""
        over = threading.Event()
        thread = threading.Thread(target=self._break, args=(over, most))
        self.proxy.throttle(BYTES_PER_S)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _break(self, over: threading.Event, most: int) -> None:
        done = 0
        while done < most and not over.wait(self.chance.uniform(0.01, 0.6)):
            which = self.chance.choice([(1,), (2,), (1, 2)])
            before = self.proxy.told().cut
            self.proxy.cut(which)
            self.proxy.heal(which)
            self.proxy.throttle(BYTES_PER_S, which)
            done += self.proxy.told().cut > before
        self.cuts += done


@pytest.fixture
def ways(vhost: Vhost, request: pytest.FixtureRequest) -> Iterator[Ways]:
    parts = urlsplit(vhost.url)
    place = (parts.hostname or "", parts.port or 5672)
    with Proxy.start([place, place]) as proxy:
        yield Ways(proxy, vhost.url, random.Random(request.node.name))


def copies(url: str, queue: str) -> Counter[str]:
    """Take all that is there."""
    found: Counter[str] = Counter()
    with witness(url) as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found[got[1].message_id] += 1
    return found


def replay(url: str, ways: Ways, kind: str) -> None:
    with witness(url) as channel:
        channel.queue_declare("q", durable=True)
    if kind == "stream":
        source: audit.Records = audit.StreamRecords(ways.connect, "audit.queue", "first", None)
    else:
        source = audit.Records(
            {
                "exchange": "",
                "routing_key": "q",
                "properties": {"message_id": f"m{n}"},
                "body": "x" * 200,
            }
            for n in range(COUNT)
        )
    replayer = audit.Replayer(audit.Task("", "q", None), source, ways.connect)
    with ways.breaking(5):
        for _ in replayer.run():
            pass
    counts = replayer.counts
    assert source.lacks() is None
    assert counts.balances
    assert (counts.read, counts.confirmed) == (COUNT, COUNT)
    found = copies(url, "q")
    assert len(found) == COUNT
    assert found.total() - COUNT <= counts.resent


def move(url: str, ways: Ways, what: Any) -> None:
    """Retry dead letters, or move them on."""
    dead_letters(url, COUNT)
    with witness(url) as channel:
        channel.queue_declare("parked", durable=True)
    to = "parked" if what == "move" else None
    mover = Mover(Moving("dead", what, to_queue=to, hold=200), ways.connect)
    with ways.breaking(5):
        for _ in mover.run():
            pass
    found = copies(url, to or "home")
    assert len(found) == COUNT
    assert ready(url, "dead") == 0
    assert found.total() <= mover.counts.sent + mover.counts.in_doubt


def keep(url: str, ways: Ways, folder: Path, queue: str) -> None:
    """Export: all is in the file, or it says that it is not; and all is still there."""
    file = folder / f"{ways.cuts}.jsonl.zst"
    whole = False
    with ways.breaking(1):
        try:
            with ways.connect() as connection, export.create(file, replace=True) as writer:
                held = Held(connection, queue, stream=queue == "audit.queue")
                for _ in audit.export(held, writer, None):
                    pass
            whole = True
        except RabbitproofError:
            pass
    if whole:
        assert export.check(file) == COUNT
        assert len(list(export.records(file))) == COUNT
    else:
        assert not file.exists() or _is_broken(file)
    if queue != "audit.queue":
        eventually(lambda: ready(url, queue) == COUNT, "All is back in its place.")


def _is_broken(file: Path) -> bool:
    try:
        export.check(file)
    except RabbitproofError:
        return True
    return False


JOBS: dict[str, Callable[[str, Ways, Path], None]] = {
    "replay": lambda url, ways, _: replay(url, ways, "file"),
    "replay of a stream": lambda url, ways, _: replay(url, ways, "stream"),
    "retry": lambda url, ways, _: move(url, ways, "retry"),
    "move": lambda url, ways, _: move(url, ways, "move"),
    "export": lambda url, ways, folder: keep(url, ways, folder, "work.queue"),
    "export of a stream": lambda url, ways, folder: keep(url, ways, folder, "audit.queue"),
}


@pytest.mark.slow
@pytest.mark.timeout(120 + 6 * CUTS)
@pytest.mark.parametrize("job", JOBS)
def test_no_cut_at_any_moment_loses_one(vhost: Vhost, ways: Ways, tmp_path: Path, job: str) -> None:
    """And there are no more copies than the account says."""
    wiring = replace(topology(), audit=Queue("audit.queue", "stream", durable=True))
    drive(producer(vhost.url, COUNT, topology=wiring))
    while ways.cuts < CUTS:
        JOBS[job](vhost.url, ways, tmp_path)
