"""The cables between the nodes of a cluster: a process through which all that they say goes.

Holds: a small program run as a script (``python cables.py OWNER NAME…``), beside ``watchdog.py``:
an epmd for each node, which tells it where the others are, and for each pair of nodes a forwarder,
to which that epmd sends them. What is cut there is cut as a pulled cable is: nothing is refused,
nothing is closed, nothing arrives.
Refuses to hold: which node is cut off and when (``cluster.py``, ``trial/``), what is in the bytes,
and any import outside the standard library: it has to work while the virtual environment it was
started from is being deleted.

Rules
-----
- Everything listens on 127.0.0.1, on ports that the kernel chose and that stay taken.
- It ends when its standard input does: whoever started it has gone or wants it to.
- Nothing is lost or reordered within a connection; a cut only delays. What was on its way then
  arrives when the cut is healed, if both ends still want it, as with TCP on a real cable.
- One JSON object a line. In: ``{"do": "cut", "sides": [[1], [2, 3]]}``, ``{"do": "heal"}``,
  ``{"do": "tell"}``. Out: ``{"epmd": [port, …]}`` once, then for each order
  ``{"cut": true or false, "open": n, "held": n, "bytes": n}``: connections between nodes, how many
  of them are silent now, and what was carried so far.

epmd's protocol: https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html, section 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, NoReturn

LOOPBACK = "127.0.0.1"

_PIECE = 262_144
"""Bytes read at once."""
_MOST_WAITING = 1_048_576
"""Bytes taken from one node that the other has not taken yet; then no more are read."""

_ALIVE2, _PORT_PLEASE2, _NAMES = 120, 122, 110
_ALIVE2_X, _ALIVE2_ANSWER, _PORT2 = 118, 121, 119
_CREATION_OF_32_BITS = 6
"""From this version of the distribution protocol on (OTP 23)."""


@dataclass(slots=True, eq=False)
class _End:
    """One socket of a pair of nodes, and the socket its bytes go to."""

    socket: socket.socket
    pair: tuple[int, int]
    """Who connected, and to whom: the nodes' numbers."""
    peer: _End | None = None
    """None until the node behind it has answered."""
    waiting: bytearray = field(default_factory=bytearray)
    """What this socket has not taken yet."""
    ended: bool = False
    """Its node says no more."""
    connecting: bool = False


@dataclass(slots=True, eq=False)
class _Asker:
    """A connection to an epmd."""

    socket: socket.socket
    node: int
    """Whose epmd."""
    question: bytearray = field(default_factory=bytearray)
    registered: str | None = None


@dataclass(frozen=True, slots=True)
class _Listener:
    socket: socket.socket
    pair: tuple[int, int] | None
    """None for an epmd."""
    node: int = 0


