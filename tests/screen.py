"""A screen of its own for windows, and hands: Xvfb and xdotool.

Where they are missing, tests that need them are skipped with the command that would enable them;
with CI in the environment they fail instead.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from support import eventually

INSTALL = "sudo apt-get install xvfb xdotool python3-tk"


@dataclass(frozen=True, slots=True)
class Screen:
    """One X server, 1400 by 900."""

    display: str

    def do(self, *what: str) -> str:
        """Have xdotool do something; return what it prints."""
        done = subprocess.run(
            ["xdotool", *what],
            env=dict(os.environ, DISPLAY=self.display),
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout

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
        done = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", name],
            env=dict(os.environ, DISPLAY=self.display),
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout.split()


def start() -> tuple[Screen, subprocess.Popen[bytes]]:
    """Start a screen, or skip the test that wants one."""
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    if importlib.util.find_spec("_tkinter") is None:
        missing.append("tkinter (of the Python in .venv)")
    if missing:
        reason = f"missing here: {', '.join(missing)}; `{INSTALL}` enables this test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Left to choose a number, two servers that start at once can choose the same; a number that
    # is named is locked.
    for _ in range(5):
        number = random.randrange(100, 50_000)
        server = _serve(number)
        if server is not None:
            return Screen(f":{number}"), server
    pytest.fail("Xvfb does not start")


def _serve(number: int) -> subprocess.Popen[bytes] | None:
    """Start a server with this number and wait until it is ready; None if the number is taken."""
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb", f":{number}", "-displayfd", str(write), "-screen", "0", "1400x900x24",
            "-nolisten", "tcp", "-noreset",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as said:
        if said.readline().strip():
            return server
    server.wait()
    return None
