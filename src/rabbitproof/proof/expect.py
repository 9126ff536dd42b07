"""Did exactly that come out which a scenario expects? Pure.

An amount is a number, or K: what the second witness found, so that a crash may lose as many as it
likes and has to be found to the last one all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rabbitproof.model import Amount, Expectation, QueueVerdict, Verdict

WITNESSED: Final = ("K", "K_audit", "K_dead", "K_purged")


TOTALS: Final = ("attempted", "confirmed", "nacked", "returned", "in_doubt")
"""The counts of a whole run that an expectation may name."""
COUNTS: Final = (
    "received", "unique", "lost", "undecided", "recovered", "duplicates_redelivered",
    "duplicates_resent", "duplicates_unflagged", "corrupt", "foreign", "reordered",
    "left_in_queue", "lost_head", "lost_middle", "lost_tail", "nacked_delivered",
    "returned_delivered", "residue",
)  # fmt: skip
"""The counts of a queue's verdict that an expectation may name; ``dropped.REASON`` is another."""


def check(expect: Expectation) -> None:
    """Raise ValueError for an expectation of what no verdict has."""
    counts = {*expect.work, *expect.audit} - set(COUNTS)
    if set(expect.totals) - set(TOTALS) or not all(one.startswith("dropped.") for one in counts):
        raise ValueError("an expectation of a count that no verdict has")


def needs(expect: Expectation | None) -> set[str]:
    """Return which numbers of the second witness an expectation is about."""
    if expect is None:
        return set()
    amounts = [*expect.totals.values(), *expect.work.values(), *expect.audit.values()]
    return {amount for amount in amounts if isinstance(amount, str)}


def surprises(
    expect: Expectation,
    verdict: Verdict,
    work: QueueVerdict | None,
    audit: QueueVerdict | None,
    witnessed: Mapping[str, int | None],
) -> list[str]:
    """Return what came out differently, as whole sentences; nothing when all is as expected."""
    out = []
    if str(verdict.decision) != expect.verdict:
        out.append(f"The verdict is {verdict.decision}, expected was {expect.verdict}.")
    for name in sorted(needs(expect)):
        if witnessed.get(name) is None:
            out.append(f"The second witness could not tell {name}.")
        elif not witnessed[name]:
            out.append(f"Nothing happened: {name} is 0 by the second witness.")
    for key, amount in expect.totals.items():
        out += _compare(f"{key}", getattr(verdict, key), amount, witnessed)
    for name, queue, amounts in (("work", work, expect.work), ("audit", audit, expect.audit)):
        for key, amount in amounts.items():
            if queue is None:
                out.append(f"There is no {name} queue.")
                continue
            found = (
                queue.dropped.get(key.removeprefix("dropped."), 0)
                if key.startswith("dropped.")
                else getattr(queue, key)
            )
            out += _compare(f"{queue.name}: {key}", found, amount, witnessed)
        if queue is not None:
            out += _unexpected(queue, amounts)
    return out


_DAMAGE = ("lost", "undecided", "duplicates_unflagged", "corrupt", "foreign", "residue")
"""What has to be 0 where nothing else is expected."""


def _unexpected(queue: QueueVerdict, amounts: Mapping[str, Amount]) -> list[str]:
    found = {key: getattr(queue, key) for key in _DAMAGE}
    found |= {f"dropped.{reason}": copies for reason, copies in queue.dropped.items()}
    return [
        f"{queue.name}: {key} is {value:,}, expected was nothing of the kind."
        for key, value in found.items()
        if value and key not in amounts
    ]


def _compare(
    what: str, found: int | None, amount: Amount, witnessed: Mapping[str, int | None]
) -> list[str]:
    wanted = witnessed.get(amount) if isinstance(amount, str) else amount
    if found == wanted:
        return []
    named = f"{amount} = {wanted:,}" if isinstance(amount, str) and wanted is not None else amount
    return [f"{what} is {found if found is None else f'{found:,}'}, expected was {named}."]


def planted(
    expect: Expectation | None, witnessed: Mapping[str, int | None]
) -> list[tuple[str, str, int]]:
    """Return what was expected: queue, count's name, number; for people."""
    if expect is None:
        return []
    out = []
    groups = (("", expect.totals), ("work.queue", expect.work), ("audit.queue", expect.audit))
    for queue, amounts in groups:
        for key, amount in amounts.items():
            value = witnessed.get(amount) if isinstance(amount, str) else amount
            out.append((queue, key, -1 if value is None else value))
    return out
