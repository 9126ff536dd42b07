"""The cables between the nodes of a cluster: a process through which all that they say goes.

Holds: a small program (its arguments: the owner's pid, the nodes' names): an epmd for each node,
which tells it where the others are, and for each pair of nodes a line, to which that epmd sends
them. What is cut there is cut as a pulled cable is: nothing is refused, nothing is closed, nothing
arrives.
Refuses to hold: which node is cut off and when (``cluster.py``, ``trial/``), what is in the bytes,
and how they are carried (``pump.py``, whose rules hold here as well).

Rules
-----
- Nothing is lost; a cut only delays. What was on its way then arrives when the cut is healed, if
  both ends still want it, as with TCP on a real cable.
- One JSON object a line. In: ``{"do": "cut", "sides": [[1], [2, 3]]}``, ``{"do": "heal"}``,
  ``{"do": "tell"}``. Out: ``{"epmd": [port, …]}`` once, then for each order
  ``{"cut": true or false, "open": n, "held": n, "bytes": n}``: connections between nodes, how many
  of them are silent now, and what was carried so far.

epmd's protocol: https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html, section 1.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from dataclasses import dataclass, field
from itertools import permutations
from selectors import EVENT_READ
from socket import AF_INET
from typing import TYPE_CHECKING, Any, NoReturn

from rabbitproof.broker.pump import LOOPBACK, End, Pump, live_with_owner, say

if TYPE_CHECKING:
    import socket

_ALIVE2, _PORT_PLEASE2, _NAMES = 120, 122, 110
_ALIVE2_X, _ALIVE2_ANSWER, _PORT2 = 118, 121, 119
_CREATION_OF_32_BITS = 6
"""From this version of the distribution protocol on (OTP 23)."""


@dataclass(slots=True, eq=False)
class _Asker:
    """A connection to an epmd."""

    socket: socket.socket
    node: int
    """Whose epmd."""
    question: bytearray = field(default_factory=bytearray)
    registered: str | None = None


class Cables(Pump[End]):
    """All cables between nodes of these names, which are numbered from 1."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(End)
        self._members = dict(enumerate(names, start=1))
        self._numbers = {name: node for node, name in self._members.items()}
        self.epmds = [self._epmd(node) for node in self._members]
        """The port of each node's epmd."""
        self._pairs = list(permutations(self._members, 2))
        """Of each line: who connects, and to whom."""
        self._doors = {pair: self.line(number) for number, pair in enumerate(self._pairs)}
        self._names: dict[str, tuple[int, bytes]] = {}
        """Who is alive: port, and the rest of what it said of itself."""
        self._creation = 0
        self._side: dict[int, int] = {}
        """The side each node is on while there is a cut."""
        self._carried = 0

    # --- orders ---

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Cut, heal or only tell."""
        if order["do"] == "cut":
            self._side = {node: i for i, side in enumerate(order["sides"]) for node in side}
        elif order["do"] == "heal":
            self._side = {}
        for end in list(self.ends):
            if end.peer is None and not self.is_held(end):
                self.came(end)
            self.watch(end)
        callers = [end for end in self.ends if not end.called]
        return {
            "cut": bool(self._side),
            "open": len(callers),
            "held": sum(self.is_held(end) for end in callers),
            "bytes": self._carried,
        }

    # --- what is carried ---

    def is_held(self, end: End) -> bool:
        """Say whether it is between two sides."""
        if not self._side:
            return False
        one, other = (self._side.get(node) for node in self._pairs[end.line])
        return one is not None and other is not None and one != other

    def came(self, end: End) -> None:
        """Connect a caller with the node that it called; during a cut, later."""
        if self.is_held(end):
            return
        known = self._names.get(self._members[self._pairs[end.line][1]])
        if known is None:
            self.close(end)
        else:
            self.connect_on(end, [(AF_INET, (LOOPBACK, known[0]))])

    def passing(self, _end: End, data: memoryview) -> memoryview:
        """Let all of it pass."""
        self._carried += len(data)
        return data

    # --- epmd ---

    def _epmd(self, node: int) -> int:
        def take(caller: socket.socket) -> None:
            asker = _Asker(caller, node)
            self.selector.register(caller, EVENT_READ, lambda: self._hear_asker(asker))

        return self.listen(take)

    def _hear_asker(self, asker: _Asker) -> None:
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
            return struct.pack(">I", self.epmds[asker.node - 1]) + "".join(lines).encode()
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
        return self._doors[asking, node]

    def _forget(self, asker: _Asker) -> None:
        if asker.registered is not None:
            del self._names[asker.registered]
        self.selector.unregister(asker.socket)
        asker.socket.close()


def main() -> NoReturn:
    """Serve the nodes whose names follow the pid of the process that this is done for."""
    live_with_owner()
    cables = Cables(sys.argv[2:])
    say(epmd=cables.epmds)
    cables.run(0)


if __name__ == "__main__":
    main()
