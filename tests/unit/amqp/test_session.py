from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.heartbeat import Heartbeat

from rabbitproof.amqp import content as properties
from rabbitproof.amqp.confirms import Confirms
from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.amqp.session import (
    Blocked,
    ChannelEnded,
    ConnectionEnded,
    ConsumerCancelled,
    Login,
    Opened,
    Replied,
    Returned,
    Session,
    State,
    Unblocked,
    decode_header,
)
from rabbitproof.errors import LocalProtocolError, RemoteProtocolError
from wire import (
    LOGIN,
    content,
    delivery,
    feed,
    frame,
    frames_of,
    handshake,
    header_payload,
    opened_session,
    raw_frame,
)

START, TUNE, OPEN_OK = handshake()
CLOSE = commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0)


def said(session: Session) -> list[tuple[int, Any]]:
    """Return what goes to the broker: channel and frame of each."""
    return [(channel, value) for channel, value, _ in frames_of(session.data_to_send())]


def names(session: Session) -> list[str]:
    return [value.name for _, value in said(session)]


# --- the handshake ------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2000), max_size=5))
def test_a_handshake_in_any_pieces_opens(cuts: list[int]) -> None:
    """The protocol header goes first; each step is answered; then it is open."""
    session = Session(LOGIN)
    assert session.data_to_send() == b"AMQP\0\0\x09\x01"
    assert feed(session, START + TUNE + OPEN_OK, cuts) == [Opened(60)]
    assert session.state is State.OPEN
    assert names(session) == ["Connection.StartOk", "Connection.TuneOk", "Connection.Open"]
    assert session.data_to_send() == b""


def test_the_login_says_who_we_are() -> None:
    """User and password in PLAIN, the connection's name, and what we understand."""
    session = Session(Login("böb", "pässword", "/", "RabbitMQ Producer (h)"))
    session.data_to_send()
    session.receive(START)
    ((_, start_ok),) = said(session)
    assert start_ok.mechanism == "PLAIN"
    assert start_ok.response == "\0böb\0pässword"
    assert start_ok.client_properties["connection_name"] == "RabbitMQ Producer (h)"
    assert start_ok.client_properties["capabilities"]["authentication_failure_close"] is True
    assert "pässword" not in repr(Login("böb", "pässword", "/", "x"))
    assert session.server_properties["product"] == "RabbitMQ"


@pytest.mark.parametrize("vhost", ["/", "", "größe", "x" * 255])
def test_any_vhost_can_be_asked_for(vhost: str) -> None:
    """Up to the 255 bytes that a short string holds."""
    session = Session(Login("guest", "guest", vhost, "tests"))
    session.receive(START + TUNE)
    raw = session.data_to_send()
    name = vhost.encode()
    opening = b"\0\x0a\0\x28" + bytes([len(name)]) + name + b"\0\0"
    assert raw.endswith(raw_frame(1, 0, opening))


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [(8192, 131_072, 8192), (0, 131_072, 131_072), (200_000, 4096, 4096), (0, 0, 0)],
)
def test_the_smaller_frame_size_holds_and_zero_is_no_limit(
    theirs: int, ours: int, agreed: int
) -> None:
    """Both sides learn it."""
    session = Session(Login("guest", "guest", "/", "tests", frame_max=ours))
    session.receive(START)
    session.data_to_send()
    session.receive(frame(commands.Connection.Tune(2047, theirs, 60)))
    assert session.frame_max == agreed
    assert said(session)[0][1].frame_max == agreed


@pytest.mark.parametrize("theirs", [1, 7, 8, 4095])
def test_a_broker_that_wants_smaller_frames_than_amqp_has_is_refused(theirs: int) -> None:
    session = Session(Login("guest", "guest", "/", "tests"))
    session.receive(START)
    with pytest.raises(RemoteProtocolError, match="4096 at least"):
        session.receive(frame(commands.Connection.Tune(2047, theirs, 60)))


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"), [(60, 60, 60), (10, 60, 10), (580, 60, 60), (0, 60, 0), (9, 0, 0)]
)
def test_the_smaller_heartbeat_holds_and_zero_is_none(theirs: int, ours: int, agreed: int) -> None:
    """As the broker's own clients do."""
    session = Session(Login("guest", "guest", "/", "tests", heartbeat=ours))
    tune = frame(commands.Connection.Tune(2047, 0, theirs))
    assert session.receive(START + tune + OPEN_OK) == [Opened(agreed)]


