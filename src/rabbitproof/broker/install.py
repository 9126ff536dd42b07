"""Find the RabbitMQ server that is installed on this machine.

Holds: where RabbitMQ's packages of the common systems put their files, the cache folder, and
the one command that installs RabbitMQ on a system where nothing can be fetched.
Refuses to hold: which release is meant (``releases.py``) and how a node is started (``node.py``).

Rules
-----
- What is used is the ``sbin`` folder of the server itself, never the wrappers in ``/usr/sbin``:
  those switch to the user ``rabbitmq`` and refuse everybody else.
- A server without an Erlang that runs is not an installation.
- Nothing here needs root, and nothing outside the cache folder is written.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from rabbitproof.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CACHE_VARIABLE = "RABBITPROOF_CACHE"

_UNUSABLE = re.compile(r"""[*?^!\[\]{}"'\\$`\s]""")
"""RabbitMQ takes the first eight for wildcards (its guide "Relocating directories"); its start
scripts do not survive the others."""

_HOME_NAME = re.compile(r"rabbitmq_server-(\d[\w.+~-]*)$")


@dataclass(frozen=True, slots=True)
class Installation:
    """One RabbitMQ server's files.

    ``home`` is the folder that holds ``sbin``; ``erlang_root`` the Erlang to use with it, None
    for the ``erl`` on PATH.
    """

    home: Path
    erlang_root: Path | None
    version: str
    origin: Literal["installed", "fetched"]

    def tool(self, name: str) -> Path:
        """Return the path of one of the server's own commands, such as ``rabbitmqctl``."""
        return self.home / "sbin" / (f"{name}.bat" if os.name == "nt" else name)


def cache_folder() -> Path:
    """Return the folder for everything that is kept: ``RABBITPROOF_CACHE`` or the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).absolute() if named else platformdirs.user_cache_path("rabbitproof")


def check_path(path: Path) -> Path:
    """Return ``path``, or raise when RabbitMQ could not work below it."""
    text = str(path)
    bad = None if os.name == "nt" else _UNUSABLE.search(text)
    if bad:
        raise InstallError(
            f"RabbitMQ cannot work below {text!r} because of the {bad.group()!r} in it;"
            f" name another folder with {CACHE_VARIABLE}."
        )
    return path


def find() -> Installation | None:
    """Return the newest RabbitMQ installed on this machine together with a usable Erlang."""
    homes = {home.resolve() for home in _installed_homes() if is_home(home)}
    for home in sorted(homes, key=lambda home: version_key(home_version(home)), reverse=True):
        if (found := at(home)) is not None:
            return found
    return None


def at(home: Path) -> Installation | None:
    """Return the server in the folder ``home`` together with a usable Erlang, None without both."""
    erlang = _erlang_for(home) if is_home(home) else False
    return None if erlang is False else Installation(home, erlang, home_version(home), "installed")


def install_command() -> str:
    """Return the one command that installs RabbitMQ on this system."""
    if sys.platform == "darwin":
        return "brew install rabbitmq"
    if os.name == "nt":
        return "winget install RabbitMQ.RabbitMQ" if _have("winget") else "choco install rabbitmq"
    commands = {
        "apt-get": "sudo apt-get install rabbitmq-server",
        "dnf": "sudo dnf install rabbitmq-server",
        "yum": "sudo yum install rabbitmq-server",
        "zypper": "sudo zypper install rabbitmq-server",
        "pacman": "sudo pacman -S rabbitmq",
        "apk": "sudo apk add rabbitmq-server",
        "brew": "brew install rabbitmq",
    }
    return next((text for tool, text in commands.items() if _have(tool)), commands["apt-get"])


def _have(tool: str) -> bool:
    return shutil.which(tool) is not None


def _installed_homes() -> Iterator[Path]:
    """Yield every folder that a package, Homebrew, an archive or an installer may have filled."""
    named = os.environ.get("RABBITMQ_HOME")
    if named:
        yield Path(named)
    if os.name == "nt":
        for variable in ("ProgramFiles", "ProgramW6432", "ProgramFiles(x86)"):
            if base := os.environ.get(variable):
                yield from Path(base, "RabbitMQ Server").glob("rabbitmq_server-*")
        return
    for lib in ("/usr/lib/rabbitmq/lib", "/usr/lib64/rabbitmq/lib", "/usr/local/lib/rabbitmq/lib"):
        yield from Path(lib).glob("rabbitmq_server-*")
    prefixes = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")
    for prefix in dict.fromkeys(filter(None, (os.environ.get("HOMEBREW_PREFIX"), *prefixes))):
        yield from Path(prefix, "Cellar/rabbitmq").glob("*")
    yield from Path("/opt").glob("rabbitmq_server-*")
    found = shutil.which("rabbitmq-server")
    if found:
        yield Path(found).resolve().parent.parent


def is_home(home: Path) -> bool:
    """Tell whether a folder is that of a server."""
    # A wrapper's parent is not a home: the server's own scripts sit beside rabbitmq-env.
    script = "rabbitmq-server.bat" if os.name == "nt" else "rabbitmq-env"
    return (home / "sbin" / script).is_file() and (home / "plugins").is_dir()


def home_version(home: Path) -> str:
    """Return the server's version: from the folder's name, else from its own ``rabbit`` plugin."""
    named = _HOME_NAME.search(home.name)
    if named:
        return named.group(1)
    plugins = sorted((home / "plugins").glob("rabbit-*"))
    return plugins[-1].name.removeprefix("rabbit-").removesuffix(".ez") if plugins else home.name


def version_key(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, by which versions can be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _erlang_for(home: Path) -> Path | Literal[False] | None:
    """Return Erlang's root for ``home``; None for the one on PATH, False when there is none."""
    if _have("erl"):
        return None
    return next((root for root in _erlang_roots(home) if (root / "bin").is_dir()), False)


def _erlang_roots(home: Path) -> Iterable[Path]:
    """Return where Erlang may be although it is not on PATH (as in a bare service's PATH)."""
    named = os.environ.get("ERLANG_HOME")
    roots = [Path(named)] if named else []
    if os.name == "nt":
        base = Path(os.environ.get("ProgramFiles", r"C:\Program Files"))  # noqa: SIM112 - its name
        return [*roots, *sorted(base.glob("Erlang OTP*"), reverse=True), *base.glob("erl-*")]
    if "Cellar" in home.parts:
        prefix = Path(*home.parts[: home.parts.index("Cellar")])
        return [*roots, prefix / "opt/erlang/lib/erlang", *prefix.glob("opt/erlang@*/lib/erlang")]
    return [
        *roots,
        Path("/usr/lib/erlang"),
        Path("/usr/lib64/erlang"),
        Path("/usr/local/lib/erlang"),
    ]
