from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.identity import Identity, Source, identify
from rabbitproof.trial.peers import catalogue, program
from rabbitproof.trial.peers.program import Done, Failed, Job, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.trial.peers.catalogue import Peer

FLAGS = {
    "--exchange": "x",
    "--routing-key": "k",
    "--queue": "q",
    "--count": "3",
    "--window": "2",
    "--prefetch": "10",
    "--text": "t",
    "--run": "0a1b2c3d4e5f",
    "--url": "amqp://bob:s3cret@here",
}
JOB = Job(
    role="publish",
    url="amqp://bob:s3cret@here:5672/%2F",
    exchange="x",
    routing_key="k",
    queue="q",
    count=3,
    window=2,
    prefetch=10,
    text="t",
    run="0a1b2c3d4e5f",
    confirms=True,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Job]]]:
    """Return what runs the main program, and gives the jobs that were done."""
    deadlines: list[float] = []
    monkeypatch.setattr(program, "_end_after", deadlines.append)
    monkeypatch.delenv("RABBITMQ_URL", raising=False)

    def main(
        *more: str,
        role: str = "publish",
        fails: BaseException | None = None,
        confirms: bool | None = True,
        **changed: str | None,
    ) -> list[Job]:
        flags: dict[str, Any] = FLAGS | {
            f"--{name.replace('_', '-')}": value for name, value in changed.items()
        }
        words = [word for pair in flags.items() if pair[1] is not None for word in pair]
        monkeypatch.setattr(sys, "argv", ["peer", role, *words, *more])
        jobs: list[Job] = []

        def work(job: Job) -> Done:
            jobs.append(job)
            if fails is not None:
                raise fails
            watch = Stopwatch()
            watch.seconds, watch.cpu_seconds = 1.5, 0.25
            return Done(7, watch)

        def other(job: Job) -> Done:
            raise AssertionError(job.role)

        both = (work, other) if role == "publish" else (other, work)
        program.main(*both, confirms=confirms)
        assert deadlines[-1] == float(changed.get("deadline") or 300)
        return jobs

    yield main
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("role", ["publish", "consume"])
def test_a_job_that_is_done_is_one_line_of_json(
    run: Callable[..., list[Job]], capsys: pytest.CaptureFixture[str], role: str
) -> None:
    assert run(role=role, deadline="12.5") == [replace(JOB, role=role)]
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "messages": 3,
        "unique": 7,
        "seconds": 1.5,
        "cpu_seconds": 0.25,
    }


def test_the_address_may_stand_in_the_environment(
    run: Callable[..., list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://there/shop")
    assert run(url=None)[0].url == "amqp://guest:guest@there:5672/shop"
    assert run(url="amqp://here")[0].url == "amqp://guest:guest@here:5672/%2F"


def test_confirms_are_a_flag_only_where_there_is_a_choice(
    run: Callable[..., list[Job]],
) -> None:
    assert run(confirms=None)[0].confirms is False
    assert run("--confirms", confirms=None)[0].confirms is True
    with pytest.raises(SystemExit):
        run("--confirms", confirms=True)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("count", "0", "--count: it has to be a whole number of at least 1"),
        ("window", "-1", "--window: it has to be"),
        ("prefetch", "1.5", "--prefetch: it has to be"),
        ("run", "0A1B2C3D4E5F", "--run: it has to be twelve hexadecimal digits"),
        ("text", None, "required: --text"),
        ("url", None, "name one with --url or in RABBITMQ_URL"),
        ("url", "amqp://bob:s3#cret@here", "a query or a fragment"),
        ("deadline", "soon", "--deadline"),
    ],
)
def test_wrong_usage_is_one_line(
    run: Callable[..., list[Job]],
    capsys: pytest.CaptureFixture[str],
    flag: str,
    value: str | None,
    says: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(**{flag: value})
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert "cret" not in err


def test_a_failure_is_a_sentence(run: Callable[..., list[Job]]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(fails=Failed("The queue is gone; declare it."))
    assert ended.value.code == "The queue is gone; declare it."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("what\x1b[31m?\n."), r"ValueError: what\x1b[31m?\n"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_a_client_raises_is_shown_safely(
    run: Callable[..., list[Job]], error: Exception, words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(fails=error)
    assert ended.value.code == (
        f"Could not publish 3 messages ({words}); check the address, and that exchange and "
        "queue exist."
    )


@pytest.mark.parametrize("text", ["Hello World", 'a "b" 100 % \\ %d %s', "grün 🐇", "a\nb"])
def test_a_body_is_json_with_its_number(text: str) -> None:
    bodies = [replace(JOB, text=text).body % n for n in (1, 2_000_000)]
    assert [json.loads(body) for body in bodies] == [
        {"n": n, "text": text, "sent_by": "bench"} for n in (1, 2_000_000)
    ]


def test_a_message_id_names_run_and_number() -> None:
    assert identify(f"{JOB.id_prefix}{1234:012x}") == Identity(Source(JOB.run, 1), 1234)


@pytest.mark.parametrize(("prefetch", "every"), [(5000, 1250), (10, 2), (4, 1), (1, 1)])
def test_an_ack_goes_out_at_a_quarter_of_the_prefetch(prefetch: int, every: int) -> None:
    assert replace(JOB, prefetch=prefetch).ack_every == every


def test_the_clocks_run_until_they_are_stopped() -> None:
    watch = Stopwatch()
    total = sum(range(300_000))
    watch.stop()
    assert total
    assert watch.cpu_seconds > 0
    assert watch.seconds > 0


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_a_broker_that_never_answers_ends_at_the_deadline(
    found: Callable[[str], Peer], name: str
) -> None:
    """Whatever a client waits for, the process ends, with a code and a sentence of its own."""
    peer = found(name)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        changed = FLAGS | {"--url": url, "--deadline": "1.5"}
        flags = [word for pair in changed.items() for word in pair]
        done = subprocess.run(
            [*peer.command, "publish", *flags],
            env=catalogue.environment("amqp://nowhere"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Not done within 1.5 s; check that the broker")
