"""What may happen next on an AMQP 0-9-1 connection. Bytes in, events out.

Theory: the peer's bytes are a row of frames. ``Session.receive`` takes bytes in pieces of any
size, answers what the protocol obliges a client to answer (into ``data_to_send``), and returns
what the caller has to know as events. Deliveries and confirms, which come by the million, go
through ``deliveries`` and ``confirms``; everything else through pamqp.

States of a connection (section 2.2.4)::

    START --start--> TUNE --tune, open--> OPENING --open-ok--> OPEN --close()--> CLOSING
      any state --connection.close from the peer--> CLOSED;  CLOSING --close-ok--> CLOSED

Rules: no I/O, no clock, no waiting. The peer's mistakes raise RemoteProtocolError, ours
LocalProtocolError. Refuses to know sockets (``connection``) and what a message means
(``proof``).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import pamqp.commands as commands
import pamqp.exceptions
import pamqp.frame
from pamqp import header as pamqp_header
from pamqp.body import ContentBody
from pamqp.heartbeat import Heartbeat

from rabbitproof import __version__
from rabbitproof.amqp import content, methods
from rabbitproof.amqp.confirms import Confirms, read_confirms
from rabbitproof.amqp.deliveries import LARGEST_HEADER, Batch, Delivery, DeliveryReader
from rabbitproof.amqp.publishes import FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD
from rabbitproof.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pamqp.base import Frame

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
FRAME_MAX: Final = 131_072
"""Bytes; what RabbitMQ suggests by itself (its default, all versions)."""
CHANNEL_MAX: Final = 2_047
SMALLEST_FRAME_MAX: Final = 4_096
"""Bytes; each peer must take frames of that size (AMQP 0-9-1, section 4.2.3)."""
LARGEST_BODY: Final = 2**29
"""Bytes; to no more can RabbitMQ's max_message_size be set (its rabbit.schema)."""
HANDSHAKE_FRAME_MAX: Final = 131_072
"""Before tuning, frames are small; a larger size means that the peer does not speak AMQP."""

CAPABILITIES: Final = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


@dataclass(frozen=True, slots=True)
class Login:
    """What the handshake tells the broker."""

    username: str
    password: str = field(repr=False)
    vhost: str
    connection_name: str
    heartbeat: int = 60
    """Seconds; the smaller of this and the broker's value is used, 0 switches it off."""
    frame_max: int = FRAME_MAX


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The connection is ready."""

    heartbeat: int
    """Seconds, as agreed; 0 for none."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The broker answered the oldest open request of a channel."""

    channel: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class Returned:
    """A mandatory message that no queue took. Its confirm follows."""

    channel: int
    code: int
    reason: str
    message_id: str
    """Empty when the message has none."""
    exchange: bytes = field(default=b"", compare=False)
    routing_key: bytes = field(default=b"", compare=False)
    header: bytes = field(default=b"", compare=False, repr=False)
    """The content header's payload, still encoded."""
    body: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ChannelEnded:
    """The broker closed a channel."""

    channel: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """The broker closed the connection. ``code`` 0: we had asked for it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The broker stopped reading publishes, and why (an alarm)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The broker reads publishes again."""


@dataclass(frozen=True, slots=True)
class ConsumerCancelled:
    """The broker ended a consumer, for one because its queue was deleted."""

    channel: int
    consumer_tag: str


Event = (
    Opened
    | Replied
    | Returned
    | ChannelEnded
    | ConnectionEnded
    | Blocked
    | Unblocked
    | ConsumerCancelled
    | Batch
    | Delivery
    | Confirms
)


class State(Enum):
    """Where a connection stands; the drawing is at the top of this file."""

    START = auto()
    TUNE = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


@dataclass(slots=True)
class _Content:
    """A message whose frames have not all come."""

    method: Frame
    header: bytes | None = None
    missing: int = 0
    parts: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Channel:
    opened: bool = False
    closing: bool = False
    """We asked to close it."""
    ended: bool = False
    """The broker closed it while our own request was on its way, whose answer still comes."""
    waiting: list[str] = field(default_factory=list)
    """Requests without an answer yet, oldest first: names of the answers that fit."""
    content: _Content | None = None


