"""Whether a queue may be read without taking: what is not told of it is no permission."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from rabbitproof.broker.answers import QueueInfo, read_queue
from rabbitproof.cli import held


def info(**told: Any) -> QueueInfo:
    settled = {"name": "q", "arguments": {}, "effective_policy_definition": {}}
    return read_queue({key: value for key, value in (settled | told).items() if value is not ...})


@pytest.mark.parametrize(
    ("version", "told", "asked"),
    [
        ("3.10.8", {"type": "stream"}, None),
        ("4.2.0", {"type": "classic", "arguments": ...}, None),
        ("3.10.8", {"type": "quorum"}, None),
        ("4.2.0", {"type": "quorum", "arguments": {"x-delivery-limit": -1}}, None),
        ("3.10.8", {"type": "quorum", "arguments": {"x-delivery-limit": 3}}, "limit (3)"),
        ("3.10.8", {"type": "quorum", "effective_policy_definition": {"delivery-limit": 7}},
         "limit (7)"),
        ("4.2.0", {"type": "quorum"}, "may have a delivery limit"),
        ("3.10.8", {"type": "quorum", "effective_policy_definition": ...}, "may have"),
        ("3.10.8", {"type": "quorum", "arguments": ...}, "may have"),
        ("3.10.8", {}, "may have"),
        ("", {"type": "quorum"}, "may have"),
    ],
)  # fmt: skip
def test_it_is_asked_where_messages_could_be_dropped_or_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, version: str, told: dict[str, Any], asked: str | None
) -> None:
    questions: list[str] = []
    monkeypatch.setattr(held, "confirm", lambda text, **_: questions.append(text) or False)
    opened = cast("Any", SimpleNamespace(server_properties={"version": version}))
    assert held.may_hold(opened, info(**told), yes=False) == (asked is None)
    assert len(questions) == (asked is not None)
    assert (asked or "") in "".join(questions)
