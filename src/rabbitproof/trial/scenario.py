"""A TOML file becomes a scenario; a mistake in it becomes an error with file, line and key.

Pure but for ``find``, ``names`` and ``load``, which read files. What the values mean stands in
``plan``; what they do, in ``trial``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.text import safe
from rabbitproof.trial.expect import WITNESSED
from rabbitproof.trial.lines import find_lines, line_of
from rabbitproof.trial.plan import (
    AUDIT,
    CATALOGUE,
    WORK,
    ClaimPlan,
    Expectation,
    FaultPlan,
    Planted,
    QueuePlan,
    Scenario,
    TopologyPlan,
    Workload,
)

if TYPE_CHECKING:
    from rabbitproof.model import QueueType

DEFAULT: Final = "offline"
_MOST_PREFETCH: Final = 65_535
"""It is a 16-bit number in basic.qos, and 0 would mean no limit."""
_MOST_PROCESSES: Final = 64
"""Each is a process."""
DROPS: Final = ("expired", "maxlen", "delivery_limit", "rejected", "purged")
"""Why a queue can drop a message."""

_RANGES: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("workload", "count"): (1, MAX_NUMBER),
    ("workload", "size"): (0, 128 << 20),
    ("workload", "rate"): (0.001, 10_000_000),
    ("workload", "producers"): (1, _MOST_PROCESSES),
    ("workload", "consumers"): (1, _MOST_PROCESSES),
    ("workload", "window"): (1, 10_000_000),
    ("workload", "seconds"): (0.1, 86_400),
    ("workload", "send_again"): (0, MAX_NUMBER),
    ("workload", "prefetch"): (1, _MOST_PREFETCH),
    ("workload", "pause_ms"): (0, 60_000),
    ("faults", "at_share"): (0, 1),
    ("faults", "at_s"): (0, 86_400),
    ("faults", "lasts_s"): (0, 3_600),
    ("faults", "times"): (1, 1_000),
    ("faults", "every_s"): (0, 3_600),
    ("faults", "messages"): (1, 1_000_000),
    **{
        ("planted", name): (0, 1_000_000)
        for name in ("dropped", "doubled", "swapped", "body_altered", "id_altered", "seed")
    },
}
_TOTALS: Final = ("attempted", "confirmed", "nacked", "returned", "in_doubt")
_COUNTS: Final = (
    "received", "unique", "lost", "undecided", "recovered", "duplicates_redelivered",
    "duplicates_resent", "duplicates_unflagged", "corrupt", "foreign", "reordered",
    "left_in_queue", "lost_head", "lost_middle", "lost_tail", "nacked_delivered",
    "returned_delivered", "residue",
)  # fmt: skip
"""The counts of a queue's verdict that an expectation may name; ``dropped.REASON`` is another."""


def parse(name: str, text: str, file: str | None = None) -> Scenario:
    """Return the scenario that a TOML text describes; ``file`` is named in errors."""
    where = file or name
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{safe(where)} is not valid TOML: {safe(str(error))}; mend that place."
        ) from None
    reader = _Reader(where, text)
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
    scenario = Scenario(
        name=name,
        title=own.title,
        teaches=own.teaches,
        safe=own.safe,
        workload=reader.table(("workload",), content["workload"], Workload),
        topology=TopologyPlan(topology.durable, topology.lazy, topology.dead_letters, work, audit),
        faults=reader.faults(content.get("faults", [])),
        planted=None if planted is None else reader.table(("planted",), planted, Planted),
        claims=reader.table(("claims",), content.get("claims", {}), ClaimPlan),
        expect=None if expect is None else reader.expectation(expect),
    )
    check(scenario, reader.wrong)
    return scenario


@dataclass(frozen=True, slots=True)
class _Head:
    title: str
    teaches: str
    safe: bool


@dataclass(frozen=True, slots=True)
class _TopologyHead:
    durable: bool = True
    lazy: bool = False
    dead_letters: bool = False
    audit: bool = True


_TABLES: Final[dict[tuple[str | int, ...], tuple[str, ...]]] = {
    (): ("workload", "topology", "faults", "planted", "claims", "expect"),
    ("topology",): ("work",),
}
"""Keys that are tables and are read by themselves."""


