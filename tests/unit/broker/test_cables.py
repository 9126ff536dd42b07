"""Two pretended nodes ask their epmd for each other and talk through the cables between them."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker.cluster import Cables
from rabbitproof.errors import NodeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 10.0
MOMENT_S = 0.3
"""For which nothing may arrive through a cut cable; it takes less than a millisecond otherwise."""


def ask(port: int, question: bytes) -> tuple[socket.socket, bytes]:
    asker = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    asker.sendall(struct.pack(">H", len(question)) + question)
    return asker, asker.recv(4_096)


@contextmanager
def alive(epmd: int, name: str) -> Iterator[socket.socket]:
    """Listen as a node, and tell its epmd so for as long as this lasts."""
    with socket.create_server(("127.0.0.1", 0)) as node:
        node.settimeout(DEADLINE_S)
        encoded = name.encode()
        question = struct.pack(">BHBBHHH", 120, node.getsockname()[1], 77, 0, 6, 5, len(encoded))
        asker, answer = ask(epmd, question + encoded + b"\0\0")
        assert answer[:2] == bytes([118, 0]), "it is registered"
        with asker:
            yield node


def port_of(epmd: int, name: str) -> int | None:
    asker, answer = ask(epmd, b"\x7a" + name.encode())
    asker.close()
    if answer[:2] != bytes([119, 0]):
        return None
    return int(struct.unpack_from(">H", answer, 2)[0])


@pytest.fixture
def cables() -> Iterator[Cables]:
    wires = Cables(["one", "two"])
    yield wires
    wires.close()


@contextmanager
def joined(cables: Cables) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection from node one to node two."""
    with ExitStack() as stack:
        stack.enter_context(alive(cables.epmd[0], "one"))
        two = stack.enter_context(alive(cables.epmd[1], "two"))
        port = port_of(cables.epmd[0], "two")
        assert port is not None
        assert port != two.getsockname()[1], "not the node itself, but the cable to it"
        caller = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
        called = stack.enter_context(two.accept()[0])
        called.settimeout(DEADLINE_S)
        yield caller, called


def test_an_epmd_knows_who_is_alive(cables: Cables) -> None:
    """A node is there from its registration until that connection ends, once under each name."""
    assert port_of(cables.epmd[0], "two") is None
    with alive(cables.epmd[1], "two") as node:
        assert port_of(cables.epmd[1], "two") == node.getsockname()[1], "itself, directly"
        asker, answer = ask(
            cables.epmd[1], struct.pack(">BHBBHHH", 120, 1, 77, 0, 6, 5, 3) + b"two"
        )
        asker.close()
        assert answer[1] != 0, "the name is taken"
    assert port_of(cables.epmd[0], "two") is None


def test_what_is_said_during_a_cut_arrives_after_it(cables: Cables) -> None:
    """Silence in both directions, then all of it in order; nobody's connection ended."""
    with joined(cables) as (caller, called):
        caller.sendall(b"before ")
        assert called.recv(100) == b"before "
        found = cables.tell(do="cut", sides=[[1], [2]])
        assert (found["cut"], found["open"], found["held"]) == (True, 1, 1)
        caller.sendall(b"meanwhile ")
        called.sendall(b"an answer")
        for end in (caller, called):
            end.settimeout(MOMENT_S)
            with pytest.raises(TimeoutError):
                end.recv(100)
            end.settimeout(DEADLINE_S)
        assert cables.tell(do="heal")["held"] == 0
        caller.sendall(b"after")
        got = b""
        while len(got) < len(b"meanwhile after"):
            got += called.recv(100)
        assert got == b"meanwhile after"
        assert caller.recv(100) == b"an answer"


def test_who_is_called_during_a_cut_hears_of_it_later(cables: Cables) -> None:
    """A new connection is accepted as by a cable that is still plugged in, and waits."""
    with ExitStack() as stack:
        two = stack.enter_context(alive(cables.epmd[1], "two"))
        port = port_of(cables.epmd[0], "two")
        cables.tell(do="cut", sides=[[1], [2]])
        caller = stack.enter_context(socket.create_connection(("127.0.0.1", port or 0), DEADLINE_S))
        caller.sendall(b"hello")
        two.settimeout(MOMENT_S)
        with pytest.raises(TimeoutError):
            two.accept()
        two.settimeout(DEADLINE_S)
        cables.tell(do="heal")
        called, _ = two.accept()
        with called:
            called.settimeout(DEADLINE_S)
            assert called.recv(100) == b"hello"


def test_much_goes_through_though_nobody_listens_at_first(cables: Cables) -> None:
    """More than all buffers hold is not lost, and not kept in memory without a limit."""
    piece = os.urandom(1 << 16)
    with joined(cables) as (caller, called):
        caller.settimeout(MOMENT_S)
        sent = 0
        while sent < 1_000:
            try:
                caller.sendall(piece)
            except TimeoutError:
                break
            sent += 1
        assert 0 < sent < 1_000, "the cable takes no more"
        caller.close()
        received = 0
        while data := called.recv(1 << 20):
            received += len(data)
        assert received >= sent * len(piece)


def test_cables_that_are_gone_say_so_at_once(cables: Cables) -> None:
    """Killed by somebody: not after the whole time that an answer may take, and every time."""
    cables._process.kill()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(NodeFailed, match="does not answer"):
            cables.tell(do="tell")
    assert time.monotonic() - began < DEADLINE_S / 4
