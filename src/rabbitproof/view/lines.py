"""Progress as lines of text: what the commands print, word for word.

Pure. Refuses to print (``cli``). Texts that came from a message are made safe here.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.model import Advanced, Consumed, Produced, Purged, Sample

_ID, _SENDER, _N, _TEXT = 60, 40, 20, 200
"""Characters shown of a message's parts at most."""


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
        return f"{verb} {done:,}/{total:,}, blocked by the broker"
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:,.0f} s left" if rate else "? s left"
    return f"{verb} {done:,}/{total:,}, {rate:,.0f} msg/s, {left}"


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


def as_object(end: Produced | Consumed) -> dict[str, Any]:
    """Return an end as what ``--json`` prints: the closing lines' names, time in seconds."""
    out = asdict(end)
    out["time_s"] = round(out.pop("seconds"), 6)
    out["cpu_s"] = round(out.pop("cpu_seconds"), 6)
    if "ready" in out:
        out["in_queue_ready"] = out.pop("ready")
    return out
