"""How flags, environment and defaults become a broker's address and its API's.

Holds: the order in which they decide, what they may not say together, the warnings. Refuses
to hold: the options themselves (``cli/options``) and the URL's grammar (``address``).

Order: flag, then ``RABBITMQ_URL``, then the default. ``--url`` replaces the variable as a
whole; ``--host``, ``--port``, ``--vhost``, ``--username`` and the passwords replace their part
of it, in each address where it has several. Warnings go to standard error and never hold a
password.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rabbitproof.address import (
    LONGEST_VHOST,
    Address,
    Tls,
    bracketed,
    is_local,
    management_url,
    parse,
)
from rabbitproof.cli.exits import note
from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.amqp.connection import Connection as Link
    from rabbitproof.amqp.dial import Dialer
    from rabbitproof.broker.management import Management

URL_VARIABLE = "RABBITMQ_URL"
MANAGEMENT_VARIABLE = "RABBITMQ_MANAGEMENT_URL"

HEARTBEAT_S = 60
"""Seconds between two signs of life; RabbitMQ's own default. Silence of two ends a connection."""

API_PATIENCE_S = 3.0
"""Seconds for a request to the Management API by who would like to know and can do without."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The connection's options as given; None is what was not given."""

    url: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    vhost: str | None = None
    username: str | None = None
    password_file: Path | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False
    management_url: str | None = field(default=None, repr=False)
    heartbeat: int | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """Where the Management API is, and who asks. ``url`` has neither login nor final slash."""

    url: str
    address: Address
    """Login and trust; its host and port are RabbitMQ's own."""

    def open(self, timeout: float = 10.0) -> Management:
        """Return a client of that API, to be used in a ``with`` statement."""
        from rabbitproof.broker.management import Management  # httpx is slow to import

        return Management(
            self.url,
            self.address.username,
            self.address.password,
            tls=self.address.tls,
            timeout=timeout,
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """What the connection's options came to."""

    addresses: tuple[Address, ...]
    api: Api
    given: frozenset[str] = frozenset()
    """The names of the ``Flags`` that were given, not taken from the environment or defaults."""
    heartbeat: int = HEARTBEAT_S

    def dialer(self, name: str) -> Dialer:
        """Return what opens connections of that name, as often as it is called."""
        from rabbitproof.amqp.dial import Dialer  # the protocol is slow to import

        return Dialer(self.addresses, name, heartbeat=self.heartbeat)

    def open(self, name: str) -> Link:
        """Open a connection of that name."""
        return self.dialer(name)()

    def for_ledger(self) -> dict[str, Any]:
        """Return it without passwords, to be written down."""
        return {
            "addresses": [
                {name: value for name, value in asdict(one).items() if name != "password"}
                for one in self.addresses
            ],
            "management_url": self.api.url,
        }

    def as_before(self, ledger: dict[str, Any]) -> Connection:
        """Return the connection that a ledger had, with our passwords.

        What was given says more than the ledger: the broker may have another address now.
        Raise ``UsageError`` when no password is known for the login.
        """
        if self.given & {"url", "host", "port", "vhost", "username"}:
            return self
        passwords = {one.username: one.password for one in self.addresses}
        if {"password", "password_file"} & self.given:
            passwords = dict.fromkeys(
                [str(one["username"]) for one in ledger["addresses"]], self.addresses[0].password
            )
        addresses = []
        for one in ledger["addresses"]:
            username = str(one["username"])
            if username not in passwords and username != "guest":
                raise UsageError(
                    f"A ledger holds no password, and none is known for {safe(username)}; give it "
                    f"with --password-file, or in {URL_VARIABLE}."
                )
            tls = one["tls"]
            addresses.append(
                Address(
                    host=str(one["host"]),
                    port=int(one["port"]),
                    vhost=str(one["vhost"]),
                    username=username,
                    password=passwords.get(username, "guest"),
                    tls=None if tls is None else Tls(**tls),
                )
            )
        first = addresses[0]
        url = self.api.url if "management_url" in self.given else str(ledger["management_url"])
        login = replace(first, tls=(first.tls or Tls()) if url.startswith("https:") else None)
        return Connection(tuple(addresses), Api(url, login), self.given, self.heartbeat)


def connection_from(
    flags: Flags,
    environment: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = note,
) -> Connection:
    """Return what the options came to. Pass an empty ``environment`` to ignore it."""
    addresses = resolve(flags, environment, warn)
    given = frozenset(one.name for one in fields(flags) if getattr(flags, one.name))
    heartbeat = HEARTBEAT_S if flags.heartbeat is None else flags.heartbeat
    return Connection(addresses, management(flags, addresses, environment), given, heartbeat)


def resolve(
    flags: Flags,
    environment: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = note,
) -> tuple[Address, ...]:
    """Return the addresses that flags, environment and defaults come to.

    Raise ``UsageError`` where they contradict each other.
    """
    parts = {
        name: getattr(flags, name)
        for name in ("host", "port", "vhost", "username")
        if getattr(flags, name) is not None
    }
    if flags.url is not None and parts:
        raise UsageError(
            f"--url already says what --{', --'.join(parts)} would; use the one or the other."
        )
    if len(parts.get("vhost", "").encode(errors="replace")) > LONGEST_VHOST:
        raise UsageError(f"--vhost has more than {LONGEST_VHOST} bytes; no vhost is called so.")
    if "host" in parts:
        parts["host"] = _plain_host(parts["host"])
    password = _password(flags, warn)
    if password is not None:
        parts["password"] = password
    url, source = flags.url, "--url"
    if url is None:
        url, source = environment.get(URL_VARIABLE) or None, URL_VARIABLE
    tls = _tls(flags)
    try:
        addresses = (Address(),) if url is None else parse(url, tls)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    addresses = tuple(dict.fromkeys(replace(address, **parts) for address in addresses))
    _check_trust(flags, addresses, environment)
    _warn_of_what_shows(flags, addresses, warn)
    return addresses


def management(
    flags: Flags, addresses: tuple[Address, ...], environment: Mapping[str, str] = os.environ
) -> Api:
    """Return where the Management API is: flag, environment, else beside the first address.

    The login is the AMQP one, unless the URL has its own.
    """
    first = addresses[0]
    url, source = _management_source(flags, environment)
    if url is None:
        return Api(management_url(first), first)
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise UsageError(f"{source} is not a URL; write it like http://localhost:15672.") from None
    if split.scheme not in {"http", "https"} or not split.hostname or split.query or split.fragment:
        raise UsageError(f"{source} is not a URL of HTTP; write it like http://localhost:15672.")
    place = bracketed(split.hostname)
    place = place if port is None else f"{place}:{port}"
    tls = (first.tls or _tls(flags) or Tls()) if split.scheme == "https" else None
    who = replace(first, tls=tls)
    if split.username is not None:
        who = replace(who, username=unquote(split.username), password=unquote(split.password or ""))
    return Api(f"{split.scheme}://{place}{split.path.rstrip('/')}", who)


def _management_source(flags: Flags, environment: Mapping[str, str]) -> tuple[str | None, str]:
    if flags.management_url is not None:
        return flags.management_url, "--management-url"
    return environment.get(MANAGEMENT_VARIABLE) or None, MANAGEMENT_VARIABLE


def _plain_host(host: str) -> str:
    """Return the host of ``--host``, which is a name or an address and nothing more."""
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    ipv6 = name.count(":") > 1
    if not name or any(character in name for character in "/@ ,") or (":" in name and not ipv6):
        raise UsageError(
            f"--host {safe(host, 60)} is more than a host; use --port for the port, or --url."
        )
    return name


def _password(flags: Flags, warn: Callable[[str], None]) -> str | None:
    if flags.password is not None:
        if flags.password_file is not None:
            raise UsageError("--password and --password-file are two passwords; give one.")
        warn("warning: --password shows in the process list; prefer --password-file.")
        return flags.password
    if flags.password_file is None:
        return None
    return _read_password(flags.password_file, warn)


def _read_password(path: Path, warn: Callable[[str], None]) -> str:
    """Return the first line of a file, without its line ending."""
    name = safe(str(path))
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--password-file {name} can't be read ({why}); name another.") from None
    if not line:
        raise UsageError(
            f"--password-file {name} has an empty first line; write the password there."
        )
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"warning: others may read --password-file {name}; run `chmod 600` on it.")
    return line


