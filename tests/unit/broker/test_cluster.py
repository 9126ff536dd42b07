from __future__ import annotations

from typing import Any

import pytest

from rabbitproof.broker import cluster

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
    ],
)
def test_what_a_queue_lacks(found: dict[str, Any], lacks: str | None) -> None:
    assert cluster._lacking(found) == lacks
