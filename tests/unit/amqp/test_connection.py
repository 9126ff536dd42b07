from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pamqp.frame
import pytest
from pamqp import commands
from pamqp.heartbeat import Heartbeat

from rabbitproof.address import Address
from rabbitproof.amqp.confirms import Confirms
from rabbitproof.amqp.connection import Connection, _Heart, open_connection
from rabbitproof.amqp.session import Blocked
from rabbitproof.errors import (
    BrokerUnreachable,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    LoginRefused,
    NotFound,
    Overdue,
    RemoteProtocolError,
)
from wire import frame, handshake, raw_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 10.0
"""Seconds within which everything here happens."""


class Peer:
    """One accepted connection, seen from the broker's side."""

    def __init__(self, listener: socket.socket) -> None:
        listener.settimeout(LIMIT)
        self.socket, _ = listener.accept()
        self.socket.settimeout(LIMIT)
        self.rest = b""

    def read(self, count: int) -> bytes:
        while len(self.rest) < count:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.rest += data
        out, self.rest = self.rest[:count], self.rest[count:]
        return out

    def frame(self) -> Any:
        """Return the client's next frame."""
        head = self.read(7)
        raw = head + self.read(int.from_bytes(head[3:7], "big") + 1)
        return pamqp.frame.unmarshal(raw)[2]

    def expect(self, kind: type) -> Any:
        """Return the client's next frame but for heartbeats, which has to be of this kind."""
        value = self.frame()
        while isinstance(value, Heartbeat) and kind is not Heartbeat:
            value = self.frame()
        assert isinstance(value, kind), value
        return value

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def shake(self, heartbeat: int = 0) -> None:
        """Carry out the handshake, and open channel 1."""
        start, tune, open_ok = handshake(heartbeat=heartbeat)
        assert self.read(8) == b"AMQP\0\0\x09\x01"
        self.say(start)
        self.expect(commands.Connection.StartOk)
        self.say(tune)
        self.expect(commands.Connection.TuneOk)
        self.expect(commands.Connection.Open)
        self.say(open_ok)
        self.open_channel(1)

    def open_channel(self, number: int) -> None:
        self.expect(commands.Channel.Open)
        self.say(frame(commands.Channel.OpenOk(), number))

    def wait_for_end(self) -> None:
        """Read until the client hangs up."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 16):
                pass


Script = "Callable[[Peer], None]"


@contextlib.contextmanager
def peer(script: Callable[[Peer], None]) -> Iterator[Address]:
    """Run a broker's part in a thread; what fails there fails the test."""
    failures: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

        def play() -> None:
            try:
                client = Peer(listener)
                with client.socket:
                    script(client)
            except BaseException as error:  # noqa: BLE001  raised again in the test's thread
                failures.append(error)

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        try:
            yield Address("127.0.0.1", listener.getsockname()[1], username="bob", vhost="shop")
        finally:
            thread.join(LIMIT)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def connect(address: Address, *, timeout: float = LIMIT, heartbeat: int = 60) -> Connection:
    return open_connection([address], "tests", timeout=timeout, heartbeat=heartbeat)


@contextlib.contextmanager
def connected(script: Callable[[Peer], None], *, heartbeat: int = 0) -> Iterator[Connection]:
    """Give a connection with channel 1 open to a peer that plays ``script`` from then on."""

    def play(client: Peer) -> None:
        client.shake(heartbeat)
        script(client)

    with peer(play) as address:
        connection = connect(address)
        try:
            assert connection.open_channel() == 1
            yield connection
        finally:
            connection.abandon()


def collect(connection: Connection, count: int) -> list[Any]:
    """Wait until so many events came."""
    events: list[Any] = []
    deadline = time.monotonic() + LIMIT
    while len(events) < count and time.monotonic() < deadline:
        events += connection.wait(deadline - time.monotonic())
    return events


def until_raised(connection: Connection, kind: type[Exception]) -> tuple[list[Any], Exception]:
    """Wait until an exception comes; return the events before it, and it."""
    events: list[Any] = []
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            events += connection.wait(deadline - time.monotonic())
        except kind as error:
            return events, error
    raise AssertionError(events)


def ack(tag: int) -> bytes:
    return frame(commands.Basic.Ack(tag), 1)


