from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from rabbitproof.broker import cluster

if TYPE_CHECKING:
    from rabbitproof.broker.management import Management

BOTH = ["a@localhost", "b@localhost"]


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        ({"type": "classic"}, None),
        ({"type": "quorum", "leader": "a@localhost", "members": BOTH, "online": BOTH}, None),
        ({"type": "quorum", "leader": "", "members": BOTH, "online": BOTH}, "has no leader"),
        (
            {"type": "quorum", "leader": "a@localhost", "members": BOTH, "online": BOTH[:1]},
            "lacks a replica",
        ),
        ({"type": "stream", "members": BOTH, "online": BOTH}, None),  # it tells no leader
        ({"type": "stream", "members": BOTH, "online": BOTH[1:]}, "lacks a replica"),
        ({"type": "stream", "leader": "", "members": BOTH, "online": BOTH}, "has no leader"),
        ({"type": "quorum", "members": BOTH, "online": BOTH}, "has no leader"),
        ({"type": "quorum", "leader": "a@localhost"}, "does not tell its replicas"),
        ({"type": "stream", "members": BOTH}, "does not tell its replicas"),
        ({"type": "stream"}, None),  # as 3.10 tells of an empty one
        ({}, "does not tell its type"),
    ],
)
def test_what_a_queue_lacks(found: dict[str, Any], lacks: str | None) -> None:
    assert cluster._lacking(found) == lacks


@pytest.mark.parametrize(
    ("states", "lacks"),
    [
        (["follower", "leader", "follower"], None),
        (["follower", "follower", "candidate"], "has no leader"),
        (["noproc", "leader", "follower"], "lacks a replica"),
        (["await_condition", "leader", "follower"], "lacks a replica"),  # not all of the log yet
    ],
)
def test_what_a_queue_lacks_by_its_replicas(states: list[str], lacks: str | None) -> None:
    assert cluster._lacking_among({"Raft State": state} for state in states) == lacks


@pytest.mark.parametrize(
    ("version", "said"), [("3.10.8", None), ("4.3.6", "The queue q has no leader.")]
)
def test_replicas_are_asked_where_they_can_be(version: str, said: str | None) -> None:
    """An older broker answers an unknown question with a page that is no JSON."""
    listed = {"vhost": "/", "name": "q", "type": "quorum", "leader": "a", "members": BOTH}

    class Api:
        def ask(self, *path: str) -> Any:
            if path == ("queues",):
                return [listed | {"online": BOTH}]
            assert version != "3.10.8"
            assert path == ("queues", "quorum", "/", "q", "status")
            return [{"Raft State": "follower"}]

    assert cluster._incomplete(cast("Management", Api()), version) == said
