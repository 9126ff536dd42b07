"""Streams of frames, as pamqp writes them, cut anywhere: all but the confirms comes out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header, heartbeat

from rabbitproof.broker.sieve import Sieve, Swallowed

TAGS = st.integers(1, 2**63 - 1)
CHANNELS = st.integers(1, 65_535)

CONFIRMS = st.one_of(
    st.builds(commands.Basic.Ack, TAGS, st.booleans()),
    st.builds(commands.Basic.Nack, TAGS, st.booleans(), st.booleans()),
)
OTHERS = st.one_of(
    st.builds(commands.Basic.Deliver, st.just("t"), TAGS, st.booleans(), st.just("x"), st.just("")),
    st.builds(commands.Basic.Cancel, st.just("tag"), st.just(True)),
    st.builds(commands.Channel.Flow, st.booleans()),
    st.builds(commands.Connection.Tune, st.just(2047), st.just(131_072), st.just(60)),
    st.builds(commands.Queue.DeclareOk, st.just("q"), st.just(1), st.just(2)),
    st.builds(header.ContentHeader, st.just(0), st.integers(0, 99)),
    # What a confirm looks like may well be somebody's message.
    st.builds(body.ContentBody, st.binary(max_size=60) | st.just(b"\x01\x00\x01\x00\x00\x00\x0d")),
    st.just(heartbeat.Heartbeat()),
)
FRAMES = st.lists(st.tuples(CHANNELS, CONFIRMS | OTHERS), max_size=30)
CUTS = st.lists(st.integers(1, 40), max_size=60)


def marshal(channel: int, what: object) -> bytes:
    return frame.marshal(what, 0 if isinstance(what, heartbeat.Heartbeat) else channel)


def is_confirm(what: object) -> bool:
    return isinstance(what, (commands.Basic.Ack, commands.Basic.Nack))


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream into pieces of these sizes; the rest is one."""
    found = []
    for size in cuts:
        if not stream:
            break
        found.append(stream[:size])
        stream = stream[size:]
    return [*found, stream] if stream else found


@given(FRAMES, CUTS)
def test_all_but_the_confirms_comes_out(frames: list[tuple[int, object]], cuts: list[int]) -> None:
    swallowed = Swallowed()
    sieve = Sieve(swallowed)
    stream = b"".join(marshal(*one) for one in frames)
    out = b"".join(
        bytes(sieve.sift(memoryview(piece), swallow=True)) for piece in pieces(stream, cuts)
    )
    assert out == b"".join(marshal(*one) for one in frames if not is_confirm(one[1]))
    assert (sieve.broken, sieve.held) == (None, b"")
    found = [what for _, what in frames if is_confirm(what)]
    assert swallowed.acks == sum(isinstance(what, commands.Basic.Ack) for what in found)
    assert swallowed.acks + swallowed.nacks == len(found)
    assert swallowed.highest_tag == max((what.delivery_tag for what in found), default=0)


@given(FRAMES, CUTS, st.lists(st.booleans(), min_size=1))
def test_each_frame_comes_out_whole_or_not_at_all(
    frames: list[tuple[int, object]], cuts: list[int], orders: list[bool]
) -> None:
    """Swallowing begins and ends anywhere: confirms may be missing, and nothing else."""
    sieve = Sieve(Swallowed())
    stream = b"".join(marshal(*one) for one in frames)
    out = b""
    for number, piece in enumerate(pieces(stream, cuts)):
        out += sieve.sift(piece, swallow=orders[number % len(orders)])
    assert sieve.broken is None
    at = 0
    for one in frames:
        encoded = marshal(*one)
        if out.startswith(encoded, at):
            at += len(encoded)
        else:
            assert is_confirm(one[1])
    assert at == len(out)


@given(st.binary(max_size=200), CUTS, st.booleans())
def test_what_is_no_frame_passes(noise: bytes, cuts: list[int], swallow: bool) -> None:
    """Whatever it is, no byte is changed, but for confirms that happen to be in it."""
    swallowed = Swallowed()
    sieve = Sieve(swallowed)
    out = b"".join(sieve.sift(piece, swallow=swallow) for piece in pieces(noise, cuts))
    if not swallowed.acks + swallowed.nacks:
        assert out + sieve.held == noise


ACK = frame.marshal(commands.Basic.Ack(7, False), 1)
TUNE = frame.marshal(commands.Connection.Tune(2047, 4096, 60), 0)


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (b"\x16\x03\x03\x00\x7a\x02\x00\x00", "no frames"),  # TLS
        (b"AMQP\x00\x00\x09\x01", "no frames"),
        (ACK[:-1] + b"\xcf", "no end mark"),
        (struct.pack(">BHI", 3, 1, 30) + bytes(31), "no end mark"),
        (struct.pack(">BHI", 3, 1, 4089), "too long"),
    ],
)
@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_hostile_frames_pass_and_end_the_reading(hostile: bytes, why: str, step: int) -> None:
    """From there on confirms pass as well: nobody knows any more where one begins."""
    swallowed = Swallowed()
    sieve = Sieve(swallowed)
    stream = TUNE + ACK + hostile + ACK
    out = b"".join(
        sieve.sift(stream[at : at + step], swallow=True) for at in range(0, len(stream), step)
    )
    assert out == TUNE + hostile + ACK
    assert why in (sieve.broken or "")
    assert swallowed.acks == 1


def test_frames_of_the_announced_size_are_not_too_long() -> None:
    longest = struct.pack(">BHI", 3, 1, 4088) + bytes(4088) + b"\xce"
    sieve = Sieve(Swallowed())
    assert sieve.sift(TUNE + longest, swallow=True) == TUNE + longest
    assert sieve.broken is None


def ack(tag: int, channel: int = 1, *, up_to: bool = False) -> bytes:
    return frame.marshal(commands.Basic.Ack(tag, up_to), channel)


@pytest.mark.parametrize(
    ("confirms", "messages"),
    [
        ([ack(10), ack(12), ack(11)], 3),
        ([ack(10, up_to=True)], 1),  # of those before, nobody knows which were open
        ([ack(10), ack(30, up_to=True)], 21),
        ([ack(10), ack(12), ack(20, up_to=True)], 11),
        ([ack(10), ack(15), ack(13, up_to=True), ack(20, up_to=True)], 11),
        ([ack(10), ack(20, 2, up_to=True), ack(11), ack(21, 2)], 4),
        ([ack(10, up_to=True), ack(9, up_to=True)], 1),
    ],
)
def test_messages_are_counted_as_far_as_they_are_known(
    confirms: list[bytes], messages: int
) -> None:
    swallowed = Swallowed()
    assert Sieve(swallowed).sift(b"".join(confirms), swallow=True) == b""
    assert swallowed.messages == messages