def close(code: int, text: str) -> bytes:
    return frame(commands.Connection.Close(code, text, 0, 0))


ACKED = Confirms(1, False, 0, [1])


# --- the handshake ------------------------------------------------------------------------------


def test_a_connection_opens_with_what_both_sides_agreed() -> None:
    """The smaller frame size holds, the name and the vhost are told, the broker is known."""
    told = {}

    def script(client: Peer) -> None:
        start, tune, open_ok = handshake(frame_max=8192)
        client.read(8)
        for byte in start:
            client.say(bytes([byte]))
        told["start"] = client.expect(commands.Connection.StartOk)
        client.say(tune)
        told["tune"] = client.expect(commands.Connection.TuneOk)
        told["open"] = client.expect(commands.Connection.Open)
        client.say(open_ok)
        client.expect(commands.Connection.Close)
        client.say(frame(commands.Connection.CloseOk()))

    with peer(script) as address, connect(address) as connection:
        assert connection.frame_max == 8192
        assert connection.server_properties["version"] == "3.10.8"
        assert not connection.closed
    assert connection.closed
    assert told["start"].client_properties["connection_name"] == "tests"
    assert told["start"].response == "\0bob\0guest"
    assert told["tune"].frame_max == 8192
    assert told["open"].virtual_host == "shop"


@pytest.mark.parametrize(
    ("code", "text", "at_open", "says"),
    [
        (403, "ACCESS_REFUSED - Login was refused using PLAIN", False, "user 'bob'"),
        (530, "NOT_ALLOWED - vhost shop not found", True, "vhost 'shop'"),
        (402, "INVALID_PATH", True, "vhost 'shop'"),
    ],
)
def test_a_refused_login_says_who_may_not_go_where(
    code: int, text: str, at_open: bool, says: str
) -> None:
    """The broker's own words stand in it as well."""

    def script(client: Peer) -> None:
        start, tune, _ = handshake()
        client.read(8)
        client.say(start)
        client.expect(commands.Connection.StartOk)
        if at_open:
            client.say(tune)
            client.expect(commands.Connection.TuneOk)
            client.expect(commands.Connection.Open)
        client.say(close(code, text))
        client.expect(commands.Connection.CloseOk)

    with peer(script) as address, pytest.raises(LoginRefused, match=says) as caught:
        connect(address)
    assert text in str(caught.value)


def test_another_refusal_is_no_refused_login() -> None:
    """Its code and words are shown."""

    def script(client: Peer) -> None:
        client.read(8)
        client.say(handshake()[0])
        client.expect(commands.Connection.StartOk)
        client.say(close(541, "INTERNAL_ERROR"))
        client.wait_for_end()

    with peer(script) as address, pytest.raises(ConnectionFailed, match="541 INTERNAL") as caught:
        connect(address)
    assert type(caught.value) is ConnectionFailed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "15672 is the Management API"),
        ([b"H"], "15672 is the Management API"),
        ([b"\x15\x03\x01\x00\x02\x02\x28"], "amqps://"),
        ([b"AMQP\x01\x01\x00\x0a"], "another protocol version"),
        ([b"A", b"MQ", b"P\x01\x01\x00\x0a"], "another protocol version"),
        ([b"\x01\x00\x00\x7f\xff\xff\xff\x00"], "another server's"),
    ],
)
def test_a_peer_that_speaks_something_else_is_told_apart(answer: list[bytes], says: str) -> None:
    """At once, from its first bytes."""

    def script(client: Peer) -> None:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.read(8)
        for part in answer:
            client.say(part)
        client.wait_for_end()

    with peer(script) as address, pytest.raises(RemoteProtocolError, match=says):
        connect(address)


def test_a_peer_that_says_nothing_is_given_up() -> None:
    """After the time-out, not later."""
    with peer(Peer.wait_for_end) as address:
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable, match="does not answer in AMQP"):
            connect(address, timeout=0.2)
        assert 0.2 <= time.monotonic() - began < LIMIT


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_an_end_during_the_handshake_is_nobody_there(steps: int) -> None:
    """Before start, after it, and after tune."""

    def script(client: Peer) -> None:
        client.read(8)
        for said in handshake()[:steps]:
            client.say(said)
            client.frame()

    says = "amqps://" if steps == 0 else "its log says why"
    with peer(script) as address, pytest.raises(BrokerUnreachable, match=says):
        connect(address)


