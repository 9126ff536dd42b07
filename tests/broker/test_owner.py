"""How nodes end with their owner, however it ends, and what outlives it on purpose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from rabbitproof.broker import lease, watchdog
from rabbitproof.broker.node import Node
from support import eventually, leftovers, marks, nothing_is_left, processes_below, put, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rabbitproof.broker.install import Installation

OWNER = """
import contextlib, json, os, signal, sys
from pathlib import Path
from rabbitproof.broker import lease
from rabbitproof.broker.install import Installation
from rabbitproof.broker.node import Node

# A shell starts what it runs in the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
fields = json.loads(sys.argv[1])
paths = {name: fields[name] and Path(fields[name]) for name in ("home", "erlang_root")}
installation = Installation(version=fields["version"], origin=fields["origin"], **paths)
owned = fields["owned"]
directory = None if owned else Path(fields["directory"])
if fields["half_a_lease"]:
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
node = Node.start(installation, owned=owned, directory=directory)
with node if owned else contextlib.nullcontext():
    print(json.dumps({"pid": node.pid, "mark": node.mark, "url": node.url}), flush=True)
    if owned:
        sys.stdin.read()
"""


@pytest.fixture
def owner(
    cache: Path,  # the owner inherits its environment variable
    installation: Installation,
    tmp_path: Path,
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that owns a node in ``cache`` and says so when it is ready."""

    def start(*, owned: bool = True, half_a_lease: bool = False) -> subprocess.Popen[str]:
        fields = {
            "home": str(installation.home),
            "erlang_root": installation.erlang_root and str(installation.erlang_root),
            "version": installation.version,
            "origin": installation.origin,
            "owned": owned,
            "half_a_lease": half_a_lease,
            "directory": str(tmp_path / "kept"),
        }
        return stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", OWNER, json.dumps(fields)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        )

    with ExitStack() as stack:
        yield start


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


def kill_the_watchdog(cache: Path, mark: str) -> None:
    """Kill it and see it gone: on a busy machine that takes longer than what the test does next."""
    known = lease.Lease.read(cache / "nodes" / f"{mark}.json")
    assert known is not None
    os.kill(known.watchdog.pid, signal.SIGKILL)
    eventually(lambda: known.watchdog.life() == "ended", "the watchdog has ended")


MOMENTS: dict[str, Callable[[Path], object]] = {
    "the lease": marks,
    "the directory": lambda cache: [path for path in (cache / "nodes").glob("*") if path.is_dir()],
    "a process": lambda cache: [mark for mark in marks(cache) if watchdog.marked(mark)],
    "epmd": lambda cache: [line for line in processes_below(cache) if "epmd" in line],
    "the log": lambda cache: list((cache / "nodes").glob("*/log/rabbit.log")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_owner_killed_during_the_boot_leaves_nothing(
    moment: str, cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    eventually(lambda: MOMENTS[moment](cache), moment)
    process.kill()
    process.wait()
    nothing_is_left(cache)


def test_an_owner_killed_while_it_writes_its_lease_leaves_nothing(
    cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner(half_a_lease=True)
    assert process.wait(15) == -signal.SIGKILL
    nothing_is_left(cache)


def test_an_owner_killed_when_the_node_is_up_leaves_nothing(
    cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    mark = said(process)["mark"]
    assert watchdog.marked(mark)
    process.kill()
    process.wait()
    nothing_is_left(cache)


def test_ctrl_c_in_a_terminal_ends_the_owner_and_leaves_nothing(
    cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    said(process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    process.wait(15)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert leftovers(cache) == []


def test_ctrl_c_during_the_boot_leaves_nothing(
    cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    eventually(lambda: MOMENTS["epmd"](cache), "epmd runs")
    os.killpg(process.pid, signal.SIGINT)
    process.wait(15)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert leftovers(cache) == []


def test_what_a_killed_watchdog_could_not_remove_the_next_start_does(
    cache: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    ready = said(process)
    kill_the_watchdog(cache, ready["mark"])
    assert lease.collect(cache / "nodes") == []  # its owner still lives
    process.kill()
    process.wait()
    assert psutil.pid_exists(ready["pid"])
    assert lease.collect(cache / "nodes") == [ready["mark"]]
    assert leftovers(cache) == []


def test_a_node_whose_watchdog_was_killed_leaves_nothing_either(
    cache: Path, installation: Installation
) -> None:
    with Node.start(installation) as node:
        kill_the_watchdog(cache, node.mark)
    assert leftovers(cache) == []


def test_a_node_whose_watchdog_was_killed_still_stops_and_starts(
    cache: Path, installation: Installation
) -> None:
    with Node.start(installation) as node:
        kill_the_watchdog(cache, node.mark)
        node.kill()
        node.start_again()
        put(node.url, b"alive")
    assert leftovers(cache) == []


@pytest.mark.slow  # several starts of a node
def test_a_node_that_is_not_owned_outlives_its_starter_and_keeps_its_data(
    cache: Path,
    owner: Callable[..., subprocess.Popen[str]],
    installation: Installation,
    tmp_path: Path,
) -> None:
    starter = owner(owned=False)
    ready = said(starter)
    assert starter.wait(15) == 0
    directory = tmp_path / "kept"
    node = Node.attach(directory)
    assert node is not None
    assert (node.pid, node.url) == (ready["pid"], ready["url"])
    put(node.url, b"kept")
    node.settle()
    node.kill()
    node.start_again()
    node.stop()
    assert leftovers(cache) == []
    assert processes_below(directory) == []
    assert Node.attach(directory) is None
    again = Node.start(installation, directory=directory, owned=False)
    try:
        assert take(again.url) == b"kept"
    finally:
        again.stop(gracefully=False)
    assert processes_below(directory) == []
