"""What is known of one queue at the end of a run, and when that proves that it is empty.

Pure: no I/O, no clock. Refuses to find things out (``trial``, ``work``) and to judge (``books``
and ``verdict``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyroaring import BitMap

    from rabbitproof.identity import Source
    from rabbitproof.model import QueueType
    from rabbitproof.proof.ledger import QueueReceipts

REFUSED: Final = frozenset({"delivery_limit", "rejected"})
"""Reasons for which only a message goes that some consumer had and did not acknowledge: that it
was seen does not make it done, and that so many went does not tell what became of unseen ones."""


_LIMITS: Final = {
    "message-ttl": "expired",
    "expires": "expired",
    "max-length": "maxlen",
    "max-length-bytes": "maxlen",
    "max-age": "maxlen",
    "delivery-limit": "delivery_limit",
}
"""What a queue may be told by a policy, or with ``x-`` before it by an argument -> the reason for
which it then drops what it had confirmed."""
TIMED: Final = frozenset({"message-ttl", "expires", "max-age", "delivery-limit"})
"""Those of them by which something may be dropped also when nobody does anything any more: what
waits gets too old, and what was given back too often may be handed on later."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Copies that left a queue for a known reason instead of being acknowledged."""

    reason: str
    """``expired``, ``maxlen``, ``delivery_limit``, ``rejected`` or ``purged``."""
    count: int = 0
    """Copies of which only the number is known, as from purge-ok or the broker's counters."""
    receipts: QueueReceipts | None = None
    """Copies that are known by name: what was read from a dead-letter queue that holds only
    what was dropped for this reason."""
    dead: bool = True
    """Whether the named copies were found in a dead-letter queue; else a consumer named them."""
    evidence: str = ""
    """Who says so. A whole sentence, or nothing."""
    final: bool = True
    """Nothing more can have been dropped from the queue since that was known."""


@dataclass(frozen=True, slots=True)
class QueueEvidence:
    """What is known of one queue at the end of a run."""

    name: str
    """Its real name on the broker."""
    kind: QueueType
    receipts: QueueReceipts | None
    """All consumers' ledgers united; None when nobody consumed it."""
    left: int | None
    """Messages that the broker still counts after all consumers ended; of a stream, those that
    were not read. None when it could not be asked."""
    drained: bool
    """Proven to hold nothing more that was not seen; see ``proves_drained``."""
    consumers: int = 0
    """How many consumed it at the same time."""
    second: int | None = None
    """What a second source counted of ``left``; None when none was asked."""
    unended: int = 0
    """Consumers that ended without a word (killed), lost their connection, or gave messages back:
    what they received may have gone back to the queue, so that there is a second copy of what was
    seen."""
    unsaid: tuple[str, ...] = ()
    """Consumers whose ledgers have no end, and nobody says that they are whole: what nobody saw
    may have been received by them."""
    unsaid_handle: bool = False
    """Whether one of those handles what it gets, and does not refuse all of it."""
    kind_known: bool = True
    """False: nobody knows what type it is, so it may be a stream as well."""
    limits: tuple[str, ...] = ()
    """Arguments and policies by which the broker may drop what it confirmed; see ``limits``."""
    passes: int = 1
    """How often a stream was read from the same place at most: once for each consumer and each
    new connection. Reading it again makes no duplicates."""
    drops: tuple[Drop, ...] = ()
    unclear: QueueReceipts | None = None
    """What a consumer refused for good, unless it was not heard; or only such others had as may
    have given it back."""
    handled: Mapping[Source, BitMap] = field(default_factory=dict)
    """What consumers had that surely gave nothing back, and did not refuse."""
    before: int | None = 0
    """Messages that it held before the first publish: of those that are counted, so many may be
    none of this run's. None: nobody counted, so any may."""

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Those of ``limits`` of which nobody knows all that they dropped, unseen as it was."""
        known = {drop.reason for drop in self.drops if drop.final}
        return tuple(one for one in self.limits if _LIMITS[one.removeprefix("x-")] not in known)

    @property
    def counted(self) -> int | None:
        """``left`` where it can be relied on.

        A queue with replicas answers 0 as well when its leader does not answer in time, so there
        a second source has to agree with a 0; and with what is left of a stream, whose count is
        up to some seconds old while it was read.
        """
        if self.drained:
            return 0
        if self.kind == "classic" or self.left == self.second:
            return self.left
        if self.kind == "stream" and self.receipts is not None:
            return None
        return self.left or None


def limits(arguments: Mapping[str, Any], policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of a queue's arguments and of its policy lets the broker drop messages.

    A queue that refuses what is too much drops nothing for its length.
    """
    overflow = str(arguments.get("x-overflow", policy.get("overflow", "")))
    told = [(name, arguments.get(f"x-{name}"), f"x-{name}") for name in _LIMITS]
    told += [(name, policy.get(name), name) for name in _LIMITS]
    return tuple(
        shown
        for name, value, shown in told
        if value is not None
        and not (name == "delivery-limit" and isinstance(value, int) and value < 0)
        and not (name.startswith("max-length") and overflow.startswith("reject-publish"))
    )


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is not known because ledgers are missing or cut. Whole sentences, each of which leaves
    the verdict open.
    """

    producers: tuple[str, ...] = ()
    """There may be messages that no ledger knows: what came may be theirs, and a count as well."""
    consumers: tuple[str, ...] = ()
    """There may be receipts that no ledger has: what nobody saw may be among them."""
    resent: bool = False
    """A producer's ledger may lack that it sent again what it has as sent once."""


def proves_drained(kind: QueueType, left: int | None, second: int | None = None) -> bool:
    """Say whether these counts prove that a queue holds nothing more.

    ``left`` is a passive declare's count after all consumers ended (of a stream: less what was
    read). For a classic queue that is enough; for the others ``second``, the Management API's
    count, has to be 0 too.
    """
    return left == 0 and (kind == "classic" or second == 0)
