from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.broker import answers
from rabbitproof.matching import UNTOLD

KEYS = [
    "name", "type", "durable", "arguments", "messages", "messages_ready", "consumers", "state",
    "tags", "user", "vhost", "client_properties", "rabbitmq_version", "queue_totals", "source",
    "message_stats", "policy", "internal",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
READERS = [
    answers.read_overview,
    answers.read_who,
    answers.read_queue,
    answers.read_binding,
    answers.read_exchange,
    answers.read_connection,
]


@pytest.mark.parametrize("read", READERS)
@given(answer=st.dictionaries(st.sampled_from(KEYS), JSON))
def test_no_answer_however_odd_is_an_exception(read: Any, answer: dict[str, Any]) -> None:
    value = read(answer)
    hash(value)
    for name in ("name", "type", "state", "user", "vhost", "source", "rabbitmq"):
        assert isinstance(getattr(value, name, ""), str)
    for name in ("messages", "ready", "unacked", "consumers"):
        assert type(getattr(value, name, None)) in {int, type(None)}


def test_an_empty_answer_has_no_counts() -> None:
    queue = answers.read_queue({})
    assert (queue.messages, queue.ready, queue.unacked, queue.consumers) == (None,) * 4
    assert not queue.durable


def test_true_is_no_count() -> None:
    assert answers.read_queue({"messages": True}).messages is None
    assert answers.read_queue({"messages": 0}).messages == 0


def test_arguments_are_what_they_were_as_far_as_the_api_tells() -> None:
    told = {"a": 1, "v": "undefined", "b": "Not UTF-8, base64 is: /wA=", "t": "text", "l": [1]}
    assert answers.read_arguments({"arguments": told}) == {
        "a": 1, "v": UNTOLD, "b": b"\xff\x00", "t": "text", "l": [1],
    }  # fmt: skip
    assert answers.read_arguments({"arguments": []}) == {}
    assert answers.read_arguments({}) is None


@pytest.mark.parametrize("rate", [None, "1", True, -1.0, {}])
def test_a_rate_that_is_none_is_not_told(rate: Any) -> None:
    stats = {"publish_in": 3, "publish_in_details": {"rate": rate}}
    exchange = answers.read_exchange({"name": "x", "message_stats": stats})
    assert exchange is not None
    assert (exchange.rate, exchange.published) == (None, 3)
