"""How a command ends: its exit code, and the one line on standard error that says why.

Holds: the exit codes, which error means which, and the frame in which every command runs.
Refuses to hold: what a command does. A command returns an ``Exit`` or raises an error of
``errors.py``; it never ends the process itself.

Rules: SIGTERM ends a command as Ctrl+C does, by an exception, so that it reports what it knows and
leaves nothing behind. An expected end has no traceback. Everything shown went through
``text.safe``. An end that is nobody's verdict is never 0 and never 1: a bug is ``UNKNOWN``, a
reader who left (``… | head``) is ``INTERRUPTED``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from rabbitproof import errors
from rabbitproof.text import safe

if TYPE_CHECKING:
    from types import FrameType

PROGRAM = "rabbitproof"

LONGEST_NOTE = 4_000
"""Characters of one note. Our own texts are far shorter; what they quote may not be."""
LONGEST_TRACEBACK = 20_000
"""Characters of a traceback, of which the end is the part that helps."""

TWICE_S = 1.0
"""A second SIGTERM within this time is the same one: `timeout` sends it to the process and to its
group. A later one is somebody who does not want to wait for the end."""


class Exit(IntEnum):
    """What a command's exit code means, the same in every command."""

    DONE = 0
    """Done; for a verdict: PASS."""
    FAILED = 1
    """FAIL, or an expectation was not reached, or a part of the work failed."""
    USAGE = 2
    """What was asked for makes no sense."""
    UNREACHABLE = 3
    """The broker or its API could not be reached, refused, or broke its promises."""
    UNKNOWN = 4
    """UNKNOWN: it could not be proven either way; also a bug in this program."""
    INTERRUPTED = 130
    """Ctrl+C, or the reader of standard output left. 128 + SIGINT, as shells count."""
    TERMINATED = 143
    """`kill`, a service manager, a container's stop. 128 + SIGTERM."""


_EXITS: dict[type[errors.RabbitproofError], Exit] = {
    errors.UsageError: Exit.USAGE,
    errors.ConnectionFailed: Exit.UNREACHABLE,
    errors.ConnectionLost: Exit.UNREACHABLE,
    errors.GivenUp: Exit.UNREACHABLE,
    errors.ConsumerGone: Exit.UNREACHABLE,
    errors.BrokerRefused: Exit.UNREACHABLE,
    errors.ProtocolError: Exit.UNREACHABLE,
    errors.Overdue: Exit.UNREACHABLE,
    errors.ManagementError: Exit.UNREACHABLE,
    errors.NodeError: Exit.UNREACHABLE,
    errors.LedgerFailed: Exit.UNKNOWN,
    errors.ReportFailed: Exit.UNKNOWN,
    errors.WindowUnavailable: Exit.UNREACHABLE,
    errors.RabbitproofError: Exit.FAILED,
}


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Whoever tidies up after Ctrl+C does the same for this."""


def exit_for(error: errors.RabbitproofError) -> Exit:
    """Return the exit code of an error: that of the nearest class that has one."""
    return next(_EXITS[kind] for kind in type(error).__mro__ if kind in _EXITS)


def note(text: str) -> None:
    """Show one note on standard error, made safe. Never fails, whoever closed that stream."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"{PROGRAM}: {safe(text, LONGEST_NOTE, newlines=True)}", file=sys.stderr)


def main(app: typer.Typer, program: str = PROGRAM) -> NoReturn:
    """Run ``app`` with this process's arguments and end the process."""
    _heed_sigterm()
    sys.exit(run(app, program))


def run(app: typer.Typer, program: str = PROGRAM, arguments: Sequence[str] | None = None) -> int:
    """Run ``app`` and return its exit code; every expected end becomes one line.

    ``program`` is the name in the usage line. ``arguments`` default to the process's own.
    """
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        code = _invoke(app, program, sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader who left can still be noticed
    except KeyboardInterrupt as end:
        return _interrupted(end)
    except BrokenPipeError as error:
        if not _reader_left(sys.stdout):
            return _bug(error)
        _discard(sys.stdout)
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever is left is a bug
        return _bug(error)
    return code


def _invoke(app: typer.Typer, program: str, arguments: Sequence[str]) -> int:
    command: Any = typer.main.get_command(app)
    try:
        with command.make_context(program, list(arguments)) as context:
            result = command.invoke(context)
    except errors.RabbitproofError as error:
        note(str(error))
        return exit_for(error)
    except typer.TyperException as error:
        return _wrong_usage(error, program)
    except typer.Exit as end:
        return end.exit_code
    except (EOFError, typer.Abort) as end:
        return _interrupted(end)
    return Exit.DONE if result is None else int(result)


def _heed_sigterm() -> None:
    """Have SIGTERM raise ``Terminated``, unless whoever started us had it ignored."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    last = float("-inf")

    def terminate(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TWICE_S:
            last = now
            raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def _interrupted(end: BaseException) -> Exit:
    if isinstance(end, Terminated):
        note("terminated.")
        return Exit.TERMINATED
    note("interrupted.")
    return Exit.INTERRUPTED


def _wrong_usage(error: typer.TyperException, program: str) -> int:
    """Say in one sentence what was wrong with the command line."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # not public in typer, and not an error
        print(error.format_message(), file=sys.stderr)
        return Exit.USAGE
    sentence = " ".join(error.format_message().split()).rstrip(".")
    where = program if context is None else context.command_path
    note(f"{sentence}{' See' if sentence.endswith('?') else '; see'} `{where} --help`.")
    return Exit.USAGE


def _bug(error: Exception) -> int:
    lines = "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(safe(lines, LONGEST_TRACEBACK, newlines=True), file=sys.stderr)
    note(
        f"this is a bug in {PROGRAM}, and what it was doing is unfinished; "
        "please report it with the lines above."
    )
    return Exit.UNKNOWN


def _never_fail_to_encode(stream: TextIO | Any) -> None:
    """Show escapes where a console's encoding lacks a character; that is no reason to crash."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _reader_left(stream: TextIO | None) -> bool:
    """Tell whether it is standard output that broke, and not some socket of ours."""
    if stream is None:
        return False
    try:
        stream.flush()  # what could not be written is still buffered, and fails again
    except BrokenPipeError:
        return True
    try:
        from select import POLLERR, poll  # not on Windows

        watch = poll()
        watch.register(stream.fileno(), 0)  # a pipe whose reader left reports an error, unasked
    except (ImportError, OSError, ValueError):  # the last two: a stream without a descriptor
        return False
    return any(event & POLLERR for _, event in watch.poll(0))


def _discard(stream: TextIO) -> None:
    """Send what is still buffered nowhere, or Python complains about it at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
