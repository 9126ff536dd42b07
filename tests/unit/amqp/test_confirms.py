from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from rabbitproof.amqp.confirms import Confirms, Unconfirmed, read_confirms
from rabbitproof.errors import RemoteProtocolError
from wire import feed, frame, frames_of, opened_session

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIRM = st.tuples(st.booleans(), st.integers(1, 40), st.booleans(), st.booleans())
"""nack, tag, multiple, requeue"""


def confirm(what: tuple[bool, int, bool, bool], channel: int = 1) -> bytes:
    nack, tag, multiple, requeue = what
    if nack:
        return frame(commands.Basic.Nack(tag, multiple, requeue), channel)
    return frame(commands.Basic.Ack(tag, multiple), channel)


def steps(events: list[Confirms]) -> list[tuple[int, bool, int, tuple[int, ...]]]:
    """Apply confirms to tags 1 to 40: (channel, nack, tag) in the order of first settling."""
    open_tags: dict[int, set[int]] = {}
    out = []
    for event in events:
        tags = open_tags.setdefault(event.channel, set(range(1, 41)))
        hit = {t for t in tags if t <= event.up_to or t in event.singles}
        tags -= hit
        out += [(event.channel, event.nack, tag) for tag in sorted(hit)]
    return out


def oracle(data: bytes) -> list[tuple[int, bool, int]]:
    """Settle the same tags, one frame of pamqp after another."""
    open_tags: dict[int, set[int]] = {}
    out = []
    for channel, value, _ in frames_of(data):
        tags = open_tags.setdefault(channel, set(range(1, 41)))
        tag = value.delivery_tag
        hit = {t for t in tags if t == tag or (value.multiple and t <= tag)}
        tags -= hit
        out += [(channel, isinstance(value, commands.Basic.Nack), t) for t in sorted(hit)]
    return out


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), CONFIRM), max_size=40),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_confirms_say_what_pamqp_reads_in_any_pieces(
    confirms: list[tuple[int, tuple[bool, int, bool, bool]]], cuts: list[int]
) -> None:
    """Channel, kind and settled tags agree, however the stream is cut."""
    data = b"".join(confirm(what, channel) for channel, what in confirms)
    events = feed(opened_session(channels=2), data, cuts)
    assert all(isinstance(event, Confirms) for event in events)
    found, wanted = steps(events), oracle(data)  # type: ignore[arg-type]
    assert sorted(found) == sorted(wanted)
    for channel in (1, 2):
        kinds = [nack for c, nack, _ in found if c == channel]
        assert kinds == [nack for c, nack, _ in wanted if c == channel]


def test_a_nack_of_one_message_is_not_a_nack_of_many() -> None:
    """RabbitMQ sets the nack's second flag, requeue; only the first one means multiple."""
    data = frame(commands.Basic.Nack(7, multiple=False, requeue=True), 1)
    assert read_confirms(data, 0) == (Confirms(1, True, 0, [7]), len(data))


def test_reading_stops_at_another_kind_channel_or_frame() -> None:
    """Only confirms of one kind and channel come together; what follows is left."""
    first = confirm((False, 1, False, False)) + confirm((False, 5, True, False))
    for other in (
        confirm((True, 6, False, False)),
        confirm((False, 6, False, False), channel=2),
        frame(commands.Basic.CancelOk("worker"), 1),
        b"\x01\x00\x01\x00",
    ):
        assert read_confirms(first + other, 0) == (Confirms(1, False, 5, []), len(first))
    assert read_confirms(frame(commands.Basic.CancelOk("worker"), 1), 0) == (None, 0)
    assert read_confirms(first[:20], 0) == (None, 0)
    assert read_confirms(b"", 0) == (None, 0)


def test_singles_above_a_multiple_are_kept_in_order() -> None:
    """A tag below a multiple one is covered by it."""
    rows = [(8, False), (3, False), (5, True), (4, False), (7, False), (2, True)]
    data = b"".join(confirm((False, tag, multiple, False)) for tag, multiple in rows)
    assert read_confirms(data, 0)[0] == Confirms(1, False, 5, [8, 7])


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("before", [b"", confirm((False, 3, True, False))])
def test_tag_zero_is_refused(before: bytes, multiple: bool) -> None:
    """No publish has it, and "all outstanding" is nothing a broker says."""
    with pytest.raises(RemoteProtocolError):
        read_confirms(before + confirm((False, 0, multiple, False)), 0)


def test_a_confirm_without_its_end_mark_is_refused() -> None:
    """A damaged stream is not guessed at."""
    data = confirm((False, 1, False, False)) + confirm((False, 2, False, False))[:-1] + b"\xcd"
    with pytest.raises(RemoteProtocolError):
        read_confirms(data, 0)


# --- Unconfirmed --------------------------------------------------------------------------------


