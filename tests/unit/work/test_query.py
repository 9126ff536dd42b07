import json

import pytest

from rabbitproof.errors import UsageError
from rabbitproof.received import Row
from rabbitproof.work.query import Query

ROW = Row(1, 0.0, "unacked", "ID-7", "Alice", "42", "Hello World", 9, False, False)
HEAD = b"\x0aproducer_idS\x00\x00\x00\x05Alice ID-7"
BODY = json.dumps({"n": 42, "text": "Hello World", "x": "grün"}).encode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("hello", True),
        ("HELLO world", True),
        ('"hello world"', True),
        ('"world hello"', False),
        ("alice", True),
        ("bob", False),
        ("-bob", True),
        ("-alice", False),
        ("hello -world", False),
        ("from:alice", True),
        ("from:hello", False),
        ("id:7", True),
        ("text:world", True),
        ("text:alice", False),
        ("n:42", True),
        ("n:4", False),
        ("is:unacked", True),
        ("is:acked", False),
        ("-is:redelivered", True),
        ("grün", True),
        ("http://x", False),
        ('"unclosed', False),
        ("-", True),
    ],
)
def test_a_query_matches_what_it_says(query: str, found: bool) -> None:
    matches = Query(query).matches(HEAD, BODY, lambda: frozenset({"unacked"}), lambda: ROW)
    assert matches is found


def test_a_word_that_is_escaped_in_json_is_found_too() -> None:
    body = json.dumps({"text": "grün 🐇"}, ensure_ascii=True).encode()
    for word in ("grün", "🐇"):
        assert Query(word).matches(b"", body, frozenset, lambda: ROW)


def test_a_word_does_not_match_across_properties_and_body() -> None:
    assert not Query("xy").matches(b"x", b"y", frozenset, lambda: ROW)


def test_an_unknown_kind_is_explained() -> None:
    with pytest.raises(UsageError, match="is:unacked"):
        Query("is:\x1b")
