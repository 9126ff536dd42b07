"""The commands of ``rabbitproof broker`` against the real thing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import install, standing, watchdog
from rabbitproof.broker.layout import State
from rabbitproof.cli.broker import app
from rabbitproof.cli.exits import Exit, run
from support import lend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rabbitproof.broker.install import Installation


@pytest.fixture(autouse=True)
def cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installation: Installation
) -> Iterator[Path]:
    for name, text in lend(installation, tmp_path).items():
        monkeypatch.setenv(name, text)
    yield tmp_path
    for place in (tmp_path / "broker", *(tmp_path / "broker").glob("node-*")):
        state = State.read(place)
        if state is not None:
            watchdog.end_processes(state.mark)


def broker(*arguments: str) -> int:
    return run(app, "rabbitproof broker", arguments)


def up(*arguments: str) -> int:
    return broker("up", "--port", "0", "--management-port", "0", *arguments)


@pytest.mark.slow
def test_a_node_is_up_until_it_is_put_down(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert broker("status") == Exit.UNREACHABLE
    assert up() == Exit.DONE
    state = State.read(cache / "broker")
    assert state is not None
    assert state.process is not None
    capfd.readouterr()

    assert up() == Exit.DONE
    assert "up already" in capfd.readouterr().err
    assert broker("status") == Exit.DONE
    assert f"pid {state.process.pid}" in capfd.readouterr().out
    assert broker("ctl", "-q", "add_vhost", "kept") == Exit.DONE
    assert broker("ctl", "no_such_command") == Exit.USAGE
    capfd.readouterr()
    assert broker("ctl", "list_consumers", "queue_name", "channel_pid") == Exit.DONE
    assert "instead" not in capfd.readouterr().err
    assert broker("ctl", "list_consumers", "queue_name", "channel_name") == Exit.USAGE
    assert "ask for channel_pid instead" in capfd.readouterr().err
    assert broker("logs", "-n", "1") == Exit.DONE

    capfd.readouterr()
    assert broker("env") == Exit.DONE
    exports = capfd.readouterr().out
    assert f"RABBITMQ_URL=amqp://guest:guest@127.0.0.1:{state.ports.amqp}/" in exports
    script = f'{exports}\nrabbitmqctl -q list_vhosts\necho "$RABBITMQ_MANAGEMENT_URL $HOME"'
    shell = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.defpath, "HOME": "/mine"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "kept" in shell.split()
    assert shell.endswith(f"http://127.0.0.1:{state.ports.management} /mine\n")

    assert broker("down") == Exit.DONE
    assert watchdog.marked(state.mark) == []
    assert broker("env") == Exit.UNREACHABLE
    assert broker("down") == Exit.DONE  # not being up is what was asked for

    capfd.readouterr()
    assert up() == Exit.DONE
    assert broker("ctl", "-q", "list_vhosts") == Exit.DONE
    assert "kept" in capfd.readouterr().out.split()
    assert broker("down", "--delete") == Exit.DONE
    assert not (cache / "broker").exists()


def test_fresh_discards_what_was_kept(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (cache / "broker/data").mkdir(parents=True)
    (cache / "broker/data/old").touch()
    assert up("--fresh") == Exit.DONE
    assert not (cache / "broker/data/old").exists()
    assert broker("down", "--delete") == Exit.DONE
    assert "deleted" in capfd.readouterr().out


def test_a_node_that_was_killed_is_down_and_starts_again(cache: Path) -> None:
    assert up() == Exit.DONE
    (node,) = standing.current()
    node.kill()
    assert broker("status") == Exit.UNREACHABLE
    assert watchdog.marked(node.mark) != []  # its epmd
    assert up() == Exit.DONE
    assert watchdog.marked(node.mark) == []
    assert broker("down", "--delete") == Exit.DONE
    assert not (cache / "broker").exists()


@pytest.mark.slow  # three nodes, and one of them twice
def test_a_cluster_is_up_until_it_is_put_down(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert up("--nodes", "3") == Exit.DONE
    capfd.readouterr()
    assert broker("env") == Exit.DONE
    assert capfd.readouterr().out.splitlines()[0].count("amqp://guest:guest@127.0.0.1:") == 3
    assert broker("ctl", "--node", "2", "-q", "add_vhost", "kept") == Exit.DONE
    assert broker("ctl", "-q", "list_vhosts") == Exit.DONE
    assert "kept" in capfd.readouterr().out.split()
    assert broker("logs", "--node", "3") == Exit.DONE
    assert broker("logs", "--node", "4") == Exit.UNREACHABLE

    standing.current()[0].kill()
    capfd.readouterr()
    assert broker("status") == Exit.UNREACHABLE
    assert "node 1: down" in capfd.readouterr().out
    assert broker("ctl", "-q", "list_vhosts") == Exit.DONE  # on node 2
    assert up() == Exit.DONE
    assert broker("status") == Exit.DONE

    marks = [node.mark for node in standing.known()]
    assert broker("down") == Exit.DONE
    assert [pid for mark in marks for pid in watchdog.marked(mark)] == []
    assert up("--nodes", "2") == Exit.USAGE
    assert "--fresh" in capfd.readouterr().err
    assert broker("down", "--delete") == Exit.DONE
    assert not (cache / "broker").exists()


def test_a_taken_port_is_exit_3_in_one_sentence(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert broker("up", "--port", str(port)) == Exit.UNREACHABLE
    complaint = capfd.readouterr().err.splitlines()[-1]
    assert complaint.startswith(f"rabbitproof: Port {port} ")
    assert not (cache / "broker").exists()


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="fetching is apt's work")
@pytest.mark.skipif(install.find() is not None, reason="RabbitMQ is installed here")
def test_a_fetched_rabbitmq_starts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    code = "import sys; from rabbitproof.cli.main import main; main()"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RABBITPROOF_CACHE": str(cache),
    }
    for arguments in (("up", "--port", "0", "--management-port", "0"), ("down", "--delete")):
        subprocess.run(
            [sys.executable, "-c", code, "broker", *arguments],
            env=environment,
            check=True,
            timeout=110,
        )
    assert sorted(path.name for path in cache.iterdir() if path.name != "nodes") == [
        *("broker.lock", "releases"),
    ]
