"""What the documents have people type by hand, typed on a private broker."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import watchdog
from rabbitproof.broker.layout import State
from support import eventually, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mine(shell: Any, tmp_path: Path) -> Iterator[Any]:
    """A shell whose broker is one that `broker up` started."""
    environment = {k: v for k, v in shell.environment.items() if not k.startswith("RABBITMQ_")}
    private = replace(shell, environment=environment | {"RABBITPROOF_CACHE": str(tmp_path)})
    up = private.run("broker", "up", "--port", "0", "--management-port", "0")
    assert up.returncode == 0, up.stderr
    variables = re.findall(
        r"^export (RABBITMQ_\w+)=(.*)$", private.run("broker", "env").stdout, re.M
    )
    yield replace(private, environment=private.environment | dict(variables))
    assert private.run("broker", "down").returncode == 0
    state = State.read(tmp_path / "broker")
    if state is not None:
        watchdog.end_processes(state.mark)


@pytest.mark.slow
def test_rabbitmqctl_lines_do_what_they_say(mine: Any) -> None:
    """Every one that the documents name, through `broker ctl`."""
    typed: set[str] = set()

    def ctl(line: str) -> list[list[str]]:
        """Type a line; return the rows and columns that it prints."""
        typed.add(line)
        done = mine.run("broker", "ctl", *line.split())
        assert done.returncode == 0, done.stderr
        return [row.split("\t") for row in done.stdout.splitlines()]

    sent = mine.run("src/producer.py", "--count", "10", "--durable")
    assert "in_queue_ready=10" in sent.stdout
    columns = "name messages_ready messages_unacknowledged messages"
    assert {("work.queue", "10", "0", "10"), ("audit.queue", "10", "0", "10")} <= {
        tuple(row) for row in ctl(f"list_queues {columns}")
    }
    assert ["direct.exchange", "direct"] in ctl("list_exchanges")
    bound = ["direct.exchange", "exchange", "work.queue", "queue", "work", "[]"]
    assert bound in ctl("list_bindings")
    with witness(mine.environment["RABBITMQ_URL"]) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("work.queue", lambda *_: None, consumer_tag="mine")
        rows = eventually(
            lambda: ctl("list_consumers queue_name consumer_tag channel_pid"), "a consumer"
        )
        assert any({"work.queue", "mine"} <= {*row} for row in rows)
        assert "guest" in [row[-1] for row in ctl("list_connections name user")]
        ctl("purge_queue work.queue")
    ctl("purge_queue audit.queue")
    left = eventually(
        lambda: [row for row in ctl(f"list_queues {columns}") if row[-1] in "01"], "the purge"
    )
    assert {(row[0], row[-1]) for row in left} >= {("audit.queue", "0")}
    ctl("delete_queue work.queue")
    ctl("delete_queue audit.queue")
    assert mine.run("broker", "ctl", "delete_queue", "hello").returncode != 0
    assert "work.queue" not in str(ctl(f"list_queues {columns}"))

    documented = {
        match
        for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
        for match in re.findall(
            r"rabbitproof broker ctl ([a-z_]+(?: [a-z_.]+)*)", path.read_text("utf-8")
        )
    }
    first_words = {line.split()[0] for line in typed}
    assert documented <= typed | first_words, "each of them was typed above"


@pytest.mark.slow
def test_a_queue_with_other_settings_is_deleted_and_made_anew(mine: Any) -> None:
    """PRECONDITION_FAILED, and each of the ways out."""
    assert mine.run("src/producer.py", "--count", "1").returncode == 0
    wanted = ("src/producer.py", "--count", "100", "--durable", "--purge")
    refused = mine.run(*wanted)
    assert refused.returncode == 3
    assert "PRECONDITION_FAILED" in refused.stderr
    assert "rabbitproof broker ctl delete_queue work.queue" in refused.stderr
    elsewhere = mine.run(*wanted, "--queue", "work.queue.new", "--audit-queue", "audit.queue.new")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert mine.run("src/producer.py", "--count", "1").returncode == 0, "as it is"
    for name in ("work.queue", "audit.queue"):
        assert mine.run("broker", "ctl", "delete_queue", name).returncode == 0
    made = mine.run(*wanted)
    assert "published=100, in_queue_ready=100" in made.stdout
