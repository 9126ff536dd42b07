"""Ledgers on disk: killed with -9 at any moment, finished with --resume, judged by verify."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from files import read_all
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.proof.record import Record, read
from support import consumer, drive, ready, witness

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TIMES = [pytest.param(2, id="few"), pytest.param(12, id="many", marks=pytest.mark.slow)]


def kill_when_it_has_written(
    process: subprocess.Popen[str], folder: Path, pattern: str, size: int
) -> Record:
    """Kill with -9 as soon as the ledger has grown by ``size`` bytes behind its header."""
    deadline = time.monotonic() + 20
    header = 0
    while process.poll() is None:
        assert time.monotonic() < deadline, f"no ledger of {size} bytes in 20 s"
        for path in folder.glob(pattern):
            header = header or path.stat().st_size
            if path.stat().st_size > header + size:
                process.send_signal(signal.SIGKILL)
                process.wait()
    assert process.returncode == -signal.SIGKILL, process.communicate()
    process.communicate()
    (path,) = folder.glob(pattern)
    return read(path)


def arrived(url: str, queue: str) -> Any:
    """What is in a queue, read until nothing more comes and nothing is there."""
    found = QueueReceipts()
    while True:
        reading = consumer(url, queue, idle_timeout=0.3)
        drive(reading)
        found.unite([reading.receipts])
        if not ready(url, queue):  # a broker with much to do may have paused for longer
            return found


@pytest.mark.parametrize("times", TIMES)
def test_a_producer_killed_at_any_moment_has_written_down_what_it_sent(
    shell: Any, vhost: Any, tmp_path: Path, times: int
) -> None:
    """What arrived was intended, what was confirmed arrived; --resume finishes it, nothing lost."""
    generator = random.Random(times)
    for number in range(times):
        folder = tmp_path / str(number)
        sending = shell.start(
            "produce", "--count", "8000", "--durable", "--purge", "--ledger", str(folder),
            "--rate", "10000",  # so that it is killed before it is done
        )  # fmt: skip
        at = kill_when_it_has_written(sending, folder, "*.ledger", generator.randrange(600))
        assert at.outcomes is not None
        assert not at.ended
        receipts = arrived(vhost.url, "audit.queue")
        seen = receipts.of(at.outcomes.source).seen
        assert not seen - at.outcomes.attempted, "sent, and not written down before"
        assert not at.outcomes.confirmed - seen, "confirmed, and not there"
        done = shell.run("produce", "--resume", str(folder))
        assert done.returncode == 0, done.stderr
        assert "purged" not in done.stderr
        (after,) = read_all(folder)
        assert after.ended
        assert after.outcomes is not None
        assert set(after.outcomes.confirmed) == set(range(1, 8_001))
        again = at.outcomes.attempted - at.outcomes.confirmed
        assert after.outcomes.resent == again, "only what was not confirmed is sent again"
        receipts = arrived(vhost.url, "work.queue")
        mine = receipts.of(after.outcomes.source)
        assert set(mine.seen) == set(range(1, 8_001))
        assert mine.fresh.extra() == mine.fresh.extra(after.outcomes.resent)
        assert receipts.foreign == 0


@pytest.mark.parametrize("times", TIMES)
def test_a_consumer_killed_at_any_moment_has_written_down_what_it_acknowledged(
    shell: Any, vhost: Any, tmp_path: Path, times: int
) -> None:
    """All ledgers together have every message; what comes twice is marked as redelivered."""
    count = 6_000 * times
    sent = shell.run("produce", "--count", str(count), "--durable", "--audit-queue", "",
                     "--ledger", str(tmp_path))  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    generator = random.Random(times)
    for number in range(times):
        taking = shell.start("consume", "--name", f"k{number}", "--prefetch", "200",
                             "--ledger", str(tmp_path))  # fmt: skip
        at = kill_when_it_has_written(
            taking, tmp_path, f"consumer-k{number}-*.ledger", generator.randrange(1500)
        )
        assert not at.ended
    last = shell.run("consume", "--name", "last", "--idle-timeout", "1", "--ledger", str(tmp_path))
    assert last.returncode == 0, last.stderr
    verdict = shell.run("verify", str(tmp_path), "--json")
    found = json.loads(verdict.stdout)
    assert verdict.returncode == 0, found
    queue = found["queues"]["work.queue"]
    assert (found["confirmed"], queue["unique"], queue["lost"]) == (count, count, 0)
    assert queue["duplicates_unflagged"] == 0


def test_a_message_taken_behind_our_back_is_found_by_its_number(
    shell: Any, vhost: Any, tmp_path: Path
) -> None:
    """Somebody takes the 701st message out of the queue: FAIL, with its id, and the same again."""
    sent = shell.run("produce", "--count", "2000", "--durable", "--ledger", str(tmp_path / "a"))
    assert sent.returncode == 0, sent.stderr
    with witness(vhost.url) as channel:
        for _ in range(701):
            method, _, _ = channel.basic_get("work.queue")
        channel.basic_ack(method.delivery_tag)
    took = shell.run("consume", "--idle-timeout", "0.5", "--ledger", str(tmp_path / "b"))
    assert took.returncode == 0, took.stderr
    one = shell.run("verify", str(tmp_path / "a"), str(tmp_path / "b"), "--json")
    verdict = json.loads(one.stdout)
    assert (one.returncode, verdict["verdict"]) == (1, "FAIL")
    queue = verdict["queues"]["work.queue"]
    assert queue["lost"] == 1
    assert [int(text[-12:], 16) for text in queue["lost_ids"]] == [701]
    assert "or taken by a consumer that kept no ledger" in verdict["reasons"][0]
    words = shell.run("verify", str(tmp_path / "b"), str(tmp_path / "a"))
    assert words.returncode == 1
    assert "FAIL" in words.stdout
    assert queue["lost_ids"][0] in words.stdout


def test_a_consumer_stopped_with_ctrl_c_proves_that_the_queue_was_empty(
    shell: Any, vhost: Any, tmp_path: Path
) -> None:
    """It acknowledges what it recorded, counts what is left, and that ends its ledger."""
    shell.run("produce", "--count", "3000", "--durable", "--ledger", str(tmp_path))
    with witness(vhost.url) as channel:
        channel.basic_get("work.queue", auto_ack=True)
    taking = shell.start("consume", "--progress-every", "2999", "--ledger", str(tmp_path))
    for line in taking.stderr:
        if "consumed 2999" in line:
            break
    taking.send_signal(signal.SIGINT)
    out, err = taking.communicate(timeout=20)
    assert taking.returncode == 130, err
    assert "consumed=2999" in out
    (record,) = [one for one in read_all(tmp_path) if one.receipts is not None]
    assert record.end is not None, (record.events, err)
    assert record.end.counts == {"work.queue": 0}
    assert ready(vhost.url, "work.queue") == 0
    verdict = json.loads(shell.run("verify", str(tmp_path), "--json").stdout)
    assert verdict["verdict"] == "FAIL"
    assert verdict["queues"]["work.queue"]["lost"] == 1


def test_a_full_disk_ends_the_run_and_nothing_is_acknowledged_that_was_not_recorded(
    shell: Any, vhost: Any, tmp_path: Path
) -> None:
    """Exit 4 with a sentence. A file may have 8 kB here, as if the disk had no more."""
    import resource

    shell.run("produce", "--count", "30000", "--durable", "--audit-queue", "", "--ledger",
              str(tmp_path))  # fmt: skip

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = shell.run("consume", "--name", "full", "--prefetch", "100", "--ledger", str(tmp_path),
                     prepare=small)  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "can't be written" in done.stderr
    (record,) = [one for one in read_all(tmp_path) if one.receipts is not None]
    assert record.receipts is not None
    assert record.torn
    left = ready(vhost.url, "work.queue")
    assert record.receipts.unique + left >= 30_000, "acknowledged, and not recorded"
    last = shell.run("consume", "--idle-timeout", "0.5", "--ledger", str(tmp_path))
    assert last.returncode == 0, last.stderr
    verdict = json.loads(shell.run("verify", str(tmp_path), "--json").stdout)
    assert (verdict["verdict"], verdict["queues"]["work.queue"]["unique"]) == ("PASS", 30_000)


def test_resume_has_nothing_to_do_refuses_two_and_refuses_a_living_writer(
    shell: Any, vhost: Any, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    sent = shell.run("produce", "--count", "10", "--durable", "--ledger", str(one))
    assert sent.returncode == 0, sent.stderr
    done = shell.run("produce", "--resume", str(one))
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to do" in done.stderr
    slow = ["produce", "--count", "1000", "--rate", "5", "--durable", "--ledger", str(two)]
    first = shell.start(*slow)
    try:
        wait_for_ledgers(two, 1)
        refused = shell.run("produce", "--resume", str(two))
        assert refused.returncode == 2
        assert f"still runs as process {first.pid}" in refused.stderr
        second = shell.start(*slow)
        try:
            wait_for_ledgers(two, 2)
        finally:
            second.kill()
            second.communicate()
    finally:
        first.kill()
        first.communicate()
    refused = shell.run("produce", "--resume", str(two))
    assert refused.returncode == 2
    assert "2 producers' ledgers" in refused.stderr
    typed = shell.run("produce", "--resume", str(two), "--count", "7")
    assert typed.returncode == 2
    assert "leave out --count" in typed.stderr
    several = shell.run("verify", str(two))
    assert several.returncode == 2
    assert "Choose one with --run" in several.stderr


def wait_for_ledgers(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    # Not empty: a writer that is killed between making its file and writing into it left nothing.
    while sum(path.stat().st_size > 0 for path in folder.glob("*.ledger")) < count:
        assert time.monotonic() < deadline
        os.sched_yield()
