"""Good ledgers, and what they look like after something went wrong.

Each function spoils them in one way. What a verdict has to say of it is known to ``mutations``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pyroaring import BitMap

from rabbitproof.identity import Source
from rabbitproof.proof import verdict
from rabbitproof.proof.evidence import Drop, QueueEvidence
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.model import Verdict
    from rabbitproof.proof.verdict import Claim

_STRANGER: Final = Source("ffffffffffff", 1)
PURGED: Final = 3
"""Messages that are purged at once."""


@dataclass(slots=True)
class Ledgers:
    """Everything that a verdict is made of."""

    outcomes: list[Outcomes]
    queues: dict[str, QueueEvidence]
    claims: list[Claim] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unfired: list[str] = field(default_factory=list)

    def judge(self) -> Verdict:
        """Return the verdict over them."""
        return verdict.judge(
            self.outcomes, self.queues, self.claims, missing=self.missing, unfired=self.unfired
        )


def sample(messages: int = 100) -> Ledgers:
    """Return good ledgers of an imagined run: one producer, two queues, all of it seen."""
    source = Source("0a1b2c3d4e5f", 1)
    outcomes = Outcomes(source)
    outcomes.attempt(range(1, messages + 1))
    outcomes.confirm(range(1, messages + 1))
    queues: dict[str, QueueEvidence] = {}
    for name in ("work.queue", "audit.queue"):
        receipts = QueueReceipts()
        receipts.of(source).add(range(1, messages + 1), redelivered=False)
        queues[name] = QueueEvidence(name, "classic", receipts, left=0, drained=True, consumers=1)
    return Ledgers([outcomes], queues)


@dataclass(slots=True)
class Bench:
    """A copy of the ledgers that one mutation works on."""

    ledgers: Ledgers
    target: str = "work.queue"
    """The logical name of the queue that is spoiled."""
    touched: list[int] = field(default_factory=list)

    @property
    def outcomes(self) -> Outcomes:
        """The first producer's ledger."""
        return self.ledgers.outcomes[0]

    @property
    def evidence(self) -> QueueEvidence:
        """What is known of the queue."""
        return self.ledgers.queues[self.target]

    @property
    def receipts(self) -> QueueReceipts:
        """What was received from the queue."""
        receipts = self.evidence.receipts
        assert receipts is not None
        return receipts

    @property
    def got(self) -> Receipts:
        """What was received of the first producer."""
        return self.receipts.of(self.outcomes.source)

    def know(self, **changes: Any) -> None:
        """Change what is known of the queue."""
        self.ledgers.queues[self.target] = replace(self.evidence, **changes)

    def pick(self, where: str = "middle") -> int:
        """Choose a message that was sent once, confirmed, and came once, fresh and whole."""
        got = self.got
        plain = (got.fresh.once & self.outcomes.confirmed) - self.outcomes.resent
        plain -= got.redelivered.once | BitMap(self.touched)
        n: int = {"head": plain[0], "middle": plain[len(plain) // 2], "tail": plain[-1]}[where]
        self.touched.append(n)
        return n

    def forget(self, where: str = "middle") -> int:
        """Choose a message and let it never have come."""
        n, got = self.pick(where), self.got
        got.fresh.layers[0].discard(n)
        got.known.discard(n)
        return n

    def next_number(self) -> int:
        """Return a number that was never sent."""
        return int(self.outcomes.attempted.max()) + 1


# --- the ways to spoil them -------------------------------------------------------------------


def lose(where: str) -> Callable[[Bench], None]:
    """Lose a message: the first, the last or one between."""

    def spoil(bench: Bench) -> None:
        bench.forget(where)
        bench.know(drained=True, left=0)

    return spoil


def double(bench: Bench) -> None:
    """Deliver a message a second time as if it were the first."""
    bench.got.fresh.add([bench.pick()])


def double_flagged(bench: Bench) -> None:
    """Deliver a message a second time, flagged."""
    bench.got.redelivered.add([bench.pick()])


def double_resent(bench: Bench) -> None:
    """Send a message twice and deliver it twice."""
    n = bench.pick()
    bench.outcomes.attempt([n], again=True)
    bench.outcomes.confirm([n])
    bench.got.fresh.add([n])


def swap(bench: Bench) -> None:
    """Deliver a message behind a later one."""
    bench.got.behind.add(bench.pick())


def alter(bench: Bench) -> None:
    """Damage a message."""
    bench.got.add_corrupt(bench.forget())


def alter_id(bench: Bench) -> None:
    """Damage a message's id, so that it names nobody."""
    bench.forget()
    bench.receipts.corrupt_nameless += 1


def foreign(bench: Bench) -> None:
    """Deliver a message without an identity of ours."""
    bench.receipts.foreign += 1


def other_run(bench: Bench) -> None:
    """Deliver a message of another run."""
    bench.receipts.of(_STRANGER).add([1], redelivered=False)


def never_sent(bench: Bench) -> None:
    """Deliver a message that was not sent."""
    bench.got.fresh.add([bench.next_number()])


def forget_confirm(bench: Bench) -> None:
    """Leave a message in doubt."""
    bench.outcomes.acked.discard(bench.pick())


def nack(bench: Bench) -> None:
    """Nack a message instead of confirming it."""
    n = bench.pick()
    bench.outcomes.acked.discard(n)
    bench.outcomes.nack([n])


def give_back(bench: Bench) -> None:
    """Return a message."""
    bench.outcomes.give_back([bench.pick()])


def confirm_one_more(bench: Bench) -> None:
    """Confirm one more message, which no queue gets."""
    n = bench.next_number()
    bench.touched.append(n)
    bench.outcomes.attempt([n])
    bench.outcomes.confirm([n])


def purge(accounted: int) -> Callable[[Bench], None]:
    """Purge messages, so many of which are accounted for."""

    def spoil(bench: Bench) -> None:
        for _ in range(PURGED):
            bench.forget()
        drops = (*bench.evidence.drops, Drop("purged", count=accounted))
        bench.know(drops=drops if accounted else bench.evidence.drops, drained=True, left=0)

    return spoil


def dead_letter(reason: str, *, seen: bool = False) -> Callable[[Bench], None]:
    """Dead-letter a message, in place of its delivery or (``seen``) after it."""

    def spoil(bench: Bench) -> None:
        n = bench.pick() if seen else bench.forget()
        dead = QueueReceipts()
        dead.of(bench.outcomes.source).add([n], redelivered=False)
        bench.know(drops=(*bench.evidence.drops, Drop(reason, receipts=dead)))

    return spoil


def leave(left: int | None, forget: int) -> Callable[[Bench], None]:
    """Take messages away from what was seen, and leave so many by the count."""

    def spoil(bench: Bench) -> None:
        for _ in range(forget):
            bench.forget()
        bench.know(kind="classic", drained=False, left=left, second=None)

    return spoil


def false_zero(bench: Bench) -> None:
    """Lose a message of a quorum queue whose 0 nobody seconds."""
    bench.forget()
    bench.know(kind="quorum", drained=False, left=0, second=None)


def only_counted(bench: Bench) -> None:
    """Let nobody consume the queue, which holds one message too few."""
    wanted = sum(len(ledger.wanted) for ledger in bench.ledgers.outcomes)
    bench.know(kind="classic", receipts=None, drained=False, left=wanted - 1, second=None)


def read_twice(bench: Bench) -> None:
    """Make the queue a stream and read it twice."""
    again = deepcopy(bench.receipts)
    bench.know(kind="stream", passes=2)
    bench.receipts.unite([again])


def lose_ledger(bench: Bench) -> None:
    """Let a ledger be missing, and a message with it."""
    bench.forget()
    bench.ledgers.missing.append("Worker-2")


def fizzle(bench: Bench) -> None:
    """Let a fault not fire."""
    bench.ledgers.unfired.append("broker-kill")


def break_promise(bench: Bench) -> None:
    """Let a claim not hold."""
    bench.ledgers.claims.append(verdict.Claim("All was well.", held=False, found="It was not."))


def no_confirms(bench: Bench) -> None:
    """Let the producer not have asked for confirms, and lose a message."""
    n = bench.forget()
    ledger = bench.outcomes
    ledger.confirms = False
    ledger.acked = BitMap()
    bench.touched[:] = [n]
    bench.know(drained=True, left=0)
