"""Which clients there are to stand beside, where each is found, and how its program is started.

Holds: the search for a client on this machine, compiling the Java program, and the sentence that
says what is missing.
Refuses to hold: starting and judging them (``bench``), and any client itself: nothing here
imports one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rabbitproof.address import parse
from rabbitproof.errors import UsageError
from rabbitproof.model import Client
from rabbitproof.text import safe
from rabbitproof.trial.peers.program import DEADLINE_S, URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.model import Role

NAMES: Final = ("pika", "pika-confirms", "aio-pika", "java")

_PACKAGE = "rabbitproof.trial.peers"
_JAVA_SOURCE = Path(__file__).with_name("JavaPeer.java")
_JAR_FOLDER = Path("/usr/share/java")
"""Where the packages of Debian, Fedora and their relatives put jars."""
_CLIENT_JAR = re.compile(r"(amqp|rabbitmq)-client(-\d[\w.]*)?\.jar")
_SLF4J_JAR = re.compile(r"slf4j-api(-\d[\w.]*)?\.jar")

_TRACELESS = "-XX:-UsePerfData"
"""Else each Java leaves a folder for its counters in /tmp."""

_JVM_OPTIONS = (_TRACELESS, "-XX:+UseSerialGC")
"""Over ten runs on two cores, publishing and consuming 50,000 messages after warm-ups of different
lengths, the serial collector took a sixth less CPU than the JVM's own choice, the parallel one as
good as none. Next to nothing survives a collection here."""

_COMPILE_S = 120.0
"""A compiler needs two seconds; a machine that is busy with other things, many more."""
_VERSION_S = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A client that can take part."""

    client: Client
    publish: bool
    consume: bool
    """Which of the two jobs it takes part in."""
    command: tuple[str, ...]
    """Its program; what ``arguments`` returns follows."""
    warms_up: bool = False
    """Takes ``--ready FILE``, makes that file when it is warm, and waits for a byte to begin."""


def find(name: str, work_folder: Path) -> Peer | str:
    """Return a client of ``NAMES``, or the sentence that says why it is skipped.

    The Java program is compiled into ``work_folder``, which has to live as long as the peer.
    """
    if name == "pika":
        return _python(
            name,
            "pika",
            "pika_peer",
            confirms=False,
            note="Asks for no confirms: nothing is known of the outcome.",
        )
    if name == "pika-confirms":
        return _python(
            name,
            "pika",
            "pika_peer",
            "--confirms",
            consume=False,
            note="Waits for each confirm before it publishes the next message.",
        )
    if name == "aio-pika":
        return _python(name, "aio-pika", "aio_pika_peer")
    if name == "java":
        return _java(work_folder)
    raise UsageError(f"There is no client '{safe(name)}'; there are: {', '.join(NAMES)}.")


def arguments(
    role: Role,
    *,
    exchange: str,
    routing_key: str,
    queue: str,
    count: int,
    window: int,
    prefetch: int,
    text: str,
    run: str,
    deadline_s: float = DEADLINE_S,
) -> tuple[str, ...]:
    """Return what follows ``Peer.command``. The address is in ``environment``."""
    flags = {
        "--exchange": exchange,
        "--routing-key": routing_key,
        "--queue": queue,
        "--count": count,
        "--window": window,
        "--prefetch": prefetch,
        "--text": text,
        "--run": run,
        "--deadline": deadline_s,
    }
    return (role, *(str(word) for pair in flags.items() for word in pair))


def environment(url: str) -> dict[str, str]:
    """Return the environment of a peer: ours, with the address, and where this package is.

    The address stands here and not among the arguments, which every user of the machine can see.
    """
    return {
        **os.environ,
        URL_VARIABLE: parse(url)[0].url(),
        "PYTHONPATH": os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path),
    }


# --- clients in Python ---


def _python(
    name: str,
    distribution: str,
    module: str,
    *flags: str,
    confirms: bool = True,
    consume: bool = True,
    note: str = "",
) -> Peer | str:
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        python = shlex.quote(sys.executable)
        return (
            f"{name} is skipped: {distribution} is not installed; install it with "
            f"`{python} -m pip install {distribution}`."
        )
    return Peer(
        Client(name, version, confirms, note),
        publish=True,
        consume=consume,
        command=(sys.executable, "-m", f"{_PACKAGE}.{module}", *flags),
    )


# --- the official Java client ---


