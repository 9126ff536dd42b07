"""Waiting for what a fault has to bring about, or to have ended.

Rules: each wait has a deadline, and ends at once with the trial.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from rabbitproof.errors import Overdue

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.trial.faults import Scene

_T = TypeVar("_T")


def until(
    scene: Scene,
    look: Callable[[], _T],
    within_s: float,
    otherwise: str,
    *,
    every_s: float = 0.05,
) -> _T:
    """Look every so many seconds until the answer is a true one; return it.

    ``otherwise``: the sentence of the Overdue that is raised after ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Overdue(f"{otherwise} This was waited for {within_s:.0f} s.")
        scene.last(every_s)
    return found
