"""Measure the monitor against what is promised of it. One command, one table:

    python tests/bench/monitor.py                       # its own private RabbitMQ, three minutes
    python tests/bench/monitor.py --url amqp://… --management-url http://…

Puts 10,000 queues and 500 connections on a broker, and times what a user sees: `monitor --once`
from start to finish, the refreshes of a monitor that goes on, the memory of the live view and how
long a key takes to show (both on a pseudo-terminal), the depths against those of rabbitmqctl, a
rate against the messages really moved. Exits with 1 when a bar is missed.

``--prepare`` puts the queues on a broker and ends, so that a machine shared with others has to be
quiet for the measuring only; ``--prepared`` says that they are there. Not for Windows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx
import psutil

from rabbitproof.address import parse
from rabbitproof.amqp.connection import open_connection
from rabbitproof.broker.node import Node
from rabbitproof.broker.releases import provide

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FLOW = "bench.flow"
RATE = 500
"""Messages a second while a rate is measured."""
REFRESH_S, MEMORY_MIB, KEY_MS, RATE_OFF, ONCE_S = 1.5, 150, 100, 0.1, 1.0
"""The bars."""
SETTLE_S = 18.0
"""Seconds after which a rate spans whole reports: three of 5 s and one refresh."""
WIDTH, HEIGHT = 120, 40


def monitor(broker: Broker, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a monitor."""
    parts = urlsplit(broker.api)
    login = f"{broker.username}:{broker.password}@{parts.netloc}"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "RABBITMQ_MANAGEMENT_URL": parts._replace(netloc=login).geturl(),
        "RABBITMQ_URL": broker.url,
        "TERM": "xterm-256color",
    }
    return [sys.executable, str(ROOT / "src" / "monitor.py"), *arguments], environment


class Broker:
    """The broker that is measured, a private one or one that is there."""

    def __init__(self, url: str, api: str, node: Node | None) -> None:
        self.url, self.api, self.node = url, api.rstrip("/"), node
        parts = urlsplit(url)
        self.username = unquote(parts.username or "guest")
        self.password = unquote(parts.password or "guest")
        self._client = httpx.Client(
            auth=(self.username, self.password), timeout=300, trust_env=False
        )

    def declare(self, count: int) -> None:
        """Declare ``count`` durable queues."""
        names = [f"bench.{number:05}" for number in range(count)] + [FLOW]
        queues = [
            {"vhost": "/", "name": name, "durable": True, "auto_delete": False, "arguments": {}}
            for name in names
        ]
        answer = self._client.post(f"{self.api}/api/definitions", json={"queues": queues})
        answer.raise_for_status()

    def moved(self) -> int:
        """Return how many messages the flow's queue has taken so far, by passive declaration."""
        with open_connection(parse(self.url), "bench") as connection:
            from rabbitproof.work import topology

            channel = connection.open_channel()
            return int(topology.look(connection, channel, FLOW).message_count)

    def depths(self) -> dict[str, tuple[int, int]] | None:
        """Return every queue's ready and unacked by rabbitmqctl, where there is one."""
        node = self.node or Node.attach(default_directory())
        if node is None:
            return None
        listed = node.ctl("-q", "list_queues", "--no-table-headers", "--silent",
                          "name", "messages_ready", "messages_unacknowledged")  # fmt: skip
        rows = [line.split("\t") for line in listed.splitlines()]
        return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3}


def default_directory() -> Path:
    """Return where ``broker up`` keeps its node."""
    from rabbitproof.broker.install import cache_folder

    return cache_folder() / "broker"


@contextlib.contextmanager
def connected(url: str, count: int) -> Iterator[None]:
    """Hold ``count`` connections, each with a consumer on a queue of its own."""
    import pamqp.commands as commands

    with contextlib.ExitStack() as stack:
        for number in range(count):
            connection = open_connection(parse(url), f"bench {number}", heartbeat=0)
            stack.callback(connection.abandon)
            channel = connection.open_channel()
            consume = commands.Basic.Consume(queue=f"bench.{number:05}", consumer_tag=f"t{number}")
            connection.call(channel, consume)
        yield


@contextlib.contextmanager
def flow(url: str, seconds: float) -> Iterator[None]:
    """Publish at an even rate meanwhile; the messages stay."""
    command = [
        sys.executable, str(ROOT / "src" / "producer.py"), "--url", url, "--queue", FLOW,
        "--audit-queue", "", "--durable", "--rate", f"{RATE}", "--count", f"{int(RATE * seconds)}",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=environment, stdout=-3, stderr=-3) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def once(broker: Broker, tries: int = 5) -> float:
    """Return how long ``--once`` takes from start to finish, the median of some."""
    command, environment = monitor(broker, "--once")
    taken = []
    for _ in range(tries):
        began = time.monotonic()
        subprocess.run(command, env=environment, check=True, stdout=-3, timeout=60)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def refreshes(broker: Broker, count: int) -> tuple[list[float], list[int]]:
    """Return the seconds and the requests of ``count`` refreshes after the first."""
    seen = []
    for one, _ in pictures(broker, count + 1):
        seen.append(one)
    return [one["refresh_s"] for one in seen[1:]], [one["requests"] for one in seen[1:]]


