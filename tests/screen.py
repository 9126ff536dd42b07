"""A screen of its own for windows, and hands: Xvfb and xdotool.

Where they are missing they are fetched (``fetched``); where that cannot be done, tests that need
them are skipped with the command that would enable them; with CI in the environment they fail.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fetched
from fetched import Tools, Unavailable
from support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Screen:
    """One X server, 1400 by 900."""

    display: str
    tools: Tools

    def variables(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment in which a window opens on this screen."""
        return self.tools.with_tk(environment) | {"DISPLAY": self.display}

    def _hands(self, what: tuple[str, ...], *, check: bool) -> str:
        return subprocess.run(
            [self.tools.xdotool, *what],
            env=os.environ | self.tools.variables | {"DISPLAY": self.display},
            check=check,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout

    def do(self, *what: str) -> str:
        """Have xdotool do something; return what it prints."""
        return self._hands(what, check=True)

    def press(self, window: str, *keys: str) -> None:
        """Give a window the keyboard, as a window manager would, and press keys in it."""
        self.do("windowfocus", "--sync", window, "key", *keys)

    def click(self, x: int, y: int) -> None:
        """Click with the left button."""
        self.do("mousemove", "--sync", str(x), str(y), "click", "1")

    def wait_for(self, name: str) -> str:
        """Wait until a window with such a title (a regular expression) is there; return its id."""
        found: list[str] = eventually(lambda: self.windows(name), f"a window named {name}")
        return found[0]

    def windows(self, name: str) -> list[str]:
        """Return the ids of the windows with such a title; none while windows come and go."""
        return self._hands(("search", "--onlyvisible", "--name", name), check=False).split()


@pytest.fixture(scope="session")
def tools() -> Tools:
    """What opens a window and uses it; skips the test where there can be none, and never in CI."""
    try:
        return fetched.tools()
    except Unavailable as reason:
        fetched.unavailable(reason)


@pytest.fixture(scope="session")
def screen(tools: Tools) -> Iterator[Screen]:
    """A screen for windows."""
    # Left to choose a number, two servers that start at once can choose the same; a number that
    # is named is locked.
    for _ in range(5):
        number = random.randrange(100, 50_000)
        server = _serve(tools, number)
        if server is not None:
            break
    else:
        pytest.fail("Xvfb does not start")
    yield Screen(f":{number}", tools)
    server.terminate()  # so that it takes its lock with it
    server.wait()
    with contextlib.suppress(OSError):
        Path("/tmp/.X11-unix").rmdir()  # noqa: S108 - X's own; not empty while another runs


def _serve(tools: Tools, number: int) -> subprocess.Popen[bytes] | None:
    """Start a server with this number and wait until it is ready; None if the number is taken."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            *tools.xvfb, f":{number}", "-displayfd", str(write), "-screen", "0", "1400x900x24",
            "-nolisten", "tcp", "-noreset",
        ],
        cwd=tools.folder,
        env=os.environ | tools.variables,
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as said:
        if said.readline().strip():
            return server
    server.wait()
    return None
