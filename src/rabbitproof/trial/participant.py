"""One participant of a trial as a program of its own, so that it can be killed.

``python -m rabbitproof.trial.participant``, started by ``crew``. The first line of standard input
is its order, one JSON object (a password in it never shows in a process list); when standard input
ends, it stops: whoever started it has gone or wants it to. Standard output has one JSON object a
line: how far it is, and at last its summary. All that counts as proof is in its ledger.

Refuses to know scenarios and verdicts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NoReturn

from rabbitproof.address import Address  # noqa: TC001  the codec reads the types
from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import RabbitproofError, UsageError
from rabbitproof.model import Started
from rabbitproof.proof import record as records
from rabbitproof.proof.codec import Value, decode
from rabbitproof.work import consume, produce, resume
from rabbitproof.work.recorder import LedgerRecorder

Role = Literal["producer", "consumer", "auditor"]
"""An auditor consumes as well, from the audit queue."""

_REPORT_S: Final = 0.02
"""Seconds between two lines at least: a fault has to be able to happen in the middle."""


class Order(Value, frozen=True, kw_only=True):
    """What a participant is told."""

    role: Role
    addresses: tuple[Address, ...]
    connection: str
    """Its name."""
    ledgers: str
    """The folder for its ledger."""
    run: str
    heartbeat_s: int
    pause_s: float = 0.0
    """What a consumer takes for each read, as if it did something with the messages."""
    produce: produce.Task | None = None
    consume: consume.Task | None = None
    resume: str = ""
    """The ledger of a producer that died, which is gone on with."""
    seconds: float | None = None
    """For how long it may go on with that; None for any time."""


class _Stop(KeyboardInterrupt):
    """Standard input has ended."""


def main() -> None:
    """Do what the order says."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return  # whoever started us was killed before the order was out
    order: Order = decode(line.encode(), Order)
    # Ctrl+C goes to the whole group, and it is the trial that stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping = threading.Event()
    me = threading.get_ident()
    try:
        signal.signal(signal.SIGTERM, _stop)
        threading.Thread(target=_watch, args=(me, stopping), daemon=True).start()
        _work(order, stopping)
    except _Stop:
        pass
    except RabbitproofError as error:
        _say(error=str(error))
        sys.exit(1)


def _work(order: Order, stopping: threading.Event) -> None:
    connect = Dialer(order.addresses, order.connection, heartbeat=order.heartbeat_s)
    before_us = None
    if order.resume:
        # What was noted over time stays in the file: hours of it would only be kept in memory.
        before_us = replace(records.read(Path(order.resume)), samples=(), events=())
    recorder = LedgerRecorder(
        Path(order.ledgers),
        run=order.run,
        vhost=order.addresses[0].vhost,
        options={},
        resume=before_us,
    )
    pause = order.pause_s
    participant: produce.Producer | consume.Consumer
    if before_us is not None:
        task = replace(resume.task_of(before_us), seconds=order.seconds)
        participant = produce.Producer(task, connect, recorder, known=before_us.outcomes)
    elif order.produce is not None:
        participant = produce.Producer(order.produce, connect, recorder)
    elif order.consume is not None:
        participant = consume.Consumer(order.consume, connect, recorder)
    else:
        raise UsageError("An order has to say what is to be done; give it a task.")
    said, before = 0.0, 0
    try:
        with closing(participant.run()) as progress:
            for event in progress:
                now = time.monotonic()
                done = _done(participant)
                due = now - said >= _REPORT_S or (pause and done > before)
                if due or isinstance(event, Started):
                    said = now
                    _say(
                        done=done,
                        in_flight=_in_flight(participant),
                        blocked=_blocked(participant),
                        file=str(recorder.path),
                    )
                if pause and done > before:
                    stopping.wait(pause)  # it is busy with what it has received
                before = done
    finally:
        _say(
            done=_done(participant),
            in_flight=0,
            file=None if recorder.path is None else str(recorder.path),
        )


def _done(participant: produce.Producer | consume.Consumer) -> int:
    if isinstance(participant, consume.Consumer):
        return participant.receipts.consumed
    outcomes = participant.outcomes
    return len(outcomes.acked if outcomes.confirms else outcomes.attempted)


def _in_flight(participant: produce.Producer | consume.Consumer) -> int:
    if isinstance(participant, consume.Consumer):
        return participant.unanswered
    return participant.in_flight


def _blocked(participant: produce.Producer | consume.Consumer) -> str | None:
    return participant.blocked if isinstance(participant, produce.Producer) else None


def _say(**what: object) -> None:
    try:
        print(json.dumps(what), flush=True)
    except OSError:  # nobody listens any more; the end of standard input will say so, too
        return


def _watch(main_thread: int, stopping: threading.Event) -> None:
    """Wait for the end of standard input, then interrupt the main thread wherever it waits."""
    sys.stdin.read()
    stopping.set()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main_thread, signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(_number: int, _frame: object) -> NoReturn:
    raise _Stop


if __name__ == "__main__":
    main()
