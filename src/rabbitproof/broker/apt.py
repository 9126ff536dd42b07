"""Fetch a RabbitMQ release and its Erlang with apt, as an ordinary user, into a folder.

Holds: an apt that has its own state and cache, the suites of Debian that are asked, the choice of
packages, unpacking, and making the unpacked Erlang run from wherever it is.
Refuses to hold: which releases are kept and which one is meant (``releases.py``), and where
RabbitMQ is when it is installed (``install.py``).

Rules
-----
- apt itself verifies every signature, with Debian's own archive keyring; unauthenticated packages
  are refused whatever the system's configuration says. The system's mirror, proxies and
  certificates are used.
- A mirror that is behind (a snapshot, a company's own) is used, and how old it is is said: what
  Debian signed stays what Debian signed.
- A suite is a means: each is asked which version it offers. That Debian gives a suite another
  name, or another RabbitMQ, changes nothing here.
- Nothing outside the given folder is written, and what is unpacked may be moved.
- The packages are worked out by apt, against an empty package list. The C library comes along, and
  Erlang's programs are started through it: whatever the machine has, older or newer, they fit.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import InstallError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIRROR_VARIABLE: Final = "RABBITPROOF_MIRROR"

SUITES: Final = ("testing", "stable", "oldstable", "oldoldstable", "unstable")
"""In which they are asked. Names that stay while releases move through them; the one that anything
can break comes last."""

_DEADLINE_S: Final = 600.0
"""For one apt command; a slow line needs minutes for 60 MB."""

LISTS: Final = 60_000_000
"""Bytes for a suite's package lists, while they are read."""

_UNPACKED: Final = 3
"""So many times its packages' size is a release, with the packages, while it is unpacked."""

_HEAD: Final = 4_000
"""Characters of a suite's Release file in which its dates stand."""

_KEYRING: Final = "debian-archive-keyring"

_INSTALLS: Final = re.compile(r"^Inst (\S+)", re.MULTILINE)
_URIS: Final = re.compile(r"^'\S+' \S+ (\d+)", re.MULTILINE)
_EDGES: Final = re.compile(r"^(?:(\S+)|[ |]+(?:Pre)?Depends: (\S+))$", re.MULTILINE)
_UPSTREAM: Final = re.compile(r"^\s+Candidate: (?:\d+:)?(\d[\d.]*)", re.MULTILINE)
_UNANSWERED: Final = re.compile(
    r"(Could not|Unable to|Cannot) (connect|resolve|initiate)|failure resolving|timed out"
)
_MIRROR: Final = re.compile(rb"https?://[\w.-]+/debian\b")

_LINKS: Final = "loaders"
_LOADED: Final = """#!/bin/sh
# Started through the C library that came with it, which need not be this machine's.
libraries=${{0%/*}}/{up}{libraries}
exec "${{0%/*}}/{links}/${{0##*/}}" --library-path "$libraries{more}" "$0.elf" "$@"
"""

_ERL: Final = """#!/bin/sh
# In place of the distribution's, which holds /usr/lib/erlang as a constant.
ROOTDIR=$(cd "${{0%/*}}/{up}" && pwd)
BINDIR="$ROOTDIR/{erts}/bin"
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" ${{1+"$@"}}
"""


