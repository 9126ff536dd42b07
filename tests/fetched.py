"""A screen, hands and Tk for the window's tests, fetched without root as RabbitMQ is.

Debian's packages are unpacked into the cache folder by an apt that has its own state there (see
``broker/apt``); nothing is installed. Three things need help to work from where they are. Xvfb runs
``/usr/bin/xkbcomp``: in its copy here that constant is a relative path of the same length, and it
is started in the folder where that leads to the fetched one. Tk, Tcl, X and fontconfig look for
their files where the variables say. And ``_tkinter`` fits the Python that runs if that has the
distribution's minor version; else its tests are skipped, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rabbitproof.broker import apt, lock
from rabbitproof.broker.install import cache_folder
from rabbitproof.errors import InstallError

INSTALL: Final = "sudo apt-get install xvfb xdotool python3-tk"
_PACKAGES: Final = ("xvfb", "xdotool", "python3-tk", "fonts-dejavu-core")
_OURS: Final = re.compile(
    r"(xvfb|xserver-common|x11-xkb-utils|xkb-data|xdotool|python3-tk|fonts-dejavu-core|tk[\d.-].*|lib.*)"
)
_USELESS: Final = re.compile(
    r"libc6|libc-bin|libcrypt1|lib(gcc|stdc)\b.*|libllvm.*|libgl1-mesa-dri|libglx-mesa0|mesa-.*|libicu.*"
    r"|libxml2.*|libdrm.*|libz3.*|libpython.*|libssl.*|libsqlite.*|libdb5.*|libkrb.*|libgssapi.*"
)
"""What the screen draws without, what every system has, and what would not fit its C library."""
_XKBCOMP_IN: Final = (b"\0/usr/bin\0", b"\0usr//bin\0")
_DEADLINE_S: Final = 600.0


class Unavailable(Exception):
    """There can be no window here; says why."""


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


def tools() -> Tools:
    """Return what this machine has, else what was fetched; raise Unavailable."""
    missing = [tool for tool in ("Xvfb", "xdotool") if shutil.which(tool) is None]
    has_tk = _imports("_tkinter")
    if not missing and has_tk:
        return Tools()
    if not has_tk:
        missing.append("tkinter (of the Python in .venv)")
    reason = f"missing here: {', '.join(missing)}; `{INSTALL}` enables this test"
    if os.environ.get("CI"):
        raise Unavailable(reason)  # there they are installed, and nothing is fetched
    if not apt.usable() or not sys.platform.startswith("linux"):
        raise Unavailable(reason)
    root = cache_folder() / "screen"
    try:
        _provide(root)
    except (InstallError, OSError, TimeoutError) as error:
        raise Unavailable(f"{reason} ({error})") from error
    libraries = os.pathsep.join(
        str(path) for path in [*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*")]
    )
    variables = {"LD_LIBRARY_PATH": libraries, "XLOCALEDIR": str(root / "usr/share/X11/locale")}
    for_tk = {} if has_tk else variables | _for_tk(root, reason)
    xkb = ("-xkbdir", str(root / "usr/share/X11/xkb"), "-extension", "GLX")
    return Tools(
        (str(root / "usr/bin/Xvfb"), *xkb), root, str(root / "usr/bin/xdotool"), variables, for_tk
    )


def _for_tk(root: Path, reason: str) -> dict[str, str]:
    module = f"_tkinter{sysconfig.get_config_var('EXT_SUFFIX')}"
    found = next(root.glob(f"usr/lib/python3*/lib-dynload/{module}"), None)
    if found is None:
        raise Unavailable(f"{reason}; the python3-tk that can be fetched is for another Python")
    fonts = root / "fonts.conf"
    tcl, tk = (next(root.glob(f"usr/share/tcltk/{name}[0-9]*"), root) for name in ("tcl", "tk"))
    return {
        "PYTHONPATH": str(root / "python"),
        "TCL_LIBRARY": str(tcl),
        "TK_LIBRARY": str(tk),
        "FONTCONFIG_FILE": str(fonts),
    }


def _imports(module: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, check=False, timeout=60
    )
    return done.returncode == 0


def _provide(root: Path) -> None:
    """Fill the folder, whole or not at all; do nothing when it is there."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with lock.held(root.with_suffix(".lock"), deadline_s=_DEADLINE_S):
        if root.exists():
            return
        print(
            "fetching a screen for the window's tests with apt into the cache (about 20 MB, once)"
        )
        with tempfile.TemporaryDirectory(".part", "screen.", root.parent) as folder:
            work = Path(folder)
            made, debs = work / "root", work / "debs"
            made.mkdir(mode=0o755)
            debs.mkdir()
            config = apt._configure(work / "apt", None)
            apt._run(["apt-get", "-c", str(config), "update", "-q"], check=False)
            plan = apt._run(
                ["apt-get", "-c", str(config), "install", "--simulate", "--no-install-recommends",
                 *_PACKAGES]
            )  # fmt: skip
            names = [
                name
                for name in apt._INSTALLS.findall(plan.stdout)
                if _OURS.fullmatch(name) and not _USELESS.fullmatch(name)
            ]
            apt._download(config, debs, names)
            for deb in sorted(debs.glob("*.deb")):
                apt._run(["dpkg", "-x", str(deb), str(made)])
            _relocate(made, root)
            made.rename(root)


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
