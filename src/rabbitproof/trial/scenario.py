"""A scenario is found, read, adapted to what was asked for, and checked as a whole.

Pure but for ``find``, ``names`` and ``load``, which read files. What the values mean stands in
``plan``; how a table becomes one, in ``reader``; what they do, in ``trial``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.model import Claims
from rabbitproof.text import safe
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.plan import (
    AUDIT,
    WORK,
    ClusterPlan,
    Planted,
    QueuePlan,
    RandomPlan,
    Scenario,
    TopologyPlan,
    Workload,
)
from rabbitproof.trial.reader import MOST_PROCESSES, Reader
from rabbitproof.work.topology import check_lazy

if TYPE_CHECKING:
    from rabbitproof.model import QueueType
    from rabbitproof.trial.reader import Wrong


_TWINS: Final = {"quorum": "two quorum queues", "stream": "a quorum queue and a stream"}
LEAST_NODES: Final = 3
"""Fewer have no majority when one is away."""


def parse(name: str, text: str, file: str | None = None) -> Scenario:
    """Return the scenario that a TOML text describes; ``file`` is named in errors."""
    where = file or name
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{safe(where)} is not valid TOML: {safe(str(error))}; mend that place."
        ) from None
    reader = Reader(where, text)
    own = reader.table((), content, _Head)
    topology = reader.table(("topology",), content.get("topology", {}), _TopologyHead)
    queues = content.get("topology", {})
    work = reader.table(("topology", "work"), queues.get("work", {}), QueuePlan)
    audit: QueuePlan | None = None
    if topology.audit is not False:
        given = queues.get("audit", {})
        audit = reader.table(
            ("topology", "audit"), {} if isinstance(given, bool) else given, QueuePlan
        )
    if "workload" not in content:
        raise reader.wrong((), "workload", "is missing; add the table [workload] with a count")
    planted = content.get("planted")
    expect = content.get("expect")
    drawn = content.get("random")
    scenario = Scenario(
        name=name,
        title=own.title,
        teaches=own.teaches,
        safe=own.safe,
        workload=reader.table(("workload",), content["workload"], Workload),
        topology=TopologyPlan(topology.durable, topology.lazy, topology.dead_letters, work, audit),
        faults=reader.faults(content.get("faults", [])),
        planted=None if planted is None else reader.table(("planted",), planted, Planted),
        claims=reader.table(("claims",), content.get("claims", {}), Claims),
        expect=None if expect is None else reader.expectation(expect),
        random=None if drawn is None else reader.table(("random",), drawn, RandomPlan),
        cluster=reader.table(("cluster",), content.get("cluster", {}), ClusterPlan),
        also=own.also,
    )
    check(scenario, reader.wrong)
    return scenario


@dataclass(frozen=True, slots=True)
class _Head:
    title: str
    teaches: str
    safe: bool
    also: tuple[Literal["quorum", "stream"], ...] = ()


@dataclass(frozen=True, slots=True)
class _TopologyHead:
    durable: bool = True
    lazy: bool = False
    dead_letters: bool = False
    audit: bool = True


def check(scenario: Scenario, wrong: Wrong) -> None:
    """Raise UsageError for parts that contradict each other."""
    work, planted = scenario.workload, scenario.planted
    for key in ("producers", "send_again"):
        if getattr(work, key) > work.count:
            raise wrong(("workload",), key, "has to be at most the count")
    if scenario.topology.work.type == "stream":
        what = "has to be classic or quorum: a stream gives every message to every reader"
        raise wrong(("topology", "work"), "type", what)
    if planted is not None:
        if planted.queue not in {WORK, AUDIT}:
            raise wrong(("planted",), "queue", f"has to be {WORK} or {AUDIT}")
        if work.consume != "after":
            raise wrong(("workload",), "consume", "has to be after where faults are planted")
        if 4 * planted.touched > work.count:
            most = f"has to be {4 * planted.touched} at least, four times what is planted"
            raise wrong(("workload",), "count", most)
    if scenario.claims.ready_before and work.consume == "during":
        what = "has to be false where consumers run: nobody can count what is Ready before"
        raise wrong(("claims",), "ready_before", what)
    if not scenario.safe and scenario.expect is None:
        raise wrong((), "expect", "is missing: an unsafe scenario says what is lost")
    if scenario.random is not None and len(set(scenario.random.among)) < scenario.random.faults:
        what = "has to name as many different faults as are to be drawn, or more"
        raise wrong(("random",), "among", what)
    _check_faults(scenario, wrong)


def _check_faults(scenario: Scenario, wrong: Wrong) -> None:
    """Raise UsageError for faults that do not fit the rest, or each other."""
    work, nodes = scenario.workload, scenario.cluster.nodes
    named: list[tuple[tuple[str | int, ...], str, str]]
    named = [(("faults", at), "name", plan.name) for at, plan in enumerate(scenario.faults)]
    if scenario.random is not None:
        named += [(("random",), "among", name) for name in scenario.random.among]
    for table, key, name in named:
        kind = CATALOGUE[name]
        if kind.hits == "consumer" and work.consume != "during":
            what = "needs consumers that run: set workload.consume to during"
            raise wrong(table, key, what)
        if kind.hits == "connection" and work.producers > 1:
            raise wrong(table, key, "is for one producer: set workload.producers to 1")
        if kind.hits == "producer" and not work.confirms:
            what = "needs confirms: without them nobody knows what is still to be sent"
            raise wrong(table, key, what)
        if kind.hits == "cluster" and nodes < LEAST_NODES:
            what = f"needs a cluster: write [cluster] with nodes = {LEAST_NODES}"
            raise wrong(table, key, what)
        if kind.hits == "cluster" and scenario.topology.work.type == "classic":
            what = (
                "needs a queue with replicas: set topology.work.type to quorum. A classic queue is "
                "on one node, and gone as long as that is"
            )
            raise wrong(table, key, what)
        if kind.hits == "broker" and nodes > 1:
            what = "is about a broker of one node: leave out [cluster], or take node-kill"
            raise wrong(table, key, what)
        if kind.hits == "connection" and scenario.has(hits="producer"):
            what = "and producer-kill do not go together: the producer is another process then"
            raise wrong(table, key, what)
    for at, plan in enumerate(scenario.faults):
        if CATALOGUE[plan.name].lasts[0] and not plan.lasts_s:
            raise wrong(("faults", at), "name", "needs lasts_s: it has to last for some seconds")
        if plan.times > 1 and plan.every_s < plan.lasts_s:
            what = "has to be lasts_s at least: it can't come again before it is over"
            raise wrong(("faults", at), "every_s", what)
    timed = sorted(
        (plan.at_s, at) for at, plan in enumerate(scenario.faults) if plan.at_s is not None
    )
    for (began, first), (then, second) in pairwise(timed):
        plan = scenario.faults[first]
        over = began + (plan.times - 1) * plan.every_s + plan.lasts_s
        if then < over and CATALOGUE[plan.name].meanwhile:
            what = f"is in the time of {plan.name}, which lasts until second {over:g}"
            raise wrong(("faults", second), "at_s", what)


def adapted(
    scenario: Scenario,
    *,
    count: int | None = None,
    producers: int | None = None,
    consumers: int | None = None,
    seconds: float | None = None,
    work_type: Literal["classic", "quorum"] | None = None,
    audit_type: QueueType | None = None,
    lazy: bool = False,
) -> Scenario:
    """Return the scenario with what was asked for on the command line; None leaves it."""
    if count is not None and count > MAX_NUMBER:
        raise UsageError(f"--count can be {MAX_NUMBER:,} at most; split it into several runs.")
    for name, value in (("--producers", producers), ("--consumers", consumers)):
        if value is not None and value > MOST_PROCESSES:
            raise UsageError(f"{name} can be {MOST_PROCESSES} at most: each is a process.")
    if seconds is not None and count is not None:
        raise UsageError("--count and --seconds both say when to stop; give one.")
    work, plan = scenario.workload, scenario.topology
    workload = replace(
        work,
        count=MAX_NUMBER if seconds is not None else count or work.count,
        producers=producers or work.producers,
        consumers=consumers or work.consumers,
        seconds=seconds or work.seconds,
    )
    audit = plan.audit
    if audit is not None and audit_type is not None:
        audit = replace(audit, type=audit_type)
    topology = replace(
        plan,
        work=plan.work if work_type is None else replace(plan.work, type=work_type),
        audit=audit,
        lazy=plan.lazy or lazy,
    )
    changed = replace(scenario, workload=workload, topology=topology)
    for queue in changed.wiring().queues if lazy else ():
        check_lazy(queue)
    check(changed, _wrong_option)
    return changed


def _wrong_option(table: tuple[str | int, ...], key: str, what: str) -> UsageError:
    return UsageError(
        f"With these options the scenario's '{'.'.join(map(str, (*table, key)))}' {what}."
    )


@cache
def _packaged() -> dict[str, Scenario]:
    """Return the scenarios that come with the package, by name.

    One whose file has ``also`` is there once more for each of these, with other types of queue,
    as NAME-quorum or NAME-stream.
    """
    folder = resources.files("rabbitproof.trial") / "scenarios"
    found = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".toml")
        if name == file.name:
            continue
        one = found[name] = parse(name, file.read_text(encoding="utf-8"))
        for kind in one.also:
            twin = adapted(one, work_type="quorum", audit_type=kind)
            title = f"{one.title}, with {_TWINS[kind]}"
            found[f"{name}-{kind}"] = replace(twin, name=f"{name}-{kind}", title=title, also=())
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    return list(_packaged())


def find(name: str) -> Scenario:
    """Return one of the package's scenarios, or that of a file whose name ends in .toml."""
    if name.endswith(".toml"):
        return load(Path(name))
    if name not in _packaged():
        raise UsageError(
            f"There is no scenario '{safe(name)}'; there are: {', '.join(names())}. A file of your "
            "own ends in .toml."
        )
    return _packaged()[name]


def load(path: Path) -> Scenario:
    """Return the scenario of a person's own file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"The scenario {safe(str(path))} can't be read ({why}); name another file, or one of "
            f"{', '.join(names())}."
        ) from None
    return parse(path.stem, text, str(path))
