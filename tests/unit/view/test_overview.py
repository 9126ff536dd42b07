"""The whole picture, as text and as JSON."""

import json
import re
from dataclasses import replace

from rabbitproof.snapshot import NodeSample, Picture, QueueSample
from rabbitproof.view import cards, overview
from seen import CLOCK, CONSUMERS, RATES, WORK, picture, snapshot

AS_DESCRIBED = """\
╔═══════════════════════════════════════════════════════════════╗
║  RabbitMQ Monitor Summary                                     ║
╠═══════════════════════════════════════════════════════════════╣
║  Queues: 2    Consumers: 1    Connections: 2                  ║
║  Ready:  5.2K  Unacked:    500  Active: 1/2                   ║
╚═══════════════════════════════════════════════════════════════╝

📊 QUEUES
───────────────────────────────────────────────────────────────────
● work.queue  [⬇ Consuming]
  Messages: Ready=  5.2K  Unacked=   500  Total=  5.7K
  Activity: Del=250.5/s  Ack=250.5/s
  ✓ 1 active consumer(s)

● audit.queue  [Idle]
  Messages: Ready= 10.0K  Unacked=     0  Total= 10.0K
"""
"""The example of the project's first description, character by character. (Its summary counts
the Ready of the work queue alone, so here the audit queue's are left out of the sum.)"""


def text(seen: Picture) -> str:
    return "\n".join(cards.plain(line) for line in overview.picture(seen)) + "\n"


def test_the_look_is_the_described_one() -> None:
    shown = text(picture(problems=()))
    assert shown.replace("Ready: 15.2K", "Ready:  5.2K").startswith(AS_DESCRIBED)


def test_what_nobody_knows_is_a_question_mark_and_metrics_are_off_not_zero() -> None:
    unknown = QueueSample("/", "q", ready=3)
    off = snapshot(
        queues=(unknown,), consumers=None, connections=None, connection_count=None, metrics=False
    )
    shown = text(picture(off, rates={}))
    assert "Consumers: ?" in shown
    assert "Connections: ?" in shown
    assert "Active: metrics off" in shown
    assert "● q  [metrics off]" in shown
    assert "Ready=     3  Unacked=     ?  Total=     ?" in shown
    assert "metrics off: no rates" in shown


def test_colours_repeat_what_the_text_says() -> None:
    lines = overview.picture(picture())
    coloured = "\n".join(cards.ansi(line) for line in lines)
    assert "\x1b[33m●\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d*m", "", coloured) == "\n".join(cards.plain(line) for line in lines)


def test_the_lists_name_what_is_connected_to_what() -> None:
    shown = text(picture())
    assert (
        "  ● Worker-1 ← work.queue  prefetch=1000  RabbitMQ Consumer Worker-1 (h), "
        "127.0.0.1:4 -> 127.0.0.1:5672\n"
    ) in shown
    assert "  ● 127.0.0.1:5 -> 127.0.0.1:5672  guest@/  [blocked]\n" in shown
    assert "  ● rabbit@h  up 2 h 1 min\n" in shown
    assert "Memory=256.0 MiB of 1.0 GiB  Disk free=32.0 GiB (limit 64.0 MiB)\n" in shown
    assert "File descriptors=40 of 20.0K  Sockets=2 of 17.9K\n" in shown
    assert "  queue audit.queue appeared\n" in shown


def test_problems_stand_at_the_top_with_what_to_do() -> None:
    shown = text(picture(snapshot(missing=("the nodes could not be read: ask for a tag.",))))
    top = shown.split("📊")[0]
    assert "⚠ 10,000 message(s) wait" in top
    assert "→ start a consumer" in top
    assert "⚠ the nodes could not be read" in top


def test_an_error_stands_above_the_last_good_picture() -> None:
    shown = text(picture(error="it is down; start it."))
    assert shown.startswith("✗ it is down; start it.\n  Below is what was last known, ")
    assert "work.queue" in shown
    assert text(Picture(None, error="no; do.")) == "✗ no; do.\n\n"


def test_names_can_neither_command_the_terminal_nor_forge_a_line() -> None:
    evil = QueueSample("/", "a\x1b[2J\n● b", ready=1, unacked=0, total=1)
    consumer = replace(CONSUMERS[0], tag="\x1b]0;x\x07", queue="\u202e")
    node = NodeSample("n\r")
    shown = text(picture(snapshot(queues=(evil,), consumers=(consumer,), nodes=(node,))))
    assert "a\\x1b[2J\\n● b" in shown
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)


def test_thousands_of_queues_are_counted_and_not_all_listed() -> None:
    many = tuple(QueueSample("/", f"q{i}", ready=i, unacked=0, total=i) for i in range(5000))
    lines = text(picture(snapshot(queues=many), rates={}))
    assert "  … and 4,900 more queues; --filter or --json shows them\n" in lines
    assert "● q4999 " in lines
    assert "Queues: 5.0K" in lines


def test_an_empty_broker_says_so() -> None:
    shown = text(picture(snapshot(queues=(), consumers=(), connections=(), connection_count=0)))
    assert "  no queues\n\n👥" in shown
    assert "  no consumers\n\n🔌" in shown
    assert "  no connections\n\n💻" in shown


def test_the_object_has_the_same_figures_and_is_json() -> None:
    shown = json.loads(json.dumps(overview.as_object(picture())))
    assert shown["time"] == "2023-11-14T22:13:20Z"
    work, audit = shown["queues"]
    assert (work["name"], work["ready"], work["ack_per_s"], work["consumers"]) == (
        "work.queue", 5200, 250.5, 1,
    )  # fmt: skip
    assert audit["consumers"] == 0
    assert shown["problems"][0]["level"] == "yellow"
    assert shown["rates_from"] == "broker"
    failed = overview.as_object(Picture(None, error="down; start it."))
    assert (failed["error"], failed["time"]) == ("down; start it.", None)
    assert RATES[WORK.key].ack == 250.5
    assert CLOCK
