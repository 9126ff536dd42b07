"""What somebody between broker and consumer does to the stream."""

from __future__ import annotations

import itertools

from pamqp import commands

from rabbitproof.trial.plan import Planted
from rabbitproof.trial.planted import Message, meddle


def stream(count: int) -> list[Message]:
    properties = commands.Basic.Properties()
    return [Message(f"id-{n}", properties, b"body of %d" % n) for n in range(count)]


def test_exactly_what_is_asked_for_is_done() -> None:
    """So many dropped, doubled, swapped and altered; the rest is as it was, in its order."""
    before = stream(200)
    plan = Planted(dropped=3, doubled=4, swapped=5, body_altered=6, id_altered=7, seed=3)
    after = meddle(plan, before)
    names = [message.message_id for message in after]
    bodies = [message.body for message in after]
    assert len(after) == 200 - 3 + 4
    lost = {message.body for message in before} - set(bodies)
    assert len(lost) == 3 + 6
    assert len(set(bodies) - {message.body for message in before}) == 6
    gone = {message.message_id for message in before} - set(names)
    assert len(gone) == 3 + 7
    original = {message.body: message.message_id for message in before}
    impostors = [m for m in after if m.body in original and original[m.body] != m.message_id]
    assert len(impostors) == 7
    # An impostor's name is that of a message that is there under its own name, too.
    true = {m.message_id for m in after if original.get(m.body) == m.message_id}
    assert {m.message_id for m in impostors} <= true
    positions = [int(body.split()[-1]) for body in bodies if body in original]
    late = sum(b < a for a, b in itertools.pairwise(positions))
    assert late == 5


def test_the_seed_decides() -> None:
    """The same again with the same one, something else with another."""
    one, other = Planted(dropped=5, seed=1), Planted(dropped=5, seed=2)
    assert meddle(one, stream(100)) == meddle(one, stream(100)) != meddle(other, stream(100))
    assert meddle(Planted(), stream(9)) == stream(9)