def _java(work_folder: Path) -> Peer | str:
    skipped = "The official Java client is skipped:"
    tools = _jdk()
    if tools is None:
        return f"{skipped} no JDK was found; {_install_java()}."
    java, javac = tools
    release = _java_version(java)
    if release is None:
        return f"{skipped} {java} does not run; {_install_java()}."
    client, slf4j = _jar(_CLIENT_JAR), _jar(_SLF4J_JAR)
    if client is None or slf4j is None:
        missing = "amqp-client.jar" if client is None else "slf4j-api.jar, which its client needs,"
        return f"{skipped} {missing} was not found; {_install_java()}."
    jars = [client, slf4j]
    silent = slf4j.with_name(slf4j.name.replace("-api", "-nop"))
    if silent.is_file():
        jars.append(silent)  # else a notice on standard error that nobody logs
    classes = work_folder / "java"
    complaint = _compile(javac, jars, classes)
    if complaint is not None:
        return (
            f"{skipped} its program does not compile with Java {release}: {complaint}; "
            "name another release of amqp-client.jar in CLASSPATH, or another JDK in JAVA_HOME."
        )
    path = os.pathsep.join(str(part) for part in (classes, *jars))
    note = f"Runs on Java {release}, and on code that was compiled before the clock started."
    return Peer(
        Client("java", _jar_version(client), confirms=True, note=note),
        publish=True,
        consume=True,
        command=(str(java), *_JVM_OPTIONS, "-cp", path, "JavaPeer"),
        warms_up=True,
    )


def _jdk() -> tuple[Path, Path] | None:
    """Return ``java`` and ``javac`` of one JDK: that of JAVA_HOME, else the first on PATH."""
    home = os.environ.get("JAVA_HOME")
    places = [str(Path(home, "bin"))] if home else []
    for place in (*places, None):
        javac = shutil.which("javac", path=place)
        if javac is None:
            continue
        # PATH may have the java of one JDK and the javac of a newer one.
        java = shutil.which("java", path=str(Path(javac).resolve().parent))
        java = java or shutil.which("java", path=str(Path(javac).parent))
        if java is not None:
            return Path(java), Path(javac)
    return None


def _java_version(java: Path) -> str | None:
    """Return the release, or None when it does not run (macOS has one that only says so)."""
    try:
        done = subprocess.run(  # noqa: S603 - the JDK's own command, no shell
            [java, _TRACELESS, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return safe(found[1], 40) if found and done.returncode == 0 else None


def _jar(name: re.Pattern[str]) -> Path | None:
    """Return the first jar of that name in CLASSPATH, else the one among the system's jars."""
    for jar in (*_class_path(), *_jars_in(_JAR_FOLDER)):
        if name.fullmatch(jar.name) and jar.is_file():
            return jar
    return None


def _class_path() -> Iterator[Path]:
    """Yield the jars that CLASSPATH names; ``folder/*`` names all jars of a folder."""
    for entry in os.environ.get("CLASSPATH", "").split(os.pathsep):
        if Path(entry).name == "*":
            yield from _jars_in(Path(entry).parent)
        elif entry:
            yield Path(entry)


def _jars_in(folder: Path) -> list[Path]:
    """Return a folder's jars, those without a release in their name (the current one) first."""
    return sorted(folder.glob("*.jar"), key=lambda jar: (len(jar.name), jar.name))


def _jar_version(jar: Path) -> str:
    """Return what a jar says of its own release."""
    try:
        with zipfile.ZipFile(jar) as content:
            manifest = content.read("META-INF/MANIFEST.MF").decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile):
        return "unknown"
    for key in ("Implementation-Version", "Bundle-Version"):
        found = re.search(rf"^{key}: *(\S+)", manifest, re.MULTILINE)
        if found:
            return safe(found[1], 40)
    return "unknown"


def _compile(javac: Path, jars: list[Path], classes: Path) -> str | None:
    """Compile the program into a folder; return the compiler's first complaint, if any."""
    try:
        done = subprocess.run(  # noqa: S603 - the JDK's own command, no shell
            [
                *(
                    javac,
                    f"-J{_TRACELESS}",
                    "-J-Duser.language=en",
                    "-encoding",
                    "UTF-8",
                    "-nowarn",
                ),
                *("-cp", os.pathsep.join(map(str, jars)), "-d", classes, _JAVA_SOURCE),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMPILE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the compiler took longer than {_COMPILE_S:g} s"
    except OSError as error:
        return f"the compiler does not start ({safe(error.strerror or str(error))})"
    if done.returncode == 0:
        return None
    lines = (done.stderr + done.stdout).splitlines()
    marked = [line for line in lines if re.search(r"JavaPeer\.java:\d+:|error:", line)]
    first = (marked or lines or ["it says nothing"])[0]
    return safe(first.replace(str(_JAVA_SOURCE), _JAVA_SOURCE.name)).rstrip(".")


def _install_java() -> str:
    """Return how to get a JDK and the client on this system."""
    if shutil.which("apt-get"):
        return (
            "install what it needs with "
            "`sudo apt-get install default-jdk-headless librabbitmq-client-java`"
        )
    return (
        "install a JDK, and name the jars of amqp-client and slf4j-api (Maven Central has both) "
        f"in CLASSPATH: `export CLASSPATH=amqp-client.jar{os.pathsep}slf4j-api.jar`"
    )
