"""Whether one binding takes one message: topics and headers.

Holds: the two rules that are more than a comparison, and the values that they compare. Refuses to
hold: where the message goes then (``routing``). Pure.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Timestamp(int):
    """A header's value of type T: seconds since 1970."""


class Untold:
    """A binding's argument of which the broker tells only that it is there."""


UNTOLD: Final = Untold()


def topic_matches(pattern: str, key: str) -> bool:
    """Say whether a topic binding takes a routing key: ``*`` is one word, ``#`` any number.

    Words stand between dots and may be empty; the empty key has none.
    """
    words = key.split(".") if key else []
    at = {0}  # how many words may be used up so far
    for word in pattern.split(".") if pattern else []:
        if word == "#":
            at = set(range(min(at), len(words) + 1))
        else:
            at = {n + 1 for n in at if n < len(words) and word in ("*", words[n])}
        if not at:
            return False
    return len(words) in at


def headers_match(
    arguments: Mapping[str, Any] | None, headers: Mapping[str, Any], *, exact: bool
) -> bool | None:
    """Say whether a binding of a headers exchange takes a message; None: can't be told.

    ``exact``: by type as well, so that 1 is not 1.0, and a timestamp counts in milliseconds.
    """
    if arguments is None:
        return None
    kind = str(arguments.get("x-match", "all"))
    skipped = "x-match" if kind.endswith("-with-x") else "x-"
    answers = {
        name in headers and (value is None or _same(value, headers[name], exact=exact))
        for name, value in arguments.items()
        if not (name == "x-match" or (skipped == "x-" and name.startswith(skipped)))
    }
    decides = kind.startswith("any")  # True decides for any, False for all
    if decides in answers:
        return decides
    return None if None in answers else not decides


def _same(wanted: Any, value: Any, *, exact: bool) -> bool | None:
    """Say whether a header's value is that of a binding's argument; None: can't be told.

    Arguments lose the types in lists and tables when the broker tells them.
    """
    if wanted is UNTOLD:
        return None
    if isinstance(value, Decimal) and isinstance(wanted, float):
        return None  # as which the broker tells decimals, and not the same
    if isinstance(value, Timestamp):
        value = int(value) * 1000 if exact else int(value)
    if isinstance(wanted, bytes):
        wanted = wanted.decode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    deep = (list, dict, Decimal)
    if isinstance(wanted, deep) or isinstance(value, deep):
        both = isinstance(wanted, deep) and isinstance(value, deep)
        return None if both else False
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if exact and isinstance(wanted, float) is not isinstance(value, float):
        return False
    return bool(wanted == value)
