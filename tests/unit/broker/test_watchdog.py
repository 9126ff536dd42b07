"""The watchdog with harmless processes in RabbitMQ's place."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from rabbitproof import process
from rabbitproof.broker import lease, watchdog
from rabbitproof.broker.lease import Lease, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sessions")

LOITER = "import sys; print('on', flush=True); sys.stdin.read()"
# Starts a daemon in a session of its own, as epmd does, and then waits as the server does.
FAMILY = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
open(sys.argv[1] + "." + str(os.getpid()), "w").close()
signal.pause()
"""


def eventually(condition: Callable[[], Any], *, within_s: float = 10.0) -> Any:
    until = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return result


class Dog:
    """A watchdog, and this test as its owner."""

    def __init__(self, mark: str, *leftovers: Path) -> None:
        self.mark = mark
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", watchdog.__file__, mark, str(os.getpid())),
                *map(str, leftovers),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def order(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def spawn(self, *argv: str, folder: Path) -> None:
        environment = {**os.environ, watchdog.MARK: self.mark}
        self.order(do="spawn", argv=argv, env=environment, cwd="/", out=str(folder / "out"))

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def mark() -> Iterator[str]:
    mark = secrets.token_hex(16)
    yield mark
    watchdog.end_processes(mark)


@pytest.fixture
def dog(mark: str, tmp_path: Path) -> Iterator[Dog]:
    (tmp_path / "node").mkdir()
    (tmp_path / "node.json").touch()
    dog = Dog(mark, tmp_path / "node", tmp_path / "node.json")
    with dog.process:
        yield dog
        dog.process.kill()


def family(dog: Dog, tmp_path: Path) -> list[int]:
    dog.spawn(sys.executable, "-c", FAMILY, str(tmp_path / "alive"), folder=tmp_path)
    assert dog.reply()["started"] in eventually(lambda: watchdog.marked(dog.mark))
    eventually(lambda: len(list(tmp_path.glob("alive.*"))) == 2)
    return watchdog.marked(dog.mark)


def gone(tmp_path: Path) -> bool:
    return not (tmp_path / "node").exists() and not (tmp_path / "node.json").exists()


def test_when_the_owner_hangs_up_everything_ends(dog: Dog, tmp_path: Path) -> None:
    assert len(family(dog, tmp_path)) == 2
    dog.hang_up()
    assert dog.process.wait(15) == 0
    assert watchdog.marked(dog.mark) == []
    assert gone(tmp_path)


def test_asked_to_end_it_does_the_same(dog: Dog, tmp_path: Path) -> None:
    family(dog, tmp_path)
    dog.order(do="end")
    assert dog.process.wait(15) == 0
    assert watchdog.marked(dog.mark) == []
    assert gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_watchdog_does_the_same(
    number: signal.Signals, dog: Dog, tmp_path: Path
) -> None:
    family(dog, tmp_path)
    dog.process.send_signal(number)
    dog.process.wait(15)
    assert watchdog.marked(dog.mark) == []
    assert gone(tmp_path)


def test_half_an_order_is_an_owner_that_died(dog: Dog, tmp_path: Path) -> None:
    family(dog, tmp_path)
    assert dog.process.stdin is not None
    dog.process.stdin.write(b'{"do": "spa')
    dog.hang_up()
    dog.process.wait(15)
    assert watchdog.marked(dog.mark) == []
    assert gone(tmp_path)


def test_hung_up_on_before_anything_was_ordered_it_removes_the_directory(
    dog: Dog, tmp_path: Path
) -> None:
    dog.hang_up()
    assert dog.process.wait(15) == 0
    assert gone(tmp_path)


def test_a_stopped_process_ends_as_well(dog: Dog, tmp_path: Path) -> None:
    for pid in family(dog, tmp_path):
        os.kill(pid, signal.SIGSTOP)
    dog.hang_up()
    assert dog.process.wait(15) == 0
    assert watchdog.marked(dog.mark) == []


def test_released_it_leaves_everything_alone(dog: Dog, tmp_path: Path) -> None:
    alive = family(dog, tmp_path)
    dog.order(do="release")
    assert dog.process.wait(15) == 0
    assert sorted(watchdog.marked(dog.mark)) == sorted(alive)
    assert not gone(tmp_path)


def test_it_reports_the_end_of_what_it_started(dog: Dog, tmp_path: Path) -> None:
    dog.spawn(sys.executable, "-c", "raise SystemExit(7)", folder=tmp_path)
    pid = dog.reply()["started"]
    assert dog.reply() == {"ended": pid, "status": 7}


def test_it_reports_what_cannot_be_started(dog: Dog, tmp_path: Path) -> None:
    dog.spawn("/nonexistent/server", folder=tmp_path)
    assert "nonexistent" in dog.reply()["error"]


def test_processes_of_another_mark_are_left_alone(mark: str) -> None:
    environment = {**os.environ, watchdog.MARK: mark + "0"}  # ours is a prefix of it
    bystander = subprocess.Popen(
        [sys.executable, "-c", LOITER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with bystander:
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == b"on\n"
        assert watchdog.end_processes(mark) == []
        assert bystander.poll() is None
        bystander.kill()


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    watchdog.remove(tmp_path / "link")
    assert (tmp_path / "precious").is_dir()
    assert not (tmp_path / "link").is_symlink()


def test_the_watchdog_needs_nothing_but_the_standard_library() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(sorted(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", code, watchdog.__file__]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "psutil" not in loaded
    assert "rabbitproof" not in loaded


ME = Process.of()
DEAD = replace(ME, pid=2**22 + 1, born=1)  # above the highest pid that Linux gives


def test_a_lease_comes_back_as_it_was_written(mark: str, tmp_path: Path) -> None:
    path = tmp_path / f"{mark}.json"
    written = Lease(mark, ME, DEAD)
    written.write(path)
    assert Lease.read(path) == written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("boot", ["now", "before"])
def test_a_node_that_nobody_looks_after_is_collected(
    boot: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has an id; without one, another boot may be another machine."""
    monkeypatch.setattr(process, "_here", lambda: ("name/id", "now", ME.space))
    dead = replace(DEAD, machine="name/id", boot="now")
    node = tmp_path / mark
    node.mkdir()
    (tmp_path / "of another").mkdir()
    Lease(mark, replace(dead, boot=boot), dead).write(tmp_path / f"{mark}.json")
    assert lease.collect(tmp_path) == [mark]
    assert [path.name for path in tmp_path.iterdir()] == ["of another"]


@pytest.mark.parametrize("where", ["machine", "space"])
@pytest.mark.parametrize("keeper", ["owner", "watchdog"])
def test_a_node_that_somebody_may_look_after_is_not_collected(
    keeper: str, where: str, mark: str, tmp_path: Path
) -> None:
    """Another machine or container with the same cache; its processes can't be seen from here."""
    (tmp_path / mark).mkdir()
    for one in (ME, replace(DEAD, **{where: "another"})):
        both = (one, DEAD) if keeper == "owner" else (DEAD, one)
        Lease(mark, *both).write(tmp_path / f"{mark}.json")
        assert lease.collect(tmp_path) == []
        assert (tmp_path / mark).exists()


def test_a_clock_that_is_set_ends_nobody(mark: str, tmp_path: Path) -> None:
    """Start times of psutil move with the clock: 3 s were enough to kill a node that lived."""
    (tmp_path / mark).mkdir()
    Lease(mark, ME, DEAD).write(tmp_path / f"{mark}.json")
    set_clock = psutil._pslinux.boot_time() + 3.0 if sys.platform == "linux" else 0.0
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr(psutil._pslinux, "boot_time", lambda: set_clock)
        assert lease.collect(tmp_path) == []
    assert (tmp_path / mark).exists()


def test_whatever_a_lease_says_nothing_else_is_removed(mark: str, tmp_path: Path) -> None:
    """A file that somebody else may write names another folder, or another mark."""
    precious, leases = tmp_path / "precious", tmp_path / "nodes"
    precious.mkdir()
    leases.mkdir()
    both = {"owner": DEAD.write(), "watchdog": DEAD.write()}
    for stem, said in ((mark, "../precious"), ("a", "../precious"), (mark, "a" * 32), ("..", "..")):
        text = json.dumps({"mark": said, "directory": str(precious), **both})
        (leases / f"{stem}.json").write_text(text, encoding="utf-8")
        assert lease.collect(leases) == []
    text = json.dumps({"mark": mark, "directory": str(precious), **both})
    (leases / f"{mark}.json").write_text(text, encoding="utf-8")
    assert lease.collect(leases) == [mark]
    assert precious.is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": "x"}'])
def test_a_lease_that_is_not_understood_is_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert lease.collect(tmp_path) == []
    assert (tmp_path / "a.json").exists()


def test_no_leases_is_nothing_to_collect(tmp_path: Path) -> None:
    assert lease.collect(tmp_path / "nothing") == []
