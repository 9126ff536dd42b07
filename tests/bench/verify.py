"""How long ``verify`` takes over the ledgers of many messages, and what memory.

    .venv/bin/python tests/bench/verify.py [--messages 10000000] [--batch 60 200] [--keep DIR]

The ledgers are written as participants write them, without a broker: producers publish in turn, and
consumers share the queue. How many of those have room at a moment differs, and the broker gives to
each of them in turn, now and then past one; so what one gets of one producer is mostly no range.
``verify`` judges them in a process of its own. Nothing else should run on the machine. Exit 1 when
that takes more than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.proof.journal import Journal
    from rabbitproof.proof.ledger import Outcomes, QueueReceipts

BAR_S, BAR_MB = 10.0, 300.0
"""What ``verify`` of 10,000,000 messages may take, on two cores of 2.6 GHz."""
RUN, QUEUE = "0a1b2c3d4e5f", "work.queue"
BEGAN_NS = 1_700_000_000 * 10**9
SAMPLED = 10_000
"""Messages between two samples of each participant, which are half a second apart."""


PUBLISHED = 500
"""Messages that a producer writes down, publishes and has confirmed at once."""
STRETCH = (5, 80)
"""Messages of one producer in a row in the queue."""
ALL_HAVE_ROOM, PASSED_OVER = 0.7, 0.1
"""How often all consumers have room, and how often the broker passes over one whose turn it is."""
# So it was where four producers and eight consumers shared a queue of RabbitMQ 4.3 on two cores:
# stretches of 43, and in the consumers' ledgers frames of 7 numbers.


def journal(folder: Path, kind: Any, number: int) -> Journal:
    """Begin a ledger file."""
    from rabbitproof.proof.entries import DeclaredQueue, Effective, Header, Wiring
    from rabbitproof.proof.journal import Journal

    classic = Effective(type="classic", durable=True, arguments={})
    queue = DeclaredQueue(name=QUEUE, role="work", type="classic", effective=classic)
    header = Header(
        kind=kind, run=RUN, producer=number if kind == "producer" else 0, name=f"{kind}-{number}",
        host="bench", pid=number, started_ns=BEGAN_NS, queue="" if kind == "producer" else QUEUE,
        topology=Wiring(exchange="e", routing_key="k", vhost="/", queues=(queue,)),
        boot="bench", monotonic_ns=1,
    )  # fmt: skip
    return Journal.create(folder, header.name, header)


def publish(outcomes: Outcomes, numbers: range, chance: random.Random) -> None:
    """Have some attempted and confirmed; now and then a single one before the rest."""
    outcomes.attempt(numbers)
    alone = chance.randrange(len(numbers)) if chance.random() < 0.3 else 0
    for some in (numbers[alone : alone + 1], numbers[:alone], numbers[alone + 1 :]):
        outcomes.confirm(some)


def receive(
    receipts: QueueReceipts, batch: Sequence[tuple[int, int]], *, redelivered: bool = False
) -> None:
    """Record a batch of (producer, n)."""
    from rabbitproof.identity import Source

    for producer, group in groupby(batch, key=lambda one: one[0]):
        numbers: Sequence[int] = [n for _, n in group]
        if numbers[-1] - numbers[0] == len(numbers) - 1:
            numbers = range(numbers[0], numbers[-1] + 1)
        receipts.of(Source(RUN, producer)).add(numbers, redelivered=redelivered)


def sent(
    outcomes: list[Outcomes], writers: list[Journal], messages: int, chance: random.Random
) -> Iterator[list[tuple[int, int]]]:
    """Have each producer publish some hundreds; yield what the queue gets."""
    first = 1
    while messages:
        waiting = {}
        for who, ledger in enumerate(outcomes):
            count = min(PUBLISHED, messages)
            messages -= count
            if count:
                waiting[who] = range(first, first + count)
                publish(ledger, waiting[who], chance)
                writers[who].flush()
        first += PUBLISHED
        queue = []
        while waiting:
            who = chance.choice(list(waiting))
            count = chance.randint(*STRETCH)
            queue += [(who + 1, n) for n in waiting[who][:count]]
            waiting[who] = waiting[who][count:]
            if not waiting[who]:
                del waiting[who]
        yield queue


def write(folder: Path, asked: argparse.Namespace) -> None:
    """Write the ledgers."""
    from rabbitproof.proof.entries import End

    chance = random.Random(7)
    with ExitStack() as stack:
        producers = [
            stack.enter_context(journal(folder, "producer", n + 1)) for n in range(asked.producers)
        ]
        consumers = [
            stack.enter_context(journal(folder, "consumer", n + 1)) for n in range(asked.consumers)
        ]
        everybody = [*producers, *consumers]
        receipts = [one.receipts() for one in consumers]
        queue: list[tuple[int, int]] = []
        now, due, done = BEGAN_NS, SAMPLED, 0
        for some in sent([one.outcomes() for one in producers], producers, asked.messages, chance):
            queue += some
            done += len(some)
            kept = max(asked.batch) * asked.consumers if done < asked.messages else 0
            while len(queue) > kept:
                room = 1 if chance.random() < ALL_HAVE_ROOM else chance.random()
                ready = chance.sample(range(len(consumers)), ceil(room * len(consumers)))
                dealt = queue[: len(ready) * chance.randint(*asked.batch)]
                del queue[: len(dealt)]
                hands, turn = [[] for _ in ready], 0
                for one in dealt:
                    turn += 1 + (chance.random() < PASSED_OVER)
                    hands[turn % len(ready)].append(one)
                for who, batch in zip(ready, hands, strict=True):
                    receive(receipts[who], batch)
                    consumers[who].flush()
                if chance.random() < 0.01:  # it was not acknowledged, and comes again
                    receive(receipts[ready[0]], hands[0], redelivered=True)
            if done >= due:
                now, due = now + 10**9 // 2, due + SAMPLED
                for one in everybody:
                    one.sample(now, {"received": done, "distinct": done}, now)
        for one in everybody:
            now += 10**9
            counts = {QUEUE: 0}
            one.end(End(t_ns=now, clock_ns=now, counts=counts, consumers=counts))


def measure(folder: Path) -> tuple[float, float, str]:
    """Return seconds, the most megabytes, and what the verdict was."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "rabbitproof", "verify", str(folder), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - began, usage.ru_maxrss / 1000, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--consumers", type=int, default=8)
    parser.add_argument("--batch", type=int, nargs=2, default=[60, 200], metavar=("FROM", "TO"))
    parser.add_argument("--keep", type=Path, help="folder where the ledgers are, or will be")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(asked.keep, asked)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        if not folder.is_dir() or not any(folder.iterdir()):
            # In a process of its own: no child's peak is ever said to be below its parent's.
            command = [sys.executable, *sys.argv, "--write", "--keep", str(folder)]
            subprocess.run(command, check=True)
        size = sum(one.stat().st_size for one in folder.iterdir()) / 1e6
        seconds, peak, said = measure(folder)
    verdict = json.loads(said)
    print(
        f"{verdict['verdict']} of {verdict['confirmed']:,} messages in {size:.0f} MB of ledgers: "
        f"{seconds:.1f} s, {peak:.0f} MB"
    )
    return 0 if verdict["verdict"] == "PASS" and seconds <= BAR_S and peak <= BAR_MB else 1


if __name__ == "__main__":
    sys.exit(main())
