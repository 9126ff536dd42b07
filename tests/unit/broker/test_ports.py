from __future__ import annotations

import socket
from dataclasses import astuple

import pytest

from rabbitproof.broker import ports
from rabbitproof.errors import NodeFailed


def test_ports_are_all_different_and_those_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        wanted = probe.getsockname()[1]
    chosen = ports.choose(wanted, 0, tls=True)
    assert chosen.amqp == wanted
    assert len(set(astuple(chosen))) == 6
    assert ports.choose(0, 0, tls=False).tls == 0


def test_no_port_is_chosen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = ports._RANGE[0]
    drawn = iter(number for number in range(lowest, lowest + 1000) for _ in range(2))
    monkeypatch.setattr(ports.random, "randint", lambda *_range: next(drawn))
    *numbers, tls = astuple(ports.choose(0, 0, tls=False))
    assert len(set(numbers)) == 5
    assert tls == 0


def test_a_taken_port_is_refused_with_the_option_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeFailed, match=f"Port {port} .*--management-port"):
            ports.choose(0, port, tls=False)


def test_where_nothing_is_free_the_search_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "_SEARCH_S", 0.0)
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(NodeFailed, match="No free TCP port"):
        ports.choose(0, 0, tls=False)
