"""Producer and consumer as a person types them; the described lines are in `test_seed.py`."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker.install import version_key
from rabbitproof.broker.node import Node
from support import eventually, ready

if TYPE_CHECKING:
    from rabbitproof.broker.install import Installation


@pytest.mark.slow
def test_two_consumers_side_by_side_account_for_everything(shell: Any) -> None:
    """Two workers on 60,000 messages share them without loss or duplicate."""
    consumers = []
    # On a busy machine the producer, or the other consumer, needs seconds to start. The first to
    # come is the first to go: each then sees the other once, which makes its gaps meaningless.
    for name, idle in (("A", "10"), ("B", "13")):
        one = shell.start("src/consumer.py", "--name", name, "--idle-timeout", idle, "--json")
        consumers.append(one)
        for line in one.stderr:
            if "waiting for messages" in line:
                break
    sent = shell.run("src/producer.py", "--count", "60000", "--durable", "--audit-queue", "")
    assert sent.returncode == 0
    ends = [json.loads(one.communicate(timeout=60)[0]) for one in consumers]
    assert sum(end["unique"] for end in ends) == 60_000
    assert all(end["unique"] > 0 for end in ends)
    assert [end["duplicates"] for end in ends] == [0, 0]
    assert [end["missing"] for end in ends] == [None, None]


def test_json_is_one_object_on_standard_output(shell: Any) -> None:
    """Programs read the same figures as people."""
    sent = shell.run("produce", "--count", "50", "--durable", "--json")
    assert json.loads(sent.stdout)["published"] == 50
    got = shell.run("consume", "--expect", "50", "--json")
    assert json.loads(got.stdout)["consumed"] == 50


LATENCY = r"latency ms: p50=[\d,.]+ p90=[\d,.]+ p99=[\d,.]+ p99\.9=[\d,.]+ max=[\d,.]+ \("


def test_a_paced_producer_and_a_live_consumer_tell_their_latency(shell: Any) -> None:
    """One note each on standard error; standard output keeps its closing lines."""
    waiting = shell.start("consume", "--name", "W", "--idle-timeout", "3")
    for line in waiting.stderr:
        if "waiting for messages" in line:
            break
    sent = shell.run("produce", "--count", "300", "--rate", "1000", "--durable")
    assert (sent.returncode, len(sent.stdout.splitlines())) == (0, 2)
    assert re.match(r"\[producer\] confirm " + LATENCY, sent.stderr.splitlines()[-1])
    out, err = waiting.communicate(timeout=60)
    assert "consumed=300" in out
    assert len(out.splitlines()) == 3
    assert re.match(r"\[W\] end-to-end " + LATENCY, err.splitlines()[-1])


def test_latency_is_not_told_where_it_says_little(shell: Any) -> None:
    """Without a rate, and of what lay in the queue before; programs get it all the same."""
    sent = shell.run("produce", "--count", "300", "--durable")
    got = shell.run("consume", "--expect", "300")
    assert "latency" not in sent.stderr + sent.stdout + got.stderr + got.stdout
    sent = shell.run("produce", "--count", "300", "--durable", "--rate", "5000", "--json")
    got = shell.run("consume", "--expect", "300", "--json")
    for done, kind in ((sent, "confirm"), (got, "end_to_end")):
        latency = json.loads(done.stdout)["latency_ms"][kind]
        assert latency["count"] + latency["warm_up_left_out"] == 300
        assert "latency" not in done.stderr
    sent = shell.run("produce", "--count", "10", "--durable", "--no-confirms", "--json")
    assert json.loads(sent.stdout)["latency_ms"] == {"confirm": None}


def test_an_expectation_that_is_not_met_fails(shell: Any) -> None:
    """Fewer messages than expected end in exit code 1."""
    shell.run("produce", "--count", "5", "--durable")
    got = shell.run("consume", "--expect", "6", "--idle-timeout", "0.5")
    assert got.returncode == 1
    assert "only 5 of the expected 6" in got.stderr


def test_another_queue_does_not_fill_the_usual_ones(shell: Any, vhost: Any) -> None:
    """A run on its own queues leaves work.queue and audit.queue alone."""
    shell.run("produce", "--count", "5", "--durable")
    options = ("--queue", "work.queue.1m", "--audit-queue", "audit.queue.1m")
    shell.run("produce", *options, "--count", "7", "--durable", "--purge")
    counts = [ready(vhost.url, name) for name in ("work.queue", "audit.queue", *options[1::2])]
    assert counts == [5, 5, 7, 7]


ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
"""What Ctrl-C and `kill` send: exit code and last word."""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "at once"),
        (signal.SIGINT, "in the middle"),
        (signal.SIGTERM, "in the middle"),
    ],
)
def test_an_interrupted_producer_reports_what_was_confirmed(
    shell: Any, vhost: Any, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C and kill end it with the count of what was confirmed, no more than what arrived."""
    process = shell.start("produce", "--count", "2000000", "--durable", "--purge")
    if moment == "in the middle":
        for line in process.stderr:
            if "published 20000/" in line:
                break
    else:
        eventually(lambda: _queue_exists(vhost.url), "the queue is declared")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    code, word = ENDS[number]
    assert process.returncode == code
    assert err.endswith(f"rabbitproof: {word}.\n")
    assert "Traceback" not in err
    confirmed = re.search(r"published=(\d+)", out)
    if moment == "in the middle":
        assert confirmed
    if confirmed:
        arrived = ready(vhost.url, "work.queue")
        doubt = re.search(r"in_doubt=(\d+)", out)
        assert doubt
        assert int(confirmed[1]) <= arrived <= int(confirmed[1]) + int(doubt[1])


