"""Bytes carried between pairs of sockets by a program of ours: what ``cables`` and ``relay`` share.

Holds: accepting a caller, connecting it on, reading, giving, bounded buffers, passing on that one
side ended; and the life of such a program: orders come in, answers go out, it ends with its owner.
Refuses to hold: where a caller is connected to and what is broken when (the subclasses), and any
import outside the standard library (``script.py`` says why).

Rules
-----
- Everything listens on 127.0.0.1, on ports that the kernel chose and that stay taken.
- Nothing is lost or reordered within a connection, unless a subclass wants it so.
- A side that takes nothing is waited for: no more is read for it than the buffer holds.
- An end is passed on after all that came before it: a close as a close, a reset as a reset.
- It ends when its standard input does: whoever started it has gone or wants it to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOPBACK: Final = "127.0.0.1"

PIECE: Final = 262_144
"""Bytes read at once."""
MOST_WAITING: Final = 1_048_576
"""Bytes taken from one side that the other has not taken yet; then no more are read."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time."""
_AFTERWARDS: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Errors of a connection that was made and broke at once; one that was not made has others."""

Where = tuple[int, Any]
"""A family of addresses and one of them, as ``socket`` knows it."""


@dataclass(slots=True, eq=False)
class End:
    """One socket of a connection that is carried, and the socket its bytes go to."""

    socket: socket.socket
    line: int
    """Which of the lines it came in on."""
    peer: Self | None = None
    """None until the caller has been connected on."""
    called: bool = False
    """It is not the caller, but whom it was connected to."""
    waiting: bytearray = field(default_factory=bytearray)
    """What this socket has not taken yet."""
    connecting: bool = False
    others: list[Where] = field(default_factory=list)
    """Where else to try when it can't be connected to."""
    ended: bool = False
    """It says no more."""
    broken: bool = False
    """... and takes no more either."""
    told: bool = False
    """It was told that its peer says no more."""
    mask: int = 0
    """What the selector looks for."""


E = TypeVar("E", bound=End)


