"""Fetch RabbitMQ and its Erlang with apt, as an ordinary user, into a folder.

Holds: an apt that has its own state and cache, the choice of packages, unpacking, and making the
unpacked Erlang run from where it is.
Refuses to hold: where RabbitMQ is when it is installed, and what to say on systems without apt
(``install.py``).

Rules
-----
- The system's own sources, keys, proxies and apt configuration are used, so that apt itself
  verifies every signature. Nothing here switches a check off; unauthenticated packages are
  refused whatever the system's configuration says.
- Nothing outside the target folder's parent is written. The target appears whole or not at all:
  it is built beside and renamed.
- The packages are worked out by apt, against an empty package list: whatever the machine has
  installed, the fetched server and its Erlang fit each other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rabbitproof.broker import lock
from rabbitproof.errors import InstallError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIBRARIES = "libraries"
"""Folder below the target with the shared libraries that the machine lacks, if any."""

_DEADLINE_S = 600.0
"""For one apt command; a slow line needs minutes for 34 MB."""

_ROOM = 130_000_000
"""Bytes that must be free: package lists 20 MB, packages 35 MB, unpacked 60 MB. apt itself retries
for minutes on a full disk."""

_OURS = re.compile(r"^(rabbitmq-server|erlang-[\w.+-]+)$")

_INSTALLS = re.compile(r"^Inst (\S+)", re.MULTILINE)

_LACKS = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)

_ERL = """#!/bin/sh
# In place of the distribution's, which holds /usr/lib/erlang as a constant.
ROOTDIR="${{ERL_ROOTDIR:-{root}}}"
BINDIR="$ROOTDIR/{erts}/bin"
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" ${{1+"$@"}}
"""


def usable() -> bool:
    """Return whether this is a system with apt and dpkg."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def fetch(target: Path, note: Callable[[str], None]) -> None:
    """Fill ``target`` with RabbitMQ and Erlang; do nothing when another process just has.

    Raise InstallError with a sentence about what to do when the packages cannot be had or kept.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock.held(target.with_suffix(".lock"), deadline_s=_DEADLINE_S):
            if target.exists():
                return
            free = shutil.disk_usage(target.parent).free
            if free < _ROOM:
                raise InstallError(
                    f"RabbitMQ needs {_ROOM // 10**6} MB in {target.parent} and only"
                    f" {free // 10**6} MB are free; make room there or name another folder with"
                    " RABBITPROOF_CACHE."
                )
            for stale in target.parent.glob(f"{target.name}.*.part"):
                shutil.rmtree(stale, ignore_errors=True)  # of a fetch that was killed
            work = Path(tempfile.mkdtemp(".part", f"{target.name}.", target.parent))
            try:
                _fill(work, target, note)
                (work / "root").rename(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except TimeoutError:
        raise InstallError(
            f"Another process has been filling {target.parent} for {_DEADLINE_S:g} s; end it or"
            " name another folder with RABBITPROOF_CACHE."
        ) from None
    except OSError as error:
        raise InstallError(
            f"RabbitMQ could not be kept in {target.parent} ({error.strerror or error});"
            " make room there or name another folder with RABBITPROOF_CACHE."
        ) from error


def _fill(work: Path, target: Path, note: Callable[[str], None]) -> None:
    root, debs = work / "root", work / "debs"
    root.mkdir(mode=0o755)
    debs.mkdir()
    config = _configure(work / "apt")
    note("fetching RabbitMQ with apt into the cache (about 35 MB, once)")
    refresh = _run(["apt-get", "-c", str(config), "update", "-q"], check=False)
    # One source that fails (a vendor's, behind a firewall) does not matter as long as the
    # packages needed can be worked out; what it said is told if they cannot.
    wanted = _closure(config, refresh)
    _download(config, debs, [name for name in wanted if _OURS.match(name)])
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg", "-x", str(deb), str(root)])
        deb.unlink()
    _relocate_erlang(root / "usr/lib/erlang", target / "usr/lib/erlang")
    _add_libraries(config, root, work, wanted)


def _configure(folder: Path) -> Path:
    """Write the configuration of an apt whose state is all below ``folder``."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "archives/partial").mkdir(parents=True)
    (folder / "status").touch()
    config = folder / "apt.conf"
    config.write_text(
        f"""\
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}";
Debug::NoLocking "true";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
""",
        encoding="utf-8",
    )
    return config


def _closure(config: Path, refresh: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the names of rabbitmq-server and everything it depends on."""
    command = ["apt-get", "-c", str(config), "install", "--simulate", "--no-install-recommends"]
    plan = _run([*command, "rabbitmq-server"], check=False)
    names = _INSTALLS.findall(plan.stdout)
    if plan.returncode != 0 or "rabbitmq-server" not in names:
        raise InstallError(
            f"apt could not provide rabbitmq-server ({_complaint(refresh, plan)}); check the"
            " network, the proxy and `apt-get update`, or install it with"
            " `sudo apt-get install rabbitmq-server`."
        )
    return names


def _download(config: Path, debs: Path, names: Sequence[str]) -> None:
    done = _run(["apt-get", "-c", str(config), "download", "-q", *names], cwd=debs, check=False)
    if done.returncode != 0:
        raise InstallError(
            f"apt could not download RabbitMQ's packages ({_complaint(done)}); check the network,"
            " the proxy and the room on the disk, then try again."
        )


def _relocate_erlang(here: Path, final: Path) -> None:
    """Give the unpacked Erlang a start script that does not assume /usr/lib/erlang.

    There are two copies of it: RabbitMQ itself starts the one beside the emulator.
    """
    for emulator in here.glob("erts-*/bin"):
        text = _ERL.format(root=final, erts=emulator.parent.name)
        for script in (here / "bin/erl", emulator / "erl"):
            script.unlink(missing_ok=True)
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)


def _add_libraries(config: Path, root: Path, work: Path, wanted: Sequence[str]) -> None:
    """Add the shared libraries that Erlang needs and this machine lacks, normally none."""
    binaries = [
        *root.glob("usr/lib/erlang/erts-*/bin/*"),
        *root.glob("usr/lib/erlang/lib/*/priv/lib/*.so"),
    ]
    listing = _run(["ldd", *map(str, binaries)], check=False).stdout
    if not _LACKS.search(listing):
        return
    debs, unpacked, libraries = work / "library-debs", work / "library-root", root / LIBRARIES
    debs.mkdir()
    libraries.mkdir()
    _download(config, debs, [name for name in wanted if name.startswith("lib")])
    for deb in debs.glob("*.deb"):
        _run(["dpkg", "-x", str(deb), str(unpacked)])
    for name in sorted(set(_LACKS.findall(listing))):
        for library in unpacked.rglob(name):
            shutil.copy(library, libraries / name)


def _run(
    command: Sequence[str], *, cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run one command with the caller's environment (proxies and all), in English."""
    try:
        done = subprocess.run(  # noqa: S603 - our own command lines, no shell
            command,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"`{' '.join(command[:1])}` did not finish within {_DEADLINE_S:g} s; check the"
            " network and the proxy, then try again."
        ) from error
    if check and done.returncode != 0:
        raise InstallError(
            f"`{' '.join(command[:2])}` failed ({_complaint(done)}); make room in the cache"
            " folder or name another one with RABBITPROOF_CACHE."
        )
    return done


def _complaint(*done: subprocess.CompletedProcess[str]) -> str:
    """Return the first things a command complained about, in one line."""
    lines = [line.strip() for each in done for line in each.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines[-1:]
    text = "; ".join(dict.fromkeys(errors[:2])) or f"status {done[-1].returncode}"
    return safe(text, 400)
