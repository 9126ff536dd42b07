"""What a test leaves behind is found."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import tidy
from rabbitproof.broker import lease

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITS = [sys.executable, "-c", "import time; time.sleep(60)"]


@contextlib.contextmanager
def thread() -> Iterator[str]:
    done = threading.Event()
    started = threading.Thread(target=done.wait, name="forgotten", daemon=True)
    started.start()
    yield "thread forgotten"
    done.set()
    started.join()


@contextlib.contextmanager
def child() -> Iterator[str]:
    with subprocess.Popen(WAITS) as process:
        yield f"process {process.pid} "
        process.kill()


@contextlib.contextmanager
def ended_child() -> Iterator[str]:
    """Nobody has asked how it ended, so it is still among the processes."""
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        yield f"process {process.pid} "


@contextlib.contextmanager
def orphan() -> Iterator[str]:
    silent = "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    start = f"import subprocess; print(subprocess.Popen({WAITS}, {silent}).pid)"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, check=True)
    process = psutil.Process(int(done.stdout))
    yield f"process {process.pid} "
    process.kill()
    process.wait()


@contextlib.contextmanager
def port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname())


@contextlib.contextmanager
def file() -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as made:
        yield made.name


@contextlib.contextmanager
def file_of_a_child() -> Iterator[str]:
    code = "import tempfile; print(tempfile.mkstemp()[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    yield done.stdout.strip()
    Path(done.stdout.strip()).unlink()


@contextlib.contextmanager
def file_in_the_checkout() -> Iterator[str]:
    with tempfile.NamedTemporaryFile(dir=Path(__file__).parent) as made:
        yield made.name


@pytest.mark.skipif(not tidy.DESCRIPTORS.exists(), reason="ports are looked for on Linux only")
@pytest.mark.parametrize(
    "leave", [thread, child, ended_child, orphan, port, file, file_of_a_child, file_in_the_checkout]
)
def test_it_is_named_while_it_is_there(kinds: tuple[Any, ...], leave: Any) -> None:
    before = tidy.there(kinds)
    with leave() as told:
        assert any(told in each for each in tidy.left(before))
    assert tidy.left(before) == []


def test_a_node_of_ours_is_named_and_that_of_another_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RABBITPROOF_CACHE", str(tmp_path))
    mine, other = (lease.Process.of(pid) for pid in (os.getpid(), os.getppid()))
    nodes = tidy.Nodes({mine.pid})
    (tmp_path / "nodes").mkdir()
    for name, owner in (("a" * 32, mine), ("b" * 32, other)):
        lease.Lease(name, owner, owner).write(tmp_path / f"nodes/{name}.json")
    names = [nodes.name(path) for path in nodes.there()]
    assert sorted(filter(None, names)) == [str(tmp_path / "nodes" / f"{'a' * 32}.json")]
