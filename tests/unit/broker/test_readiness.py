from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pamqp.frame
import pytest
from pamqp import commands

from rabbitproof.broker import ports, readiness
from rabbitproof.broker.install import Installation
from rabbitproof.broker.layout import Identity, Layout, Ports
from rabbitproof.broker.readiness import Logs, amqp_version, complaints, has_management, log_tail
from rabbitproof.errors import NodeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator


def start_frame(**properties: str) -> bytes:
    start = commands.Connection.Start(server_properties={"product": "RabbitMQ", **properties})
    return pamqp.frame.marshal(start, 0)


START = start_frame(version="4.0.5")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads something, answers with these bytes and hangs up; yields its port."""

    def serve() -> None:
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(5)
                if not peer.recv(4096):
                    return
                peer.sendall(answer)

    with socket.create_server((ports.LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            socket.create_connection(listener.getsockname()).close()  # who asks nothing ends it
            thread.join()


def layout(amqp: int, management: int, tls: int = 0) -> Layout:
    return Layout(
        Installation(Path("/server"), None, "3.10.8", "installed"),
        Path("/node"),
        Identity("node@localhost", "user", "sesame"),
        Ports(amqp, management, 1, 2, 3, tls),
        "mark",
    )


def wait(place: Layout, *statuses: str | None, seconds: float = 5.0) -> str:
    left = list(statuses)
    return readiness.wait(
        place,
        Logs(()),
        lambda _seconds: left.pop(0) if left else None,
        until=time.monotonic() + seconds,
        deadline_s=seconds,
    )


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (START, "4.0.5"),
        (start_frame(version="4.0.0-beta.1+7"), "4.0.0-beta.1+7"),
        (start_frame(), "unnamed"),
        (b"AMQP\x00\x00\x09\x01", None),  # a broker that speaks another AMQP
        (pamqp.frame.marshal(commands.Connection.Tune(), 0), None),
        (b"HTTP/1.1 400 Bad Request", None),
        (b"", None),
    ],
)
def test_a_broker_is_known_by_its_first_frame(answer: bytes, version: str | None) -> None:
    with answering(answer) as port:
        assert amqp_version(port, unnamed="unnamed") == version


@pytest.mark.parametrize(
    ("answer", "there"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 401 Unauthorized", True),
        (b"HTTP/1.1 503 Service Unavailable", False),
        (b"", False),
    ],
)
def test_the_management_api_is_there_when_it_knows_or_refuses_the_login(
    answer: bytes, there: bool
) -> None:
    with answering(answer) as port:
        assert has_management(port, "user", "sesame") is there


def test_an_open_port_alone_is_too_early() -> None:
    with answering(START) as amqp, answering(b"") as silent:
        for place in (layout(silent, amqp), layout(amqp, silent)):
            with pytest.raises(NodeFailed, match=r"not ready within 0\.2 s and said nothing"):
                wait(place, seconds=0.2)


def test_a_node_that_answers_everywhere_is_ready() -> None:
    with answering(START) as amqp, answering(b"HTTP/1.1 200 OK") as management:
        assert wait(layout(amqp, management)) == "4.0.5"
        with pytest.raises(NodeFailed, match="not ready"):
            wait(layout(amqp, management, tls=ports.choose(0, 0, tls=False).amqp), seconds=0.2)
        with socket.create_server((ports.LOOPBACK, 0)) as tls:
            assert wait(layout(amqp, management, tls.getsockname()[1])) == "4.0.5"


def test_a_server_that_ends_meanwhile_is_not_waited_for() -> None:
    with pytest.raises(NodeFailed, match=r"ended while it started \(status 7\)"):
        wait(layout(1, 1), None, "7")  # nobody listens on port 1


LOG = """\
2026-01-01 10:00:00.000000+00:00 [info] <0.1.0> Starting
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> You've tried to set no.such.setting
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>   crasher:
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>     initial call: x
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> ===========
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0>
2026-01-01 10:00:00.000000+00:00 [error] <0.1.0> You've tried to set no.such.setting
  ##  ##      RabbitMQ 3.10.8
BOOT FAILED
===========
    rabbit_prelaunch_dist:setup/1, line 23
"""


def test_what_a_log_complains_about_is_told_once_and_without_the_traces() -> None:
    assert complaints(LOG.splitlines()) == ["You've tried to set no.such.setting", "BOOT FAILED"]


def test_a_log_without_complaints_has_none() -> None:
    assert complaints(["2026-01-01 10:00:00+00:00 [info] <0.1.0> no error here"]) == []


def test_only_the_first_complaints_are_told() -> None:
    assert len(complaints(f"error {n}" for n in range(100))) == 6


def test_a_log_is_made_safe_to_show(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n\x1b[2Jtwo\n\xff\n")
    assert log_tail(log, 2) == [r"\x1b[2Jtwo", "�"]
    assert log_tail(log, 0) == []
    assert log_tail(tmp_path / "none", 5) == []


def test_a_failure_tells_only_what_this_boot_said(tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "output"
    log.write_text("error of yesterday\n", encoding="utf-8")
    logs = Logs.from_now_on(output, log)
    with log.open("a", encoding="utf-8") as file:
        file.write("error of \x1b[31mtoday\n")
    output.write_text("cannot start\n", encoding="utf-8")
    assert str(logs.failure("It ended")) == (
        r"It ended. Its log says: cannot start | error of \x1b[31mtoday."
        " Change what it complains about, then try again."
    )
