"""What ``broker up`` refuses, and which release goes on with the data of the last time."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import install, releases, standing
from rabbitproof.broker.layout import Identity, Ports, State
from rabbitproof.errors import NodeFailed, RabbitproofError, UsageError
from rabbitproof.process import Process

if TYPE_CHECKING:
    from pathlib import Path


class Started(Exception):
    """Instead of a node: says what would have been started."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RABBITPROOF_CACHE", str(tmp_path))
    monkeypatch.delenv(releases.VARIABLE, raising=False)

    def provide(asked: str | None, _note: Any) -> install.Installation:
        return install.Installation(tmp_path / "fetched", None, f"{asked or '4.3'}.99", "fetched")

    def start(installation: install.Installation, **_settings: Any) -> None:
        raise Started(installation.version)

    monkeypatch.setattr(releases, "provide", provide)
    monkeypatch.setattr(releases, "here", list)
    monkeypatch.setattr(standing.Node, "start", start)
    return tmp_path


def keep(cache: Path, version: str, process: Process | None = None) -> Path:
    """Leave what a node of that version leaves; return a file among its data."""
    kept = cache / "broker/data/kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    identity, ports = Identity("x@localhost", "guest", "guest"), Ports(5672, 15672, 1, 2, 3)
    home = str(cache / "server")
    State(version, home, None, "fetched", "m" * 32, identity, ports, process).write(
        cache / "broker"
    )
    return kept


def up(**asked: Any) -> str:
    """Return the version that would be started."""
    with pytest.raises((Started, RabbitproofError)) as ended:
        standing.up(note=lambda _line: None, **asked)
    if isinstance(ended.value, Started):
        return str(ended.value)
    raise ended.value


def test_the_release_that_the_data_are_of_goes_on_with_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert up() == "4.3.99"
    keep(cache, "3.10.8")
    assert up() == "3.10.99"
    assert up(rabbitmq="3.10") == "3.10.99"
    same = install.Installation(cache / "server", None, "3.10.8", "fetched")
    monkeypatch.setattr(releases, "here", lambda: [same])
    assert up() == "3.10.8"  # the very server, though there is a newer patch


@pytest.mark.parametrize("by_variable", [False, True])
def test_another_release_never_touches_them(
    by_variable: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(cache, "3.10.8")
    asked = {} if by_variable else {"rabbitmq": "4.3"}
    if by_variable:
        monkeypatch.setenv(releases.VARIABLE, "4.3")
    with pytest.raises(UsageError, match=r"of RabbitMQ 3\.10\.8.*--rabbitmq 3\.10.*--fresh"):
        up(**asked)
    assert kept.exists()
    assert up(rabbitmq="3.10") == "3.10.99"


def test_fresh_deletes_them_only_when_there_is_what_to_start(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(cache, "3.10.8")

    def nothing(_asked: str | None, _note: Any) -> install.Installation:
        raise UsageError("There is no such release.")

    with monkeypatch.context() as patch, pytest.raises(UsageError, match="no such release"):
        patch.setattr(releases, "provide", nothing)
        up(fresh=True, rabbitmq="9.9")
    assert kept.exists()
    assert up(fresh=True, rabbitmq="4.3") == "4.3.99"
    assert not kept.exists()


def test_data_of_which_nobody_knows_the_release_are_left_alone(cache: Path) -> None:
    kept = keep(cache, "3.10.8")
    (cache / "broker/state.json").write_text("{")
    with pytest.raises(NodeFailed, match="nobody knows of which RabbitMQ; --fresh"):
        up()
    assert kept.exists()
    assert up(fresh=True) == "4.3.99"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"nodes": 3}, "--nodes 3 can't"),
        ({"amqp_port": 5999}, "--port 5999 can't"),
        ({"amqp_port": 5999, "nodes": 3}, "--nodes 3 and --port 5999 can't"),
        ({"management_port": 1}, "--management-port 1 can't"),
        ({"rabbitmq": "3.10"}, r"--rabbitmq 3\.10 can't"),
        ({"rabbitmq": "installed"}, "--rabbitmq installed can't"),
    ],
)
def test_what_is_up_is_not_what_was_asked_for(
    asked: dict[str, Any], said: str, cache: Path
) -> None:
    keep(cache, "4.3.6", Process.of())
    with pytest.raises(UsageError, match=said) as failure:
        standing.up(note=lambda _line: None, **asked)
    assert "4.3.6 is up on port 5672" in str(failure.value)
    assert "`rabbitproof broker down`" in str(failure.value)


@pytest.mark.parametrize(
    "asked",
    [{}, {"nodes": 1, "amqp_port": 5672, "management_port": 15672}, {"amqp_port": 0},
     {"rabbitmq": "4.3"}, {"rabbitmq": "4.3.6"}, {"fresh": True}],
)  # fmt: skip
def test_what_is_up_and_is_as_asked_is_left_alone(asked: dict[str, Any], cache: Path) -> None:
    kept = keep(cache, "4.3.6", Process.of())
    found, started = standing.up(note=lambda _line: None, **asked)
    assert ([node.pid for node in found], started) == ([os.getpid()], False)
    assert kept.exists()


@pytest.mark.parametrize("do", [up, lambda: standing.down(delete=True)])
def test_what_may_run_elsewhere_is_left_alone(do: Any, cache: Path) -> None:
    """The cache is on a disk that another machine or container has as well."""
    kept = keep(cache, "4.3.6", replace(Process.of(), machine="another"))
    with pytest.raises(NodeFailed, match=r"another machine.*stop it there"):
        do()
    assert kept.exists()
