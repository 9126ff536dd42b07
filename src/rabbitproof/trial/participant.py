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
from typing import Any, Final, NoReturn

from rabbitproof.address import Address, Tls
from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import RabbitproofError
from rabbitproof.identity import Source
from rabbitproof.model import Queue, Started, Topology
from rabbitproof.proof import record as records
from rabbitproof.work import consume, produce, resume
from rabbitproof.work.recorder import LedgerRecorder

_REPORT_S: Final = 0.02
"""Seconds between two lines at least: a fault has to be able to happen in the middle."""


class _Stop(KeyboardInterrupt):
    """Standard input has ended."""


def main() -> None:
    """Do what the order says."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return  # whoever started us was killed before the order was out
    order = json.loads(line)
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


def _work(order: dict[str, Any], stopping: threading.Event) -> None:
    addresses = [_address(one) for one in order["addresses"]]
    name = order["connection"]

    connect = Dialer(addresses, name, heartbeat=order["heartbeat_s"])
    before_us = None
    if order["resume"] is not None:
        # What was noted over time stays in the file: hours of it would only be kept in memory.
        before_us = replace(records.read(Path(order["resume"])), samples=(), events=())
    recorder = LedgerRecorder(
        Path(order["ledger"]),
        run=order["run"],
        vhost=addresses[0].vhost,
        options={},
        resume=before_us,
    )
    pause = float(order["pause_s"])
    participant: produce.Producer | consume.Consumer
    if before_us is not None:
        task = replace(resume.task_of(before_us), **order["task"])
        participant = produce.Producer(task, connect, recorder, known=before_us.outcomes)
    elif order["role"] == "producer":
        participant = produce.Producer(_produce_task(order), connect, recorder)
    else:
        participant = consume.Consumer(consume.Task(**order["task"]), connect, recorder)
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


def _produce_task(order: dict[str, Any]) -> produce.Task:
    task = dict(order["task"])
    wiring = dict(task.pop("topology"))
    queues = {
        name: None if wiring[name] is None else Queue(**wiring[name])
        for name in ("work", "audit", "dead")
    }
    work = queues["work"]
    if work is None:
        raise AssertionError("a topology has a work queue")
    topology = Topology(
        wiring["exchange"], wiring["routing_key"], work, queues["audit"], queues["dead"]
    )
    return produce.Task(topology=topology, source=Source(*task.pop("source")), **task)


def _address(one: dict[str, Any]) -> Address:
    tls = one.pop("tls")
    return Address(**one, tls=None if tls is None else Tls(**tls))


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
