"""The tables of a scenario's file become values, and a mistake an error with file, line and key.

Pure. What the values mean stands in ``plan``. Refuses to find files, and to see whether the parts
of a scenario fit each other (``scenario``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from rabbitproof.broker.cluster import MOST_NODES
from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.model import Expectation
from rabbitproof.proof.expect import COUNTS, TOTALS, WITNESSED
from rabbitproof.text import safe
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.lines import find_lines, line_of
from rabbitproof.trial.plan import AUDIT, WORK, FaultPlan

_MOST_PREFETCH: Final = 65_535
"""It is a 16-bit number in basic.qos, and 0 would mean no limit."""
MOST_PROCESSES: Final = 64
"""Each is a process."""
DROPS: Final = ("expired", "maxlen", "delivery_limit", "rejected", "purged")
"""Why a queue can drop a message."""

_RANGES: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("workload", "count"): (1, MAX_NUMBER),
    ("workload", "size"): (0, 128 << 20),
    ("workload", "rate"): (0.001, 10_000_000),
    ("workload", "producers"): (1, MOST_PROCESSES),
    ("workload", "consumers"): (1, MOST_PROCESSES),
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
    ("faults", "pick"): (0, 0.9999),
    ("faults", "delay_ms"): (1, 60_000),
    ("faults", "bytes_per_s"): (1_000, 10**12),
    ("workload", "heartbeat_s"): (1, 65_535),
    ("workload", "confirm_timeout_s"): (0.5, 3_600),
    ("cluster", "nodes"): (1, MOST_NODES),
    ("random", "faults"): (1, 100),
    **{
        ("planted", name): (0, 1_000_000)
        for name in ("dropped", "doubled", "swapped", "body_altered", "id_altered", "seed")
    },
}
_LISTS: Final[dict[tuple[str | int, ...], tuple[str, ...]]] = {
    ("claims", "permits"): DROPS,
    ("random", "among"): tuple(CATALOGUE),
    ("also",): ("quorum", "stream"),
}
"""What may stand in a list."""

_NAMES: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Mapping: "a table",
    tuple: "a list",
}

Wrong = Callable[[tuple[str | int, ...], str, str], UsageError]
"""Makes an error of a table, a key in it, and what is wrong with it."""


_TABLES: Final[dict[tuple[str | int, ...], tuple[str, ...]]] = {
    (): ("workload", "topology", "cluster", "faults", "random", "planted", "claims", "expect"),
    ("topology",): ("work",),
}
"""Keys that are tables and are read by themselves."""


class Reader:
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
                known = _LISTS[*path, key]
                if not all(one in known for one in value):
                    raise self.wrong(path, key, f"has to be a list of {', '.join(known)}")
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
            if key not in {"verdict", "why", "work", "audit", *TOTALS}:
                known = ", ".join(("verdict", "why", *TOTALS, "work", "audit"))
                raise self.wrong(("expect",), key, f"is not known; known are {known}")
        head = self.table(("expect",), flat, Expectation)
        totals = {key: found[key] for key in TOTALS if key in found}
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
            elif key in COUNTS:
                self._amount(path, key, value)
                out[key] = value
            else:
                raise self.wrong(path, key, f"is not known; known are {', '.join(COUNTS)}, dropped")
        return out

    def _amount(self, path: tuple[str, ...], key: str, value: object) -> None:
        if value not in WITNESSED and (type(value) is not int or value < 0):
            raise self.wrong(path, key, f"has to be a whole number or {', '.join(WITNESSED)}")


def _has_default(one: Any) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING
