"""What a dead letter says of itself, and what its copy keeps."""

import struct
from typing import Any

import pytest

from rabbitproof.amqp import content
from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.work.deadletter import Task, copy_of
from rabbitproof.work.letters import Death, Filter, Letter, read_letter

DEATHS = {
    "A": [
        {"F": {"count": {"l": 2}, "reason": "expired", "queue": "later", "time": {"T": 1000},
               "exchange": "", "routing-keys": {"A": ["later"]}}},
        {"F": {"count": {"l": 1}, "reason": "rejected", "queue": "first", "time": {"T": 900},
               "exchange": "shop", "routing-keys": {"A": ["order"]}}},
    ]
}  # fmt: skip


def letter(headers: Any = None, **properties: Any) -> Letter:
    if headers is not None:
        properties["headers"] = headers
    payload = struct.pack(">HHQ", 60, 0, 1) + content.encode(properties)
    return read_letter(Delivery(1, b"tag", 1, False, b"dlx", b"k", payload, b"x"))


def copied(what: Any, source: Letter, to_queue: str | None = None) -> dict[str, Any]:
    copy = copy_of(source, Task("dead", what, to_queue=to_queue))
    assert copy.exchange == b""
    return {"to": copy.routing_key.decode(), **content.decode(copy.properties)}


def test_the_newest_death_is_the_reason_and_the_oldest_the_way_back() -> None:
    found = letter({"x-death": DEATHS})
    assert found.last == Death("later", "expired", "", ("later",), 2, 1000)
    assert found.first == Death("first", "rejected", "shop", ("order",), 1, 900)
    assert found.deaths == 3
    assert letter({"x-death": DEATHS, "x-first-death-queue": "origin"}).first == Death("origin")


def test_when_it_last_died_is_known_of_one_death_alone() -> None:
    """Of several in one queue for one reason RabbitMQ tells when the first was."""
    found = letter({"x-death": DEATHS})
    assert (found.last.time, found.last.began) == (0, 1000)
    assert (found.first.time, found.first.began) == (900, 900)
    assert not Filter(older_than_s=0).fits(found, now=1500)


def test_the_first_death_is_the_one_that_says_so() -> None:
    """RabbitMQ 3.10 has no order in those behind the newest."""
    turned = {"A": [DEATHS["A"][0], DEATHS["A"][1], {"F": {"queue": "middle", "reason": "maxlen"}}]}
    origin = {"x-first-death-queue": "first", "x-first-death-reason": "rejected"}
    assert letter({"x-death": turned, **origin}).first.queue == "first"
    assert letter({"x-death": turned}).first.queue == "middle"


def test_a_copy_goes_where_the_first_or_the_last_death_was_or_as_it_came_there() -> None:
    several = {"A": ["order", "bill"]}
    deaths = {"A": [DEATHS["A"][0], {"F": DEATHS["A"][1]["F"] | {"routing-keys": several}}]}
    source = letter({"x-death": deaths, "CC": {"A": ["elsewhere"]}})

    def sent(**how: Any) -> tuple[str, str, Any]:
        copy = copy_of(source, Task("dead", "retry", **how))
        headers = content.decode(copy.properties)["headers"]
        return copy.exchange.decode(), copy.routing_key.decode(), headers.get("CC")

    assert sent() == ("", "first", None)
    assert sent(to="last") == ("", "later", None)
    assert sent(as_published=True) == ("shop", "order", {"A": ["bill"]})
    assert sent(as_published=True, to="last") == ("", "later", None)


@pytest.mark.parametrize(
    "headers",
    [None, {}, {"x-death": "text"}, {"x-death": {"A": ["text", {"F": {}}]}}, {"x-death": {"A": []}},
     [["k", "v"], ["k", "v"]], {"x-death": {"A": [{"F": {"time": "x", "count": None}}]}}],
)  # fmt: skip
def test_what_is_no_dead_letter_says_nothing(headers: Any) -> None:
    found = letter(headers)
    assert (found.last.queue, found.last.reason, found.first.target, found.last.time) == (
        "",
        "",
        "",
        0,
    )


@pytest.mark.parametrize("name", ["q" * 256, "ä" * 128])
def test_what_no_queue_can_be_called_is_no_way_back(name: str) -> None:
    """Anybody can write it into a message; it must not end a retry of all the others."""
    deaths = {"A": [{"F": {"queue": name, "reason": "rejected"}}]}
    assert letter({"x-death": deaths}).first.target == ""
    assert letter({"x-death": DEATHS, "x-first-death-queue": name}).first.target == ""
    assert letter({"x-death": DEATHS, "x-first-death-queue": name[:127]}).first.target == name[:127]


@pytest.mark.parametrize("what", ["retry", "move"])
def test_a_header_whose_name_is_no_text_is_kept(what: str) -> None:
    odd = [{"x": "nA=="}, {"l": 1}]
    copy = copied(what, letter([odd, ["x-delivery-count", {"l": 3}], ["x-death", DEATHS]]), "there")
    assert copy["headers"][0][0] == odd[0]
    assert len(copy["headers"]) == 2


def test_a_retry_forgets_the_deaths_and_counts_itself() -> None:
    kept = {"a": {"s": 1}, "b": None}
    again = copied(
        "retry",
        letter(
            {"x-death": DEATHS, **kept, "x-first-death-reason": "r", "x-last-death-queue": "q",
             "CC": {"A": ["elsewhere"]}, "x-delivery-count": {"l": 3},
             "rabbitproof_retries": {"l": 1}},
            message_id="m",
        ),
    )  # fmt: skip
    assert again == {
        "to": "first",
        "message_id": "m",
        "headers": {**kept, "rabbitproof_retries": {"l": 2}},
    }
    assert copied("retry", letter(), "there")["headers"] == {"rabbitproof_retries": {"l": 1}}


def test_a_move_keeps_all_that_is_the_messages_own() -> None:
    pairs = [["x-death", DEATHS], ["k", "1"], ["k", "2"], ["CC", {"A": ["q"]}]]
    assert copied("move", letter(pairs), "there")["headers"] == pairs[:3]
    assert copied("move", letter(priority=1), "there") == {"to": "there", "priority": 1}


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        (Filter(), True),
        (Filter(reason="expired"), True),
        (Filter(reason="rejected"), False),
        (Filter(from_queue="later"), True),
        (Filter(from_queue="first"), False),
        (Filter(older_than_s=500), True),
        (Filter(older_than_s=501), False),
        (Filter(headers=(("n", "7"), ("yes", "true"))), True),
        (Filter(headers=(("n", "8"),)), False),
        (Filter(headers=(("missing", ""),)), False),
    ],
)
def test_a_filter_wants_all_of_it(which: Filter, fits: bool) -> None:
    once = {"A": [{"F": DEATHS["A"][0]["F"] | {"count": {"l": 1}}}, DEATHS["A"][1]]}
    one = letter({"x-death": once, "n": {"b": 7}, "yes": True})
    assert which.fits(one, now=1500) is fits


def test_without_a_time_nothing_is_old() -> None:
    assert not Filter(older_than_s=0).fits(letter(), now=1500)
