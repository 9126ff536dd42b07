"""What goes over the wire, written and read by pamqp: the oracle of the protocol's tests.

Refuses to know the code under test, except for the sessions and messages it is asked to make.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from rabbitproof.amqp.session import Login, Opened, Replied, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.amqp.session import Event

FRAME_MAX = 131_072
LOGIN = Login("guest", "guest", "/", "tests")


def frame(value: Any, channel: int = 0) -> bytes:
    return pamqp.frame.marshal(value, channel)


def raw_frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return (
        bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + end
    )


def content(
    header: bytes, body: bytes, channel: int = 1, frame_max: int = FRAME_MAX
) -> list[bytes]:
    """Return a content header, given by its payload, and its body as frames."""
    most = frame_max - 8
    return [
        raw_frame(2, channel, header),
        *[raw_frame(3, channel, body[i : i + most]) for i in range(0, len(body), most)],
    ]


def header_payload(properties: commands.Basic.Properties, body_size: int) -> bytes:
    return ContentHeader(body_size=body_size, properties=properties).marshal()


def delivery(
    properties: commands.Basic.Properties,
    body: bytes,
    *,
    tag: int = 1,
    channel: int = 1,
    redelivered: bool = False,
    consumer_tag: str = "worker",
    exchange: str = "direct.exchange",
    routing_key: str = "work",
    frame_max: int = FRAME_MAX,
) -> list[bytes]:
    """Return the frames of one delivery."""
    method = commands.Basic.Deliver(consumer_tag, tag, redelivered, exchange, routing_key)
    payload = header_payload(properties, len(body))
    return [frame(method, channel), *content(payload, body, channel, frame_max)]


class Seen(NamedTuple):
    """One delivery as pamqp reads it."""

    channel: int
    consumer_tag: str
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    header: bytes
    properties: commands.Basic.Properties
    body: bytes


def frames_of(data: bytes) -> Iterator[tuple[int, Any, bytes]]:
    """Yield channel, frame and raw bytes of each frame."""
    while data:
        size, channel, value = pamqp.frame.unmarshal(data)
        yield channel, value, data[:size]
        data = data[size:]


def messages_of(data: bytes, kind: type = commands.Basic.Deliver) -> list[tuple[Any, Seen]]:
    """Return the messages in ``data`` in the order in which they are complete."""
    open_ones: dict[int, list[Any]] = {}
    out = []
    for channel, value, raw in frames_of(data):
        if isinstance(value, kind):
            open_ones[channel] = [value, b"", None, b""]
            continue
        current = open_ones.get(channel)
        if isinstance(value, ContentHeader):
            current[1:3] = raw[7:-1], value
        elif isinstance(value, ContentBody):
            current[3] += value.value
        if current is None or current[2] is None or len(current[3]) < current[2].body_size:
            continue
        method, payload, header, body = open_ones.pop(channel)
        out.append(
            (
                method,
                Seen(
                    channel,
                    getattr(method, "consumer_tag", ""),
                    getattr(method, "delivery_tag", 0),
                    bool(getattr(method, "redelivered", False)),
                    method.exchange,
                    method.routing_key,
                    payload,
                    header.properties,
                    body,
                ),
            )
        )
    return out


def handshake(frame_max: int = FRAME_MAX, heartbeat: int = 60) -> list[bytes]:
    """Return what a broker says until a connection is open: start, tune, open-ok."""
    properties = {"product": "RabbitMQ", "version": "3.10.8", "capabilities": {}}
    return [
        frame(commands.Connection.Start(0, 9, properties, "AMQPLAIN PLAIN", "en_US")),
        frame(commands.Connection.Tune(2047, frame_max, heartbeat)),
        frame(commands.Connection.OpenOk()),
    ]


def opened_session(channels: int = 1, frame_max: int = FRAME_MAX) -> Session:
    """Return a session that went through the handshake and opened channels 1, 2 …"""
    session = Session(LOGIN)
    events = session.receive(b"".join(handshake(frame_max)))
    assert events == [Opened(60)]
    for number in range(1, channels + 1):
        assert session.open_channel() == number
        (event,) = session.receive(frame(commands.Channel.OpenOk(), number))
        assert isinstance(event, Replied)
    session.data_to_send()
    return session


def feed(session: Session, data: bytes, cuts: list[int]) -> list[Event]:
    """Give ``data`` to a session in pieces; ``cuts`` are positions in any order."""
    return feed_to(session.receive, data, cuts)


def feed_to(receive: Callable[[bytes], list[Event]], data: bytes, cuts: list[int]) -> list[Event]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events: list[Event] = []
    for start, end in pairwise(edges):
        events += receive(data[start:end])
    return events
