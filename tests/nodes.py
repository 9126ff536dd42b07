"""A node that tests may kill, pause and start again: one for each worker, made as new for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from rabbitproof.broker.management import Management
from rabbitproof.broker.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.install import Installation


@pytest.fixture(scope="session")
def breakable(installation: Installation) -> Iterator[Node]:
    with Node.start(installation) as started:
        yield started


@pytest.fixture
def private_node(breakable: Node) -> Iterator[Node]:
    """A node that the test may kill, pause and start again; nothing is in it."""
    if breakable.pid is None:
        breakable.start_again()
    if httpx.get(
        f"{breakable.management_url}/api/health/checks/alarms",
        auth=(breakable.username, breakable.password),
        timeout=20,
        trust_env=False,
    ).is_error:
        breakable.kill()
        breakable.start_again()  # its limits are those of its configuration then
    with Management(breakable.management_url, breakable.username, breakable.password) as api:
        for name in api.vhosts():
            api.delete_vhost(name)
        api.create_vhost("/")
    yield breakable
    breakable.resume()