@pytest.mark.parametrize(("size", "taken"), [(2**29, True), (2**29 + 1, False), (2**40, False)])
def test_a_message_larger_than_rabbitmq_has_any_is_refused_before_it_comes(
    size: int, taken: bool
) -> None:
    session = opened_session()
    method, *_ = delivery(commands.Basic.Properties(), b"x")
    announced = raw_frame(2, 1, header_payload(commands.Basic.Properties(), size))
    if taken:
        assert session.receive(method + announced) == []
    else:
        with pytest.raises(RemoteProtocolError, match="announced a message of"):
            session.receive(method + announced)


@pytest.mark.parametrize("mechanisms", [b"", b"AMQPLAIN EXTERNAL", b"PLAINER", b"\xff\xfe PL"])
def test_a_broker_without_plain_login_is_refused(mechanisms: bytes) -> None:
    """With the fix; whatever bytes it offers instead."""
    payload = b"\0\x0a\0\x0a\0\x09" + (0).to_bytes(4, "big")
    payload += len(mechanisms).to_bytes(4, "big") + mechanisms + (5).to_bytes(4, "big") + b"en_US"
    with pytest.raises(RemoteProtocolError, match="auth_mechanisms PLAIN"):
        Session(LOGIN).receive(raw_frame(1, 0, payload))


def test_another_protocol_version_is_told_apart_byte_by_byte() -> None:
    """Its first bytes alone are no proof of another server."""
    session = Session(LOGIN)
    for byte in b"AMQP":
        assert session.receive(bytes([byte])) == []
    with pytest.raises(RemoteProtocolError, match="another protocol version"):
        session.receive(b"\0")


# --- what is legal when -------------------------------------------------------------------------


def in_state(kind: State) -> Session:
    session = Session(LOGIN)
    steps = {State.START: b"", State.TUNE: START, State.OPENING: START + TUNE}
    if kind in steps:
        session.receive(steps[kind])
    else:
        session = opened_session()
        if kind is State.CLOSING:
            session.close()
        elif kind is State.CLOSED:
            session.receive(frame(CLOSE))
    session.data_to_send()
    assert session.state is kind
    return session


LEGAL = {
    "Start": (frame(commands.Connection.Start(0, 9, {}, "PLAIN", "en_US")), {State.START}),
    "Tune": (TUNE, {State.TUNE}),
    "OpenOk": (OPEN_OK, {State.OPENING}),
    "Close": (frame(CLOSE), set(State)),
    "CloseOk": (frame(commands.Connection.CloseOk()), {State.CLOSING}),
    "Blocked": (frame(commands.Connection.Blocked("disk")), set(State)),
    "Unblocked": (frame(commands.Connection.Unblocked()), set(State)),
    "Secure": (frame(commands.Connection.Secure("x")), set[State]()),
    "StartOk": (frame(commands.Connection.StartOk({}, "PLAIN", "x", "en_US")), set[State]()),
    "channel 1": (frame(commands.Basic.CancelOk("x"), 1), {State.CLOSING}),
    "channel 9": (frame(commands.Channel.OpenOk(), 9), {State.CLOSING}),
    "confirm 9": (frame(commands.Basic.Ack(1), 9), {State.CLOSING}),
    "delivery 9": (
        b"".join(delivery(commands.Basic.Properties(), b"x", channel=9)), {State.CLOSING},
    ),
    "content": (raw_frame(2, 1, bytes(14)), {State.CLOSING}),
    "body on 0": (raw_frame(3, 0, b"x"), set[State]()),
    "header on 0": (raw_frame(2, 0, bytes(14)), set[State]()),
    "unknown kind": (raw_frame(7, 0, b"x"), set[State]()),
    "unknown method": (raw_frame(1, 0, b"\0\x63\0\x63"), set[State]()),
    "empty method": (raw_frame(1, 0, b""), set[State]()),
    "no end mark": (frame(commands.Connection.Unblocked())[:-1] + b"\0", set[State]()),
}  # fmt: skip


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("what", LEGAL)
def test_each_frame_is_legal_in_its_states_only(state: State, what: str) -> None:
    """Anything else is the peer's mistake; once closed, nothing is listened to."""
    data, legal = LEGAL[what]
    session = in_state(state)
    if state is State.CLOSED:
        assert session.receive(data) == []
    elif state in legal:
        session.receive(data)
        assert session.error is None
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive(data)
        with pytest.raises(RemoteProtocolError):
            session.receive(b"")
        assert session.error is caught.value


@pytest.mark.parametrize("state", [State.TUNE, State.OPENING, State.OPEN, State.CLOSING])
def test_a_heartbeat_is_always_welcome_and_means_nothing(state: State) -> None:
    """No event, no answer."""
    session = in_state(state)
    assert session.receive(Heartbeat.marshal() * 3) == []
    assert session.data_to_send() == b""
    session.heartbeat()
    assert session.data_to_send() == Heartbeat.marshal()


