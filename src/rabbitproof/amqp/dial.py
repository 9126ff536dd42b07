"""Which of several brokers to connect to, and how long to wait for each.

A ``Dialer`` is called for a connection, again and again: the first time the addresses are tried in
the order in which they were given, later those first that have not failed, in random order, so that
the clients of a broker that is gone spread over the others. Who asks may set a limit on the whole.

Refuses to decide whether and when to connect again (``work/link``), and to know bytes.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from rabbitproof.amqp.connection import CONNECT_TIMEOUT, Connection
from rabbitproof.errors import BrokerUnreachable, ConnectionFailed, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.address import Address

HEARTBEAT_S: Final = 60
"""What RabbitMQ itself proposes; a peer is given up after two of them."""

_QUICK_S: Final = 3.0
"""For one address while there is another one, and when connecting again: a broker that accepts a
connection and says nothing (it is paused, or a cable is) must not delay for long."""
_GROWTH: Final = 1.5
"""By how much more each round of them may take, up to ``CONNECT_TIMEOUT``: a busy broker logs
clients in late, but it does."""
_LEAST_S: Final = 0.1


class Dialer:
    """Opens connections of one name to the first of several addresses that lets us in."""

    def __init__(
        self, addresses: Sequence[Address], name: str, *, heartbeat: int = HEARTBEAT_S
    ) -> None:
        """``name`` is shown by the broker; ``heartbeat`` is seconds at most, 0 for none."""
        self.addresses = tuple(addresses)
        self._name = name
        self._heartbeat = heartbeat
        self._failed: dict[Address, float] = {}
        """When each failed last (monotonic seconds)."""
        self._used: Address | None = None
        self._patience = _QUICK_S

    def __call__(self) -> Connection:
        """Connect. Raises what the last address said: ConnectionFailed or ProtocolError.

        An address that accepted and said nothing in time is asked once more, with more time.
        """
        if len(self.addresses) < 2:
            return self._round(self.addresses, CONNECT_TIMEOUT)
        began = time.monotonic()
        try:
            return self._round(self._order(), _QUICK_S)
        except (ConnectionFailed, ProtocolError):
            if time.monotonic() - began < _QUICK_S:
                raise  # each of them answered
            return self._round(self._order(), CONNECT_TIMEOUT)

    def within(self, seconds: float) -> Connection:
        """Connect again, and take no more than so many seconds for it."""
        try:
            connection = self._round(self._order(), self._patience, seconds)
        except (ConnectionFailed, ProtocolError):
            self._patience = min(self._patience * _GROWTH, CONNECT_TIMEOUT)
            raise
        self._patience = _QUICK_S
        return connection

    def shun(self) -> None:
        """Begin with another address next time: what was opened last is of no use."""
        if self._used is not None:
            self._failed[self._used] = time.monotonic()

    def _order(self) -> Sequence[Address]:
        """Return the addresses, those first that failed longest ago or never."""
        if not self._failed:
            return self.addresses
        shuffled = random.sample(self.addresses, len(self.addresses))
        return sorted(shuffled, key=lambda one: self._failed.get(one, float("-inf")))

    def _round(
        self, addresses: Sequence[Address], each: float, in_all: float = float("inf")
    ) -> Connection:
        """Try each once."""
        until = time.monotonic() + in_all
        failure: ConnectionFailed | ProtocolError | None = None
        for address in addresses:
            left = until - time.monotonic()
            if failure is not None and left < _LEAST_S:
                break
            try:
                connection = Connection(
                    address,
                    self._name,
                    timeout=max(min(each, left), _LEAST_S),
                    heartbeat=self._heartbeat,
                )
            except (ConnectionFailed, ProtocolError) as error:
                self._failed[address] = time.monotonic()
                failure = error
            else:
                self._used = address
                return connection
        raise failure or BrokerUnreachable("No address was given; name one with --url.")
