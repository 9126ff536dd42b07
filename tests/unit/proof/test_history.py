"""Random histories with a known answer.

A history says of every message what really happened to it: how often it was sent, what the
producer heard, and of each copy where it ended. From it, one side plays the participants and
fills the ledgers through their own methods, in batches; the other side, ``naive``, goes through
the messages one by one, with dicts and lists, and knows nothing of ledgers or sets of numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitproof.identity import Source, message_id
from rabbitproof.model import Decision
from rabbitproof.proof.books import lost_ids
from rabbitproof.proof.evidence import Drop, QueueEvidence
from rabbitproof.proof.ledger import Outcomes, QueueReceipts
from rabbitproof.proof.verdict import judge

RUN = "0a1b2c3d4e5f"
STRANGER = Source("ffffffffffff", 1)
REASONS = ("expired", "maxlen", "delivery_limit", "rejected", "purged")

HEARD = ("confirmed", "confirmed", "confirmed", "confirmed", "nacked", "returned", "in doubt")
SEEN = ("fresh", "fresh", "fresh", "fresh", "flagged", "seen, then flagged", "damaged")
NAMED = tuple(f"dead: {reason}" for reason in REASONS)
COUNTED = ("purged", "maxlen", "left")


@dataclass(frozen=True)
class Message:
    producer: int
    n: int
    sends: int
    heard: str
    """Of the last attempt."""
    nacked_before: bool
    copies: tuple[tuple[str, ...], ...]
    """Of each queue: what became of each copy that got into it."""

    @property
    def source(self) -> Source:
        return Source(RUN, self.producer)

    @property
    def id(self) -> str:
        return message_id(self.source, self.n)


@dataclass(frozen=True)
class History:
    messages: tuple[Message, ...]
    orders: tuple[tuple[int, ...], ...]
    """Of each queue: the order in which messages came, by their place in ``messages``."""
    batch: int
    foreign: int
    strangers: int
    permits: frozenset[str] = frozenset()


def histories(*, counted: bool, queues: int = 2) -> st.SearchStrategy[History]:
    fates = st.sampled_from(SEEN * 2 + ("vanished",) * 3 + NAMED + (COUNTED * 2 if counted else ()))

    @st.composite
    def build(draw: Any) -> History:
        messages = []
        for producer in range(1, draw(st.integers(1, 2)) + 1):
            for n in range(1, draw(st.integers(1, 7)) + 1):
                heard = draw(st.sampled_from(HEARD))
                sends = draw(st.sampled_from([1, 1, 1, 2]))
                # A broker that doubles a message unasked and then loses the copy by the count
                # can't be told from one that loses the message; no count tells which it was.
                most = 1 if heard != "confirmed" else sends if counted else 2
                fewest = 1 if heard == "confirmed" else 0
                copies = tuple(
                    tuple(draw(st.lists(fates, min_size=fewest, max_size=most)))
                    for _ in range(queues)
                )
                before = sends > 1 and draw(st.booleans())
                messages.append(Message(producer, n, sends, heard, before, copies))
        places = range(len(messages))
        orders = tuple(
            tuple(draw(st.one_of(st.just(tuple(places)), st.permutations(places))))
            for _ in range(queues)
        )
        return History(
            tuple(messages), orders, draw(st.integers(1, 4)), draw(st.sampled_from([0, 0, 2])),
            draw(st.sampled_from([0, 0, 1])), draw(st.frozensets(st.sampled_from(REASONS))),
        )  # fmt: skip

    return build()


# --- the participants -------------------------------------------------------------------------


def play_producers(history: History) -> list[Outcomes]:
    ledgers: dict[Source, Outcomes] = {}
    for message in history.messages:
        ledger = ledgers.setdefault(message.source, Outcomes(message.source))
        ledger.attempt([message.n])
        if message.nacked_before:
            ledger.nack([message.n])
        for _ in range(message.sends - 1):
            ledger.attempt([message.n], again=True)
        if message.heard == "confirmed":
            ledger.confirm([message.n])
        elif message.heard == "nacked":
            ledger.nack([message.n])
        elif message.heard == "returned":
            ledger.give_back([message.n])
            ledger.confirm([message.n])  # the broker confirms these as well
    return list(ledgers.values())


def deliveries(history: History, queue: int) -> list[tuple[Message, str]]:
    """Return what came out of a queue in order: each message's copies one after the other."""
    out = []
    for place in history.orders[queue]:
        message = history.messages[place]
        for fate in message.copies[queue]:
            if fate in ("fresh", "flagged", "damaged"):
                out.append((message, fate))
            elif fate == "seen, then flagged":
                out += [(message, "fresh"), (message, "flagged")]
    return out


