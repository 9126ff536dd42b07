"""What each participant knows of a run: a producer's outcomes, a consumer's receipts.

Everything is keyed by (run, producer, n). A set of numbers is a roaring bitmap: a million
numbers in a row take a few bytes, so a ledger's size does not grow with the run.

Pure: no I/O, no clock. Refuses to know frames (``amqp``) and to judge (``verdict``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import lt
from typing import TYPE_CHECKING

from pyroaring import BitMap

from rabbitproof.proof.copies import Copies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rabbitproof.identity import Identity, Source


def add(numbers: Sequence[int], to: BitMap) -> None:
    """Add numbers to a set; a ``range`` costs the same however long it is."""
    if isinstance(numbers, range) and numbers.step == 1:
        if numbers:
            to.add_range(numbers.start, numbers.stop)
    else:
        to.update(numbers)


def runs(numbers: BitMap) -> Iterator[range]:
    """Yield a set of numbers as ranges, from the lowest on."""
    start = stop = 0
    for n in numbers:
        if n != stop:
            if start != stop:
                yield range(start, stop)
            start = n
        stop = n + 1
    if start != stop:
        yield range(start, stop)


@dataclass(slots=True)
class Outcomes:
    """One producer's ledger: what it attempted and what became of it.

    A message is in exactly one of ``confirmed``, ``nacked``, ``returned`` and ``in_doubt``. In
    doubt means that no answer came; it is never called failed.
    """

    source: Source
    confirms: bool = True
    """False when the broker was asked not to confirm: everything stays in doubt."""
    attempted: BitMap = field(default_factory=BitMap)
    resent: BitMap = field(default_factory=BitMap)
    """Sent more than once, so that more than one copy may exist."""
    returned: BitMap = field(default_factory=BitMap)
    """No queue took it. The broker confirms such a message as well; it does not count."""
    acked: BitMap = field(default_factory=BitMap)
    refused: BitMap = field(default_factory=BitMap)
    """Nacked, and not sent again since; an earlier attempt may have been confirmed."""
    unsure: BitMap = field(default_factory=BitMap)
    """Written down, and perhaps never sent: without confirms, of a producer without an end."""

    def attempt(self, numbers: Sequence[int], *, again: bool = False) -> None:
        """Note that these are about to be published, ``again`` if they were before."""
        add(numbers, self.attempted)
        if again:
            add(numbers, self.resent)
            # The new attempt gets an answer of its own. A returned one was confirmed as well, and
            # that was the answer to the old one.
            coming = BitMap(numbers)
            self.acked -= self.returned & coming
            self.returned -= coming
            self.refused -= coming

    def confirm(self, numbers: Sequence[int]) -> None:
        """Note that the broker took responsibility for these."""
        add(numbers, self.acked)

    def nack(self, numbers: Sequence[int]) -> None:
        """Note that the broker refused these."""
        add(numbers, self.refused)

    def give_back(self, numbers: Sequence[int]) -> None:
        """Note that no queue took these."""
        add(numbers, self.returned)

    @property
    def confirmed(self) -> BitMap:
        """Confirmed and not returned: some queue has it."""
        return self.acked - self.returned

    @property
    def nacked(self) -> BitMap:
        """Refused at the last attempt, and confirmed at none."""
        return self.refused - self.acked - self.returned

    @property
    def in_doubt(self) -> BitMap:
        """Attempted, and no answer came."""
        return self.attempted - self.acked - self.refused - self.returned

    @property
    def wanted(self) -> BitMap:
        """What has to be in every queue: confirmed; without confirms, all that was surely sent and
        not returned.
        """
        if self.confirms:
            return self.confirmed
        return self.attempted - self.returned - self.unsure

    def unite(self, later: Outcomes) -> None:
        """Add what the same producer knows of a later session, in which it was started again.

        Or of another one at the same time, where two went on with copies of one ledger: what
        either knows to be confirmed is.
        """
        confirmed = self.confirmed | later.confirmed
        sent = self.attempted - self.unsure - self.returned
        sent |= later.attempted - later.unsure - later.returned
        self.unsure = (self.unsure | later.unsure) - sent
        self.resent |= later.resent | (self.attempted & later.attempted)
        # The new attempt got an answer of its own; the one to what was returned was the old one's.
        self.acked -= self.returned & later.attempted
        self.returned -= later.attempted
        self.refused -= later.attempted
        self.attempted |= later.attempted
        self.returned |= later.returned - confirmed
        self.acked |= later.acked
        self.refused |= later.refused
        self.confirms = self.confirms and later.confirms


def one_each(outcomes: Iterable[Outcomes]) -> list[Outcomes]:
    """Return one ledger for each producer."""
    found: dict[object, Outcomes] = {}
    for ledger in outcomes:
        known = found.get(ledger.source)
        if known is None:
            found[ledger.source] = ledger
        else:
            united = Outcomes(ledger.source, confirms=known.confirms)
            united.unite(known)
            united.unite(ledger)
            found[ledger.source] = united
    return list(found.values())


@dataclass(slots=True)
class Receipts:
    """One consumer's ledger of what one producer of one run had sent."""

    fresh: Copies = field(default_factory=Copies)
    """Copies that came without the broker's ``redelivered`` flag."""
    redelivered: Copies = field(default_factory=Copies)
    """Copies that came with it."""
    corrupt: BitMap = field(default_factory=BitMap)
    """Copies whose checksum was wrong. They are in none of the sets above."""
    corrupt_copies: int = 0
    inversions: int = 0
    """Fresh copies whose number was below one that had come before."""
    highest: int = 0
    """The highest number of a fresh copy."""
    behind: BitMap = field(default_factory=BitMap)
    """Numbers whose first fresh copy came after one with a higher number."""
    known: BitMap = field(default_factory=BitMap)
    """All numbers that came at least once, whole or damaged."""
    rejected: BitMap = field(default_factory=BitMap)
    """Numbers that the consumer refused one by one, and that did not come to it again since."""
    again: BitMap = field(default_factory=BitMap)
    """Numbers of which a copy came that carries the mark of somebody who sent it again."""

    @property
    def seen(self) -> BitMap:
        """All numbers that came whole at least once."""
        return self.fresh.once | self.redelivered.once

    @property
    def twice(self) -> BitMap:
        """All numbers that came whole at least twice."""
        fresh, flagged = self.fresh, self.redelivered
        return fresh.twice | flagged.twice | fresh.once & flagged.once

    def lacks(self, numbers: Sequence[int]) -> bool:
        """Say whether none of these came before, and none stands here twice."""
        if isinstance(numbers, range) and numbers.step == 1:
            return not self.known.range_cardinality(numbers.start, numbers.stop)
        if not numbers:  # of an empty range with a step, pyroaring makes an error
            return True
        coming = BitMap(numbers)
        return len(coming) == len(numbers) and self.known.isdisjoint(coming)

    def add(self, numbers: Sequence[int], *, redelivered: bool, again: bool = False) -> int:
        """Count these copies, in the order in which they came; return how many are new.

        ``again``: somebody sent them again, so nothing follows from their order.
        """
        if not numbers:
            return 0
        before = len(self.known)
        add(numbers, self.known)
        if again:
            add(numbers, self.again)
        if self.rejected:
            self.rejected -= BitMap(numbers)
        if redelivered:
            self.redelivered.add(numbers)
        else:
            if not again:
                self._watch_order(numbers)
            self.fresh.add(numbers)
        return len(self.known) - before

    def _watch_order(self, numbers: Sequence[int]) -> None:
        if isinstance(numbers, range) and numbers.step == 1 and numbers.start > self.highest:
            self.highest = numbers[-1]
            return
        if isinstance(numbers, range) and numbers.step == 1:
            below = BitMap(range(numbers.start, min(numbers.stop, self.highest)))
            self.inversions += len(below)
            self.behind |= below - self.fresh.once
            self.highest = max(self.highest, numbers[-1])
            return
        if numbers[0] > self.highest and all(map(lt, numbers, numbers[1:])):
            self.highest = numbers[-1]
            return
        highest, before, came = self.highest, self.fresh.once, set[int]()
        for n in numbers:
            if n < highest:
                self.inversions += 1
                if n not in came and n not in before:
                    self.behind.add(n)
            else:
                highest = n
            came.add(n)
        self.highest = highest

    def add_corrupt(self, n: int) -> int:
        """Count a copy that claims to be ``n`` and has the wrong checksum; 1 if ``n`` is new."""
        before = len(self.known)
        self.known.add(n)
        self.corrupt.add(n)
        self.corrupt_copies += 1
        return len(self.known) - before

    def reject(self, numbers: Sequence[int]) -> None:
        """Note that these, which came, were refused for good: dropped, or dead-lettered."""
        add(numbers, self.rejected)

    def unite(self, other: Receipts) -> None:
        """Add what another consumer of the same queue received."""
        self.fresh.unite(other.fresh)
        self.redelivered.unite(other.redelivered)
        self.corrupt |= other.corrupt
        self.known |= other.known
        self.again |= other.again
        self.rejected |= other.rejected
        self.corrupt_copies += other.corrupt_copies
        self.inversions += other.inversions
        self.behind |= other.behind
        self.highest = max(self.highest, other.highest)

    def duplicates(self) -> int:
        """Return how many copies came beyond the first of each number, flagged or not."""
        both = self.fresh.once.intersection_cardinality(self.redelivered.once)
        return self.fresh.extra() + self.redelivered.extra() + both


