"""The self-test fails when the verdict is blind to something."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.address import parse
from rabbitproof.cli import selftest as command
from rabbitproof.cli.exits import run
from rabbitproof.model import Decision
from rabbitproof.proof import verdict
from rabbitproof.proof import verify as verify_module
from rabbitproof.trial import place, scenario, suite
from support import finish

if TYPE_CHECKING:
    from rabbitproof.model import QueueVerdict, Verdict


def blinded(found: Verdict, **to: Any) -> Verdict:
    """Return a verdict in which every queue has these figures instead."""

    def one(queue: QueueVerdict) -> QueueVerdict:
        return replace(queue, **to)

    return replace(found, queues={name: one(queue) for name, queue in found.queues.items()})


@pytest.mark.parametrize(
    ("name", "blind"),
    [
        ("planted-dropped", {"lost": 0}),
        ("planted-dropped", {"lost": 6}),
        ("planted-doubled", {"duplicates_unflagged": 0}),
        ("planted-swapped", {"reordered": 0}),
        ("planted-body", {"corrupt": 0}),
        ("planted-id", {"corrupt": 0}),
        ("sent-twice", {"duplicates_resent": 0}),
        ("purge", {"dropped": {}}),
        ("ttl", {"dropped": {}}),
        ("missing-binding", {"lost": 0}),
        ("reject-publish", {"nacked_delivered": 0}),
    ],
)
def test_a_verdict_that_is_blind_to_one_class_makes_it_fail(
    node: Any, vhost: Any, name: str, blind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does not see, or counts wrong, is a surprise in the scenario that plants it."""

    def judge(*known: Any, **more: Any) -> Verdict:
        return blinded(verdict.judge(*known, **more), **blind)

    monkeypatch.setattr(verify_module, "judge", judge)
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")

    def where(one: Any, run: str) -> Any:
        wiring = one.wiring()
        return place.shared(address, node.management_url, login, wiring, run, lambda _: None)

    entry = finish(suite.run_scenario(scenario.find(name), where, private=False)).entry
    assert entry.result is not None, (entry.left_out, entry.broken)
    surprises = entry.result.surprises
    assert any(key in surprise for key in blind for surprise in surprises), surprises


def test_a_verdict_that_always_passes_makes_the_command_fail(
    node: Any, vhost: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the scenario and what was missed are named; with good eyes it is 0."""
    options = ["--only", "planted-dropped", "--only", "no-confirms", "--url", vhost.url]
    options += ["--management-url", node.management_url]
    assert run(command.app, "rabbitproof", options) == 0
    out = capsys.readouterr().out
    assert "[ok]   planted-dropped" in out
    assert "[skip] no-confirms" in out
    assert "1 skipped, which proves nothing about them" in out

    def judge(*known: Any, **more: Any) -> Verdict:
        return replace(verdict.judge(*known, **more), decision=Decision.PASS)

    monkeypatch.setattr(verify_module, "judge", judge)
    assert run(command.app, "rabbitproof", [*options, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert found["scenarios"][0]["surprises"] == ["The verdict is PASS, expected was FAIL."]
    assert found["scenarios"][1]["skipped"].startswith("no-confirms needs a broker of our own")