def unused() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Address("127.0.0.1", listener.getsockname()[1])


def test_the_first_address_that_answers_is_taken() -> None:
    """The others are tried in their order; when none answers, the last error is raised."""

    def script(client: Peer) -> None:
        client.shake()
        client.wait_for_end()

    with peer(script) as address:
        connection = open_connection([unused(), address], "tests")
        assert connection.address == address
        assert connection.open_channel() == 1
        connection.abandon()
    with pytest.raises(BrokerUnreachable, match=f":{address.port}"):
        open_connection([unused(), address], "tests")
    with pytest.raises(BrokerUnreachable):
        open_connection([], "tests")


def test_a_host_that_does_not_exist_is_named() -> None:
    """A name that can't be looked up is no dead broker."""
    with pytest.raises(BrokerUnreachable, match=r"nowhere\.invalid"):
        connect(Address("nowhere.invalid"))


# --- heartbeats ---------------------------------------------------------------------------------


def test_heartbeats_go_out_while_nothing_happens() -> None:
    """One after half an interval, and another one after it."""

    def script(client: Peer) -> None:
        for _ in range(2):
            client.expect(Heartbeat)
        client.say(ack(1))
        client.wait_for_end()

    with connected(script, heartbeat=1) as connection:
        assert collect(connection, 1) == [ACKED]


def test_heartbeats_go_out_while_only_receiving() -> None:
    """What comes in is no sign of life of ours."""

    def script(client: Peer) -> None:
        client.socket.settimeout(0.02)  # the pace of what is sent
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            client.say(ack(1))
            try:
                client.expect(Heartbeat)
            except TimeoutError:
                continue
            break
        client.socket.settimeout(LIMIT)
        client.say(ack(2))
        client.wait_for_end()

    with connected(script, heartbeat=1) as connection:
        events: list[Any] = []
        began = time.monotonic()
        while not events or events[-1].singles[-1] != 2:
            events += connection.wait(LIMIT)
        assert time.monotonic() - began < 1.0


def test_a_silent_peer_is_lost() -> None:
    """After two intervals; the time is given."""
    with connected(Peer.wait_for_end, heartbeat=1) as connection:
        now = time.monotonic()
        connection._heart = _Heart(1, now - 1.95)
        connection._heart.sent(now)
        _, error = until_raised(connection, ConnectionLost)
        assert "sent nothing for 2 s" in str(error)
        assert time.monotonic() - now < 1.0
        assert connection.closed


def test_what_came_during_our_own_pause_is_read_before_the_peer_is_given_up() -> None:
    """A program that was stopped for a while does not lose the confirms that arrived."""
    said = threading.Event()

    def script(client: Peer) -> None:
        client.say(ack(1))
        said.set()
        client.wait_for_end()

    with connected(script, heartbeat=1) as connection:
        assert said.wait(LIMIT)
        connection._heart = _Heart(1, time.monotonic() - 3600)
        assert collect(connection, 1) == [ACKED]
        assert not connection.closed


def test_a_peer_that_does_not_read_is_not_flooded_with_heartbeats() -> None:
    """A blocked broker costs neither processor nor memory, and gets every byte in the end."""
    go = threading.Event()
    data = b"".join(raw_frame(3, 1, bytes([i]) * 100_000) for i in range(40))

    def script(client: Peer) -> None:
        assert go.wait(LIMIT)
        assert client.read(len(data)) == data
        client.say(ack(1))
        client.wait_for_end()

    with connected(script) as connection:
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        connection.send(1, data)
        assert connection.backlog > 0
        connection._heart = _Heart(60, time.monotonic() - 31)
        deadline, waits = time.monotonic() + 0.3, 0
        while (left := deadline - time.monotonic()) > 0:
            assert connection.wait(left) == []
            waits += 1
        assert waits < 50  # the kernel may take a little more now and then
        assert 0 < connection.backlog < len(data)
        assert len(connection._out) == 1
        go.set()
        assert collect(connection, 1) == [ACKED]
        assert connection.backlog == 0


