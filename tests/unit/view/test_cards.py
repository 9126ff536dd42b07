from dataclasses import replace

import pytest

from rabbitproof.snapshot import QueueSample, Rates
from rabbitproof.view import cards
from seen import AUDIT, WORK, picture


def test_the_summary_adds_up_all_queues() -> None:
    assert cards.figures(picture()) == {
        "Queues": "2", "Consumers": "1", "Connections": "2", "Ready": "15.2K", "Unacked": "500",
        "Active": "1/2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (Rates(1.0, 0.0, 0.0), "[⬆ Publishing]"),
        (Rates(0.0, 0.0, 2.0), "[⬇ Consuming]"),
        (Rates(1.0, 2.0, 0.0), "[⬆ Publishing  ⬇ Consuming]"),
        (Rates(0.0, 0.0, 0.0), "[Idle]"),
        (Rates(), "[…]"),
    ],
)
def test_a_card_says_what_goes_on(rates: Rates, words: str) -> None:
    seen = picture(rates={WORK.key: rates})
    assert cards.plain(cards.card(WORK, seen)[0]) == f"● work.queue  {words}"


def test_a_queue_that_does_not_run_says_so() -> None:
    assert "[down]" in cards.plain(cards.card(replace(WORK, state="down"), picture())[0])


@pytest.mark.parametrize(
    ("depth", "colour"),
    [(0, "green"), (999, "green"), (1000, "yellow"), (99_999, "yellow"), (100_000, "red")],
)
def test_the_colour_is_that_of_the_depth(depth: int, colour: str) -> None:
    assert cards.card(replace(WORK, total=depth), picture())[0][0] == ("●", colour)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("queue", [WORK, AUDIT])
def test_the_height_of_a_card_is_known_without_making_it(
    queue: QueueSample, *, narrow: bool
) -> None:
    made = cards.card(queue, picture(), narrow=narrow)
    assert len(made) == cards.card_height(queue, picture()) + narrow
    if narrow:
        assert max(len(cards.plain(line)) for line in made) <= 40


def test_the_vhost_is_named_where_there_are_several() -> None:
    assert cards.title(WORK, picture()) == "work.queue"
    assert cards.title(WORK, picture(vhosts=2)) == "work.queue (/)"


def test_a_narrow_card_that_publishes_and_consumes_has_room_for_its_brackets() -> None:
    seen = picture(rates={WORK.key: Rates(1.0, 2.0, 2.0)})
    assert cards.plain(cards.card(WORK, seen, narrow=True)[0]) == "● work.queue  [⬆ ⬇]"


@pytest.mark.parametrize("rates", [Rates(), Rates(0.0, 0.0, 0.0)])
@pytest.mark.parametrize(
    ("trend", "words"), [(9, "[⬆ Publishing]"), (-9, "[⬇ Consuming]"), (0, None)]
)
def test_a_depth_that_changes_is_no_idle_queue_whatever_the_rates_lag_behind(
    rates: Rates, trend: int, words: str | None
) -> None:
    seen = picture(rates={WORK.key: rates}, trends={WORK.key: trend})
    shown = cards.plain(cards.card(WORK, seen)[0])
    assert shown.endswith(words or ("[…]" if rates == Rates() else "[Idle]"))
