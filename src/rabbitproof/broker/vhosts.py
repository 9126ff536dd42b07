"""Vhosts that trials make on somebody's broker: whose each is, and removing those of the dead.

A trial deletes its vhost when it ends. One that was killed with -9 cannot, and nobody else may: a
vhost is somebody's. So each says in its description which process made it, and the next trial on
that broker removes those whose maker has provably ended.

Rules
-----
- Only what is called and described as ours is looked at.
- Provably means: made on this machine since it was started, among the processes that can be seen
  from here, by one that is gone. Of any other, a container's for one, nothing is known; it stays.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import ManagementError
from rabbitproof.process import Process

if TYPE_CHECKING:
    from rabbitproof.broker.management import Management

_NAME: Final = re.compile(r"rabbitproof-[0-9a-f]{12}")
_MADE_BY: Final = "rabbitproof"


def name(run: str) -> str:
    """Return what a run's vhost is called."""
    return f"rabbitproof-{run}"


def description() -> str:
    """Return what a vhost that this process makes says of it."""
    return json.dumps({"made by": _MADE_BY, **Process.of().write()})


def strays(api: Management) -> dict[str, bool]:
    """Return the vhosts of trials that do not provably go on; whether their maker has ended.

    Raise ManagementError when nobody tells.
    """
    found = {}
    for vhost, said in api.vhosts().items():
        if not _NAME.fullmatch(vhost):
            continue
        maker = _maker(said)
        life = "unknown" if maker is None else maker.life()
        if life != "lives":
            found[vhost] = life == "ended"
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
    """Return the process that a description names."""
    try:
        fields = json.loads(said)
        return Process.read(fields) if fields["made by"] == _MADE_BY else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