def pictures(broker: Broker, count: int) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield what a monitor that goes on prints as JSON, and when."""
    command, environment = monitor(broker, "--json")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for _ in range(count):
            yield json.loads(process.stdout.readline()), time.monotonic()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Screen:
    """The live view on a pseudo-terminal, as a process of its own."""

    def __init__(self, broker: Broker) -> None:
        command, environment = monitor(broker)
        self._end, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self._process = subprocess.Popen(
            command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def wait_for(self, text: str, seconds: float) -> float:
        """Read until ``text`` was drawn; return how long that took."""
        began, seen = time.monotonic(), b""
        while (passed := time.monotonic() - began) < seconds:
            if select.select([self._end], [], [], seconds - passed)[0]:
                seen = seen[-4096:] + os.read(self._end, 1 << 16)
                if text.encode() in seen:
                    return time.monotonic() - began
        raise SystemExit(f"not drawn within {seconds:g} s: {text}")

    def drain(self, seconds: float) -> None:
        """Read what comes for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._end], [], [], left)[0]:
                os.read(self._end, 1 << 16)

    def press(self, key: str, text: str) -> float:
        """Press a key and return the seconds until ``text`` was drawn."""
        os.write(self._end, key.encode())
        return self.wait_for(text, 20)

    def memory(self) -> float:
        """Return the most memory that was resident at once, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text().splitlines() if "VmHWM" in line)
            return int(peak.split()[1]) / 1024
        return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        with contextlib.suppress(OSError):
            self.drain(0.5)
        self._process.kill()
        self._process.wait()
        os.close(self._end)


def live(broker: Broker, seconds: float) -> tuple[list[float], float]:
    """Press keys all the while a live view refreshes; return what each took, and the memory."""
    screen = Screen(broker)
    taken = []
    try:
        screen.wait_for("Queues: ", 60)
        until = time.monotonic() + seconds
        sorts = ("depth", "name", "rate", "consumers", "activity")
        turn = 0
        while time.monotonic() < until:
            taken.append(screen.press("s", f"by {sorts[turn % len(sorts)]}"))
            turn += 1
            screen.drain(0.15)  # a person's pace
        return taken, screen.memory()
    finally:
        screen.close()


def main() -> int:
    """Measure everything, print the table, and say whether every bar was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--management-url")
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--prepared", action="store_true")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        node = None
        if given.url is None:
            node = stack.enter_context(Node.start(provide(None, print)))
        broker = Broker(
            given.url or node.url,  # type: ignore[union-attr]
            given.management_url or node.management_url,  # type: ignore[union-attr]
            node,
        )
        return measure(broker, given)


def measure(broker: Broker, given: argparse.Namespace) -> int:
    """Measure everything on this broker."""
    table: list[tuple[str, str, str, bool]] = []

    def row(what: str, bar: str, measured: str, *, met: bool) -> None:
        table.append((what, bar, measured, met))
        print(f"{'ok ' if met else 'OUT'} {what}: {measured} (bar: {bar})", flush=True)

    if not given.prepared and not given.prepare:
        seconds = once(broker)
        row(
            "--once on a quiet broker", f"≤ {ONCE_S:g} s", f"{seconds:.2f} s", met=seconds <= ONCE_S
        )
    if not given.prepared:
        broker.declare(given.queues)
        if given.prepare:
            return 0
    with connected(broker.url, given.connections):
        times, requests = refreshes(broker, 10)
        row(
            f"refresh with {given.queues:,} queues, {given.connections} connections",
            f"≤ {REFRESH_S:g} s",
            f"median {statistics.median(times):.2f} s, worst {max(times):.2f} s, "
            f"{max(requests)} requests",
            met=max(times) <= REFRESH_S,
        )
        keys, memory = live(broker, 30)
        row("memory of the live view", f"≤ {MEMORY_MIB} MiB", f"{memory:.0f} MiB",
            met=memory <= MEMORY_MIB)  # fmt: skip
        row(
            "a key shows meanwhile",
            f"≤ {KEY_MS} ms",
            f"median {statistics.median(keys) * 1000:.0f} ms, worst {max(keys) * 1000:.0f} ms "
            f"of {len(keys)}",
            met=max(keys) * 1000 <= KEY_MS,
        )
    shown, real = rate(broker)
    row("rate shown against messages moved in 30 s", "within 10 %",
        f"{shown:.1f}/s, really {real:.1f}/s", met=abs(shown / real - 1) <= RATE_OFF)  # fmt: skip
    depths = broker.depths()
    if depths is not None:
        ((one, _),) = pictures(broker, 1)
        ours = {
            queue["name"]: (queue["ready"], queue["unacked"])
            for queue in one["queues"]
            if queue["vhost"] == "/"
        }
        differ = sum(ours.get(name) != counts for name, counts in depths.items())
        row("depths that differ from rabbitmqctl's", "0", f"{differ} of {len(depths):,}",
            met=not differ)  # fmt: skip
    return 0 if all(met for *_, met in table) else 1


def rate(broker: Broker) -> tuple[float, float]:
    """Return the mean of the rates shown over 30 s, and the real one by the queue's own count."""
    shown: list[float] = []
    start, before = None, 0
    with flow(broker.url, SETTLE_S + 60):
        for one, when in pictures(broker, 60):
            rates = (q["publish_per_s"] for q in one["queues"] if q["name"] == FLOW)
            value = next(rates, None)
            if start is None and value:
                start, settled = when, when + SETTLE_S
            elif start is not None and when >= settled:
                if not before:
                    before, began = broker.moved(), time.monotonic()
                shown += [] if value is None else [value]
                if when >= settled + 30:
                    break
        moved, seconds = broker.moved() - before, time.monotonic() - began
    return statistics.fmean(shown), moved / seconds


if __name__ == "__main__":
    sys.exit(main())
