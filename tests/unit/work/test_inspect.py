from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.model import Sample
from rabbitproof.work import inspect
from rabbitproof.work.inspect import foreign_sample, sample
from wire import header_payload

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
BODIES = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())


def foreign(body: bytes, header: bytes) -> Delivery:
    return Delivery(1, b"worker", 1, False, b"", b"", header, body)


def test_a_message_of_ours_shows_its_parts() -> None:
    """Number, id, sender and text, from id and body."""
    body = '{"n":7,"text":"Grüße","sent_by":"alice"}'.encode()
    assert sample(3, b"id-1", body) == Sample(3, "id-1", "alice", "7", "Grüße")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", ("?", "?", "")),
        (b"plain text", ("?", "?", "plain text")),
        (b"\xff\x00", ("?", "?", "\\xff\x00")),
        (b"[1,2]", ("?", "?", "[1,2]")),
        (b"{}", ("?", "?", "")),
        (b'{"n":null,"text":[1],"sent_by":{}}', ("{}", "None", "[1]")),
        (b"[" * 100_000, ("?", "?", "[" * 400)),
        (b'{"n":' + b"9" * 5000 + b"}", ("?", "?", '{"n":' + "9" * 395)),
    ],
)
def test_any_other_body_shows_what_there_is(body: bytes, shown: tuple[str, str, str]) -> None:
    """A question mark for what is missing."""
    found = sample(1, b"x", body)
    assert (found.sender, found.n, found.text) == shown


def test_a_body_that_is_too_large_to_parse_shows_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not read only to show one line of it."""
    monkeypatch.setattr(inspect, "_LONGEST_PARSED", 1000)
    fits = b'{"n":1,"text":"' + b"x" * 983 + b'"}'
    assert sample(1, b"x", fits).n == "1"
    assert sample(1, b"x", fits + b" ") == Sample(1, "x", "?", "?", fits[:400].decode())


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_a_body_that_is_nested_as_deep_as_can_be_read_is_shown(depth: int) -> None:
    """What the parser takes is not too deep to be written."""
    for key in (b"n", b"text", b"sent_by"):
        body = b'{"' + key + b'":' + b"[" * depth + b"]" * depth + b"}"
        assert sample(1, b"x", body).number == 1


@given(BODIES, st.binary(max_size=40) | st.text(max_size=40))
def test_showing_never_fails(body: bytes, message_id: bytes | str) -> None:
    """Whatever id and body are."""
    found = sample(1, message_id, body)
    assert isinstance(found.message_id, str)
    assert isinstance(found.text, str)


def test_a_foreign_message_shows_its_header_first() -> None:
    """The producer_id header, else the app_id property, else the body's own word."""
    body = b'{"n":1,"text":"hi","sent_by":"carol"}'

    def shown(**properties: object) -> Sample:
        header = header_payload(commands.Basic.Properties(**properties), len(body))  # type: ignore[arg-type]
        return foreign_sample(2, foreign(body, header))

    both = shown(message_id="m", app_id="shop", headers={"producer_id": "bob"})
    assert both == Sample(2, "m", "bob", "1", "hi")
    assert shown(app_id="shop").sender == "shop"
    assert shown(headers={"producer_id": 5}).sender == "5"
    assert shown() == Sample(2, "?", "carol", "1", "hi")


@given(BODIES, st.binary(max_size=60))
def test_showing_a_foreign_message_never_fails(body: bytes, header: bytes) -> None:
    """A header that can't be decoded has no id."""
    assert foreign_sample(1, foreign(body, header)).number == 1
    flags = b"\0\x3c\0\0" + len(body).to_bytes(8, "big")
    assert foreign_sample(1, foreign(body, flags + header)).number == 1
