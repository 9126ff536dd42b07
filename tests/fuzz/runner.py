"""Worlds by the thousand: played, written, judged, and what is said held against what happened."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz import draw, files, oracle
from fuzz.world import Script, play
from rabbitproof.errors import RabbitproofError
from rabbitproof.proof.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuzz.world import World

MEMORY = Path("/dev/shm")  # noqa: S108 - nobody else writes into what is made there
"""Where files cost nothing; any folder will do."""


EVENTS = (
    "a crash", "resumed", "sent again", "in doubt", "nacked or returned", "a missing binding",
    "the broker lost a copy", "the broker made a copy", "the broker exchanged two messages",
    "a corrupt copy", "dropped by a limit", "dead letters in the history", "retention of a stream",
    "a purge", "a count of 0 as the leader is away", "a stale count of the API",
    "a foreign message", "a foreign message with a checksum", "a message of another run",
    "a replay", "a stranger took messages", "a stranger consumes", "rejected", "requeued",
    "a consumer connected again", "a stream read again", "a clock was set", "a machine slept",
    "a machine was started again", "two files that went apart", "a cut file", "a file: early",
    "a file: both", "a file: damage", "a file: zeros", "a file: remove", "a history spoilt",
    "with a history", "without a history", "two queues", "a classic queue", "a quorum queue",
    "a stream queue", "a queue of a kind that nobody knows", "a queue that nobody read",
    "a queue that held something before", "cut, crash and stranger together",
)  # fmt: skip
"""Each of these happens in one world of twenty at least."""
MOST_UNKNOWN = 0.02
"""Of the worlds in which every file is whole and every queue provably drained."""


@dataclass
class Outcome:
    """What one world came to."""

    script: Script
    world: World
    decision: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    wrong: tuple[str, ...]
    case: oracle.Case
    books: dict[str, Any]


@dataclass
class Account:
    """What all worlds came to."""

    worlds: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    exempt: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    clean: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def add(self, one: Outcome) -> None:
        self.worlds += 1
        self.happened.update(events(one))
        self.decisions[one.decision] += 1
        self.exempt.update(set(one.case.exempt))
        for reason in one.reasons:
            kind = oracle.parsed(reason, (*oracle._FAILURES, *oracle._DOUBTS))[0]
            self.reasons[kind or "?"] += 1
        if oracle.clean(one.case):
            self.clean[one.decision] += 1
        if one.wrong:
            self.wrong.append((one.script.seed, one.wrong))

    def share(self, what: str) -> float:
        return self.happened[what] / max(1, self.worlds)

    def short(self) -> list[str]:
        """Return which floors were not reached: what rarely happens is rarely tested."""
        floors = dict.fromkeys(EVENTS, 0.05) | {"a loss": 0.25}
        out = [
            f"Only {self.share(what):.1%} of all worlds have {what}, not {least:.0%}."
            for what, least in floors.items()
            if self.share(what) < least
        ]
        unknown = self.clean["UNKNOWN"] / max(1, self.clean.total())
        if unknown > MOST_UNKNOWN:
            out.append(f"{unknown:.1%} are UNKNOWN where all is whole, and drained.")
        return out

    def told(self) -> str:
        """Return the account in lines."""
        clean = self.clean.total()
        lines = [f"  {name}: {count / self.worlds:.1%}" for name, count in self.decisions.items()]
        lines += [f"All whole and drained: {clean:,} worlds"]
        lines += [f"  {name}: {count / max(1, clean):.1%}" for name, count in self.clean.items()]
        lines += ["What happened, in so many of them:"]
        lines += [
            f"  {count / self.worlds:.1%} {name}" for name, count in self.happened.most_common()
        ]
        lines += ["Exempted, since no file can show it:"]
        lines += [
            f"  {count:,} {name}: {oracle.EXEMPT[name]}"
            for name, count in self.exempt.most_common()
        ]
        return "\n".join(lines)

    def unite(self, other: Account) -> None:
        self.worlds += other.worlds
        for name in ("happened", "decisions", "exempt", "reasons", "clean"):
            getattr(self, name).update(getattr(other, name))
        self.wrong += other.wrong


def events(one: Outcome) -> set[str]:
    """Return what kinds of things happened in a world."""
    case, world = one.case, one.world
    out = {name for name, count in world.happened.items() if count}
    out |= {f"a file: {what}" for done in case.spoilt.values() for what in done}
    out.add("with a history" if case.told else "without a history")
    spoilt = {what for done in case.spoilt.values() for what in done}
    if "history" in case.spoilt:
        out.add("a history spoilt")
    if spoilt & {"cut", "early", "damage", "zeros"}:
        out.add("a cut file")
    if any(one.role == "audit" for one in world.queues):
        out.add("two queues")
    for queue in world.queues:
        out.add(f"a {queue.setup.kind} queue")
        if not case.known(queue):
            out.add("a queue of a kind that nobody knows")
        if not case.readers(queue):
            out.add("a queue that nobody read")
    wanted = case.wanted()
    truths = [case.truth(queue, wanted) for queue in world.queues]
    if any(one.lost or one.taken or one.dropped or one.damaged for one in truths) or any(
        case.unhandled(queue, wanted) for queue in world.queues
    ):
        out.add("a loss")
    took = {"a stranger took messages", "a stranger consumes", "a foreign message"} & out
    if "a cut file" in out and "a crash" in out and took:
        out.add("cut, crash and stranger together")
    return out


def run(script: Script, folder: Path) -> Outcome:
    """Play, write and judge one world in an empty folder. ``files.clocks`` has to be entered."""
    world = play(script)
    written = files.write(world, folder)
    spoilt: dict[str, set[str]] = {}
    for what, name, share in script.spoils:
        if files.spoil(written, what, name, share):
            spoilt.setdefault(name, set()).add(what)
    case = oracle.Case(world, spoilt)
    try:
        result = verify([folder], files.RUN)
    except RabbitproofError as error:
        refused = () if spoilt else (f"refused, and no file was spoilt: {error}",)
        if type(error).__name__ == "UsageError" and not any(map(case.there, case.producers)):
            refused = ()
        return Outcome(script, world, "refused", (str(error),), (), refused, case, {})
    wrong = tuple(oracle.violations(case, result))
    verdict = result.verdict
    return Outcome(
        script, world, str(verdict.decision), verdict.reasons, verdict.notes, wrong, case,
        {name: one.books for name, one in verdict.queues.items()},
    )  # fmt: skip


def run_all(seeds: Iterable[int], *, stop: bool = False) -> Account:
    """Judge the worlds of these seeds; ``stop`` at the first wrong verdict."""
    account = Account()
    with folder() as top, files.clocks():
        for seed in seeds:
            account.add(one(draw.script(seed), top))
            if stop and account.wrong:
                break
    return account


def folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory, where there is one."""
    return tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)


