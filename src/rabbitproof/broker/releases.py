"""Which RabbitMQ release is started: one asked for, in the cache, fetched, or installed.

Holds: what ``--rabbitmq`` means, the releases in the cache folder, fetching and removing one.
Refuses to hold: how apt fetches (``apt.py``) and where RabbitMQ is when it is installed
(``install.py``).

Rules
-----
- ``all`` is no release but several, and only who asks for ``every`` understands it.
- Asked for: ``--rabbitmq``, else ``RABBITPROOF_RABBITMQ``. Else the newest in the cache, else,
  once, the newest that can be fetched here, else what is installed.
- No network is touched when the cache has what is meant, and nothing in it is replaced: a newer
  patch of a release comes only when ``fetch`` is called for it, and then stands beside the old one.
- A release appears in the cache whole or not at all: it is built beside and renamed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from rabbitproof.broker import apt, lock
from rabbitproof.broker.install import (
    Installation,
    at,
    cache_folder,
    check_path,
    find,
    home_version,
    install_command,
    is_home,
    version_key,
)
from rabbitproof.errors import InstallError, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE: Final = "RABBITPROOF_RABBITMQ"
INSTALLED: Final = "installed"
ALL: Final = "all"
"""One release after the other; see ``every``."""

_DEADLINE_S: Final = 600.0
"""For another command that is fetching."""
_OLDEST: Final = (3, 10)
"""Taken when nobody asks for a release; what is older was never tried."""
_RELEASE: Final = re.compile(r"\d+(\.\d+){1,3}")


def provide(asked: str | None, note: Callable[[str], None]) -> Installation:
    """Return the RabbitMQ that is meant; ``note`` gets a line about what takes long.

    ``asked``: a release such as ``4.3`` or ``4.3.6``, ``installed``, or the folder of a server (the
    generic Unix archive, unpacked); None for what the environment says or what is best here. Raise
    UsageError where that names nothing, InstallError where it can't be had.
    """
    named = "--rabbitmq" if asked else VARIABLE
    asked = asked or os.environ.get(VARIABLE) or None
    if (known := _without_fetching(asked, named)) is not None:
        return known
    if asked is not None:
        return fetch(asked, note)
    if not apt.usable():
        return find() or _nothing()
    try:
        return fetch(None, note)
    except (InstallError, UsageError) as error:
        found = find()
        if found is None:
            raise
        note(f"{error} Using the installed RabbitMQ {found.version}.")
        return found


def cached() -> list[Installation]:
    """Return the releases in the cache, the newest first."""
    folder = cache_folder()
    found = []
    # The second is where a version of this program that knew one release kept it.
    for place in (*_folder().glob("[0-9]*[0-9]"), folder / "rabbitmq"):
        erlang = place / "usr/lib/erlang"
        found += [
            Installation(home, erlang, home_version(home), "fetched")
            for home in place.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*")
            if is_home(home) and (erlang / "bin/erl").exists()
        ]
    return sorted(found, key=lambda one: version_key(one.version), reverse=True)


def default() -> Installation | None:
    """Return what starts where nobody asks for a release; None where that is not here yet."""
    return _without_fetching(os.environ.get(VARIABLE) or None, VARIABLE) or (
        None if apt.usable() else find()
    )


def here() -> list[Installation]:
    """Return all that can be started without fetching it: the cache's and what is installed."""
    found = find()
    return [*cached(), *([found] if found else [])]


