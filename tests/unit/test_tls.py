from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from rabbitproof.address import Tls
from rabbitproof.errors import UsageError
from rabbitproof.tls import client_context

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("rabbit.example")
CLIENT = AUTHORITY.issue_cert("client.example")


@pytest.fixture
def files(tmp_path: Path) -> Tls:
    """The authority, and a client's certificate with its key, as PEM files."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    CLIENT.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    CLIENT.private_key_pem.write_to_path(tmp_path / "client.key")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key"))
    return Tls(ca, cert, key)


def shake_hands(tls: Tls, host: str = "rabbit.example") -> str | None:
    """Let such a client meet our server, in memory; return whom the server saw."""
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    SERVER.configure_cert(theirs)
    AUTHORITY.configure_trust(theirs)
    theirs.verify_mode = ssl.CERT_OPTIONAL
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    client = client_context(tls).wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):  # flights of a handshake
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seen = server.getpeercert() or {}
    names = seen.get("subjectAltName", ())
    return str(names[0][1]) if names else None


def test_both_sides_verify_each_other(files: Tls) -> None:
    assert shake_hands(files) == "client.example"


def test_a_client_without_a_certificate_shows_none(files: Tls) -> None:
    assert shake_hands(Tls(ca_file=files.ca_file)) is None


def test_a_certificate_with_its_key_in_one_file(files: Tls, tmp_path: Path) -> None:
    CLIENT.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    assert shake_hands(Tls(files.ca_file, str(tmp_path / "both.pem"))) == "client.example"


def test_the_servers_certificate_has_to_be_trusted_and_its_own(files: Tls) -> None:
    for tls, host in ((Tls(), "rabbit.example"), (files, "other.example")):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(tls, host)


def test_without_verification_anyone_is_trusted() -> None:
    assert shake_hands(Tls(verify=False), "other.example") is None


def test_files_that_are_none_are_wrong_usage(files: Tls, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.key"
    AUTHORITY.issue_cert("stranger.example").private_key_pem.write_to_path(stranger)
    nowhere = str(tmp_path / "nowhere\x1b[31m")
    for tls in (
        Tls(ca_file=__file__),
        Tls(ca_file=nowhere),
        Tls(ca_file=str(tmp_path)),
        Tls(cert_file=__file__),
        Tls(cert_file=files.cert_file),
        Tls(cert_file=files.cert_file, key_file=str(stranger)),
    ):
        with pytest.raises(UsageError, match="PEM") as caught:
            client_context(tls)
        assert "\x1b" not in str(caught.value)
        assert str(tmp_path) in str(caught.value) or __file__ in str(caught.value)
