"""What a verdict may say of a world, message by message.

Knows what happened (``world``) and which files are there; nothing of ``rabbitproof.proof``. What no
file can show is exempted by name, each in ``EXEMPT`` with its reason, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Any

from fuzz.world import RUN, SECOND, Process, Queue, World
from rabbitproof.identity import Source, message_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.model import QueueVerdict, TrialResult

EXEMPT = {
    "unheard of": "a producer of which neither ledger nor history is here confirmed it",
    "count made up": "somebody's copy stands in the count for the one that is lost; nobody read it",
    "count undecided": "nobody read the queue, which is noted as undecided; another one is decided",
    "stranger": "a history says who takes part; who else takes, takes from the run",
    "hidden limit": "the broker dropped by a limit that no file tells of",
    "clock": "a host's clock was wrong from the beginning to the end of a ledger",
    "second sender": "it was sent twice, and the ledger that says so is not here",
    "read and lost": "a stream lost what had been read of it: that is taken for what was not",
    "handled unheard of": "a consumer of which nothing is here handled what another one refused",
    "purged by number": "a purge counts copies: that of a stranger stands for one that is lost",
    "poison": "one copy went back too often, and who handled another one had given that back once",
    "earlier count": "who counted last is not here, and what is gone went before that",
    "as if given back": "of the broker's second copy, flagged as come again, somebody handled one",
    "parted": "a producer went on twice, and one of the files ends where they parted",
    "behind a cut": "it stands behind the end of a consumer's ledger, as a note says",
}
RIGHT = SECOND * 9 // 10
"""By how much a clock may be wrong, so that two are never 2 s apart."""


@dataclass
class Truth:
    """What became of the wanted messages of one queue."""

    seen: set[Any] = field(default_factory=set)
    damaged: set[Any] = field(default_factory=set)
    left: set[Any] = field(default_factory=set)
    taken: set[Any] = field(default_factory=set)
    dropped: dict[Any, str] = field(default_factory=dict)
    lost: set[Any] = field(default_factory=set)


@dataclass
class Case:
    """A world, its files, and what was done to them."""

    world: World
    spoilt: dict[str, set[str]]
    """Participant, or ``history`` -> what was done to its file."""
    exempt: Counter[str] = field(default_factory=Counter)

    # --- what is there ---

    @property
    def told(self) -> bool:
        """Whether there is a history."""
        return self.world.setup.history and "remove" not in self.spoilt.get("history", ())

    def there(self, who: Process) -> bool:
        spoilt = self.spoilt.get(who.name, set())
        return who.state != "new" and ("remove" not in spoilt or "both" in spoilt)

    def whole(self, who: Process) -> bool:
        return not self.spoilt.get(who.name, set()) - {"both"}

    @property
    def producers(self) -> list[Process]:
        everybody = self.world.processes.values()
        return [one for one in everybody if one.kind == "producer" and one.state != "new"]

    def readers(self, queue: Queue) -> list[Process]:
        """All who read a queue and kept a ledger, wherever that is now."""
        everybody = self.world.processes.values()
        return [one for one in everybody if one.queue is queue and one.state != "new"]

    @property
    def permits(self) -> tuple[str, ...]:
        return self.world.setup.permits if self.told else ()

    # --- what happened ---

    def wanted(self) -> set[Any]:
        """All that was confirmed to somebody of whom anything is here.

        Without confirms all that was sent; of one that did not end nobody knows what that was.
        """
        wanted, unheard = set(), set()
        for one in self.producers:
            for n, answer in one.answers.items():
                key = (RUN, one.number, n)
                good = answer == "c" or (
                    not self.world.setup.confirms and answer == "d" and one.state == "ended"
                )
                if good and not self.there(one) and (one.outside or not self.told):
                    unheard.add(key)
                elif good:
                    wanted.add(key)
        if unheard - wanted:
            self.exempt["unheard of"] += 1
        return wanted

    def truth(self, queue: Queue, wanted: set[Any]) -> Truth:
        readers = self.readers(queue)
        seen = {key for one in readers for key in one.recorded}
        damaged = {key for one in readers for key in one.corrupt_keys}
        copies: dict[Any, list[Any]] = {}
        for copy in queue.copies:
            copies.setdefault(copy.key, []).append(copy)
        truth = Truth()
        for key in wanted:
            mine = copies.get(key, [])
            fates = {one.fate for one in mine}
            there = any(
                not one.fate
                and one.origin != "replay"  # it may have come when all had been counted
                and not (one.damage == "id" and one.recorded)
                for one in mine
            )
            if not self.told and "purged" in fates:
                fates.add("purged by a stranger")
            drops = fates & {"expired", "maxlen", "delivery_limit", "purged" if self.told else "-"}
            if key in seen:
                truth.seen.add(key)
            elif key in damaged:
                truth.damaged.add(key)
            elif there:
                truth.left.add(key)
            elif drops:
                truth.dropped[key] = min(drops)
            elif fates & {"taken", "purged by a stranger"}:
                truth.taken.add(key)
            else:
                truth.lost.add(key)
        return truth

    def unhandled(self, queue: Queue, wanted: set[Any]) -> set[Any]:
        """Return what somebody refused, and nobody acknowledged."""
        refused = {key for one in self.readers(queue) for key in one.refused}
        done = {key for one in self.readers(queue) for key in one.acknowledged}
        return (refused - done) & wanted

    def known(self, queue: Queue) -> bool:
        """Whether the files say what type a queue is."""
        everybody = [one.setup.told != "silent" for one in self.world.queues]
        told = queue.setup.told
        return told == "api" or (told == "declared" and (self.told or all(everybody)))

    def aliens(self, queue: Queue) -> int:
        """Return how many copies a count may have beside those that producers sent once."""
        known = {one.number for one in self.producers if self.there(one) or self.told}
        return sum(
            one.origin in ("foreign", "replay", "double")
            or (one.origin == "sent" and one.key is not None and one.key[1] not in known)
            for one in queue.copies
        )

    def proven(self, queue: Queue) -> bool:
        """Say whether a queue was provably drained, after all, by a good margin."""
        readers = self.readers(queue)
        if not readers or queue.held or queue.strangers:
            return False
        active = [one for one in self.producers if one.state != "ended"]
        if active or any(one.state != "ended" for one in readers):
            return False
        need_second = queue.setup.kind != "classic" or not self.known(queue)
        if queue.stream:
            return False  # what the passes say is another question
        if self.told and any(one.twin for one in self.producers):
            return False  # it knows nothing of whoever goes on elsewhere
        if self.told:
            gone = self.world.left_at.get(queue.name, 0)
            counts = [one for one in self.world.history_counts.get(queue.name, ())
                      if one["at"] > gone]  # fmt: skip
            declared = [one for one in counts if one["by"] == "declare"][-1:]
            api = [one for one in counts
                   if one["by"] == "api" and one["at"] >= gone + 7 * SECOND][-1:]  # fmt: skip
            return (
                all(one["messages"] == 0 and not one["consumers"] for one in declared)
                and bool(declared)
                and (not need_second or (bool(api) and api[0]["messages"] == 0))
            )
        last = max(readers, key=lambda one: one.last)
        counts = last.end_count
        if counts["counts"].get(queue.name) != 0 or counts["consumers"].get(queue.name) != 0:
            return False
        if need_second and counts["second"].get(queue.name) != 0:
            return False
        everybody = [*self.producers, *readers]
        if any(abs(skew) > RIGHT for one in everybody for skew in one.skews):
            return False
        if self.world.happened["a clock was set"]:
            return False
        if any(one.host.boots > 1 or one.host.slept for one in everybody):
            return False
        return all(one is last or last.last > one.last + 4 * SECOND for one in everybody)

    def trusts_clocks(self, queue: Queue) -> bool:
        """Say whether a clock is right somewhere in each ledger, so that "later" means later; or a
        history says what was later.
        """
        counts = self.world.history_counts.get(queue.name, ())
        gone = self.world.left_at.get(queue.name, 0)
        everybody = [*self.producers, *self.readers(queue)]
        if (
            self.told
            and not self.spoilt.get("history")
            and _over(self.world)
            and not any(one.twin or one.state == "runs" for one in everybody)
            and any(one["by"] == "declare" and one["at"] > gone for one in counts)
        ):
            return True
        return all(map(_clock_shows, [*self.producers, *self.readers(queue)]))


def _clock_shows(one: Process) -> bool:
    if not one.skews:
        return True
    still = not one.host.setup.linux and one.host.slept > one.slept
    first, last = abs(one.skews[0]) <= RIGHT, abs(one.skews[-1]) <= RIGHT
    if not one.host.setup.linux and one.host.boots > 1 and not last:
        return False
    return last or (first and not still)


# --- what it may say ---------------------------------------------------------------------------

_FAILURES = (
    ("lost", r"(?P<n>[\d,]+) (?:confirmed|sent) messages? (?:is|are) lost in (?P<q>[\w.]+)"
             r"(?:, among the (?P<u>[\d,]+) that were not seen)?"
             r"(?P<taken>, or taken by a consumer that kept no ledger)?\."),
    ("corrupt", r"(?P<n>[\d,]+) messages? in (?P<q>[\w.]+) did not have the right checksum\."),
    ("doubled", r"(?P<q>[\w.]+) delivered (?P<n>[\d,]+) second copies as if [^,]*, of "
                r"messages that were sent once\."),
    ("reordered", r"(?P<n>[\d,]+) messages? (?:was|were) delivered by (?P<q>[\w.]+) "
                  r"behind later ones of the same producer\."),
    ("dropped", r"(?P<n>[\d,]+) (?:confirmed|sent) messages? (?P<how>.*) (?:in|from) "
                r"(?P<q>[\w.]+), and nobody handled (?:it|them)"
                r"(?:, or a consumer that kept no ledger did)?\."),
)  # fmt: skip
_DOUBTS = (
    (
        "as far",
        r".* (?:second copies|behind later ones).*, as far as the files here tell\.",
    ),
    ("perhaps", r"(?P<n>[\d,]+) .* (?:in|from) (?P<q>[\w.]+), and nobody whose ledger is all .*"),
    ("unclear", r"(?P<n>[\d,]+) .* rejected by a consumer in (?P<q>[\w.]+); it or another .*"),
    ("left", r"(?P<n>[\d,]+) .* not seen in (?P<q>[\w.]+), which still holds as many: .*"),
    ("undrained", r".* (?:not seen|only counted) in (?P<q>[\w.]+), and it is not proven that .*"),
    (
        "not all here",
        r".* in (?P<q>[\w.]+), and may have been received by one whose .*",
    ),
    ("reader's end", r".* in (?P<q>[\w.]+), and the ledger of .* has no end: nobody says that .*"),
    ("limit", r".* in (?P<q>[\w.]+), and it has .*, by which the broker may have dropped them: .*"),
    ("by number", r".* in (?P<q>[\w.]+), and what was dropped from it is known by number only\."),
    ("balance", r"The books of (?P<q>[\w.]+) do not balance: .*"),
    ("sender's frames", r"The ledger of producer \d+ (?:ends at|lacks) .*"),
    ("file", r"The ledger of .* (?:is cut off|is not the one that).*|.* is damaged at byte .*"),
    ("sender's end", r"The ledger of producer .* has no end, and nobody says .*"),
    ("apart", r"There is another ledger that begins as .*|There are two histories of .*"),
    ("history", r"The history .* (?:has no end|is damaged).*"),
    ("missing", r"The ledger of .* is missing: .*"),
    ("unfired", r"The fault .* never fired, .*"),
    ("nothing", r"Nothing was confirmed, .*"),
    ("unread", r"No queue was read and none .*"),
)
_HOW = {"expired": "expired", "full": "maxlen", "delivery limit": "delivery_limit",
        "rejected": "rejected", "purged": "purged"}  # fmt: skip


def parsed(reason: str, kinds: Any) -> tuple[str, dict[str, str | None]]:
    for kind, pattern in kinds:
        if found := re.fullmatch(pattern, reason):
            return kind, found.groupdict()
    return "", {}


def violations(case: Case, result: TrialResult) -> Iterator[str]:
    """Yield what the verdict must not have said."""
    verdict = result.verdict
    wanted = case.wanted()
    truths = {queue.name: case.truth(queue, wanted) for queue in case.world.queues}
    queues = {queue.name: queue for queue in case.world.queues}
    decision = str(verdict.decision)
    for reason in verdict.reasons:
        kind, values = parsed(reason, _FAILURES)
        if kind:
            queue = queues[str(values["q"])]
            yield from _failure(case, kind, values, reason, queue, truths[queue.name], wanted,
                                verdict.queues[queue.name])  # fmt: skip
            continue
        kind, values = parsed(reason, _DOUBTS)
        if not kind:
            yield f"a reason that the fuzz does not know: {reason}"
        elif not _doubt(case, kind, queues.get(str(values.get("q"))), truths, wanted):
            yield f"this is not so: {reason}"
    if decision == "PASS":
        for name, queue in queues.items():
            yield from _passed(case, queue, truths[name], wanted, verdict.queues[name], verdict)
    yield from _exact(case, decision, verdict, truths, wanted)


def _failure(
    case: Case, kind: str, values: dict[str, Any], reason: str, queue: Queue, truth: Truth,
    wanted: set[Any], found: QueueVerdict,
) -> Iterator[str]:  # fmt: skip
    n = int(str(values["n"]).replace(",", ""))
    world, readers = case.world, case.readers(queue)
    if kind == "lost":
        may = set(truth.lost)
        gone = [one for one in readers if not case.there(one)]
        elsewhere = {key for one in gone for key in one.recorded} - {
            key for one in readers if one not in gone for key in one.recorded
        }
        if not case.told and values["taken"]:
            may |= truth.taken | elsewhere | {key for one in gone for key in one.corrupt_keys}
            held = {one.key for one in queue.held}
            may |= held
        elif truth.taken:
            case.exempt["stranger"] += 1
            may |= truth.taken
        limited = [
            one for one in queue.copies if one.fate in ("expired", "maxlen", "delivery_limit")
        ]
        if limited and not queue.setup.limit_told:
            case.exempt["hidden limit"] += 1
            may |= set(truth.dropped)
        may |= {one.key for one in limited if one.damage == "id"}  # so named by nobody
        if n > len(may) and not case.trusts_clocks(queue):
            case.exempt["clock"] += 1
            return
        if n > len(may) and any(
            _shared(case, one) and not (case.there(one) and case.whole(one))
            for one in case.producers
        ):
            case.exempt["second sender"] += 1
            return
        if queue.stream and n > len(may):
            read = [
                one for one in queue.copies if one.recorded and one.fate in ("vanished", "maxlen")
            ]
            if n <= len(may) + len(read) and not queue.setup.limit_told:
                case.exempt["read and lost"] += 1
                return
        if n > len(may):
            yield f"{n} are called lost in {queue.name}, and {len(may)} are: {reason}"
        if any(one.twin for one in case.producers) and any(
            "cut" in case.spoilt.get(one.name, ()) for one in case.producers
        ):
            case.exempt["parted"] += 1
            return
        ids = {message_id(Source(key[0], key[1]), key[2]) for key in may if key}
        if found.lost_ids and not set(found.lost_ids) <= ids:
            yield f"these are not lost in {queue.name}: {set(found.lost_ids) - ids}"
    elif kind == "corrupt":
        came = sum(one.corrupt for one in readers)
        if n > came:
            yield f"{n} are called corrupt in {queue.name}, and {came} are"
    elif kind in ("doubled", "reordered"):
        doubles = [one.key for one in queue.copies if one.origin == "double"]
        hidden = [one for one in case.producers if _shared(case, one)
                  and not (case.there(one) and case.whole(one))]  # fmt: skip
        if hidden:
            case.exempt["second sender"] += 1
        elif kind == "doubled" and not doubles:
            yield f"the broker made no copies in {queue.name}: {reason}"
        elif kind == "reordered" and not (doubles or world.reordered[queue.name]):
            yield f"the broker kept the order in {queue.name}: {reason}"
    elif kind == "dropped":
        why = next(name for word, name in _HOW.items() if word in str(values["how"]))
        if why == "rejected":
            done = {key for one in readers for key in one.acknowledged}
            may = {key for one in readers if one.answer == "reject" for key in one.recorded}
            may = (case.unhandled(queue, wanted) | may - truth.left - _back(queue)) - done
        elif why == "delivery_limit":
            done = {key for one in readers for key in one.acknowledged}
            may = {one.key for one in queue.copies if one.fate == why} - done
        else:
            here = [one for one in readers if case.there(one) and case.whole(one)]
            may = {one.key for one in queue.copies if one.fate == why}
            may -= {key for one in here for key in one.recorded}
        wrong = n > len(may & wanted)
        if wrong and why == "rejected" and not case.told and not all(map(case.there, readers)):
            case.exempt["handled unheard of"] += 1
        elif wrong and why == "rejected" and any(one.origin == "double" for one in queue.copies):
            case.exempt["as if given back"] += 1
        elif wrong and why == "purged" and case.aliens(queue) and n <= len(may | truth.lost):
            case.exempt["purged by number"] += 1
        elif wrong and why == "delivery_limit" and _twice(queue):
            case.exempt["poison"] += 1
        elif wrong or why in case.permits:
            yield f"{n} are called {why} in {queue.name}, and {len(may & wanted)} are"


def _back(queue: Queue) -> set[Any]:
    """Return what is in a queue, and nowhere else."""
    if queue.stream:
        return set()
    there = {one.key for one in queue.copies if not one.fate}
    return there - {one.key for one in queue.copies if one.fate == "rejected"}


def _twice(queue: Queue) -> bool:
    """Say whether a message that was dropped as poison had another copy."""
    poison = {one.key for one in queue.copies if one.fate == "delivery_limit"}
    return any(sum(one.key == key for one in queue.copies) > 1 for key in poison)


def _shared(case: Case, one: Process) -> bool:
    return any(other is not one and other.number == one.number for other in case.producers)


def _doubt(
    case: Case, kind: str, queue: Queue | None, truths: dict[str, Truth], wanted: set[Any]
) -> bool:
    """Say whether what leaves a verdict open is so in the world."""
    world = case.world
    spoilt = {name for name, what in case.spoilt.items() if what}
    senders = {one.name for one in case.producers}
    readers = {one.name for one in world.processes.values()} - senders
    twins = any(one.twin for one in case.producers)
    if kind == "left":
        assert queue is not None
        maybe = queue.stream and not case.known(queue)  # what is in a stream may have been read
        aliens = case.aliens(queue) > 0 or queue.setup.before > 0
        return bool(truths[queue.name].left) or aliens or maybe
    if kind == "as far":
        unended = any(one.state != "ended" for one in case.producers)
        return bool(spoilt) or unended or twins or (case.told and not _over(world))
    if kind == "perhaps":
        unended = any(one.state != "ended" for one in world.processes.values())
        return bool(spoilt) or unended or twins or (case.told and not _over(world))
    if kind == "unclear":
        assert queue is not None
        refuses = any(one.answer == "reject" for one in case.readers(queue))
        return refuses or bool(world.happened["rejected"])
    if kind == "undrained":
        assert queue is not None
        return not case.proven(queue) or bool(spoilt) or (case.told and not _over(world))
    if kind == "not all here":
        running = any(one.state == "runs" for one in world.processes.values())
        returned = not world.setup.confirms and any(one.state != "ended" for one in case.producers)
        return bool(spoilt) or twins or returned or (case.told and (running or not _over(world)))
    if kind == "reader's end":
        assert queue is not None
        return bool(spoilt & readers) or any(one.state != "ended" for one in case.readers(queue))
    if kind == "limit":
        return queue is not None and bool(queue.setup.limit_told)
    if kind == "by number":
        return bool(world.happened["a purge"] or world.happened["dead letters in the history"])
    if kind == "balance":
        assert queue is not None
        stale = any(one["messages"] != one["true"]
                    for one in world.history_counts.get(queue.name, ()))  # fmt: skip
        return (
            stale
            or bool(case.aliens(queue))
            or queue.setup.before > 0
            or bool(spoilt)
            or queue.stream
        )  # but not that a consumer gave some back: that explains more copies
    if kind == "sender's frames":
        return bool(spoilt & senders) or twins
    if kind == "file":
        return bool(spoilt) or twins
    if kind == "sender's end":
        return bool(spoilt) or any(one.state != "ended" for one in case.producers)
    if kind == "apart":
        return bool(spoilt)
    if kind == "history":
        return "history" in spoilt or not _over(world)
    if kind == "missing":
        running = any(one.state == "runs" for one in world.processes.values())
        return bool(spoilt) or (running and case.told)
    if kind == "unfired":
        return set(world.setup.faults) != set(world.fired)
    if kind == "nothing":
        return not wanted or bool(spoilt & senders)
    # unread: of no queue is there a whole ledger of anybody who read it
    return any(
        not case.there(one) or not case.whole(one)
        for each in world.queues for one in case.readers(each)
    ) or any(not case.readers(each) for each in world.queues)  # fmt: skip


def _surplus(case: Case, queue: Queue, wanted: set[Any]) -> bool:
    """Say whether more was counted than there are messages that could explain it."""
    sent = {(RUN, one.number, n) for one in case.producers for n, how in one.answers.items()
            if how != "r"}  # fmt: skip
    resent = any(one.resent for one in case.producers)
    before = queue.setup.before if queue.setup.before_told else 0
    return not resent and queue.count > len(sent | wanted) + before


def _over(world: World) -> bool:
    return any(one[0] == "history" and one[2] == "over" for one in world.log)


def _passed(
    case: Case, queue: Queue, truth: Truth, wanted: set[Any], found: QueueVerdict, verdict: Any
) -> Iterator[str]:
    """Yield what a PASS hides."""
    if any(one.twin for one in case.producers) and any(
        "cut" in case.spoilt.get(one.name, ()) for one in case.producers
    ):
        case.exempt["parted"] += 1
        return
    permitted = {key for key, why in truth.dropped.items() if why in case.permits}
    gone = truth.lost | truth.taken | truth.damaged | set(truth.dropped) - permitted
    readers = [one for one in case.readers(queue) if case.there(one)]
    if readers:
        hidden = gone | truth.left
        if hidden:
            yield f"PASS, and nobody saw {_shown(hidden)} of {queue.name}"
        unhandled = case.unhandled(queue, wanted)
        if unhandled and "rejected" not in case.permits:
            if all(case.whole(one) for one in readers if one.refused):
                yield f"PASS, and {_shown(unhandled)} of {queue.name} were refused"
            elif f"damage in {queue.name} are counted as far as it goes" in " ".join(verdict.notes):
                case.exempt["behind a cut"] += 1
            else:
                yield f"PASS, and a cut ledger hides that {_shown(unhandled)} were refused"
        corrupt = [one for one in readers if one.corrupt and case.whole(one)]
        if corrupt:
            yield f"PASS, and {corrupt[0].name} got corrupt copies from {queue.name}"
        return
    gone -= queue.counted  # the rest is of what became of them later
    if gone:
        if found.books.undecided:
            case.exempt["count undecided"] += 1
        elif len(gone) <= case.aliens(queue) and (
            case.spoilt.get("history") or not _surplus(case, queue, wanted)
        ):
            case.exempt["count made up"] += 1
        elif case.spoilt.get("history") or not all(map(case.there, case.readers(queue))):
            case.exempt["earlier count"] += 1
        else:
            yield f"PASS by count, and {_shown(gone)} of {queue.name} are gone"


def _exact(
    case: Case, decision: str, verdict: Any, truths: dict[str, Truth], wanted: set[Any]
) -> Iterator[str]:
    """Yield where a verdict is not what follows from files that are all whole, and drained."""
    if not clean(case) or not wanted:
        return
    world = case.world
    open_limits = any(one.setup.limit for one in world.queues)
    purged = world.happened["a purge"] and case.told
    lost = sum(len(one.lost | one.taken) for one in truths.values())
    if lost and not open_limits and not purged:
        said = sum(queue.lost for queue in verdict.queues.values())
        if decision != "FAIL" or said != lost:
            yield f"all is known, {lost} are lost, and {decision} says {said}"
    bad = (
        lost
        or any(one.damaged or one.dropped or one.left for one in truths.values())
        or any(one.corrupt for one in world.processes.values())
        or any(case.unhandled(queue, wanted) for queue in world.queues)
        or world.happened["the broker made a copy"]
        or sum(world.reordered.values())
    )
    unheard = any(
        (one.recorded.keys() if one.answer == "reject" else one.refused) & other.recorded.keys()
        for queue in world.queues
        for one, other in permutations(case.readers(queue), 2)
        if other.gave_back
    )
    if not bad and not unheard and decision != "PASS":
        yield f"all is known, nothing is wrong, and it is {decision}: {' '.join(verdict.reasons)}"


def clean(case: Case) -> bool:
    """Say whether every file is whole, every queue was read and provably drained, and the files
    tell what left one otherwise.
    """
    world = case.world
    dropped = any(one.fate in ("expired", "maxlen", "delivery_limit", "purged")
                  for queue in world.queues for one in queue.copies)  # fmt: skip
    return (
        not dropped
        and not any(case.spoilt.values())
        and not any(one.twin for one in case.producers)
        and all(case.proven(queue) for queue in world.queues)
        and set(world.setup.faults) == set(world.fired)
        and (not world.setup.history or world.log[-1][2:3] == ("over",))
    )


def _shown(keys: Any) -> str:
    named = sorted(f"{key[1]}:{key[2]}" for key in keys if key)
    return f"{len(keys)} ({', '.join(named[:6])})"
