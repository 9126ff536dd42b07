"""The other clients that tests stand beside, found once for each worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fetched import Unavailable, java, unavailable
from rabbitproof.trial.peers import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rabbitproof.trial.peers.catalogue import Peer


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Peer]:
    """Return what returns a peer by its name; skips the test where there can be no Java."""
    known: dict[str, Peer | str | Unavailable] = {}
    folder = tmp_path_factory.mktemp("peers")

    def find(name: str) -> Peer:
        if name not in known:
            known[name] = catalogue.find(name, folder)
            if name == "java" and isinstance(known[name], str):
                known[name] = _fetched(folder)
        peer = known[name]
        if isinstance(peer, Unavailable):
            unavailable(peer)
        assert not isinstance(peer, str), peer
        return peer

    return find


def _fetched(folder: Path) -> Peer | str | Unavailable:
    try:
        variables = java()
    except Unavailable as reason:
        return reason
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return catalogue.find("java", folder)
