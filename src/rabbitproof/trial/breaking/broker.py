"""Faults of a broker that consists of one node, which is ours.

Rules: whatever is changed is changed back, also when it went wrong in between. What shows that a
fault happened is asked from outside: the process, the port, the Management API, the clients.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rabbitproof.broker import readiness
from rabbitproof.broker.layout import DISK_LIMIT
from rabbitproof.errors import UsageError
from rabbitproof.text import safe
from rabbitproof.trial.breaking.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.broker.node import Node
    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.plan import FaultPlan

_ALARM_S: Final = 20.0
"""Within which an alarm is raised, or over, and the clients have been told."""
_ANSWERS_S: Final = 20.0
"""Within which a broker that stood still answers again."""
_HARDLY_ANY: Final = "0.000001"
"""Share of the memory that any broker exceeds."""
_TOO_MUCH: Final = str(10**18)
"""Bytes that no disk has free."""


def _kill(plan: FaultPlan, scene: Scene) -> str | None:
    return _ended(plan, scene, lambda node: node.kill(), "was gone after SIGKILL")


def _restart(plan: FaultPlan, scene: Scene) -> str | None:
    return _ended(plan, scene, lambda node: node.shut_down(), "ended in good order")


def _ended(plan: FaultPlan, scene: Scene, end: Callable[[Node], None], what: str) -> str | None:
    """End the broker, leave it so for as long as is planned, and start it again."""
    node = _node(scene)
    before = node.pid
    if before is None:
        return None
    end(node)
    gone = node.pid is None
    began = time.monotonic()
    scene.last(plan.lasts_s)
    node.start_again()
    if not gone or node.pid in {None, before}:
        return None
    return (
        f"The broker's process {before} {what}; process {node.pid} answered "
        f"{time.monotonic() - began:.1f} s later."
    )


def _pause(plan: FaultPlan, scene: Scene) -> str | None:
    node = _node(scene)
    if node.pid is None:
        return None
    began = time.monotonic()
    try:
        node.pause()
        silent = readiness.amqp_version(node.port, unnamed="?") is None
        scene.last(plan.lasts_s)
    finally:
        node.resume()
    lasted = time.monotonic() - began
    if not silent:
        return None
    until(
        scene,
        lambda: readiness.amqp_version(node.port, unnamed="?"),
        _ANSWERS_S,
        "The broker did not answer any more after its pause.",
    )
    return (
        f"The broker's process {node.pid} stood still for {lasted:.1f} s; its port took a "
        "connection meanwhile and said nothing. Then it answered again."
    )


def _memory_alarm(plan: FaultPlan, scene: Scene) -> str | None:
    limit = str(_node(scene).memory_limit)
    return _alarm(
        plan,
        scene,
        ("set_vm_memory_high_watermark", _HARDLY_ANY),
        ("set_vm_memory_high_watermark", "absolute", limit),
    )


def _disk_alarm(plan: FaultPlan, scene: Scene) -> str | None:
    return _alarm(
        plan,
        scene,
        ("set_disk_free_limit", _TOO_MUCH),
        ("set_disk_free_limit", str(DISK_LIMIT)),
    )


def _alarm(
    plan: FaultPlan, scene: Scene, raise_it: tuple[str, ...], end_it: tuple[str, ...]
) -> str | None:
    """Have an alarm raised, see that publishers are told to wait, end it, see that they go on.

    Both are commands of rabbitmqctl. What the broker tells the publishers names the resource that
    it is short of.
    """
    node = _node(scene)
    try:
        node.ctl(*raise_it)
        until(
            scene,
            lambda: scene.blocked() is not None,
            _ALARM_S,
            "No publisher was told to wait.",
        )
        began, reason = time.monotonic(), scene.blocked() or ""
        in_flight = scene.in_flight() or 0
        scene.last(plan.lasts_s)
        lasted = time.monotonic() - began
    finally:
        node.ctl(*end_it)
    until(
        scene,
        lambda: scene.blocked() is None,
        _ALARM_S,
        "The publishers were not released.",
    )
    return (
        f"The broker told the publishers to wait ('{safe(reason, 80)}') and kept them for "
        f"{lasted:.1f} s, with {in_flight:,} publishes unanswered; then it let them go on."
    )


def _node(scene: Scene) -> Node:
    if scene.place.node is None:
        raise UsageError("This broker is not ours; leave out --url.")
    return scene.place.node


HOW: Final = {
    "broker-kill": _kill,
    "broker-restart": _restart,
    "broker-pause": _pause,
    "memory-alarm": _memory_alarm,
    "disk-alarm": _disk_alarm,
}
