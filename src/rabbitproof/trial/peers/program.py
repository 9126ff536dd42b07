"""What the peers in Python share: flags, the message's parts, the clock, how a program ends.

Refuses to hold: any client, and anything but the headers that is done once for each message.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.address import parse
from rabbitproof.errors import UsageError
from rabbitproof.identity import CHECKSUM_HEADER, SENT_HEADER, Source, id_prefix
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable

URL_VARIABLE: Final = "RABBITMQ_URL"
"""Where the address is looked for when no ``--url`` is given."""

DEADLINE_S: Final = 300.0
"""For the whole program, unless told otherwise."""
OVERDUE: Final = 3
"""Exit code when the deadline has passed."""

CONTENT_TYPE: Final = "application/json"
APP_ID: Final = "rabbitmq.producer"
PERSISTENT: Final = 2

SENDER: Final = "bench"
HOST: Final = "localhost"
"""What every peer says of itself in its messages: as many bytes for each of them."""


class Failed(Exception):
    """The job could not be done; the text is a whole sentence."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a peer is asked to do."""

    role: str
    url: str
    exchange: str
    routing_key: str
    queue: str
    count: int
    window: int
    prefetch: int
    text: str
    run: str
    confirms: bool

    @property
    def id_prefix(self) -> str:
        """The first 24 characters of every message id; twelve hex digits of n follow."""
        return id_prefix(Source(self.run, 1))

    @property
    def body(self) -> bytes:
        """The body with a hole for n: ``body % n``."""
        text, sender = (
            json.dumps(value, ensure_ascii=False).encode().replace(b"%", b"%%")
            for value in (self.text, SENDER)
        )
        return b'{"n":%d,"text":' + text + b',"sent_by":' + sender + b"}"

    @property
    def ack_every(self) -> int:
        """After how many deliveries an ack goes out: a quarter of the prefetch."""
        return max(1, self.prefetch // 4)


def headers(sent_ns: int) -> dict[str, Any]:
    """Return the headers of one message that is sent now, in nanoseconds since 1970."""
    return {
        "producer_id": SENDER,
        "host": HOST,
        CHECKSUM_HEADER: "00000000",
        SENT_HEADER: sent_ns,
    }


class Stopwatch:
    """Time that passed and processor time that was used, from its making to ``stop``."""

    __slots__ = ("_cpu", "_wall", "cpu_seconds", "seconds")

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> None:
        """Note both times."""
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu


@dataclass(frozen=True, slots=True)
class Done:
    """A job that was done."""

    unique: int
    """Distinct message ids."""
    watch: Stopwatch


def main(
    publish: Callable[[Job], Done],
    consume: Callable[[Job], Done],
    *,
    confirms: bool | None,
) -> None:
    """Do one job, print its line, and end the process when it fails or takes too long.

    ``confirms``: whether this peer publishes with confirms; None when ``--confirms`` says so.
    """
    job, deadline = _job(confirms=confirms)
    # Nobody reads a log here: what a client has to say comes as its exception.
    logging.disable(logging.CRITICAL)
    _end_after(deadline)
    try:
        done = (publish if job.role == "publish" else consume)(job)
    except Failed as failure:
        sys.exit(str(failure))
    except Exception as error:  # noqa: BLE001 - a client raises what it likes; one sentence of it
        words = safe(f"{type(error).__name__}: {error}".rstrip(": ."))
        sys.exit(
            f"Could not {job.role} {job.count} messages ({words}); check the address, and that "
            "exchange and queue exist."
        )
    line = {
        "messages": job.count,
        "unique": done.unique,
        "seconds": done.watch.seconds,
        "cpu_seconds": done.watch.cpu_seconds,
    }
    print(json.dumps(line), flush=True)


def _job(*, confirms: bool | None) -> tuple[Job, float]:
    """Read the flags: what to do, and in how many seconds at most. Ends on wrong usage."""
    parser = argparse.ArgumentParser(allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("role", choices=["publish", "consume"])
    parser.add_argument("--url", default=os.environ.get(URL_VARIABLE))
    for name in ("--exchange", "--routing-key", "--queue", "--text"):
        parser.add_argument(name, required=True)
    for name in ("--count", "--window", "--prefetch"):
        parser.add_argument(name, required=True, type=_positive)
    parser.add_argument("--run", required=True, type=_twelve_digits)
    parser.add_argument("--deadline", default=DEADLINE_S, type=float)
    if confirms is None:
        parser.add_argument("--confirms", action="store_true")
    flags = {"confirms": confirms, **vars(parser.parse_args())}
    if flags["url"] is None:
        parser.error(f"there is no address; name one with --url or in {URL_VARIABLE}")
    try:
        # Read and written anew: clients differ in how they read an address without a vhost.
        flags["url"] = parse(flags["url"])[0].url()
    except UsageError as error:
        parser.error(str(error))
    deadline: float = flags.pop("deadline")
    return Job(**flags), deadline


def _end_after(seconds: float) -> None:
    """End the process after so many seconds, whatever it is waiting for by then."""

    def end() -> None:
        sys.stderr.write(
            f"Not done within {seconds:g} s; check that the broker takes and delivers messages, "
            "or give it longer with --deadline.\n"
        )
        sys.stderr.flush()
        os._exit(OVERDUE)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _positive(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError("it has to be a whole number of at least 1")
    return int(text)


def _twelve_digits(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{12}", text):
        raise argparse.ArgumentTypeError("it has to be twelve hexadecimal digits")
    return text
