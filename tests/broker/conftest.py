"""What tests of private nodes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rabbitproof.amqp import deliveries, session
from rabbitproof.broker import watchdog
from support import marks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a cache folder of its own, in which nothing may be left."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RABBITPROOF_CACHE", str(folder))
    yield folder
    for mark in marks(folder):
        watchdog.end_processes(mark)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have properties that are larger than a frame be what can't be read."""
    for module in (session, deliveries):
        monkeypatch.setattr(module, "LARGEST_HEADER", 131_064)
