import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from inspect import getmembers, isclass
from pathlib import Path
from typing import Any

import pytest
import typer

from rabbitproof import errors
from rabbitproof.cli.exits import Exit, exit_for, note, run
from rabbitproof.cli.options import Count, new_app

SOURCE = Path(__file__).parents[3] / "src"


def app_that(action: Callable[[], Any]) -> typer.Typer:
    app = new_app()

    @app.command()
    def act(*, count: Count = 1) -> Any:
        return action() if count else None

    return app


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


ALL_ERRORS = [kind for _, kind in getmembers(errors, isclass) if issubclass(kind, Exception)]


def make(kind: type[errors.RabbitproofError]) -> errors.RabbitproofError:
    if issubclass(kind, errors.BrokerRefused):
        return kind("No; ask again.", code=406, reply="no")
    return kind("No; ask again.")


def test_the_exit_codes_are_those_that_the_manual_promises() -> None:
    assert {e.name: int(e) for e in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "UNKNOWN": 4,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_every_error_has_its_exit_code(kind: type[errors.RabbitproofError]) -> None:
    expected = Exit.UNREACHABLE
    if kind is errors.UsageError:
        expected = Exit.USAGE
    elif kind in (errors.RabbitproofError, errors.BenchFailed, errors.ExportBroken):
        expected = Exit.FAILED
    elif issubclass(kind, (errors.LedgerFailed, errors.ReportFailed)):
        expected = Exit.UNKNOWN
    assert exit_for(make(kind)) is expected


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_an_error_is_one_line_and_no_traceback(
    kind: type[errors.RabbitproofError], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(app_that(raising(make(kind))), arguments=[])
    assert code == exit_for(make(kind))
    assert capsys.readouterr() == ("", "rabbitproof: No; ask again.\n")


@pytest.mark.parametrize(
    ("result", "code"), [(None, 0), (Exit.DONE, 0), (Exit.FAILED, 1), (Exit.UNKNOWN, 4)]
)
def test_what_a_command_returns_is_its_exit_code(result: Exit | None, code: int) -> None:
    assert run(app_that(lambda: result), arguments=[]) == code


def test_a_command_may_end_with_typers_exit() -> None:
    assert run(app_that(raising(typer.Exit(4))), arguments=[]) == 4


def test_what_an_error_quotes_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(app_that(raising(errors.UsageError("queue \x1b]0;x\x07\nis\u202e bad"))), arguments=[])
    assert capsys.readouterr().err == "rabbitproof: queue \\x1b]0;x\\x07\nis\\u202e bad\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EOFError(), typer.Abort()])
def test_an_interrupt_is_130_and_no_traceback(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app_that(raising(error)), arguments=[]) == Exit.INTERRUPTED
    assert capsys.readouterr() == ("", "rabbitproof: interrupted.\n")


TIDY = """
import sys
from rabbitproof.cli import exits
from rabbitproof.cli.options import new_app
exits.TWICE_S = {twice_s}
app = new_app()
@app.command()
def act():
    try:
        print("on", flush=True)
        sys.stdin.read()
    finally:
        print("tidying up", flush=True)
        sys.stdin.read()
        print("tidy", flush=True)
exits.main(app)
"""


@pytest.fixture
def tidy() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command that waits for its input to end, also once more while it tidies up."""

    def start(twice_s: float = 60, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TIDY.format(twice_s=twice_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            **more,
        )
        stack.enter_context(process)
        assert said(process) == "on\n"
        return process

    with ExitStack() as stack:
        yield start


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


needs_signals = pytest.mark.skipif(os.name != "posix", reason="Windows kills, and sends nothing")


@needs_signals
def test_sigterm_lets_a_command_tidy_up_and_is_143(
    tidy: Callable[..., subprocess.Popen[str]],
) -> None:
    process = tidy()
    process.send_signal(signal.SIGTERM)
    assert said(process) == "tidying up\n"
    process.send_signal(signal.SIGTERM)  # as `timeout` does; the same one
    assert process.communicate() == ("tidy\n", "rabbitproof: terminated.\n")
    assert process.returncode == Exit.TERMINATED


@needs_signals
def test_a_later_sigterm_ends_the_tidying_up_too(
    tidy: Callable[..., subprocess.Popen[str]],
) -> None:
    process = tidy(twice_s=0)
    process.send_signal(signal.SIGTERM)
    assert said(process) == "tidying up\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", "rabbitproof: terminated.\n")
    assert process.returncode == Exit.TERMINATED


@needs_signals
def test_a_sigterm_that_is_ignored_stays_ignored(
    tidy: Callable[..., subprocess.Popen[str]],
) -> None:
    process = tidy(preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("tidying up\ntidy\n", "")
    assert process.returncode == Exit.DONE


def test_a_bug_keeps_its_traceback_and_says_that_it_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(app_that(raising(ValueError("odd \x1b[2J"))), arguments=[]) == Exit.UNKNOWN
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert "ValueError: odd \\x1b[2J" in shown
    assert "rabbitproof: this is a bug in rabbitproof" in shown


def test_a_broken_pipe_that_is_not_standard_output_is_a_bug(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(app_that(raising(BrokenPipeError())), arguments=[]) == Exit.UNKNOWN
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--count", "0"], ["--count", "-3"], ["--count", "many"], ["--count"], ["--odd"]]
)
def test_wrong_usage_is_one_sentence_that_points_to_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app_that(lambda: None), "producer.py", arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("rabbitproof: ")
    assert err.endswith("; see `producer.py --help`.\n")


def test_notes_survive_a_closed_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open("w") as closed:
        pass
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        note("nobody listens")


WRITER = """
import itertools, sys
from rabbitproof.cli.exits import main
from rabbitproof.cli.options import new_app
app = new_app()
@app.command()
def act():
    sys.stdin.read()
    for _ in {times}:
        print("a…")
main(app)
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes end differently on Windows")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "times", ["itertools.count()", "range(100)"], ids=["endless", "at the end"]
)
def test_a_reader_who_leaves_is_a_quiet_end(unbuffered: str, times: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER.format(times=times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()  # now it may write
        assert process.stderr.read() == b""
        assert process.wait(30) == Exit.INTERRUPTED


def test_a_console_without_the_character_shows_an_escape() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER.format(times="range(1)")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout.split() == [b"a\\u2026"]
