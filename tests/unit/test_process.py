"""Which process somebody wrote down, and whether it lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from rabbitproof import process as module
from rabbitproof.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable

ME = Process.of()


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)  # between two looks, with the deadline above


def test_this_one_lives_and_comes_back_as_it_was_written() -> None:
    assert ME.life() == "lives"
    assert ME.pid == os.getpid()
    assert Process.read(json.loads(json.dumps(ME.write()))) == ME


@pytest.mark.parametrize(
    ("other", "life"),
    [
        ({"born": ME.born + 1}, "ended"),
        ({"born": max(ME.born - 1, 0)}, "ended"),
        ({"pid": 2**22 + 1}, "ended"),  # above the highest pid that Linux gives
        ({"machine": "another"}, "unknown"),
        ({"space": "another"}, "unknown"),
        ({"space": "another", "pid": 2**22 + 1}, "unknown"),
        ({"machine": "another", "boot": "another"}, "unknown"),
    ],
)
def test_whoever_differs_is_another_process(other: dict[str, Any], life: str) -> None:
    assert replace(ME, **other).life() == life


@pytest.mark.parametrize(("machine", "life"), [("name/id", "rebooted"), ("name", "unknown")])
def test_after_a_restart_of_the_machine(
    machine: str, life: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an id any machine has that name."""
    monkeypatch.setattr(module, "_here", lambda: (machine, "now", "space"))
    assert replace(ME, machine=machine, boot="before", space="space").life() == life


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a clock moves no start time")
def test_no_clock_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = psutil._pslinux.boot_time() + 3600.0
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: moved)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert ME.life() == "lives"
    assert Process.of() == ME


@pytest.mark.parametrize(
    "found",
    [None, [], "x", {}, {"pid": 1}, ME.write() | {"pid": -1}, ME.write() | {"pid": "1"},
     ME.write() | {"born": 2**63}, ME.write() | {"boot": None}, ME.write() | {"space": 1}],
)  # fmt: skip
def test_what_is_no_process_is_none(found: Any) -> None:
    assert Process.read(found) is None


def test_nobody_has_no_identity() -> None:
    with pytest.raises(ProcessLookupError):
        Process.of(2**22 + 1)


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        identity = Process.of(child.pid)
        eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert identity.life() == "ended"


# Its first thread ends and another goes on, as in a server that was killed and has not ended yet.
HEADLESS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("on", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux shows its threads")
def test_a_process_has_ended_when_its_last_thread_has() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HEADLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        identity = Process.of(child.pid)
        eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert identity.life() == "lives"
        child.kill()
        child.wait()
        assert identity.life() == "ended"


BUSY = """
import sys, threading
def work():
    while True:
        pass
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
print("on", flush=True)
sys.stdin.read()
"""


def test_a_process_is_still_when_every_thread_has_stopped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"on\n"
        identity = Process.of(child.pid)
        assert not identity.is_still()
        child.send_signal(signal.SIGSTOP)
        eventually(identity.is_still)
        used = psutil.Process(child.pid).cpu_times().user
        assert psutil.Process(child.pid).cpu_times().user == used
        child.send_signal(signal.SIGCONT)
        eventually(lambda: not identity.is_still())
        child.kill()
        child.wait()
        assert identity.is_still()
