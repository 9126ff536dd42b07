"""When a node that was started is ready, and what its logs say when it does not get there.

Holds: the questions to its ports, waiting for the answers, and the sentence in a log that says
what is wrong.
Refuses to hold: the node's processes (``node.py``), and any AMQP beyond the first frame that a
broker sends.

Rules
-----
- Ready means: the broker answered an AMQP protocol header with Connection.Start
  (AMQP 0-9-1, section 2.2.4) and the Management API answers. An open port alone is too early.
- Every wait has a deadline, and a failure carries the broker's own words.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rabbitproof.broker.ports import LOOPBACK
from rabbitproof.errors import NodeFailed
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rabbitproof.broker.layout import Layout

_Answer = TypeVar("_Answer", str, bool)

_POLL_S = 0.03
"""Between two questions to a node that starts."""


@dataclass(frozen=True, slots=True)
class Logs:
    """What a server writes during one boot: files, and how many bytes they had before it."""

    begun: tuple[tuple[Path, int], ...]

    @classmethod
    def from_now_on(cls, *paths: Path) -> Logs:
        """Return the logs in ``paths``, which need not exist yet, without what is in them."""
        return cls(tuple((path, path.stat().st_size if path.exists() else 0) for path in paths))

    def failure(self, what: str) -> NodeFailed:
        """Return the error of a boot that failed, with what the logs complain about."""
        said = complaints(line for path, size in self.begun for line in _lines(path, skip=size))
        if not said:
            return NodeFailed(
                f"{what} and said nothing; check that the machine is not overloaded, then try"
                " again with a longer deadline."
            )
        return NodeFailed(
            f"{what}. Its log says: {' | '.join(map(safe, said))}. Change what it complains"
            " about, then try again."
        )


def wait(
    layout: Layout,
    logs: Logs,
    ended: Callable[[float], str | None],
    *,
    until: float,
    deadline_s: float,
) -> str:
    """Wait until the node is ready; return the version that it says it has.

    ``ended`` is asked meanwhile: it waits at most that many seconds for the server's end and
    returns its exit status, None while it runs. ``until`` is on the monotonic clock,
    ``deadline_s`` for the sentence. Raise NodeFailed when the server ends or time is up.
    """

    def answer(question: Callable[[], _Answer | None]) -> _Answer:
        while not (said := question()):
            status = ended(_POLL_S)
            if status is not None:
                raise logs.failure(f"RabbitMQ ended while it started (status {status})")
            if time.monotonic() > until:
                raise logs.failure(f"RabbitMQ was not ready within {deadline_s:g} s")
        return said

    ports, identity = layout.ports, layout.identity
    version = answer(lambda: amqp_version(ports.amqp, unnamed=layout.installation.version))
    answer(lambda: has_management(ports.management, identity.username, identity.password))
    if ports.tls:
        answer(lambda: listens(ports.tls))
    return version


def amqp_version(port: int, *, unnamed: str) -> str | None:
    """Return the version that an AMQP broker says it has, or ``unnamed``; None if none answers."""
    with contextlib.suppress(OSError):
        with socket.create_connection((LOOPBACK, port), 1.0) as peer:
            peer.sendall(b"AMQP\x00\x00\x09\x01")
            answer = peer.recv(4096)
        # A method frame on channel 0 with connection.start (class 10, method 10).
        if answer[:1] == b"\x01" and answer[7:11] == b"\x00\x0a\x00\x0a":
            named = re.search(rb"\x07versionS\x00\x00\x00.(\d[\w.+~-]*?)[^\w.+~-]", answer)
            return named.group(1).decode() if named else unnamed
    return None


def has_management(port: int, username: str, password: str) -> bool:
    """Tell whether the Management API answers."""
    login = base64.b64encode(f"{username}:{password}".encode()).decode()
    request = (
        "GET /api/whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Basic {login}\r\n\r\n"
    )
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 2.0) as peer:
        peer.sendall(request.encode())
        # 401: the data of an earlier run hold another password; it answers all the same.
        return re.match(rb"HTTP/1\.1 (200|401)", peer.recv(64)) is not None
    return False


def listens(port: int) -> bool:
    """Tell whether anybody accepts connections there."""
    with contextlib.suppress(OSError):
        socket.create_connection((LOOPBACK, port), 1.0).close()
        return True
    return False


def complaints(lines: Iterable[str], *, most: int = 6) -> list[str]:
    """Return the sentences in which a log says what is wrong, the first ``most`` of them.

    RabbitMQ repeats a failure as a crash report of each process that it took down; those start
    with indentation, and stack traces name source lines. What is left reads like a sentence.
    """
    said: dict[str, None] = {}
    for line in lines:
        logged = re.match(r"\S+ \S+ \[(\w+)\] <[\d.]+>(.*)", line)
        if logged and logged.group(1) not in {"error", "critical", "alert", "emergency"}:
            continue
        text = (logged.group(2) if logged else line).removeprefix(" ")
        if not text.strip() or text.startswith("  ") or set(text) <= set("= #"):
            continue
        if logged or re.search(r"error|failed|cannot|could not", text, re.IGNORECASE):
            said.setdefault(" ".join(text.split())[:300])
    return list(said)[:most]


def log_tail(log: Path, n: int) -> list[str]:
    """Return the last ``n`` lines of a log, made safe to show; none when there is no log."""
    return [safe(line, 2000) for line in _lines(log)[-n:]] if n > 0 else []


def _lines(path: Path, *, skip: int = 0) -> list[str]:
    """Return a log's lines from byte ``skip`` on; none when there is no log."""
    try:
        return path.read_bytes()[skip:].decode(errors="replace").splitlines()
    except OSError:
        return []
