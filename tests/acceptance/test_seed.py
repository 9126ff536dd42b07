"""Every door and every line that the described system knows, typed as a person types it.

On the release that RABBITPROOF_TEST_RABBITMQ names; `make releases` takes this file through all.
"""

from __future__ import annotations

import getpass
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import watchdog
from rabbitproof.broker.layout import State
from support import eventually, lend, ready, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screen import Screen

ROOT = Path(__file__).parents[2]
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
COLUMNS = "name messages_ready messages_unacknowledged messages"


def release(url: str) -> tuple[int, ...]:
    """The broker's release as it says itself: (4, 3)."""
    with witness(url) as channel:
        version = channel.connection._impl.server_properties["version"]
    return tuple(map(int, version.split(".")[:2]))


def cleanup(shell: Any, *arguments: str, typed: str) -> list[str]:
    """Run the script and answer its question; return its lines in order of the alphabet."""
    done = subprocess.run(
        [ROOT / "scripts/cleanup_queues.sh", *arguments],
        env=shell.environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return sorted(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "src/producer.py",
            {
                "host": "localhost", "queue": "work.queue", "audit-queue": "audit.queue",
                "count": "10000", "durable": "", "lazy": "", "purge": "",
                "progress-every": "10000", "producer-id": "the current user",
                "text": "Hello World",
            },
        ),
        (
            "src/consumer.py",
            {
                "host": "localhost", "queue": "work.queue", "name": "Worker", "prefetch": "1000",
                "expect": "never", "lazy": "", "progress-every": "10000",
            },
        ),
        ("src/consumer_gui.py", {"queue": "work.queue", "name": "Window-1"}),
        (
            "src/monitor.py",
            {
                "host": "http://localhost:15672", "watch": "3.0", "once": "", "username": "guest",
                "password": "guest",
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_option_has_its_default(shell: Any, command: str, options: dict[str, str]) -> None:
    """What --help says of each option of the described tables."""
    _, *shown = re.split(r"^  --", shell.run(command, "--help").stdout, flags=re.M)
    said = {text.split()[0]: " ".join(text.split()) for text in shown}
    for name, default in options.items():
        assert f"[default: {default}" in said[name] if default else "default" not in said[name]


def test_the_reliability_test(shell: Any, vhost: Any) -> None:
    """Producer first, both queues hold all of it, then the consumer gets exactly that."""
    sent = shell.run("src/producer.py", "--count", "10000", "--durable", "--purge")
    assert sent.returncode == 0
    done, books = sent.stdout.splitlines()
    assert re.fullmatch(
        r"\[producer\] done\. published=10000, in_queue_ready=10000, time=\d+\.\d\ds", done
    )
    assert books == "[producer] confirmed=10000, nacked=0, returned=0, in_doubt=0, resent=0"
    assert sent.stderr.splitlines() == [
        "[producer] purged queue: work.queue",
        "[producer] purged audit queue: audit.queue",
        "[producer] published 10000/10000",
    ]
    assert ready(vhost.url, "work.queue") == ready(vhost.url, "audit.queue") == 10_000
    got = shell.run("src/consumer.py", "--name", "Worker-1", "--expect", "10000")
    assert got.returncode == 0
    first, done, books = got.stdout.splitlines()
    assert re.fullmatch(
        rf"\[Worker-1\] got #1 \(msg_id={UUID}, from=\S+\) n=1 text=Hello World", first
    )
    assert re.fullmatch(r"\[Worker-1\] done\. consumed=10000, time=\d+\.\d\ds", done)
    assert books == (
        "[Worker-1] unique=10000, redelivered=0, duplicates=0, missing=0, corrupt=0, foreign=0"
    )
    waiting, last = got.stderr.splitlines()
    assert waiting == "[Worker-1] waiting for messages… Press Ctrl+C to stop"
    assert re.fullmatch(
        rf"\[Worker-1\] consumed 10000/10000 \(last msg_id={UUID}, from=\S+\)", last
    )
    assert ready(vhost.url, "work.queue") == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_the_stress_test(shell: Any, vhost: Any, count: int) -> None:
    """Lazy queues on every release; a note says where that changes nothing, and it is true."""
    every = count // 20
    names = ("--queue", "work.queue.1m")
    sent = shell.run(
        "src/producer.py", *names, "--audit-queue", "audit.queue.1m", "--count", str(count),
        "--durable", "--lazy", "--purge", "--progress-every", str(every), deadline_s=300,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert f"published={count}, in_queue_ready={count}," in sent.stdout
    told = [f"[producer] published {n}/{count}" for n in range(every, count + 1, every)]
    assert [line for line in sent.stderr.splitlines() if "/" in line] == told
    lazy = release(vhost.url) < (3, 12)
    assert ("--lazy changes nothing on RabbitMQ" in sent.stderr) != lazy
    with witness(vhost.url) as channel:  # it must be what is wanted, or this is refused
        arguments = {"x-queue-mode": "lazy"} if lazy else {}
        channel.queue_declare("work.queue.1m", durable=True, arguments=arguments)
    got = shell.run(
        "src/consumer.py", *names, "--name", "Worker-1M", "--prefetch", "5000", "--expect",
        str(count), "--progress-every", str(every), "--lazy", deadline_s=300,
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    assert f"[Worker-1M] done. consumed={count}," in got.stdout
    assert len(re.findall(rf"consumed \d+/{count} \(last", got.stderr)) == 20
    assert ready(vhost.url, "work.queue.1m") == 0
    assert "[OK] Deleted: audit.queue.1m" in cleanup(shell, "audit.queue.1m", typed="y\n")


def test_no_options_at_all(shell: Any, vhost: Any) -> None:
    """Queues that are not durable, 10,000 messages, and who sent them."""
    sent = shell.run("src/producer.py")
    assert sent.returncode == 0, sent.stderr
    assert "published=10000, in_queue_ready=10000," in sent.stdout
    with witness(vhost.url) as channel:
        for name in ("work.queue", "audit.queue"):
            channel.queue_declare(name, durable=False)
    worker = shell.start("src/consumer.py")
    for line in worker.stderr:
        if "consumed 10000 " in line:
            assert line.startswith("[Worker] ")
            assert f"from={getpass.getuser()})" in line
            break
    worker.send_signal(signal.SIGINT)  # nobody told it when to stop
    out, _ = worker.communicate(timeout=30)
    assert worker.returncode == 130
    assert "[Worker] unique=10000, " in out


def test_all_options_at_once(shell: Any, vhost: Any, node: Any) -> None:
    """Each in its own words, on the broker that --host names."""
    names = ("--queue", "work.queue.new", "--audit-queue", "audit.queue.new")
    sent = shell.run(
        "src/producer.py", "--host", "127.0.0.1", *names, "--count", "30", "--durable", "--lazy",
        "--purge", "--progress-every", "10", "--producer-id", "somebody", "--text", "Good day",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert "published 20/30" in sent.stderr
    assert ready(vhost.url, "audit.queue.new") == 30
    with witness(vhost.url) as channel:
        _, properties, body = channel.basic_get("work.queue.new")
        channel.queue_declare("work.queue", durable=True)  # and nothing came there
    assert properties.headers["producer_id"] == "somebody"
    assert properties.headers["host"] == socket.gethostname()
    assert re.fullmatch(UUID, properties.message_id)
    assert isinstance(properties.timestamp, int)
    assert properties.delivery_mode == 2
    assert body == b'{"n":1,"text":"Good day","sent_by":"somebody"}'
    got = shell.run(
        "src/consumer.py", "--host", "127.0.0.1", "--queue", "work.queue.new", "--name", "W",
        "--prefetch", "7", "--expect", "30", "--lazy", "--progress-every", "10",
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    assert "consumed 20/30 (last" in got.stderr
    assert "[W] unique=30, redelivered=1, duplicates=0, missing=0," in got.stdout
    assert ready(vhost.url, "work.queue") == 0


def test_the_monitor(shell: Any, vhost: Any, node: Any) -> None:
    """Once, and again and again until Ctrl+C; the cards show what is there."""
    assert shell.run("src/producer.py", "--count", "1500", "--durable").returncode == 0
    login = ("--username", node.username, "--password", node.password, "--vhost", vhost.name)
    address = ("--host", node.management_url)
    for once in (("--once",), ("--watch", "0")):
        shown = shell.run("src/monitor.py", *once, *address, *login)
        assert shown.returncode == 0, shown.stderr
        assert "RabbitMQ Monitor Summary" in shown.stdout
        assert re.search(r"║  Queues: 2 +Consumers: 0 +Connections: \d+ +║", shown.stdout)
        assert re.search(r"║  Ready: +3\.0K  Unacked: +0  Active: ./2 +║", shown.stdout)
        for name in ("work.queue", "audit.queue"):
            assert re.search(
                rf"● {name}  \[.+\]\n  Messages: Ready= +1\.5K  Unacked= +0  Total= +1\.5K",
                shown.stdout,
            )
    live = shell.start("src/monitor.py", "--watch", "1", *address, *login)
    seen = 0
    for line in live.stdout:
        seen += "RabbitMQ Monitor Summary" in line
        if seen == 2:
            break
    live.send_signal(signal.SIGINT)
    live.communicate(timeout=30)
    assert (seen, live.returncode) == (2, 130)


def test_the_cleanup_script(shell: Any, vhost: Any) -> None:
    """Queues by name, what nothing is bound to, and all."""
    shell.run("src/producer.py", "--count", "5", "--durable")
    assert cleanup(shell, "work.queue", typed="y\n") == ["[OK] Deleted: work.queue"]
    assert cleanup(shell, "work.queue", "audit.queue", typed="y\n") == [
        "[FAIL] Not found: work.queue",
        "[OK] Deleted: audit.queue",
    ]
    assert cleanup(shell, "exchanges", typed="y\n") == ["[OK] Deleted: direct.exchange"]
    shell.run("src/producer.py", "--count", "5", "--durable")
    assert cleanup(shell, "all", typed="y\n") == [
        "[OK] Deleted: audit.queue",
        "[OK] Deleted: direct.exchange",
        "[OK] Deleted: work.queue",
    ]


@pytest.mark.slow
def test_the_window(shell: Any, vhost: Any, screen: Screen) -> None:
    """It shows all messages, acknowledges them, and says so when it is closed."""
    shell.run("src/producer.py", "--count", "2000", "--durable")
    there = replace(shell, environment=screen.variables(shell.environment))
    window = there.start("src/consumer_gui.py", "--queue", "work.queue", "--name", "Window-1")
    try:
        shown = screen.wait_for(r"Window-1: work\.queue \(2,000\)")
        eventually(lambda: ready(vhost.url, "work.queue") == 0, "all are taken")
        screen.press(shown, "ctrl+q")
        out, err = window.communicate(timeout=30)
    finally:
        window.kill()
    assert (window.returncode, err) == (0, "")
    done, books = out.splitlines()
    assert re.fullmatch(r"\[Window-1\] done\. consumed=2000, time=\d+\.\d\ds", done)
    assert books.startswith("[Window-1] unique=2000, redelivered=0, duplicates=0, missing=0,")


@pytest.fixture
def mine(shell: Any, tmp_path: Path, installation: Any) -> Iterator[Any]:
    """A shell whose broker is one that `broker up` started."""
    environment = {k: v for k, v in shell.environment.items() if not k.startswith("RABBITMQ_")}
    private = replace(shell, environment=environment | lend(installation, tmp_path))
    up = private.run("broker", "up", "--port", "0", "--management-port", "0")
    assert up.returncode == 0, up.stderr
    assert f"RabbitMQ {installation.version} is up" in up.stdout
    variables = re.findall(
        r"^export (RABBITMQ_\w+)=(.*)$", private.run("broker", "env").stdout, re.M
    )
    yield replace(private, environment=private.environment | dict(variables))
    assert private.run("broker", "down").returncode == 0
    state = State.read(tmp_path / "broker")
    if state is not None:
        watchdog.end_processes(state.mark)


@pytest.mark.slow
@pytest.mark.timeout(300)  # rabbitmqctl boots an Erlang each time, which 20 lines make seconds of
def test_rabbitmqctl_lines_do_what_they_say(mine: Any) -> None:
    """Every one that the documents name, through `broker ctl`."""
    typed: set[str] = set()

    def ctl(line: str, status: int = 0) -> list[list[str]]:
        """Type a line; return the rows and columns that it prints."""
        typed.add(line)
        done = mine.run("broker", "ctl", *line.split())
        assert done.returncode == status, done.stderr
        return [row.split("\t") for row in (done.stdout + done.stderr).splitlines()]

    sent = mine.run("src/producer.py", "--count", "10", "--durable")
    assert "in_queue_ready=10" in sent.stdout
    assert {("work.queue", "10", "0", "10"), ("audit.queue", "10", "0", "10")} <= {
        tuple(row) for row in ctl(f"list_queues {COLUMNS}")
    }
    memory = ctl("list_queues name messages messages_ram message_bytes_ram")
    assert ["work.queue", "10"] in [row[:2] for row in memory]
    assert ["direct.exchange", "direct"] in ctl("list_exchanges")
    bindings = ctl("list_bindings")
    for name in ("work.queue", "audit.queue"):
        assert ["direct.exchange", "exchange", name, "queue", "work", "[]"] in bindings
    with witness(mine.environment["RABBITMQ_URL"]) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("work.queue", lambda *_: None, consumer_tag="mine")
        rows = eventually(
            lambda: ctl("list_consumers queue_name consumer_tag channel_pid"), "a consumer"
        )
        assert any({"work.queue", "mine"} <= {*row} for row in rows)
        said = ctl("list_consumers queue_name consumer_tag channel_name", status=2)
        assert "ask for channel_pid instead" in str(said)
        assert "guest" in [row[-1] for row in ctl("list_connections name user")]
        ctl("purge_queue work.queue")
    ctl("purge_queue audit.queue")
    left = eventually(
        lambda: [row for row in ctl(f"list_queues {COLUMNS}") if row[-1] in "01"], "the purge"
    )
    assert {(row[0], row[-1]) for row in left} >= {("audit.queue", "0")}
    ctl("delete_queue work.queue")
    ctl("delete_queue audit.queue")
    for name in ("cmpe273.work", "cmpe273.audit", "hello"):
        assert "found" in str(ctl(f"delete_queue {name}", status=2))  # worded by each release
    assert "work.queue" not in str(ctl(f"list_queues {COLUMNS}"))
    on = 'eval "$("$0" -m rabbitproof broker env)"; rabbitmq-plugins enable rabbitmq_management'
    enabled = subprocess.run(
        ["sh", "-c", on, sys.executable],
        env=mine.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert enabled.returncode == 0, enabled.stderr
    assert "rabbitmq_management" in enabled.stdout

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
