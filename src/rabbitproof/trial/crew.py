"""Participants that are processes: started, listened to, stopped and killed.

Each keeps a ledger in one folder; that alone counts as proof. What they say on the way is for
progress, and for faults to find their moment.

Refuses to know what a participant does (``participant``) and when one is to be killed (``faults``).
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import rabbitproof
from rabbitproof.errors import LedgerFailed, Overdue
from rabbitproof.model import Note
from rabbitproof.proof.codec import encode
from rabbitproof.proof.history import Began, How, Kind, ended
from rabbitproof.proof.record import read
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rabbitproof.model import Progress
    from rabbitproof.proof.history import Writer
    from rabbitproof.proof.record import Record
    from rabbitproof.trial.participant import Order, Role
    from rabbitproof.work.recorder import Recorder

_STOP_S: Final = 15.0
"""For a participant to end its work and its ledger."""
_KILL_S: Final = 10.0


@dataclass(slots=True, eq=False)
class Member:
    """One participant."""

    name: str
    role: Role
    process: subprocess.Popen[bytes]
    done: int = 0
    """Messages that were answered, or received."""
    in_flight: int = 0
    blocked: str | None = None
    """Why the broker has told it to wait."""
    started: bool = False
    file: Path | None = None
    """Its ledger."""
    error: str | None = None
    ended: bool = False
    """Said all that it will ever say."""
    killed: bool = False
    resumed: bool = False
    """Another one goes on in its place, with the same ledger."""
    _rest: bytes = b""

    def take(self, data: bytes) -> None:
        """Understand what it said."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            self.started = True
            self.done = int(said.get("done", self.done))
            self.in_flight = int(said.get("in_flight", self.in_flight))
            blocked = said.get("blocked")
            self.blocked = None if blocked is None else safe(str(blocked), 200)
            if said.get("file"):
                self.file = Path(said["file"])
            if "error" in said:
                self.error = safe(str(said["error"]), 1_000)


@dataclass(slots=True)
class Crew:
    """All processes of one trial. Use it as a context manager: it leaves none behind."""

    ledgers: Path
    history: Writer
    members: list[Member] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
            with suppress(subprocess.TimeoutExpired):
                member.process.wait(_KILL_S)
            _close(member)
        self._selector.close()

    def start(self, name: str, order: Order) -> Member:
        """Start a participant."""
        role, task = order.role, order.consume
        queue = "" if task is None else task.queue
        kind: Kind = "producer" if role == "producer" else "consumer"
        self.history.write(Began(name=name, kind=kind, queue=queue))
        process = subprocess.Popen(
            [sys.executable, "-m", "rabbitproof.trial.participant"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        member = Member(name, role, process)
        self.members.append(member)
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both were asked for")
        process.stdin.write(encode(order) + b"\n")
        process.stdin.flush()
        self._selector.register(process.stdout, selectors.EVENT_READ, member)
        return member

    def of(self, role: Role) -> list[Member]:
        """Return the participants of a role."""
        return [member for member in self.members if member.role == role]

    def running(self, role: Role) -> list[Member]:
        """Return those that have not ended."""
        return [member for member in self.of(role) if not member.ended]

    def listen(self, timeout: float) -> None:
        """Take what was said within ``timeout`` seconds; return as soon as there was something."""
        if not self._selector.get_map():
            return
        for key, _ in self._selector.select(timeout):
            member: Member = key.data
            data = os.read(key.fd, 65_536)
            if data:
                member.take(data)
            else:
                self._selector.unregister(key.fileobj)
                member.ended = True
                with suppress(subprocess.TimeoutExpired):
                    member.process.wait(_KILL_S)
                self._note_end(member)

    def _note_end(self, member: Member) -> None:
        """Write down how a participant ended, and with what, if it is known to be gone."""
        status = member.process.returncode
        if status is not None:
            how: How = "killed" if member.killed or status < 0 else "failed" if status else "done"
            kind: Kind = "producer" if member.role == "producer" else "consumer"
            self.history.write(ended(member.name, kind, how, member.error or "", member.file))

    def await_start(self, members: list[Member], seconds: float = 30.0) -> None:
        """Wait until they all work, or have ended."""
        deadline = time.monotonic() + seconds
        while any(not member.started and not member.ended for member in members):
            if time.monotonic() > deadline:
                raise Overdue(
                    "A participant's process did not start in time; look what keeps this machine "
                    "busy, then try again."
                )
            self.listen(0.1)

    def stop(self, role: Role) -> None:
        """Have all of a role end in good order; kill who does not within the time."""
        members = self.running(role)
        for member in members:
            _close_input(member)
        deadline = time.monotonic() + _STOP_S
        while any(not member.ended for member in members) and time.monotonic() < deadline:
            self.listen(0.1)
        for member in self.running(role):
            self.kill(member)

    def read(self, role: Role) -> Generator[Progress, None, list[Record]]:
        """Return the ledgers of all of a role that has ended; say whose can't be read."""
        found = []
        for member in self.of(role):
            if member.error is not None:
                yield Note(f"{member.name} ended early: {member.error}")
            try:
                if member.file is not None and not member.resumed:
                    found.append(read(member.file))
            except LedgerFailed as error:
                yield Note(f"The ledger of {member.name} can't be read: {error}")
        return found

    def end(self) -> None:
        """Kill all that still run."""
        for member in self.members:
            if not member.ended:
                self.kill(member)

    def kill(self, member: Member) -> None:
        """End a participant with SIGKILL, wherever it is."""
        member.killed = True
        member.process.kill()
        deadline = time.monotonic() + _KILL_S
        while not member.ended and time.monotonic() < deadline:
            self.listen(0.1)


@contextmanager
def here(
    history: Writer, name: str, kind: Kind, recorder: Recorder, queue: str = ""
) -> Iterator[None]:
    """Write down that a participant in this process begins, and how it ends."""
    history.write(Began(name=name, kind=kind, queue=queue))
    how: How = "failed"
    why = ""
    try:
        yield
        how = "done"
    except BaseException as error:
        why = str(error)
        raise
    finally:
        history.write(ended(name, kind, how, why, recorder.path))


def _environment() -> dict[str, str]:
    """Return our environment, with which another process finds this package, too."""
    source = str(Path(rabbitproof.__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH")
    return dict(os.environ, PYTHONPATH=source if not known else f"{source}{os.pathsep}{known}")


def _close_input(member: Member) -> None:
    if member.process.stdin is not None:
        try:
            member.process.stdin.close()
        except OSError:
            return


def _close(member: Member) -> None:
    _close_input(member)
    if member.process.stdout is not None:
        member.process.stdout.close()
