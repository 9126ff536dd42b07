"""A broker as cards of text: what the monitor shows, line by line.

Holds: the summary box, what is wrong, the queue cards, and what colour each line has. Refuses to
hold: the lists beside them (``lists``), a whole page (``overview``), and when and where it is shown
(``cli``, ``view/monitor``). Pure; what comes from the broker is made safe here.

A line is a list of spans, each a text and a style: green, yellow, red, bold, dim, or none. The
text alone says everything; a colour only repeats it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.snapshot import Rates
from rabbitproof.text import safe
from rabbitproof.view.humanize import number, rate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rabbitproof.snapshot import (
        Picture,
        QueueSample,
    )

Span = tuple[str, str]
Line = list[Span]

INNER = 63
"""Columns inside the summary box."""
YELLOW_FROM = 1_000
"""Messages in a queue from which it is yellow: more than one full prefetch."""
RED_FROM = 100_000
"""Messages in a queue from which it is red: no consumer gets through that at once."""
NAME = 60
"""Characters shown of a name."""
_STYLES = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}

PUBLISHING = "⬆ Publishing"
CONSUMING = "⬇ Consuming"


def ansi(line: Line) -> str:
    """Return a line as a terminal with colours wants it."""
    return "".join(
        f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text for text, style in line
    )


def plain(line: Line) -> str:
    """Return a line without colours."""
    return "".join(text for text, _ in line)


def box(seen: Picture, shown: dict[str, str] | None = None) -> list[Line]:
    """Return the summary in its box; ``shown``: its figures, where they are known already."""
    first, second = summary(shown or figures(seen))
    return [
        [("╔" + "═" * INNER + "╗", "")],
        [("║", ""), ("  RabbitMQ Monitor Summary".ljust(INNER), "bold"), ("║", "")],
        [("╠" + "═" * INNER + "╣", "")],
        [(f"║  {first}".ljust(INNER + 1) + "║", "")],
        [(f"║  {second}".ljust(INNER + 1) + "║", "")],
        [("╚" + "═" * INNER + "╝", "")],
    ]


def figures(seen: Picture) -> dict[str, str]:
    """Return the figures of the summary by their names, in order."""
    snapshot = seen.snapshot
    if snapshot is None:
        return {}
    queues, listed = snapshot.queues, snapshot.listed
    consumers = number(len(snapshot.consumers or ()))
    if snapshot.consumers is None:
        consumers = _sum((queue.consumers for queue in queues), whole=listed)
    connections = number(snapshot.connection_count)
    if snapshot.connection_count is None:
        connections = _sum((1 for _ in snapshot.connections or ()), whole=False)
    active = [bool(activity(queue, seen)) or _still(queue, seen) for queue in queues]
    there = _sum((1 for _ in queues), whole=listed)
    return {
        "Queues": there,
        "Consumers": consumers,
        "Connections": connections,
        "Ready": _sum((queue.ready for queue in queues), whole=listed),
        "Unacked": _sum((queue.unacked for queue in queues), whole=listed),
        "Active": f"{_sum(active, whole=listed)}/{there}" if snapshot.metrics else "metrics off",
    }


def _still(queue: QueueSample, seen: Picture) -> int | None:
    """Return 0 for a queue of which rates are known; None when nobody knows whether it moves."""
    return 0 if seen.rates.get(queue.key, Rates()) != Rates() else None


def summary(shown: dict[str, str]) -> tuple[str, str]:
    """Return the two lines inside the box."""
    return (
        f"Queues: {shown['Queues']:<4} Consumers: {shown['Consumers']:<4} "
        f"Connections: {shown['Connections']}",
        f"Ready: {shown['Ready']:>5}  Unacked: {shown['Unacked']:>6}  Active: {shown['Active']}",
    )


def problems(seen: Picture) -> list[Line]:
    """Return what is wrong and what is missing, nothing when all is well."""
    out: list[Line] = []
    for problem in seen.problems:
        mark = "✗" if problem.level == "red" else "⚠"
        out.append([(f"{mark} {problem.what}", problem.level), (f" → {problem.do}", "")])
    if seen.snapshot is not None:
        out += [[(f"⚠ {safe(text, 400)}", "yellow")] for text in seen.snapshot.missing]
    return out


def activity(queue: QueueSample, seen: Picture) -> tuple[str, ...]:
    """Return what goes on in a queue: publishing, consuming, both, or nothing."""
    now = seen.rates.get(queue.key, Rates())
    trend = seen.trends.get(queue.key, 0)
    moving = bool(now.publish or now.deliver or now.ack)
    out = []
    # A depth is of now, where a first report of the counters may be 5 s away.
    if now.publish or (not moving and trend > 0):
        out.append(PUBLISHING)
    if now.deliver or now.ack or (not moving and trend < 0 and consumer_count(queue, seen)):
        out.append(CONSUMING)
    return tuple(out)


def colour(queue: QueueSample) -> str:
    """Return green, yellow or red by the depth of a queue."""
    depth = queue.total if queue.total is not None else queue.ready
    if depth is None:
        return "dim"
    return "green" if depth < YELLOW_FROM else "yellow" if depth < RED_FROM else "red"


def state(queue: QueueSample, seen: Picture) -> str:
    """Return what stands in a card's brackets."""
    if queue.state not in {"running", "", "idle"}:
        return safe(queue.state, 20)
    goes_on = activity(queue, seen)
    if not goes_on and seen.rates.get(queue.key, Rates()) == Rates():
        off = seen.snapshot is not None and not seen.snapshot.metrics
        return "metrics off" if off else "…"
    return "  ".join(goes_on) or "Idle"


