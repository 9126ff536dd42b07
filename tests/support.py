"""What several test files need: participants in one line, pika as the independent witness, and
what is left of nodes that ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pika
import psutil

from rabbitproof.address import parse
from rabbitproof.amqp.connection import Connection, open_connection
from rabbitproof.broker import releases
from rabbitproof.identity import Source, new_run
from rabbitproof.model import Queue, Topology
from rabbitproof.view import verdict as words
from rabbitproof.work import consume, produce

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from rabbitproof.broker.install import Installation
    from rabbitproof.model import TrialResult


def topology(
    work: str = "work.queue", audit: str | None = "audit.queue", **settings: Any
) -> Topology:
    """The project's own topology with durable queues, unless told otherwise."""
    settings.setdefault("durable", True)
    return Topology(
        "direct.exchange",
        "work",
        Queue(work, **settings),
        None if audit is None else Queue(audit, **settings),
    )


def connector(url: str, name: str = "test") -> Callable[[], Connection]:
    return lambda: open_connection(parse(url), name)


def producer(url: str, count: int = 100, **settings: Any) -> produce.Producer:
    settings.setdefault("topology", topology())
    settings.setdefault("source", Source(new_run(), 1))
    settings.setdefault("persistent", True)
    return produce.Producer(produce.Task(count=count, **settings), connector(url, "producer"))


def consumer(url: str, queue: str = "work.queue", **settings: Any) -> consume.Consumer:
    return consume.Consumer(consume.Task(queue=queue, **settings), connector(url, "consumer"))


def drive(participant: produce.Producer | consume.Consumer) -> Any:
    """Run a participant to its end and return its summary."""
    for _ in participant.run():
        pass
    return participant.summary()


@contextmanager
def witness(url: str) -> Iterator[Any]:
    """A pika channel: somebody else's client."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def dead_letters(url: str, count: int, **odd: Any) -> None:
    """Have so many messages rejected in `home`, so that they are in `dead`.

    ``odd``: m and its number -> the properties of that one.
    """
    with witness(url) as channel:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("home", durable=True, arguments=arguments)
        channel.queue_declare("dead", durable=True)
        channel.confirm_delivery()
        for n in range(count):
            more = odd.get(f"m{n}", {})
            properties = pika.BasicProperties(message_id=f"m{n}", delivery_mode=2, **more)
            channel.basic_publish("", "home", b"%d" % n, properties)
        channel.basic_qos(prefetch_count=count)
        for seen, (method, _, _) in enumerate(channel.consume("home", inactivity_timeout=10), 1):
            if seen == count:
                channel.basic_nack(method.delivery_tag, multiple=True, requeue=False)
                break
        channel.cancel()
    eventually(lambda: ready(url, "dead") == count, "All of them are dead letters.")


def ready(url: str, queue: str) -> int:
    """How many messages pika counts in a queue."""
    with witness(url) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def put(url: str, body: bytes) -> None:
    """Have pika put one persistent message into the durable queue ``kept``, confirmed."""
    with witness(url) as channel:
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        persistent = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", "kept", body, persistent, mandatory=True)


def take(url: str) -> bytes | None:
    """Have pika take one message out of ``kept``; None when there is none."""
    with witness(url) as channel:
        body: bytes | None = channel.basic_get("kept", auto_ack=True)[2]
    return body


def poisoned(url: str, queue: str = "dead", before: int = 10) -> None:
    """Fill a queue: one message has a header that is too large for a frame, as dead-lettered."""
    with witness(url) as channel:
        channel.exchange_declare("dlx", "fanout")
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "dlx", "")
        channel.queue_declare("orders", durable=True, arguments={"x-dead-letter-exchange": "dlx"})
        channel.confirm_delivery()
        large = pika.BasicProperties(headers={"h": "x" * 130_900})
        for number in range(before + 5):
            properties = large if number == before else pika.BasicProperties()
            channel.basic_publish("", "orders", b"%d" % number, properties)
        for _ in range(before + 5):
            channel.basic_reject(channel.basic_get("orders")[0].delivery_tag, requeue=False)
    eventually(lambda: ready(url, queue) == before + 5, "all are dead letters")


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Return what ``condition`` returns once it is true; fail with ``what`` if not in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)  # between two looks at the condition, with the deadline above
    return result


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of all processes whose environment names ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(folder) in str(process.environ()):
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.Error, OSError):
            continue
    return found


def lend(installation: Installation, cache: Path) -> dict[str, str]:
    """Have a cache folder hold the release of the tests; return the variables that mean both."""
    if installation.origin == "installed":
        named = str(installation.home)
    else:
        named, kept = installation.version, releases.tree(installation)
        (cache / "releases").mkdir(parents=True)
        (cache / "releases" / named).symlink_to(kept)
    return {"RABBITPROOF_CACHE": str(cache), releases.VARIABLE: named}


def marks(cache: Path) -> list[str]:
    """Return the marks of the owned nodes that are kept in ``cache``."""
    return [path.stem for path in (cache / "nodes").glob("*.json")]


def leftovers(cache: Path) -> list[str]:
    """Return everything that nodes kept in ``cache`` have left behind.

    Only this cache: somebody else's nodes, another test's for one, come and go meanwhile.
    """
    return [*processes_below(cache), *map(str, (cache / "nodes").glob("*"))]


def nothing_is_left(cache: Path, seconds: float = 20.0) -> None:
    """Wait until nodes kept in ``cache`` have left nothing behind; fail with what there is."""
    deadline = time.monotonic() + seconds
    while left := leftovers(cache):
        assert time.monotonic() < deadline, f"left after {seconds} s: {left}"
        time.sleep(0.02)  # between two looks, with the deadline above


def finish(work: Generator[Any, None, Any]) -> Any:
    """Carry out something that tells how it goes; return what came of it."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def judged_again(folder: Path, result: TrialResult) -> None:
    """Judge a copy of a run's folder in a fresh process: it gives the same, to the letter.

    Nothing but ledgers and the history is in it, and neither holds a verdict (their codec would
    refuse it), so there is nothing to take out of the copy.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".ledger", ".history"}
    copy = folder.with_name(f"{folder.name}-copy")
    copy.mkdir()
    for path in files:
        shutil.copyfile(path, copy / path.name)
    again = subprocess.run(
        [sys.executable, "-m", "rabbitproof", "verify", str(copy), "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert json.loads(again.stdout) == json.loads(json.dumps(words.as_object(result))), again.stderr
