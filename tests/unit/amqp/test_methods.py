from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from rabbitproof.amqp import methods
from wire import frame, frames_of, opened_session

ODD_NAMES = ["größe", "a|b (c) *", "x" * 255, "ä" * 127, "\t{}$%^&=~`'\""]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize(
    ("ours", "theirs", "field"),
    [
        (methods.ExchangeDeclare, commands.Exchange.Declare, "exchange"),
        (methods.QueueDeclare, commands.Queue.Declare, "queue"),
        (methods.QueueBind, commands.Queue.Bind, "queue"),
        (methods.QueuePurge, commands.Queue.Purge, "queue"),
        (methods.QueueDelete, commands.Queue.Delete, "queue"),
        (methods.BasicConsume, commands.Basic.Consume, "queue"),
        (methods.ConnectionOpen, commands.Connection.Open, "virtual_host"),
    ],
)
def test_every_name_that_rabbitmq_allows_arrives(
    ours: Any, theirs: Any, field: str, name: str
) -> None:
    """It is the codec's own method to everybody else, and a plain name is written as there."""
    ((_, read, _),) = frames_of(frame(ours(**{field: name}), 1))
    assert getattr(read, field) == name
    assert frame(ours(**{field: "q"}), 1) == frame(theirs(**{field: "q"}), 1)
    assert isinstance(ours(), theirs)


def test_an_odd_name_is_answered_like_any_other() -> None:
    """The session knows these methods by what they are."""
    session = opened_session()
    session.request(1, methods.QueueDeclare(queue="größe"))
    (event,) = session.receive(frame(commands.Queue.DeclareOk("q", 1, 0), 1))
    assert event.channel == 1  # type: ignore[union-attr]
