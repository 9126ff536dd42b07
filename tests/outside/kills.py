"""The broker, the producer and consumers killed with `kill -9` at random moments, from outside.

    PYTHONPATH=tests python -m outside.kills --times 50 --seed 1        (or: make kills)

Uses the product as a person types it and imports nothing of it. A private broker (`broker up`), a
producer and two consumers with ledgers; a dice kills one or two of them, again and again, also a
broker that is just starting. The broker is started again by `broker up`, the producer finishes its
run by `produce --resume`, a consumer is replaced by a new one. When the run is finished, pika looks
at all that is left in the work queue and reads the whole audit queue. Then

- every confirmed id is in a consumer's ledger or was still in the work queue,
- every confirmed id is in the audit queue, whose copies all have the right checksum,
- and `rabbitproof verify`, after a last consumer, names the same figures and says PASS.

What is confirmed and what was seen is read from the ledgers by `ledger.py`, as docs/journal.md
says. Besides, it measures how long the producer takes from the first answer of a broker that starts
again (an AMQP handshake, tried every 20 ms) to the next confirm in its ledger.

The last line is JSON; exit code 1 when anything is missing or disagrees.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import psutil

from outside import ledger as ledgers
from outside.ledger import CONFIRM, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

KINDS = {
    "classic": ["--durable"],
    "quorum": ["--queue-type", "quorum", "--audit-type", "quorum"],
    "stream": ["--queue-type", "quorum", "--audit-type", "stream"],
}
"""Name -> the options that `produce` gets. The last one: quorum, and a stream for the audit."""

VICTIMS = {
    ("broker",): 7,
    ("producer",): 5,
    ("consumer",): 4,
    ("broker", "producer"): 2,
    ("broker", "consumer"): 2,
    ("producer", "consumer"): 1,
}
"""Who is killed at once, and how often of 21."""

ALL_AT_WORK = 0.7
"""Of the kills, before how many it is waited until whoever was killed before is back at work."""

AGAIN_WHILE_STARTING = 0.15
"""Of the broker's kills, after how many it is killed once more while it starts."""

LOADS = ((100_000, None, 1.0), (60_000, 4_000, 2.5), (25_000, 1_000, 2.5))
"""Messages of a run, its rate (None: as fast as it goes), and the longest pause between two kills
in seconds."""
LIGHT = (20_000, 1_000, 1.0)

MOST_KILLS = 6
"""In one run: what is in the queues has to be read by pika in the end."""

UNREACHABLE = 3
"""The exit code of a command that found no broker."""

POLL_S = 0.02
DEADLINE_S = 120.0
AT_ONCE = 60_000
"""Messages that one channel may have without an answer; the protocol's most is 65,535, and without
a limit a quorum queue gives 2,000."""
SILENCE_S = 20.0
"""After so long without a message pika believes that nothing more comes."""


@dataclass(slots=True)
class Tally:
    """What all runs of a kind of queue came to."""

    kind: str
    runs: int = 0
    events: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    while_starting: int = 0
    in_flight: list[int] = field(default_factory=list)
    """Sent and without an answer when the broker or the producer was killed."""
    confirmed: int = 0
    copies: int = 0
    """Received by consumers, more than once counted."""
    held: int = 0
    """Seen in the work queue by pika alone, of those that no consumer had."""
    missing_work: int = 0
    missing_audit: int = 0
    corrupt: int = 0
    disagreements: list[str] = field(default_factory=list)
    resumes_s: list[float] = field(default_factory=list)
    """From the broker's first answer to the next confirm."""
    connects_s: list[float] = field(default_factory=list)
    """Of these, until its new connection was ready for use."""
    outages_s: list[float] = field(default_factory=list)
    """From the kill to the broker's first answer."""

    @property
    def sound(self) -> bool:
        wrong = self.missing_work + self.missing_audit + self.corrupt
        return not wrong and not self.disagreements

    def told(self) -> dict[str, Any]:
        resumes, outages, flights = self.resumes_s, self.outages_s, self.in_flight
        return asdict(self) | {
            "killed": dict(self.killed),
            "in_flight": {"median": _median(flights), "most": max(flights, default=0)},
            "resumes_s": {
                "kills": len(resumes),
                "median": _median(resumes),
                "worst": max(resumes, default=None),
            },
            "connects_s": {
                "median": _median(self.connects_s),
                "worst": max(self.connects_s, default=None),
            },
            "outages_s": {"median": _median(outages), "worst": max(outages, default=None)},
        }