@dataclass(slots=True)
class QueueReceipts:
    """All that one consumer received from one queue."""

    by_source: dict[Source, Receipts] = field(default_factory=dict)
    foreign: int = 0
    """Messages without an identity of ours."""
    corrupt_nameless: int = 0
    """Messages with our checksum header whose message id names nobody."""

    def of(self, source: Source) -> Receipts:
        """Return the receipts for one producer's messages, new ones if there were none."""
        receipts = self.by_source.get(source)
        if receipts is None:
            receipts = self.by_source[source] = Receipts()
        return receipts

    def add_foreign(self, count: int = 1) -> None:
        """Count messages without an identity of ours."""
        self.foreign += count

    def add_nameless(self, count: int = 1) -> None:
        """Count messages of ours, by their checksum header, whose id names nobody."""
        self.corrupt_nameless += count

    def note(
        self,
        identity: Identity | None,
        *,
        intact: bool,
        redelivered: bool,
        again: bool = False,
        ours: bool = True,
    ) -> int:
        """Count one message, ``intact`` if its checksum is right; 1 if it is a new one.

        Without an identity, one with a right checksum is foreign: somebody made it so. With a
        wrong one, the id was altered if the message has more of our shape (``ours``); else it is
        somebody's who calls a header as we do.
        """
        if identity is None:
            if intact or not ours:
                self.add_foreign()
            else:
                self.add_nameless()
            return 1
        receipts = self.of(identity.source)
        if not intact:
            return receipts.add_corrupt(identity.n)
        return receipts.add([identity.n], redelivered=redelivered, again=again)

    def unite(self, others: Iterable[QueueReceipts]) -> None:
        """Add what other consumers of the same queue received."""
        for other in others:
            for source, receipts in other.by_source.items():
                self.of(source).unite(receipts)
            self.foreign += other.foreign
            self.corrupt_nameless += other.corrupt_nameless

    @property
    def unique(self) -> int:
        """Distinct whole messages."""
        return sum(len(receipts.seen) for receipts in self.by_source.values())

    @property
    def redelivered(self) -> int:
        """Copies that came with the broker's flag."""
        return sum(receipts.redelivered.total for receipts in self.by_source.values())

    @property
    def duplicates(self) -> int:
        """Copies beyond the first of each message."""
        return sum(receipts.duplicates() for receipts in self.by_source.values())

    @property
    def corrupt(self) -> int:
        """Copies with a wrong checksum or without a readable name."""
        named = sum(receipts.corrupt_copies for receipts in self.by_source.values())
        return named + self.corrupt_nameless

    @property
    def consumed(self) -> int:
        """Distinct messages, whole or damaged, and foreign ones: what ``--expect`` counts."""
        distinct = sum(len(receipts.known) for receipts in self.by_source.values())
        return distinct + self.corrupt_nameless + self.foreign

    @property
    def missing(self) -> int:
        """Gaps up to the highest number that came from each producer."""
        gaps = 0
        for receipts in self.by_source.values():
            # A damaged copy may name any number, so it can fill a gap but not make one.
            seen = receipts.seen
            if seen:
                highest = seen.max()
                damaged = (receipts.corrupt - seen).range_cardinality(1, highest + 1)
                gaps += highest - len(seen) - damaged
        return gaps
