"""Record the pictures of the README from the real program: `make pictures`.

Runs the commands as a user types them and draws what they printed, nothing else, as SVG; the report
is photographed by a browser, the window on a screen of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
    save(screen, name)


def save(screen: Console, name: str) -> None:
    """Write what a console recorded."""
    svg = screen.export_svg(title=name, theme=MONOKAI, code_format=FRAME, unique_id=name)
    (HERE / f"{name}.svg").write_text(
        "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
    )


def record_monitor(width: int = 124, height: int = 30, seconds: float = 30) -> None:
    """Draw the live monitor of a private node while messages flow through it."""
    from rabbitproof.broker.management import Management
    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide
    from rabbitproof.broker.watch import Watch
    from rabbitproof.view.monitor import MonitorApp
    from rabbitproof.work.monitor import Monitor

    screen = Console(record=True, width=width, file=StringIO(), force_terminal=True)

    async def watch(app: MonitorApp) -> None:
        async with app.run_test(size=(width, height)) as pilot:
            await pilot.pause(seconds)
            screen.print(app.screen._compositor.render_update(full=True), end="")

    with (
        Node.start(provide(None, logging.info), username="guest", password="guest") as node,
        Management(node.management_url, "guest", "guest") as api,
    ):
        participants = [
            subprocess.Popen(
                [sys.executable, "-m", "rabbitproof", *command, "--url", node.url],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in (
                ["produce", "--count", "1000000", "--durable", "--rate", "400"],
                ["consume", "--name", "Worker-1"],
            )
        ]
        try:
            eyes = Monitor(Watch(api))
            asyncio.run(watch(MonitorApp(eyes.refresh, eyes.close_up)))
        finally:
            for participant in participants:
                participant.kill()
                participant.wait()
    save(screen, "monitor")


def record_report(width: int = 1080, height: int = 1450) -> None:
    """Photograph the report of a run in which the broker is killed, as a browser shows it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit("The picture of the report needs Chromium or Chrome; install one of them.")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "rabbitproof", "prove", "broker-kill", "--report", folder],
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=300,
        )
        page = Path(folder, "report.html")
        text = page.read_text("utf-8")
        # From the verdict straight to the curves, so that both fit into one picture.
        page.write_text(
            text.replace("</style>", "main section:not(:has(svg)) { display: none; }</style>"),
            "utf-8",
        )
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
                f"--screenshot={HERE / 'report.png'}", page.as_uri(),
            ],
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )  # fmt: skip


def record_window(width: int = 1220, height: int = 880) -> None:
    """Photograph the window, on a screen of its own, while somebody answers some messages."""
    for tool, package in (("Xvfb", "xvfb"), ("xdotool", "xdotool"), ("import", "imagemagick")):
        if shutil.which(tool) is None:
            sys.exit(
                f"The picture of the window needs {tool}; install it: apt-get install {package}"
            )
    from rabbitproof.broker.node import Node
    from rabbitproof.broker.releases import provide

    display = f":{100 + os.getpid() % 50_000}"
    read, write = os.pipe()
    screen = subprocess.Popen(
        [
            "Xvfb", display, "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24",
            "-nolisten", "tcp", "-noreset",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    environment = dict(os.environ, DISPLAY=display)
    with os.fdopen(read) as said:
        said.readline()  # it is ready

    def hands(*what: str) -> str:
        return subprocess.run(
            ["xdotool", *what],
            env=environment, check=True, capture_output=True, text=True, timeout=30,
        ).stdout  # fmt: skip

    with Node.start(provide(None, logging.info), username="guest", password="guest") as node:
        participants = [
            subprocess.Popen(
                [sys.executable, "-m", "rabbitproof", *command, "--url", node.url],
                env=environment,
                stdout=subprocess.DEVNULL,
            )
            for command in (
                [
                    "produce",
                    "--count",
                    "200",
                    "--durable",
                    "--rate",
                    "12",
                    "--producer-id",
                    "alice",
                ],
                ["window", "--ack", "hand"],
            )
        ]
        try:
            shown = hands(
                "search", "--sync", "--onlyvisible", "--name", r"work\.queue \(200\)"
            ).split()[0]
            hands(
                "windowfocus", "--sync", shown, "key", "End", "shift+Up", "shift+Up", "a",
                "Up", "Up", "r", "Up", "Up", "x", "Up", "shift+Up",
            )  # fmt: skip
            hands("search", "--sync", "--onlyvisible", "--name", r"work\.queue \(201\)")
            hands("key", "End", *["Up"] * 8, "shift+Up")
            time.sleep(1)  # until the counters, four times a second, have followed
            subprocess.run(
                [
                    "import", "-window", shown, "-strip", "+dither", "-colors", "255",
                    f"PNG8:{HERE / 'window.png'}",
                ],
                env=environment, check=True, timeout=60,
            )  # fmt: skip
        finally:
            for participant in participants:
                participant.kill()
                participant.wait()
            screen.terminate()
            screen.wait()


if __name__ == "__main__":
    record_report()
    record_window()
    record_monitor()
    for picture, commands in PICTURES.items():
        record(picture, commands)
