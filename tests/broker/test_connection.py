"""One connection against a real broker: TLS, heartbeats, alarms, refusals."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from rabbitproof.address import Tls, parse
from rabbitproof.amqp.connection import open_connection
from rabbitproof.broker.layout import TlsFiles
from rabbitproof.broker.node import Node
from rabbitproof.errors import (
    BrokerUnreachable,
    ConnectionFailed,
    LoginRefused,
    RemoteProtocolError,
)
from rabbitproof.model import Advanced
from support import consumer, drive, producer

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.broker.install import Installation


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates made for this test: the authority, the server's, a client's."""
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("server", "client"):
        made = authority.issue_cert("127.0.0.1", "localhost", common_name=name)
        made.private_key_pem.write_to_path(folder / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    trustme.CA().cert_pem.write_to_path(folder / "stranger.pem")
    return folder


@pytest.fixture(scope="module")
def tls_node(installation: Installation, files: Path) -> Any:
    """A node with a TLS listener that asks for a client's certificate."""
    tls = TlsFiles(files / "ca.pem", files / "server.pem", files / "server.key")
    settings = {
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    with Node.start(installation, tls=tls, settings=settings) as node:
        yield node


def tls_address(node: Any, files: Path, **changes: Any) -> Any:
    tls = Tls(
        ca_file=str(files / "ca.pem"),
        cert_file=str(files / "client.pem"),
        key_file=str(files / "client.key"),
    )
    return tuple(replace(one, tls=replace(tls, **changes)) for one in parse(node.tls_url))


def test_messages_travel_over_tls_with_both_sides_verified(tls_node: Any, files: Path) -> None:
    """Large and small messages pass an encrypted connection, whose peers know each other."""
    address = tls_address(tls_node, files)
    for size, count in ((0, 20_000), (400_000, 20)):
        sending = producer(tls_node.url, count, size=size, purge=True)
        sending._connect = lambda: open_connection(address, "producer")
        assert drive(sending).published == count
        reading = consumer(tls_node.url, expect=count)
        reading.connect = lambda: open_connection(address, "consumer")
        assert drive(reading).unique == count


def test_an_untrusted_certificate_is_refused(tls_node: Any, files: Path) -> None:
    """Verification is on: a certificate of an unknown authority ends in a sentence."""
    for ca_file in (str(files / "stranger.pem"), None):
        with pytest.raises(ConnectionFailed, match=r"not trusted .* --ca-file"):
            open_connection(tls_address(tls_node, files, ca_file=ca_file), "test")


def test_a_certificate_for_another_host_is_refused(tls_node: Any, files: Path) -> None:
    """The name in the certificate has to be the host's."""
    address = tuple(replace(a, host="127.0.0.2") for a in tls_address(tls_node, files))
    with pytest.raises(ConnectionFailed, match=r"not trusted|No RabbitMQ answers"):
        open_connection(address, "test")


def test_insecure_trusts_anyone(tls_node: Any, files: Path) -> None:
    """Without verification the connection works: for experiments only."""
    changes = {"ca_file": None, "verify": False}
    open_connection(tls_address(tls_node, files, **changes), "test").close()


def test_a_missing_client_certificate_is_a_sentence(tls_node: Any, files: Path) -> None:
    """A broker that asks for a certificate and gets none: the sentence says which options."""
    with pytest.raises((ConnectionFailed, BrokerUnreachable), match="--cert-file"):
        open_connection(tls_address(tls_node, files, cert_file=None, key_file=None), "test")


def test_plain_amqp_to_a_tls_port_says_so(tls_node: Any) -> None:
    """The sentence names amqps."""
    address = tuple(replace(one, tls=None) for one in parse(tls_node.tls_url))
    with pytest.raises((BrokerUnreachable, RemoteProtocolError), match="amqps://"):
        open_connection(address, "test", timeout=5)


def test_heartbeats_keep_an_idle_connection(vhost: Any) -> None:
    """With a heartbeat of one second both sides stay content through four idle ones."""
    connection = open_connection(parse(vhost.url), "idle", heartbeat=1)
    channel = connection.open_channel()
    deadline = time.monotonic() + 4
    while (left := deadline - time.monotonic()) > 0:
        assert connection.wait(left) == []
    assert connection.open_channel() != channel
    connection.close()


def test_wrong_password_and_vhost_are_told_apart(vhost: Any) -> None:
    """Each refusal says which option to check."""
    (address,) = parse(vhost.url)
    with pytest.raises(LoginRefused, match="--password-file"):
        open_connection([replace(address, password="wrong")], "test")
    with pytest.raises(LoginRefused, match="--vhost"):
        open_connection([replace(address, vhost="no such")], "test")


def test_several_addresses_are_tried_in_turn(vhost: Any) -> None:
    """The first one that lets us in is used."""
    (address,) = parse(vhost.url)
    with open_connection([replace(address, port=9), address], "test") as connection:
        assert connection.address == address


def test_an_alarm_blocks_publishing_and_its_end_releases_it(tls_node: Node) -> None:
    """A producer under a memory alarm waits, says why, and ends with everything confirmed."""
    drive(producer(tls_node.url, 10))
    tls_node.ctl("set_vm_memory_high_watermark", "0.00001")
    sending = producer(tls_node.url, 3000)
    said = []
    for event in sending.run():
        if isinstance(event, Advanced) and event.blocked and not said:
            said.append(event.blocked)
            tls_node.ctl("set_vm_memory_high_watermark", "0.6")
    assert said == ["low on memory"]
    assert sending.summary().published == 3000