@pytest.mark.parametrize("state", [s for s in State if s is not State.OPEN])
def test_nothing_is_asked_on_a_connection_that_is_not_open(state: State) -> None:
    """That would be our own mistake."""
    session = in_state(state)
    for act in (
        session.open_channel,
        session.close,
        lambda: session.request(1, commands.Confirm.Select()),
        lambda: session.check_publishing(1),
    ):
        with pytest.raises(LocalProtocolError):
            act()


def test_the_end_of_a_connection_is_answered_and_final() -> None:
    """What stands behind it is not read."""
    session = opened_session()
    events = session.receive(frame(commands.Basic.Ack(1), 1) + frame(CLOSE) + b"garbage")
    assert events == [Confirms(1, False, 0, [1]), ConnectionEnded(320, "CONNECTION_FORCED")]
    assert names(session) == ["Connection.CloseOk"]
    assert session.receive(b"more") == []


def test_while_closing_late_frames_are_dropped() -> None:
    """Deliveries, confirms and answers that were on their way; then close-ok ends it."""
    session = opened_session()
    session.close()
    assert names(session) == ["Connection.Close"]
    late = b"".join(delivery(commands.Basic.Properties(message_id="x"), b"body"))
    late += frame(commands.Basic.Ack(1), 1) + frame(commands.Confirm.SelectOk(), 1)
    assert session.receive(late) == []
    assert session.receive(frame(commands.Connection.CloseOk())) == [ConnectionEnded(0, "")]
    assert session.state is State.CLOSED


def test_an_alarm_is_told_with_its_reason() -> None:
    """And its end."""
    data = frame(commands.Connection.Blocked("low on disk"))
    data += frame(commands.Connection.Unblocked())
    assert opened_session().receive(data) == [Blocked("low on disk"), Unblocked()]


# --- channels -----------------------------------------------------------------------------------


def test_a_channel_is_usable_between_its_opening_and_its_closing() -> None:
    """Before and after that, using it is our own mistake."""
    session = opened_session(channels=0)
    assert session.open_channel() == 1
    with pytest.raises(LocalProtocolError):
        session.check_publishing(1)
    session.receive(frame(commands.Channel.OpenOk(), 1))
    session.check_publishing(1)
    session.request(1, commands.Channel.Close(200, "done", 0, 0))
    with pytest.raises(LocalProtocolError):
        session.check_publishing(1)
    (event,) = session.receive(frame(commands.Channel.CloseOk(), 1))
    assert isinstance(event, Replied)
    with pytest.raises(LocalProtocolError):
        session.check_publishing(1)
    assert session.open_channel() == 1