def play_queue(history: History, queue: int, *, drained: bool = True) -> QueueEvidence:
    receipts = QueueReceipts()
    receipts.foreign = history.foreign
    for n in range(history.strangers):
        receipts.of(STRANGER).add([n + 1], redelivered=False)
    batch: list[int] = []
    of: tuple[Source, str] | None = None

    def close() -> None:
        if of is not None and batch:
            source, how = of
            if how == "damaged":
                for n in batch:
                    receipts.of(source).add_corrupt(n)
            else:
                straight = range(batch[0], batch[0] + len(batch))
                numbers = straight if list(straight) == batch else list(batch)
                receipts.of(source).add(numbers, redelivered=how == "flagged")
        batch.clear()

    for message, how in deliveries(history, queue):
        if of != (message.source, how) or len(batch) >= history.batch:
            close()
            of = (message.source, how)
        batch.append(message.n)
    close()
    dead: dict[str, QueueReceipts] = {}
    count: Counter[str] = Counter()
    for message in history.messages:
        for fate in message.copies[queue]:
            if fate.startswith("dead: "):
                letters = dead.setdefault(fate.removeprefix("dead: "), QueueReceipts())
                letters.of(message.source).add([message.n], redelivered=False)
            elif fate in COUNTED:
                count[fate] += 1
    left = count.pop("left", 0)
    return QueueEvidence(
        f"q{queue}",
        "classic",
        receipts,
        left=left,
        drained=drained and not left,
        consumers=1,
        drops=(
            *(Drop(reason, receipts=letters) for reason, letters in dead.items()),
            *(Drop(reason, count=copies) for reason, copies in count.items()),
        ),
    )


# --- the naive answer -------------------------------------------------------------------------


@dataclass
class Answer:
    figures: Counter[str] = field(default_factory=Counter)
    lost_ids: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unhandled: Counter[str] = field(default_factory=Counter)


def naive(history: History, queue: int) -> Answer:
    """Go through the messages one by one and say what became of them in one queue."""
    answer = Answer()
    say = answer.figures
    for name in ("foreign", "strangers"):
        say["received"] += getattr(history, name)
        say["foreign"] += getattr(history, name)
    came: dict[str, list[str]] = {}
    for message, how in deliveries(history, queue):
        say["received"] += 1
        came.setdefault(message.id, []).append(how)
    for message in history.messages:
        copies = came.get(message.id, [])
        whole = [how for how in copies if how != "damaged"]
        fresh = whole.count("fresh")
        wanted = message.heard == "confirmed"
        gone = [f.removeprefix("dead: ") for f in message.copies[queue] if f.startswith("dead: ")]
        say["corrupt"] += copies.count("damaged")
        say["wanted"] += wanted
        if whole:
            say["unique"] += 1
            say["seen"] += wanted
            if not wanted:
                say["recovered"] += 1
                say["nacked_delivered"] += message.heard == "nacked"
                say["returned_delivered"] += message.heard == "returned"
        kind = "duplicates_resent" if message.sends > 1 else "duplicates_unflagged"
        say[kind] += max(0, fresh - 1)
        say["duplicates_redelivered"] += len(whole) - max(1, fresh) if whole else 0
        for reason in gone:
            answer.dropped[reason] += 1
            say["dead_lettered"] += 1
        for reason in set(gone):
            refused = reason in ("delivery_limit", "rejected")
            answer.unhandled[reason] += wanted and (refused or not copies)
        if wanted and not copies and gone:
            say["books.dropped"] += 1
        elif wanted and not copies:
            answer.lost_ids.append(message.id)
            where = [other.n for other in history.messages
                     if other.source == message.source
                     and any(how != "damaged" for how in came.get(other.id, []))]  # fmt: skip
            if not where or message.n < min(where):
                say["lost_head"] += 1
            else:
                say["lost_tail" if message.n > max(where) else "lost_middle"] += 1
        elif wanted and not whole:
            say["damaged"] += 1
    say["reordered"] = _out_of_order(history, queue)
    return answer


def _out_of_order(history: History, queue: int) -> int:
    """Count the messages, sent once, whose first fresh copy came behind that of a later one."""
    highest: dict[int, int] = {}
    met: set[str] = set()
    count = 0
    for message, how in deliveries(history, queue):
        if how != "fresh":
            continue
        if message.id not in met and message.n < highest.get(message.producer, 0):
            count += message.sends == 1
        met.add(message.id)
        highest[message.producer] = max(message.n, highest.get(message.producer, 0))
    return count


FIGURES = (
    "received", "unique", "recovered", "duplicates_redelivered", "duplicates_resent",
    "duplicates_unflagged", "corrupt", "foreign", "reordered", "lost_head", "lost_middle",
    "lost_tail", "nacked_delivered", "returned_delivered", "dead_lettered",
)  # fmt: skip