def usable() -> bool:
    """Return whether this is a system with apt and dpkg."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


class Offer:
    """What one suite offers: RabbitMQ's version, its packages, and how many bytes they have.

    ``where`` names the suite for people; ``version`` is None where the suite has no RabbitMQ.
    Raise InstallError where it can't be asked.
    """

    def __init__(self, work: Path, suite: str | None, mirror: Mirror | None) -> None:
        """Ask it; ``work`` is a new folder. Without a suite: all that the system's own apt sees."""
        self._work = work
        self.where = f"Debian {suite}" if suite else "this system's own packages"
        self._config = _configure(work, mirror.source(suite) if mirror and suite else None)
        refresh = _run(["apt-get", "-c", str(self._config), "update", "-q"], check=False)
        # apt calls it a success where a source did not answer, and goes on without it.
        failed = refresh.returncode != 0 or "Failed to fetch" in refresh.stderr
        if failed and suite:
            raise InstallError(f"{self.where} at {safe(mirror.uri if mirror else '', 200)} could "
                               f"not be asked: {_complaint(refresh)}.")  # fmt: skip
        policy = _run(["apt-cache", "-c", str(self._config), "policy", "rabbitmq-server"])
        named = _UPSTREAM.search(policy.stdout)
        # One source that fails (a vendor's, behind a firewall) does not matter as long as the
        # packages can be had from another.
        if named is None and failed:
            raise InstallError(f"{self.where} could not be asked: {_complaint(refresh)}.")
        self.version: str | None = named.group(1) if named else None
        self.where += _age(work / "lists")
        self.packages: tuple[str, ...] = ()
        self.size = 0

    def choose(self) -> None:
        """Work out the packages: RabbitMQ, its Erlang, and the libraries that this one needs."""
        command = ["apt-get", "-c", str(self._config), "install", "--simulate"]
        plan = _run([*command, "--no-install-recommends", "rabbitmq-server"], check=False)
        names = set(_INSTALLS.findall(plan.stdout))
        if plan.returncode != 0 or "rabbitmq-server" not in names:
            raise InstallError(
                f"{self.where} names a RabbitMQ {self.version} but not all that it needs:"
                f" {_complaint(plan)}."
            )
        erlang = {name for name in names if name.startswith("erlang-")}
        libraries = {name for name in names if re.match("lib|zlib", name)}
        needed = ["apt-cache", "-c", str(self._config), "depends", "--no-recommends"]
        needed += ["--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"]
        needs = _edges(_run([*needed, "--no-enhances", *sorted(erlang | libraries)]).stdout)
        wanted, pending = set(erlang), list(erlang)
        while pending:
            found = needs.get(pending.pop(), set()) & libraries - wanted
            wanted |= found
            pending += found
        self.packages = ("rabbitmq-server", *sorted(wanted))
        listing = _run(["apt-get", "-c", str(self._config), "download", "--print-uris",
                        *self.packages])  # fmt: skip
        self.size = sum(map(int, _URIS.findall(listing.stdout)))

    def fetch(self, root: Path) -> None:
        """Download and unpack it into ``root``, which is made."""
        check_room(root.parent, _UNPACKED * self.size)
        _unpack(self._config, self._work, self.packages, root)
        _relocate(root)


class Mirror:
    """Where Debian's suites are had from, and the keys that sign them."""

    def __init__(self, work: Path) -> None:
        """Find both; ``work`` is a new folder for what has to be fetched for that.

        On Debian they are the system's. Elsewhere the system's own archive has Debian's keyring
        and its tool, which knows Debian's address, as packages.
        """
        keyring = next(Path("/usr/share/keyrings").glob(f"{_KEYRING}.[gp]*"), None)
        uri = os.environ.get(MIRROR_VARIABLE) or _system_mirror()
        if keyring is None or uri is None:
            config = _configure(work)
            _run(["apt-get", "-c", str(config), "update", "-q"], check=False)
            root = work / "root"
            _unpack(config, work, (_KEYRING, "debootstrap"), root)
            keyring = keyring or next(root.glob(f"usr/share/keyrings/{_KEYRING}.[gp]*"), None)
            said = _MIRROR.search((root / "usr/sbin/debootstrap").read_bytes())
            uri = uri or (said.group().decode() if said else None)
        if keyring is None or uri is None:
            raise InstallError(
                "Neither Debian's keys nor its address are known here; name a mirror of Debian "
                f"with {MIRROR_VARIABLE} and install {_KEYRING}."
            )
        self.uri, self._keyring = uri, keyring

    def source(self, suite: str) -> str:
        """Return the source of one suite, in the format of sources.list(5)."""
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {suite}\nComponents: main\n"
            f"Signed-By: {self._keyring}\nCheck-Valid-Until: no\n"
        )


def offers(work: Path) -> Iterator[Offer | InstallError]:
    """Ask one suite after the other, the newest first; the system's own apt is the last.

    ``work`` is a new folder. Where a suite can't be asked the error is yielded.
    """
    mirror = None
    try:
        mirror = Mirror(work / "mirror")
    except (InstallError, OSError) as error:
        yield InstallError(f"Debian's suites could not be asked: {error}")
    silent = mirror is None
    for suite in (*SUITES, None):
        if silent and suite is not None:
            continue
        try:
            yield Offer(work / (suite or "own"), suite, mirror if suite else None)
        except InstallError as error:
            # A mirror that does not answer is asked once: each time can take a minute.
            silent = _UNANSWERED.search(str(error)) is not None
            yield error


