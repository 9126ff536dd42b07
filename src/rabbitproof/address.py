"""Where a broker is and who asks: an address, read from and written as an AMQP URL.

Holds: the address as a value, the grammar of the URL, and what follows from an address alone.
Refuses to hold: flags and environment variables (``cli/options``), sockets, name look-ups.
Pure.

The grammar is RabbitMQ's URI specification (https://www.rabbitmq.com/docs/uri-spec)::

    amqp://user:password@host:port/vhost        amqps://… for TLS

Every part but the scheme may be missing. In each part ``%2F`` stands for ``/`` and so on. Of
the vhost:

- nothing after the host (``amqp://host``): the default vhost, ``/``
- ``amqp://host/%2F``: the vhost ``/`` as well
- ``amqp://host/``: the default vhost too. The specification means the vhost whose name is empty
  here, but next to no broker has one, and everybody who writes this wants ``/``; so do pika and
  most other clients. That vhost can still be named with ``--vhost ""``.
- ``amqp://host/a/b``: not allowed; the vhost ``a/b`` is written ``a%2Fb``

Rules: a password is in ``password`` and nowhere else. ``repr`` hides it, ``masked`` replaces
it, and no error quotes any part of a URL: where the user forgot to encode an ``@`` or a ``/``,
anything may be a piece of the password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote, unquote

from rabbitproof.errors import UsageError
from rabbitproof.text import safe

PORT = 5672
"""TCP port of AMQP (IANA: amqp)."""
TLS_PORT = 5671
"""TCP port of AMQP over TLS (IANA: amqps)."""
MANAGEMENT_PORT = 15672
"""Where the management plugin listens (RabbitMQ's default)."""
MANAGEMENT_TLS_PORT = 15671
"""Where the management plugin listens for HTTPS (RabbitMQ's default)."""

HIGHEST_PORT = 65535
"""A TCP port is a 16-bit number."""

LONGEST_VHOST = 255
"""Bytes in a vhost's name: it is a short string (AMQP 0-9-1, section 1.1)."""

_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_IN_A_HOST = re.compile(r"[\x00-\x20\x7f-\xa0/@?#\\\[\]]")


@dataclass(frozen=True, slots=True)
class Tls:
    """How to trust and to be trusted: paths of PEM files, and whether the peer is verified."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """One broker, one vhost, one login. ``tls`` is None for plain TCP."""

    host: str = "localhost"
    port: int = PORT
    vhost: str = "/"
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: Tls | None = None

    def masked(self) -> str:
        """Return the URL with ``***`` for the password: safe to show, log and report."""
        return self._url("***")

    def url(self) -> str:
        """Return the URL with the password. Never show it; hand it to another program."""
        return self._url(quote(self.password, safe=""))

    def _url(self, password: str) -> str:
        scheme = "amqp" if self.tls is None else "amqps"
        login = f"{quote(self.username, safe='')}:{password}"
        place = f"{safe(bracketed(self.host))}:{self.port}"
        return f"{scheme}://{login}@{place}/{quote(self.vhost, safe='')}"


def parse(url: str, tls: Tls | None = None) -> tuple[Address, ...]:
    """Read one or several addresses, separated by commas.

    ``tls`` is how the ``amqps`` ones among them are trusted; without it, by the system's
    certificate authorities. Raise ``UsageError``, which never quotes the URL.
    """
    parts = [part.strip() for part in url.split(",")]
    if len(parts) == 1:
        return (_parse_one(parts[0], tls, "the URL"),)
    return tuple(
        _parse_one(part, tls, f"URL {number} of {len(parts)}")
        for number, part in enumerate(parts, start=1)
    )


def _parse_one(url: str, tls: Tls | None, name: str) -> Address:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"amqp", "amqps"}:
        raise UsageError(
            f"{name} does not begin with amqp:// or amqps://; write it like "
            "amqp://user:password@host:5672/vhost, with %2C for a comma inside it."
        )
    encrypted = scheme.lower() == "amqps"
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"{name} has a query or a fragment, which is not supported; use options such as "
            "--ca-file instead, and write %3F and %23 for a ? or # that belongs to a part of it."
        )
    authority, slash, path = rest.partition("/")
    if "/" in path or "@" in path:
        raise UsageError(
            f"{name} has a / or @ where none may be; write %2F and %40 for those that belong to "
            "the password or to the vhost's name."
        )
    login, at, place = authority.rpartition("@")
    username, colon, password = login.partition(":")
    host, port = _split_place(place, name)
    vhost = (_decode(path, name) if slash else "") or "/"
    if len(vhost.encode()) > LONGEST_VHOST:
        raise UsageError(f"{name} names a vhost of more than {LONGEST_VHOST} bytes; shorten it.")
    return Address(
        host=host or "localhost",
        port=(TLS_PORT if encrypted else PORT) if port is None else port,
        vhost=vhost,
        username=_decode(username, name) if at else "guest",
        password=_decode(password, name) if colon else "guest",
        tls=(tls or Tls()) if encrypted else None,
    )


def _split_place(place: str, name: str) -> tuple[str, int | None]:
    """Split ``host:port``, where an IPv6 address stands in brackets."""
    if place.startswith("["):
        inside, bracket, after = place[1:].partition("]")
        host = _decode(inside, name)
        if not bracket or not _is_ipv6(host) or (after and not after.startswith(":")):
            raise UsageError(f"{name} has brackets but no IPv6 address in them, like [::1]:5672.")
        port = after[1:]
    else:
        encoded, _, port = place.partition(":")
        host = _decode(encoded, name)
        if ":" in port or ":" in host:
            raise UsageError(
                f"{name} has more than one colon after its login; put an IPv6 address in "
                "brackets, like [::1]:5672, and write %40 for an @ within the password."
            )
        if _NOT_IN_A_HOST.search(host):
            raise UsageError(f"{name} has a host name with characters that no host name has.")
    return host, _port(port, name) if port else None


def _port(digits: str, name: str) -> int:
    if not (re.fullmatch("[0-9]{1,5}", digits) and 1 <= int(digits) <= HIGHEST_PORT):
        raise UsageError(
            f"{name} has a port that is not a number from 1 to 65535; if that is a piece of the "
            "password, write its special characters as %40 for @ and %2F for /."
        )
    return int(digits)


def _decode(part: str, name: str) -> str:
    if _BAD_ESCAPE.search(part):
        raise UsageError(f"{name} has a % without two hex digits; write %25 for a percent sign.")
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise UsageError(f"{name} has %-escapes that are not UTF-8; encode it again.") from None


def _is_ipv6(host: str) -> bool:
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """Return ``host`` as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def management_url(address: Address) -> str:
    """Return where the Management API of that broker is, if nobody moved it."""
    if address.tls is None:
        return f"http://{bracketed(address.host)}:{MANAGEMENT_PORT}"
    return f"https://{bracketed(address.host)}:{MANAGEMENT_TLS_PORT}"


def is_local(host: str) -> bool:
    """Tell whether ``host`` names this machine's loopback. Looks nothing up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