class Session:
    """The protocol state of one connection, seen from the client."""

    def __init__(self, login: Login) -> None:
        self.state = State.START
        self.error: RemoteProtocolError | None = None
        """What the peer did wrong. Nothing is taken from it any more."""
        self.server_properties: Mapping[str, object] = {}
        self.frame_max = HANDSHAKE_FRAME_MAX
        self._login = login
        self.channel_max = CHANNEL_MAX
        self._channels: dict[int, _Channel] = {}
        self._rest = b""
        self._out: list[bytes] = [PROTOCOL_HEADER]
        self._reader = DeliveryReader(self.frame_max)

    # --- towards the broker ---

    def data_to_send(self) -> bytes:
        """Return what has to be sent now, and forget it."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def open_channel(self) -> int:
        """Ask for a new channel and return its number. It may be used once Replied comes."""
        self._require_open()
        number = next(i for i in range(1, self.channel_max + 2) if i not in self._channels)
        if number > self.channel_max:
            msg = f"The broker allows no more than {self.channel_max} channels; close some."
            raise LocalProtocolError(msg)
        self._channels[number] = _Channel(waiting=["Channel.OpenOk"])
        self._send(number, commands.Channel.Open())
        return number

    def request(self, channel: int, method: Frame) -> None:
        """Send a method. When it is a synchronous one, its answer comes as Replied."""
        state = self._usable(channel)
        if method.synchronous and not getattr(method, "nowait", False):
            state.waiting.extend(method.valid_responses[:1])
        if method.name == "Channel.Close":
            state.closing = True
        self._send(channel, method)

    def deliver_whole(self) -> None:
        """From now on, hand on every message as a Delivery with all of its properties."""
        self._reader.whole = True

    def check_publishing(self, channel: int) -> None:
        """Raise LocalProtocolError unless publishes may be sent on this channel now."""
        self._usable(channel)

    def close(self) -> None:
        """Ask to close the connection; ConnectionEnded with code 0 follows."""
        self._require_open()
        self.state = State.CLOSING
        self._send(0, commands.Connection.Close(200, "bye", 0, 0))

    def keep_heads(self) -> None:
        """Hand on the frames before each body as well (``Batch.heads``)."""
        self._reader.keep_heads = True

    def heartbeat(self) -> None:
        """Send a sign of life (section 4.2.7)."""
        self._out.append(Heartbeat.marshal())

    # --- from the broker ---

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the broker and return what they mean.

        Raises RemoteProtocolError when they break the rules. When events came before that,
        they are returned first: the error is in ``error`` then, and raised by the next call.
        """
        if self.error is not None:
            raise self.error
        events: list[Event] = []
        try:
            self._read(self._rest + data if self._rest else data, events)
        except RemoteProtocolError as error:
            self.error = error
            if not events:
                raise
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        position = 0
        while position < len(data) and self.state is not State.CLOSED:
            after, wait = self._bulk(data, position, events)
            if after == position and not wait:
                after = self._frame(data, position, events)
            if after == position:
                break
            position = after
        self._rest = data[position:] if self.state is not State.CLOSED else b""

    def _bulk(self, data: bytes, position: int, events: list[Event]) -> tuple[int, bool]:
        """Read as many deliveries and confirms as stand here in whole.

        Return the position behind them, and whether more bytes should come before the next.
        """
        channel = int.from_bytes(data[position + 1 : position + 3], "big")
        state = self._channels.get(channel)
        if state is None or state.content is not None or self.state is not State.OPEN:
            return position, False
        found, position, wait = self._reader.read(data, position)
        for delivery in found:
            self._at_rest(delivery.channel, "Basic.Deliver")
            events.append(delivery)
        confirms, position = read_confirms(data, position)
        if confirms is not None:
            self._at_rest(confirms.channel, "Basic.Nack" if confirms.nack else "Basic.Ack")
            events.append(confirms)
        return position, wait

    def _frame(self, data: bytes, position: int, events: list[Event]) -> int:
        """Read one frame; return its end, or ``position`` when it is not all there."""
        if len(data) - position < 7:
            self._check_start(data[position:])
            return position
        self._check_start(data[position : position + 8])
        kind = data[position]
        channel = int.from_bytes(data[position + 1 : position + 3], "big")
        size = int.from_bytes(data[position + 3 : position + 7], "big")
        most = LARGEST_HEADER if kind == FRAME_HEADER else self.frame_max - FRAME_OVERHEAD
        if self.frame_max and size > most:
            raise RemoteProtocolError(
                f"The peer sent a frame of {size} bytes where at most {most} were "
                "agreed; check that the port is RabbitMQ's and not another server's."
            )
        end = position + size + FRAME_OVERHEAD
        if len(data) < end:
            return position
        raw = data[position:end]
        if raw[-1] != 0xCE:
            raise RemoteProtocolError(
                "The broker sent a frame without its end mark; look for a proxy in between."
            )
        if kind == FRAME_METHOD or channel == 0:
            self._method(channel, _decode(raw), events)
        else:
            self._content(channel, raw, events)
        return end

    def _check_start(self, data: bytes) -> None:
        """Tell a peer that does not speak AMQP 0-9-1 by its first bytes."""
        if self.state is not State.START or b"AMQP".startswith(data):
            return  # too few bytes to tell
        if data.startswith(b"AMQP"):
            raise RemoteProtocolError(
                "The server does not speak AMQP 0-9-1 (it answered with another protocol "
                "version); use RabbitMQ's AMQP port, 5672 by default."
            )
        if data[0] != FRAME_METHOD:
            raise RemoteProtocolError(
                "What answers there does not speak AMQP; use RabbitMQ's AMQP port (5672 by "
                "default; 15672 is the Management API), and amqps:// when it expects TLS."
            )

    def _method(self, channel: int, frame: object, events: list[Event]) -> None:
        if isinstance(frame, Heartbeat):
            return
        if not hasattr(frame, "valid_responses"):
            raise RemoteProtocolError(
                f"The broker sent {frame!r:.60} where a method belongs; look for a proxy."
            )
        method: Frame = frame  # type: ignore[assignment]  # checked by what it has
        if channel == 0:
            self._connection_method(method, events)
            return
        if self.state is State.CLOSING:
            return  # all but close and close-ok is dropped by then (section 1.4.2.8)
        state = self._at_rest(channel, method.name)
        self._channel_method(channel, state, method, events)

    def _at_rest(self, channel: int, name: str) -> _Channel:
        """Return the channel, on which the method ``name`` came; now is the time for methods."""
        state = self._channels.get(channel)
        if state is None:
            raise RemoteProtocolError(
                f"The broker sent {name} on channel {channel}, which is not open; "
                "please report this."
            )
        if state.content is not None:
            raise RemoteProtocolError(
                f"The broker sent {name} in the middle of a message; look for a proxy."
            )
        return state

    def _connection_method(self, method: Frame, events: list[Event]) -> None:
        match method:
            case commands.Connection.Start() if self.state is State.START:
                self._start(method)
            case commands.Connection.Tune() if self.state is State.TUNE:
                self._tune(method)
            case commands.Connection.OpenOk() if self.state is State.OPENING:
                self.state = State.OPEN
                events.append(Opened(self._heartbeat))
            case commands.Connection.Close():
                self._send(0, commands.Connection.CloseOk())
                self.state = State.CLOSED
                events.append(ConnectionEnded(method.reply_code or 0, method.reply_text or ""))
            case commands.Connection.CloseOk() if self.state is State.CLOSING:
                self.state = State.CLOSED
                events.append(ConnectionEnded(0, ""))
            case commands.Connection.Blocked():
                events.append(Blocked(method.reason or ""))
            case commands.Connection.Unblocked():
                events.append(Unblocked())
            case _:
                raise RemoteProtocolError(
                    f"The broker sent {method.name} in state {self.state.name}; "
                    "check that the port is RabbitMQ's."
                )

    def _start(self, start: commands.Connection.Start) -> None:
        self.server_properties = start.server_properties or {}
        # A long string that is not UTF-8 comes as bytes from the codec.
        mechanisms = str(start.mechanisms or "").split()
        if "PLAIN" not in mechanisms:
            raise RemoteProtocolError(
                f"The broker offers no PLAIN login but {' '.join(mechanisms) or 'none'}; "
                "enable auth_mechanisms PLAIN in rabbitmq.conf."
            )
        login = self._login
        properties = {
            "product": "rabbitproof",
            "version": __version__,
            "platform": f"Python {platform.python_version()}",
            "connection_name": login.connection_name,
            "capabilities": dict(CAPABILITIES),
        }
        response = f"\0{login.username}\0{login.password}"
        self._send(
            0,
            commands.Connection.StartOk(properties, "PLAIN", response, "en_US"),  # type: ignore[arg-type]  # a table of texts and tables
        )
        self.state = State.TUNE

    def _tune(self, tune: commands.Connection.Tune) -> None:
        wanted = self._login
        if 0 < tune.frame_max < SMALLEST_FRAME_MAX:
            raise RemoteProtocolError(
                f"The broker wants frames of at most {tune.frame_max} bytes, and AMQP has them "
                f"be {SMALLEST_FRAME_MAX} at least; check that the port is RabbitMQ's."
            )
        # Zero means "no limit" for each of the three (section 1.4.2.5).
        self.frame_max = _smaller(tune.frame_max, wanted.frame_max)
        self.channel_max = _smaller(tune.channel_max, CHANNEL_MAX)
        self._heartbeat = min(tune.heartbeat or 0, wanted.heartbeat)
        self._reader = DeliveryReader(self.frame_max)
        self._send(0, commands.Connection.TuneOk(self.channel_max, self.frame_max, self._heartbeat))
        self._send(0, methods.ConnectionOpen(wanted.vhost))
        self.state = State.OPENING

    def _channel_method(
        self, channel: int, state: _Channel, method: Frame, events: list[Event]
    ) -> None:
        match method:
            case commands.Channel.Close():
                self._send(channel, commands.Channel.CloseOk())
                if state.closing:  # both closed it at once: the number is not free yet
                    state.ended, state.waiting = True, ["Channel.CloseOk"]
                else:
                    del self._channels[channel]
                events.append(
                    ChannelEnded(channel, method.reply_code or 0, method.reply_text or "")
                )
            case commands.Channel.CloseOk():
                if not state.ended:
                    self._answered(channel, state, method, events)
                del self._channels[channel]
            case commands.Channel.Flow():
                # RabbitMQ does not use it; the answer is due all the same (section 1.5.2.3).
                self._send(channel, commands.Channel.FlowOk(method.active))
            case commands.Basic.Deliver() | commands.Basic.Return() | commands.Basic.GetOk():
                state.content = _Content(method)
            case commands.Basic.Cancel():
                events.append(ConsumerCancelled(channel, method.consumer_tag or ""))
            case commands.Basic.Ack() | commands.Basic.Nack():
                raise RemoteProtocolError("The broker sent a malformed confirm; please report it.")
            case _:
                self._answered(channel, state, method, events)

    def _answered(self, channel: int, state: _Channel, method: Frame, events: list[Event]) -> None:
        if not state.waiting or state.waiting[0] != method.name:
            raise RemoteProtocolError(
                f"The broker sent {method.name}, which answers nothing; please report this."
            )
        state.waiting.pop(0)
        if method.name == "Channel.OpenOk":
            state.opened = True
        events.append(Replied(channel, method))

    def _content(self, channel: int, raw: bytes, events: list[Event]) -> None:
        """Take a content header or body frame of a message that came in pieces."""
        if self.state is State.CLOSING:
            return
        state = self._channels.get(channel)
        content = state.content if state else None
        if state is None or content is None:
            raise RemoteProtocolError(
                "The broker sent a message's content without its method; look for a proxy."
            )
        kind, payload = raw[0], raw[7:-1]
        if content.header is None:
            if kind != 2 or len(payload) < 14:
                raise RemoteProtocolError("The broker sent a message without its content header.")
            content.header = payload
            content.missing = int.from_bytes(payload[4:12], "big")
            if content.missing > LARGEST_BODY:
                raise RemoteProtocolError(
                    f"The broker announced a message of {content.missing:,} bytes, and RabbitMQ "
                    f"has none of more than {LARGEST_BODY:,}; look for a proxy."
                )
        else:
            if kind != 3 or not 0 < len(payload) <= content.missing:
                raise RemoteProtocolError("The broker sent a body that does not fit its header.")
            content.parts.append(payload)
            content.missing -= len(payload)
        if content.missing == 0:
            state.content = None
            events.append(_whole(channel, content))

    # --- small things ---

    def _send(self, channel: int, method: Frame) -> None:
        self._out.append(pamqp.frame.marshal(method, channel))

    def _require_open(self) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError(
                f"The connection is not open ({self.state.name}); please report this."
            )

    def _usable(self, channel: int) -> _Channel:
        self._require_open()
        state = self._channels.get(channel)
        if state is None or not state.opened or state.closing:
            raise LocalProtocolError(f"Channel {channel} is not open; please report this.")
        return state


