"""A scenario: what is sent through which topology, and what is claimed of it. One TOML file.

Pure but for ``find`` and ``names``, which read the scenarios that come with the package. A
mistake in a file is an error that names the file and the key.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal

from rabbitproof.errors import UsageError
from rabbitproof.identity import MAX_NUMBER
from rabbitproof.text import safe

DEFAULT: Final = "offline"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One experiment, before it is carried out."""

    name: str
    title: str
    teaches: str
    """Plain words: what it shows."""
    safe: bool
    """Promises that nothing is lost. An unsafe one loses by design."""
    count: int
    consume: Literal["after"]
    """When consumers run: after the producer has finished."""
    prefetch: int
    """Messages that a consumer may hold without having acknowledged them."""
    durable: bool
    """Durable queues and persistent messages."""
    lazy: bool
    """Lazy queues where they are classic ones; the other types are on disk anyway."""
    ready_before: bool
    """Claims that all queues hold exactly the confirmed messages before a consumer starts."""
    empties: bool
    """Claims that nothing is left in the work queue at the end."""
    audit_equals_work: bool
    """Claims that the audit queue had the same messages as the work queue."""


_MOST_PREFETCH: Final = 65_535
"""It is a 16-bit number in basic.qos, and 0 would mean no limit."""

_KEYS: Final[dict[str, dict[str, type]]] = {
    "": {"title": str, "teaches": str, "safe": bool},
    "workload": {"count": int, "consume": str, "prefetch": int},
    "topology": {"durable": bool, "lazy": bool},
    "claims": {"ready_before": bool, "empties": bool, "audit_equals_work": bool},
}


def parse(name: str, text: str) -> Scenario:
    """Return the scenario that a TOML text describes; ``name`` is used in errors."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{safe(name)} is not valid TOML: {safe(str(error))}; mend that place."
        ) from None
    values: dict[str, Any] = {}
    for table, keys in _KEYS.items():
        found = content.get(table, {}) if table else content
        if not isinstance(found, dict):
            raise UsageError(f"{safe(name)}: '{table}' has to be a table; write [{table}].")
        unknown = set(found) - set(keys) - (set(_KEYS) if not table else set())
        if unknown:
            raise _wrong(name, table, min(unknown), f"is not known; known are {', '.join(keys)}")
        for key, kind in keys.items():
            value = found.get(key)
            if type(value) is not kind:
                problem = "is missing" if value is None else f"has to be of type {kind.__name__}"
                raise _wrong(name, table, key, f"{problem}; add it like the others")
            values[key] = value
    if not 0 < values["count"] <= MAX_NUMBER:
        raise _wrong(name, "workload", "count", f"has to be from 1 to {MAX_NUMBER}")
    if values["consume"] != "after":
        raise _wrong(name, "workload", "consume", "has to be 'after'")
    if not 0 < values["prefetch"] <= _MOST_PREFETCH:
        raise _wrong(name, "workload", "prefetch", f"has to be from 1 to {_MOST_PREFETCH}")
    return Scenario(name=name, **values)


def _wrong(name: str, table: str, key: str, what: str) -> UsageError:
    where = f"{table}.{safe(key, 60)}" if table else safe(key, 60)
    return UsageError(f"{safe(name)}: '{where}' {what}.")


def names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    folder = resources.files("rabbitproof.trial") / "scenarios"
    return sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )


def find(name: str) -> Scenario:
    """Return one of the package's scenarios."""
    if name not in names():
        raise UsageError(f"There is no scenario '{safe(name)}'; there are: {', '.join(names())}.")
    file = resources.files("rabbitproof.trial") / "scenarios" / f"{name}.toml"
    return parse(name, file.read_text(encoding="utf-8"))
