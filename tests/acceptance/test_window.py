"""The window as a person uses it: a real screen, real keys and clicks, a real broker.

And what its command says where no window can be.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest

from support import drive, eventually, producer, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fetched import Tools
    from screen import Screen

WORK = topology(audit=None)
MAPPED = str(Path(__file__).with_name("mapped_window.py"))


@contextmanager
def opened(shell: Any, screen: Screen, *arguments: str, at: Path | None = None) -> Iterator[Any]:
    """Start a command with the screen for its window; ``at`` is its working directory."""
    there = replace(shell, environment=screen.variables(shell.environment))
    process = there.start(*arguments, prepare=None if at is None else lambda: os.chdir(at))
    try:
        yield process
    finally:
        process.kill()
        print(*process.communicate())  # shown when the test fails


def ended(process: Any) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def saved(path: Path) -> list[dict[str, Any]]:
    """Wait for a file of messages; it gets its name when it is complete."""
    eventually(path.exists, "the file is there")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_by_hand_a_person_decides_with_keys(
    shell: Any, vhost: Any, screen: Screen, tmp_path: Path
) -> None:
    """Ack, reject and requeue what is selected, and save it; closing returns the rest."""
    drive(producer(vhost.url, 10, topology=WORK))
    command = ("window", "--ack", "hand", "--name", "By-hand", "--prefetch", "10")
    with opened(shell, screen, *command, at=tmp_path) as window:
        shown = screen.wait_for(r"By-hand: work\.queue \(10\)")
        screen.press(shown, "End", "shift+Up", "shift+Up", "a")  # 10, 9, 8
        screen.press(shown, "Home", "x")  # 1
        screen.press(shown, "Home", "Down", "r")  # 2 comes again, as 11
        screen.wait_for(r"By-hand: work\.queue \(11\)")
        screen.press(shown, "ctrl+a", "ctrl+s")
        screen.press(screen.wait_for("Save 11 messages"), "Return")
        lines = saved(tmp_path / "messages.jsonl")
        screen.press(shown, "ctrl+q")
        code, _, err = ended(window)
    assert [line["state"] for line in lines] == [
        "rejected", "requeued", *["unacked"] * 5, *["acked"] * 3, "unacked",
    ]  # fmt: skip
    assert json.loads(lines[4]["body"])["n"] == 5
    assert lines[4]["headers"]["producer_id"]
    assert json.loads(lines[10]["body"])["n"] == 2
    assert lines[10]["redelivered"] is True
    assert code == 0, err
    assert "6 were not acknowledged; they are back in the queue" in err
    assert ready(vhost.url, "work.queue") == 6


def test_by_hand_a_person_decides_with_clicks(
    shell: Any, vhost: Any, screen: Screen, tmp_path: Path
) -> None:
    """A click on a row selects it, and a click on a button answers it."""
    drive(producer(vhost.url, 5, topology=WORK))
    where = tmp_path / "map.json"
    command = (MAPPED, str(where), "5", "--ack", "hand", "--name", "Clicked")
    with opened(shell, screen, *command, at=tmp_path) as window:
        screen.wait_for(r"Clicked: work\.queue \(5\)")
        eventually(where.exists, "the map is drawn")
        places = json.loads(where.read_text("utf-8"))
        x, y = places["row"]
        screen.click(x, y + 2 * places["row height"])
        screen.click(*places["ack"])
        screen.click(x, y + 1 * places["row height"])
        screen.click(*places["reject"])
        screen.click(x, y)
        screen.click(*places["requeue"])
        shown = screen.wait_for(r"Clicked: work\.queue \(6\)")
        screen.click(*places["all"])
        screen.press(screen.wait_for("Save 6 messages"), "Return")
        lines = saved(tmp_path / "messages.jsonl")
        screen.press(shown, "ctrl+q")
        code, _, err = ended(window)
    assert [line["state"] for line in lines] == [
        "requeued", "rejected", "acked", *["unacked"] * 3,
    ]  # fmt: skip
    assert code == 0, err
    assert ready(vhost.url, "work.queue") == 3


@pytest.mark.slow
def test_paused_the_prefetch_fills_and_the_rest_stays(
    shell: Any, vhost: Any, screen: Screen
) -> None:
    """P stops taking messages, P again goes on; a terminated window says what came."""
    with opened(shell, screen, "window", "--name", "Paused", "--prefetch", "20") as window:
        shown = screen.wait_for(r"Paused: work\.queue \(0\)")
        screen.press(shown, "p")
        drive(producer(vhost.url, 100, topology=WORK))
        eventually(lambda: ready(vhost.url, "work.queue") == 80, "the prefetch is full")
        # It stays so, for as long as it takes a slow producer to send ten more.
        drive(producer(vhost.url, 10, topology=WORK, rate=10))
        assert ready(vhost.url, "work.queue") == 90
        assert screen.windows(r"Paused: work\.queue \(0\)")
        screen.press(shown, "p")
        screen.wait_for(r"Paused: work\.queue \(110\)")
        assert ready(vhost.url, "work.queue") == 0
        window.terminate()
        code, out, err = ended(window)
    assert code == 143, err
    assert "unique=110" in out


@pytest.mark.slow
def test_no_message_and_no_name_breaks_it(shell: Any, vhost: Any, screen: Screen) -> None:
    """Odd bodies, properties and names are shown, one after the other."""
    queue = "odd/ %\x1b[31m \u202e{[$"
    bodies = [
        b"", b"\x00\x01", os.urandom(5000), b"\x1b[2J\x1b]0;x\x07", "a\u202eb🐇".encode(),
        b"[" * 100_000 + b"]" * 100_000, b"x" * 10_000_000, b'{"a": [1, {"b": null}]}',
        b"\xff" * 10_000_000, b"{bad $json [exit] \\",
    ]  # fmt: skip
    deep: dict[str, Any] = {"l": [1, {"m": "\x1b"}]}
    with witness(vhost.url) as channel:
        channel.queue_declare(queue, durable=True)
        for i, body in enumerate(bodies):
            headers = {f"h{k}": deep if k % 2 else "v\x00\u202e" for k in range(200 * (i % 2))}
            properties = pika.BasicProperties(headers=headers, message_id="\x1b[2J {x} $y")
            channel.basic_publish("", queue, body, properties)
    command = ("window", "--queue", queue, "--name=-odd", "--theme", "dark")
    with opened(shell, screen, *command) as window:
        shown = screen.wait_for(r"odd: odd.*\(10\)")
        eventually(lambda: ready(vhost.url, queue) == 0, "all are taken")
        screen.press(shown, "Home", *["Down"] * len(bodies), *["Up"] * len(bodies))
        screen.press(shown, "ctrl+f")
        screen.do("type", "is:foreign h1")
        screen.press(shown, "Escape", "ctrl+t", "ctrl+plus", "ctrl+plus", "ctrl+a", "ctrl+l")
        screen.press(shown, "ctrl+q")
        code, out, err = ended(window)
    assert code == 0, err
    assert f"foreign={len(bodies)}" in out


@pytest.mark.slow
def test_without_a_broker_there_is_no_window(shell: Any, screen: Screen) -> None:
    """Exit 3 before anything is shown."""
    with opened(shell, screen, "window", "--url", "amqp://127.0.0.1:1") as window:
        code, out, err = ended(window)
    assert (code, out) == (3, "")
    assert err.startswith("rabbitproof: No RabbitMQ answers at 127.0.0.1:1")


def test_without_a_display_it_says_so_in_one_sentence(shell: Any, tools: Tools) -> None:
    """Exit 3, and what else could be done."""
    environment = tools.with_tk(shell.environment)
    environment.pop("DISPLAY", None)
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
