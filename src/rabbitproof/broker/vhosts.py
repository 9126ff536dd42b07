"""Vhosts that trials make on somebody's broker: whose each is, and removing those of the dead.

A trial deletes its vhost when it ends. One that was killed with -9 cannot, and nobody else may: a
vhost is somebody's. So each says in its description which process made it, and the next trial on
that broker removes those whose maker has provably ended.

Rules
-----
- Only what is called and described as ours is looked at.
- Provably means: made on this machine since it was started, among the processes that can be seen
  from here, by one that is gone. Of any other, a container's for one, nothing is known; it stays.
- A process is named by its pid and its start time; a pid alone may be anybody by now.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.broker.lease import Process
from rabbitproof.errors import ManagementError

if TYPE_CHECKING:
    from rabbitproof.broker.management import Management

_NAME: Final = re.compile(r"rabbitproof-[0-9a-f]{12}")
_MADE_BY: Final = "rabbitproof"


def name(run: str) -> str:
    """Return what a run's vhost is called."""
    return f"rabbitproof-{run}"


def description() -> str:
    """Return what a vhost that this process makes says of it."""
    me = Process.of(os.getpid())
    return json.dumps({"made by": _MADE_BY, "pid": me.pid, "started": me.started, **_where()})


def strays(api: Management) -> dict[str, bool]:
    """Return the vhosts of trials that do not provably go on; whether their maker has ended.

    Raise ManagementError when nobody tells.
    """
    found = {}
    for vhost, said in api.vhosts().items():
        if not _NAME.fullmatch(vhost):
            continue
        maker = _maker(said)
        if maker is None:
            found[vhost] = False
        elif maker.find() is None:
            found[vhost] = True
    return found


def sweep(api: Management) -> list[str]:
    """Delete the vhosts of trials that have provably ended; return their names."""
    swept = []
    with contextlib.suppress(ManagementError):  # not ours to insist on: they are in nobody's way
        for vhost, ended in strays(api).items():
            if ended and api.delete_vhost(vhost):
                swept.append(vhost)
    return swept


def _maker(said: str) -> Process | None:
    """Return the process that a description names, if it is one that could be seen from here."""
    try:
        fields: dict[str, Any] = json.loads(said)
        if fields["made by"] != _MADE_BY or {key: fields[key] for key in _where()} != _where():
            return None
        return Process(int(fields["pid"]), float(fields["started"]))
    except (ValueError, KeyError, TypeError):
        return None


def _where() -> dict[str, str]:
    """Return what tells this machine, its last start and its processes from others.

    Two containers on one machine may have one name and one boot, but not one list of processes.
    """
    boot = processes = ""
    with contextlib.suppress(OSError):  # not on Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        processes = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it leads to no file
    return {"host": platform.node(), "boot": boot, "processes": processes}
