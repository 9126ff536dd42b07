"""A network that can be broken, without root: a proxy of ours between clients and brokers.

Holds: the program ``relay.py`` from our side: starting it, ordering it, its figures. Refuses to
hold: when something is broken and what that proves (``trial/``), and what the orders do to each
byte (``relay.py``, which says it exactly).

    with Proxy.start([("127.0.0.1", node.port)]) as proxy:
        ...                    # clients connect to 127.0.0.1, proxy.ports[0]
        proxy.half_open()
        ...
        proxy.heal()

TLS passes like anything else and can be cut, silenced, delayed and throttled; confirms can't be
taken out of it, because nobody in between can read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rabbitproof.broker import script
from rabbitproof.errors import NodeFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True)
class Figures:
    """What went through a proxy since its start, or what of it some of its targets had."""

    open: int = 0
    """Connections of clients, now."""
    held: int = 0
    """Bytes, now: taken from one side and not yet given to the other."""
    accepted: int = 0
    """Connections of clients so far, besides refused ones."""
    to_broker: int = 0
    """Bytes read from clients and passed on, at once or late."""
    to_client: int = 0
    """... from brokers, those of swallowed confirms among them."""
    unreachable: int = 0
    """Connections that were closed because the target let nobody in."""
    cut: int = 0
    """Connections that a cut reset."""
    refused: int = 0
    """New connections that were reset at once during a cut."""
    silenced: int = 0
    """Connections that were half-open: those that were open then, and new ones."""
    torn: int = 0
    """Of these, those that healing reset, because something said on them was dropped."""
    dropped: int = 0
    """Bytes that arrived nowhere: said while half-open, or on their way at a cut."""
    delayed: int = 0
    """Bytes that had to wait for a delay."""
    longest_delay: float = 0.0
    """Seconds from when a byte came to when it left, the longest while there was a delay."""
    throttled: int = 0
    """Bytes that passed a throttle."""
    acks: int = 0
    """Frames ``basic.ack`` that were swallowed."""
    nacks: int = 0
    """Frames ``basic.nack`` that were swallowed."""
    messages: int = 0
    """How many messages these answered at least: the first of a channel counts as one."""
    highest_tag: int = 0
    """The highest delivery tag among them."""
    unread: int = 0
    """Connections on which the broker sent something that is no AMQP 0-9-1; nothing is swallowed
    there."""
    why_unread: str = ""
    """What was wrong with the first of these."""


class Proxy(script.Program):
    """A way to each of some brokers that can be broken. Use it as a context manager, or close it.

    Targets are numbered from 1. Each order is for all of them unless it names some, holds for what
    is connected now and later until ``heal``, and returns the figures once it has been carried out.
    """

    def __init__(self, targets: Sequence[tuple[str, int]]) -> None:
        words = [str(word) for target in targets for word in target]
        super().__init__("The proxy", "relay", *words)
        if "error" in self.first:
            self.close()
            raise NodeFailed(
                f"The proxy can't find where to lead ({self.first['error']}); check the addresses."
            )
        self.ports: tuple[int, ...] = tuple(self.first["ports"])
        """The port of each target's way, on 127.0.0.1, in their order."""

    @classmethod
    def start(cls, targets: Sequence[tuple[str, int]]) -> Self:
        """Start one in front of these hosts and ports; it ends with this process at the latest."""
        return cls(targets)

    def cut(self, targets: Collection[int] | None = None) -> Figures:
        """Reset every connection, and each new one at once."""
        return self._order("cut", targets)

    def half_open(self, targets: Collection[int] | None = None) -> Figures:
        """Let every connection stand, accept new ones, and drop in silence whatever is said.

        ``heal`` then resets those on which something was dropped: their streams have holes.
        """
        return self._order("half-open", targets)

    def delay(self, seconds: float, targets: Collection[int] | None = None) -> Figures:
        """Have each byte take that much longer, in both directions."""
        if not 0 <= seconds <= 3600:
            raise UsageError("A delay is 0 to 3600 seconds each way; choose another one.")
        return self._order("delay", targets, seconds=seconds)

    def throttle(
        self, bytes_per_s: float | None, targets: Collection[int] | None = None
    ) -> Figures:
        """Let no more pass of each connection in each direction; None for no throttle."""
        if bytes_per_s is not None and not 1 <= bytes_per_s <= 1e12:
            raise UsageError("A throttle is at least 1 byte a second; choose another one.")
        return self._order("throttle", targets, rate=bytes_per_s or 0)

    def swallow_confirms(self, targets: Collection[int] | None = None) -> Figures:
        """Take every publisher confirm out of what brokers send, and nothing else."""
        return self._order("swallow", targets)

    def heal(self, targets: Collection[int] | None = None) -> Figures:
        """Mend everything; what was late arrives at once."""
        return self._order("heal", targets)

    def told(self, targets: Collection[int] | None = None) -> Figures:
        """Return the figures and change nothing."""
        return self._order("tell", targets)

    def _order(self, what: str, targets: Collection[int] | None, **more: float) -> Figures:
        count = len(self.ports)
        wanted = sorted(set(range(1, count + 1) if targets is None else targets))
        if not wanted or not 1 <= wanted[0] <= wanted[-1] <= count:
            raise UsageError(f"The proxy has the targets 1 to {count}; name some of these.")
        return Figures(**self.tell(do=what, lines=[number - 1 for number in wanted], **more))
