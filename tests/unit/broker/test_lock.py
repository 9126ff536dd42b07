from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import lock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with (
        lock.held(tmp_path / "lock", deadline_s=1),
        pytest.raises(TimeoutError),
        lock.held(tmp_path / "lock", deadline_s=0.1),
    ):
        pass
    with lock.held(tmp_path / "lock", deadline_s=0.1):
        pass
