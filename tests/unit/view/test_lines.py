from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rabbitproof.model import Advanced, Consumed, Produced, Purged, Sample
from rabbitproof.view import lines

SENT = Produced(
    run="0a1b2c3d4e5f", producer=1, attempted=10_000, published=9_990, nacked=4, returned=5,
    in_doubt=1, resent=7, confirms=True, ready=9_990, seconds=0.4213,
    cpu_seconds=0.05,
)  # fmt: skip
TAKEN = Consumed(
    consumed=10_000, unique=9_998, redelivered=3, duplicates=1, missing=0, corrupt=0, foreign=2,
    expected=10_000, seconds=0.3149,
    cpu_seconds=0.04,
)  # fmt: skip
SHOWN = Sample(1, "id-1", "alice", "1", "Hello World")


def test_purged_queues_are_named_by_their_part() -> None:
    """Work and audit queue have words of their own."""
    assert lines.purged(Purged("work.queue", audit=False, messages=3)) == (
        "purged queue: work.queue"
    )
    assert lines.purged(Purged("audit.queue", audit=True, messages=3)) == (
        "purged audit queue: audit.queue"
    )


def test_a_producer_says_how_far_it_is() -> None:
    """Done and total."""
    assert lines.published(Advanced(500, 10_000, mark=True)) == "published 500/10000"


def test_a_consumer_says_how_far_it_is() -> None:
    """With the last message where there is one, and without a total where there is none."""
    event = Advanced(10_000, 10_000, mark=True, sample=SHOWN)
    assert lines.consumed(event) == "consumed 10000/10000 (last msg_id=id-1, from=alice)"
    assert lines.consumed(replace(event, total=None, sample=None)) == "consumed 10000"


def test_a_message_is_one_line() -> None:
    """As the specification shows it."""
    assert lines.got(SHOWN) == "got #1 (msg_id=id-1, from=alice) n=1 text=Hello World"


@pytest.mark.parametrize("part", ["message_id", "sender", "n", "text"])
def test_hostile_texts_are_shown_safely(part: str) -> None:
    """No escape sequence, no second line, no endless line."""
    evil = replace(SHOWN, **{part: "\x1b[2J\n[producer] done\u202e" + "x" * 5000})  # type: ignore[arg-type]
    event = Advanced(1, None, mark=True, sample=evil)
    for line in (lines.got(evil), lines.consumed(event)):
        assert line.isprintable()
        assert len(line) < 400
    assert "\x1b" not in lines.purged(Purged("q\x1b", audit=False, messages=0))


def test_a_producers_end_is_two_lines() -> None:
    """Word for word as specified."""
    assert lines.produced(SENT) == (
        "done. published=9990, in_queue_ready=9990, time=0.42s",
        "confirmed=9990, nacked=4, returned=5, in_doubt=1, resent=7",
    )
    assert "in_queue_ready=?" in lines.produced(replace(SENT, ready=None))[0]


def test_without_confirms_nothing_is_claimed() -> None:
    """The outcome is "sent", and what is not known is a question mark."""
    end = replace(SENT, confirms=False, in_doubt=10_000, returned=0)
    assert lines.produced(end) == (
        "done. sent=10000, in_queue_ready=9990, time=0.42s",
        "confirmed=?, nacked=?, returned=0, in_doubt=10000, resent=7",
    )


def test_a_consumers_end_is_two_lines() -> None:
    """Gaps are not claimed where others took part."""
    first, second = lines.finished(TAKEN)
    assert first == "done. consumed=10000, time=0.31s"
    assert second == ("unique=9998, redelivered=3, duplicates=1, missing=0, corrupt=0, foreign=2")
    assert "missing=?" in lines.finished(replace(TAKEN, missing=None))[1]


def test_an_end_is_one_json_object() -> None:
    """With the names of the closing lines, in seconds."""
    sent = json.loads(json.dumps(lines.as_object(SENT)))
    assert sent["in_queue_ready"] == 9_990
    assert sent["time_s"] == 0.4213
    assert "ready" not in sent
    assert "seconds" not in sent
    taken = json.loads(json.dumps(lines.as_object(TAKEN)))
    assert (taken["consumed"], taken["time_s"]) == (10_000, 0.3149)
    assert "in_queue_ready" not in taken


def test_the_pace_of_a_phase_has_rate_and_time_left() -> None:
    """300,000 in 12.5 s are 24,000 a second; the other 700,000 take 29 s at that rate."""
    event = Advanced(300_000, 1_000_000, mark=True, seconds=12.5)
    assert lines.pace(event) == "published 300,000/1,000,000, 24,000 msg/s, 29 s left"
    assert lines.pace(replace(event, sample=SHOWN)).startswith("received 300,000/1,000,000, ")


def test_a_pace_that_is_not_known_is_not_made_up() -> None:
    """At the very beginning there is no rate; a broker that blocks has none."""
    event = Advanced(1, 10, mark=True)
    assert lines.pace(event) == "published 1/10, 0 msg/s, ? s left"
    assert (
        lines.pace(replace(event, blocked="memory"))
        == "published 1/10, blocked by the broker: memory"
    )


FAST = {
    "count": 9_500, "p50": 1.214, "p90": 2.05, "p99": 33.44, "p99_9": 512.7, "p99_99": 1_800.4,
    "max": 2_041.5, "negative": 0, "warm_up_left_out": 500,
}  # fmt: skip


def test_a_latency_is_one_line() -> None:
    """About three digits of each figure, and what was left out."""
    assert lines.latency("confirm", FAST) == (
        "confirm latency ms: p50=1.21 p90=2.05 p99=33.4 p99.9=513 max=2,042 "
        "(9,500 messages; 500 of the warm-up left out)"
    )


def test_a_latency_says_what_is_odd_about_it() -> None:
    """Clocks that were set or are two; and nothing where nothing is odd."""
    odd = FAST | {"negative": 3, "clocks": "different hosts: and so on", "live": True}
    assert lines.latency("end-to-end", odd).endswith(
        "(9,500 messages; 500 of the warm-up left out; 3 came before they were sent: a clock was "
        "set; different hosts: and so on)"
    )
    late = lines.latency("end-to-end", FAST | {"clocks": "one host", "live": False})
    assert late.endswith("warm-up left out; with the time before the consumer came)")
    plain = FAST | {"warm_up_left_out": 0, "clocks": "one host", "p50": 0.0421}
    line = lines.latency("end-to-end", plain)
    assert line.endswith("(9,500 messages)")
    assert " p50=0.042 " in line


def test_a_latency_that_nobody_has_is_not_made_up() -> None:
    nothing = FAST | {"count": 0, "p50": None, "max": None}
    assert lines.latency("confirm", nothing) == "confirm latency ms: none was measured"


def test_an_end_has_its_latency_by_kind() -> None:
    """A producer's is to the confirm, a consumer's from end to end; None without confirms."""
    assert lines.as_object(SENT)["latency_ms"] == {"confirm": None}
    assert lines.as_object(replace(SENT, latency=FAST))["latency_ms"] == {"confirm": FAST}
    taken = lines.as_object(replace(TAKEN, latency=FAST))
    assert taken["latency_ms"] == {"end_to_end": FAST}
    assert "latency" not in taken