class Pump(ABC, Generic[E]):
    """Carries bytes; what goes on and what does not is up to the subclass."""

    def __init__(self, kind: type[E]) -> None:
        self.selector = selectors.DefaultSelector()
        self.ends: set[E] = set()
        self._kind = kind
        self._buffer = memoryview(bytearray(PIECE))

    # --- what a subclass says ---

    @abstractmethod
    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do as an order says and return the answer to it."""

    @abstractmethod
    def came(self, end: E) -> None:
        """Deal with a new caller: ``connect_on``, ``close`` or nothing yet."""

    def room(self, end: E) -> int:
        """Return how many bytes may be read from this socket now."""
        peer = end.peer
        return 0 if peer is None or peer.broken else MOST_WAITING - len(peer.waiting)

    def passing(self, _end: E, data: memoryview) -> bytes | memoryview:
        """Return what of ``data``, just read from ``end``, is given to its peer now."""
        return data

    def holds(self, end: E) -> bool:
        """Say whether something is still to be given to this socket."""
        return bool(end.waiting)

    def is_held(self, _end: E) -> bool:
        """Say whether nothing at all is done with this socket now."""
        return False

    def unreachable(self, end: E) -> None:
        """Deal with a socket that could not be connected; it gets closed with its peer."""

    def pause(self) -> float | None:
        """Return after how many seconds ``look`` has to be called; None for not by the clock."""
        return None

    def look(self) -> None:
        """Do what the time has come for."""

    # --- the loop ---

    def run(self, orders: int) -> NoReturn:
        """Carry bytes until ``orders``, a file descriptor, ends."""
        os.set_blocking(orders, False)
        self.selector.register(orders, _READ, lambda: self._hear(orders))
        self._rest = b""
        while True:
            for key, mask in self.selector.select(self.pause()):
                if callable(key.data):
                    key.data()
                elif key.data in self.ends:  # not closed by what came just before
                    self._carry(key.data, mask)
            self.look()

    def _hear(self, orders: int) -> None:
        data = os.read(orders, 65_536)
        if not data:
            os._exit(0)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            say(**self.obey(json.loads(line)))

    # --- connections ---

    def listen(self, take: Callable[[socket.socket], None]) -> int:
        """Have ``take`` called with each connection, on a new port; return the port."""
        door = socket.create_server((LOOPBACK, 0))
        door.settimeout(0)

        def accept() -> None:
            try:
                caller, _ = door.accept()
            except OSError:
                return
            caller.settimeout(0)
            take(caller)

        self.selector.register(door, _READ, accept)
        return int(door.getsockname()[1])

    def line(self, number: int) -> int:
        """Carry what comes in on a new port, which is returned; ``number``: the line's."""

        def take(caller: socket.socket) -> None:
            _no_delay(caller)
            end = self._kind(caller, number)
            self.ends.add(end)
            self.came(end)
            self.watch(end)

        return self.listen(take)

    def connect_on(self, end: E, places: Sequence[Where]) -> None:
        """Connect a caller with the first of these places that lets it in."""
        others = list(places)
        onward = _dial(others)
        if onward is None:
            self.unreachable(end)
            self.close(end, reset=True)
            return
        end.peer = self._kind(onward, end.line, end, called=True, connecting=True, others=others)
        self.ends.add(end.peer)
        self.watch(end.peer)

    def _dial_again(self, end: E) -> None:
        """Try the next place, as the last one can't be connected to."""
        onward = _dial(end.others)
        if onward is None:
            self.unreachable(end)
            self.close(end, reset=True)
            return
        self.selector.unregister(end.socket)
        end.socket.close()
        end.socket, end.mask = onward, 0

    def close(self, end: E, *, reset: bool = False) -> None:
        """Close both sockets; with ``reset`` so that both sides see an error instead of an end."""
        for one in (end, end.peer):
            if one is not None and one in self.ends:
                self.ends.remove(one)
                if one.mask:
                    self.selector.unregister(one.socket)
                if reset:
                    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                one.socket.close()

    # --- what is done with a socket ---

    def watch(self, end: E) -> None:
        """Have the selector look for what can be done with a socket now."""
        if end not in self.ends:
            return
        mask = 0
        if not self.is_held(end):
            if end.waiting or end.connecting:
                mask = _WRITE
            if not end.ended and not end.connecting and self.room(end) > 0:
                mask |= _READ
        if mask == end.mask:
            return
        if not end.mask:
            self.selector.register(end.socket, mask, end)
        elif not mask:
            self.selector.unregister(end.socket)
        else:
            self.selector.modify(end.socket, mask, end)
        end.mask = mask

    def _carry(self, end: E, mask: int) -> None:
        if self.is_held(end):
            return
        if mask & _WRITE:
            self._give(end)
        if mask & _READ and not end.ended and end in self.ends:
            self._take(end)
        self.settle(end)

    def _take(self, end: E) -> None:
        room = self.room(end)
        if room <= 0:
            return
        try:
            size = end.socket.recv_into(self._buffer, min(room, PIECE))
        except BlockingIOError:
            return
        except OSError:
            end.ended = True
            self._break(end)
            return
        if not size:
            end.ended = True
            return
        data = self.passing(end, self._buffer[:size])
        if data and end.peer is not None:
            self.give(end.peer, data)

    def give(self, end: E, data: bytes | memoryview) -> None:
        """Send what the socket takes now and keep the rest."""
        if not (end.waiting or end.connecting or end.broken):
            data = data[self._send(end, data) :]
        if data and not end.broken:
            end.waiting += data

    def _give(self, end: E) -> None:
        if end.connecting:
            problem = end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem and problem not in _AFTERWARDS:
                self._dial_again(end)
                return
            end.connecting = False
            if problem:
                self._break(end)
        if end.waiting:
            sent = self._send(end, end.waiting)
            del end.waiting[:sent]

    def _send(self, end: E, data: bytes | bytearray | memoryview) -> int:
        try:
            return end.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._break(end)
            return 0

    def _break(self, end: E) -> None:
        """Give a socket nothing more; what it said before it broke is still read, to its end."""
        end.broken = True
        end.waiting.clear()

    def settle(self, end: E) -> None:
        """Pass on that a socket ended, once its peer has what came before; then go on watching."""
        if end not in self.ends:
            return
        peer = end.peer
        if peer is None:
            if end.ended:
                self.close(end)
        elif end.ended or peer.ended:
            self._pass_end(end, peer)
            self._pass_end(peer, end)
            if end.told and peer.told:
                self.close(end)
        self.watch(end)
        if peer is not None:
            self.watch(peer)

    def _pass_end(self, end: E, peer: E) -> None:
        if not end.ended or peer.connecting or self.holds(peer):
            return
        if end.broken:
            self.close(end, reset=True)
        elif not peer.told:
            peer.told = True
            with contextlib.suppress(OSError):  # it has ended, too
                peer.socket.shutdown(socket.SHUT_WR)


def _dial(places: list[Where]) -> socket.socket | None:
    """Begin to connect to the first of these places where that can be done; take out the tried."""
    while places:
        family, address = places.pop(0)
        with contextlib.suppress(OSError):
            one = socket.socket(family)
            try:
                one.settimeout(0)
                _no_delay(one)
                with contextlib.suppress(BlockingIOError):  # the selector says when it is there
                    one.connect(address)
            except OSError:
                one.close()
                raise
            return one
    return None


def _no_delay(one: socket.socket) -> None:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as Erlang does


def say(**what: object) -> None:
    """Answer, or say a first word."""
    # Whoever started us may be gone; the end of standard input says so, too.
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


def live_with_owner() -> None:
    """Leave a terminal's signals to the owner, whose pid is the first argument; end with it."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_watch_parent, args=(int(sys.argv[1]),), daemon=True).start()
        import resource  # not on Windows

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each connection


def _watch_parent(parent: int) -> None:
    # A forked child of the owner may still hold the pipe; being adopted tells as well.
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(0.5)
    os._exit(0)
