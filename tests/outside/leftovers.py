"""`prove` killed with -9 at random moments: what is left of it ten seconds later.

    PYTHONPATH=tests python -m outside.leftovers --times 20 --seed 1

Any scenario, a soak, all of them; on a private node each, or (`--url`) on one broker that outlives
them all. Each `prove` has a home, a folder for temporary files and a cache folder of its own. It is
killed alone, not its children. Then nothing may be left: no process that names one of these
folders, no port that one of them listened on, no file. On a broker that outlives it the vhost of a
killed run cannot go by itself: the next `prove` has to remove it.

The last line is JSON; exit code 1 when anything was left.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from outside.kills import ROOT, World

GONE_S = 10.0
LOOK_S = 0.1

PACED = {"--all": 25.0, "soak": 25.0}
"""Within how many seconds of its start a command is killed; any other within ``USUAL_S``."""
USUAL_S = 9.0


@dataclass(slots=True)
class Tally:
    """What came of all kills."""

    killed: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    """Were over before their time had come."""
    with_node: int = 0
    """Killed while a server of theirs ran."""
    processes: int = 0
    """That had to end, all together, beside the killed ones."""
    ports: int = 0
    left: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    """From the kill until nothing was left."""
    vhosts: int = 0
    """That a killed run left on a broker that outlived it."""
    vhosts_kept: list[str] = field(default_factory=list)
    """Of these, those that the next `prove` did not remove."""


class Site:
    """Folders of one `prove`, and what is in them and names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.temporary, self.cache = (folder / name for name in ("home", "tmp", "cache"))
        for each in (self.home, self.temporary, self.cache):
            each.mkdir(parents=True)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RABBIT")
        }
        self.environment |= {
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "RABBITPROOF_CACHE": str(self.cache),
            "NO_COLOR": "1",
        }

    def processes(self) -> list[psutil.Process]:
        """Return every process that names the folder in its environment or its arguments."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and (
                    str(self.folder) in str(process.environ())
                    or str(self.folder) in str(process.cmdline())
                ):
                    found.append(process)
        return found

    def files(self) -> list[str]:
        """Return all files and folders but those that may stay."""
        found = [
            path
            for top in (self.home, self.temporary, self.cache)
            for path in top.rglob("*")
            if path != self.cache / "nodes" and self.cache / "rabbitmq" not in (path, *path.parents)
        ]
        return [str(path.relative_to(self.folder)) for path in found]


def _listens(processes: list[psutil.Process]) -> set[int]:
    ports = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            ports |= {
                each.laddr.port
                for each in process.net_connections("tcp")
                if each.status == psutil.CONN_LISTEN
            }
    return ports


def _still_listening(ports: set[int]) -> set[int]:
    lines = [
        line.split()
        for name in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(name).exists()
        for line in Path(name).read_text("ascii").splitlines()[1:]
    ]
    return ports & {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == "0A"}


def scenarios() -> list[str]:
    """Return the names that `prove --list` shows."""
    shown = subprocess.run(
        [sys.executable, "-m", "rabbitproof", "prove", "--list"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [line.partition(":")[0] for line in shown.splitlines() if line[:1].strip()]


def kill_once(words: list[str], dice: random.Random, folder: Path, tally: Tally) -> None:
    """Start a `prove`, kill it at a random moment, and wait until nothing is left."""
    site = Site(folder)
    most = next((PACED[word] for word in words if word in PACED), USUAL_S)
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "rabbitproof", *words],
            env=site.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(dice.uniform(0.1, most))
    family = [one for one in site.processes() if one.pid != process.pid]
    ports = _listens(family)
    tally.finished += process.poll() is not None
    process.kill()
    process.wait()
    killed = time.monotonic()
    tally.killed[" ".join(words[1:2])] += 1
    tally.with_node += any(_name(one) == "beam.smp" for one in family)
    tally.processes += len(family)
    tally.ports += len(ports)
    while True:
        left = [f"process {one.pid} {_name(one)}" for one in site.processes()]
        left += [f"port {port}" for port in sorted(_still_listening(ports))]
        left += [f"file {name}" for name in site.files()]
        if not left or time.monotonic() > killed + GONE_S:
            break
        time.sleep(LOOK_S)  # between two looks, with the deadline above
    tally.slowest_s = max(tally.slowest_s, round(time.monotonic() - killed, 2))
    tally.left += [f"{' '.join(words)}: {one}" for one in left]
    for one in site.processes():
        with contextlib.suppress(psutil.Error):
            one.kill()


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "?"


def vhosts(world: World) -> list[str]:
    """Return the vhosts of a broker that trials made."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{world.management}/api/vhosts",
        headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own broker
        names = [one["name"] for one in json.load(answer)]
    return [name for name in names if name.startswith("rabbitproof-")]


def on_private_nodes(times: int, dice: random.Random, folder: Path, tally: Tally) -> None:
    names = scenarios()
    for number in range(times):
        words = ["prove", dice.choice(names)]
        if number % 4 == 1:
            words = ["prove", "--all"]
        elif number % 4 == 3 or words[1] == "soak":
            words = ["prove", "soak", "--minutes", "1"]
        kill_once(words, dice, folder / str(number), tally)
        print(f"{number + 1}: {' '.join(words)}, left: {tally.left}", file=sys.stderr, flush=True)


def on_one_broker(times: int, dice: random.Random, folder: Path, tally: Tally) -> None:
    world = World(folder)
    login = ["--url", world.url, "--management-url", world.environment["RABBITMQ_MANAGEMENT_URL"]]
    try:
        world.up()
        for number in range(times):
            name = dice.choice(("consumer-kill", "connection-cut", "offline", "soak"))
            words = ["prove", name, *(("--minutes", "1") if name == "soak" else ()), *login]
            kill_once(words, dice, folder / str(number), tally)
            left = vhosts(world)
            tally.vhosts += len(left)
            world.run("prove", "offline", "--count", "100", *login)
            tally.vhosts_kept += vhosts(world)
            print(f"{number + 1}: {name}, vhosts {left}", file=sys.stderr, flush=True)
    finally:
        world.close()


def main() -> int:
    """Kill, look, and say what was left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--url", action="store_true", help="on one broker that outlives them")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `timeout`, for one
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="leftovers-") as name:
        way = on_one_broker if given.url else on_private_nodes
        with contextlib.suppress(KeyboardInterrupt, SystemExit):  # what was found out is told
            way(given.times, random.Random(seed), Path(name), tally)
    told: dict[str, Any] = {"seed": seed, **asdict(tally), "killed": dict(tally.killed)}
    print(json.dumps(told))
    return 1 if tally.left or tally.vhosts_kept else 0


if __name__ == "__main__":
    sys.exit(main())
