from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from rabbitproof.errors import UsageError
from rabbitproof.trial import scenario

GOOD = """
title = "A title"
teaches = "What it teaches."
safe = true
[workload]
count = 5
consume = "after"
prefetch = 7
[topology]
durable = true
lazy = true
[claims]
ready_before = true
empties = false
audit_equals_work = true
"""


def test_a_scenario_is_what_its_file_says() -> None:
    """Every key becomes the field of its name."""
    assert scenario.parse("mine", GOOD) == scenario.Scenario(
        name="mine",
        title="A title",
        teaches="What it teaches.",
        safe=True,
        count=5,
        consume="after",
        prefetch=7,
        durable=True,
        lazy=True,
        ready_before=True,
        empties=False,
        audit_equals_work=True,
    )


LINES = [line for line in GOOD.splitlines() if "=" in line]


@pytest.mark.parametrize("line", LINES)
def test_a_missing_key_is_named(line: str) -> None:
    """No key has a default: a scenario says all of it."""
    key = line.partition(" ")[0]
    with pytest.raises(UsageError, match=rf"^mine: '(\w+\.)?{key}' is missing"):
        scenario.parse("mine", GOOD.replace(line + "\n", ""))


@pytest.mark.parametrize("line", LINES)
def test_a_value_of_another_type_is_named(line: str) -> None:
    """A number is no truth value, a truth value no number, and neither is a text."""
    key, _, value = line.partition(" = ")
    other = "1" if value in ("true", "false") else "true"
    with pytest.raises(UsageError, match=rf"^mine: '(\w+\.)?{key}' has to be of type"):
        scenario.parse("mine", GOOD.replace(line, f"{key} = {other}"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("prefetch = 7", "prefetch = 7\nprefetsh = 8", "'workload.prefetsh' is not known"),
        ("[claims]", "[claim]", "'claim' is not known"),
        ("count = 5", "count = 0", "'workload.count' has to be from 1"),
        ("count = 5", "count = -5", "'workload.count' has to be from 1"),
        ("prefetch = 7", "prefetch = 0", "'workload.prefetch' has to be from 1 to 65535"),
        ("prefetch = 7", "prefetch = 65536", "'workload.prefetch' has to be from 1 to 65535"),
        ('"after"', '"meanwhile"', "'workload.consume' has to be 'after'"),
        ("[topology]", "[topology", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named(old: str, new: str, says: str) -> None:
    """With the file and the key."""
    with pytest.raises(UsageError, match=r"^mine") as caught:
        scenario.parse("mine", GOOD.replace(old, new))
    assert says in str(caught.value)


def test_a_table_has_to_be_one() -> None:
    """A value where a table belongs is an error, too."""
    text = GOOD.partition("[workload]")[0]
    with pytest.raises(UsageError, match=r"write \[workload\]"):
        scenario.parse("mine", text + "workload = 1\n")


@pytest.mark.parametrize("name", scenario.names())
def test_the_packages_own_scenarios_are_whole(name: str) -> None:
    """Each can be read, and says what it teaches."""
    found = scenario.find(name)
    assert found.name == name
    assert found.title
    assert found.teaches.strip().endswith(".")


def test_stress_is_a_million_messages_in_lazy_queues() -> None:
    """As in the demo: durable and lazy, consumed with a prefetch of 5,000, all of it checked."""
    stress = scenario.find("stress")
    assert (stress.count, stress.prefetch) == (1_000_000, 5_000)
    assert (stress.durable, stress.lazy, stress.safe) == (True, True, True)
    assert (stress.ready_before, stress.empties, stress.audit_equals_work) == (True,) * 3


def test_every_key_is_documented() -> None:
    """In the page about scenarios, with its table."""
    page = (resources.files("rabbitproof") / "../../docs/scenarios.md").read_text("utf-8")
    for table, keys in tomllib.loads(GOOD).items():
        for key in keys if isinstance(keys, dict) else [""]:
            assert f"`{table}{'.' + key if key else ''}`" in page
    for name in scenario.names():
        assert f"`{name}`" in page
