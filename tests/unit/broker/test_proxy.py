"""The proxy between plain sockets: what passes, what breaks, and what it says of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import trustme
from pamqp import commands, frame

from rabbitproof.broker import ports
from rabbitproof.broker.proxy import Proxy
from rabbitproof.errors import NodeFailed, UsageError
from support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 10.0
MOMENT_S = 0.1
"""For which nothing may arrive where nothing passes; it takes less than a millisecond otherwise."""

ACK = frame.marshal(commands.Basic.Ack(7, multiple=True), 1)
FLOW = frame.marshal(commands.Channel.Flow(active=True), 1)


class Way:
    """A proxy with a server behind it, and the connections through it."""

    def __init__(self, proxy: Proxy, server: socket.socket, stack: contextlib.ExitStack) -> None:
        self.proxy, self.server, self._stack = proxy, server, stack

    def call(self) -> socket.socket:
        caller = socket.create_connection(("127.0.0.1", self.proxy.ports[0]), DEADLINE_S)
        return self._stack.enter_context(caller)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        caller = self.call()
        called, _ = self.server.accept()
        called.settimeout(DEADLINE_S)
        return caller, self._stack.enter_context(called)


@pytest.fixture
def way() -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(DEADLINE_S)
        proxy = stack.enter_context(Proxy.start([server.getsockname()]))
        yield Way(proxy, server, stack)


def exactly(end: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        data = end.recv(count - len(got))
        assert data, f"it ended after {len(got)} of {count} bytes"
        got += data
    return got


def is_silent(end: socket.socket) -> bool:
    end.settimeout(MOMENT_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(DEADLINE_S)
    return False


def is_reset(end: socket.socket) -> bool:
    try:
        end.recv(1)
    except ConnectionResetError:
        return True
    return False


def is_refused(port: int) -> bool:
    """A new connection is reset, at the latest when something is read from it."""
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as caller:
            return is_reset(caller)
    except ConnectionResetError:
        return True


def test_bytes_pass_in_both_directions_and_are_counted(way: Way) -> None:
    caller, called = way.connect()
    caller.sendall(b"question")
    assert exactly(called, 8) == b"question"
    called.sendall(b"an answer")
    assert exactly(caller, 9) == b"an answer"
    told = way.proxy.told()
    assert (told.open, told.accepted, told.to_broker, told.to_client) == (1, 1, 8, 9)
    assert told.dropped == 0


def test_an_end_passes_after_what_came_before_it(way: Way) -> None:
    """Half-closed stays half-open for the answer, and a reset arrives as a reset."""
    caller, called = way.connect()
    caller.sendall(b"all of it")
    caller.shutdown(socket.SHUT_WR)
    assert exactly(called, 9) == b"all of it"
    assert called.recv(1) == b""
    called.sendall(b"thanks")
    called.close()
    assert exactly(caller, 6) == b"thanks"
    assert caller.recv(1) == b""
    eventually(lambda: way.proxy.told().open == 0, "the connection is forgotten")

    caller, called = way.connect()
    called.sendall(b"last words")
    called.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    called.close()
    assert exactly(caller, 10) == b"last words"
    assert is_reset(caller)
    eventually(lambda: way.proxy.told().open == 0, "the connection is forgotten")


def test_a_cut_resets_everybody_until_it_is_healed(way: Way) -> None:
    caller, called = way.connect()
    caller.sendall(b"x")
    assert exactly(called, 1) == b"x"
    told = way.proxy.cut()
    assert (told.open, told.cut) == (0, 1)
    assert is_reset(caller)
    assert is_reset(called)
    assert is_refused(way.proxy.ports[0])
    assert way.proxy.told().refused == 1
    way.proxy.heal()
    caller, called = way.connect()
    caller.sendall(b"again")
    assert exactly(called, 5) == b"again"


def test_half_open_is_silence_and_then_a_reset(way: Way) -> None:
    """Nobody hears anything, not even that the other side ended; an idle connection survives."""
    talking, idle, ending = way.connect(), way.connect(), way.connect()
    for caller, called in (talking, idle, ending):
        caller.sendall(b"x")  # else it may still be about to be connected on
        assert exactly(called, 1) == b"x"
    told = way.proxy.half_open()
    assert (told.open, told.silenced) == (3, 3)
    talking[0].sendall(b"lost")
    talking[1].sendall(b"lost too")
    ending[1].close()
    late = way.call()
    late.sendall(b"hello?")
    for end in (*talking, *idle, ending[0], late):
        assert is_silent(end)
    with pytest.raises(TimeoutError):
        way.server.settimeout(MOMENT_S)
        way.server.accept()
    told = eventually(
        lambda: (now := way.proxy.told()).dropped == 18 and now, "all of it was dropped"
    )
    assert (told.silenced, told.held) == (4, 0)
    told = way.proxy.heal()
    assert (told.torn, told.open) == (3, 1)
    for end in (*talking, ending[0], late):
        assert is_reset(end)
    idle[0].sendall(b"still here")
    assert exactly(idle[1], 10) == b"still here"


def test_half_open_drops_what_was_on_its_way(way: Way) -> None:
    """A byte that a delay keeps is gone as well, and its connection is reset later."""
    caller, called = way.connect()
    way.proxy.delay(30)
    caller.sendall(b"late")
    eventually(lambda: way.proxy.told().held == 4, "it is on its way")
    assert way.proxy.half_open().dropped == 4
    assert way.proxy.heal().torn == 1
    assert is_reset(called)


def test_confirms_are_swallowed_and_nothing_else(way: Way) -> None:
    caller, called = way.connect()
    called.sendall(ACK)
    assert exactly(caller, len(ACK)) == ACK
    way.proxy.swallow_confirms()
    called.sendall(ACK[:10])
    assert is_silent(caller)
    called.sendall(ACK[10:] + FLOW + ACK)
    assert exactly(caller, len(FLOW)) == FLOW
    assert is_silent(caller)
    told = way.proxy.heal()
    assert (told.acks, told.nacks, told.highest_tag) == (2, 0, 7)
    called.sendall(ACK)
    assert exactly(caller, len(ACK)) == ACK
    caller.sendall(ACK)  # a consumer's acknowledgement
    assert exactly(called, len(ACK)) == ACK


def test_what_is_no_amqp_passes_and_is_said(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.swallow_confirms()
    called.sendall(b"HTTP/1.1 200 OK" + ACK)
    assert exactly(caller, 36) == b"HTTP/1.1 200 OK" + ACK
    told = way.proxy.told()
    assert (told.unread, told.why_unread, told.acks) == (1, "these are no frames", 0)


def test_tls_passes_unread_and_breaks_all_the_same(way: Way) -> None:
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    way.proxy.swallow_confirms()
    caller, called = way.connect()

    def serve() -> None:
        with theirs.wrap_socket(called, server_side=True) as server:
            server.sendall(ACK)
            is_reset(server)  # waits for it; Python's ssl may call it an end

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    with ours.wrap_socket(caller, server_hostname="localhost") as safe:
        assert exactly(safe, len(ACK)) == ACK
        told = way.proxy.cut()
        assert (told.unread, told.acks, told.cut) == (1, 0, 1)
        is_reset(safe)
    serving.join(DEADLINE_S)
    assert not serving.is_alive()


def test_the_beginning_of_a_frame_is_not_kept_for_ever(way: Way) -> None:
    """What was held back as the start of a frame leaves when its sender ends."""
    caller, called = way.connect()
    called.sendall(FLOW[:5])
    called.close()
    assert exactly(caller, 5) == FLOW[:5]
    assert caller.recv(1) == b""


def test_a_delay_is_added_in_each_direction(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.delay(0.3)
    began = time.monotonic()
    for piece in (b"one ", b"two"):
        caller.sendall(piece)
    assert exactly(called, 7) == b"one two"
    assert time.monotonic() - began >= 0.3
    called.sendall(b"back")
    called.close()
    assert exactly(caller, 4) == b"back"
    assert caller.recv(1) == b""
    assert time.monotonic() - began >= 0.6
    told = way.proxy.heal()
    assert told.delayed == 11
    assert 0.3 <= told.longest_delay < 1


def test_healed_what_was_late_arrives_in_its_order(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.delay(30)
    for number in range(50):
        caller.sendall(b"%02d" % number)
    eventually(lambda: way.proxy.told().held == 100, "all of it is on its way")
    assert way.proxy.heal().held == 0
    caller.sendall(b"50")
    assert exactly(called, 102) == b"".join(b"%02d" % number for number in range(51))


def test_a_shorter_delay_lets_nothing_overtake(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.delay(0.3)
    caller.sendall(b"first ")
    eventually(lambda: way.proxy.told().held == 6, "it is on its way")
    way.proxy.delay(0)
    caller.sendall(b"second")
    assert exactly(called, 12) == b"first second"


def test_a_throttle_slows_down_and_loses_nothing(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.throttle(100_000)
    data = os.urandom(50_000)
    began = time.monotonic()
    caller.sendall(data)
    assert exactly(called, len(data)) == data
    took = time.monotonic() - began
    assert 0.4 < took < 5
    caller.sendall(data)
    told = way.proxy.heal()
    assert 50_000 <= told.throttled < 100_000
    began = time.monotonic()
    assert exactly(called, len(data)) == data
    assert time.monotonic() - began < 0.4


@pytest.mark.parametrize("fault", ["nothing", "delay"])
def test_a_side_that_takes_nothing_does_not_fill_the_memory(way: Way, fault: str) -> None:
    """The proxy takes a bounded part of it; the sender waits, and in the end all has come."""
    caller, called = way.connect()
    if fault == "delay":
        way.proxy.delay(60)
    total = 100 << 20
    piece = os.urandom(1 << 20)
    sending = threading.Thread(
        target=lambda: [caller.sendall(piece) for _ in range(total >> 20)], daemon=True
    )
    caller.settimeout(60)
    sending.start()

    def stuck() -> bool:
        before = way.proxy.told().to_broker
        time.sleep(MOMENT_S)  # while nothing may pass any more
        return way.proxy.told().to_broker == before > 0

    eventually(stuck, "the sender waits")
    told = way.proxy.told()
    assert told.held < 20 << 20
    assert psutil.Process(way.proxy._process.pid).memory_info().rss < 100 << 20
    way.proxy.heal()
    got = 0
    while got < total:
        got += len(called.recv(1 << 20))
    sending.join(DEADLINE_S)
    assert way.proxy.told().to_broker == got == total


def test_a_target_that_refuses_is_a_closed_connection() -> None:
    with Proxy.start([("127.0.0.1", ports.any_free())]) as proxy:
        assert is_refused(proxy.ports[0])
        assert proxy.told().unreachable == 1
        assert proxy.told().open == 0


def test_a_name_leads_to_whichever_of_its_addresses_listens() -> None:
    """``localhost`` is two addresses on many machines, and a server often listens on one."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Proxy.start([("localhost", server.getsockname()[1])]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.ports[0]), DEADLINE_S) as caller,
    ):
        caller.sendall(b"hello")
        server.settimeout(DEADLINE_S)
        with server.accept()[0] as called:
            called.settimeout(DEADLINE_S)
            assert exactly(called, 5) == b"hello"


