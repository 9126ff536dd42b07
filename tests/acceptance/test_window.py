"""What the window's command says where no window can be."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_display_it_says_so_in_one_sentence(shell: Any) -> None:
    """Exit 3, and what else could be done."""
    pytest.importorskip("tkinter")
    environment = {k: v for k, v in shell.environment.items() if k != "DISPLAY"}
    done = replace(shell, environment=environment).run("src/consumer_gui.py")
    assert done.returncode == 3
    assert done.stdout == ""
    assert re.fullmatch(
        r"rabbitproof: A window needs a display and there is none here .*\n", done.stderr
    )
    assert "rabbitproof consume" in done.stderr


def test_without_tkinter_it_names_what_installs_it(shell: Any, tmp_path: Path) -> None:
    """Exit 3, one sentence that ends in the fix."""
    stand_in = tmp_path / "tkinter"
    stand_in.mkdir()
    (stand_in / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named '_tkinter'\", name='_tkinter')\n"
    )
    path = f"{tmp_path}{os.pathsep}{shell.environment['PYTHONPATH']}"
    done = replace(shell, environment=shell.environment | {"PYTHONPATH": path}).run("window")
    assert done.returncode == 3
    assert re.fullmatch(
        r"rabbitproof: A window needs tkinter and this Python has none; .*install.*\n", done.stderr
    )