def test_the_heart_knows_when_it_is_due() -> None:
    """Half an interval after the last byte out, two after the last one in; 0 for never."""
    heart = _Heart(10, 100.0)
    assert not heart.due(104.9)
    assert heart.due(105.0)
    assert heart.next(100.0) == 105.0
    heart.sent(119.0)
    assert not heart.due(120.0)
    assert not heart.dead(119.9)
    assert heart.dead(120.0)
    assert heart.next(119.0) == 120.0
    heart.received(120.0)
    assert not heart.dead(139.0)
    assert heart.next(120.0) == 124.0
    off = _Heart(0, 100.0)
    assert not off.due(1e9)
    assert not off.dead(1e9)
    assert off.next(100.0) > 1000


# --- requests and events ------------------------------------------------------------------------


def test_a_call_keeps_the_events_that_come_before_its_answer() -> None:
    """They come from the next wait, in their order."""

    def script(client: Peer) -> None:
        client.expect(commands.Queue.Declare)
        client.say(
            ack(1),
            frame(commands.Connection.Blocked("disk")),
            frame(commands.Queue.DeclareOk("q", 3, 1), 1),
            ack(2),
        )
        client.wait_for_end()

    with connected(script) as connection:
        answer = connection.call(1, commands.Queue.Declare(queue="q", passive=True))
        assert (answer.message_count, answer.consumer_count) == (3, 1)
        assert collect(connection, 3) == [ACKED, Blocked("disk"), Confirms(1, False, 0, [2])]


def test_a_request_without_an_answer_is_overdue() -> None:
    """With a deadline of its own; the connection is still there."""
    with connected(Peer.wait_for_end) as connection:
        with pytest.raises(Overdue, match=r"Queue\.Declare"):
            connection.call(1, commands.Queue.Declare(queue="q"), timeout=0.05)
        assert not connection.closed


def test_a_refusal_ends_its_channel_and_not_the_connection() -> None:
    """The call raises what the broker said; another channel can be opened."""

    def script(client: Peer) -> None:
        client.expect(commands.Queue.Declare)
        client.say(frame(commands.Channel.Close(404, "NOT_FOUND - no queue 'q'\x1b", 50, 10), 1))
        client.expect(commands.Channel.CloseOk)
        client.open_channel(1)
        client.say(ack(1))
        client.wait_for_end()

    with connected(script) as connection:
        with pytest.raises(NotFound, match="no queue 'q'") as caught:
            connection.call(1, commands.Queue.Declare(queue="q", passive=True))
        assert caught.value.code == 404
        assert "\x1b" not in str(caught.value)
        assert connection.open_channel() == 1
        assert collect(connection, 1) == [ACKED]


def test_a_channel_that_ends_by_itself_raises_after_its_events() -> None:
    """A publish to an exchange that is not there: first the confirm, then the error."""

    def script(client: Peer) -> None:
        client.say(ack(1), frame(commands.Channel.Close(404, "no exchange", 60, 40), 1))
        client.expect(commands.Channel.CloseOk)
        client.open_channel(1)
        client.wait_for_end()

    with connected(script) as connection:
        assert connection.wait(LIMIT) == [ACKED]
        with pytest.raises(NotFound):
            connection.wait(LIMIT)
        assert connection.wait(0) == []
        assert connection.open_channel() == 1


# --- how it ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "kind", "says"),
    [
        (b"", ConnectionLost, "broke"),
        (close(320, "CONNECTION_FORCED - shutdown"), ConnectionLost, "shutdown"),
        (close(541, "INTERNAL_ERROR - transient queues"), ConnectionClosed, "transient queues"),
        (b"\x09garbage" * 4, RemoteProtocolError, "frame"),
        (frame(commands.Basic.CancelOk("x"), 1), RemoteProtocolError, "answers nothing"),
    ],
)
def test_events_before_the_end_are_handed_out_before_the_error(
    ending: bytes, kind: type[Exception], says: str
) -> None:
    """A confirm that arrived is never lost, whatever came in the same breath."""
    with connected(lambda client: client.say(ack(1) + ending)) as connection:
        assert connection.wait(LIMIT) == [ACKED]
        events, error = until_raised(connection, kind)
        assert events == []
        assert says in str(error)
        assert connection.closed
        with pytest.raises(kind):
            connection.wait(0)