@given(histories(counted=False))
@settings(max_examples=100, deadline=None)
def test_the_verdict_gives_the_known_answer(history: History) -> None:
    """Every figure, every lost id, and the decision, when all that is gone is known by name."""
    outcomes = play_producers(history)
    evidence = {f"q{i}": play_queue(history, i) for i in range(2)}
    verdict = judge(outcomes, evidence, permits=history.permits)
    bad = False
    for i, (name, found) in enumerate(verdict.queues.items()):
        answer = naive(history, i)
        right = {figure: answer.figures[figure] for figure in FIGURES}
        assert {figure: getattr(found, figure) for figure in FIGURES} == right
        assert list(found.lost_ids) == list(lost_ids(outcomes, evidence[name])) == answer.lost_ids
        assert found.lost == found.lost_among == len(answer.lost_ids)
        assert found.dropped == +answer.dropped
        assert found.unhandled == +answer.unhandled
        books = found.books
        assert (books.wanted, books.seen, books.damaged, books.dropped) == tuple(
            answer.figures[part] for part in ("wanted", "seen", "damaged", "books.dropped")
        )
        assert (books.left, books.undecided, found.undecided, found.residue) == (0, 0, 0, 0)
        bad = bad or bool(
            answer.lost_ids or answer.figures["corrupt"] or answer.figures["reordered"]
            or answer.figures["duplicates_unflagged"] or set(+answer.unhandled) - history.permits
        )  # fmt: skip
    heard = Counter(message.heard for message in history.messages)
    assert (verdict.attempted, verdict.confirmed, verdict.returned) == (
        len(history.messages), heard["confirmed"], heard["returned"]
    )  # fmt: skip
    assert (verdict.nacked, verdict.in_doubt) == (heard["nacked"], heard["in doubt"])
    otherwise = Decision.PASS if heard["confirmed"] else Decision.UNKNOWN
    assert verdict.decision is (Decision.FAIL if bad else otherwise)
    assert bool(verdict.reasons) is (verdict.decision is not Decision.PASS)


@given(histories(counted=True, queues=1))
@settings(max_examples=120, deadline=None)
def test_what_is_only_counted_never_hides_a_loss_nor_makes_one_up(history: History) -> None:
    """Lost is never more than is lost, and PASS is never said when anything is lost."""
    outcomes = play_producers(history)
    verdict = judge(outcomes, {"q0": play_queue(history, 0)}, permits=REASONS)
    found = verdict.queues["q0"]
    truth = Counter[str]()
    for message in history.messages:
        fates = message.copies[0]
        if message.heard != "confirmed" or set(fates) & set(SEEN):
            continue
        if any(fate.startswith("dead: ") for fate in fates):
            truth["named"] += 1
        elif set(fates) & set(COUNTED):
            truth["left"] += set(fates) == {"left"}
            truth["dropped"] += "left" not in fates
            truth["either"] += 1
        else:
            truth["lost"] += 1
    books = found.books
    parts = (books.seen, books.damaged, books.dropped, books.left, books.lost, books.undecided)
    assert books.wanted == sum(parts)
    assert min(parts) >= 0 >= books.residue
    assert books.lost <= truth["lost"]
    assert books.dropped - truth["named"] + books.left <= truth["either"]
    assert books.lost + books.undecided >= truth["lost"]
    if truth["lost"]:
        assert verdict.decision is not Decision.PASS
    if verdict.decision is Decision.FAIL:
        assert truth["lost"] or found.corrupt or found.duplicates_unflagged or found.reordered


@given(histories(counted=False, queues=1), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_it_does_not_matter_who_consumed_what(
    history: History, consumers: int, random: Any
) -> None:
    """Several consumers' ledgers, united, are judged like one that saw all of it."""
    outcomes = play_producers(history)
    whole = play_queue(history, 0)
    shares = [QueueReceipts() for _ in range(consumers)]
    shares[0].foreign = history.foreign
    for n in range(history.strangers):
        shares[-1].of(STRANGER).add([n + 1], redelivered=False)
    for message, how in deliveries(history, 0):
        got = random.choice(shares).of(message.source)
        if how == "damaged":
            got.add_corrupt(message.n)
        else:
            got.add([message.n], redelivered=how == "flagged")
    united = QueueReceipts()
    united.unite(shares)
    several = QueueEvidence(
        "q0", "classic", united, left=0, drained=True, consumers=2, drops=whole.drops
    )
    one = QueueEvidence(
        "q0", "classic", whole.receipts, left=0, drained=True, consumers=2, drops=whole.drops
    )
    assert judge(outcomes, {"q": several}) == judge(outcomes, {"q": one})
