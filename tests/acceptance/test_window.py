"""The window as a person uses it: a real screen, real keys and clicks, a real broker."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support import drive, eventually, producer, ready, topology, witness

if TYPE_CHECKING:
    from pathlib import Path

    from screen import Screen

WORK = topology(audit=None)


def ended(process: Any) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def rows(url: str) -> int:
    return ready(url, "work.queue")


def test_messages_are_acknowledged_once_they_are_shown(
    shell: Any, vhost: Any, screen: Screen
) -> None:
    """The demo's own command takes all messages, and closing it says what came."""
    drive(producer(vhost.url, 2000, topology=WORK))
    shell = replace(shell, environment=shell.environment | {"DISPLAY": screen.display})
    window = shell.start("src/consumer_gui.py", "--queue", "work.queue", "--name", "Window-1")
    try:
        screen.wait_for(r"Window-1: work\.queue \(2,000\)")
        eventually(lambda: rows(vhost.url) == 0, "all are taken")
        screen.do("key", "ctrl+q")
        code, out, err = ended(window)
    finally:
        window.kill()
    assert code == 0, err
    done, books = out.splitlines()
    assert re.fullmatch(r"\[Window-1\] done\. consumed=2000, time=\d+\.\d\ds", done)
    assert books.startswith("[Window-1] unique=2000, redelivered=0, duplicates=0, missing=0,")
    assert err == ""


def test_by_hand_a_person_decides_with_keys_and_clicks(
    shell: Any, vhost: Any, screen: Screen, tmp_path: Path
) -> None:
    """Ack, reject and requeue what is selected, save it, pause; closing returns the rest."""
    drive(producer(vhost.url, 10, topology=WORK))
    shell = replace(shell, environment=shell.environment | {"DISPLAY": screen.display})
    window = shell.start("window", "--ack", "hand", "--name", "By-hand", "--prefetch", "10")
    try:
        screen.wait_for(r"By-hand: work\.queue \(10\)")
        # The newest and the two before it, by keys; each answer makes room for nothing more.
        screen.do("key", "End", "shift+Up", "shift+Up", "a")
        # The oldest one, by a click on its row, and its answer by a click on a button.
        screen.do("key", "Home", "x")
        saved = tmp_path / "saved.jsonl"
        screen.do("key", "ctrl+a", "ctrl+s")
        screen.wait_for("Save 10 messages")
        screen.do("key", "ctrl+slash")
        screen.do("type", str(saved))
        screen.do("key", "Return")
        eventually(saved.exists, "the file is there")
        lines = [json.loads(line) for line in saved.read_text("utf-8").splitlines()]
        assert [line["state"] for line in lines] == [
            "rejected", *["unacked"] * 6, *["acked"] * 3,
        ]  # fmt: skip
        assert json.loads(lines[4]["body"])["n"] == 5
        assert lines[4]["headers"]["producer_id"]
        screen.do("key", "ctrl+q")
        code, _, err = ended(window)
    finally:
        window.kill()
    assert code == 0, err
    assert "6 were not acknowledged; they are back in the queue" in err
    assert rows(vhost.url) == 6


def test_paused_the_prefetch_fills_and_the_rest_stays(
    shell: Any, vhost: Any, screen: Screen
) -> None:
    """P stops taking messages, P again goes on."""
    shell = replace(shell, environment=shell.environment | {"DISPLAY": screen.display})
    window = shell.start("window", "--name", "Paused", "--prefetch", "20")
    try:
        screen.wait_for(r"Paused: work\.queue \(0\)")
        screen.do("key", "p")
        drive(producer(vhost.url, 100, topology=WORK))
        eventually(lambda: rows(vhost.url) == 80, "the prefetch is full")
        screen.do("key", "p")
        eventually(lambda: rows(vhost.url) == 0, "it goes on")
        window.terminate()
        code, out, err = ended(window)
    finally:
        window.kill()
    assert code == 143, err
    assert "unique=100" in out


@pytest.mark.slow
def test_no_message_and_no_name_breaks_it(shell: Any, vhost: Any, screen: Screen) -> None:
    """Odd bodies, properties and names are shown, one after the other."""
    queue = "odd/ %\x1b[31m \u202e{[$"
    bodies = [
        b"", b"\x00\x01", os.urandom(5000), b"\x1b[2J\x1b]0;x\x07", "a\u202eb🐇".encode(),
        b"[" * 100_000 + b"]" * 100_000, b"x" * 10_000_000, b'{"a": [1, {"b": null}]}',
        b"\xff" * 10_000_000, b"{bad $json [exit] \\",
    ]  # fmt: skip
    with witness(vhost.url) as channel:
        import pika

        channel.queue_declare(queue, durable=True)
        for i, body in enumerate(bodies):
            deep: dict[str, Any] = {"l": [1, {"m": "\x1b"}]}
            headers = {f"h{k}": deep if k % 2 else "v\x00\u202e" for k in range(200 * (i % 2))}
            properties = pika.BasicProperties(headers=headers, message_id="\x1b[2J {x} $y")
            channel.basic_publish("", queue, body, properties)
    shell = replace(shell, environment=shell.environment | {"DISPLAY": screen.display})
    window = shell.start("window", "--queue", queue, "--name=-odd", "--theme", "dark")
    try:
        screen.wait_for(r"odd: odd.*\(10\)")
        eventually(lambda: ready(vhost.url, queue) == 0, "all are taken")
        screen.do("key", "Home", *["Down"] * len(bodies), *["Up"] * len(bodies))
        screen.do("key", "ctrl+f")
        screen.do("type", "is:foreign h1")
        screen.do("key", "Escape", "ctrl+t", "ctrl+plus", "ctrl+plus", "ctrl+a", "ctrl+l")
        screen.do("key", "ctrl+q")
        code, out, err = ended(window)
    finally:
        window.kill()
    assert code == 0, err
    assert f"foreign={len(bodies)}" in out


def test_without_a_display_it_says_so_in_one_sentence(shell: Any, screen: Screen) -> None:
    """Exit 3, and what else could be done."""
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


def test_without_a_broker_there_is_no_window(shell: Any, screen: Screen) -> None:
    """Exit 3 before anything is shown."""
    shell = replace(shell, environment=shell.environment | {"DISPLAY": screen.display})
    done = shell.run("window", "--url", "amqp://127.0.0.1:1")
    assert done.returncode == 3
    assert done.stderr.startswith("rabbitproof: No RabbitMQ answers at 127.0.0.1:1")
