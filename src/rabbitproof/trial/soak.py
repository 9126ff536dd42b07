"""Faults at random for as long as somebody likes, and what it costs in memory and on disk.

A soak is a trial like any other (``trial``): producer and consumers work all the time, the audit
queue is read all the time too, so that no queue grows, and at its end stands one verdict over
every message. This adds a line a minute and the memory of every process.

Yields progress, prints nothing. Refuses to choose faults (``dice``) and to judge.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import psutil

from rabbitproof.model import Claims, Note, Step
from rabbitproof.trial import dice
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.plan import (
    ClusterPlan,
    QueuePlan,
    Scenario,
    TopologyPlan,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from rabbitproof.model import Progress
    from rabbitproof.trial.trial import Trial

NAME: Final = "soak"
RATE: Final = 1_000.0
"""Messages a second; moderate, so that the faults and not the load are what is tried."""
AMONG: Final = {
    1: (
        "broker-kill",
        "broker-restart",
        "broker-pause",
        "memory-alarm",
        "disk-alarm",
        "network-cut",
        "half-open",
        "network-delay",
        "confirms-swallowed",
        "connection-close",
        "consumer-kill",
        "producer-kill",
    ),
    3: (
        "leader-kill",
        "node-kill",
        "node-pause",
        "partition",
        "rolling-restart",
        "network-cut",
        "connection-close",
        "consumer-kill",
        "producer-kill",
    ),
}
"""By the size of the broker."""
WARM_S: Final = 120.0
"""From here on memory has to stay flat: everything has been used once."""
_EVERY_S: Final = 60.0

SCENARIO: Final = Scenario(
    NAME,
    "Faults at random, for as long as you like",
    "What happens once in an hour is not found in a minute. Producer and consumers work all the "
    "time, and something breaks every half a minute; nothing that was confirmed is missing.",
    safe=True,
    workload=Workload(
        count=1,
        consumers=2,
        consume="during",
        audit="during",
        prefetch=500,
        window=2_000,  # a full one of 20,000 takes 10 MB while the broker is silent
        heartbeat_s=2,
        confirm_timeout_s=3.0,
    ),
    claims=Claims(audit_equals_work=True),
)


def plan(
    minutes: float,
    seed: int,
    *,
    private: bool,
    owner: bool = False,
    rate: float | None = None,
    nodes: int = 1,
) -> Scenario:
    """Return a soak of so many minutes.

    ``private``: the broker may be broken as well; ``owner``: an operator may close connections
    of it. With several ``nodes`` it is about a cluster, with quorum queues.
    """
    like = SCENARIO
    if nodes > 1:
        topology = TopologyPlan(work=QueuePlan("quorum"), audit=QueuePlan("quorum"))
        like = replace(SCENARIO, cluster=ClusterPlan(nodes), topology=topology)
    allowed = {"nothing", "proxy", *({"node", "cluster"} if private else set())}
    if private or owner:
        allowed.add("owner")
    among = [name for name in AMONG[1 if nodes == 1 else 3] if CATALOGUE[name].needs in allowed]
    return dice.soak(minutes, seed, rate=rate or RATE, among=among, like=like)


@dataclass(slots=True)
class Usage:
    """Bytes of one kind of process: after the warm-up, in the last minute of the sending, at most.

    The most is also of the time after that, in which all ledgers are read and judged.
    """

    warm: int | None = None
    end: int = 0
    most: int = 0

    def note(self, size: int, *, warm: bool, sending: bool = True) -> None:
        """Take a look at it into account."""
        if sending or not self.end:
            self.end = size
        if warm:
            self.warm = size if self.warm is None else self.warm
            self.most = max(self.most, size)

    def told(self) -> dict[str, Any]:
        """Return it in MB, ready for JSON, with the growth from the warm-up to the end."""
        growth = None if not self.warm else round(100 * (self.end / self.warm - 1), 1)
        return {
            "at_2_min": None if self.warm is None else _mb(self.warm),
            "end": _mb(self.end),
            "most": _mb(self.most or self.end),
            "growth_percent": growth,
        }


@dataclass(slots=True)
class Soak:
    """A trial that is looked at every minute. ``run`` does it."""

    trial: Trial
    memory: dict[str, Usage] = field(default_factory=dict)
    """By kind of process: ``prove``, ``producers``, ``consumers``, ``audit``, ``broker``."""
    disk: Usage = field(default_factory=Usage)
    """Of the broker's data and of the ledgers."""
    _began: float = 0.0

    def run(self) -> Generator[Progress, None, None]:
        """Carry it out. While messages are sent, a note a minute stands for all that happens."""
        self._began = time.monotonic()
        self.trial.measure = self.measured
        due = self._began + _EVERY_S
        sending = True
        for event in self.trial.run():
            now = time.monotonic()
            if now >= due and sending:
                due += _EVERY_S * (1 + int((now - due) / _EVERY_S))
                self.look()
                yield Note(self.line())
            state = self.trial.state()
            if sending and state.sent_all:
                sending = False
                self.look(sending=False)  # the producers' ledgers have been read by now
                yield Note(self.line())
            if not (sending and isinstance(event, (Step, Note)) and state.sent):
                yield event
        yield from self._sum_up()

    def measured(self) -> dict[str, Any]:
        """Look once more, and return how much memory and disk it took, ready for JSON."""
        self.look(sending=False)
        memory = {name: usage.told() for name, usage in self.memory.items()}
        return {"memory_mb": memory, "disk_mb": self.disk.told()}

    def _sum_up(self) -> Iterator[Progress]:
        """Say how much the memory grew."""
        parts = [
            f"{name} {_mb(usage.warm):.1f} -> {_mb(usage.end):.1f} MB "
            f"({100 * (usage.end / usage.warm - 1):+.0f} %, at most {_mb(usage.most):.1f})"
            for name, usage in self.memory.items()
            if usage.warm
        ]
        if parts:
            yield Note(
                f"memory from minute 2 to the last minute of the sending: {', '.join(parts)}"
            )

    def look(self, *, sending: bool = True) -> None:
        """Ask the system how much each process holds, and what stands on the disk."""
        warm = time.monotonic() - self._began >= WARM_S
        nodes = self.trial.place.nodes
        pids: dict[str, list[int]] = {"prove": [os.getpid()], **self.trial.processes()}
        pids["broker"] = [node.pid for node in nodes if node.pid is not None]
        for name, found in pids.items():
            # The largest: a process that was just started has not done anything yet.
            size = max((_resident(pid) for pid in found), default=0)
            if size:
                self.memory.setdefault(name, Usage()).note(size, warm=warm, sending=sending)
        folders = [*(node.directory for node in nodes), self.trial.folder]
        self.disk.note(
            _size({path for path in folders if path is not None}), warm=warm, sending=sending
        )

    def line(self) -> str:
        """Say how it goes."""
        state = self.trial.state()
        minutes = (time.monotonic() - self._began) / 60
        held = ", ".join(f"{name} {_mb(usage.end):.0f}" for name, usage in self.memory.items())
        last = "" if state.last is None else f" (last: {state.last})"
        silent = "" if state.fired == state.faults else f", {state.faults - state.fired} not fired"
        return (
            f"{minutes:.1f} min: {state.sent:,} confirmed, {state.received:,} received, "
            f"{state.faults} faults{last}{silent}; MB: {held}, disk {_mb(self.disk.end):.0f}"
        )


def _resident(pid: int) -> int:
    """Return the bytes that a process holds in memory; 0 for one that has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _size(folders: set[Path]) -> int:
    """Return the bytes of all files below; what vanishes meanwhile counts nothing."""
    total = 0
    for top in folders:
        if any(top != other and top.is_relative_to(other) for other in folders):
            continue  # counted with that one
        for place, _, names in os.walk(top):
            for name in names:
                try:
                    total += os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118  quicker
                except OSError:
                    continue
    return total


def _mb(size: int) -> float:
    return round(size / 1e6, 1)
