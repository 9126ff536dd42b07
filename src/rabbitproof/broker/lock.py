"""A lock between processes that the kernel frees when its holder dies.

Holds: that one lock. Refuses to hold: what is done under it.
"""

from __future__ import annotations

import contextlib
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAUSE_S = 0.05
"""Between two tries."""


@contextlib.contextmanager
def held(path: Path, *, deadline_s: float) -> Iterator[None]:
    """Hold the lock in ``path``, which is created; raise TimeoutError after ``deadline_s``."""
    until = time.monotonic() + deadline_s
    with path.open("w", encoding="utf-8") as file:
        while not _take(file):
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(_PAUSE_S)
        yield


def _take(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: closing the file frees its lock as well
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
