"""A retry of dead letters that is cut, blocked, or has a letter that can't be sent."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from rabbitproof.work.deadletter import Mover, Task
from support import connector, dead_letters, ready, witness

COUNT = 3_000


def names(url: str, queue: str) -> Counter[str]:
    """How many copies of each are there."""
    found: Counter[str] = Counter()
    with witness(url) as channel:
        while True:
            method, properties, _ = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found[properties.message_id] += 1


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_of_either_connection_loses_a_letter(vhost: Any, seed: int) -> None:
    """And there are no more copies than the last line says."""
    dead_letters(vhost.url, COUNT)
    chance = random.Random(seed)
    mover = Mover(Task("dead", "retry", hold=500), connector(vhost.url))
    finish, cuts = mover._finish, 0

    def finishing(*known: Any) -> None:
        nonlocal cuts
        if cuts < 6 and chance.random() < 0.6:
            cuts += 1
            chance.choice([mover._source, mover._target]).abandon()  # type: ignore[union-attr]
        finish(*known)

    mover._finish = finishing  # type: ignore[method-assign]
    for _ in mover.run():
        pass
    counts = mover.counts
    assert cuts
    found = names(vhost.url, "home")
    assert set(found) == {f"m{n}" for n in range(COUNT)}
    assert ready(vhost.url, "dead") == 0
    assert found.total() <= counts.sent + counts.in_doubt


def test_a_letter_that_cannot_be_sent_stops_no_other(vhost: Any) -> None:
    """It stays, and is named with its reason."""
    odd = {"m50": {"headers": {"large": "x" * 130_900}}, "m51": {"headers": {"n": 1}}}
    dead_letters(vhost.url, COUNT, **odd)
    with witness(vhost.url) as channel:
        channel.queue_declare("parked", durable=True)
    # Moved, it keeps what its death added; so it was to be read, and can't be sent.
    mover = Mover(Task("dead", "move", to_queue="parked"), connector(vhost.url))
    for _ in mover.run():
        pass
    assert (mover.counts.sent, mover.counts.refused, mover.counts.stayed) == (COUNT - 1, 1, 1)
    (reason,) = mover.refused
    assert "a frame of this connection" in reason
    assert "'m50'" in mover.refused[reason]
    assert names(vhost.url, "parked").total() == COUNT - 1
    assert names(vhost.url, "dead") == Counter({"m50": 1})
