from dataclasses import replace

import pytest

from rabbitproof.snapshot import Detail, Rates
from rabbitproof.view import cards, closeup
from seen import CLOCK, CONSUMERS, RATES, WORK

DETAIL = Detail(
    queue=WORK,
    durable=True,
    exclusive=False,
    auto_delete=False,
    arguments={"x-max-length": 7},
    policy="ha\x1b",
    policy_definition={"a": 1},
    bindings=(("", "work.queue"), ("direct.exchange", "work")),
    consumers=((CONSUMERS[0], 1000),),
    oldest=CLOCK - 61,
    bytes=2048,
    depth=((CLOCK - 300, 100.0), (CLOCK, 200.0)),
)


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (Rates(0.0, 0.0, 57.0), "empty in 1 min 40 s"),
        (Rates(100.0, 50.0, 50.0), "never empty at this rate: grows by 50.0/s"),
        (Rates(0.0, 0.0, 0.0), "never empty at this rate: stands still"),
        (Rates(500.0, 499.0, 499.0), "never empty at this rate: as much comes as goes"),
        (Rates(6000.0, 6001.0, 6001.0), "keeps up"),
        (Rates(0.0, 57.0, 0.0), "empty in 1 min 40 s"),
        (Rates(), None),
    ],
)
def test_the_time_until_empty_follows_from_what_comes_and_goes(
    rates: Rates, words: str | None
) -> None:
    assert closeup.until_empty(WORK, rates) == words


def test_an_empty_queue_is_empty_and_a_stream_never_empties() -> None:
    still = Rates(0.0, 0.0, 0.0)
    assert closeup.until_empty(replace(WORK, total=0), still) == "empty now"
    assert closeup.until_empty(replace(WORK, type="stream"), still) is None


def test_a_graph_has_its_highest_value_at_the_top_and_its_time_from_left_to_right() -> None:
    rows = closeup.chart([(5.0, 4.0), (10.0, 8.0)], width=10, height=2, end=10.0, span=10.0)
    assert rows == ["     8 ┤         █", "     0 ┤     █████"]


@pytest.mark.parametrize("samples", [[], [(0.0, 0.0)], [(-99.0, 5.0)]])
def test_a_graph_of_nothing_is_empty(samples: list[tuple[float, float]]) -> None:
    rows = closeup.chart(samples, width=4, height=2, end=0.0, span=10.0)
    assert [row[8:] for row in rows] == ["    ", "    "]


def test_a_queue_in_full_says_everything() -> None:
    lines = closeup.lines(DETAIL, RATES[WORK.key], CLOCK, 80)
    shown = "\n".join(cards.plain(line) for line in lines)
    for words in (
        "● work.queue  classic, durable, running, vhost /",
        "Ready=5.2K  Unacked=500  Total=5.7K  Size=2.0 KiB",
        "Pub=0.0/s  Del=250.5/s  Ack=250.5/s",
        "Time until empty: empty in 23 s",
        "Age of the oldest message: 1 min 1 s",
        'Arguments  {"x-max-length": 7}',
        'Policy  ha\\x1b {"a": 1}',
        "(default) → work.queue",
        "direct.exchange → work",
        "Worker-1  prefetch=1000  unacked=1.0K  127.0.0.1:4 -> 127.0.0.1:5672",
        "the broker tells no history of it",
    ):
        assert words in shown
    assert "\x1b" not in shown
