"""The process that ends a private node when its owner is gone, however the owner went.

Holds: a small supervisor run as a program of its own (``script.py``), and the two things it
needs, which ``node.py`` and ``lease.py`` import too: finding the processes of a node by the mark
in their environment, and removing everything a node left.
Refuses to hold: anything about RabbitMQ, and any import outside the standard library. It has to
work while the virtual environment it was started from is being deleted, and cost few megabytes.

Rules
-----
- Its standard input is a pipe whose other end only the owner holds. End of file means the owner
  is gone (returned, Ctrl-C, ``kill -9``); the kernel closes the pipe in every case.
- It runs in a session of its own, so that a terminal's Ctrl-C does not reach it or the node.
- It kills only processes whose environment carries the node's own random mark, so a reused pid
  is never hit.
- One JSON object a line. In: ``{"do": "spawn", "argv": […], "env": {…}, "cwd": …, "out": …}``,
  ``{"do": "release"}`` (let the node live on), ``{"do": "end"}``. Out:
  ``{"started": pid}``, ``{"ended": pid, "status": n}``, ``{"error": text}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType

MARK = "RABBITPROOF_NODE"
"""Name of the environment variable that every process of a private node carries."""

PAUSE_S = 0.05
"""Between two looks at the process list."""

CHILD_S = 5.0
"""For a killed server to be gone; only one that waits for its disk takes so long."""


def marked(mark: str) -> list[int]:
    """Return the pids of all processes that carry ``mark`` in their environment.

    Linux reads ``/proc``; macOS asks ``ps``, which shows the environment of one's own
    processes. Elsewhere the list is empty. A zombie has no environment and is not listed.
    """
    if Path("/proc/self/environ").exists():
        return _marked_in_proc(f"{MARK}={mark}".encode())
    if sys.platform == "darwin":
        return _marked_by_ps(f"{MARK}={mark}")
    return []


def _marked_in_proc(entry: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - the names are all that is needed, and fast
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
            if entry in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def _marked_by_ps(entry: str) -> list[int]:
    listing = subprocess.run(
        ["/bin/ps", "-axEww", "-o", "pid=,command="],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=10,
        check=False,
    ).stdout
    pids = (line.split(None, 1)[0] for line in listing.splitlines() if entry in line.split())
    return [int(pid) for pid in pids if int(pid) != os.getpid()]


def end_processes(mark: str, *, deadline_s: float = 10.0) -> list[int]:
    """Kill every process that carries ``mark``; return the pids that outlived the deadline.

    A process may be between fork and exec while it is looked at, and then shows no environment;
    so two looks in a row must find nothing.
    """
    until = time.monotonic() + deadline_s
    empty_looks = 0
    while True:
        pids = marked(mark)
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        empty_looks = 0 if pids else empty_looks + 1
        if empty_looks == 2 or time.monotonic() > until:
            return pids
        time.sleep(PAUSE_S)


def remove(path: Path, *, deadline_s: float = 5.0) -> None:
    """Remove a folder or a file; try again while something is still being written there."""
    until = time.monotonic() + deadline_s
    while os.path.lexists(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if not os.path.lexists(path) or time.monotonic() > until:
            return
        time.sleep(PAUSE_S)


class _Watchdog:
    """The life of one node's processes, from the watchdog's side."""

    def __init__(self, mark: str, owner: int, leftovers: list[Path]) -> None:
        self._mark = mark
        self._owner = owner
        self._leftovers = leftovers
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = threading.Lock()

    def run(self) -> NoReturn:
        """Serve the owner until it asks for the end, lets go, or is gone."""
        for number in ("SIGTERM", "SIGINT", "SIGHUP"):
            if hasattr(signal, number):
                signal.signal(getattr(signal, number), self._on_signal)
        if os.name == "posix":
            threading.Thread(target=self._watch_parent, daemon=True).start()
        try:
            for line in sys.stdin.buffer:
                order: dict[str, Any] = json.loads(line)  # half a line: the owner died writing it
                if order["do"] == "spawn":
                    self._spawn(order)
                elif order["do"] == "release":
                    os._exit(0)
                else:
                    break
        finally:
            self._end()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._ending.locked():
            self._end()

    def _watch_parent(self) -> None:
        # A forked child of the owner may still hold the pipe; being adopted tells as well.
        never = threading.Event()
        while os.getppid() == self._owner:
            never.wait(0.5)
        self._end()

    def _spawn(self, order: dict[str, Any]) -> None:
        try:
            with open(order["out"], "ab") as out:  # noqa: PTH123 - a path from JSON, opened once
                self._child = subprocess.Popen(  # noqa: S603 - what the owner asks for
                    order["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=order["env"],
                    cwd=order["cwd"],
                )
        except OSError as error:
            _say({"error": str(error)})
            return
        _say({"started": self._child.pid})
        threading.Thread(target=self._report_exit, args=(self._child,), daemon=True).start()

    def _report_exit(self, child: subprocess.Popen[bytes]) -> None:
        status = child.wait()
        _say({"ended": child.pid, "status": status})

    def _end(self) -> NoReturn:
        # End of file, a signal and a new parent can come together; whoever is first finishes it.
        if not self._ending.acquire(blocking=False):
            threading.Event().wait(60)
            os._exit(1)
        child = self._child
        if os.name == "nt" and child is not None:
            taskkill = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
            command = [str(taskkill), "/F", "/T", "/PID", str(child.pid)]
            subprocess.run(command, check=False)  # noqa: S603 - our own child
        elif child is not None and child.returncode is None:
            with contextlib.suppress(OSError):
                child.kill()
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(CHILD_S)  # until its last thread has ended, its ports are taken
        left = end_processes(self._mark)
        if not left:
            for path in self._leftovers:
                remove(path)
        os._exit(1 if left else 0)


def _say(what: dict[str, object]) -> None:
    # The owner may be gone already; end of file on the other pipe deals with that.
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    _Watchdog(sys.argv[1], int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]).run()
