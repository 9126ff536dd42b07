"""What is asked before a queue is read without taking, by what its broker tells at once."""

from __future__ import annotations

from typing import Any

import pytest

from rabbitproof.broker.management import Management
from rabbitproof.cli import held
from rabbitproof.cli.connection import Flags, connection_from
from support import eventually, witness


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
def test_a_limit_that_a_policy_gave_a_moment_ago_is_asked_about(
    node: Any, vhost: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The queue's own answer tells of it some seconds later, and without metrics never."""
    questions: list[str] = []
    monkeypatch.setattr(held, "confirm", lambda text, **_: questions.append(text) or False)
    with witness(vhost.url) as channel:
        channel.queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
    connection = connection_from(Flags(url=vhost.url, management_url=node.management_url), {})
    with connection.api.open() as api, connection.open("tests") as opened:
        for name, pattern in (("ours", "^q$"), ("others", "^other$")):
            limit = 3 if name == "ours" else 1
            body = {"pattern": pattern, "definition": {"delivery-limit": limit}}
            api._request("PUT", kind, vhost.name, name, body=body | {"apply-to": "queues"})
        info = held.look_at(opened, connection, "q")
        assert not held.may_hold(opened, connection, info, yes=False)
    (question,) = questions
    assert "'q' may have a delivery limit (3): each reading counts" in question


def test_the_api_tells_what_a_queue_holds_and_what_its_broker_has_left(
    node: Any, vhost: Any
) -> None:
    with witness(vhost.url) as channel:
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        for _ in range(10):
            channel.basic_publish("", "q", b"x" * 10_000)
    with Management(node.management_url, node.username, node.password) as api:

        def told() -> bool:
            info = api.queue(vhost.name, "q")
            return info is not None and info.bytes == 100_000

        eventually(told, "the metrics know of all bodies", seconds=20)
        left = api.memory_left()
        assert left is not None
        assert left > 10**7
