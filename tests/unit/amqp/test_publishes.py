from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands

from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.identity import MAX_NUMBER, Identity, Source, checksum, id_prefix, identify
from wire import frames_of, messages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = Source("0a1b2c3d4e5f", 0x123)
TEXTS = st.text(max_size=20) | st.sampled_from(["100%", "%d%s%08x", "Grüße €", '"\\', ""])
NUMBERS = (
    st.lists(st.integers(1, 120) | st.integers(1, MAX_NUMBER), min_size=1, max_size=12)
    | st.builds(lambda a, n: range(a, a + n), st.integers(1, 120), st.integers(1, 12))
    | st.builds(lambda a, n: range(a, a + 3 * n, 3), st.integers(1, 1200), st.integers(1, 12))
    | st.builds(lambda a, n: range(a, max(a - n, 0), -1), st.integers(1, 120), st.integers(1, 12))
)


def envelope(
    text: str = "Hello",
    sender: str = "alice",
    size: int = 0,
    *,
    frame_max: int = 131_072,
    persistent: bool = False,
    mandatory: bool = True,
    channel: int = 1,
    routing_key: str = "work",
) -> Envelope:
    """Return what a producer makes: the text is padded so that every body has one size."""
    head, end = b'{"n":', b'","sent_by":' + json.dumps(sender).encode() + b"}"
    start = b',"text":' + json.dumps(text, ensure_ascii=False).encode()[:-1]

    def tail(digits: int) -> bytes:
        return start + b" " * (size - len(head + start + end) - digits) + end

    headers = {"producer_id": sender, "host": "h%st"}
    return Envelope(
        channel,
        "direct.exchange",
        routing_key,
        id_prefix(SOURCE),
        head,
        tail,
        headers,
        frame_max,
        persistent=persistent,
        mandatory=mandatory,
    )


@given(
    TEXTS,
    TEXTS,
    st.sampled_from([0, 200, 4089, 12_264, 12_265]),
    NUMBERS,
    st.sampled_from([0, 4096, 131_072]),
    st.booleans(),
    st.integers(0, 2**32 * 10**9 - 1),  # seconds beyond that are milliseconds to the codec
)
@example("%", "%", 0, range(9, 11), 4096, True, 0x2525252525252525)
@example("x", "y", 0, [99, 100, 99, 1, 10**9], 4096, False, 0)
def test_pamqp_reads_what_was_meant(
    text: str,
    sender: str,
    size: int,
    numbers: Sequence[int],
    frame_max: int,
    persistent: bool,
    sent_ns: int,
) -> None:
    """Every property, header and byte of the body, in the order of the numbers."""
    what = envelope(text, sender, size, frame_max=frame_max, persistent=persistent, channel=7)
    publishes = Publishes(what)
    data = publishes.encode(numbers, sent_ns=sent_ns)
    found = messages_of(data, commands.Basic.Publish)
    assert len(found) == len(numbers)
    for n, (method, seen) in zip(numbers, found, strict=True):
        assert (method.exchange, method.routing_key) == ("direct.exchange", "work")
        assert (method.mandatory, method.immediate, seen.channel) == (True, False, 7)
        body = json.loads(seen.body)
        assert list(body) == ["n", "text", "sent_by"]
        assert (body["n"], body["text"].rstrip(" ")) == (n, text.rstrip(" "))
        assert body["sent_by"] == sender
        assert len(seen.body) == size or (len(seen.body) > size and body["text"] == text)
        properties = seen.properties
        assert identify(properties.message_id) == Identity(SOURCE, n)
        assert properties.content_type == "application/json"
        assert properties.app_id == "rabbitmq.producer"
        assert properties.delivery_mode == (2 if persistent else 1)
        seconds = sent_ns // 10**9
        assert properties.timestamp == datetime.fromtimestamp(seconds, UTC)
        assert properties.headers == {
            "producer_id": sender,
            "host": "h%st",
            "checksum": checksum(properties.message_id.encode(), seen.body).decode(),
            "sent_ns": sent_ns,
        }
        others = {
            "correlation_id",
            "reply_to",
            "expiration",
            "message_type",
            "user_id",
            "cluster_id",
        }
        assert all(not getattr(properties, name) for name in others)
    frames = list(frames_of(data))
    assert not frame_max or max(len(raw) for _, _, raw in frames) <= frame_max
    assert b"".join(raw for _, _, raw in frames) == data
    assert sum(publishes.size(n) for n in numbers) == len(data)
    one_by_one = [Publishes(what).encode([n], sent_ns=sent_ns) for n in numbers]
    assert b"".join(one_by_one) == data


def test_the_mandatory_flag_can_be_left_out() -> None:
    """It is the only one that is ever set."""
    data = Publishes(envelope(mandatory=False)).encode([1], sent_ns=0)
    assert not messages_of(data, commands.Basic.Publish)[0][0].mandatory


def test_no_numbers_are_no_bytes() -> None:
    """An empty sequence of either kind."""
    publishes = Publishes(envelope())
    assert publishes.encode([], sent_ns=0) == b""
    assert publishes.encode(range(5, 5), sent_ns=0) == b""


def test_a_name_that_does_not_fit_is_an_error() -> None:
    """255 bytes fit into a short string, also when they are fewer characters."""
    fits = Publishes(envelope(routing_key="ä" * 127 + "x")).encode([1], sent_ns=0)
    assert messages_of(fits, commands.Basic.Publish)[0][0].routing_key == "ä" * 127 + "x"
    with pytest.raises(ValueError, match="256 bytes"):
        Publishes(envelope(routing_key="ä" * 128)).encode([1], sent_ns=0)
