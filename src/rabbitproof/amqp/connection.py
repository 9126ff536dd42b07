"""One blocking connection to a broker: the only protocol file that owns a socket.

``open_connection`` makes one. ``call`` sends a request and waits for its answer; ``send`` hands
over a buffer of publishes or acknowledgements; ``wait`` lets a moment pass: it writes what the
kernel takes, reads what is there, keeps the heartbeats of both sides, and returns events.
Writing and reading are watched together, so confirms never wait behind a full send buffer.

Rules: every wait has a deadline. An ended channel or connection becomes an exception, but only
after all events that came before it were handed out: a confirm that arrived is never lost.
Refuses to know which frame is legal (``session``) and what a message means (``proof``).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

from rabbitproof.amqp.gather import LONGEST_S, Gather
from rabbitproof.amqp.session import (
    ChannelEnded,
    ConnectionEnded,
    Login,
    Opened,
    Replied,
    Session,
    State,
)
from rabbitproof.errors import (
    AccessRefused,
    BrokerUnreachable,
    ChannelClosed,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    LoginRefused,
    NotFound,
    Overdue,
    PreconditionFailed,
    ProtocolError,
    RabbitproofError,
    ResourceLocked,
)
from rabbitproof.text import safe
from rabbitproof.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pamqp.base import Frame

    from rabbitproof.address import Address
    from rabbitproof.amqp.session import Event

READ_SIZE: Final = 1 << 20
"""Bytes asked for at once: enough for thousands of small deliveries to be parsed together."""

CONNECT_TIMEOUT: Final = 10.0
CALL_TIMEOUT: Final = 60.0
"""Seconds. A busy broker answers a declare or purge late but within seconds."""
CLOSE_TIMEOUT: Final = 5.0

_CHANNEL_ERRORS: Final[dict[int, type[ChannelClosed]]] = {
    403: AccessRefused,
    404: NotFound,
    405: ResourceLocked,
    406: PreconditionFailed,
}
_CONNECTION_FORCED: Final = 320  # an operator or a shutdown; worth a reconnect


def open_connection(
    addresses: Sequence[Address],
    name: str,
    *,
    timeout: float = CONNECT_TIMEOUT,
    heartbeat: int = 60,
) -> Connection:
    """Connect to the first of these addresses that lets us in.

    ``name`` is shown by the broker as the connection's name. ``timeout`` is seconds for each
    address, ``heartbeat`` seconds at most (the broker may ask for less; 0 for none). Raises
    BrokerUnreachable, LoginRefused, ConnectionFailed or ProtocolError: the last address's.
    """
    failure: RabbitproofError | None = None
    for address in addresses:
        try:
            return Connection(address, name, timeout=timeout, heartbeat=heartbeat)
        except (ConnectionFailed, ProtocolError) as error:
            failure = error
    raise failure or BrokerUnreachable("No address was given; name one with --url.")


class Connection:
    """One open AMQP connection. Use it as a context manager, or close it."""

    def __init__(self, address: Address, name: str, *, timeout: float, heartbeat: int) -> None:
        self.address = address
        self.patience = CALL_TIMEOUT
        """Seconds for the answer to a request, unless ``call`` is told otherwise."""
        self.where = f"{safe(address.host)}:{address.port}"
        """Host and port, safe to show."""
        self._events: deque[Event] = deque()
        self._failure: RabbitproofError | None = None
        """What ended the connection."""
        self._refusals: deque[tuple[int, ChannelClosed]] = deque()
        """Channels that the broker closed; the connection goes on."""
        self._out: deque[memoryview] = deque()
        self.backlog = 0
        """Bytes handed over that the kernel has not taken yet."""
        self._session = Session(
            Login(address.username, address.password, address.vhost, name, heartbeat)
        )
        deadline = time.monotonic() + timeout
        self._socket = _connect(address, self.where, timeout)
        self._selector = selectors.DefaultSelector()
        self._socket.settimeout(0)  # never waits by itself; `select` does
        self._mask = selectors.EVENT_READ
        self._selector.register(self._socket, self._mask)
        self._heart = _Heart(0, time.monotonic())
        self._gather: Gather | None = None
        self._gathering = False
        """Whether the kernel has been asked to announce no less than ``_gather.least`` bytes."""
        self._waker: tuple[socket.socket, socket.socket] | None = None
        try:
            self._open(deadline)
        except BaseException:
            self._drop()
            raise

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker says of itself: product, version, platform, capabilities."""
        return dict(self._session.server_properties)

    @property
    def channel_max(self) -> int:
        """Channels that the broker allows on this connection at once."""
        return self._session.channel_max

    @property
    def frame_max(self) -> int:
        """Bytes that one frame may have, as agreed with the broker."""
        return self._session.frame_max

    @property
    def closed(self) -> bool:
        """True once nothing can be sent or received any more."""
        return self._session.state is State.CLOSED or self._failure is not None

    # --- requests ---

    def open_channel(self) -> int:
        """Open a channel and return its number."""
        channel = self._session.open_channel()
        self._answer(channel, "Channel.Open", self.patience)
        return channel

    def deliver_whole(self) -> None:
        """From now on, return every message as a Delivery with all of its properties.

        For those who keep or copy messages; slower than reading them in batches.
        """
        self._session.deliver_whole()

    def gather(self, least: int) -> None:
        """From now on, let ``least`` bytes come together while there is much to read.

        Saves most of the cost of reading. Ask for less than what the broker sends before it
        waits for an answer of ours. Where the system can't do it, nothing changes.
        """
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        except OSError:  # Windows
            return
        self._gather = Gather(least)

    def keep_heads(self) -> None:
        """From now on, hand on all of a delivery, its frames before the body as well."""
        self._session.keep_heads()

    def waker(self) -> Callable[[], None]:
        """Return what another thread may call to end a ``wait`` at once; harmless at any time."""
        if self._waker is None:
            near, far = socket.socketpair()
            near.settimeout(0)
            far.settimeout(0)
            self._selector.register(near, selectors.EVENT_READ)
            self._waker = (near, far)
        far = self._waker[1]

        def wake() -> None:
            with contextlib.suppress(OSError):  # closed, or woken more often than it looked
                far.send(b"\0")

        return wake

    def call(self, channel: int, method: Frame, timeout: float | None = None) -> Any:
        """Send a synchronous method and return the broker's answer, a pamqp frame.

        ``timeout`` is seconds, ``patience`` when it is None.

        Events that come meanwhile are kept for ``wait``. Raises the subclass of ChannelClosed
        or ConnectionClosed that the broker's refusal is, ConnectionLost, or Overdue.
        """
        self._refuse_when_closed(channel)
        self._session.request(channel, method)
        return self._answer(channel, method.name, self.patience if timeout is None else timeout)

    def tell(self, channel: int, method: Frame) -> None:
        """Send a method that has no answer, such as an acknowledgement."""
        self._refuse_when_closed(channel)
        self._session.request(channel, method)
        self._flush()

    def send(self, channel: int, data: bytes) -> None:
        """Hand over encoded publishes. What the kernel does not take now goes out in ``wait``."""
        self._refuse_when_closed(channel)
        self._session.check_publishing(channel)
        self._enqueue(data)
        self._flush()

    def wait(self, timeout: float) -> list[Event]:
        """Let at most ``timeout`` seconds pass and return what happened, perhaps nothing.

        Returns at once when there are events, or when the kernel took bytes of the backlog.
        While bytes are gathered, it may take 2 ms longer.
        """
        if self._events:
            events = list(self._events)
            self._events.clear()
            return events
        if not self._refusals and self._failure is None:
            self._pass_time(timeout)
        events = list(self._events)
        self._events.clear()
        if not events and self._refusals:
            raise self._refusals.popleft()[1]
        if not events and self._failure is not None:
            raise self._failure
        return events

    def look_ahead(self, timeout: float) -> bool:
        """Say whether ``wait`` has something to return, waiting for it if necessary."""
        if not self._events and not self._refusals and self._failure is None:
            self._pass_time(timeout)
        return bool(self._events) or bool(self._refusals) or self._failure is not None

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Say goodbye and wait for the answer, so that all that was sent has arrived."""
        try:
            if self._session.state is State.OPEN and self._failure is None:
                deadline = time.monotonic() + timeout
                self._session.close()
                while not self.closed and (left := deadline - time.monotonic()) > 0:
                    self._pass_time(left)
        except RabbitproofError:
            pass  # it is closed, which is all that was wanted
        finally:
            self._drop()

    def abandon(self) -> None:
        """Close the socket without a word. Unacknowledged deliveries return to their queues."""
        self._drop()

    def detach(self) -> socket.socket:
        """Give away the socket, not blocking, and be closed: for measuring the bare wire.

        Call it when nothing is under way; heartbeats are the new owner's business.
        """
        self._selector.close()
        self._failure = ConnectionLost("The connection was given away; open a new one.")
        return self._socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the inside ---

    def _open(self, deadline: float) -> None:
        """Carry out the handshake."""
        self._flush()
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Opened):
                    self._heart = _Heart(event.heartbeat, time.monotonic())
                    return
            if self._failure is not None:
                raise self._refusal(self._failure)
            left = deadline - time.monotonic()
            if left <= 0:
                raise BrokerUnreachable(
                    f"{self.where} accepts connections but does not answer in AMQP; check that "
                    "RabbitMQ is healthy there (amqps:// when it expects TLS)."
                )
            self._pass_time(left)

    def _refusal(self, failure: RabbitproofError) -> RabbitproofError:
        """Say what an end during the handshake means."""
        state, address = self._session.state, self.address
        if isinstance(failure, ConnectionClosed):
            user, vhost = safe(address.username), safe(address.vhost)
            if failure.code == 403:
                return LoginRefused(
                    f"The broker at {self.where} refused the login of user '{user}' "
                    f"({failure.reply}); check --username and --password-file, or the login in "
                    "--url. The user 'guest' may log in from the broker's own machine only."
                )
            if failure.code in (402, 530):
                return LoginRefused(
                    f"The broker at {self.where} does not let user '{user}' into vhost "
                    f"'{vhost}' ({failure.reply}); check --vhost, and the user's permissions "
                    "with `rabbitmqctl list_permissions`."
                )
            return ConnectionFailed(
                f"The broker at {self.where} refused the connection ({failure.code} "
                f"{failure.reply}); its log says more."
            )
        if isinstance(failure, ConnectionLost):
            if state is not State.START:
                hint = "its log says why"
            elif address.tls is None:
                hint = (
                    "check that the port is RabbitMQ's for AMQP, and use amqps:// if it expects TLS"
                )
            else:
                hint = "check --cert-file and --key-file if it asks for a client's certificate"
            return BrokerUnreachable(f"{self.where} ended the connection during the login; {hint}.")
        return failure

    def _answer(self, channel: int, asked: str, timeout: float) -> Any:
        """Wait for the answer to the request just made; keep other events in their order."""
        deadline = time.monotonic() + timeout
        kept: list[Event] = []
        try:
            while True:
                self._flush()
                while self._events:
                    event = self._events.popleft()
                    if isinstance(event, Replied) and event.channel == channel:
                        return event.frame
                    kept.append(event)
                for refusal in self._refusals:
                    if refusal[0] == channel:
                        self._refusals.remove(refusal)
                        raise refusal[1]
                if self._failure is not None:
                    raise self._failure
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Overdue(
                        f"The broker at {self.where} did not answer {asked} within "
                        f"{timeout:.0f} s; look at its log and its alarms, then try again."
                    )
                self._pass_time(left)
        finally:
            self._events.extendleft(reversed(kept))

    def _pass_time(self, timeout: float) -> None:
        """Write, read and keep the heartbeats until something happens or time is up."""
        now = time.monotonic()
        if self._heart.due(now):
            if not self._out:  # what waits for the kernel is a sign of life as well
                self._session.heartbeat()
            self._heart.sent(now)
        self._flush()
        if self._failure is not None:
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if mask != self._mask:
            self._selector.modify(self._socket, mask)
            self._mask = mask
        # TLS may hold bytes that are decrypted already: the kernel will not announce those.
        hidden = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        wait = 0.0 if hidden else max(0.0, min(timeout, self._heart.next(now) - now))
        gather = None if hidden else self._gather
        if gather is not None:
            wait = self._before(gather, wait)
        found = self._selector.select(wait)
        readable = hidden
        for key, ready in found:
            if key.fileobj is not self._socket:
                self._slept_enough()
                continue
            if ready & selectors.EVENT_WRITE:
                self._flush()
            readable = readable or bool(ready & selectors.EVENT_READ)
        if gather is not None and gather.active and not found:
            readable = True  # there may be some bytes all the same, fewer than asked for
        if readable and self._failure is None:
            self._read()
        # Only now: after a long pause of our own, what the peer sent is still to be read.
        if self._heart.dead(time.monotonic()):
            self._lose(
                f"The broker at {self.where} sent nothing for {2 * self._heart.interval} s "
                "(missed heartbeats); check it and the network in between."
            )

    def _slept_enough(self) -> None:
        """Forget how often we were woken."""
        if self._waker is not None:
            with contextlib.suppress(OSError):
                self._waker[0].recv(READ_SIZE)

    def _before(self, gather: Gather, wait: float) -> float:
        """Ask the kernel for more or fewer bytes at once; return how long to wait for them."""
        if gather.active != self._gathering:
            self._gathering = gather.active
            least = gather.least if gather.active else 1
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        return LONGEST_S if gather.active else wait

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self._gather is not None:
                self._gather.read(0, time.monotonic())
            return
        except OSError as error:
            self._lose(_lost(self.where, error))
            return
        if not data:
            self._lose(_lost(self.where, None))
            return
        now = time.monotonic()
        self._heart.received(now)
        if self._gather is not None:
            self._gather.read(len(data), now)
        try:
            self._take(self._session.receive(data))
        except ProtocolError as error:
            self._failure = error
            return
        if self._session.error is not None:
            self._failure = self._session.error
            return
        self._flush()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ChannelEnded):
                kind = _CHANNEL_ERRORS.get(event.code, ChannelClosed)
                reason = safe(event.reason, 500)
                error = kind(f"The broker refused: {reason}.", code=event.code, reply=reason)
                self._refusals.append((event.channel, error))
            elif isinstance(event, ConnectionEnded):
                self._ended(event)
            else:
                self._events.append(event)

    def _ended(self, event: ConnectionEnded) -> None:
        self._enqueue(b"")
        if len(self._out) == 1:  # close-ok; it can't overtake a backlog
            with contextlib.suppress(OSError):
                self._socket.send(self._out[0])
        reason = safe(event.reason, 500)
        if event.code == _CONNECTION_FORCED:
            self._lose(f"The broker at {self.where} closed the connection ({reason}).")
        elif event.code:
            self._failure = ConnectionClosed(
                f"The broker closed the connection: {reason}.", code=event.code, reply=reason
            )

    def _refuse_when_closed(self, channel: int) -> None:
        """Raise what ended the connection or the channel while nobody asked."""
        if self._failure is not None and self._session.state is State.CLOSED:
            raise self._failure
        for refusal in self._refusals:
            if refusal[0] == channel:
                self._refusals.remove(refusal)
                raise refusal[1]

    def _lose(self, text: str) -> None:
        if self._failure is None:
            self._failure = ConnectionLost(text)

    def _enqueue(self, data: bytes) -> None:
        if waiting := self._session.data_to_send():
            self._out.append(memoryview(waiting))
            self.backlog += len(waiting)
        if data:
            self._out.append(memoryview(data))
            self.backlog += len(data)

    def _flush(self) -> None:
        """Give the kernel as much as it takes now."""
        self._enqueue(b"")
        while self._out and self._failure is None:
            part = self._out[0]
            try:
                count = self._socket.send(part)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                # What the broker said before it hung up is still to be read.
                self._read_last_words()
                self._lose(_lost(self.where, error))
                return
            self._heart.sent(time.monotonic())
            self.backlog -= count
            if count == len(part):
                self._out.popleft()
            else:
                self._out[0] = part[count:]

    def _read_last_words(self) -> None:
        while True:
            try:
                data = self._socket.recv(READ_SIZE)
                if not data:
                    return
                self._take(self._session.receive(data))
            except (OSError, ProtocolError):
                return

    def _drop(self) -> None:
        if self._failure is None:
            self._failure = ConnectionLost("The connection is closed; open a new one.")
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._socket)
        self._selector.close()
        self._socket.close()
        for end in self._waker or ():
            end.close()
        self._out.clear()


class _Heart:
    """When a sign of life is due, in both directions (section 4.2.7).

    One is sent after half an interval without other traffic; the peer is given up after two
    intervals of silence.
    """

    __slots__ = ("_last_received", "_last_sent", "interval")

    def __init__(self, interval: int, now: float) -> None:
        self.interval = interval
        self._last_sent = self._last_received = now

    def sent(self, now: float) -> None:
        self._last_sent = now

    def received(self, now: float) -> None:
        self._last_received = now

    def due(self, now: float) -> bool:
        return bool(self.interval) and now - self._last_sent >= self.interval / 2

    def dead(self, now: float) -> bool:
        return bool(self.interval) and now - self._last_received >= 2 * self.interval

    def next(self, now: float) -> float:
        """Return the time at which something has to be looked at again."""
        if not self.interval:
            return now + 3600.0
        return min(self._last_sent + self.interval / 2, self._last_received + 2 * self.interval)


def _lost(where: str, error: OSError | None) -> str:
    why = f" ({error.strerror or error})" if error else ""
    return f"The connection to {where} broke{why}; check that the broker still runs."


def _connect(address: Address, where: str, timeout: float) -> socket.socket:
    try:
        raw = socket.create_connection((address.host, address.port), timeout)
    except socket.gaierror as error:
        raise BrokerUnreachable(
            f"There is no host named '{safe(address.host)}' ({error.strerror}); "
            "check --host or --url."
        ) from None
    except (OSError, UnicodeError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", error)
        raise BrokerUnreachable(
            f"No RabbitMQ answers at {where} ({why}); start one with "
            "`rabbitproof broker up`, or name another with --host, --port or --url."
        ) from None
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.tls is None:
        return raw
    try:
        return client_context(address.tls).wrap_socket(raw, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        raw.close()
        raise ConnectionFailed(
            f"The certificate of {where} is not trusted ({error.verify_message}); name the "
            "authority that signed it with --ca-file."
        ) from None
    except (ssl.SSLError, OSError) as error:
        raw.close()
        why = getattr(error, "reason", None) or error
        raise ConnectionFailed(
            f"No TLS connection to {where} could be made ({why}); check that the port expects "
            "TLS (5671 by default), and --cert-file and --key-file if it asks for them."
        ) from None
    except BaseException:
        raw.close()
        raise