@pytest.mark.parametrize("attempt", ["send", "tell", "call"])
def test_whoever_sends_after_the_broker_closed_is_told_why(attempt: str) -> None:
    """A confirm and the close in one breath: the next request finds the broker's reason."""
    ending = close(320, "CONNECTION_FORCED - shutdown")
    with connected(lambda client: client.say(ack(1) + ending)) as connection:
        assert connection.wait(LIMIT) == [ACKED]
        assert connection.closed
        with pytest.raises(ConnectionLost, match="shutdown"):
            if attempt == "send":
                connection.send(1, b"")
            elif attempt == "tell":
                connection.tell(1, commands.Basic.Ack(1))
            else:
                connection.call(1, commands.Queue.Declare(queue="q"))


def test_what_a_broker_said_before_it_hung_up_is_read_after_a_failed_write() -> None:
    """The last confirm and the reason, although the socket is broken already."""
    gone = threading.Event()

    def script(client: Peer) -> None:
        client.say(ack(1), close(541, "INTERNAL_ERROR"))
        client.socket.close()
        gone.set()

    with connected(script) as connection:
        assert gone.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while not connection.closed and time.monotonic() < deadline:
            connection.send(1, b"x" * 1000)
        events, error = until_raised(connection, ConnectionClosed)
        assert events == [ACKED]
        assert isinstance(error, ConnectionClosed)
        assert error.code == 541


def test_a_call_on_a_connection_that_ends_raises_its_end() -> None:
    """Not Overdue, and at once."""

    def script(client: Peer) -> None:
        client.expect(commands.Queue.Declare)
        client.say(close(541, "INTERNAL_ERROR"))
        client.wait_for_end()

    with connected(script) as connection:
        with pytest.raises(ConnectionClosed) as caught:
            connection.call(1, commands.Queue.Declare(queue="q"))
        assert caught.value.code == 541


def test_closing_waits_until_all_that_was_sent_has_arrived() -> None:
    """The backlog goes out before the goodbye."""
    data = raw_frame(3, 1, b"x" * 100_000) * 100

    def script(client: Peer) -> None:
        assert client.read(len(data)) == data
        client.expect(commands.Connection.Close)
        client.say(ack(1), frame(commands.Connection.CloseOk()))

    with connected(script) as connection:
        connection.send(1, data)
        connection.close(LIMIT)
        assert connection.closed
        with pytest.raises(ConnectionLost, match="closed"):
            connection.wait(0)


def test_closing_gives_up_on_a_peer_that_does_not_answer() -> None:
    """After its time-out, without an error; twice is as good as once."""
    with connected(Peer.wait_for_end) as connection:
        began = time.monotonic()
        connection.close(0.1)
        connection.close(0.1)
        assert time.monotonic() - began < LIMIT / 2
        assert connection.closed


def test_what_comes_fast_is_gathered_and_what_comes_last_is_not_kept() -> None:
    """An answer that comes alone, too small to be announced, is read all the same."""
    many = 100_000

    def script(client: Peer) -> None:
        client.say(b"".join(ack(tag) for tag in range(1, many + 1)))
        for tag in (many + 1, many + 2):
            client.read(1)
            client.say(ack(tag))
        client.wait_for_end()

    with connected(script) as connection:
        connection.gather(8 * 1024)
        seen: list[int] = []
        while len(seen) < many:
            seen += collect(connection, 1)[0].singles
        for _ in range(2):
            connection.send(1, b"x")
            seen += collect(connection, 1)[0].singles
    assert seen == list(range(1, many + 3))


def test_a_socket_that_was_given_away_is_the_new_owners() -> None:
    """It does not wait by itself; the connection is closed and does not close it."""

    def script(client: Peer) -> None:
        assert client.read(5) == b"hello"
        client.say(b"bytes")
        client.wait_for_end()

    with connected(script) as connection:
        taken = connection.detach()
        assert connection.closed
        with taken:
            assert taken.gettimeout() == 0
            taken.settimeout(LIMIT)
            taken.sendall(b"hello")
            assert taken.recv(100) == b"bytes"
        with pytest.raises(ConnectionLost, match="given away"):
            connection.wait(0)
