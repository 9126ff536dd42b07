"""Which process somebody wrote down, and whether it lives.

Holds: what tells a process from every other one (machine, boot, process namespace, pid, and when
it was born in ticks since that boot), and the answers: it lives, it has ended, this machine was
started again since, that can't be told from here.
Refuses to hold: what follows from that (``broker/lease``, ``broker/vhosts``, ``work/resume``).

Rules
-----
- No wall clock: it may be set at any moment, and psutil's start times move with it on Linux (they
  are ticks plus a boot time that is computed from the clock). Elsewhere the system keeps the start
  time as it was, so setting a clock changes nothing there.
- Ended is what is provably so. What was written down on another machine, or in another container,
  is not known; neither is what an older version wrote down. Whoever asks leaves that alone.
- A machine that was started again is told by its name and id. Clones may share both, so that counts
  only for what is on this machine's own disk.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

Life = Literal["lives", "ended", "rebooted", "unknown"]

_TICKS_A_SECOND: Final = 1_000_000
"""Of a birth where the system tells a time instead of ticks."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from every other one that has its pid, here or anywhere."""

    pid: int
    born: int
    """Linux: clock ticks from the boot to its start (proc(5), field 22). Elsewhere microseconds
    since 1970, as the system wrote them down when it started."""
    machine: str
    """The host's name, and the machine's id where it has one."""
    boot: str
    """Names this boot of the machine; empty where the system does not say."""
    space: str
    """Names the pid namespace; empty where there is none."""

    @classmethod
    def of(cls, pid: int | None = None) -> Process:
        """Return the identity of a living process, of this one without a pid.

        Raise ProcessLookupError when there is none.
        """
        number = os.getpid() if pid is None else pid
        found = _born(number)
        if found is None:
            raise ProcessLookupError(f"There is no process {number}.")
        return cls(number, found[0], *_here())

    @classmethod
    def read(cls, found: Any) -> Process | None:
        """Return what ``write`` wrote; None when it is nothing of that kind. Untrusted."""
        if not isinstance(found, dict):
            return None
        values = [found.get(one.name) for one in fields(cls)]
        numbers, texts = values[:2], values[2:]
        if not all(isinstance(one, int) and 0 <= one < 2**63 for one in numbers):
            return None
        return cls(*values) if all(isinstance(one, str) for one in texts) else None  # type: ignore[arg-type]

    def write(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        return asdict(self)

    def life(self) -> Life:
        """Say whether it lives, as far as that can be told from this process."""
        machine, boot, space = _here()
        if self.machine != machine:
            return "unknown"
        if self.boot != boot:  # without an id it is any machine of that name
            return "rebooted" if "/" in machine else "unknown"
        if self.space != space:
            return "unknown"
        found = _born(self.pid)
        if found is None or found[0] != self.born:
            return "ended"
        # Killed, the first thread may be a zombie while another still holds every file.
        state, threads = found[1:]
        return "ended" if state in {"Z", "X"} and threads <= 1 else "lives"

    def is_still(self) -> bool:
        """Tell whether no thread of it runs: SIGSTOP has reached each of them, or it has ended."""
        states: set[bytes] = set()
        threads = Path("/proc", str(self.pid), "task")
        found = _born(self.pid)
        if found is None or found[0] != self.born:
            return True
        if not threads.is_dir():
            return found[1] == "T"
        for stat in threads.glob("*/stat"):
            with contextlib.suppress(OSError):  # this one has just ended
                states.add(stat.read_bytes().rpartition(b") ")[2][:1])
        return states <= {b"T", b"t", b"Z", b"X"}  # proc(5): stopped, traced, zombie, dead


def since_boot_ns() -> int:
    """Return a clock that nobody sets, in nanoseconds, comparable between processes of one boot.

    Where the system has one that goes on while the machine sleeps, that one.
    """
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


def boot_id() -> str:
    """Return what names this boot of the machine, where the system says."""
    return _here()[1]


@cache
def _here() -> tuple[str, str, str]:
    """Return machine, boot and pid namespace of this process.

    Two containers on one machine may have one name and one boot, but not one list of processes.
    """
    name, identity, boot, space = platform.node(), "", "", ""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, UnicodeDecodeError):
            identity = Path("/etc/machine-id").read_text("ascii").strip()
        with contextlib.suppress(OSError, UnicodeDecodeError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        with contextlib.suppress(OSError):
            space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it leads to no file
    return (f"{name}/{identity}" if identity else name), boot, space


def _born(pid: int) -> tuple[int, str, int] | None:
    """Return when a process was born, its state (proc(5)) and its threads; None if none is."""
    if sys.platform == "linux":
        try:
            stat = Path("/proc", str(pid), "stat").read_bytes()
        except OSError:
            return None
        # The name, in brackets, may hold anything.
        rest = stat.rpartition(b") ")[2].split()
        return int(rest[19]), rest[0].decode(), int(rest[17])
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            known = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T"}
            state = known.get(process.status(), "S")
            threads = 1 if state == "Z" else process.num_threads()
            return round(process.create_time() * _TICKS_A_SECOND), state, threads
    except psutil.Error:
        return None
