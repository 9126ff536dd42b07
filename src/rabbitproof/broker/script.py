"""Our own small programs beside the nodes (``watchdog``, ``cables``, ``relay``): started and heard.

Each is a module that imports nothing but the standard library and others like it, at its start: it
has to work while the virtual environment it was started from is being deleted. It is told what to
do by lines of JSON on its standard input, ends when that does, and answers in lines of JSON.
Refuses to know what the lines mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final, Self

from rabbitproof.errors import NodeFailed

Replies = queue.SimpleQueue[dict[str, Any]]
"""What a program answered; ``{"gone": true}`` is the last of it."""

_ORDER_S: Final = 5.0
"""For a program to do as it is told; it takes milliseconds."""

_BEGIN: Final = (
    "import sys, runpy; sys.path.append(sys.argv.pop(1));"
    " runpy.run_module(sys.argv.pop(1), run_name='__main__')"
)
"""Python is started without anybody's settings and packages, so it is told where we are."""


def start(module: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Replies]:
    """Start a program of this room in a session of its own, so that Ctrl+C is not for it.

    Its answers become items of a queue, so that waiting for one has a deadline.
    """
    name = f"{__package__}.{module}"
    packages = str(Path(__file__).parents[2])
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-I", "-S", "-c", _BEGIN, packages, name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/" if os.name == "posix" else None,
        start_new_session=True,
    )
    replies: Replies = queue.SimpleQueue()
    threading.Thread(target=_forward, args=(process.stdout, replies), daemon=True).start()
    return process, replies


def _forward(source: Any, replies: Replies) -> None:
    with source:
        for line in source:
            replies.put(json.loads(line))
    replies.put({"gone": True})


class Program:
    """A program that answers each order, and says something first, for as long as this is open."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        """``name``: what it is called when it does not answer, as in "The proxy"."""
        self._name = name
        self._turn = threading.Lock()
        self._owed = 0
        """Answers that are to come: more than one when an earlier one was late."""
        self._process, self._replies = start(module, str(os.getpid()), *arguments)
        try:
            self.first = self._reply()
            """What it said before any order."""
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def tell(self, **order: object) -> dict[str, Any]:
        """Give an order and return the answer; raise NodeFailed when none comes."""
        if self._process.stdin is None:
            raise NodeFailed
        with self._turn:
            with contextlib.suppress(OSError, ValueError):  # gone: the missing reply says so
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
            self._owed += 1
            while True:  # the answer to an earlier order may come only now
                reply = self._reply()
                self._owed -= 1
                if not self._owed:
                    return reply

    def close(self) -> None:
        """End the program, and with it every connection that goes through it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_ORDER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _reply(self) -> dict[str, Any]:
        with contextlib.suppress(queue.Empty):
            reply = self._replies.get(timeout=_ORDER_S)
            if "gone" not in reply:
                return reply
            self._replies.put(reply)  # true from now on, whoever asks next
        raise NodeFailed(
            f"{self._name} does not answer; find out what kills or stops processes here."
        )
