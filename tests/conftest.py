"""The broker that tests run against, and a vhost of its own for each test.

One private node serves the whole run. A missing broker fails the tests, it never skips them.
With RABBITPROOF_TEST_URL and RABBITPROOF_TEST_MANAGEMENT_URL set, that broker is used instead
(tests of ``private_node`` still start their own). RABBITPROOF_TEST_RABBITMQ names the release
that every private node of the tests is of, those of commands as well; see ``--rabbitmq``.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest

from rabbitproof.broker import releases
from rabbitproof.broker.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.install import Installation

pytest_plugins = ("nodes", "peers", "screen", "tidy")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write down what was skipped, for whoever runs it where it can be."""
    skipped = [f"{report.nodeid}\n" for report in terminalreporter.stats.get("skipped", ())]
    if config.cache is not None:
        (config.cache.mkdir("rabbitproof") / "skipped").write_text("".join(skipped), "utf-8")


def pytest_unconfigure() -> None:
    """Remove the folder in which pytest made that of this run, unless there are others."""
    with contextlib.suppress(OSError):
        Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}").rmdir()


@dataclass(frozen=True, slots=True)
class ForeignBroker:
    """A broker that somebody else runs; it has what tests use of a ``Node``."""

    url: str
    management_url: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Vhost:
    """A vhost that lives as long as one test."""

    name: str
    url: str


RELEASE = os.environ.get("RABBITPROOF_TEST_RABBITMQ") or None
if RELEASE is not None:
    os.environ[releases.VARIABLE] = RELEASE


@pytest.fixture(scope="session")
def installation() -> Installation:
    return releases.provide(RELEASE, logging.getLogger(__name__).info)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Iterator[Node | ForeignBroker]:
    url = os.environ.get("RABBITPROOF_TEST_URL")
    if url:
        parts = urlsplit(url)
        yield ForeignBroker(
            url=url,
            management_url=os.environ["RABBITPROOF_TEST_MANAGEMENT_URL"].rstrip("/"),
            username=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
        )
        return
    with Node.start(request.getfixturevalue("installation")) as started:
        yield started


@pytest.fixture
def vhost(node: Node | ForeignBroker) -> Iterator[Vhost]:
    name = f"test-{secrets.token_hex(6)}"
    encoded = quote(name, safe="")
    with httpx.Client(
        base_url=f"{node.management_url}/api",
        auth=(node.username, node.password),
        timeout=10,
        trust_env=False,
    ) as api:
        api.put(f"/vhosts/{encoded}").raise_for_status()
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        user = quote(node.username, safe="")
        api.put(f"/permissions/{encoded}/{user}", json=everything).raise_for_status()
        try:
            yield Vhost(name=name, url=urlsplit(node.url)._replace(path=f"/{encoded}").geturl())
        finally:
            api.delete(f"/vhosts/{encoded}").raise_for_status()
