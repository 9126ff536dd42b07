"""What a scenario's file may say, and how a mistake in it is pointed at."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.model import Claims
from rabbitproof.trial import scenario
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.plan import (
    ClusterPlan,
    FaultPlan,
    Planted,
    QueuePlan,
    RandomPlan,
    Scenario,
    TopologyPlan,
    Workload,
)

SHORT = """
title = "A title"
teaches = "What it teaches."
safe = true
[workload]
count = 5
"""
LONG = """
title = "A title"
teaches = '''
Several lines, of which
count = 3
is none.'''
safe = false

[workload]
count = 100
rate = 50
producers = 2
consume = "during"
acks = "auto"

[topology]
dead_letters = true
[topology.work]
type = "quorum"
bound = false
arguments = { x-message-ttl = 1 }
[topology.audit]
type = "stream"

[[faults]]
name = "broker-kill"
at_share = 0.5
[[faults]]
name = "consumer-kill"
at_s = 2
times = 3

[claims]
permits = ["expired"]

[expect]
verdict = "FAIL"
why = "Because."
nacked = 3
[expect.work]
lost = "K"
dropped = { expired = 2 }
"""
PAGE = Path(__file__).parents[3] / "docs" / "scenarios.md"


def test_what_a_file_does_not_say_has_a_default() -> None:
    """A title, what it teaches, whether it is safe and a count are enough."""
    assert scenario.parse("mine", SHORT) == Scenario(
        "mine", "A title", "What it teaches.", safe=True, workload=Workload(count=5)
    )


def test_a_scenario_is_what_its_file_says() -> None:
    """Every table becomes the value of its name."""
    found = scenario.parse("mine", LONG)
    assert found.workload == Workload(
        count=100, rate=50.0, producers=2, consume="during", acks="auto"
    )
    assert found.topology == TopologyPlan(
        dead_letters=True,
        work=QueuePlan("quorum", bound=False, arguments={"x-message-ttl": 1}),
        audit=QueuePlan("stream"),
    )
    assert found.faults == (
        FaultPlan("broker-kill", at_share=0.5),
        FaultPlan("consumer-kill", at_s=2.0, times=3),
    )
    assert found.claims == Claims(permits=("expired",))
    assert found.expect is not None
    assert found.expect.work == {"lost": "K", "dropped.expired": 2}
    assert found.expect.totals == {"nacked": 3}
    wiring = found.wiring()
    assert wiring.work.arguments(lazy_works=True) == {
        "x-queue-type": "quorum",
        "x-message-ttl": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead.queue",
    }
    assert (wiring.work.durable, wiring.work.bound) == (True, False)
    assert wiring.audit is not None
    assert wiring.dead is not None


def test_there_may_be_no_audit_queue() -> None:
    """``topology.audit = false``."""
    found = scenario.parse("mine", SHORT + "[topology]\naudit = false\n")
    assert found.wiring().audit is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("count = 100", "count = 0", "line 10: 'workload.count' has to be from 1 to"),
        ("count = 100", "coumt = 100", "line 10: 'workload.coumt' is not known; known are count,"),
        ("rate = 50", 'rate = "50"', "line 11: 'workload.rate' has to be a number"),
        ("rate = 50", "rate = true", "line 11: 'workload.rate' has to be a number"),
        ("producers = 2", "producers = 1.5", "line 12: 'workload.producers' has to be a whole"),
        ('"during"', '"meanwhile"', "line 13: 'workload.consume' has to be one of after, during"),
        ('"during"', '"after"', "line 24: 'faults.name' needs consumers that run"),
        ("dead_letters = true", "dead_letters = 1", "line 17: 'topology.dead_letters' has to be t"),
        ('type = "quorum"', 'type = "fast"', "line 19: 'topology.work.type' has to be one of clas"),
        ("{ x-message-ttl = 1 }", "3", "line 21: 'topology.work.arguments' has to be a table"),
        ('"consumer-kill"', '"flood"', "line 29: 'faults.name' is no fault; there are broker-kill"),
        ("at_s = 2", "at_s = 2\nat_share = 1", "line 29: 'faults.name' needs a moment: either"),
        ("at_share = 0.5", "at_share = 1.5", "line 27: 'faults.at_share' has to be from 0 to 1"),
        ('["expired"]', '["lost"]', "line 34: 'claims.permits' has to be a list of expired,"),
        ('"FAIL"', '"WRONG"', "line 37: 'expect.verdict' has to be one of PASS, FAIL, UNKNOWN"),
        ('lost = "K"', 'lost = "L"', "line 41: 'expect.work.lost' has to be a whole number or K"),
        ('lost = "K"', "found = 3", "line 41: 'expect.work.found' is not known"),
        ("expired = 2", "eaten = 2", "line 42: 'expect.work.dropped.eaten' is no reason"),
        ("[expect.work]", "[expect.wrok]", "line 40: 'expect.wrok' is not known"),
        ("[topology]", "[topology", "is not valid TOML: "),
        ('title = "A title"\n', "", "'title' is missing; add it"),
        ("count = 100\n", "", "line 9: 'workload.count' is missing; add it"),
    ],
)
def test_a_mistake_is_pointed_at(old: str, new: str, says: str) -> None:
    """With the file, the line and the key."""
    assert LONG.count(old) >= 1
    with pytest.raises(UsageError) as caught:
        scenario.parse("mine", LONG.replace(old, new, 1), "folder/mine.toml")
    assert str(caught.value).startswith("folder/mine.toml")
    found = str(caught.value)
    if old == '"consumer-kill"' or (old == '"during"' and new == '"after"') or "at_share" in new:
        found = re.sub(r"line \d+", "line", found)
        says = re.sub(r"line \d+", "line", says)
    assert says in found


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("workload = 1\n", "'workload' has to be a table; write [workload]"),
        ("faults = 1\n", "'faults' has to be a list of tables; write [[faults]]"),
        ("expect = 1\n", "'expect' has to be a table; write [expect]"),
        ("safe = false\n", "'expect' is missing: an unsafe scenario says what is lost"),
        ("[planted]\ndropped = 2\n", "'workload.count' has to be 8 at least"),
        ('[planted]\nqueue = "other"\n', "'planted.queue' has to be work.queue or audit.queue"),
    ],
)
def test_parts_that_contradict_each_other(more: str, says: str) -> None:
    """The parts that make no sense together, or are no tables."""
    head, _, body = SHORT.partition("[workload]")
    if more.startswith("["):
        text = SHORT + more
    else:
        key = more.partition(" ")[0]
        head = "".join(line for line in head.splitlines(True) if not line.startswith(key))
        text = head + more + ("" if key == "workload" else "[workload]" + body)
    with pytest.raises(UsageError) as caught:
        scenario.parse("mine", text)
    assert says in str(caught.value)


def test_what_the_command_line_changes() -> None:
    """Counts, participants and queue types; the rest stays."""
    found = scenario.adapted(
        scenario.find("offline"), count=7, producers=2, consumers=3, work_type="quorum"
    )
    assert (found.workload.count, found.workload.producers) == (7, 2)
    assert (found.workload.consumers, found.topology.work.type) == (3, "quorum")
    for_a_while = scenario.adapted(scenario.find("offline"), seconds=2)
    assert (for_a_while.workload.count, for_a_while.workload.seconds) == (MAX_NUMBER, 2)
    for wrong in ({"count": 7, "seconds": 2}, {"producers": 65}, {"count": MAX_NUMBER + 1}):
        with pytest.raises(UsageError):
            scenario.adapted(scenario.find("offline"), **wrong)
    with pytest.raises(UsageError, match=r"With these options the scenario's 'workload.count'"):
        scenario.adapted(scenario.find("planted-dropped"), count=10)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """Found by its name, which ends in .toml; one that can't be read is named."""
    path = tmp_path / "mine.toml"
    path.write_text(SHORT)
    assert scenario.find(str(path)).name == "mine"
    with pytest.raises(UsageError, match=r"none\.toml can't be read"):
        scenario.find(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="There is no scenario 'nonsense'; there are: auto-ack"):
        scenario.find("nonsense")


