"""`deadletter retry` and `move`, killed with -9 at random moments, seen from outside.

    PYTHONPATH=src:tests python tests/kills.py --times 50

pika makes dead letters with known ids. The command is started as a person starts it and killed at
a random moment: mostly after its first copy has arrived, where it has most to lose, else earlier.
Then it is run once more, to its end, and pika takes everything out of both queues. An id that is
nowhere is lost; one that is there twice is a copy, which is allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pika

from support import eventually, ready, witness

ROOT = Path(__file__).parents[1]
EARLY = 0.2
"""Of the kills, how many come at any moment of the command's life, its start included."""


@dataclass(slots=True)
class Tally:
    """What many kills did."""

    what: str
    messages: int
    killed: int = 0
    in_the_middle: int = 0
    """Killed when some messages had arrived and some had not."""
    lost: int = 0
    copies: int = 0
    foreign: int = 0
    """Messages that nobody sent."""


def kill_again_and_again(
    url: str, management_url: str, what: str, times: int, count: int, seed: int | None = None
) -> Tally:
    """Kill ``retry`` or ``move`` so many times, each time with ``count`` dead letters."""
    dice = random.Random(seed)
    tally = Tally(what, count)
    target = "work" if what == "retry" else "parked"
    command = [sys.executable, "-m", "rabbitproof", "deadletter", what, "--queue", "dead", "--yes"]
    if what == "move":
        command += ["--to-queue", target]
    environment = dict(
        os.environ,
        PYTHONPATH=str(ROOT / "src"),
        RABBITMQ_URL=url,
        RABBITMQ_MANAGEMENT_URL=management_url,
    )

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    with witness(url) as channel:
        declare(channel)
        # How long it takes undisturbed, from its start and from its first copy.
        fill(url, channel, count, 0)
        began = time.monotonic()
        process = start()
        first = first_copy(channel, target, process)
        _, code = process.communicate()[0], process.returncode
        ended = time.monotonic()
        assert code == 0, f"{what} undisturbed ended with {code}"
        assert len(drain(channel, target)) == count
        round_ = 0
        while tally.killed < times:
            round_ += 1
            ids = fill(url, channel, count, round_)
            process = start()
            early = dice.random() < EARLY
            if not early:
                first_copy(channel, target, process)
            try:
                process.wait(dice.uniform(0, ended - began if early else ended - first))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            if process.returncode >= 0:  # done before the kill
                assert process.returncode == 0
                _judge(tally, ids, channel, target)
                continue
            tally.killed += 1
            arrived = depth(channel, target)
            tally.in_the_middle += 0 < arrived < count
            # The broker gives back what the dead process held.
            eventually(lambda: nobody_reads(channel), "the broker notices the end")
            again = start()
            said, _ = again.communicate(timeout=60)
            assert again.returncode == 0, said.decode()
            _judge(tally, ids, channel, target)
    return tally


def declare(channel: Any) -> None:
    """Make the queues."""
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("parked", durable=True)
    route = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("work", durable=True, arguments=route)


def fill(url: str, channel: Any, count: int, round_: int) -> set[str]:
    """Have ``count`` messages die in ``work``; return their ids."""
    ids = [f"{round_}-{n}" for n in range(count)]
    for one in ids:
        properties = pika.BasicProperties(message_id=one, delivery_mode=2, headers={"n": one})
        channel.basic_publish("", "work", one.encode() * 10, properties)
    eventually(lambda: depth(channel, "work") == count, "messages to reject")
    with witness(url) as other:  # of its own: rejected are all that it got
        tag = 0
        for method, _, _ in other.consume("work", inactivity_timeout=20):
            tag = method.delivery_tag
            if tag == count:
                break
        other.basic_nack(tag, multiple=True, requeue=False)
        eventually(lambda: ready(url, "dead") == count, "dead letters")
    return set(ids)


def depth(channel: Any, queue: str) -> int:
    """Count what is ready in a queue."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def nobody_reads(channel: Any) -> bool:
    """Say whether the dead letter queue has no consumer."""
    return not channel.queue_declare("dead", passive=True).method.consumer_count


def first_copy(channel: Any, target: str, process: subprocess.Popen[bytes]) -> float:
    """Wait until something arrived, or the process ended; return when that was."""
    while process.poll() is None and not depth(channel, target):
        pass  # each look asks the broker
    return time.monotonic()


def drain(channel: Any, queue: str) -> list[str]:
    """Take everything out of a queue; return the ids."""
    found: list[str] = []
    while left := depth(channel, queue):
        for _, properties, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=20):
            assert properties is not None, f"{queue} had {left} and gave no more"
            found.append(str(properties.message_id))
            left -= 1
            if not left:
                break
        channel.cancel()
    return found


def _judge(tally: Tally, ids: set[str], channel: Any, target: str) -> None:
    found = Counter(drain(channel, "dead") + drain(channel, target))
    tally.lost += len(ids - found.keys())
    tally.foreign += len(found.keys() - ids)
    tally.copies += found.total() - len(found)


def main() -> None:
    """Kill both commands on a private broker and print what became of the messages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--what", choices=["retry", "move"], action="append")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()

    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide

    failed = False
    with Node.start(provide(None, lambda text: print(text, file=sys.stderr))) as node:
        for what in given.what or ["retry", "move"]:
            tally = kill_again_and_again(
                node.url, node.management_url, what, given.times, given.count, given.seed
            )
            print(json.dumps(asdict(tally)), flush=True)
            failed |= bool(tally.lost or tally.foreign)
    sys.exit(failed)


if __name__ == "__main__":
    main()