class Cables:
    """All cables between nodes of these names, which are numbered from 1."""

    def __init__(self, names: list[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._members = dict(enumerate(names, start=1))
        self._numbers = {name: node for node, name in self._members.items()}
        self._epmds = [self._listen(None, node) for node in self._members]
        pairs = [(one, other) for one in self._members for other in self._members if one != other]
        self._doors = {pair: self._listen(pair) for pair in pairs}
        self._names: dict[str, tuple[int, bytes]] = {}
        """Who is alive: port, and the rest of what it said of itself."""
        self._creation = 0
        self._ends: set[_End] = set()
        self._side: dict[int, int] = {}
        """The side each node is on while there is a cut."""
        self._carried = 0

    @property
    def epmd_ports(self) -> list[int]:
        """The port of each node's epmd."""
        return [epmd.socket.getsockname()[1] for epmd in self._epmds]

    def run(self, orders: int) -> NoReturn:
        """Carry bytes and answer questions until ``orders``, a file descriptor, ends."""
        os.set_blocking(orders, False)
        self._selector.register(orders, selectors.EVENT_READ, "orders")
        rest = b""
        while True:
            for key, mask in self._selector.select():
                what = key.data
                if what == "orders":
                    data = os.read(orders, 65_536)
                    if not data:
                        os._exit(0)
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
                elif isinstance(what, _Listener):
                    self._accept(what)
                elif isinstance(what, _Asker):
                    self._hear(what)
                elif what in self._ends:  # not closed by what came just before
                    self._carry(what, mask)

    # --- orders ---

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "cut":
            self._side = {node: i for i, side in enumerate(order["sides"]) for node in side}
        elif order["do"] == "heal":
            self._side = {}
        for end in list(self._ends):
            if end.peer is None and not end.connecting and not self._is_cut(end.pair):
                self._connect_on(end)
            self._watch(end)
        held = sum(self._is_cut(end.pair) for end in self._ends)
        _say(cut=bool(self._side), open=len(self._ends), held=held, bytes=self._carried)

    def _is_cut(self, pair: tuple[int, int]) -> bool:
        one, other = (self._side.get(node) for node in pair)
        return one is not None and other is not None and one != other

    # --- epmd ---

    def _hear(self, asker: _Asker) -> None:
        try:
            data = asker.socket.recv(4_096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(asker)
            return
        asker.question += data
        if len(asker.question) < 2:
            return
        (length,) = struct.unpack_from(">H", asker.question)
        if len(asker.question) < 2 + length or asker.registered is not None:
            return
        question = bytes(asker.question[2 : 2 + length])
        answer = self._answer(asker, question)
        with contextlib.suppress(OSError):  # short: fits into an empty buffer
            asker.socket.sendall(answer)
        if asker.registered is None:
            self._forget(asker)

    def _answer(self, asker: _Asker, question: bytes) -> bytes:
        if question[:1] == bytes([_ALIVE2]):
            port, _kind, _protocol, highest, _lowest, size = struct.unpack_from(
                ">HBBHHH", question, 1
            )
            name = question[11 : 11 + size].decode(errors="replace")
            return self._register(asker, name, port, highest, question[3:])
        if question[:1] == bytes([_PORT_PLEASE2]):
            name = question[1:].decode(errors="replace")
            found = self._names.get(name)
            if found is None:
                return bytes([_PORT2, 1])
            return struct.pack(">BBH", _PORT2, 0, self._port(asker.node, name)) + found[1]
        if question[:1] == bytes([_NAMES]):
            lines = (
                f"name {name} at port {self._port(asker.node, name)}\n" for name in self._names
            )
            return struct.pack(">I", self.epmd_ports[asker.node - 1]) + "".join(lines).encode()
        return b""

    def _register(self, asker: _Asker, name: str, port: int, highest: int, rest: bytes) -> bytes:
        ok = name not in self._names
        if ok:
            asker.registered = name
            self._names[name] = (port, rest)
        self._creation = self._creation % 0xFFFF_FFF0 + 4  # 0 to 3 have meanings of old
        if highest >= _CREATION_OF_32_BITS:
            return struct.pack(">BBI", _ALIVE2_X, not ok, self._creation)
        return struct.pack(">BBH", _ALIVE2_ANSWER, not ok, self._creation % 3 + 1)

    def _port(self, asking: int, name: str) -> int:
        """Return where ``asking`` reaches ``name``: a node by its cable, a command directly."""
        node = self._numbers.get(name)
        if node is None or node == asking:
            return self._names[name][0]
        return int(self._doors[asking, node].socket.getsockname()[1])

    def _forget(self, asker: _Asker) -> None:
        if asker.registered is not None:
            del self._names[asker.registered]
        self._selector.unregister(asker.socket)
        asker.socket.close()

    # --- forwarding ---

    def _listen(self, pair: tuple[int, int] | None, node: int = 0) -> _Listener:
        listener = _Listener(socket.create_server((LOOPBACK, 0)), pair, node)
        listener.socket.settimeout(0)
        self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        return listener

    def _accept(self, listener: _Listener) -> None:
        try:
            caller, _ = listener.socket.accept()
        except OSError:
            return
        caller.settimeout(0)
        if listener.pair is None:
            asker = _Asker(caller, listener.node)
            self._selector.register(caller, selectors.EVENT_READ, asker)
            return
        _no_delay(caller)
        end = _End(caller, listener.pair)
        self._ends.add(end)
        if not self._is_cut(end.pair):
            self._connect_on(end)
        self._watch(end)

    def _connect_on(self, end: _End) -> None:
        """Connect a caller with the node that it called."""
        known = self._names.get(self._members[end.pair[1]])
        if known is None:
            self._close(end)
            return
        onward = socket.socket()
        onward.settimeout(0)
        _no_delay(onward)
        other = _End(onward, end.pair, peer=end, connecting=True)
        end.peer = other
        self._ends.add(other)
        with contextlib.suppress(BlockingIOError):
            onward.connect((LOOPBACK, known[0]))
        self._watch(other)

    def _watch(self, end: _End) -> None:
        """Have the selector look for what can be done with a socket now."""
        if end not in self._ends:
            return
        mask = 0
        if not self._is_cut(end.pair):
            if end.connecting or end.waiting:
                mask |= selectors.EVENT_WRITE
            room = end.peer is not None and len(end.peer.waiting) < _MOST_WAITING
            if room and not end.ended and not end.connecting:
                mask |= selectors.EVENT_READ
        known = self._selector.get_map().get(end.socket.fileno())
        if known is None and mask:
            self._selector.register(end.socket, mask, end)
        elif known is not None and not mask:
            self._selector.unregister(end.socket)
        elif known is not None and known.events != mask:
            self._selector.modify(end.socket, mask, end)

    def _carry(self, end: _End, mask: int) -> None:
        if self._is_cut(end.pair):
            return
        try:
            if mask & selectors.EVENT_WRITE:
                self._give(end)
            if mask & selectors.EVENT_READ:
                self._take(end)
        except BlockingIOError:
            pass
        except OSError:
            self._close(end)
            return
        self._watch(end)
        if end.peer is not None:
            self._watch(end.peer)

    def _give(self, end: _End) -> None:
        if end.connecting:
            problem = end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                raise OSError(problem, os.strerror(problem))
            end.connecting = False
        if end.waiting:
            sent = end.socket.send(end.waiting)
            del end.waiting[:sent]
        if not end.waiting and end.peer is not None and end.peer.ended:
            self._close(end)  # an Erlang node never closes only one direction

    def _take(self, end: _End) -> None:
        data = end.socket.recv(_PIECE)
        peer = end.peer
        if not data:
            end.ended = True
            if peer is None or not peer.waiting:
                self._close(end)
            return
        if peer is None:
            return
        self._carried += len(data)
        if peer.waiting or peer.connecting:
            peer.waiting += data
            return
        try:
            sent = peer.socket.send(data)
        except BlockingIOError:
            sent = 0
        peer.waiting += data[sent:]

    def _close(self, end: _End) -> None:
        for one in (end, end.peer):
            if one is not None and one in self._ends:
                self._ends.remove(one)
                if one.socket.fileno() in self._selector.get_map():
                    self._selector.unregister(one.socket)
                one.socket.close()


def _no_delay(one: socket.socket) -> None:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as Erlang does


def _say(**what: object) -> None:
    # Whoever started us may be gone; the end of standard input says so, too.
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


def _watch_parent(parent: int) -> None:
    # A forked child of the owner may still hold the pipe; being adopted tells as well.
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(0.5)
    os._exit(0)


def main() -> NoReturn:
    """Serve the nodes whose names follow the pid of the process that this is done for."""
    for name in ("SIGINT", "SIGHUP"):  # of the terminal: the owner decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_watch_parent, args=(int(sys.argv[1]),), daemon=True).start()
    cables = Cables(sys.argv[2:])
    _say(epmd=cables.epmd_ports)
    cables.run(0)


if __name__ == "__main__":
    main()
