"""The commands of ``rabbitproof broker`` against the real thing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import install, readiness, standing, watchdog
from rabbitproof.broker.layout import State
from rabbitproof.broker.management import Management
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


def test_a_node_is_killed_started_again_paused_and_resumed(
    cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(expected: Exit, *arguments: str) -> str:
        """What a command says, in one line, and nothing beside it."""
        capfd.readouterr()
        assert broker(*arguments) == expected
        out, err = capfd.readouterr()
        assert (out == "") == (expected != Exit.DONE)
        (line,) = (out or err).splitlines()
        return line

    for command in ("kill", "pause", "resume", "restart"):
        assert said(Exit.UNREACHABLE, command).endswith("start it with `rabbitproof broker up`.")
    assert up() == Exit.DONE
    (node,) = standing.current()
    with Management(node.management_url, "guest", "guest") as api:
        api.create_vhost("kept")
    node.settle()
    pid = node.pid

    killed = said(Exit.DONE, "kill")
    assert killed.startswith(f"RabbitMQ was killed (pid {pid}, port {node.port}); ")
    assert node.pid is None
    assert broker("status") == Exit.UNREACHABLE
    for command in ("kill", "pause", "resume"):
        assert said(Exit.UNREACHABLE, command).endswith("with `rabbitproof broker restart`.")
    with socket.create_server(("127.0.0.1", node.port)):
        assert f"Port {node.port} is taken" in said(Exit.UNREACHABLE, "restart")
    started = said(Exit.DONE, "restart")
    (again,) = standing.current()
    assert started.startswith(f"RabbitMQ was started again (pid {again.pid}, port {node.port}); ")
    assert (again.pid != pid, again.url, again.management_url) == (
        *(True, node.url, node.management_url),
    )
    with Management(again.management_url, "guest", "guest") as api:
        assert "kept" in api.vhosts()

    assert "is not paused; `rabbitproof broker pause`" in said(Exit.UNREACHABLE, "resume")
    assert "no node 2; `rabbitproof broker status`" in said(
        Exit.UNREACHABLE, "pause", "--node", "2"
    )
    with monkeypatch.context() as windows:
        windows.delattr("signal.SIGSTOP")
        assert "cannot be paused on Windows; kill" in said(Exit.UNREACHABLE, "pause")
    assert said(Exit.DONE, "pause").startswith(f"RabbitMQ is paused (pid {again.pid}, port ")
    assert readiness.amqp_version(again.port, unnamed="?") is None
    assert "is paused already; `rabbitproof broker resume`" in said(Exit.UNREACHABLE, "pause")
    assert "is paused; `rabbitproof broker resume`" in said(Exit.UNREACHABLE, "ctl", "status")
    assert broker("status") == Exit.UNREACHABLE
    shown = capfd.readouterr().out
    assert f"is paused (pid {again.pid}); `rabbitproof broker resume`" in shown
    assert " is up" not in shown
    assert said(Exit.DONE, "resume", "--node", "1").startswith("node 1 goes on (pid ")
    assert readiness.amqp_version(again.port, unnamed="?") is not None
    assert broker("status") == Exit.DONE
    assert said(Exit.DONE, "pause")
    assert broker("down", "--delete") == Exit.DONE
    assert watchdog.marked(again.mark) == []
    assert not (cache / "broker").exists()


@pytest.mark.slow  # RabbitMQ takes 6 s to end in good order
def test_a_node_that_runs_is_restarted_and_one_that_is_paused_is_put_down(cache: Path) -> None:
    assert up() == Exit.DONE
    (node,) = standing.current()
    before = node.pid
    assert broker("restart") == Exit.DONE
    (again,) = standing.current()
    assert (again.pid != before, again.url) == (True, node.url)
    assert "SIGTERM received - shutting down" in "".join(standing.log_tail(999))  # in good order
    assert broker("pause") == Exit.DONE
    began = time.monotonic()
    assert broker("down") == Exit.DONE
    assert time.monotonic() - began < 30
    assert watchdog.marked(again.mark) == []
    assert broker("kill") == Exit.UNREACHABLE
    assert broker("restart") == Exit.DONE  # where it was, after all
    assert [one.url for one in standing.current()] == [node.url]
    assert broker("kill") == Exit.DONE
    assert up() == Exit.DONE  # which may take any port, and takes the one that clients know
    assert [one.url for one in standing.current()] == [node.url]
    assert broker("kill") == Exit.DONE
    assert up("--fresh") == Exit.DONE
    assert [one.url for one in standing.current()] != [node.url]
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

    for command in ("kill", "pause", "resume"):
        assert broker(command) == Exit.USAGE
        assert "say which one, --node 1 to --node 3." in capfd.readouterr().err
    assert broker("kill", "--node", "1") == Exit.DONE
    assert "`rabbitproof broker restart --node 1`" in capfd.readouterr().out
    assert broker("status") == Exit.UNREACHABLE
    assert "node 1: down" in capfd.readouterr().out
    assert broker("ctl", "-q", "list_vhosts") == Exit.DONE  # on node 2
    assert up() == Exit.DONE
    assert broker("status") == Exit.DONE

    places = [node.url for node in standing.known()]
    assert broker("kill", "--node", "3") == Exit.DONE
    assert broker("restart", "--node", "3") == Exit.DONE
    assert broker("status") == Exit.DONE
    before = {node.pid for node in standing.current()}
    for number in ("2", "1", "3"):
        assert broker("kill", "--node", number) == Exit.DONE
    assert broker("restart") == Exit.DONE  # all of them
    assert [node.url for node in standing.current()] == places
    assert before.isdisjoint(node.pid for node in standing.current())
    capfd.readouterr()
    assert broker("ctl", "-q", "list_vhosts") == Exit.DONE
    assert "kept" in capfd.readouterr().out.split()

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
