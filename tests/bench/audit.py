"""Export and replay beside plain consume and produce: speed and memory on a real broker.

    PYTHONPATH=src python tests/bench/audit.py --topology lazy --count 1000000

Topologies: ``lazy`` and ``classic`` (durable classic queues), ``quorum``, ``stream`` (the audit
queue is one). Each message goes to a work and an audit queue. Then, one after the other: the
audit queue is read as the export reads it with nothing written (``hold``), it is exported, the
work queue is consumed, and the export is replayed. What is compared with is of the same kind of
queue: plain consume of a stream's audit copy is of the stream. ``--again`` exports the replayed
messages, too, and compares the files.

Nothing else should run on the machine. Memory is the highest of a process, in MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = {
    "lazy": ["--durable", "--lazy"],
    "classic": ["--durable"],
    "quorum": ["--queue-type", "quorum", "--audit-type", "quorum"],
    "stream": ["--durable", "--audit-type", "stream"],
}


def hold(url: str, queue: str, *, stream: bool, classic: bool) -> None:
    """Read a queue as an export does, write nothing, and print how long it took."""
    from rabbitproof.address import parse
    from rabbitproof.amqp.connection import open_connection
    from rabbitproof.work.hold import Held

    with open_connection(parse(url), "bench hold") as connection:
        held = Held(connection, queue, stream=stream, classic=classic)
        began, cpu = time.monotonic(), time.process_time()
        count = sum(len(getattr(one, "bodies", "1")) for some in held.read_bulk() for one in some)
        read = time.monotonic()
        held.give_back()
        print(
            f"read={count}, giving_back={time.monotonic() - read:.2f}s, "
            f"cpu={time.process_time() - cpu:.2f}s, time={time.monotonic() - began:.2f}s"
        )


def consume_stream(url: str, count: int) -> None:
    """Consume a stream as a consumer does, and print how long it took."""
    from rabbitproof.address import parse
    from rabbitproof.amqp.connection import open_connection
    from rabbitproof.work.consume import Consumer, Task

    task = Task("audit.queue", "bench", 5000, count, stream_offset="first")
    consumer = Consumer(task, lambda: open_connection(parse(url), "bench consume"))
    for _ in consumer.run():
        pass
    print(f"time={consumer.summary().seconds:.2f}s")


def timed(command: list[str]) -> tuple[float, int, str]:
    """Run a command; return its own ``time=`` in seconds, its most memory in MiB, its output."""
    import psutil

    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    peak, watched = 0, psutil.Process(process.pid)
    while True:
        try:
            out, _ = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, watched.memory_info().rss)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}:\n{out}")
    (seconds,) = re.findall(r"time=([\d.]+)s", out)[-1:]
    return float(seconds), peak >> 20, out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", choices=KINDS, default="lazy")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--suffix", default=".jsonl.zst", help="of the export: how it is packed")
    parser.add_argument("--url", help="a broker to use; without it, one is started")
    parser.add_argument("--no-hold", action="store_true")
    parser.add_argument("--no-replay", action="store_true")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    if given.url:
        measure(given, given.url)
        return

    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide

    with Node.start(provide(None, lambda text: print(text, file=sys.stderr))) as node:
        os.environ["RABBITMQ_MANAGEMENT_URL"] = node.management_url
        measure(given, node.url)


def measure(given: argparse.Namespace, url: str) -> None:
    """Do one after the other."""
    count, kind = given.count, given.topology
    program = [sys.executable, "-m", "rabbitproof"]
    login = ["--url", url]
    result: dict[str, object] = {"topology": kind, "count": count, "packed": given.suffix}
    rates: dict[str, int] = {}

    def note(what: str, command: list[str]) -> str:
        seconds, peak, out = timed(command)
        rates[what] = round(count / seconds)
        result[what] = {"per_s": rates[what], "seconds": seconds, "peak_mib": peak}
        print(f"{what}: {result[what]} {out.strip().splitlines()[-1]}", file=sys.stderr)
        return out

    note("produce", [*program, "produce", *login, "--count", str(count), *KINDS[kind], "--purge"])
    if not given.no_hold:
        sort = {"stream": "--stream", "quorum": "--quorum"}.get(kind, "--classic")
        note("hold", [sys.executable, __file__, "--hold", url, "audit.queue", sort])
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, f"first{given.suffix}")
        export = [*program, "audit", "export", "--yes", *login]
        note("export", [*export, str(first)])
        consume = [*program, "consume", *login, "--prefetch", "5000", "--expect", str(count)]
        note("consume", [*consume, "--queue", "work.queue"])
        if kind == "stream":
            note("consume_stream", [sys.executable, __file__, "--consume", url, str(count)])
        if not given.no_replay:
            note(
                "replay",
                [*program, "audit", "replay", str(first), *login, "--speed", "max", "--yes"],
            )
        if given.again:
            second = Path(folder, f"second{given.suffix}")
            queue = ["--queue", "work.queue"]
            subprocess.run([*export, *queue, str(second)], check=True, stdout=sys.stderr)
            result["identical"] = same(first, second)
    for what, other in (
        ("hold", "consume"), ("export", "consume"), ("replay", "produce"),
        ("export", "consume_stream"),
    ):  # fmt: skip
        if what in rates and other in rates:
            result[f"{what}/{other}"] = round(rates[what] / rates[other], 2)
    print(json.dumps(result))


def same(first: Path, second: Path) -> bool:
    """Say whether two exports have the same lines but for the marks of a replay."""
    from rabbitproof.work.export import lines_of

    ones, others = lines_of(first), lines_of(second)
    pairs = 0
    for one, other in zip(ones, others, strict=True):
        if not one.startswith(b'{"end":') and one != re.sub(
            rb',"replayed":\{"l":\d+\}', b"", other
        ):
            return False
        pairs += 1
    return pairs > 2


if __name__ == "__main__":
    if sys.argv[1:2] == ["--hold"]:
        hold(
            sys.argv[2], sys.argv[3], stream="--stream" in sys.argv, classic="--classic" in sys.argv
        )
    elif sys.argv[1:2] == ["--consume"]:
        consume_stream(sys.argv[2], int(sys.argv[3]))
    else:
        main()
