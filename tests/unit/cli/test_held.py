"""Whether a queue may be read without taking: what is not told of it is no permission."""

from typing import Any

import pytest

from rabbitproof.broker.answers import QueueInfo, read_queue
from rabbitproof.cli.held import expensive, like, limited


def info(**values: Any) -> QueueInfo:
    given = {"name": "q", "type": "quorum", "arguments": {}} | values
    return read_queue({key: value for key, value in given.items() if value is not ...})


@pytest.mark.parametrize(
    ("release", "values", "by_policy", "asked"),
    [
        ((3, 10), {}, [], ""),
        ((4, 2), {"arguments": {"x-delivery-limit": -1}}, [], ""),
        ((4, 2), {"arguments": {"x-delivery-limit": -1}}, [2], "may have a delivery limit (2)"),
        ((3, 10), {"arguments": {"x-delivery-limit": 3}}, [], "has a delivery limit (3)"),
        ((3, 10), {"arguments": {"x-delivery-limit": 3}}, [7, 2], "may have a delivery limit (2)"),
        ((3, 10), {}, [7], "may have a delivery limit (7)"),
        ((3, 10), {}, ["seven"], "may have a delivery limit (20 from"),
        ((4, 2), {}, [], "may have a delivery limit (20 from"),
        ((4, 2), {}, [-1], "may have a delivery limit (20 from"),
        ((3, 10), {}, None, "may have a delivery limit (20 from"),
        ((3, 10), {"arguments": ...}, [], "may have a delivery limit (20 from"),
        ((3, 10), {"type": ...}, [], "may have a delivery limit (20 from"),
        ((), {}, [], "may have a delivery limit (20 from"),
        ((0, 0), {}, [], "may have a delivery limit (20 from"),
    ],
)
def test_it_is_asked_where_messages_could_be_dropped_or_nobody_knows(
    release: tuple[int, ...], values: dict[str, Any], by_policy: list[Any] | None, asked: str
) -> None:
    found = limited(release, info(**values), by_policy)
    assert found.startswith(asked)
    assert bool(found) == bool(asked)


@pytest.mark.parametrize(
    ("values", "left", "most", "asked"),
    [
        ({"messages": 100, "message_bytes": 400_000_000}, 200_000_000, None, "has 400 MB to hold"),
        ({"messages": 100, "message_bytes": 400_000_000}, 200_000_000, 10, ""),
        ({"messages": 100, "message_bytes": 400_000_000}, 200_000_000, 90, "has 360 MB to hold"),
        ({"messages": 100, "message_bytes": 400_000_000}, 900_000_000, None, ""),
        ({"messages": 100, "message_bytes": 400_000_000}, -5, None, "has 400 MB to hold, and its "
         "broker 0 MB left"),
        ({"messages": 100, "message_bytes": 400_000_000}, None, None, ""),
        ({"messages": 100}, 200_000_000, None, ""),
    ],
)  # fmt: skip
def test_it_is_asked_where_a_broker_would_need_much_memory(
    values: dict[str, Any], left: int | None, most: int | None, asked: str
) -> None:
    found = expensive(info(**values), left, most)
    assert found.startswith(asked)
    assert bool(found) == bool(asked)


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("work.queue", ["audit.queue", "work.queue "], "work.queue "),
        ("work.queue", ["Work.Queue"], "Work.Queue"),
        ("work.queue", ["work\u200b.queue"], "work\u200b.queue"),
        ("wrok.queue", ["audit.queue", "work.queue"], "work.queue"),
        ("orders", ["work.queue", "audit.queue"], None),
        ("orders", [], None),
    ],
)
def test_the_name_that_was_meant_is_offered(name: str, names: list[str], meant: str | None) -> None:
    assert like(name, names) == meant
