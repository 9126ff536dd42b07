"""Who owns which private node, written down so that a later run can clean up.

Holds: the lease file of a node, whether its owner still lives, and collecting nodes whose owner
and watchdog are both gone.
Refuses to hold: starting or stopping a node (``node.py``).

Rules
-----
- A lease is written before the node's directory is made and removed after it.
- A process is named by its pid and its start time; a pid alone may be anybody by now.
- Only processes that carry the lease's own mark in their environment are ever killed.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rabbitproof.broker import watchdog

_SAME_START_S = 2.0
"""Start times are computed from the clock, which may have been set meanwhile; seconds."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from a later one with the same pid by its start time (epoch, s)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the identity of a living process."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the living process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S
            ended = process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
            # Killed, the first thread may be a zombie while another still holds every file.
            ended = ended and process.num_threads() <= 1
        except psutil.Error:
            return None
        return process if same and not ended else None

    def is_still(self) -> bool:
        """Tell whether no thread of it runs: SIGSTOP has reached each of them, or it has ended."""
        process = self.find()
        if process is None:
            return True
        threads = Path("/proc", str(self.pid), "task")
        if not threads.is_dir():
            return bool(process.status() == psutil.STATUS_STOPPED)
        states: set[bytes] = set()
        for stat in threads.glob("*/stat"):
            with contextlib.suppress(OSError):  # this one has just ended
                states.add(stat.read_bytes().rpartition(b") ")[2][:1])
        return states <= {b"T", b"t", b"Z", b"X"}  # proc(5): stopped, traced, zombie, dead


@dataclass(frozen=True, slots=True)
class Lease:
    """One owned node: its mark, its directory, and the two processes that look after it."""

    mark: str
    directory: str
    owner: Process
    watchdog: Process

    def write(self, path: Path) -> None:
        """Write the lease whole or not at all."""
        whole = unfinished(path)
        whole.write_text(json.dumps(asdict(self)), encoding="utf-8")
        whole.replace(path)

    @classmethod
    def read(cls, path: Path) -> Lease | None:
        """Return the lease in ``path``, or None when there is none to be understood."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                mark=str(fields["mark"]),
                directory=str(fields["directory"]),
                owner=Process(**fields["owner"]),
                watchdog=Process(**fields["watchdog"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def unfinished(path: Path) -> Path:
    """Return where the lease in ``path`` is written, until it is whole."""
    return path.with_suffix(".part")


def collect(leases: Path) -> list[str]:
    """End and remove every node in ``leases`` that nobody looks after; return their marks.

    Needed only where owner and watchdog were both killed before either could clean up.
    """
    collected = []
    for path in sorted(leases.glob("*.json")) if leases.is_dir() else []:
        lease = Lease.read(path)
        if lease is None or lease.owner.find() or lease.watchdog.find():
            continue
        if watchdog.end_processes(lease.mark):
            continue  # not ours to kill after all; try again another time
        watchdog.remove(Path(lease.directory))
        watchdog.remove(path)
        collected.append(lease.mark)
    return collected
