"""Counting deliveries by their bytes alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from rabbitproof.trial.ceiling import first_delivery, whole_deliveries
from wire import delivery


@pytest.mark.parametrize(
    ("received", "messages"),
    [
        (0, 0),
        (99, 0),
        (100, 1),
        (9 * 100, 9),  # one digit each
        (9 * 100 + 100, 9),  # the tenth has 101 bytes
        (9 * 100 + 101, 10),
        (9 * 100 + 90 * 101, 99),
        (9 * 100 + 90 * 101 + 102, 100),
    ],
)
def test_bytes_are_messages(received: int, messages: int) -> None:
    assert whole_deliveries(received, 100) == messages


@given(st.integers(0, 5_000), st.integers(4, 300))
def test_as_if_each_had_been_measured(messages: int, first: int) -> None:
    total = sum(first + len(str(n)) - 1 for n in range(1, messages + 1))

    assert whole_deliveries(total, first) == messages
    if messages:
        assert whole_deliveries(total - 1, first) == messages - 1


def test_a_first_delivery_is_measured_once_it_is_there() -> None:
    whole = b"".join(delivery(commands.Basic.Properties(message_id="m"), b'{"n":1}'))

    assert first_delivery(whole + b"more") == len(whole)
    assert all(first_delivery(whole[:end]) is None for end in range(len(whole)))
