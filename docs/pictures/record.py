"""Record the pictures of the README from the real program: `make pictures`.

Runs the commands as a user types them and draws what they printed, nothing else, as SVG.
"""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 108
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"
  xml:space="preserve">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""

PICTURES = {"demo": [["prove"]]}
"""Name of the picture -> the commands of rabbitproof in it."""


def record(name: str, commands: list[list[str]]) -> None:
    """Run the commands and draw them with their output."""
    screen = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    environment = dict(os.environ, FORCE_COLOR="1", COLUMNS=str(WIDTH))
    for command in commands:
        screen.print(Text(f"$ rabbitproof {' '.join(command)}", style="bold"))
        done = subprocess.run(
            [sys.executable, "-m", "rabbitproof", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            timeout=300,
        )
        screen.print(Text.from_ansi(done.stdout))
    svg = screen.export_svg(title=name, theme=MONOKAI, code_format=FRAME, unique_id=name)
    (HERE / f"{name}.svg").write_text(
        "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    for picture, commands in PICTURES.items():
        record(picture, commands)
