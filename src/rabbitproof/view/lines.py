"""Progress as lines of text: what the commands print, word for word.

Pure. Refuses to print (``cli``). Texts that came from a message are made safe here.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.model import Produced
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.model import Advanced, Consumed, Disconnected, Purged, Sample

_ID, _SENDER, _N, _TEXT, _REASON = 60, 40, 20, 200, 80
"""Characters shown of a message's parts at most."""

_ONE_HOST = "one host"
"""Of ``clocks``: nothing to say about them."""


def purged(event: Purged) -> str:
    """Say which queue was emptied."""
    return f"purged {'audit queue' if event.audit else 'queue'}: {safe(event.queue)}"


def published(event: Advanced) -> str:
    """Say how far a producer is."""
    return f"published {event.done}/{event.total}"


def consumed(event: Advanced) -> str:
    """Say how far a consumer is, with the last message."""
    of = "" if event.total is None else f"/{event.total}"
    last = event.sample
    if last is None:
        return f"consumed {event.done}{of}"
    return (
        f"consumed {event.done}{of} "
        f"(last msg_id={safe(last.message_id, _ID)}, from={safe(last.sender, _SENDER)})"
    )


def pace(event: Advanced) -> str:
    """Say how far a participant of a trial is, how fast, and how long it will take."""
    done, total, seconds = event.done, event.total or event.done, event.seconds
    verb = "published" if event.sample is None else "received"
    if event.blocked is not None:
        return f"{verb} {done:,}/{total:,}, {blocked(event.blocked)}"
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:,.0f} s left" if rate else "? s left"
    return f"{verb} {done:,}/{total:,}, {rate:,.0f} msg/s, {left}"


def blocked(reason: str) -> str:
    """Say that the broker takes no publishes at the moment; ``reason`` is its own word for it."""
    return f"blocked by the broker: {safe(reason, _REASON)}"


def disconnected(event: Disconnected) -> str:
    """Say for how long there has been no connection, and what the last attempt met."""
    return f"no connection for {event.seconds:.0f} s: {event.why}"


def got(message: Sample) -> str:
    """Show one message."""
    return (
        f"got #{message.number} (msg_id={safe(message.message_id, _ID)}, "
        f"from={safe(message.sender, _SENDER)}) n={safe(message.n, _N)} "
        f"text={safe(message.text, _TEXT)}"
    )


def produced(end: Produced) -> tuple[str, str]:
    """Return a producer's two closing lines."""
    ready = "?" if end.ready is None else end.ready
    time = f"time={end.seconds:.2f}s"
    if not end.confirms:
        return (
            f"done. sent={end.attempted}, in_queue_ready={ready}, {time}",
            f"confirmed=?, nacked=?, returned={end.returned}, in_doubt={end.attempted}, "
            f"resent={end.resent}",
        )
    return (
        f"done. published={end.published}, in_queue_ready={ready}, {time}",
        f"confirmed={end.published}, nacked={end.nacked}, returned={end.returned}, "
        f"in_doubt={end.in_doubt}, resent={end.resent}",
    )


def finished(end: Consumed) -> tuple[str, str]:
    """Return a consumer's two closing lines."""
    missing = "?" if end.missing is None else end.missing
    return (
        f"done. consumed={end.consumed}, time={end.seconds:.2f}s",
        f"unique={end.unique}, redelivered={end.redelivered}, duplicates={end.duplicates}, "
        f"missing={missing}, corrupt={end.corrupt}, foreign={end.foreign}",
    )


def latency(kind: str, found: dict[str, Any]) -> str:
    """Say how long messages took, in milliseconds; ``kind`` names from when to when."""
    if not found["count"]:
        return f"{kind} latency ms: none was measured"
    shown = (
        f"{name}={_digits(found[key])}"
        for name, key in (
            ("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p99_9"), ("max", "max"),
        )
    )  # fmt: skip
    notes = [f"{found['count']:,} messages"]
    if found["warm_up_left_out"]:
        notes.append(f"{found['warm_up_left_out']:,} of the warm-up left out")
    if found["negative"]:
        notes.append(f"{found['negative']:,} came before they were sent: a clock was set")
    if not found.get("live", True):
        notes.append("with the time before the consumer came")
    if found.get("clocks", _ONE_HOST) != _ONE_HOST:
        notes.append(found["clocks"])
    return f"{kind} latency ms: {' '.join(shown)} ({'; '.join(notes)})"


def _digits(ms: float) -> str:
    """Return a number with about three digits, however large."""
    places = 0 if ms >= 100 else 1 if ms >= 10 else 2 if ms >= 1 else 3
    return f"{ms:,.{places}f}"


def as_object(end: Produced | Consumed) -> dict[str, Any]:
    """Return an end as what ``--json`` prints: the closing lines' names, time in seconds."""
    out = asdict(end)
    out["time_s"] = round(out.pop("seconds"), 6)
    out["cpu_s"] = round(out.pop("cpu_seconds"), 6)
    kind = "confirm" if isinstance(end, Produced) else "end_to_end"
    out["latency_ms"] = {kind: out.pop("latency")}
    if "ready" in out:
        out["in_queue_ready"] = out.pop("ready")
    return out