def every(note: Callable[[str], None]) -> list[str]:
    """Return the versions that ``all`` means, the newest first, always two at least.

    The newest patch of each release that is here; where that is one release at most, also of each
    that a suite offers, and ``provide`` fetches those. ``note`` gets a line about what takes long.
    Raise InstallError where there is nothing to compare.
    """
    found: dict[str, str] = {}
    failures: list[str] = []

    def add(version: str) -> None:
        if version_key(version) >= _OLDEST:
            found.setdefault(series(version), version)

    for version in sorted((one.version for one in here()), key=version_key, reverse=True):
        add(version)
    if len(found) < 2 and apt.usable():
        note("asking Debian's suites which releases of RabbitMQ they have")
        with _workplace() as work:
            apt.check_room(work.parent, apt.LISTS)
            for offer in apt.offers(work):
                if isinstance(offer, InstallError):
                    failures.append(str(offer))
                elif offer.version is not None:
                    add(offer.version)
    if not found:
        _nothing()
    if len(found) < 2:
        raise InstallError(
            f"RabbitMQ {next(iter(found.values()))} is the only release that can be had here, and"
            f" `{ALL}` compares several. {' '.join([*failures[:1], ''])}Leave out --rabbitmq {ALL}"
            " to use that one."
        )
    for failure in failures:
        note(f"{failure} What it offers is not tried.")
    return sorted(found.values(), key=version_key, reverse=True)


def tree(installation: Installation) -> Path:
    """Return the folder in the cache that holds a fetched release and nothing else."""
    return installation.home.parents[4]


def matches(version: str, asked: str) -> bool:
    """Tell whether a version, such as 4.3.6, is of the release asked for, such as 4.3."""
    wanted = version_key(asked)
    return version_key(version)[: len(wanted)] == wanted


def series(version: str) -> str:
    """Return the release of which a version is a patch: 4.3 for 4.3.6."""
    return ".".join(map(str, version_key(version)[:2]))


def fetch(asked: str | None, note: Callable[[str], None], *, refresh: bool = False) -> Installation:
    """Return the newest patch that is offered of a release, or of all, and keep it in the cache.

    Without ``refresh`` one that another command has fetched meanwhile will do. Raise UsageError
    when nobody offers such a release, InstallError when somebody could not be asked.
    """
    if not apt.usable():
        _nothing(asked)
    with _workplace() as work:
        if not refresh and (known := _without_fetching(asked)) is not None:
            return known
        apt.check_room(work.parent, apt.LISTS)
        return _fetch(work, asked, note)


def remove(asked: str) -> list[str]:
    """Remove each release in the cache that ``asked`` names; return their versions.

    Raise UsageError when there is none, or a process of one runs.
    """
    found = [one for one in cached() if is_release(asked) and matches(one.version, asked)]
    if not found:
        here = ", ".join(one.version for one in cached()) or "nothing"
        raise UsageError(f"The cache holds no release {safe(asked, 60)!r}; it holds {here}.")
    for one in found:
        if (pid := user_of(one)) is not None:
            raise UsageError(
                f"RabbitMQ {one.version} is running (pid {pid}); stop it first: `rabbitproof "
                "broker down` if it is yours."
            )
        gone = tree(one).with_name(f"{tree(one).name}.part")
        tree(one).rename(gone)  # whole or not at all, here as well
        shutil.rmtree(gone)
    return [one.version for one in found]


def user_of(installation: Installation) -> int | None:
    """Return the pid of a process that runs a fetched release; None when none does."""
    place = f"{tree(installation)}{os.sep}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(part.startswith(place) for part in process.cmdline()):
                return process.pid
    return None


@contextmanager
def _workplace() -> Iterator[Path]:
    """Give a new folder beside the releases, gone afterwards, while no other command fetches.

    Raise InstallError where that can't be, or what is done there fails for the disk.
    """
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock.held(folder / "fetch.lock", deadline_s=_DEADLINE_S):
            for stale in folder.glob("*.part"):
                shutil.rmtree(stale, ignore_errors=True)  # of a fetch that was killed
            work = Path(tempfile.mkdtemp(".part", dir=folder))
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except TimeoutError:
        raise InstallError(
            f"Another process has been fetching into {folder} for {_DEADLINE_S:g} s; end it or"
            " name another folder with RABBITPROOF_CACHE."
        ) from None
    except OSError as error:
        raise InstallError(
            f"RabbitMQ could not be kept in {folder} ({error.strerror or error});"
            " make room there or name another folder with RABBITPROOF_CACHE."
        ) from error


