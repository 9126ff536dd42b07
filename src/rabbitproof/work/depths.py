"""How many messages are ready in some queues, once a second, while a participant works.

A question on the participant's own connection would wait behind its publishes, and hold them up
until the answer came. So a thread asks on a connection of its own, and the participant takes the
newest answer with it when it writes a sample. The thread shares nothing else, and whatever goes
wrong in it costs a figure, never a message.

Refuses to write anything down (``recorder``).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import ChannelClosed, RabbitproofError
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rabbitproof.amqp.connection import Connection

_EVERY_S: Final = 1.0
_END_S: Final = 2.0
"""For how long its end is waited for; it may be in the middle of an answer."""


class Depths:
    """Asks from ``begin`` to ``end``; ``newest`` is what it knows."""

    def __init__(self, connect: Callable[[], Connection], queues: Sequence[str]) -> None:
        self.newest: dict[str, int] = {}
        """Queue -> ready messages, as of a second ago at most; empty while nobody answers."""
        self._connect = connect
        self._queues = tuple(queues)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="depths", daemon=True)

    def begin(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with self._connect() as connection:
                    self._watch(connection)
            except (RabbitproofError, OSError):
                self.newest = {}
                self._over.wait(_EVERY_S)

    def _watch(self, connection: Connection) -> None:
        channel = connection.open_channel()
        while not self._over.is_set():
            found: dict[str, int] = {}
            for queue in self._queues:
                try:
                    found[queue] = wiring.message_count(connection, channel, queue)
                except ChannelClosed:  # no such queue, for now
                    channel = connection.open_channel()
            self.newest = found
            connection.wait(0)  # its heartbeats
            self._over.wait(_EVERY_S)