def _whole(channel: int, content: _Content) -> Event:
    method, header = content.method, content.header or b""
    body = b"".join(content.parts)
    if isinstance(method, commands.Basic.Return):
        properties = decode_header(header)
        message_id = properties.message_id if properties else None
        return Returned(
            channel,
            method.reply_code or 0,
            method.reply_text or "",
            str(message_id or ""),
            (method.exchange or "").encode(),
            (method.routing_key or "").encode(),
            header,
            body,
        )
    if isinstance(method, commands.Basic.Deliver):
        return Delivery(
            channel,
            (method.consumer_tag or "").encode(),
            method.delivery_tag or 0,
            bool(method.redelivered),
            (method.exchange or "").encode(),
            (method.routing_key or "").encode(),
            header,
            body,
        )
    raise RemoteProtocolError(f"The broker sent {method.name}, which was not asked for.")


def decode_header(payload: bytes) -> commands.Basic.Properties | None:
    """Decode a content header's payload; None when it is malformed."""
    content_header = pamqp_header.ContentHeader()
    try:
        content_header.unmarshal(payload)
    except Exception:  # noqa: BLE001  hostile bytes fail in many ways inside the codec
        return _without_what_is_odd(payload)
    return content_header.properties


def _without_what_is_odd(payload: bytes) -> commands.Basic.Properties | None:
    """Return the properties that can be read; a stamp that is no date, say, costs itself alone."""
    found = content.decode(payload[content.FLAGS_AT :])
    if "raw" in found:
        return None
    table = found.pop("headers", {})
    pairs = table.items() if isinstance(table, dict) else table
    properties = commands.Basic.Properties()
    properties.headers = {str(key): content.plain(value) for key, value in pairs}
    found["message_type"] = found.pop("type", None)
    for name, value in found.items():
        if isinstance(value, str) or name in ("delivery_mode", "priority"):
            setattr(properties, name, value)
    return properties


def _decode(raw: bytes) -> object:
    try:
        _, _, frame = pamqp.frame.unmarshal(raw)
    except pamqp.exceptions.UnmarshalingException as error:
        raise RemoteProtocolError(
            f"The broker sent bytes that are no frame of AMQP 0-9-1 ({error}); look for a proxy."
        ) from None
    except Exception as error:  # the codec fails in many ways on hostile bytes
        raise RemoteProtocolError(
            f"The broker sent a frame that cannot be decoded ({error}); look for a proxy."
        ) from error
    if isinstance(frame, ContentBody):
        raise RemoteProtocolError("The broker sent a body on channel 0; look for a proxy.")
    return frame


def _smaller(theirs: int | None, ours: int) -> int:
    limits = [limit for limit in (theirs, ours) if limit]
    return min(limits, default=0)
