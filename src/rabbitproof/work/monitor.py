"""Watching a broker: one refresh after the other, whatever becomes of the broker meanwhile.

Holds: what a refresh is, what stays of the last good one when the next fails, and the fallback
over AMQP for a broker without the management plugin. Refuses to hold: when to refresh and how
to show it (``cli``, ``view``).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from rabbitproof.errors import (
    ChannelClosed,
    ConnectionClosed,
    ManagementError,
    ManagementUnreachable,
    NotFound,
    RabbitproofError,
)
from rabbitproof.snapshot import Picture, QueueSample, Snapshot
from rabbitproof.text import safe
from rabbitproof.work import topology
from rabbitproof.work.diagnosis import diagnose, full
from rabbitproof.work.rates import STILL_S, WINDOW_S, History

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.snapshot import Detail, Key

MOVING = 50
"""Moving queues whose counters are asked for at every refresh: 2 ms each on RabbitMQ 3.10."""

_AGAIN_S = 1.0
"""Between two looks of one that looks until it knows."""


class Source(Protocol):
    """What is looked at: a broker through its API, or through AMQP.

    ``moving`` are queues whose counters are wanted even where not all can be asked for.
    """

    def look(self, moving: Sequence[Key] = ()) -> Snapshot: ...  # noqa: D102 - see the class

    def close_up(self, vhost: str, name: str) -> Detail | None: ...  # noqa: D102 - see the class


class Monitor:
    """Looks at a broker each time it is told to, and remembers. One thread at a time.

    ``fallback`` is looked at when ``source`` does not answer. ``filter_by`` keeps the queues whose
    name it finds, and their consumers.
    """

    def __init__(
        self,
        source: Source,
        *,
        fallback: Source | None = None,
        filter_by: re.Pattern[str] | None = None,
    ) -> None:
        self._source = source
        self._fallback = fallback
        self._filter = filter_by
        self._history = History()
        self._first: Snapshot | None = None
        self._began: float | None = None
        """When the first snapshot was taken."""
        self._picture = Picture(None)

    def refresh(self) -> Picture:
        """Look once and return what is known then. An error stands in the picture."""
        began = time.monotonic()
        try:
            snapshot = self._look()
        except RabbitproofError as error:
            return self._failed(str(error))
        return self._seen(snapshot, time.monotonic() - began)

    def look_once(self) -> Picture:
        """Look once; raise what is wrong."""
        began = time.monotonic()
        return self._seen(self._look(), time.monotonic() - began)

    def look_well(self, note: Callable[[str], None]) -> Picture:
        """Look once, or for up to 11 s until the broker tells enough, which ``note`` is told.

        A node that just started does not tell of its alarms for 5 s, and whether consumers that
        hold all they may acknowledge is seen after two reports. Raise what is wrong.
        """
        picture = self.look_once()
        end = time.monotonic() + STILL_S + _AGAIN_S
        if self._undecided():
            note(f"the broker does not tell enough yet: looking for up to {STILL_S:.0f} s")
        while self._undecided() and time.monotonic() < end:
            time.sleep(_AGAIN_S)
            picture = self.look_once()
        return picture

    def _undecided(self) -> bool:
        """Tell whether what is told in some seconds may say more of alarms and stuck consumers."""
        snapshot, rates = self._picture.snapshot, self._picture.rates
        if snapshot is None or not snapshot.metrics:
            return False
        return any(node.running and node.memory_alarm is None for node in snapshot.nodes) or any(
            queue.counters is not None
            and queue.counters.ack is not None
            and not rates[queue.key].ack
            and not self._history.silent(queue.key)
            for queue, _, _ in full(snapshot)
        )

    def close_up(self, vhost: str, name: str) -> Detail | None:
        """Return one queue with everything that is known of it."""
        return self._source.close_up(vhost, name)

    def _look(self) -> Snapshot:
        try:
            moving = self._history.moving(MOVING)
            return _filtered(self._source.look(moving), self._filter)
        except ManagementError as error:
            if self._fallback is None:
                raise
            try:
                snapshot = self._fallback.look()
            except RabbitproofError as second:
                raise ManagementUnreachable(f"{error} AMQP neither: {second}") from error
            return replace(
                snapshot,
                missing=(
                    *snapshot.missing,
                    "only depths and consumer counts of the named queues are here, asked for over "
                    f"AMQP: {error}",
                ),
            )

    def _seen(self, snapshot: Snapshot, seconds: float) -> Picture:
        if self._picture.error is not None:
            self._history.tell(snapshot.clock, "the broker answers again")
        rates = self._history.add(snapshot)
        if self._began is None:
            self._began = snapshot.at
        self._picture = Picture(
            snapshot,
            rates=rates,
            trends=self._history.trends,
            own=snapshot.at - self._began >= WINDOW_S - 1,
            consumer_counts=Counter((one.vhost, one.queue) for one in snapshot.consumers or ()),
            vhosts=len({queue.vhost for queue in snapshot.queues}),
            problems=diagnose(snapshot, self._history.silent, self._first),
            events=self._history.events,
            seconds=seconds,
        )
        if self._first is None or snapshot.unroutable_dropped is None:
            self._first = snapshot
        return self._picture

    def _failed(self, why: str) -> Picture:
        now = time.time()
        since = self._picture.failing_since
        if since is None:
            self._history.tell(now, "the broker does not answer")
        self._picture = replace(
            self._picture,
            error=why,
            failing_since=now if since is None else since,
            events=self._history.events,
        )
        return self._picture


def _filtered(snapshot: Snapshot, pattern: re.Pattern[str] | None) -> Snapshot:
    if pattern is None:
        return snapshot
    queues = tuple(queue for queue in snapshot.queues if pattern.search(queue.name))
    consumers = snapshot.consumers
    if consumers is not None:
        consumers = tuple(one for one in consumers if pattern.search(one.queue))
    return replace(snapshot, queues=queues, consumers=consumers)


class Amqp:
    """Named queues, asked for one by one with passive declarations.

    A quorum queue whose leader is slow answers 0 and 0, so a 0 of this source proves nothing.
    """

    def __init__(
        self, connect: Callable[[], Connection], queues: Sequence[str], vhost: str, place: str
    ) -> None:
        self._connect = connect
        self._queues = queues
        self._vhost = vhost
        self._place = place

    def look(self, moving: Sequence[Key] = ()) -> Snapshot:
        """Ask for each queue; one that is not there is left out and named."""
        del moving  # each is asked for anyway
        found, missing = [], []
        with self._connect() as connection:
            version = str(connection.server_properties.get("version", ""))
            channel = connection.open_channel()
            for name in self._queues:
                try:
                    answer = topology.look(connection, channel, name)
                except NotFound:
                    missing.append(f"there is no queue {safe(name, 60)}; check its name")
                    channel = connection.open_channel()
                    continue
                except (ChannelClosed, ConnectionClosed) as error:
                    missing.append(f"queue {safe(name, 60)} could not be asked for: {error}")
                    channel = connection.open_channel()
                    continue
                found.append(
                    QueueSample(
                        self._vhost,
                        name,
                        type="",
                        ready=answer.message_count,
                        consumers=answer.consumer_count,
                    )
                )
        return Snapshot(
            at=time.monotonic(),
            clock=time.time(),
            source=self._place,
            version=version,
            queues=tuple(found),
            consumers=None,
            connections=None,
            metrics=False,
            missing=tuple(missing),
            requests=len(self._queues),
        )

    def close_up(self, vhost: str, name: str) -> Detail | None:
        """Know nothing more of a queue."""
        del vhost, name
        return None
