"""What the model of routing says is what a real broker does, in random worlds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from routes import Bench

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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_in_many_worlds_that_have_each_feature(node: Node) -> None:
    with Bench(node) as bench:
        bench.explore(int(os.environ.get("RABBITPROOF_TEST_WORLDS", "2000")), "many")
    print(bench.report())
    assert bench.differences == []
    rare = {one for one in FEATURES if bench.features[one] < FLOOR * bench.worlds}
    assert rare == set()
    assert bench.unsure < FLOOR * bench.worlds
