from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.broker import answers

KEYS = [
    "name", "type", "durable", "arguments", "messages", "messages_ready", "consumers", "state",
    "tags", "user", "vhost", "client_properties", "rabbitmq_version", "queue_totals", "source",
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