def card(queue: QueueSample, seen: Picture, *, narrow: bool = False) -> list[Line]:
    """Return a queue's card and the empty line below it; ``narrow`` for 40 columns."""
    shade = colour(queue)
    now = seen.rates.get(queue.key, Rates())
    ready, unacked, total = number(queue.ready), number(queue.unacked), number(queue.total)
    words = state(queue, seen)
    if narrow and words == f"{PUBLISHING}  {CONSUMING}":  # arrows alone have room
        words = "⬆ ⬇"
    out: list[Line] = [
        [("●", shade), (" ", ""), (title(queue, seen), "bold"), (f"  [{words}]", "")]
    ]
    if narrow:
        out.append([(f"  Ready={ready:>6}  Unacked={unacked:>6}", "")])
        out.append([(f"  Total={total:>6}", "")])
    else:
        out.append([(f"  Messages: Ready={ready:>6}  Unacked={unacked:>6}  Total={total:>6}", "")])
    moving = activity_text(now)
    if moving:
        out.append([("  " + moving.replace("  ", " ") if narrow else f"  Activity: {moving}", "")])
    consumers = consumer_count(queue, seen)
    if consumers:
        out.append([(f"  ✓ {consumers:,} active consumer(s)", "green")])
    return [*out, []]


def card_height(queue: QueueSample, seen: Picture) -> int:
    """Return how many lines a card has where it is not narrow (else one more)."""
    now = seen.rates.get(queue.key, Rates())
    moving = bool(now.publish or now.deliver or now.ack)
    return 3 + moving + bool(consumer_count(queue, seen))


def activity_text(now: Rates) -> str:
    """Return the rates that are not 0."""
    pairs = (("Pub", now.publish), ("Del", now.deliver), ("Ack", now.ack))
    return "  ".join(f"{name}={rate(value)}" for name, value in pairs if value)


def title(queue: QueueSample, seen: Picture) -> str:
    """Return a queue's name, with its vhost where several are shown."""
    name = safe(queue.name, NAME)
    return name if seen.vhosts <= 1 else f"{name} ({safe(queue.vhost, 30)})"


def consumer_count(queue: QueueSample, seen: Picture) -> int | None:
    """Return how many consumers a queue has."""
    snapshot = seen.snapshot
    if snapshot is None or snapshot.consumers is None or queue.consumers:
        return queue.consumers
    return seen.consumer_counts.get(queue.key, 0)


def ordered(seen: Picture) -> list[QueueSample]:
    """Return the queues: what moves first, then the deepest, then by name."""
    if seen.snapshot is None:
        return []
    return sorted(
        seen.snapshot.queues,
        key=lambda queue: (
            not activity(queue, seen),
            -(queue.total or queue.ready or 0),
            queue.name,
            queue.vhost,
        ),
    )


def rates_note(seen: Picture) -> str:
    """Say what the rates are worth."""
    if seen.snapshot is not None and not seen.snapshot.metrics:
        return "metrics off: no rates"
    if seen.own:
        return "rates from own samples of the last 15 s (queues report every 5 s)"
    return "rates are the broker's own over 5 s, up to 5 s old"


def _sum(values: Iterable[int | None], *, whole: bool) -> str:
    """Add what is known; with a + where something is not, "?" where nothing is."""
    known = list(values)
    total = sum(value or 0 for value in known)
    if whole and None not in known:
        return number(total)
    return f"{number(total)}+" if total else "?"
