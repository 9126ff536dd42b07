"""The bar on a terminal that is a string."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from rabbitproof.model import Advanced
from rabbitproof.view import bar as module
from rabbitproof.view.bar import Bar

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest sets standard error anew when a test begins."""
    monkeypatch.setattr(module, "_REDRAW_S", 0.0)
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return screen


def test_a_bar_shows_count_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with Bar("[x]") as bar:
        assert bar.visible
        bar.advance(Advanced(500, 1000, mark=False))
        assert "500/1,000" in screen.getvalue()


def test_a_bar_begins_anew_for_the_next_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was full is gone, and the time left is that of the new phase."""
    screen = terminal(monkeypatch)
    with Bar("[x]") as bar:
        bar.advance(Advanced(1000, 1000, mark=False))
        bar.clear()
        cleared = len(screen.getvalue())
        bar.advance(Advanced(1, 700, mark=False))
        shown = screen.getvalue()[cleared:]
        assert "1/700" in shown
        assert "1,000" not in shown
        assert bar._progress is not None
        (task,) = bar._progress.tasks
        assert not task.finished


def test_without_a_terminal_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := io.StringIO())
    with Bar("[x]") as bar:
        assert not bar.visible
        bar.advance(Advanced(500, 1000, mark=False))
        bar.clear()
    assert screen.getvalue() == ""
