from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import lock, node
from rabbitproof.broker.node import complaints
from rabbitproof.errors import NodeFailed

if TYPE_CHECKING:
    from pathlib import Path

LOG = """\
2026-01-01 10:00:00.000000+00:00 [info] <0.1.0> Starting
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> You've tried to set no.such.setting
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>   crasher:
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>     initial call: x
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> ===========
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> You've tried to set no.such.setting
  ##  ##      RabbitMQ 3.10.8
BOOT FAILED
===========
    rabbit_prelaunch_dist:setup/1, line 23
"""


def test_what_a_log_complains_about_is_told_once_and_without_the_traces() -> None:
    assert complaints(LOG.splitlines()) == ["You've tried to set no.such.setting", "BOOT FAILED"]


def test_a_log_without_complaints_has_none() -> None:
    assert complaints(["2026-01-01 10:00:00+00:00 [info] <0.1.0> no error here"]) == []


def test_only_the_first_complaints_are_told() -> None:
    assert len(complaints(f"error {n}" for n in range(100))) == 6


def test_a_log_is_made_safe_to_show(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n\x1b[2Jtwo\n\xff\n")
    assert node.log_tail(log, 2) == [r"\x1b[2Jtwo", "�"]
    assert node.log_tail(log, 0) == []
    assert node.log_tail(tmp_path / "none", 5) == []


def test_ports_are_all_different_and_those_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        wanted = probe.getsockname()[1]
    ports = node._choose_ports(wanted, 0, tls=True)
    numbers = [
        *(ports.amqp, ports.management, ports.prometheus),
        *(ports.distribution, ports.epmd, ports.tls),
    ]
    assert ports.amqp == wanted
    assert len(set(numbers)) == 6
    assert node._choose_ports(0, 0, tls=False).tls == 0


def test_no_port_is_chosen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = node._PORT_RANGE[0]
    drawn = iter(number for number in range(lowest, lowest + 1000) for _ in range(2))
    monkeypatch.setattr(node.random, "randint", lambda *_range: next(drawn))
    ports = node._choose_ports(0, 0, tls=False)
    assert len({ports.amqp, ports.management, ports.prometheus, ports.distribution}) == 4


def test_a_taken_port_is_refused_with_the_option_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeFailed, match=f"Port {port} .*--management-port"):
            node._choose_ports(0, port, tls=False)


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with (
        lock.held(tmp_path / "lock", deadline_s=1),
        pytest.raises(TimeoutError),
        lock.held(tmp_path / "lock", deadline_s=0.1),
    ):
        pass
    with lock.held(tmp_path / "lock", deadline_s=0.1):
        pass