def test_targets_are_broken_one_by_one() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        proxy = stack.enter_context(Proxy.start([one.getsockname() for one in servers]))
        callers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
            for port in proxy.ports
        ]
        eventually(lambda: proxy.told().open == 2, "both are connected")
        assert proxy.cut([2]).cut == 1
        assert proxy.told([1]).open == 1
        assert is_reset(callers[1])
        assert is_silent(callers[0])


@pytest.mark.parametrize("targets", [[], [0], [1, 2]])
def test_targets_that_do_not_exist_are_refused(way: Way, targets: list[int]) -> None:
    with pytest.raises(UsageError, match="targets 1 to 1"):
        way.proxy.cut(targets)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_rates_and_delays_that_mean_nothing_are_refused(way: Way, rate: float) -> None:
    with pytest.raises(UsageError, match="at least 1 byte"):
        way.proxy.throttle(rate)
    if rate != 0:
        with pytest.raises(UsageError, match="0 to 3600"):
            way.proxy.delay(rate)


def test_a_name_that_nobody_knows_is_said() -> None:
    with pytest.raises(NodeFailed, match="check the addresses"):
        Proxy.start([("no-such-host.invalid", 5672)])


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be stopped here")
def test_an_answer_that_comes_too_late_is_not_that_to_another_order(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every figure from then on would be that of the order before."""
    monkeypatch.setattr("rabbitproof.broker.script._ORDER_S", MOMENT_S)
    pid = way.proxy._process.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(NodeFailed, match="does not answer"):
        way.proxy.told()
    os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr("rabbitproof.broker.script._ORDER_S", DEADLINE_S)
    way.connect()
    assert (way.proxy.told().cut, way.proxy.cut().cut, way.proxy.heal().cut) == (0, 1, 1)


def test_a_proxy_that_is_gone_says_so_at_once(way: Way) -> None:
    way.proxy._process.kill()
    with pytest.raises(NodeFailed, match=r"The proxy does not answer"):
        way.proxy.told()


def test_a_proxy_that_is_closed_ends_by_itself(way: Way) -> None:
    caller, called = way.connect()
    way.proxy.close()
    assert way.proxy._process.returncode == 0, "it was not killed for being late"
    assert ports.is_free(way.proxy.ports[0])
    for end in (caller, called):
        with contextlib.suppress(ConnectionResetError):
            assert end.recv(1) == b""


OWNER = """
import os, sys
from rabbitproof.broker.proxy import Proxy
proxy = Proxy.start([("127.0.0.1", 1)])
if sys.argv[1] == "a fork lives on" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(proxy.ports[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals and forks")
@pytest.mark.parametrize("how", ["return", "kill -9", "a fork lives on"])
def test_a_proxy_ends_with_its_owner(how: str) -> None:
    """However the owner ended, and whoever holds its files then: no process, no port."""
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OWNER, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        port = int(owner.stdout.readline())
        (proxy,) = (
            child for child in psutil.Process(owner.pid).children() if "-I" in child.cmdline()
        )
        assert not ports.is_free(port)
        if how == "return":
            owner.stdin.close()
        else:
            os.kill(owner.pid, signal.SIGKILL)
        eventually(lambda: not proxy.is_running(), "the proxy is gone")
        assert ports.is_free(port)