def check_room(folder: Path, needed: int) -> None:
    """Raise InstallError unless so many bytes are free; apt itself retries on a full disk."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InstallError(
            f"Fetching RabbitMQ needs {needed // 10**6} MB in {folder} and only"
            f" {free // 10**6} MB are free; make room there or name another folder with"
            " RABBITPROOF_CACHE."
        )


def _age(lists: Path) -> str:
    """Return of which day a suite's lists are, where that is longer ago than Debian means them to
    be used; else nothing.
    """
    for release in lists.glob("*InRelease"):
        head = release.read_text(encoding="utf-8", errors="replace")[:_HEAD]
        dates = dict(re.findall(r"^(Date|Valid-Until): (.+)$", head, re.MULTILINE))
        with contextlib.suppress(KeyError, ValueError):
            if parsedate_to_datetime(dates["Valid-Until"]) < datetime.now(UTC):
                return f" as of {parsedate_to_datetime(dates['Date']):%d %B %Y}"
    return ""


def _system_mirror() -> str | None:
    """Return the mirror from which this system, if it is Debian, has its own packages."""
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if not re.search(r"^ID=\"?debian\"?$", release, re.MULTILINE):
        return None
    form = "$(COMPONENT) $(RELEASE) $(REPO_URI)"
    listing = _run(["apt-get", "indextargets", "--no-release-info", "--format", form])
    found = re.findall(r"^main [a-z]+ (\S+)$", listing.stdout, re.MULTILINE)
    # Others name their suites as Debian does; its mirrors have a path of that name.
    found.sort(key=lambda uri: not uri.rstrip("/").endswith("/debian"))
    return found[0] if found else None


def _configure(folder: Path, source: str | None = None) -> Path:
    """Write the configuration of an apt whose state is all below ``folder``.

    It sees that one source only, or without one all sources of the system.
    """
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    ours = ""
    if source is not None:
        (folder / "ours.sources").write_text(source, encoding="utf-8")
        ours = f'Dir::Etc::sourcelist "{folder}/ours.sources";\nDir::Etc::sourceparts "-";\n'
    config = folder / "apt.conf"
    config.write_text(
        f"""\
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Log "{folder}";
{ours}Debug::NoLocking "true";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
""",
        encoding="utf-8",
    )
    return config


def _edges(text: str) -> dict[str, set[str]]:
    """Return what each package depends on, as ``apt-cache depends`` lists it."""
    needs: dict[str, set[str]] = {}
    of = ""
    for name, needed in _EDGES.findall(text):
        if name:
            of = name.partition(":")[0]
        else:
            needs.setdefault(of, set()).add(needed.partition(":")[0])
    return needs


def _download(config: Path, debs: Path, names: Sequence[str]) -> None:
    done = _run(["apt-get", "-c", str(config), "download", "-q", *names], cwd=debs, check=False)
    if done.returncode != 0:
        raise InstallError(
            f"apt could not download the packages ({_complaint(done)}); check the network,"
            " the proxy and the room on the disk, then try again."
        )


def _unpack(config: Path, work: Path, names: Sequence[str], root: Path) -> None:
    """Download packages and unpack them into ``root``, which is made."""
    debs = work / "debs"
    debs.mkdir()
    root.mkdir(mode=0o755)
    _download(config, debs, names)

    def unpack(deb: Path) -> None:
        _run(["dpkg", "-x", str(deb), str(root)])
        deb.unlink()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # what takes time is xz, on one core each
        list(pool.map(unpack, sorted(debs.glob("*.deb"))))


def _relocate(root: Path) -> None:
    """Make Erlang run from wherever ``root`` is, with the libraries that are in there.

    There are two copies of its start script: RabbitMQ itself starts the one beside the emulator.
    """
    erlang = root / "usr/lib/erlang"
    emulator = next(erlang.glob("erts-*/bin"), None)
    loader = next((one for one in root.glob("**/*-linux-gnu*/ld-*.so.*") if one.is_file()), None)
    if emulator is None or loader is None:
        raise InstallError(
            "The packages that apt delivered hold no Erlang that could be started from a folder;"
            " have RabbitMQ installed, or name the generic Unix archive with --rabbitmq DIR."
        )
    folders = [path for path in (*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*"))
               if path != loader.parent]  # fmt: skip
    for program in [*emulator.iterdir(), *erlang.glob("lib/*/priv/bin/*")]:
        if program.is_file() and not program.is_symlink() and _is_elf(program):
            up = f"{os.path.relpath(root, program.parent)}/"
            more = "".join(f":${{0%/*}}/{up}{folder.relative_to(root)}" for folder in folders)
            # Under this name it is found in a list of processes.
            link = program.parent / _LINKS / program.name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(os.path.relpath(loader, link.parent))
            libraries = loader.parent.relative_to(root)
            text = _LOADED.format(up=up, libraries=libraries, links=_LINKS, more=more)
            program.rename(program.with_name(f"{program.name}.elf"))
            _write_script(program, text)
    for script in (erlang / "bin/erl", emulator / "erl"):
        up = os.path.relpath(erlang, script.parent)
        _write_script(script, _ERL.format(up=up, erts=emulator.parent.name))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _write_script(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


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
    errors = [line for line in lines if line.startswith("E:")]
    errors = errors or [line for line in lines if "Failed" in line] or lines[-1:]
    text = "; ".join(dict.fromkeys(errors[:2])) or f"status {done[-1].returncode}"
    return safe(re.sub(r"\b[EW]: ", "", text).rstrip("."), 400)
