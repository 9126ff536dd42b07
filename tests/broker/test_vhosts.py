"""Vhosts that killed trials left, on a real broker: the dead ones go, all others stay."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import vhosts
from rabbitproof.broker.management import Management

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def api(node: Any) -> Iterator[Management]:
    with Management(node.management_url, node.username, node.password) as client:
        yield client


def of_the_dead() -> str:
    """What a process said that has ended."""
    program = "from rabbitproof.broker import vhosts; print(vhosts.description())"
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_only_what_a_dead_process_of_this_machine_made_is_swept(api: Management) -> None:
    dead = of_the_dead()
    elsewhere = json.dumps(json.loads(dead) | {"boot": "another"})
    older = json.dumps(json.loads(vhosts.description()) | {"born": 1})
    made = {
        "dead": (vhosts.name(secrets.token_hex(6)), dead),
        "a pid used again": (vhosts.name(secrets.token_hex(6)), older),
        "alive": (vhosts.name(secrets.token_hex(6)), vhosts.description()),
        "elsewhere": (vhosts.name(secrets.token_hex(6)), elsewhere),
        "silent": (vhosts.name(secrets.token_hex(6)), ""),
        "somebody's": (f"theirs-{secrets.token_hex(6)}", dead),
    }
    names = {who: name for who, (name, _) in made.items()}
    try:
        for name, said in made.values():
            api.create_vhost(name, said)
        found = vhosts.strays(api)
        assert {who: found.get(name) for who, name in names.items()} == {
            "dead": True,
            "a pid used again": True,
            "alive": None,
            "elsewhere": False,
            "silent": False,
            "somebody's": None,
        }
        assert {names["dead"], names["a pid used again"]} <= set(vhosts.sweep(api))
        left = [who for who, name in names.items() if name in api.vhosts()]
        assert left == ["alive", "elsewhere", "silent", "somebody's"]
    finally:
        for name in names.values():
            api.delete_vhost(name)
