"""What tests need beside RabbitMQ, fetched without root as RabbitMQ is: for the window's a screen,
hands and Tk, and Java with its client for those that stand beside it.

Debian's packages are unpacked into the cache folder by an apt that has its own state there (see
``broker/apt``); nothing is installed. Some things need help to work from where they are. Xvfb runs
``/usr/bin/xkbcomp``: in its copy here that constant is a relative path of the same length, and it
is started in the folder where that leads to the fetched one. Tk, Tcl, X and fontconfig look for
their files where the variables say. And ``_tkinter`` fits the Python that runs if that has the
distribution's minor version; else its tests are skipped, with the reason. Java's runtime holds the
compiler, but for the command that starts it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from rabbitproof.broker import apt, lock
from rabbitproof.broker.install import cache_folder
from rabbitproof.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Callable

_DEADLINE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class _Kind:
    """Something that is fetched into a folder of its own."""

    name: str
    what: str
    packages: tuple[str, ...]
    """To be installed, or fetched with what they depend on."""
    kept: re.Pattern[str]
    """The packages of all these that are fetched."""


_SCREEN: Final = _Kind(
    "screen",
    "a screen for the window's tests (about 20 MB)",
    ("xvfb", "xdotool", "python3-tk", "fonts-dejavu-core"),
    # But for what the screen draws without, what every system has, and what would not fit its C
    # library.
    re.compile(
        r"(?!(libc6|libc-bin|libcrypt1|lib(gcc|stdc)\b.*|libllvm.*|libgl1-mesa-dri|libglx-mesa0"
        r"|libicu.*|libxml2.*|libdrm.*|libz3.*|libpython.*|libssl.*|libsqlite.*|libdb5.*|libkrb.*"
        r"|libgssapi.*)$)"
        r"(xvfb|xserver-common|x11-xkb-utils|xkb-data|xdotool|python3-tk|fonts-dejavu-core"
        r"|tk[\d.-].*|lib.*)"
    ),
)
_JAVA: Final = _Kind(
    "java",
    "Java and its client for the tests beside it (about 45 MB)",
    ("default-jdk-headless", "librabbitmq-client-java"),
    re.compile(r"openjdk-\d+-jre-headless|librabbitmq-client-java|libslf4j-java"),
)
_JAVAC: Final = """#!/bin/sh
for word do
  shift
  case $word in -J*) options="$options ${word#-J}" ;; *) set -- "$@" "$word" ;; esac
