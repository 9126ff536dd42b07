"""The broker that tests run against, and a vhost of its own for each test.

One private node serves the whole run. A missing broker fails the tests, it never skips them.
With RABBITPROOF_TEST_URL and RABBITPROOF_TEST_MANAGEMENT_URL set, that broker is used instead
(tests of ``private_node`` still start their own). RABBITPROOF_TEST_RABBITMQ names the release
that every private node of the tests is of, those of commands as well; see ``--rabbitmq``.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest

from rabbitproof.broker import releases
from rabbitproof.broker.node import Node
from screen import Screen, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.install import Installation


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


@pytest.fixture(scope="session")
def screen() -> Iterator[Screen]:
    """A screen for windows; skips the test where there can be none, and never in CI."""
    made, server = start()
    yield made
    server.terminate()  # so that it takes its lock with it
    server.wait()


@pytest.fixture
def private_node(installation: Installation) -> Iterator[Node]:
    """Start a node that the test may kill, pause and start again."""
    with Node.start(installation) as started:
        yield started
