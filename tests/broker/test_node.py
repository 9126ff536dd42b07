"""One private node: what it is, that it starts, fails, pauses, dies and comes back as it should."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pika
import psutil
import pytest
import trustme

from rabbitproof.broker import ports as ports_module
from rabbitproof.broker import watchdog
from rabbitproof.broker.layout import TlsFiles
from rabbitproof.broker.node import Node
from rabbitproof.errors import NodeFailed
from support import eventually, leftovers, processes_below, put, take

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.broker.install import Installation
    from rabbitproof.broker.layout import Ports


def connect(url: str, **more: Any) -> pika.BlockingConnection:
    parts = urlsplit(url)
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host=parts.hostname,
            port=parts.port,
            credentials=pika.PlainCredentials(parts.username, parts.password),
            blocked_connection_timeout=10,
            socket_timeout=5,
            stack_timeout=10,
            **more,
        )
    )


def test_a_started_node_speaks_amqp_and_has_the_management_api(private_node: Node) -> None:
    put(private_node.url, b"hello")
    assert take(private_node.url) == b"hello"
    overview = httpx.get(
        f"{private_node.management_url}/api/overview",
        auth=(private_node.username, private_node.password),
        trust_env=False,
    ).json()
    assert overview["rabbitmq_version"] == private_node.version
    metrics = httpx.get(f"{private_node.prometheus_url}/metrics", trust_env=False).text
    assert "rabbitmq_build_info" in metrics


def test_the_default_login_is_not_accepted(private_node: Node) -> None:
    private = urlsplit(private_node.url)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(f"amqp://guest:guest@127.0.0.1:{private.port}/")


def test_everything_listens_on_the_loopback_only(private_node: Node) -> None:
    addresses = {
        connection.laddr.ip
        for pid in watchdog.marked(private_node.mark)
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses <= {"127.0.0.1", "::1"}
    assert addresses


def test_only_this_user_can_read_a_node(private_node: Node) -> None:
    directory = private_node.directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "home/.erlang.cookie").stat().st_mode & 0o777 == 0o400
    assert (directory / "rabbitmq.conf").stat().st_mode & 0o777 == 0o600


def test_no_secret_is_on_a_command_line_or_in_an_environment(private_node: Node) -> None:
    cookie = (private_node.directory / "home/.erlang.cookie").read_text(encoding="ascii")
    for pid in watchdog.marked(private_node.mark):
        process = psutil.Process(pid)
        shown = f"{process.cmdline()} {process.environ()}"
        assert private_node.password not in shown
        assert cookie not in shown


def test_stop_leaves_nothing(cache: Path, installation: Installation) -> None:
    node = Node.start(installation)
    assert len(watchdog.marked(node.mark)) >= 2  # the Erlang VM and epmd
    ports = [urlsplit(url).port for url in (node.url, node.management_url, node.prometheus_url)]
    node.stop()
    assert leftovers(cache) == []
    assert node.pid is None
    assert all(ports_module.is_free(port or 0) for port in ports)
    node.stop()  # a second time does no harm


def test_rabbitmqctl_works_on_the_node_and_only_on_it(private_node: Node) -> None:
    assert "kept-user" not in private_node.ctl("list_users")
    private_node.ctl("add_user", "kept-user", "secret")
    assert "kept-user" in private_node.ctl("list_users")
    with pytest.raises(NodeFailed, match="no_such_command"):
        private_node.ctl("no_such_command")


def test_the_tools_work_from_any_shell(private_node: Node) -> None:
    done = subprocess.run(
        [private_node.tools / "rabbitmqctl", "-q", "list_vhosts"],
        env={"PATH": os.defpath, "HOME": "/nonexistent", "RABBITMQ_NODENAME": "other@elsewhere"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "/" in done.stdout.split()


def test_the_log_is_at_hand(private_node: Node) -> None:
    # The log is written a little later than what it tells of happens.
    eventually(
        lambda: any("started TCP" in line for line in private_node.log_tail(100_000)),
        "a line of it",
    )
    assert len(private_node.log_tail(3)) == 3


@pytest.mark.slow  # several starts of a node
def test_a_node_can_be_killed_and_started_more_than_once(private_node: Node) -> None:
    url = private_node.url
    for body in (b"one", b"two"):
        put(url, body)
        private_node.settle()
        pid = private_node.pid
        private_node.kill()
        assert private_node.pid is None
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connect(url)
        private_node.start_again()
        assert private_node.pid not in {None, pid}
        assert take(url) == body
    with pytest.raises(NodeFailed, match="runs already"):
        private_node.start_again()


def test_a_paused_node_holds_its_connections_and_goes_on(private_node: Node) -> None:
    put(private_node.url, b"before")
    private_node.pause()
    port = urlsplit(private_node.url).port
    with socket.create_connection(("127.0.0.1", port), 5) as peer:  # the kernel still accepts
        peer.settimeout(0.5)
        peer.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            peer.recv(1)
        private_node.resume()
        peer.settimeout(10)
        assert peer.recv(1) == b"\x01"
    assert take(private_node.url) == b"before"


@pytest.mark.slow
def test_a_paused_node_can_be_stopped_gracefully(cache: Path, installation: Installation) -> None:
    with Node.start(installation) as node:
        node.pause()
        begun = time.monotonic()
        node.stop(gracefully=True, deadline_s=50)
        assert time.monotonic() - begun < 40  # it was not the deadline that ended it
    assert leftovers(cache) == []


def test_a_paused_node_can_be_stopped(cache: Path, installation: Installation) -> None:
    with Node.start(installation) as node:
        node.pause()
    assert leftovers(cache) == []


def test_a_node_with_tls_has_a_second_listener(tmp_path: Path, installation: Installation) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = TlsFiles(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    authority.cert_pem.write_to_path(files.ca)
    certificate.private_key_pem.write_to_path(files.key)
    certificate.cert_chain_pems[0].write_to_path(files.cert)
    context = ssl.create_default_context(cafile=str(files.ca))
    with Node.start(installation, tls=files) as node:
        assert node.tls_url is not None
        assert node.tls_url.startswith("amqps://")
        options = pika.SSLOptions(context, "localhost")
        connect(node.tls_url, ssl_options=options).close()


def test_a_boot_that_fails_says_what_the_log_says_and_leaves_nothing(
    cache: Path, installation: Installation
) -> None:
    with pytest.raises(NodeFailed, match=r"no\.such\.setting") as failure:
        Node.start(installation, settings={"no.such.setting": "1"})
    assert str(failure.value).endswith("try again.")
    assert leftovers(cache) == []


def test_a_boot_that_fails_keeps_data_that_were_there(
    cache: Path, installation: Installation, tmp_path: Path
) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "precious").touch()
    with pytest.raises(NodeFailed):
        Node.start(
            installation, directory=directory, owned=False, settings={"no.such.setting": "1"}
        )
    assert (directory / "precious").exists()
    assert leftovers(cache) == []
    assert processes_below(directory) == []


def test_a_boot_that_takes_too_long_leaves_nothing(cache: Path, installation: Installation) -> None:
    with pytest.raises(NodeFailed, match=r"within 0\.5 s"):
        Node.start(installation, deadline_s=0.5)
    assert leftovers(cache) == []


@pytest.mark.parametrize("which", ["amqp_port", "management_port"])
def test_a_port_that_is_taken_is_named(which: str, cache: Path, installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NodeFailed, match=f"Port {port} "):
            Node.start(installation, **{which: port})
    assert leftovers(cache) == []


def test_a_port_that_somebody_takes_meanwhile_is_replaced(
    cache: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = ports_module.choose
    chosen: list[Ports] = []

    def choose_and_take(*arguments: int, tls: bool) -> Ports:
        ports = choose(*arguments, tls=tls)
        if not chosen:
            address = ("127.0.0.1", ports.distribution)
            stack.enter_context(socket.create_server(address))
        chosen.append(ports)
        return ports

    monkeypatch.setattr(ports_module, "choose", choose_and_take)
    with ExitStack() as stack, Node.start(installation) as node:
        assert len(chosen) == 2
        put(node.url, b"hello")
    assert leftovers(cache) == []


def test_a_vhost_fixture_is_usable_and_gone_afterwards(vhost: Any, node: Any) -> None:
    assert vhost.url.startswith("amqp://")
    connection = connect(vhost.url, virtual_host=vhost.name)
    connection.channel().queue_declare("here")
    connection.close()
    names = httpx.get(
        f"{node.management_url}/api/vhosts", auth=(node.username, node.password), trust_env=False
    ).json()
    assert vhost.name in [entry["name"] for entry in names]
