"""Whatever a test leaves behind fails it: threads, processes, listening ports, files.

Looked at around every test: after the fixtures that it shares with others have begun, and after its
own have ended. What is on its way out has a moment to go. Files are looked for in the folder for
temporary ones, which each worker has for itself, in the checkout and among the nodes in the cache.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from rabbitproof.broker.install import cache_folder
from rabbitproof.broker.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GONE_S = 5.0
CHECKOUT = Path(__file__).resolve().parents[1]
MADE_AGAIN = {".git", ".venv", "build", "dist", "bench-results", "__pycache__", ".pytest_cache",
              ".hypothesis", ".mypy_cache", ".ruff_cache"}  # fmt: skip
DESCRIPTORS = Path("/proc/self/fd")
"""Where there is none, ports are not looked for."""


class Threads:
    """Those of this process."""

    def there(self) -> set[Any]:
        return set(threading.enumerate())

    def name(self, thread: threading.Thread) -> str | None:
        return f"the thread {thread.name}" if thread.is_alive() else None


class Processes:
    """Our children, and whatever was started by them and is nobody's child now."""

    def __init__(self, temporary: Path) -> None:
        self._mark = str(temporary)

    def there(self) -> set[Any]:
        return set(psutil.pids())

    def name(self, pid: int) -> str | None:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            parent = process.ppid()
            # What a node that is shared starts for itself has a parent of ours.
            if parent == os.getpid() or (self._marked(process) and not self._marked(parent)):
                return f"the process {pid} {process.name()}, {process.status()}"
        return None

    def _marked(self, process: psutil.Process | int) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(process) if isinstance(process, int) else process
            return self._mark in process.environ().values()
        return False


class Ports:
    """Those that this process listens on."""

    def there(self) -> set[Any]:
        found = set()
        for descriptor in DESCRIPTORS.iterdir() if DESCRIPTORS.exists() else ():
            with contextlib.suppress(OSError):  # that of this listing
                found.add((int(descriptor.name), str(descriptor.readlink())))
        return found

    def name(self, descriptor: tuple[int, str]) -> str | None:
        number, what = descriptor
        if descriptor not in self.there() or not what.startswith("socket:"):
            return None
        with socket.socket(fileno=os.dup(number)) as found:
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return f"a socket that listens at {found.getsockname()}" if listens else None


class Files:
    """Those in these folders, which are listed again only when they have changed."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._known: dict[Path, tuple[int, set[Path]]] = dict.fromkeys(folders, (0, set()))

    def there(self) -> set[Any]:
        for folder, (changed, _) in self._known.items():
            now = folder.stat().st_mtime_ns
            if now != changed:
                self._known[folder] = (now, set(folder.iterdir()))
        return set().union(*(found for _, found in self._known.values()))

    def name(self, path: Path) -> str | None:
        return str(path) if os.path.lexists(path) and path.name not in MADE_AGAIN else None


class Nodes:
    """What is kept in the cache of private nodes of this process and of those that it started."""

    def __init__(self, owners: set[int]) -> None:
        self._folder = cache_folder() / "nodes"
        self._owners = owners

    def there(self) -> set[Any]:
        return set(self._folder.iterdir()) if self._folder.exists() else set()

    def name(self, path: Path) -> str | None:
        if not path.exists():
            return None
        lease = Lease.read(path.with_suffix(".json"))
        return str(path) if lease and lease.owner.pid in self._owners else None


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files of this worker and of all that it starts."""
    folder = tmp_path_factory.getbasetemp() / "temporary"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(name, str(folder))
        patch.setattr(tempfile, "tempdir", None)  # it is looked up again
        yield folder


@pytest.fixture(scope="session")
def started() -> Iterator[set[int]]:
    """The ids of all processes that this one has started, and its own."""
    found = {os.getpid()}
    start = subprocess.Popen.__init__

    def noted(self: Any, *arguments: Any, **settings: Any) -> None:
        start(self, *arguments, **settings)
        found.add(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", noted)
        yield found


@pytest.fixture(scope="session")
def kinds(temporary: Path, started: set[int]) -> tuple[Any, ...]:
    """All kinds of what can be left."""
    folders = [temporary]
    for folder, names, _ in os.walk(CHECKOUT):
        names[:] = set(names) - MADE_AGAIN
        folders.append(Path(folder))
    return Threads(), Processes(temporary), Ports(), Files(folders), Nodes(started)


def there(kinds: tuple[Any, ...]) -> list[tuple[Any, set[Any]]]:
    """Return what there is, to be compared with later."""
    return [(kind, kind.there()) for kind in kinds]


def left(before: list[tuple[Any, set[Any]]]) -> list[str]:
    """Return the names of what has come since and has not gone."""
    new = ((kind, each) for kind, was in before for each in kind.there() - was)
    return [name for kind, each in new if (name := kind.name(each))]


@pytest.fixture(autouse=True)
def tidy(kinds: tuple[Any, ...]) -> Iterator[None]:
    """Fail a test that leaves something behind."""
    before = there(kinds)
    yield
    until = time.monotonic() + GONE_S
    while found := left(before):
        assert time.monotonic() < until, f"left behind: {'; '.join(found)}"
        time.sleep(0.02)  # between two looks, with the deadline above