def _median(values: list[Any]) -> float | None:
    return round(statistics.median(values), 3) if values else None


class World:
    """A private broker in a cache folder of its own, and commands that are typed beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.management = _free_port(), _free_port()
        self.pid = 0
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RABBIT")
        }
        self.environment |= {
            "PYTHONPATH": str(ROOT / "src"),
            "RABBITPROOF_CACHE": str(folder / "cache"),
            "RABBITMQ_URL": self.url,
            "RABBITMQ_MANAGEMENT_URL": f"http://127.0.0.1:{self.management}",
            "NO_COLOR": "1",
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Type a command; what it says goes into a file, for when it is needed."""
        with (self.folder / "said.txt").open("ab") as said:
            said.write(f"$ rabbitproof {' '.join(words)}\n".encode())
            said.flush()
            return subprocess.Popen(
                [sys.executable, "-m", "rabbitproof", *words],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=_heed_ctrl_c,
            )  # fmt: skip

    def run(self, *words: str, expect: int | None = 0) -> str:
        """Type a command, wait for its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "rabbitproof", *words],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        if expect is not None and done.returncode != expect:
            raise RuntimeError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def begin_up(self) -> subprocess.Popen[bytes]:
        return self.start("broker", "up", "--port", str(self.port),
                          "--management-port", str(self.management))  # fmt: skip

    def up(self, begun: subprocess.Popen[bytes] | None = None) -> None:
        """Have the broker up, by a `broker up` that may have ``begun``; learn its pid."""
        code = (begun or self.begin_up()).wait(DEADLINE_S)
        if code != 0:
            raise RuntimeError(f"broker up ended with {code}")
        shown = self.run("broker", "status")
        (found,) = re.findall(r"is up \(pid (\d+)\)", shown)
        self.pid = int(found)

    def servers(self) -> list[int]:
        """Return the pids of the Erlang VMs of this broker, also of one that is starting."""
        found = []
        for process in psutil.process_iter(["name"]):
            with contextlib.suppress(psutil.Error):
                if process.info["name"] == "beam.smp" and str(self.folder) in str(
                    process.environ()
                ):
                    found.append(process.pid)
        return found

    def answers(self) -> bool:
        """Say whether the broker answers an AMQP handshake (Connection.Start)."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 0.5) as peer,
        ):
            peer.sendall(b"AMQP\0\0\x09\x01")
            return peer.recv(11)[7:11] == b"\0\x0a\0\x0a"
        return False

    def close(self) -> None:
        self.run("broker", "down", "--delete", expect=None)