class Model:
    """The same with one dictionary entry for each open publish: (number, since when)."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[int, int]] = {}
        self.next = 1

    def sent(self, numbers: Sequence[int], since: int) -> None:
        for n in numbers:
            self.open[self.next] = (n, since)
            self.next += 1

    def settle(self, confirms: Confirms) -> list[tuple[int, int]]:
        tags = [tag for tag in self.open if tag <= confirms.up_to]
        tags += [t for t in dict.fromkeys(confirms.singles) if t in self.open and t not in tags]
        return [self.open.pop(tag) for tag in tags]


def flat(found: list[tuple[Sequence[int], int]]) -> list[tuple[int, int]]:
    """Return each number with its time."""
    assert all(numbers for numbers, _ in found)
    return [(n, since) for numbers, since in found for n in numbers]


NUMBERS = st.lists(st.integers(1, 99), max_size=9) | st.builds(
    range, st.integers(1, 50), st.integers(1, 60)
)
SINGLES = st.lists(st.integers(1, 60), max_size=12)
IN_ORDER = st.builds(lambda a, n: list(range(a, a + n)), st.integers(1, 50), st.integers(0, 12))
STEPS = st.lists(
    NUMBERS | st.tuples(st.integers(0, 60), SINGLES | IN_ORDER | st.just(["lowest"])), max_size=30
)


@given(STEPS)
def test_unconfirmed_agrees_with_a_dictionary(steps: list[object]) -> None:
    """Sent, confirmed in any order, twice or all at once: each number is answered once.

    And with the time that it was sent with.
    """
    unconfirmed, model = Unconfirmed(), Model()
    for since, step in enumerate(steps):
        if not isinstance(step, tuple):
            unconfirmed.sent(step, since)  # type: ignore[arg-type]
            model.sent(step, since)  # type: ignore[arg-type]
            continue
        up_to, singles = step
        if singles == ["lowest"]:  # what a broker mostly does: one by one, in order
            singles = list(model.open)[: up_to % 7]
            up_to = 0
        singles = [tag for tag in singles if tag > up_to]
        confirms = Confirms(1, False, up_to, singles)
        if max([up_to, *singles]) >= model.next:
            before = unconfirmed.left()
            with pytest.raises(RemoteProtocolError):
                unconfirmed.settle(confirms)
            assert unconfirmed.left() == before
            continue
        assert flat(unconfirmed.settle(confirms)) == model.settle(confirms)
        assert flat(unconfirmed.left()) == list(model.open.values())
        assert len(unconfirmed) == len(model.open)


def test_answered_tags_are_forgotten() -> None:
    """What is kept does not grow with the run."""
    unconfirmed = Unconfirmed()
    for start in range(1, 2001, 100):
        unconfirmed.sent(range(start, start + 100), 7)
        for tag in range(start + 99, start - 1, -1):
            unconfirmed.settle(Confirms(1, False, 0, [tag]))
    assert len(unconfirmed) == 0
    assert not unconfirmed._segments
    assert not unconfirmed._settled


def test_tags_answered_out_of_order_are_forgotten_with_a_multiple() -> None:
    """A later confirm of all up to a tag covers them."""
    unconfirmed = Unconfirmed()
    unconfirmed.sent(range(1, 10), 7)
    unconfirmed.settle(Confirms(1, False, 0, [3, 5]))
    assert unconfirmed.settle(Confirms(1, False, 6, [])) == [([1, 2, 4, 6], 7)]
    assert not unconfirmed._settled
    assert unconfirmed.left() == [([7, 8, 9], 7)]


@pytest.mark.parametrize("confirms", [(0, [4]), (4, []), (0, [1, 2, 3, 4]), (2, [3, 9])])
def test_a_tag_that_was_never_given_out_is_refused(confirms: tuple[int, list[int]]) -> None:
    """And nothing of that confirm is taken."""
    unconfirmed = Unconfirmed()
    unconfirmed.sent(range(11, 14), 7)
    with pytest.raises(RemoteProtocolError):
        unconfirmed.settle(Confirms(1, False, *confirms))
    assert unconfirmed.left() == [([11, 12, 13], 7)]


def test_tags_that_only_look_like_a_row_are_taken_one_by_one() -> None:
    """First and last fit, one between them came twice and one is missing."""
    unconfirmed = Unconfirmed()
    unconfirmed.sent(range(11, 20), 7)
    assert unconfirmed.settle(Confirms(1, False, 0, [1, 1, 3])) == [([11, 13], 7)]
    assert unconfirmed.left() == [([12, 14, 15, 16, 17, 18, 19], 7)]


def test_a_range_is_answered_as_a_range() -> None:
    """The usual case stays cheap: no list of numbers is made."""
    unconfirmed = Unconfirmed()
    unconfirmed.sent(range(11, 21), 7)
    assert unconfirmed.settle(Confirms(1, False, 4, [])) == [(range(11, 15), 7)]
    assert unconfirmed.settle(Confirms(1, False, 0, [5, 6])) == [(range(15, 17), 7)]
    assert unconfirmed.left() == [([17, 18, 19, 20], 7)]


def test_the_time_comes_back_for_each_buffer() -> None:
    """One entry for each buffer that a confirm answers, and none is lost over several confirms."""
    unconfirmed = Unconfirmed()
    unconfirmed.sent(range(1, 4), 70)
    unconfirmed.sent(range(4, 6), 80)
    unconfirmed.sent([9, 7], 90)
    assert unconfirmed.settle(Confirms(1, False, 0, [2, 3, 5, 7])) == [
        ([2, 3], 70),
        ([5], 80),
        ([7], 90),
    ]
    assert unconfirmed.left() == [([1], 70), ([4], 80), ([9], 90)]
    assert unconfirmed.settle(Confirms(1, False, 6, [])) == [([1], 70), ([4], 80), ([9], 90)]
    assert unconfirmed.left() == []
