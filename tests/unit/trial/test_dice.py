"""The same seed gives the same plan, and every plan makes sense."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rabbitproof.errors import UsageError
from rabbitproof.trial import dice, scenario
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.plan import FaultPlan, RandomPlan, Scenario, Workload

SEEDS = st.integers(0, dice.MOST_SEED)
SAFE = [found for name in scenario.names() if (found := scenario.find(name)).safe]


@given(seed=SEEDS, which=st.sampled_from(SAFE))
def test_the_same_seed_gives_the_same_plan(seed: int, which: Scenario) -> None:
    """Whatever else was drawn meanwhile: nothing is remembered from one to the next."""
    first = dice.drawn(which, seed)
    random.random()
    dice.drawn(which, seed + 1)
    assert dice.drawn(which, seed) == first
    assert first.seed == seed


@given(seed=SEEDS, which=st.sampled_from(SAFE))
def test_a_drawn_plan_stays_what_its_file_is_about(seed: int, which: Scenario) -> None:
    """The same faults so many times, moments inside the sending, outages never shorter."""
    drawn = dice.drawn(which, seed)
    scenario.check(drawn, lambda _, key, what: AssertionError(f"{key} {what}"))
    if which.random is not None:
        return
    assert len(drawn.faults) == len(which.faults)
    for before, after in zip(which.faults, drawn.faults, strict=True):
        assert (after.name, after.times) == (before.name, before.times)
        assert after.lasts_s >= before.lasts_s
        assert after.pick is not None
        assert 0 <= after.pick < 1
        if before.at_share in {None, 0.0, 1.0}:
            assert after.at_share == before.at_share
        else:
            assert after.at_share is not None
            assert 0.1 <= after.at_share <= 0.8
        assert (after.at_s is None) == (before.at_s is None)
    assert 0 < drawn.workload.size <= max(2_048, which.workload.size)
    assert drawn.workload.size * which.count <= 100_000_000
    assert replace(drawn.workload, size=0) == replace(which.workload, size=0)


@given(seed=SEEDS, faults=st.integers(1, 5))
def test_random_faults_are_different_and_one_after_the_other(seed: int, faults: int) -> None:
    """None of them twice, moments in order, victims and lengths inside their ranges."""
    wanted = RandomPlan(faults, tuple(CATALOGUE)[:5])
    plans = dice.several(wanted, random.Random(str(seed)))
    assert len({plan.name for plan in plans}) == len(plans) == faults
    shares = [plan.at_share or 0.0 for plan in plans]
    assert shares == sorted(shares)
    assert shares[0] >= 0.1
    assert shares[-1] <= 0.8
    for plan in plans:
        low, high = CATALOGUE[plan.name].lasts
        assert low <= plan.lasts_s <= high


@given(seed=SEEDS)
@example(seed=320)
def test_random_faults_come_while_messages_are_sent(seed: int) -> None:
    """One begins when the one before it is over, and the messages last as long as all of them."""
    plan = dice.drawn(scenario.find("random"), seed)
    over = 0.0
    for fault in plan.faults:
        assert round((fault.at_s or 0.0) - over, 6) >= 0.5
        over = (fault.at_s or 0.0) + fault.lasts_s + CATALOGUE[fault.name].takes_s
    assert plan.workload.count >= 40_000
    assert plan.workload.count / (plan.workload.rate or 0.0) >= over


def test_two_seeds_give_two_plans_and_two_scenarios_do_too() -> None:
    """Of a hundred seeds, hardly two give the same; a scenario's name is part of the seed."""
    found = {dice.drawn(scenario.find("random"), seed).faults for seed in range(100)}
    assert len(found) == 100
    cut = scenario.find("connection-cut")
    assert dice.drawn(cut, 1).faults != dice.drawn(replace(cut, name="other"), 1).faults


def test_a_plan_is_the_same_for_ever() -> None:
    """A seed that somebody wrote down is good next year and on another machine."""
    plan = dice.drawn(scenario.find("connection-cut"), 7)
    assert plan.faults == (
        FaultPlan("connection-cut", at_share=0.2241, times=3, every_s=0.59, pick=0.8033),
    )
    assert plan.workload.size == 1_813


@given(seed=SEEDS, minutes=st.floats(0.5, 240))
@example(seed=749, minutes=1.5)
def test_a_soak_has_faults_all_the_time(seed: int, minutes: float) -> None:
    """In order, with time between them to recover, and calm at both ends."""
    like = scenario.find("random")
    among = ("broker-kill", "consumer-kill", "connection-cut")
    plan = dice.soak(minutes, seed, rate=100.0, among=among, like=like)
    assert plan == dice.soak(minutes, seed, rate=100.0, among=among, like=like)
    moments = [fault.at_s or 0.0 for fault in plan.faults]
    assert moments[0] == 10.0
    last = plan.faults[-1]
    assert moments[-1] + last.lasts_s + CATALOGUE[last.name].takes_s <= minutes * 60 - 9.9
    for before, after in zip(plan.faults, plan.faults[1:], strict=False):
        took = before.lasts_s + CATALOGUE[before.name].takes_s
        gap = (after.at_s or 0.0) - (before.at_s or 0.0) - took
        assert 14.9 <= gap <= 40.1
    if len(plan.faults) >= 3:
        assert {fault.name for fault in plan.faults} == set(among)
    assert plan.workload.seconds == minutes * 60


def test_somebody_is_hit_however_the_dice_fall() -> None:
    """A share that is almost 1 is not rounded to it: the list ends before that."""
    among = tuple(CATALOGUE)
    wanted = RandomPlan(faults=len(among), among=among)

    class Highest(random.Random):
        def random(self) -> float:
            return 1 - 2**-53

    plans = [
        *dice.several(wanted, Highest()),
        *dice.drawn(scenario.find("node-kill"), 1578).faults,
        *dice.drawn(scenario.find("producer-kill"), 14318).faults,
    ]
    assert [plan.name for plan in plans if plan.pick is None or not 0 <= plan.pick < 1] == []


def test_a_soak_too_short_for_a_fault_is_refused() -> None:
    """It would prove nothing and pass."""
    like = Scenario("soak", "", "", safe=True, workload=Workload(1))
    with pytest.raises(UsageError, match="too short"):
        dice.soak(0.2, 1, rate=100.0, among=("broker-kill",), like=like)


def test_a_new_seed_fits() -> None:
    """It can be typed again."""
    assert all(0 <= dice.new_seed() <= dice.MOST_SEED for _ in range(100))


def test_messages_are_on_their_way_as_long_as_a_fault_lasts() -> None:
    """At a known rate it begins so early that it can end before the last message is sent."""
    work = Workload(40_000, rate=4_000)  # ten seconds
    plan = FaultPlan("memory-alarm", at_share=0.2, lasts_s=2.0)
    alarm = replace(scenario.find("memory-alarm"), workload=work, faults=(plan,))
    shares = [dice.drawn(alarm, seed).faults[0].at_share or 0.0 for seed in range(50)]
    assert min(shares) >= 0.1
    assert 0.25 < max(shares) <= 0.3  # 3 s at most, and 4 s for its beginning and end
    sudden = replace(alarm, faults=(replace(plan, name="producer-kill", lasts_s=0.0),))
    assert max(dice.drawn(sudden, seed).faults[0].at_share or 0.0 for seed in range(50)) > 0.7
