"""What ``--ledger`` and ``--resume`` give a participant, the same for both of them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from rabbitproof.cli.connection import API_PATIENCE_S, Connection

if TYPE_CHECKING:
    from rabbitproof.proof.record import Record
    from rabbitproof.work.recorder import Recorder


def recorder(
    folder: Path | None, connection: Connection, *, resume: Record | None = None
) -> Recorder:
    """Return what keeps a ledger in ``folder``, or goes on with one; without a folder, nothing."""
    from rabbitproof.work.recorder import LedgerRecorder, Recorder

    if folder is None:
        return Recorder()
    name = f"RabbitMQ Ledger ({platform.node()})"
    return LedgerRecorder(
        folder,
        vhost=connection.addresses[0].vhost,
        open_api=lambda: connection.api.open(timeout=API_PATIENCE_S),
        connect=connection.dialer(name),
        options=connection.for_ledger(),
        resume=resume,
    )
