"""One client of a bench as a process: started, watched, and asked for its figures.

Our own client is the command that a user types. Refuses to know rounds and queues (``bench``)
and how another client is written (``peers``).
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from rabbitproof.errors import BenchFailed
from rabbitproof.identity import new_run
from rabbitproof.text import safe
from rabbitproof.trial.peers import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.model import Role, Topology
    from rabbitproof.trial.peers.catalogue import Peer

OURS: Final = "rabbitproof"
TEXT: Final = "Hello World"
_SLOWEST: Final = 500.0
"""Messages a second; slower than the slowest client here, for deadlines."""
_GRACE_S: Final = 10.0
"""Seconds for a client to say by itself that its deadline has passed."""
_SAMPLE_S: Final = 0.05
"""How often a process's memory is looked at; its peak only grows, so the last look is right."""


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement, as a client's process is told."""

    role: Role
    topology: Topology
    count: int
    window: int
    prefetch: int

    @property
    def deadline(self) -> float:
        """Seconds after which something must be wrong."""
        return 60.0 + self.count / _SLOWEST


def start(
    peer: Peer,
    job: Job,
    url: str,
    prepare: Callable[[], tuple[str, ...]] = tuple,
    folder: Path | None = None,
) -> tuple[dict[str, Any], int]:
    """Run a client's process to its end; return its figures and its peak memory in bytes.

    ``prepare`` makes and fills the queues and returns further flags. A client that has to warm up
    does so before: a queue that had some seconds of rest after it was filled gives up to three
    times as much as one that had not. ``folder`` is for the file by which such a client says
    that it is warm.
    """
    name = peer.client.name
    arguments = _own(job) if name == OURS else _flags(job)
    ready = None
    if peer.warms_up and folder is not None:
        ready = folder / f"ready-{new_run()}"
        arguments = (*arguments, "--ready", str(ready))
    else:
        arguments = (*arguments, *prepare())
    with subprocess.Popen(  # noqa: S603  commands of ours and of the catalogue
        [*peer.command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=catalogue.environment(url),
    ) as process:
        try:
            if ready is not None and _await(ready, process, name, job.deadline):
                prepare()
                process.stdin.write("\n")  # type: ignore[union-attr]  # it is a pipe, see above
            out, errors, peak = _watch(process, name, job.deadline + _GRACE_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = (errors.strip() or out.strip() or "nothing was said").splitlines()[-1]
        raise BenchFailed(f"{name} failed ({safe(said, 300)}); run the same work without bench.")
    try:
        report = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        report = None
    if not isinstance(report, dict):
        raise BenchFailed(f"{name} printed no figures; run the same work without bench.")
    if name == OURS:
        report = {
            "seconds": report["time_s"],
            "cpu_seconds": report["cpu_s"],
            "unique": report.get("unique"),
            "consumed": report.get("consumed"),
        }
    return report, peak


def _await(ready: Path, process: subprocess.Popen[str], name: str, deadline: float) -> bool:
    """Wait until a client is warm; False when it ended instead."""
    end = time.monotonic() + deadline
    while not ready.exists():
        try:
            process.wait(_SAMPLE_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise BenchFailed(
                    f"{name} was not warm within {deadline:.0f} s; look at the broker's alarms, "
                    "or leave it out with --clients."
                ) from None
        else:
            return False
    return True


def _watch(process: subprocess.Popen[str], name: str, deadline: float) -> tuple[str, str, int]:
    """Wait for the end of a process; return what it printed and its peak memory in bytes."""
    end = time.monotonic() + deadline
    peak = 0
    while True:
        peak = max(peak, _peak(process.pid))
        try:
            out, errors = process.communicate(timeout=_SAMPLE_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise BenchFailed(
                    f"{name} was not done within {deadline:.0f} s; look at the broker's alarms, "
                    "or make --count smaller."
                ) from None
        else:
            return out, errors, peak


def _peak(pid: int) -> int:
    """Return the most memory, in bytes, that a process has held so far; 0 when it is gone.

    Linux knows the peak; elsewhere it is the highest of our looks. ``ru_maxrss`` would not do: it
    includes what the parent held when it started the process.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _flags(job: Job) -> tuple[str, ...]:
    return catalogue.arguments(
        job.role,
        exchange=job.topology.exchange,
        routing_key=job.topology.routing_key,
        queue=job.topology.work.name,
        count=job.count,
        window=job.window,
        prefetch=job.prefetch,
        text=TEXT,
        run=new_run(),
        deadline_s=job.deadline,
    )


def _own(job: Job) -> tuple[str, ...]:
    """Return what a user would type."""
    if job.role == "publish":
        return (
            *("produce", "--no-declare", "--durable", "--json", "--text", TEXT),
            *("--exchange", job.topology.exchange),
            *("--routing-key", job.topology.routing_key),
            *("--queue", job.topology.work.name),
            *("--count", str(job.count)),
            *("--window", str(job.window)),
        )
    return (
        *("consume", "--json"),
        *("--queue", job.topology.work.name),
        *("--expect", str(job.count)),
        *("--prefetch", str(job.prefetch)),
    )