class _Reader:
    """Reads tables of one file; knows where everything stands."""

    def __init__(self, file: str, text: str) -> None:
        self._file = safe(file)
        self._lines = find_lines(text)

    def wrong(self, table: tuple[str | int, ...], key: str, what: str) -> UsageError:
        """Return an error about a key: file, line, key, what is wrong and what to do."""
        line = line_of(self._lines, (*table, key))
        place = f"{self._file}, line {line}" if line else self._file
        names = [part for part in table if isinstance(part, str)]
        return UsageError(f"{place}: '{'.'.join([*names, safe(key, 60)])}' {what}.")

    def table(self, path: tuple[str | int, ...], found: object, kind: type[Any]) -> Any:
        """Return a value of ``kind`` from a table whose keys are its fields."""
        if not isinstance(found, dict):
            raise self.wrong(path[:-1], str(path[-1]), f"has to be a table; write [{path[-1]}]")
        hints = get_type_hints(kind)
        known = {one.name: one for one in fields(kind)}
        tables = _TABLES.get(path, ())
        for key in found:
            if key not in known and key not in tables:
                raise self.wrong(
                    path, key, f"is not known; known are {', '.join([*known, *tables])}"
                )
        values: dict[str, Any] = {}
        for key, one in known.items():
            if key in found:
                if key == "audit" and isinstance(found[key], dict):
                    continue  # it has a table of its own
                values[key] = self._value(path, key, found[key], hints[key])
            elif not _has_default(one):
                raise self.wrong(path, key, "is missing; add it")
        return kind(**values)

    def _value(self, path: tuple[str | int, ...], key: str, value: Any, hint: Any) -> Any:
        kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
        for kind in kinds:
            if get_origin(kind) is Literal:
                choices = get_args(kind)
                if value in choices and isinstance(value, str):
                    return value
                raise self.wrong(path, key, f"has to be one of {', '.join(choices)}")
            if kind is NoneType:
                continue
            if kind is float and type(value) in {int, float}:
                return float(self._in_range(path, key, value))
            if get_origin(kind) is Mapping and isinstance(value, dict):
                return value
            if get_origin(kind) is tuple and isinstance(value, list):
                if not all(one in DROPS for one in value):
                    raise self.wrong(path, key, f"has to be a list of {', '.join(DROPS)}")
                return tuple(value)
            if type(value) is kind:
                return self._in_range(path, key, value)
        names = [_NAMES.get(get_origin(kind) or kind, "") for kind in kinds if kind is not NoneType]
        raise self.wrong(path, key, f"has to be {' or '.join(names)}")

    def _in_range(self, path: tuple[str | int, ...], key: str, value: Any) -> Any:
        limits = _RANGES.get((str(path[0]) if path else "", key))
        if limits is not None and not limits[0] <= value <= limits[1]:
            low, high = limits
            raise self.wrong(path, key, f"has to be from {low:g} to {high:.10g}")
        return value

    def faults(self, found: object) -> tuple[FaultPlan, ...]:
        """Return the faults, each of them known and with one moment."""
        if not isinstance(found, list):
            raise self.wrong((), "faults", "has to be a list of tables; write [[faults]]")
        out = []
        for at, one in enumerate(found):
            path = ("faults", at)
            plan = self.table(path, one, FaultPlan)
            if plan.name not in CATALOGUE:
                known = ", ".join(CATALOGUE)
                raise self.wrong(path, "name", f"is no fault; there are {known}")
            if (plan.at_share is None) == (plan.at_s is None):
                raise self.wrong(path, "name", "needs a moment: either at_share or at_s")
            if plan.queue not in {WORK, AUDIT}:
                raise self.wrong(path, "queue", f"has to be {WORK} or {AUDIT}")
            out.append(plan)
        return tuple(out)

    def expectation(self, found: object) -> Expectation:
        """Return what has to come out."""
        if not isinstance(found, dict):
            raise self.wrong((), "expect", "has to be a table; write [expect]")
        flat = {key: value for key, value in found.items() if key in {"verdict", "why"}}
        for key in found:
            if key not in {"verdict", "why", "work", "audit", *_TOTALS}:
                known = ", ".join(("verdict", "why", *_TOTALS, "work", "audit"))
                raise self.wrong(("expect",), key, f"is not known; known are {known}")
        head = self.table(("expect",), flat, Expectation)
        totals = {key: found[key] for key in _TOTALS if key in found}
        for key, value in totals.items():
            self._amount(("expect",), key, value)
        return Expectation(
            head.verdict,
            head.why,
            totals,
            self._counts("work", found.get("work", {})),
            self._counts("audit", found.get("audit", {})),
        )

    def _counts(self, queue: str, found: object) -> dict[str, Any]:
        path = ("expect", queue)
        if not isinstance(found, dict):
            raise self.wrong(("expect",), queue, f"has to be a table; write [expect.{queue}]")
        out: dict[str, Any] = {}
        for key, value in found.items():
            if key == "dropped" and isinstance(value, dict):
                for reason, amount in value.items():
                    if reason not in DROPS:
                        raise self.wrong(
                            (*path, "dropped"),
                            reason,
                            f"is no reason; there are {', '.join(DROPS)}",
                        )
                    self._amount((*path, "dropped"), reason, amount)
                    out[f"dropped.{reason}"] = amount
            elif key in _COUNTS:
                self._amount(path, key, value)
                out[key] = value
            else:
                raise self.wrong(
                    path, key, f"is not known; known are {', '.join(_COUNTS)}, dropped"
                )
        return out

    def _amount(self, path: tuple[str, ...], key: str, value: object) -> None:
        if value not in WITNESSED and (type(value) is not int or value < 0):
            raise self.wrong(path, key, f"has to be a whole number or {', '.join(WITNESSED)}")