done
exec "${0%c}" $options -m jdk.compiler/com.sun.tools.javac.Main "$@"
"""
_XKBCOMP_IN: Final = (b"\0/usr/bin\0", b"\0usr//bin\0")


class Unavailable(Exception):
    """It is neither here nor can it be fetched; says why, and what enables the test."""

    def __init__(self, missing: str, kind: _Kind, why: object = None) -> None:
        install = f"`sudo apt-get install {' '.join(kind.packages)}`"
        said = f"missing here: {missing}; {install} enables this test"
        super().__init__(said if why is None else f"{said} ({why})")


def unavailable(reason: Unavailable) -> NoReturn:
    """Skip the test that needs it; in CI, where nothing may be skipped, fail it."""
    if os.environ.get("CI"):
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@dataclass(frozen=True, slots=True)
class Tools:
    """What opens a window and uses it."""

    xvfb: tuple[str, ...] = ("Xvfb",)
    """The command, without its arguments."""
    folder: Path | None = None
    """Where to start it."""
    xdotool: str = "xdotool"
    variables: dict[str, str] = field(default_factory=dict)
    """For these two."""
    for_tk: dict[str, str] = field(default_factory=dict)
    """For a window's process."""

    def with_tk(self, environment: dict[str, str]) -> dict[str, str]:
        """Return an environment in which Python has Tk."""
        paths = (self.for_tk.get("PYTHONPATH"), environment.get("PYTHONPATH"))
        there = environment | self.for_tk
        return there | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def tools() -> Tools:
    """Return what this machine has, else what was fetched; raise Unavailable."""
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    has_tk = _imports("_tkinter")
    if not missing and has_tk:
        return Tools()
    if not has_tk:
        missing.append("tkinter (of the Python in .venv)")
    root = _provide(_SCREEN, ", ".join(missing), _relocate)
    folders = [*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*"), root / "usr/lib"]
    libraries = os.pathsep.join(map(str, folders))
    variables = {"LD_LIBRARY_PATH": libraries, "XLOCALEDIR": str(root / "usr/share/X11/locale")}
    for_tk = {} if has_tk else variables | _for_tk(root)
    if not _imports("tkinter", for_tk):
        why = "the python3-tk that can be fetched does not work with this Python"
        raise Unavailable(", ".join(missing), _SCREEN, why)
    xkb = ("-xkbdir", str(root / "usr/share/X11/xkb"), "-extension", "GLX")
    return Tools(
        (str(root / "usr/bin/Xvfb"), *xkb), root, str(root / "usr/bin/xdotool"), variables, for_tk
    )


def java() -> dict[str, str]:
    """Return the variables that lead to the Java that was fetched; raise Unavailable.

    To be asked where the product has looked for one and found none.
    """
    root = _provide(_JAVA, "Java or its client", _complete_java)
    home = next(root.glob("usr/lib/jvm/java-*-openjdk-*"), root)
    return {"JAVA_HOME": str(home), "CLASSPATH": str(root / "usr/share/java/*")}


def _for_tk(root: Path) -> dict[str, str]:
    tcl, tk = (next(root.glob(f"usr/share/tcltk/{name}[0-9]*"), root) for name in ("tcl", "tk"))
    return {
        "PYTHONPATH": str(root / "python"),
        "TCL_LIBRARY": str(tcl),
        "TK_LIBRARY": str(tk),
        "FONTCONFIG_FILE": str(root / "fonts.conf"),
    }


def _imports(module: str, variables: dict[str, str] | None = None) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env=os.environ | (variables or {}),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode == 0


def _provide(kind: _Kind, missing: str, finish: Callable[[Path, Path], None]) -> Path:
    """Return the folder of what is fetched, filled whole or not at all; raise Unavailable.

    ``finish`` gets the folder where everything is and the one where it will be.
    """
    if not apt.usable() or not sys.platform.startswith("linux"):
        raise Unavailable(missing, kind)
    root = cache_folder() / kind.name
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock.held(root.with_suffix(".lock"), deadline_s=_DEADLINE_S):
            if not root.exists():
                print(f"fetching {kind.what} with apt into the cache, once")
                with tempfile.TemporaryDirectory(".part", f"{kind.name}.", root.parent) as folder:
                    made = _fetch(kind, Path(folder))
                    finish(made, root)
                    made.rename(root)
    except (InstallError, OSError, TimeoutError) as error:
        raise Unavailable(missing, kind, error) from error
    return root


def _fetch(kind: _Kind, work: Path) -> Path:
    """Fetch and unpack; return the folder below ``work`` in which it is."""
    made = work / "root"
    config = apt._configure(work / "apt")
    apt._run(["apt-get", "-c", str(config), "update", "-q"], check=False)
    plan = apt._run(
        ["apt-get", "-c", str(config), "install", "--simulate", "--no-install-recommends",
         *kind.packages]
    )  # fmt: skip
    names = [name for name in apt._INSTALLS.findall(plan.stdout) if kind.kept.fullmatch(name)]
    apt._unpack(config, work, names, made)
    for link in [path for path in made.rglob("*") if path.is_symlink()]:
        there = made / str(link.readlink()).lstrip("/")
        if link.readlink().is_absolute() and there.exists():  # not the system's
            link.unlink()
            link.symlink_to(os.path.relpath(there, link.parent))
    return made


def _complete_java(here: Path, final: Path) -> None:
    for tool in here.glob("usr/lib/jvm/java-*-openjdk-*/bin/java"):
        tool.with_name("javac").write_text(_JAVAC)
        tool.with_name("javac").chmod(0o755)


def _relocate(here: Path, final: Path) -> None:
    server = here / "usr/bin/Xvfb"
    before, after = _XKBCOMP_IN
    code = server.read_bytes()
    if code.count(before) != 1:
        raise InstallError(
            "The Xvfb that was fetched looks for xkbcomp in another way; install it."
        )
    server.write_bytes(code.replace(before, after))
    (here / "fonts.conf").write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{final}/usr/share/fonts</dir><cachedir>{final}/fonts.cache</cachedir></fontconfig>\n"
    )
    modules = here / "python"
    modules.mkdir()
    for package in here.glob("usr/lib/python3*/tkinter"):
        shutil.copytree(package, modules / "tkinter")
    for module in here.glob("usr/lib/python3*/lib-dynload/_tkinter*.so"):
        shutil.copy(module, modules)
