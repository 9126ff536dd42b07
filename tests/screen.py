"""A screen of its own for windows, and hands: Xvfb and xdotool.

Where they are missing they are fetched (``fetched``); where that cannot be done, tests that need
them are skipped with the command that would enable them; with CI in the environment they fail.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass

import pytest

from fetched import Tools, Unavailable, tools
from support import eventually


@dataclass(frozen=True, slots=True)
class Screen:
    """One X server, 1400 by 900."""

    display: str
    tools: Tools

    def variables(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment in which a window opens on this screen."""
        there = environment | self.tools.for_tk | {"DISPLAY": self.display}
        paths = (self.tools.for_tk.get("PYTHONPATH"), environment.get("PYTHONPATH"))
        return there | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

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


def start() -> tuple[Screen, subprocess.Popen[bytes]]:
    """Start a screen, or skip the test that wants one."""
    try:
        found = tools()
    except Unavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    # Left to choose a number, two servers that start at once can choose the same; a number that
    # is named is locked.
    for _ in range(5):
        number = random.randrange(100, 50_000)
        server = _serve(found, number)
        if server is not None:
            return Screen(f":{number}", found), server
    pytest.fail("Xvfb does not start")


def _serve(found: Tools, number: int) -> subprocess.Popen[bytes] | None:
    """Start a server with this number and wait until it is ready; None if the number is taken."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            *found.xvfb, f":{number}", "-displayfd", str(write), "-screen", "0", "1400x900x24",
            "-nolisten", "tcp", "-noreset",
        ],
        cwd=found.folder,
        env=os.environ | found.variables,
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as said:
        if said.readline().strip():
            return server
    server.wait()
    return None