def _tls(flags: Flags) -> Tls | None:
    """Return what the flags say about trust, None when they say nothing."""
    files = {}
    for name in ("ca_file", "cert_file", "key_file"):
        path: Path | None = getattr(flags, name)
        if path is None:
            continue
        if not (path.is_file() and os.access(path, os.R_OK)):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {safe(str(path))} is not a readable file; name another.")
        files[name] = str(path)
    if "key_file" in files and "cert_file" not in files:
        raise UsageError("--key-file needs the certificate it belongs to; add --cert-file.")
    if "ca_file" in files and flags.insecure:
        raise UsageError("--insecure trusts everybody and --ca-file only some; give one.")
    return Tls(**files, verify=not flags.insecure) if files or flags.insecure else None


def _check_trust(
    flags: Flags, addresses: tuple[Address, ...], environment: Mapping[str, str]
) -> None:
    """Refuse options for TLS where nothing is encrypted: whoever gave them expects it to be."""
    given = [
        "--" + name.replace("_", "-")
        for name in ("ca_file", "cert_file", "key_file", "insecure")
        if getattr(flags, name)
    ]
    url, _ = _management_source(flags, environment)
    encrypted = any(address.tls for address in addresses) or (url or "").startswith("https:")
    if given and not encrypted:
        raise UsageError(f"{given[0]} needs TLS; give the address as --url amqps://….")


def _warn_of_what_shows(
    flags: Flags, addresses: tuple[Address, ...], warn: Callable[[str], None]
) -> None:
    if flags.insecure:
        warn(
            "WARNING: --insecure: NO CERTIFICATE IS VERIFIED. Anyone in between can read and "
            "change everything, the password included."
        )
    for option, url in (("--url", flags.url), ("--management-url", flags.management_url)):
        shown = re.search(r"//[^/@]*:([^/@]+)@", url or "")
        if shown and shown[1] != Address().password:  # that of guest is no secret
            warn(
                f"warning: the password in {option} shows in the process list; prefer "
                f"{URL_VARIABLE if option == '--url' else MANAGEMENT_VARIABLE}."
            )
    for address in addresses:
        if address.tls is None and address.password and not is_local(address.host):
            warn(
                f"warning: the password goes to {safe(address.host)} unencrypted; "
                "use amqps:// where the broker offers it."
            )
