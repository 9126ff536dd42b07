"""A client's process: started, watched, and asked for its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rabbitproof.errors import BenchFailed
from rabbitproof.model import Client, Queue, Topology
from rabbitproof.trial import runner
from rabbitproof.trial.peers.catalogue import Peer
from rabbitproof.trial.runner import Job

URL = "amqp://bob:secret@localhost:5672/"
TOPOLOGY = Topology("x", "work", Queue("work.queue"), Queue("audit.queue"))


def program(text: str, name: str = "other") -> Peer:
    """A client whose program is this Python text."""
    client = Client(name, "1", confirms=True)
    return Peer(client, publish=True, consume=True, command=(sys.executable, "-c", text))


def start(text: str, name: str = "other") -> Any:
    job = Job("publish", TOPOLOGY, 100, 10, 10)
    return runner.start(program(text, name), job, URL)


def test_a_clients_figures_are_the_last_line_it_prints() -> None:
    text = "import time; time.sleep(0.3); print('hello'); print('{\"seconds\": 1.5}')"
    report, peak = start(text)

    assert report == {"seconds": 1.5}
    assert peak > 1 << 20  # no interpreter is smaller


def test_our_own_figures_come_from_what_users_get() -> None:
    report, _ = start('print(\'{"time_s": 2, "cpu_s": 1, "unique": 7}\')', runner.OURS)

    assert report == {"seconds": 2, "cpu_seconds": 1, "unique": 7, "consumed": None}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise SystemExit('no broker \\x1b[31m here')", r"no broker \x1b[31m here"),
        ("raise SystemExit(3)", "nothing was said"),
        ("print('no figures')", "printed no figures"),
        ("pass", "printed no figures"),
        ("print('[1]')", "printed no figures"),
    ],
)
def test_a_client_that_fails_is_left_out_with_its_own_words(text: str, says: str) -> None:
    with pytest.raises(BenchFailed) as caught:
        start(text)
    assert says in str(caught.value)
    assert "other" in str(caught.value)


def test_the_password_is_not_on_a_command_line() -> None:
    text = (
        "import os, sys, json;"
        "print(json.dumps({'argv': sys.orig_argv, 'url': os.environ['RABBITMQ_URL']}))"
    )
    report, _ = start(text)

    assert "secret" in report["url"]
    assert not any("secret" in word for word in report["argv"])


def test_a_client_that_hangs_is_ended() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        pytest.raises(BenchFailed, match="not done within"),
    ):
        try:
            runner._watch(process, "other", 0.2)
        finally:
            process.kill()


def test_the_peak_is_the_clients_own() -> None:
    """Also when the memory was given back before the end, and whatever the parent holds."""
    ballast = bytearray(200 << 20)
    hold = "x = bytearray({} << 20); del x; import time; time.sleep(0.3); print('{{}}')"
    _, small = start(hold.format(1))
    _, large = start(hold.format(100))

    assert len(ballast) > large > small + (80 << 20)
    assert small < 100 << 20


def test_queues_are_prepared_when_a_client_is_warm_and_before_it_begins(tmp_path: Path) -> None:
    """Else the others would find fresher queues than a client that warms up for seconds."""
    order = tmp_path / "order"
    text = (
        "import pathlib, sys\n"
        f"order = pathlib.Path({str(order)!r})\n"
        "order.write_text('warm ')\n"
        "pathlib.Path(sys.argv[sys.argv.index('--ready') + 1]).touch()\n"
        "sys.stdin.read(1)\n"
        "order.write_text(order.read_text() + 'begun')\n"
        'print(\'{"seconds": 1.0, "cpu_seconds": 0.5}\')\n'
    )

    def prepare() -> tuple[str, ...]:
        order.write_text(order.read_text() + "prepared ")
        return ()

    peer = replace(program(text), warms_up=True)
    runner.start(peer, Job("consume", TOPOLOGY, 100, 10, 10), URL, prepare, tmp_path)

    assert order.read_text() == "warm prepared begun"


def test_a_client_that_fails_while_it_warms_up_says_why(tmp_path: Path) -> None:
    peer = replace(program("import sys; sys.exit('no heat')"), warms_up=True)
    with pytest.raises(BenchFailed, match="no heat"):
        runner.start(peer, Job("consume", TOPOLOGY, 100, 10, 10), URL, folder=tmp_path)


def test_an_interrupted_bench_ends_its_client(tmp_path: Path) -> None:
    """A client that was started dies with the bench."""
    script = tmp_path / "interrupted.py"
    mark = tmp_path / "pid"
    client = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script.write_text(
        "import signal, sys; sys.path.insert(0, 'src')\n"
        # A shell's background job, which these tests may be, starts with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from rabbitproof.trial import runner\n"
        "from rabbitproof.trial.peers.catalogue import Peer\n"
        "from rabbitproof.model import Client, Queue, Topology\n"
        "peer = Peer(Client('other', '1', confirms=True), publish=True, consume=True,\n"
        f"    command=(sys.executable, '-c', {client!r}))\n"
        "topology = Topology('x', 'work', Queue('q'), Queue('a'))\n"
        "runner.start(peer, runner.Job('publish', topology, 100, 10, 10), 'amqp://localhost/')\n",
        "utf-8",
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, script], cwd=root, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while not mark.exists() or not mark.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(2)
        process.wait(10)
    pid = int(mark.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
