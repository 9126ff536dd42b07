"""How long a key or a click waits in the window while it drains a queue, and what memory it takes.

    .venv/bin/python tests/bench/window.py [--count 1000000] [--prefetch 10000] [--rate N] [--json]

A private RabbitMQ gets the messages from the real producer; then the real window opens on a screen
of its own (Xvfb) and takes them, while xdotool presses keys and clicks. With ``--rate`` they come
from a stand-in that pushes so many a second (``source``): a real broker that shares two processors
with the window cannot push 50,000. A key's wait counts from when the X server got it (its own
stamp) to when everything that it changed was drawn. Needs Xvfb and xdotool. Nothing else should run
on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
EVERY_S = 0.12
"""Between two keys or clicks."""


def child(arguments: list[str], report: Path) -> None:
    """Be the window, as its command is, with a stopwatch on each key and click."""
    from rabbitproof.cli.exits import run
    from rabbitproof.cli.window import app
    from rabbitproof.view import window

    waits: list[float] = []
    samples: list[tuple[float, int]] = []

    class Watched(window.Window):
        def run(self) -> None:
            root = self.root

            def drawn(stamp: int) -> None:
                root.update_idletasks()
                now = time.monotonic_ns() // 1_000_000
                waits.append((now - stamp) % (1 << 32))

            def began(event: object) -> None:
                stamp = event.time  # type: ignore[attr-defined]
                root.after_idle(lambda: root.after_idle(lambda: drawn(stamp)))

            def watch(widget: object) -> None:
                widget.bindtags(("Stopwatch", *widget.bindtags()))  # type: ignore[attr-defined]
                for each in widget.winfo_children():  # type: ignore[attr-defined]
                    watch(each)

            watch(root)
            root.bind_class("Stopwatch", "<KeyPress>", began)
            root.bind_class("Stopwatch", "<ButtonPress>", began)

            def sample() -> None:
                samples.append((time.monotonic(), self._inbox.last))  # type: ignore[attr-defined]
                report.write_text(json.dumps({"waits": waits, "samples": samples}))
                root.after(500, sample)

            root.after(500, sample)
            super().run()

    window.Window = Watched  # type: ignore[misc]
    sys.exit(run(app, "window", arguments))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--prefetch", type=int, default=10_000)
    parser.add_argument("--ack", default="auto")
    parser.add_argument("--rate", type=int, help="messages a second, from a stand-in for a broker")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    import psutil

    with tempfile.TemporaryDirectory() as folder, broker(given) as url:
        read, write = os.pipe()
        screen = subprocess.Popen(
            [
                "Xvfb",
                "-displayfd",
                str(write),
                "-screen",
                "0",
                "1400x900x24",
                "-nolisten",
                "tcp",
                "-noreset",
            ],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        display = f":{os.read(read, 10).decode().strip()}"
        environment = dict(os.environ, DISPLAY=display)
        report = Path(folder, "report.json")
        window = subprocess.Popen(
            [sys.executable, __file__, "--child", str(report), "--url", url,
             "--prefetch", str(given.prefetch), "--ack", given.ack],
            env=environment,
        )  # fmt: skip
        try:
            found = _wait_for_window(environment)
            process = psutil.Process(window.pid)
            deadline = time.monotonic() + 150
            presses = 0
            last = 0
            while last < given.count and time.monotonic() < deadline and window.poll() is None:
                for what in (
                    ["key", "Up"], ["mousemove", "500", "330", "click", "1"], ["key", "Next"],
                    ["mousemove", "700", "400", "click", "4"], ["key", "shift+Up"], ["key", "End"],
                ):  # fmt: skip
                    subprocess.run(["xdotool", *what], env=environment, check=True)
                    presses += 1
                    time.sleep(EVERY_S)
                if report.exists():
                    read_so_far = json.loads(report.read_text() or "{}")
                    last = read_so_far.get("samples", [[0, 0]])[-1][1]
            peak = _peak(window.pid)
            cpu = process.cpu_times()
            subprocess.run(["xdotool", "windowfocus", found, "key", "ctrl+q"], env=environment)
            window.wait(20)
        finally:
            window.kill()
            screen.kill()
            screen.wait()
        result = json.loads(report.read_text())
    _print(result, presses, peak, cpu.user + cpu.system, as_json=given.json)


@contextlib.contextmanager
def broker(given: argparse.Namespace) -> Iterator[str]:
    """Have a broker with the messages; yield its URL."""
    if given.rate is not None:
        source = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("source.py")),
             "--count", str(given.count), "--rate", str(given.rate)],
            env=dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield f"amqp://guest:guest@127.0.0.1:{source.stdout.readline().strip()}/"
            print("source:", source.communicate(timeout=40)[0].strip(), file=sys.stderr)
        finally:
            source.kill()
        return

    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide

    with Node.start(provide(None, lambda text: print(text, file=sys.stderr))) as node:
        subprocess.run(
            [sys.executable, "-m", "rabbitproof", "produce", "--url", node.url, "--durable",
             "--count", str(given.count), "--audit-queue", ""],
            check=True, stdout=sys.stderr,
        )  # fmt: skip
        yield node.url


def _wait_for_window(environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["xdotool", "search", "--sync", "--onlyvisible", "--name", "Window-1"],
        env=environment, check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.stdout.split()[0]


def _peak(pid: int) -> int:
    """Return the most memory that a process ever held, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def _print(result: dict[str, list], presses: int, peak: int, cpu: float, *, as_json: bool) -> None:
    waits = sorted(result["waits"])
    # The rate while messages came: until the last sample that had more than the one before.
    samples = result["samples"]
    busy = [(t, n) for i, (t, n) in enumerate(samples) if i == 0 or n > samples[i - 1][1]]
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(busy) if b[0] > a[0]]
    out = {
        "messages": samples[-1][1],
        "per_s": round((busy[-1][1] - busy[0][1]) / (busy[-1][0] - busy[0][0])),
        "per_s_fastest_half_second": round(max(rates)),
        "pressed": presses,
        "measured": len(waits),
        "wait_ms": {
            "p50": waits[len(waits) // 2],
            "p99": waits[int(len(waits) * 0.99)],
            "max": waits[-1],
        },
        "peak_mib": round(peak / (1 << 20)),
        "cpu_s": round(cpu, 1),
    }
    print(json.dumps(out) if as_json else "\n".join(f"{k:26} {v}" for k, v in out.items()))


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--child":
        child(sys.argv[3:], Path(sys.argv[2]))
    else:
        main()
