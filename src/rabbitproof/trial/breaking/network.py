"""Faults of the network between the clients and the broker: what a proxy of ours does to it.

The proxy stands before the broker for as long as the trial lasts, so they may happen to whichever
broker it is. Refuses to know bytes (``broker/proxy``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import Overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.broker.proxy import Figures, Proxy
    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.plan import FaultPlan


def _cut(plan: FaultPlan, scene: Scene) -> str | None:
    before, after, seconds = _while(scene, plan, lambda proxy: proxy.cut())
    cut = after.cut - before.cut
    if not cut:
        return None
    refused = after.refused - before.refused
    return (
        f"{cut:,} connections were reset, and {refused:,} attempts to connect refused within "
        f"{seconds:.1f} s."
    )


def _half_open(plan: FaultPlan, scene: Scene) -> str | None:
    before, after, seconds = _while(scene, plan, lambda proxy: proxy.half_open())
    dropped = after.dropped - before.dropped
    if not dropped:
        return None
    return (
        f"For {seconds:.1f} s {after.silenced - before.silenced:,} connections seemed to be open "
        f"while {dropped:,} bytes were dropped without a word."
    )


def _delay(plan: FaultPlan, scene: Scene) -> str | None:
    before, after, seconds = _while(scene, plan, lambda proxy: proxy.delay(plan.delay_ms / 1000))
    delayed = after.delayed - before.delayed
    if not delayed:
        return None
    return (
        f"For {seconds:.1f} s {delayed:,} bytes came {plan.delay_ms} ms later each way (the "
        f"longest {after.longest_delay * 1000:.0f} ms)."
    )


def _throttle(plan: FaultPlan, scene: Scene) -> str | None:
    before, after, seconds = _while(scene, plan, lambda proxy: proxy.throttle(plan.bytes_per_s))
    throttled = after.throttled - before.throttled
    if not throttled:
        return None
    return (
        f"For {seconds:.1f} s each connection carried {plan.bytes_per_s:,} bytes a second each way "
        f"at most, {throttled:,} bytes in all."
    )


def _swallow(plan: FaultPlan, scene: Scene) -> str | None:
    before, after, seconds = _while(scene, plan, lambda proxy: proxy.swallow_confirms())
    frames = after.acks + after.nacks - before.acks - before.nacks
    if not frames:
        return None
    return (
        f"Within {seconds:.1f} s {frames:,} frames with the broker's confirms, for "
        f"{after.messages - before.messages:,} messages or more, were lost on their way back."
    )


def _while(
    scene: Scene, plan: FaultPlan, break_it: Callable[[Proxy], Figures]
) -> tuple[Figures, Figures, float]:
    """Break the network, let it last, mend it; return the figures before and after, and seconds."""
    proxy = scene.place.proxy
    if proxy is None:
        raise Overdue("There is no proxy before the broker.")
    began, before = time.monotonic(), proxy.told()
    try:
        break_it(proxy)
        scene.last(plan.lasts_s)
        after = proxy.told()
    finally:
        proxy.heal()
    return before, after, time.monotonic() - began


HOW: Final = {
    "network-cut": _cut,
    "half-open": _half_open,
    "network-delay": _delay,
    "network-throttle": _throttle,
    "confirms-swallowed": _swallow,
}