def _heed_ctrl_c() -> None:
    """Undo what a shell does to a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_S)  # between two looks, with the deadline above
    return found


class Run:
    """One run: a producer with its ledger, two consumers with theirs, and the kills."""

    def __init__(
        self,
        world: World,
        kind: str,
        number: int,
        dice: random.Random,
        *,
        light: bool,
        only: str | None,
    ) -> None:
        self.world, self.dice = world, dice
        self.victims = VICTIMS if only is None else {(only,): 1}
        self.folder = world.folder / f"run-{number}"
        self.work, self.audit = f"work.{number}", f"audit.{number}"
        self.kind = kind
        self.count, rate, self.pause_s = LIGHT if light else dice.choice(LOADS)
        self.wanted = [
            "produce", "--queue", self.work, "--audit-queue", self.audit,
            "--exchange", f"exchange.{number}", "--count", str(self.count),
            "--window", str(dice.choice((1_000, 20_000))), "--size", str(dice.choice((0, 500))),
            *(() if rate is None else ("--rate", str(rate))),
            *KINDS[kind], "--ledger", str(self.folder),
        ]  # fmt: skip
        self.prefetch = dice.choice((50, 1_000))
        self.producer: subprocess.Popen[bytes] | None = None
        self.consumers: dict[str, subprocess.Popen[bytes]] = {}
        self.named = 0
        self.book: Ledger | None = None

    # --- who takes part ---

    def produce(self) -> None:
        """Start the producer, or finish what a killed one left."""
        if self.look() is None:
            # Killed before it had written anything: there is nothing to be resumed.
            for empty in self.folder.glob("producer-*"):
                empty.unlink()
            self.producer = self.world.start(*self.wanted)
        else:
            self.producer = self.world.start("produce", "--resume", str(self.folder))

    def consume(self) -> None:
        self.named += 1
        name = f"c{self.named}"
        self.consumers[name] = self.world.start(
            "consume", "--queue", self.work, "--name", name,
            "--prefetch", str(self.prefetch), "--ledger", str(self.folder),
        )  # fmt: skip

    def look(self) -> Ledger | None:
        """Return the producer's ledger, read up to now; None while it says nothing."""
        if self.book is None or not self.book.header:
            found = list(self.folder.glob("producer-*.ledger"))
            self.book = Ledger(found[0]) if found else None
        if self.book is not None:
            self.book.read_on()
        return self.book if self.book is not None and self.book.header else None

    @property
    def finished(self) -> bool:
        """Whether the producer has ended well."""
        assert self.producer is not None
        return self.producer.poll() == 0

    def tend(self) -> None:
        """Start again whoever was just starting when the broker was killed.

        A first connection is not tried again: the command says that nothing answers and ends with
        3. Any other end that is not ours is an error.
        """
        assert self.producer is not None
        if self.producer.poll() == UNREACHABLE:
            self.produce()
        elif self.producer.poll() not in {None, 0, -signal.SIGKILL}:  # the last is our own doing
            raise RuntimeError(f"the producer ended by itself, with {self.producer.returncode}")
        for name, consumer in list(self.consumers.items()):
            if consumer.poll() == UNREACHABLE:
                del self.consumers[name]
                self.consume()
            elif consumer.poll() is not None:
                raise RuntimeError(f"a consumer ended by itself, with {consumer.returncode}")

    def all_at_work(self) -> bool:
        """Say whether every consumer has begun its ledger, as it does when it is subscribed."""
        self.tend()
        return all(
            any(path.stat().st_size for path in self.folder.glob(f"consumer-{name}-*.ledger"))
            for name in self.consumers
        )

    # --- the run ---

    def carry_out(self, tally: Tally, kills: int) -> None:
        self.folder.mkdir()
        self.produce()
        _until(lambda: (book := self.look()) and book.acked, "the first confirm")
        # Up to 4.2 a broker that is killed now may forget what was just declared, see
        # docs/verdict.md, "What is not proven".
        self.world.run(
            "broker",
            "ctl",
            "eval",
            "catch mnesia:sync_log(), [catch dets:sync(T) || T <- dets:all()].",
        )
        self.consume()
        self.consume()
        for _ in range(kills):
            if self.dice.random() < ALL_AT_WORK:
                _until(lambda: self.all_at_work() or self.finished, "the consumers work")
            time.sleep(self.dice.uniform(0, self.pause_s))  # the random moment itself
            self.tend()
            if self.finished:
                break
            names, weights = zip(*self.victims.items(), strict=True)
            self.kill(self.dice.choices(names, weights)[0], tally)
        _until(lambda: self.tend() or self.finished, "the producer finishes")
        self.end(tally)

    def kill(self, victims: tuple[str, ...], tally: Tally) -> None:
        """Kill them at once, and have each one take up its work again."""
        assert self.producer is not None
        name = self.dice.choice(list(self.consumers))
        consumer = self.consumers[name]
        pids = {"broker": self.world.pid, "producer": self.producer.pid, "consumer": consumer.pid}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        at = time.monotonic()
        tally.events += 1
        tally.killed.update(victims)
        book = self.look()
        if book is not None and victims != ("consumer",):
            tally.in_flight.append(book.in_flight)
        if "producer" in victims:
            self.producer.wait()
        if "consumer" in victims:
            del self.consumers[name]
            consumer.wait()
        if "broker" in victims:
            self.revive(at, tally, measure="producer" not in victims)
        if "producer" in victims:
            self.produce()
        if "consumer" in victims:
            self.consume()

    def revive(self, at: float, tally: Tally, *, measure: bool) -> None:
        """Start the broker again, as a person would, and see when messages are confirmed again.

        ``measure``: a producer is there that has lost its connection.
        """
        assert self.producer is not None
        _until(lambda: not psutil.pid_exists(self.world.pid), "the broker is gone")
        time.sleep(self.dice.uniform(0, 1))  # somebody has to notice
        if self.dice.random() < AGAIN_WHILE_STARTING:
            starting = self.world.begin_up()
            time.sleep(self.dice.uniform(0, 3))  # the random moment itself
            for pid in self.world.servers():
                tally.while_starting += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            starting.wait(DEADLINE_S)
            measure = False
        starting = self.world.begin_up()
        _until(lambda: self.world.answers() or starting.poll(), "the broker answers")
        ready, clock = time.monotonic(), time.time()
        tally.outages_s.append(round(ready - at, 3))
        if measure and self.producer.poll() is None and self.book and not self.book.ended:
            self.book.read_on()
            _until(self.confirmed_more, "a confirm after the broker was killed", 30)
            if self.producer.poll() is None or self.finished:
                tally.resumes_s.append(round(time.monotonic() - ready, 3))
                last = self.book.events[-1]
                if last["name"] == "connected":
                    tally.connects_s.append(round(last["t_ns"] / 1e9 - clock, 3))
        self.world.up(starting)
        self.tend()

    def confirmed_more(self) -> bool:
        """Say whether there is a new confirm, or nobody to wait for any more."""
        assert self.book is not None
        assert self.producer is not None
        ended = self.producer.poll() is not None
        return CONFIRM in self.book.read_on() or ended

    # --- the judgement ---

    def end(self, tally: Tally) -> None:
        """Compare what was confirmed with what was received."""
        _until(self.all_at_work, "the consumers work")
        for consumer in self.consumers.values():
            consumer.send_signal(signal.SIGINT)
        for consumer in self.consumers.values():
            if consumer.wait(DEADLINE_S) != 130:
                raise RuntimeError(f"a consumer ended with {consumer.returncode}")
        books = [ledgers.read(path) for path in self.folder.glob("producer-*.ledger")]
        (sent,) = books
        assert sent.ended
        taken, copies = self.taken(sent.source)
        held = Witness(self.world.url, sent.source)
        held.look(self.work, sent.confirmed - taken)
        mirror = Witness(self.world.url, sent.source)
        mirror.look(self.audit, sent.confirmed, stream=self.kind == "stream")
        tally.runs += 1
        tally.confirmed += len(sent.confirmed)
        tally.copies += copies
        tally.held += len(held.seen - taken)
        tally.missing_work += len(sent.confirmed - taken - held.seen)
        tally.missing_audit += len(sent.confirmed - mirror.seen)
        tally.corrupt += held.corrupt + mirror.corrupt
        if len(sent.confirmed) != self.count:
            tally.disagreements.append(f"{len(sent.confirmed)} of {self.count} confirmed")
        tally.disagreements += self.verdict(sent)

    def taken(self, source: ledgers.Source) -> tuple[set[int], int]:
        """Return what all consumers' ledgers have of a producer, and how many copies came."""
        found = [ledgers.read(path) for path in self.folder.glob("consumer-*.ledger")]
        seen = set().union(*(one.seen.get(source, set()) for one in found))
        return seen, sum(one.copies for one in found)

    def verdict(self, sent: Ledger) -> Iterator[str]:
        """Yield where `verify`, after a last consumer, says something else than we found."""
        self.world.run("consume", "--queue", self.work, "--name", "last", "--idle-timeout", "3",
                       "--ledger", str(self.folder))  # fmt: skip
        said = json.loads(self.world.run("verify", str(self.folder), "--json", expect=None))
        taken, copies = self.taken(sent.source)
        queue = said["queues"][self.work]
        lost = len(sent.confirmed - taken)
        # A killed consumer's ledger has no end, and nobody says that it is whole: docs/journal.md.
        whole = all(ledgers.read(path).ended for path in self.folder.glob("consumer-*.ledger"))
        ours: dict[str, object] = {
            "verdict": "PASS" if not lost else "FAIL" if whole else "UNKNOWN",
            "confirmed": len(sent.confirmed),
            "lost": lost if whole else 0,
            "unique": len(taken),
            "received": copies,
        }
        theirs = {
            "verdict": said["verdict"], "confirmed": said["confirmed"], "lost": queue["lost"],
            "unique": queue["unique"], "received": queue["received"],
        }  # fmt: skip
        if theirs["verdict"] == "UNKNOWN" and all(self.audit in why for why in said["reasons"]):
            # No consumer of ours reads that queue, and a stream's count may be seconds old.
            theirs["verdict"] = "PASS"
        if ours != theirs:
            yield f"run {sent.source[0]}: verify says {theirs}, found {ours}: {said['reasons']}"