def _without_fetching(asked: str | None, named: str = "--rabbitmq") -> Installation | None:
    """Return what is meant, if it can be started as it is; ``named`` is what named it."""
    if asked is None:
        return next(iter(cached()), None)
    if asked == INSTALLED:
        return find() or _nothing(asked)
    if asked == ALL:
        raise UsageError(
            f"{named} {ALL} is for `rabbitproof prove --all`, which tries one release after the"
            " other; say one release here, such as 4.3."
        )
    if not is_release(asked):
        return _in_folder(asked, named)
    return next((one for one in here() if matches(one.version, asked)), None)


def is_release(asked: str) -> bool:
    """Tell whether ``asked`` is a version or the beginning of one."""
    return _RELEASE.fullmatch(asked) is not None


def _in_folder(asked: str, named: str) -> Installation:
    found = at(Path(asked).absolute())
    if found is None and is_home(Path(asked)):
        raise InstallError(
            f"{named} {safe(asked, 200)} holds a RabbitMQ, and there is no Erlang to run it with;"
            " put an `erl` that fits it on PATH, or name Erlang's folder with ERLANG_HOME."
        )
    if found is None:
        what = "is no folder with a RabbitMQ server" if Path(asked).is_dir() else "is no release"
        raise UsageError(
            f"{named} {safe(asked, 200)} {what}; say a release such as 4.3, `{INSTALLED}`, or"
            " the folder of RabbitMQ's generic Unix archive (it holds sbin and plugins), with an"
            " Erlang on PATH."
        )
    return found


def _fetch(work: Path, asked: str | None, note: Callable[[str], None]) -> Installation:
    """Ask one suite after the other and take the first that offers it."""
    offered: dict[str, None] = {}
    failures: list[str] = []
    for offer in apt.offers(work):
        if isinstance(offer, InstallError):
            failures.append(str(offer))
            continue
        version = offer.version
        if version is None:
            continue
        offered.setdefault(version)
        if not (matches(version, asked) if asked else version_key(version) >= _OLDEST):
            continue
        for one in cached():
            if one.version == version:
                note(f"RabbitMQ {version}, the newest that {offer.where} offers, is in the cache")
                return one
        try:
            offer.choose()
        except InstallError as error:
            failures.append(str(error))
            continue
        if failures:
            note(f"{failures[0]} Taking what is offered elsewhere.")
        note(
            f"fetching RabbitMQ {version} of {offer.where} into the cache"
            f" ({offer.size / 1e6:.0f} MB, once){_instead()}"
        )
        offer.fetch(work / "root")
        target = check_path(_folder() / version)
        (work / "root").rename(target)
        return next(one for one in cached() if tree(one) == target)
    what = "no RabbitMQ" if asked is None else f"no RabbitMQ {asked}"
    others = f"; offered here: {', '.join(offered)}" if offered else ""
    if failures:
        raise InstallError(
            f"apt could provide {what}{others}. {failures[0]} Check the network, the proxy and the"
            f" mirror ({apt.MIRROR_VARIABLE} names another one), or name the folder of a RabbitMQ"
            " that you have with --rabbitmq DIR."
        )
    raise UsageError(f"There is {what} for this machine in any suite of Debian{others}.")


def _instead() -> str:
    found = find()
    if found is None:
        return ""
    return f"; --rabbitmq {INSTALLED} takes the installed {found.version} instead"


def _nothing(asked: str | None = None) -> Installation:
    """Raise what is to be said where a RabbitMQ can't be had."""
    what = "RabbitMQ" if asked in {None, INSTALLED} else f"RabbitMQ {asked}"
    raise InstallError(
        f"There is no {what} on this machine; install it with `{install_command()}`, name the"
        " folder of RabbitMQ's generic Unix archive with --rabbitmq DIR, or a running broker with"
        " --url."
    )


def _folder() -> Path:
    return cache_folder() / "releases"