Wrong = Callable[[tuple[str | int, ...], str, str], UsageError]
"""Makes an error of a table, a key in it, and what is wrong with it."""


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
    if not scenario.safe and scenario.expect is None:
        raise wrong((), "expect", "is missing: an unsafe scenario says what is lost")
    for at, fault in enumerate(scenario.faults):
        hits = CATALOGUE[fault.name].hits
        if hits == "consumer" and work.consume != "during":
            what = "needs consumers that run: set workload.consume to during"
            raise wrong(("faults", at), "name", what)
        if hits == "connection" and work.producers > 1:
            raise wrong(("faults", at), "name", "is for one producer: set workload.producers to 1")


def adapted(
    scenario: Scenario,
    *,
    count: int | None = None,
    producers: int | None = None,
    consumers: int | None = None,
    seconds: float | None = None,
    work_type: Literal["classic", "quorum"] | None = None,
    audit_type: QueueType | None = None,
) -> Scenario:
    """Return the scenario with what was asked for on the command line; None leaves it."""
    if count is not None and count > MAX_NUMBER:
        raise UsageError(f"--count can be {MAX_NUMBER:,} at most; split it into several runs.")
    for name, value in (("--producers", producers), ("--consumers", consumers)):
        if value is not None and value > _MOST_PROCESSES:
            raise UsageError(f"{name} can be {_MOST_PROCESSES} at most: each is a process.")
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
    )
    changed = replace(scenario, workload=workload, topology=topology)
    check(changed, _wrong_option)
    return changed


def _wrong_option(table: tuple[str | int, ...], key: str, what: str) -> UsageError:
    return UsageError(
        f"With these options the scenario's '{'.'.join(map(str, (*table, key)))}' {what}."
    )


_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Mapping: "a table",
    tuple: "a list",
}


def _has_default(one: Any) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    folder = resources.files("rabbitproof.trial") / "scenarios"
    return sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )


def find(name: str) -> Scenario:
    """Return one of the package's scenarios, or that of a file whose name ends in .toml."""
    if name.endswith(".toml"):
        return load(Path(name))
    if name not in names():
        raise UsageError(
            f"There is no scenario '{safe(name)}'; there are: {', '.join(names())}. A file of your "
            "own ends in .toml."
        )
    file = resources.files("rabbitproof.trial") / "scenarios" / f"{name}.toml"
    return parse(name, file.read_text(encoding="utf-8"))


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
