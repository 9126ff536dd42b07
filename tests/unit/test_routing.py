"""Routing that no broker is needed for: what can't be told, what is refused, whose word wins."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.matching import Timestamp, topic_matches
from rabbitproof.routing import (
    Binding,
    DyingQueue,
    Exchange,
    Hop,
    Routes,
    Vhost,
)

WORDS = st.lists(st.sampled_from(["", "a", "b", "ab", "*", "#"]), max_size=6).map(".".join)


def vhost(
    *exchanges: Exchange, bindings: Any = (), queues: str = "q r", release: Any = (4, 3)
) -> Vhost:
    return Vhost(exchanges, [DyingQueue(one) for one in queues.split()], bindings, release)


def bound(source: str, destination: str = "q", key: str = "k", **more: Any) -> Binding:
    kind = "exchange" if destination.startswith("x") else "queue"
    return Binding(source, destination, kind, key, more.get("arguments", {}))


@given(WORDS, WORDS)
def test_a_topic_matches_as_a_regular_expression_does(pattern: str, key: str) -> None:
    parts = [
        {"*": "[^.]*[.]", "#": "(?:[^.]*[.])*"}.get(word, re.escape(word) + "[.]")
        for word in (pattern.split(".") if pattern else [])
    ]
    words = key + "." if key else ""
    assert topic_matches(pattern, key) == bool(re.fullmatch("".join(parts), words))


def test_each_queue_is_named_with_the_way_to_it() -> None:
    model = vhost(
        Exchange("x", "direct"),
        Exchange("x2", "topic", arguments={"alternate-exchange": "x3"}),
        Exchange("x3", "fanout"),
        bindings=[bound("x"), bound("x", "x2"), bound("x2", "q", "z"), bound("x3", "r")],
    )
    routes = model.publish("x", "other", {"CC": ["k"]})
    assert routes.queues == {
        "q": (Hop("x", "CC", "k"),),
        "r": (Hop("x", "CC", "k"), Hop("x2", "alternate exchange"), Hop("x3", "fanout")),
    }
    assert routes.unroutable is False


@pytest.mark.parametrize("kind", ["x-random", "x-consistent-hash", "x-delayed-message", ""])
def test_an_exchange_of_an_unknown_kind_is_not_guessed_at(kind: str) -> None:
    model = vhost(
        Exchange("x", "fanout"),
        Exchange("x2", kind, arguments={"alternate-exchange": "x3"}),
        Exchange("x3", "fanout"),
        bindings=[bound("x", "x2"), bound("x2", "q"), bound("x3", "r")],
    )
    routes = model.publish("x", "k")
    assert routes.queues == {}
    assert len(routes.unknown) == 1
    assert repr(kind) in routes.unknown[0]
    assert routes.unroutable is None


@pytest.mark.parametrize(
    ("exchange", "arguments"),
    [
        (Exchange("x", "direct", arguments=None), {}),
        (Exchange("x", "direct", policy=None), {}),
        (Exchange("x", "headers"), None),
        (Exchange("x", "headers"), {"h": [1]}),
        (Exchange("x", "headers", arguments={"alternate-exchange": "x2"}), {"h": [1]}),
    ],
)
def test_what_is_not_told_is_not_guessed_at(exchange: Exchange, arguments: Any) -> None:
    model = vhost(
        exchange,
        Exchange("x2", "fanout"),
        bindings=[bound("x", arguments=arguments), bound("x2", "r")],
    )
    routes = model.publish("x", "other", {"h": [1]})
    assert routes.queues == {}
    assert routes.unknown
    assert routes.unroutable is None


def test_what_is_told_elsewhere_is_enough() -> None:
    ours = {"alternate-exchange": "x2"}
    model = vhost(
        Exchange("x", "direct", arguments=ours, policy=None),
        Exchange("x2", "fanout"),
        bindings=[bound("x2")],
    )
    routes = model.publish("x", "k")
    assert routes.queues == {"q": (Hop("x", "alternate exchange"), Hop("x2", "fanout"))}
    assert routes.unknown == ()


def test_what_the_broker_refuses_is_not_unroutable() -> None:
    model = vhost(Exchange("x", "fanout", internal=True), Exchange("x2", "fanout"))
    for exchange, headers, why in [
        ("none", {}, "no such exchange"),
        ("x", {}, "internal"),
        ("x2", {"CC": "k"}, "CC is no list"),
        ("x2", {"BCC": None}, "BCC is no list"),
    ]:
        routes = model.publish(exchange, "k", headers)
        assert why in str(routes.refused)
        assert routes.unroutable is False


def test_a_reply_goes_to_a_client() -> None:
    assert vhost().publish("", "amq.rabbitmq.reply-to.g2dk").unroutable is None
    assert vhost().publish("", "nobody").unroutable is True
    assert vhost().publish("", "q").queues == {"q": (Hop("", "routing key", "q"),)}


@pytest.mark.parametrize(
    ("release", "wanted", "value", "matches"),
    [
        ((3, 12, 14), 1, 1.0, True),
        ((3, 13, 0), 1, 1.0, False),
        ((3, 10, 8), 5, Timestamp(5), True),
        ((4, 0, 5), 5, Timestamp(5), False),
        ((4, 0, 5), 5000, Timestamp(5), True),
        ((4, 3, 6), 1, True, False),
        ((4, 3, 6), "a", b"a", True),
        ((4, 3, 6), "1", 1, False),
        ((4, 3, 6), None, [1], True),
        ((4, 3, 6), 1, [1], False),
    ],
)
def test_a_header_is_compared_as_the_release_does(
    release: tuple[int, ...], wanted: Any, value: Any, *, matches: bool
) -> None:
    model = vhost(
        Exchange("x", "headers"), bindings=[bound("x", arguments={"h": wanted})], release=release
    )
    assert bool(model.publish("x", "", {"h": value}).queues) is matches


def test_a_queue_without_a_word_about_dead_letters_can_not_be_told_of() -> None:
    for queue in (DyingQueue("q", arguments=None), DyingQueue("q", policy=None)):
        model = Vhost([], [queue], [], (4, 3))
        message = model.message("", "q", {})
        assert model.dead_letter("q", message, "rejected").unroutable is None


def test_a_stream_and_a_queue_that_refuses_have_no_dead_letters() -> None:
    dead = {"x-dead-letter-exchange": ""}
    full = DyingQueue("q", arguments=dead, policy={"overflow": "reject-publish"})
    model = Vhost([], [full, DyingQueue("r", "stream", dead)], [], (4, 3))
    message = model.message("", "q", {})
    assert model.dead_letter("q", message, "maxlen").queues == {}
    assert model.dead_letter("q", message, "rejected").queues.keys() == {"q"}
    assert model.dead_letter("r", message, "rejected").queues == {}


def deaths(model: Vhost, *path: tuple[str, Any]) -> Routes:
    """Let a message die in one queue after the other and return where it goes last."""
    message = model.message("", path[0][0], {})
    for queue, reason in path:
        routes = model.dead_letter(queue, message, reason)
        assert routes.message is not None
        message = routes.message
    return routes


def ring(release: Any) -> Vhost:
    """Four queues, each of which dead-letters into the next, and the last one into the first."""
    return Vhost(
        [],
        [
            DyingQueue(
                one, "classic", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to}
            )
            for one, to in ("ab", "bc", "cd", "da")
        ],
        [],
        release,
    )


@pytest.mark.parametrize("release", [(3, 10, 8), (4, 0, 5), (4, 3, 6)])
def test_a_circle_without_a_rejection_drops_the_message(release: Any) -> None:
    model = ring(release)
    dropped = deaths(model, ("a", "expired"), ("b", "maxlen"), ("c", "expired"), ("d", "expired"))
    assert (dropped.queues, dropped.cycles) == ({}, ("a",))
    assert dropped.unroutable is True
    rejected = deaths(
        model, ("a", "expired"), ("b", "expired"), ("c", "expired"), ("d", "rejected")
    )
    assert (rejected.queues.keys(), rejected.cycles) == ({"a"}, ())
    since = deaths(model, ("a", "expired"), ("b", "rejected"))
    assert since.queues.keys() == {"c"}


def test_before_3_13_each_death_turns_the_older_ones_around() -> None:
    """So a rejection long before may stand between a queue and its newest death, and save it."""
    path: Any = ("a", "expired"), ("b", "rejected"), ("c", "expired"), ("d", "expired")
    around = (*path, ("a", "expired"))
    for release, before in (((3, 12, 14), "dbac"), ((3, 13, 0), "dcba")):
        message = deaths(ring(release), *path).message
        assert message is not None
        assert [queue for queue, _ in message.deaths] == list(before)
    assert deaths(ring((4, 3)), *around).queues.keys() == {"b"}


def test_a_client_may_not_write_deaths_since_4_0() -> None:
    written = {"x-death": [{"queue": "b", "reason": "expired"}]}
    for release, cycles in (((3, 10, 8), ("b",)), ((4, 0, 5), ())):
        model = ring(release)
        routes = model.dead_letter("a", model.message("", "a", written), "expired")
        assert routes.cycles == cycles


def test_the_default_exchange_is_no_alternate_one() -> None:
    """Though the broker lists it, with a binding to each queue."""
    model = vhost(
        Exchange("", "direct"),
        Exchange("x", "direct", arguments={"alternate-exchange": ""}),
        bindings=[bound("", "q", "q")],
    )
    assert model.publish("x", "q").unroutable is True
    assert model.reachable("x") == set()


def test_what_may_be_reached_is_followed_over_any_kind() -> None:
    model = vhost(
        Exchange("x", "x-random", arguments={"alternate-exchange": "x3"}),
        Exchange("x2", "topic", arguments=None),
        Exchange("x3", "fanout", policy={"alternate-exchange": "x"}),
        bindings=[bound("x", "x2"), bound("x2", "q"), bound("x3", "r"), bound("x2", "x")],
    )
    assert model.reachable("x") == {"q", "r"}
    assert model.reachable("none") == set()