class Witness:
    """pika looks at a queue and takes nothing out of it."""

    def __init__(self, url: str, source: ledgers.Source) -> None:
        self.seen: set[int] = set()
        self.corrupt = 0
        self._url, self._source = url, source
        self._heard = 0.0

    def look(self, queue: str, wanted: set[int], *, stream: bool = False) -> None:
        """Read a queue until all that is ``wanted`` has come, or nothing comes any more.

        Without an answer everything goes back.
        """
        connection = pika.BlockingConnection(pika.URLParameters(self._url))

        def take(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            self._heard = time.monotonic()
            self._take(properties, body)
            if stream:
                channel.basic_ack(method.delivery_tag)  # a stream keeps everything all the same

        count = connection.channel().queue_declare(queue, passive=True).method.message_count
        for _ in range(1 if stream else 1 + count // AT_ONCE):
            channel = connection.channel()
            channel.basic_qos(prefetch_count=AT_ONCE)
            channel.basic_consume(
                queue, take, arguments={"x-stream-offset": "first"} if stream else {}
            )
        self._heard = time.monotonic()
        while not wanted <= self.seen and time.monotonic() < self._heard + SILENCE_S:
            connection.process_data_events(POLL_S)
        # Not behind a `finally`: after an exception out of pika's own loop it would wait for ever.
        # It gives back one by one what it has not shown yet; a stream ends the connection for that.
        with contextlib.suppress(pika.exceptions.ConnectionClosedByBroker):
            connection.close()

    def _take(self, properties: pika.BasicProperties, body: bytes) -> None:
        """Understand a message as docs/message.md says."""
        text = str(properties.message_id)
        right = f"{zlib.crc32(text.encode() + body):08x}" == properties.headers["checksum"]
        identity = uuid.UUID(text)
        run, producer = identity.hex[:12], int(identity.hex[13:16], 16)
        if not right or (run, producer) != self._source:
            self.corrupt += 1
            return
        self.seen.add(identity.int & (2**48 - 1))


def kill_again_and_again(
    tally: Tally,
    times: int,
    seed: int,
    *,
    light: bool,
    only: str | None,
    say: Callable[[str], None],
) -> None:
    """Have so many events of kills happen around one kind of queue."""
    kind = tally.kind
    dice = random.Random(f"{kind} {seed}")
    with tempfile.TemporaryDirectory(prefix="rabbitproof-kills-") as name:
        world = World(Path(name))
        try:
            world.up()
            for number in range(1, 4 * times + 2):
                if tally.events >= times:
                    break
                run = Run(world, kind, number, dice, light=light, only=only)
                try:
                    run.carry_out(tally, min(times - tally.events, MOST_KILLS))
                finally:
                    for process in (run.producer, *run.consumers.values()):
                        if process is not None and process.poll() is None:
                            process.kill()
                            process.wait()
                say(f"{kind}: {tally.events} of {times} kills, {tally.confirmed:,} confirmed, "
                    f"{tally.missing_work + tally.missing_audit} missing")  # fmt: skip
        except Exception:
            print(_end_of(Path(name, "said.txt")), file=sys.stderr)
            raise
        finally:
            world.close()


def _end_of(path: Path) -> str:
    return path.read_text(errors="replace")[-4_000:] if path.exists() else ""


def main() -> int:
    """Kill, compare, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=51, help="kills in all")
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=("broker", "producer", "consumer"), help="kill no other")
    parser.add_argument("--light", action="store_true", help="short runs, for a test")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    kinds = list(KINDS) if given.kind == "all" else [given.kind]
    began = time.monotonic()

    # Whoever ends this (`timeout`, for one) does not want to find a broker afterwards.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    say(f"seed {seed}")
    each = -(-given.times // len(kinds))
    tallies: list[Tally] = []
    interrupted = False
    try:
        for kind in kinds:
            tallies.append(Tally(kind))
            kill_again_and_again(
                tallies[-1], each, seed, light=given.light, only=given.only, say=say
            )
    except (KeyboardInterrupt, SystemExit):
        interrupted = True  # what was found out by then is worth something
    resumes = [one for tally in tallies for one in tally.resumes_s]
    print(
        json.dumps(
            {
                "seed": seed,
                "interrupted": interrupted,
                "kills": sum(tally.events for tally in tallies),
                "confirmed": sum(tally.confirmed for tally in tallies),
                "missing": sum(tally.missing_work + tally.missing_audit for tally in tallies),
                "sound": all(tally.sound for tally in tallies),
                "resumes_median_s": _median(resumes),
                "resumes_worst_s": max(resumes, default=None),
                "seconds": round(time.monotonic() - began, 1),
                "kinds": [tally.told() for tally in tallies],
            }
        )
    )
    if interrupted:
        return 130
    return 0 if all(tally.sound for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