@pytest.mark.parametrize("name", scenario.names())
def test_the_packages_own_scenarios_are_whole(name: str) -> None:
    """Each can be read, says what it teaches, and an unsafe one what it expects."""
    found = scenario.find(name)
    assert found.name == name
    assert found.title
    assert found.teaches.strip().endswith(".")
    assert found.safe == (found.expect is None)
    assert found.expect is None or found.expect.why.endswith(".")


def test_stress_is_a_million_messages_in_lazy_queues() -> None:
    """As in the demo: durable and lazy, consumed with a prefetch of 5,000, all of it checked."""
    stress = scenario.find("stress")
    assert (stress.count, stress.workload.prefetch) == (1_000_000, 5_000)
    assert (stress.topology.durable, stress.topology.lazy, stress.safe) == (True, True, True)
    claims = stress.claims
    assert (claims.ready_before, claims.empties, claims.audit_equals_work) == (True,) * 3


def test_every_key_is_documented() -> None:
    """In the page about scenarios: every key, every fault and every scenario."""
    page = PAGE.read_text("utf-8")
    tables = {
        "workload": Workload,
        "topology.work": QueuePlan,
        "faults": FaultPlan,
        "random": RandomPlan,
        "planted": Planted,
        "claims": Claims,
        "cluster": ClusterPlan,
    }
    for table, kind in tables.items():
        for one in fields(kind):
            assert f"`{table}.{one.name}`" in page, f"{table}.{one.name}"
    twins = {f"{name}-{kind}" for name in scenario.names() for kind in scenario.find(name).also}
    for name in (*CATALOGUE, *(set(scenario.names()) - twins)):
        assert f"`{name}`" in page, name
