"""Totals and queue depths over a trial's time, for the report.

Points are dense at first and get rarer, so that a second and an hour have about as many. Depths
come from passive declarations over a connection of its own, which is opened again when the broker
comes back. Refuses to judge: what is missed here proves nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import RabbitproofError
from rabbitproof.proof.history import Sampled
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from rabbitproof.amqp.connection import Connection
    from rabbitproof.proof.history import Writer
    from rabbitproof.trial.place import Place

_DENSEST_S: Final = 0.05
_SHARE: Final = 0.01
"""Of the time that has passed, between two points."""
_AGAIN_S: Final = 0.5
"""Between two attempts to connect again."""


class Samples:
    """What was counted over time. Use it as a context manager."""

    def __init__(self, place: Place, history: Writer) -> None:
        self._place = place
        self._history = history
        self._began: float | None = None
        self._last: dict[str, float] = {}
        """When each total was noted last."""
        self._connection: Connection | None = None
        self._channel = 0
        self._next = 0.0
        self._not_before = 0.0

    def __enter__(self) -> Samples:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def begin(self) -> None:
        """Note that the first message is about to be published."""
        if self._began is None:
            self._began = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds after the first publish; 0 before it."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def take(self, name: str, total: int, *, final: bool = False, look: bool = True) -> None:
        """Note a running total, and the depths, when it is time.

        ``look``: whether the broker may be asked for the depths; one that is broken might hang.
        """
        now = self.now
        if self._began is None or (now < self._next and not final):
            return
        self._next = now + max(_DENSEST_S, now * _SHARE)
        if self._last.get(name, -1.0) >= now:
            return
        self._last[name] = now
        depths = self._look() if look else {}
        self._history.write(Sampled(at_s=now, totals={name: total}, depths=depths))

    def _look(self) -> dict[str, int]:
        now = self.now
        if now < self._not_before:
            return {}
        try:
            if self._connection is None:
                self._connection = self._place.connect("RabbitMQ Prover (looking)")
                self._channel = self._connection.open_channel()
            return {
                self._place.logical[queue.name]: wiring.message_count(
                    self._connection, self._channel, queue.name
                )
                for queue in self._place.topology.queues
            }
        except RabbitproofError:
            if self._connection is not None:
                self._connection.abandon()
            self._connection = None
            self._not_before = now + _AGAIN_S
            return {}
