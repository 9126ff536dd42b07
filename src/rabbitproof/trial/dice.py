"""Random plans that can be repeated: a scenario and a seed give the same faults every time.

Pure: the seed is all the chance there is, and the same on every machine and every Python, for
only ``Random.random`` is used, whose numbers never change (its documentation promises that).
Moments that are shares of the messages stay shares, so a faster machine reaches them sooner: the
plan is the same, its timing is not.

Refuses to know how a fault is carried out (``faults``) and when it is due (``faults.Schedule``).
"""

from __future__ import annotations

import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.plan import FaultPlan, RandomPlan, Scenario, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SEED: Final = 2**32 - 1

_EARLIEST, _LATEST = 0.1, 0.8
"""Shares of the messages between which a fault comes: something has to be before and after it."""
_LONGER: Final = 1.5
"""An outage lasts up to so many times what its file says, and never less: a scenario may need it
to be longer than something else, such as a heartbeat."""
_LARGEST: Final = 2_048
"""Bytes of a body; larger ones are another experiment."""
_MOST_BYTES: Final = 100_000_000
"""Of all bodies together: a million messages stay about as small as they are."""
_SOAK_GAP_S: Final = (15.0, 40.0)
"""Seconds from the end of one fault of a soak to the next."""
_SOAK_CALM_S: Final = 10.0
"""Seconds without a fault at the beginning of a soak, and at its end."""


def new_seed() -> int:
    """Return a seed for somebody who did not name one."""
    return secrets.randbelow(MOST_SEED + 1)


def drawn(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with moments, lengths, victims and the size of bodies from the seed."""
    dice = random.Random(f"{scenario.name} {seed}")
    wanted, work = scenario.random, scenario.workload
    if wanted is None:
        plans = tuple(_changed(plan, work, dice) for plan in scenario.faults)
    else:
        plans = scenario.faults + several(wanted, dice, timed=work.rate is not None)
    if wanted is not None and work.rate is not None:
        # Messages have to be on their way as long as something breaks.
        seconds = max((plan.at_s or 0.0) + _takes(plan) for plan in plans)
        work = replace(work, count=max(work.count, int(work.rate * (seconds + 1.0))))
    # Many small ones and few large ones, as it is with messages.
    size = work.size or int(min(_LARGEST, max(1, _MOST_BYTES / work.count)) ** dice.random())
    return replace(scenario, faults=plans, workload=replace(work, size=size), seed=seed)


def several(
    wanted: RandomPlan, dice: random.Random, *, timed: bool = False
) -> tuple[FaultPlan, ...]:
    """Return so many different faults, one after the other, none in the time of another.

    ``timed``: at seconds after the first publish, else at shares of the messages.
    """
    names = _shuffled(wanted.among, dice)[: wanted.faults]
    room = (_LATEST - _EARLIEST) / len(names)
    plans: list[FaultPlan] = []
    at_s = 0.0
    for number, name in enumerate(names):
        moment, lasts, pick = dice.random(), _outage(name, dice), _victim(dice)
        if timed:
            at_s += 0.5 + moment
            plan = FaultPlan(name, at_s=round(at_s, 2), lasts_s=lasts, pick=pick)
            at_s += _takes(plan)
        else:
            share = round(_EARLIEST + room * (number + 0.5 * moment), 4)
            plan = FaultPlan(name, at_share=share, lasts_s=lasts, pick=pick)
        plans.append(plan)
    return tuple(plans)


def soak(
    minutes: float, seed: int, *, rate: float, among: Sequence[str], like: Scenario
) -> Scenario:
    """Return ``like`` for so many minutes, with faults at random all the time."""
    dice = random.Random(f"soak {seed}")
    seconds = minutes * 60.0
    plans: list[FaultPlan] = []
    at, end = _SOAK_CALM_S, seconds - _SOAK_CALM_S
    fitting = [name for name in among if at + sum(_longest(name)) <= end]
    while fitting and at < end:
        # Each kind once before one comes again, in an order of its own each time.
        for name in _shuffled(fitting, dice):
            lasts, pick = _outage(name, dice), _victim(dice)
            plan = FaultPlan(name, at_s=round(at, 1), lasts_s=lasts, pick=pick)
            over = at + _takes(plan)
            at = over + _between(_SOAK_GAP_S, dice)
            if over > end:
                break
            plans.append(plan)
    if not plans:
        raise UsageError("--minutes is too short for a single fault; give half a minute at least.")
    work: Workload = replace(like.workload, count=MAX_NUMBER, seconds=seconds, rate=rate)
    return replace(like, workload=work, faults=tuple(plans), seed=seed)


def _changed(plan: FaultPlan, work: Workload, dice: random.Random) -> FaultPlan:
    """Return a fault of a file at another moment."""
    share, at_s = plan.at_share, plan.at_s
    moment = dice.random()
    if share is not None and 0 < share < 1:  # these two mean before and after the messages
        latest = _LATEST
        if work.rate is not None:
            # Messages have to be on their way as long as it lasts, every time.
            takes = _LONGER * (plan.times - 1) * plan.every_s
            if CATALOGUE[plan.name].meanwhile:
                takes += _takes(replace(plan, lasts_s=_LONGER * plan.lasts_s))
            latest = 1 - takes / (work.count / work.rate)
            latest = max(_EARLIEST, min(_LATEST, latest))
        share = round(_EARLIEST + (latest - _EARLIEST) * moment, 4)
    if at_s:
        at_s = round(at_s * (0.5 + moment), 3)
    return replace(
        plan,
        at_share=share,
        at_s=at_s,
        lasts_s=round(plan.lasts_s * _between((1.0, _LONGER), dice), 2),
        every_s=round(plan.every_s * _between((1.0, _LONGER), dice), 2),
        pick=_victim(dice),
    )


def _takes(plan: FaultPlan) -> float:
    """Return about how many seconds go by until a fault is over."""
    return plan.lasts_s + CATALOGUE[plan.name].takes_s


def _longest(name: str) -> tuple[float, float]:
    """Return for how long a fault lasts at most, and what it takes beside that."""
    kind = CATALOGUE[name]
    return kind.lasts[1], kind.takes_s


def _outage(name: str, dice: random.Random) -> float:
    """Return for how long a fault lasts, in seconds; 0 for one that has no length."""
    return round(_between(CATALOGUE[name].lasts, dice), 2)


def _victim(dice: random.Random) -> float:
    """Return whom it hits, as a share of the list of those that can be hit: below 1."""
    return min(round(dice.random(), 4), 0.9999)


def _between(limits: tuple[float, float], dice: random.Random) -> float:
    low, high = limits
    return low + (high - low) * dice.random()


def _shuffled(names: Sequence[str], dice: random.Random) -> list[str]:
    return [name for _, name in sorted((dice.random(), name) for name in names)]
