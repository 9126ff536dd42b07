"""What surrounded a run, as words: versions, machine, settings. Pure.

Refuses to find anything out. What comes back is safe to show: it comes from servers and machines.
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Mapping

NONE: Final = "–"
"""Stands where there is nothing to say."""
_NAME, _SENTENCE = 40, 500
"""Characters shown of a name and of a value, at most."""
_ENVIRONMENT: Final = {
    "rabbitproof": "rabbitproof",
    "rabbitmq": "RabbitMQ",
    "erlang": "Erlang/OTP",
    "python": "Python",
    "machine": "Machine",
    "platform": "Machine",
    "broker": "Broker",
    "started": "Started",
    "seed": "Faults drawn from seed",
    "count": "Messages a round",
    "body_bytes": "Bytes of a body",
    "window": "Most unconfirmed messages",
    "prefetch": "Prefetch",
    "workload": "Workload",
    "exchange": "Exchange",
    "routing_key": "Routing key",
}
"""Names for what is known to be told, in the order of showing."""
_COUNTS: Final = {"count", "body_bytes", "window", "prefetch"}


def told(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values for people; what we have no name for comes last."""
    keys = [key for key in _ENVIRONMENT if key in environment]
    keys += [key for key in environment if key not in _ENVIRONMENT]
    return [
        (
            safe(_ENVIRONMENT.get(key, str(key)), _NAME),
            safe(_words(environment[key], key), _SENTENCE),
        )
        for key in keys
    ]


def _words(value: object, key: str = "") -> str:
    """Return a value of the environment, of whatever type, for people."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case int() if key in _COUNTS:
            return f"{value:,}"
        case float():
            return f"{value:,.6g}" if isfinite(value) else "unknown"
        case str() if key == "started":
            return when(value)
        case dict():
            return ", ".join(f"{name} {_words(part)}" for name, part in value.items()) or NONE
        case list() | tuple():
            return ", ".join(_words(part) for part in value) or NONE
        case _:
            return str(value) or NONE


def when(value: str) -> str:
    """Return an ISO 8601 time for people; what is none, as it is."""
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return value
    return time.isoformat(" ", "minutes").replace("+00:00", " UTC")