def _queue_exists(url: str) -> bool:
    try:
        return ready(url, "work.queue") >= 0
    except Exception:  # noqa: BLE001 - pika's many ways to say no
        return False


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
@pytest.mark.parametrize("number", ENDS)
def test_an_interrupted_consumer_returns_unacknowledged_messages(
    shell: Any, vhost: Any, number: signal.Signals
) -> None:
    """After Ctrl-C and kill, what it did not acknowledge is in the queue, and it says so."""
    shell.run("produce", "--count", "40000", "--durable", "--audit-queue", "")
    process = shell.start("consume", "--prefetch", "50", "--progress-every", "1000")
    for line in process.stderr:
        if "consumed 5000 " in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == ENDS[number][0]
    assert "Traceback" not in err
    consumed = int(re.search(r"consumed=(\d+)", out)[1])  # type: ignore[index]
    rest = re.search(r"\] (\d+) of these were not acknowledged", err)
    back = int(rest[1]) if rest else 0
    eventually(
        lambda: ready(vhost.url, "work.queue") >= 40_000 - consumed, "all is back in the queue"
    )
    assert ready(vhost.url, "work.queue") <= 40_000 - consumed + back


def test_nobody_there(shell: Any) -> None:
    """No broker, no such host, a wrong password: one sentence and exit code 3."""
    for url, says in (
        ("amqp://guest:guest@127.0.0.1:9", "rabbitproof broker up"),
        ("amqp://guest:guest@no.such.host.invalid", "no host named"),
    ):
        there = replace(shell, environment=shell.environment | {"RABBITMQ_URL": url})
        for command in ("src/producer.py", "src/consumer.py"):
            done = there.run(command)
            assert (done.returncode, done.stdout) == (3, "")
            assert says in done.stderr
            assert "guest:guest" not in done.stderr


def test_a_queue_with_other_settings(shell: Any) -> None:
    """The mismatch is shown side by side, with two ways out, and exit code 3."""
    shell.run("produce", "--count", "1", "--durable")
    done = shell.run("produce", "--count", "1", "--durable", "--queue-type", "quorum")
    assert done.returncode == 3
    assert "declared classic, wanted quorum" in done.stderr
    assert "delete_queue work.queue" in done.stderr


def test_a_broker_that_refuses_transient_queues_is_asked(
    shell: Any, installation: Installation
) -> None:
    """Its refusal ends in --durable, at once, and `doctor` says so before; up to 3.12 none can."""
    old = version_key(installation.version) < (3, 13)
    denied = {} if old else {"deprecated_features.permit.transient_nonexcl_queues": "false"}
    with Node.start(installation, settings=denied) as node:
        there = {"RABBITMQ_URL": node.url, "RABBITMQ_MANAGEMENT_URL": node.management_url}
        strict = replace(shell, environment=shell.environment | there)
        told = strict.run("doctor").stdout
        done = strict.run("produce", "--count", "10")
        kept = strict.run("produce", "--count", "10", "--durable", "--queue", "q", "--audit-queue=")
    assert kept.returncode == 0
    if old:
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(
        r"rabbitproof: RabbitMQ [\d.]+ does not allow queues that are not durable, such as"
        r" 'work\.queue': transient_nonexcl_queues is not permitted there; add --durable\.\n",
        done.stderr,
    )
    if not installation.version.startswith("4.0."):  # which tells nobody
        assert "refuses queues that are not durable; fix: add --durable" in told


def test_a_message_of_20_megabytes(shell: Any) -> None:
    """It arrives whole, or the broker's limit ends in a sentence; nothing is lost silently."""
    options = ("--durable", "--audit-queue", "")
    done = shell.run("produce", "--count", "2", "--size", "20000000", *options)
    if done.returncode:
        assert done.returncode == 3
        assert "max_message_size" in done.stderr
        assert "published=0" in done.stdout
    else:
        got = shell.run("consume", "--expect", "2")
        assert "unique=2" in got.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--count", "0"],
        ["--count", "-1"],
        ["--count", "many"],
        ["--rate", "0"],
        ["--window", "0"],
        ["--size", "-1"],
        ["--queue", "x" * 256],
        ["--queue", ""],
        ["--queue", "same", "--audit-queue", "same"],
        ["--lazy", "--queue-type", "quorum"],
        ["--lazy", "--audit-type", "stream"],
        ["--queue-type", "stream"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_of_produce(shell: Any, arguments: list[str]) -> None:
    """One sentence and exit code 2, before anything was sent."""
    done = shell.run("produce", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expect", "0"],
        ["--prefetch", "0"],
        ["--prefetch", "65536"],
        ["--idle-timeout", "0"],
        ["--requeue", "--reject"],
    ],
    ids=" ".join,
)
def test_wrong_usage_of_consume(shell: Any, arguments: list[str]) -> None:
    """One sentence and exit code 2."""
    done = shell.run("consume", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_terminal_escapes_are_shown_not_obeyed(shell: Any) -> None:
    """An escape in a name, a body or a sender never reaches the terminal."""
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    options = ("--queue", f"q{evil}", "--audit-queue", "")
    sent = shell.run(
        "produce", *options, "--count", "2", "--durable", "--purge",
        "--text", evil, "--producer-id", evil,
    )  # fmt: skip
    got = shell.run("consume", *options[:2], "--name", evil, "--show", "--expect", "2")
    assert (sent.returncode, got.returncode) == (0, 0)
    shown = sent.stdout + sent.stderr + got.stdout + got.stderr
    assert not set(shown) & set("\x1b\x07\u202e")
    assert r"\x1b]0;owned\x07" in shown
