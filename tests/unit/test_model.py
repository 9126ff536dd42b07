from __future__ import annotations

import pytest

from rabbitproof.model import Queue, QueueType, Topology


@pytest.mark.parametrize(
    ("kind", "lazy", "works", "arguments"),
    [
        ("classic", False, True, {}),
        ("classic", True, True, {"x-queue-mode": "lazy"}),
        ("classic", True, False, {}),
        ("quorum", False, True, {"x-queue-type": "quorum"}),
        ("stream", False, False, {"x-queue-type": "stream"}),
    ],
)
def test_a_queue_asks_for_what_differs_from_the_default(
    kind: QueueType, lazy: bool, works: bool, arguments: dict[str, str]
) -> None:
    """A plain classic queue has no arguments, so that any client can declare it."""
    assert Queue("q", kind, lazy=lazy).arguments(lazy_works=works) == arguments


def test_a_topologys_work_queue_comes_first() -> None:
    """And the audit queue only if there is one."""
    work, audit = Queue("w"), Queue("a")
    assert Topology("x", "k", work, audit).queues == (work, audit)
    assert Topology("x", "k", work).queues == (work,)