def test_the_lowest_free_channel_is_taken_up_to_the_limit() -> None:
    """No more than the broker allows."""
    session = Session(LOGIN)
    session.receive(START + frame(commands.Connection.Tune(3, 0, 0)) + OPEN_OK)
    assert [session.open_channel() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(LocalProtocolError, match="no more than 3"):
        session.open_channel()
    session.receive(frame(commands.Channel.Close(504, "CHANNEL_ERROR", 0, 0), 2))
    assert session.open_channel() == 2


def test_answers_come_in_the_order_of_the_requests() -> None:
    """Another one is the peer's mistake."""
    session = opened_session()
    session.request(1, commands.Queue.Declare(queue="q"))
    session.request(1, commands.Queue.Purge(queue="q"))
    session.request(1, commands.Queue.Bind(queue="q", exchange="x", routing_key="", nowait=True))
    session.request(1, commands.Basic.Ack(1))
    declared, purged = commands.Queue.DeclareOk("q", 1, 0), commands.Queue.PurgeOk(1)
    events = session.receive(frame(declared, 1) + frame(purged, 1))
    assert [event.frame.name for event in events if isinstance(event, Replied)] == [
        "Queue.DeclareOk", "Queue.PurgeOk",
    ]  # fmt: skip
    for unasked in (purged, commands.Queue.BindOk(), commands.Channel.CloseOk()):
        session = opened_session()
        session.request(1, commands.Queue.Declare(queue="q"))
        with pytest.raises(RemoteProtocolError, match="answers nothing"):
            session.receive(frame(unasked, 1))


def test_a_channel_that_the_broker_closes_ends_alone() -> None:
    """Close-ok is sent, the reason told, and the other channels go on."""
    session = opened_session(channels=2)
    data = frame(commands.Channel.Close(406, "PRECONDITION_FAILED", 60, 40), 1)
    assert session.receive(data) == [ChannelEnded(1, 406, "PRECONDITION_FAILED")]
    assert [(c, value.name) for c, value in said(session)] == [(1, "Channel.CloseOk")]
    assert session.receive(frame(commands.Basic.Ack(1), 2)) == [Confirms(2, False, 0, [1])]
    with pytest.raises(RemoteProtocolError):
        session.receive(frame(commands.Basic.Ack(1), 1))


def test_a_channel_that_both_sides_close_at_once_ends_once() -> None:
    """The answer to our request still comes, and only then its number is free."""
    session = opened_session()
    session.request(1, commands.Queue.Declare(queue="q"))
    session.request(1, commands.Channel.Close(200, "done", 0, 0))
    closing = frame(commands.Channel.Close(406, "late", 60, 40), 1)
    assert session.receive(closing) == [ChannelEnded(1, 406, "late")]
    assert session.open_channel() == 2
    assert session.receive(frame(commands.Channel.CloseOk(), 1)) == []
    assert session.open_channel() == 1


def test_flow_is_answered() -> None:
    """Although RabbitMQ does not use it."""
    session = opened_session()
    assert session.receive(frame(commands.Channel.Flow(False), 1)) == []
    ((channel, value),) = said(session)
    assert (channel, value.name, value.active) == (1, "Channel.FlowOk", False)


def test_a_consumer_that_the_broker_ends_is_told() -> None:
    """By its tag."""
    data = frame(commands.Basic.Cancel("worker", True), 1)
    assert opened_session().receive(data) == [ConsumerCancelled(1, "worker")]


# --- messages -----------------------------------------------------------------------------------


def returned(message_id: str | None, body: bytes, frame_max: int = 131_072) -> bytes:
    properties = commands.Basic.Properties(message_id=message_id)
    parts = content(header_payload(properties, len(body)), body, 1, frame_max)
    return frame(commands.Basic.Return(312, "NO_ROUTE", "x", "work"), 1) + b"".join(parts)


@given(
    st.lists(st.tuples(st.sampled_from([None, "", "id-1"]), st.integers(0, 9000)), max_size=4),
    st.lists(st.integers(0, 40_000), max_size=5),
)
def test_returned_messages_are_told_with_their_ids_before_their_confirms(
    messages: list[tuple[str | None, int]], cuts: list[int]
) -> None:
    """Whatever their size, in any pieces."""
    data, wanted = b"", []
    for tag, (message_id, size) in enumerate(messages, 1):
        data += returned(message_id, b"x" * size, 4096) + frame(commands.Basic.Ack(tag), 1)
        wanted += [Returned(1, 312, "NO_ROUTE", message_id or ""), Confirms(1, False, 0, [tag])]
    assert feed(opened_session(frame_max=4096), data, cuts) == wanted


def test_a_returned_message_that_cannot_be_read_has_no_id() -> None:
    """Its properties are the sender's own, so this is no mistake of the peer's."""
    data = frame(commands.Basic.Return(312, "NO_ROUTE", "x", "work"), 1)
    data += raw_frame(2, 1, b"\0\x3c\0\0" + bytes(8) + b"\x20\0\0\0\0\x05\x01")
    assert opened_session().receive(data) == [Returned(1, 312, "NO_ROUTE", "")]


METHOD = frame(commands.Basic.Deliver("worker", 1, False, "x", "work"), 1)
RETURN = frame(commands.Basic.Return(312, "NO_ROUTE", "x", "work"), 1)
HEADER = raw_frame(2, 1, header_payload(commands.Basic.Properties(), 4))
BODY = raw_frame(3, 1, b"body")


@pytest.mark.parametrize("cut_after_method", [False, True])
@pytest.mark.parametrize("method", [METHOD, RETURN])
@pytest.mark.parametrize(
    "rest",
    [
        BODY,
        HEADER + HEADER,
        HEADER + raw_frame(3, 1, b"too long"),
        HEADER + raw_frame(3, 1, b""),
        HEADER + frame(commands.Basic.Ack(1), 1),
        HEADER + METHOD,
        frame(commands.Basic.CancelOk("x"), 1),
        raw_frame(2, 1, bytes(13)),
        HEADER[:-1] + b"\0",
        HEADER + BODY[:-1] + b"\0",
        raw_frame(8, 1, b""),
    ],
)
def test_a_message_whose_frames_do_not_fit_is_an_error(
    method: bytes, rest: bytes, cut_after_method: bool
) -> None:
    """In the order method, header, body, with the sizes that the header says."""
    session = opened_session(channels=2)
    # Another channel's frame in between makes it come frame by frame.
    between = frame(commands.Channel.Flow(True), 2) if cut_after_method else b""
    with pytest.raises(RemoteProtocolError):
        session.receive(method + between + rest)


MESSAGE = delivery(commands.Basic.Properties(message_id="1"), b"body")
ELSEWHERE = delivery(commands.Basic.Properties(message_id="1"), b"body", channel=2)


@pytest.mark.parametrize("first", [b"".join(MESSAGE), frame(commands.Basic.Ack(1), 1)])
@pytest.mark.parametrize(
    "second", [b"".join(ELSEWHERE), frame(commands.Basic.Ack(1), 2), frame(CLOSE, 2)]
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_channel_is_checked_behind_another_ones_traffic(
    first: bytes, second: bytes, is_open: bool
) -> None:
    """What comes for a channel that is not open, or amid its message, is an error in bulk too."""
    session = opened_session(channels=2 if is_open else 1)
    if is_open:  # a message begins, and another channel's frame makes it wait for its rest
        session.receive(ELSEWHERE[0] + frame(commands.Channel.Flow(True), 1))
    (event,) = session.receive(first + second)
    assert isinstance(event, Delivery | Confirms)
    assert event.channel == 1
    assert session.error is not None
    with pytest.raises(RemoteProtocolError):
        session.receive(b"")


def test_a_message_that_was_not_asked_for_is_an_error() -> None:
    """Basic.get is never used."""
    method = frame(commands.Basic.GetOk(1, False, "x", "work", 0), 1)
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        opened_session().receive(method + HEADER + BODY)


@pytest.mark.parametrize("size", [60_000, 70_000, 500_000])
def test_a_large_message_is_joined(size: int) -> None:
    """Over the size up to which it is read in bulk, and below it; cut at every frame or so."""
    body = bytes(range(256)) * (size // 256)
    data = b"".join(delivery(commands.Basic.Properties(message_id="1"), body, frame_max=4096))
    events = feed(opened_session(frame_max=4096), data, list(range(0, len(data), 4500)))
    assert [event.body for event in events if isinstance(event, Delivery)] == [body]


# --- hostile peers ------------------------------------------------------------------------------

FRAMES = st.one_of(
    st.binary(max_size=60),
    st.builds(raw_frame, st.integers(0, 9), st.integers(0, 2), st.binary(max_size=40)),
    st.builds(
        lambda channel, index, rest: raw_frame(1, channel, index.to_bytes(4, "big") + rest),
        st.integers(0, 2),
        st.sampled_from(sorted(commands.INDEX_MAPPING)),
        st.binary(max_size=40),
    ),
    st.sampled_from([METHOD, RETURN, HEADER, BODY, START, TUNE, OPEN_OK, frame(CLOSE)]),
)


@given(
    st.sampled_from(list(State)),
    st.lists(FRAMES, max_size=6),
    st.lists(st.integers(0, 500), max_size=3),
)
@settings(max_examples=400)
def test_random_bytes_are_an_error_of_the_peer_or_nothing(
    state: State, frames: list[bytes], cuts: list[int]
) -> None:
    """No other exception, in no state."""
    session = in_state(state)
    try:
        feed(session, b"".join(frames), cuts)
    except RemoteProtocolError:
        assert session.error is not None


@pytest.mark.parametrize("state", [State.TUNE, State.OPENING, State.OPEN, State.CLOSING])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_frame_that_is_too_large_is_refused_before_it_is_there(
    state: State, channel: int
) -> None:
    """Its first seven bytes are enough."""
    session = in_state(state)
    just = session.frame_max - 8
    assert session.receive(bytes([1, 0, channel]) + just.to_bytes(4, "big")) == []
    session = in_state(state)
    with pytest.raises(RemoteProtocolError, match="another server's"):
        session.receive(bytes([1, 0, channel]) + (just + 1).to_bytes(4, "big"))


@given(st.binary(max_size=80))
def test_a_content_header_is_decoded_or_not_but_never_fails(payload: bytes) -> None:
    """None for what is malformed."""
    decode_header(payload)
    decode_header(b"\0\x3c\0\0" + bytes(8) + payload)


@pytest.mark.parametrize("stamp", [2**64 - 14_256_000, 1_700_000_000 * 10**9, 2**64 - 1])
def test_a_stamp_that_is_no_date_costs_itself_alone(stamp: int) -> None:
    """Every other property of that message can be read."""
    known = {"message_id": "m", "timestamp": stamp, "type": "t", "headers": {"a": "b"}}
    found = decode_header(bytes(12) + properties.encode(known))
    assert found is not None
    assert (found.message_id, found.message_type, found.headers) == ("m", "t", {"a": "b"})
    assert found.timestamp is None
