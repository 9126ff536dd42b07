"""Cleaning up as a person types it: the command and the script."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import drive, producer, ready, witness

SCRIPT = Path(__file__).parents[2] / "scripts" / "cleanup_queues.sh"


def script(shell: Any, *arguments: str, typed: str = "") -> Any:
    return subprocess.run(
        [SCRIPT, *arguments],
        env=shell.environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_script_shows_asks_and_deletes(shell: Any, vhost: Any) -> None:
    """Without an answer and with a no, nothing goes; with a yes, each thing gets its line."""
    drive(producer(vhost.url, 50))
    unasked = script(shell, "work.queue")
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    declined = script(shell, "work.queue", typed="n\n")
    assert declined.returncode == 1
    assert "1 queue with 50 messages" in declined.stderr
    assert declined.stderr.endswith("[y/N] \nrabbitproof: nothing was deleted.\n")
    assert ready(vhost.url, "work.queue") == 50
    done = script(shell, "work.queue", "nothing", typed="y\n")
    assert done.stdout.splitlines() == ["[OK] Deleted: work.queue", "[FAIL] Not found: nothing"]
    assert done.returncode == 1


def test_all_with_a_dry_run_and_without(shell: Any, vhost: Any) -> None:
    """A dry run deletes nothing; --yes asks nothing on this machine."""
    drive(producer(vhost.url, 3))
    dry = shell.run("cleanup", "all", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "would delete" in dry.stderr
    assert "2 queues with 6 messages and 1 exchange" in dry.stderr
    assert ready(vhost.url, "work.queue") == 3
    done = shell.run("cleanup", "all", "--yes")
    assert (done.returncode, sorted(done.stdout.splitlines())) == (
        0,
        [
            "[OK] Deleted: audit.queue",
            "[OK] Deleted: direct.exchange",
            "[OK] Deleted: work.queue",
        ],
    )
    again = shell.run("cleanup", "all", "--yes")
    assert again.returncode == 0
    assert "nothing to delete" in again.stderr


def test_a_blank_at_the_end_of_a_name_is_seen_and_offered(shell: Any, vhost: Any) -> None:
    with witness(vhost.url) as channel:
        channel.queue_declare("w.queue ", durable=True)
    missed = shell.run("cleanup", "w.queue", "--dry-run")
    assert missed.returncode == 1
    assert "not found: w.queue" in missed.stderr
    assert "queue 'w.queue ': 0 messages" in shell.run("cleanup", "all", "--dry-run").stderr
    read = shell.run("audit", "tail", "--queue", "w.queue")
    assert read.returncode == 3
    assert "There is no queue 'w.queue' in vhost" in read.stderr
    assert "is it 'w.queue '?" in read.stderr


def test_names_that_look_like_flags(shell: Any, vhost: Any) -> None:
    """Behind two dashes, or behind --queue=, a name is a name."""
    with witness(vhost.url) as channel:
        for name in ("--yes", "all", "-x"):
            channel.queue_declare(name, durable=True)
    done = shell.run("cleanup", "--yes", "--queue=all", "--", "--yes", "-x")
    assert sorted(done.stdout.splitlines()) == [
        "[OK] Deleted: --yes",
        "[OK] Deleted: -x",
        "[OK] Deleted: all",
    ]
    assert done.returncode == 0


@pytest.mark.parametrize("typed", ["wrong\n", ""])
def test_all_elsewhere_wants_the_vhost_typed(shell: Any, vhost: Any, node: Any, typed: str) -> None:
    """--yes does not open the way to a broker that has another name than this machine."""
    drive(producer(vhost.url, 1))
    # An address of this machine that does not look like it: 0.0.0.0 leads to the loopback.
    elsewhere = node.management_url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 - not listened on
    refused = script(shell, "all", "--yes", "--management-url", elsewhere, typed=typed)
    assert refused.returncode in {1, 2}
    assert "Type the vhost's name" in refused.stderr
    assert ready(vhost.url, "work.queue") == 1
    done = script(shell, "all", "--yes", "--management-url", elsewhere, typed=f"{vhost.name}\n")
    assert done.returncode == 0, done.stderr
