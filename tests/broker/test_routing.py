"""What the model of routing says is what a real broker does, in random worlds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.routing import DyingQueue, Vhost
from routes import Bench
from support import eventually, witness

if TYPE_CHECKING:
    from rabbitproof.broker.node import Node

FLOOR = 0.05
"""Of the worlds use each feature."""
FEATURES = {
    "default exchange", "direct exchange", "fanout exchange", "topic exchange", "headers exchange",
    "by CC", "by BCC", "by alternate exchange", "alternate exchange by policy",
    "alternate exchanges chained", "circular alternate exchanges", "circular bindings", "nested",
    "through internal", "unroutable", "alternate exchange missing",
    "# alone", "# first", "# in the middle", "# last", "# twice", "* alone", "* first",
    "* in the middle", "* last", "empty word",
    "x-match all", "x-match any", "x-match all-with-x", "x-match any-with-x", "void in a binding",
    "dead letter of rejected", "dead letter of expired", "dead letter of maxlen",
    "dead letter with key", "dead letter without key", "dead letter exchange by policy",
    "dead letter exchange missing", "dead letter to default exchange", "dead letter by CC or BCC",
    "died twice", "cycle dropped",
}  # fmt: skip


def test_the_model_says_what_the_broker_does(node: Node) -> None:
    with Bench(node) as bench:
        bench.explore(25, "a few")
    print(bench.report())
    assert bench.differences == []


def test_deaths_are_in_the_order_that_the_model_has(node: Node, vhost: Any) -> None:
    """Before 3.13 each death turns those before it around."""
    ring = dict(zip("abcd", "bcda", strict=True))
    queues = [
        DyingQueue(
            one, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": following}
        )
        for one, following in ring.items()
    ]
    with Bench(node) as bench:
        model = Vhost([], queues, [], bench.release)
    message = model.message("", "a", {})
    with witness(vhost.url) as channel:
        for queue in queues:
            channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        channel.basic_publish("", "a", b"")
        for queue in "abcd":
            method = eventually(lambda queue=queue: channel.basic_get(queue)[0], f"in {queue}")
            channel.basic_reject(method.delivery_tag, requeue=False)
            message = model.dead_letter(queue, message, "rejected").message or message
        headers = eventually(lambda: channel.basic_get("a")[1], "back again").headers
    assert [one["queue"] for one in headers["x-death"]] == [queue for queue, _ in message.deaths]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_in_many_worlds_that_have_each_feature(node: Node) -> None:
    with Bench(node) as bench:
        bench.explore(int(os.environ.get("RABBITPROOF_TEST_WORLDS", "500")), "many")
    print(bench.report())
    assert bench.differences == []
    rare = {one for one in FEATURES if bench.features[one] < FLOOR * bench.worlds}
    assert rare == set()
    assert bench.unsure < FLOOR * bench.worlds