def one(script: Script, top: str) -> Outcome:
    place = Path(top) / "run"
    place.mkdir()
    try:
        return run(script, place)
    finally:
        shutil.rmtree(place)


def shrink(outcome: Outcome) -> Outcome:
    """Take steps out for as long as something is still wrong in the same way."""
    kind = _kind(outcome)
    script = outcome.script
    with folder() as top, files.clocks():
        changed = True
        while changed:
            changed = False
            for name in ("spoils", "steps"):
                at = len(getattr(script, name)) - 1
                while at >= 0:
                    parts = getattr(script, name)
                    less = script._replace(**{name: parts[:at] + parts[at + 1 :]})
                    try:
                        found = one(less, top)
                    except Exception:  # noqa: BLE001 - a script that can't be played is no smaller one
                        at -= 1
                        continue
                    if _kind(found) == kind:
                        script, outcome, changed = less, found, True
                    at -= 1
    return outcome


def _kind(outcome: Outcome) -> str:
    return (
        "".join(" " if c.isdigit() else c for c in outcome.wrong[0])[:60] if outcome.wrong else ""
    )


def tell(seed: int) -> str:
    """Tell the world of a seed, in its shortest form if something is wrong."""
    with folder() as top, files.clocks():
        outcome = one(draw.script(seed), top)
    return story(shrink(outcome) if outcome.wrong else outcome)


def story(outcome: Outcome) -> str:
    """Tell a world: what happened, which files, what the verdict said."""
    world, case = outcome.world, outcome.case
    lines = [f"seed {outcome.script.seed}: {'; '.join(outcome.wrong) or 'nothing is wrong'}"]
    setup = world.setup
    lines += [f"  {name}: {getattr(setup, name)}" for name in ("history", "hosts", "queues")]
    lines += [f"  {name}: {getattr(setup, name)}" for name in ("producers", "consumers")]
    lines.append(f"  confirms {setup.confirms}, permits {setup.permits}")
    lines += [f"    {step[0]} {' '.join(map(str, step[1:]))}" for step in outcome.script.steps]
    lines += [f"    file of {name}: {', '.join(what)}" for name, what in case.spoilt.items()]
    wanted = case.wanted()
    for queue in world.queues:
        truth = case.truth(queue, wanted)
        parts = {name: sorted(getattr(truth, name)) for name in
                 ("seen", "damaged", "left", "taken", "dropped", "lost")}  # fmt: skip
        shown = {name: [f"{k[1]}:{k[2]}" for k in keys] for name, keys in parts.items() if keys}
        lines.append(f"  truth of {queue.name}: {shown}")
    lines.append(f"  {outcome.decision}: {' '.join(outcome.reasons)}")
    lines += [f"  note: {note}" for note in outcome.notes]
    lines += [f"  {name}: {books}" for name, books in outcome.books.items()]
    return "\n".join(lines)
