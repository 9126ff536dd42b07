"""Who owns which private node, written down so that a later run can clean up.

Holds: the lease file of a node, and collecting nodes whose owner and watchdog have both ended.
Refuses to hold: whether a process lives (``process.py``), and starting or stopping a node
(``node.py``).

Rules
-----
- A lease is written before the node's directory is made and removed after it.
- Collected is what has provably ended. A lease of another machine, another container or another
  version of this program is left alone.
- Only processes that carry the lease's own mark in their environment are ever killed, and only the
  folder of that name beside the lease is ever deleted, whatever stands in the file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rabbitproof.broker import watchdog
from rabbitproof.process import Process

if TYPE_CHECKING:
    from pathlib import Path

_OVER: Final = {"ended", "rebooted"}
_MARK: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Lease:
    """One owned node: its mark, and the two processes that look after it."""

    mark: str
    owner: Process
    watchdog: Process

    def write(self, path: Path) -> None:
        """Write the lease whole or not at all."""
        whole = unfinished(path)
        fields = {"owner": self.owner.write(), "watchdog": self.watchdog.write()}
        whole.write_text(json.dumps({"mark": self.mark, **fields}), encoding="utf-8")
        whole.replace(path)

    @classmethod
    def read(cls, path: Path) -> Lease | None:
        """Return the lease in ``path``, or None when there is none to be understood."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            owner, dog = Process.read(fields["owner"]), Process.read(fields["watchdog"])
            mark = fields["mark"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if owner is None or dog is None or mark != path.stem or not _MARK.fullmatch(mark):
            return None
        return cls(mark, owner, dog)


def unfinished(path: Path) -> Path:
    """Return where the lease in ``path`` is written, until it is whole."""
    return path.with_suffix(".part")


def collect(leases: Path) -> list[str]:
    """End and remove every node in ``leases`` that nobody looks after; return their marks.

    Needed only where owner and watchdog were both killed before either could clean up.
    """
    collected = []
    for path in sorted(leases.glob("*.json")) if leases.is_dir() else []:
        lease = Lease.read(path)
        if lease is None or not {lease.owner.life(), lease.watchdog.life()} <= _OVER:
            continue
        if watchdog.end_processes(lease.mark):
            continue  # not ours to kill after all; try again another time
        watchdog.remove(leases / lease.mark)
        watchdog.remove(path)
        collected.append(lease.mark)
    return collected
