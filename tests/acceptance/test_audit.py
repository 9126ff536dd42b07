"""The audit trail as a person types it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from support import drive, producer, ready, topology

if TYPE_CHECKING:
    from pathlib import Path


def test_tail_export_and_replay_of_a_queue(shell: Any, vhost: Any, tmp_path: Path) -> None:
    """Looked at, kept, cut, refused, and sent elsewhere; the queue has all of it all the time."""
    drive(producer(vhost.url, 300))
    shown = shell.run("audit", "tail", "--limit", "3")
    assert [re.findall(r"n=(\d+)", line) for line in shown.stdout.splitlines()] == [
        ["1"],
        ["2"],
        ["3"],
    ]
    assert "can't be read without taking" in shown.stderr
    assert shell.run("audit", "tail", "--from", "5").returncode == 2
    file = tmp_path / "trail.jsonl.zst"
    kept = shell.run("audit", "export", str(file))
    assert kept.stdout.startswith("[audit] done. exported=300, bytes=")
    there = shell.run("audit", "export", str(file))
    assert (there.returncode, "is cut" in there.stderr) == (2, False)
    assert ready(vhost.url, "audit.queue") == 300
    dry = shell.run("audit", "replay", str(file), "--dry-run")
    assert "300 to exchange 'direct.exchange' with key 'work'" in dry.stderr
    assert "300 into 'work.queue'" in dry.stderr
    assert "300 into 'audit.queue'" in dry.stderr
    lost = shell.run("audit", "replay", str(file), "--dry-run", "--to-queue", "none")
    assert (lost.returncode, "300 would come back: no queue" in lost.stderr) == (1, True)
    unasked = shell.run("audit", "replay", str(file))
    assert unasked.returncode == 2
    to_work = ("--to-queue", "work.queue", "--speed", "max", "--yes")
    sent = shell.run("audit", "replay", str(file), *to_work)
    assert "confirmed=300, returned=0, nacked=0" in sent.stdout
    assert ready(vhost.url, "work.queue") == 600
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    cut = shell.run("audit", "replay", str(file), *to_work)
    assert cut.returncode == 1
    assert "is not whole" in cut.stderr
    assert ready(vhost.url, "work.queue") == 600
    nowhere = shell.run("audit", "tail", "--queue", "none")
    assert nowhere.returncode == 3


def test_a_streams_range_is_replayed(shell: Any, vhost: Any) -> None:
    """From an offset, so many, into another queue; marked."""
    drive(producer(vhost.url, 100, topology=topology(audit="trail", kind="stream")))
    drive(producer(vhost.url, 1, topology=topology("debug", None)))
    stream = ("--queue", "trail", "--from", "40")
    tail = shell.run("audit", "tail", *stream, "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["offset"] for line in tail] == [40, 41]
    sent = shell.run(
        "audit",
        "replay",
        *stream,
        "--limit",
        "10",
        "--to-queue",
        "debug",
        "--yes",
        "--speed",
        "max",
    )
    assert "confirmed=10" in sent.stdout
    assert ready(vhost.url, "debug") == 11


@pytest.mark.slow
def test_check_compares_the_two_queues_of_a_run(shell: Any, vhost: Any, tmp_path: Path) -> None:
    """Both read: PASS. One not read: nothing is claimed. One that lost some: FAIL, with ids."""
    ledgers = str(tmp_path)
    assert shell.run("produce", "--count", "200", "--durable", "--ledger", ledgers).returncode == 0
    shell.run("consume", "--expect", "200", "--ledger", ledgers)
    unread = shell.run("audit", "check", ledgers)
    assert unread.returncode == 4, unread.stdout
    read = ("consume", "--queue", "audit.queue", "--name", "Auditor", "--ledger", ledgers)
    shell.run(*read, "--expect", "200")
    whole = shell.run("audit", "check", ledgers)
    assert (whole.returncode, whole.stdout.splitlines()) == (
        0,
        [
            "PASS: confirmed=200",
            "  work work.queue: seen=200, lacks=0",
            "  audit audit.queue: seen=200, lacks=0",
        ],
    )
