from __future__ import annotations

import os
import shutil
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rabbitproof.errors import UsageError
from rabbitproof.trial.peers import catalogue
from rabbitproof.trial.peers.catalogue import Peer, find

if TYPE_CHECKING:
    from collections.abc import Callable

posix = pytest.mark.skipif(os.name == "nt", reason="the JDK made here is two shell scripts")

APT = "`sudo apt-get install default-jdk-headless librabbitmq-client-java`"


def test_an_unknown_name_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no client 'ruby'; there are: pika, pika-confirms,"):
        find("ruby", tmp_path)


@pytest.mark.parametrize("name", ["pika", "pika-confirms", "aio-pika"])
def test_a_client_that_is_not_installed_is_skipped_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(distribution: str) -> str:
        raise metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(sys, "executable", "/my python/bin/python")
    package = name.removesuffix("-confirms")
    assert find(name, tmp_path) == (
        f"{name} is skipped: {package} is not installed; "
        f"install it with `'/my python/bin/python' -m pip install {package}`."
    )


def test_the_clients_in_python(tmp_path: Path) -> None:
    pika, confirms, aio = (find(name, tmp_path) for name in ("pika", "pika-confirms", "aio-pika"))
    assert isinstance(pika, Peer)
    assert isinstance(confirms, Peer)
    assert isinstance(aio, Peer)
    module = "rabbitproof.trial.peers."
    assert pika.command == (sys.executable, "-m", module + "pika_peer")
    assert confirms.command == (sys.executable, "-m", module + "pika_peer", "--confirms")
    assert aio.command == (sys.executable, "-m", module + "aio_pika_peer")
    assert (pika.publish, pika.consume) == (aio.publish, aio.consume) == (True, True)
    assert (confirms.publish, confirms.consume) == (True, False)
    assert [peer.client.confirms for peer in (pika, confirms, aio)] == [False, True, True]
    assert [peer.client.name for peer in (pika, confirms, aio)] == list(catalogue.NAMES[:3])
    assert pika.client.version == confirms.client.version == metadata.version("pika")
    assert aio.client.version == metadata.version("aio-pika")
    assert pika.client.note == "Asks for no confirms: nothing is known of the outcome."
    assert "each confirm" in confirms.client.note
    assert aio.client.note == ""


def test_the_password_is_in_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = catalogue.arguments(
        "publish",
        exchange="x",
        routing_key="k",
        queue="q",
        count=3,
        window=2,
        prefetch=1,
        text="a b",
        run="0a1b2c3d4e5f",
    )
    assert flags == (
        *("publish", "--exchange", "x", "--routing-key", "k", "--queue", "q", "--count", "3"),
        *("--window", "2", "--prefetch", "1", "--text", "a b", "--run", "0a1b2c3d4e5f"),
        *("--deadline", "300.0"),
    )
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    environment = catalogue.environment("amqp://bob:s3cret@here")
    # With the vhost, which clients do not agree on when it is missing.
    assert environment["RABBITMQ_URL"] == "amqp://bob:s3cret@here:5672/%2F"
    assert environment["PYTHONPATH"] == os.pathsep.join([str(Path.cwd()), "/elsewhere"])
    assert environment["PATH"] == os.environ["PATH"]


class Machine:
    """A machine that has nothing but what it is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.jars = folder / "jars"
        self.tools = folder / "tools"
        for place in (self.jars, self.tools):
            place.mkdir()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(catalogue, "_JAR_FOLDER", self.jars)
        monkeypatch.setenv("PATH", str(self.tools))
        for name in ("JAVA_HOME", "CLASSPATH"):
            monkeypatch.delenv(name, raising=False)

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def tool(self, name: str, script: str, folder: Path | None = None) -> Path:
        place = (folder or self.tools) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)
        return place

    def jdk(self, folder: Path | None = None, release: str = "17.0.1") -> None:
        """A compiler that notes what it is asked for."""
        said = f'openjdk version "{release}" 2025-04-15'
        self.tool("java", f"echo '{said}' >&2", folder)
        self.tool("javac", f'echo "$@" > "{self.folder}/asked"', folder)

    def jar(self, name: str, manifest: str | None = "", folder: Path | None = None) -> Path:
        place = (folder or self.jars) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(place, "w") as jar:
            if manifest is not None:
                jar.writestr("META-INF/MANIFEST.MF", manifest)
        return place

    def both_jars(self, manifest: str = "Implementation-Version: 5.9.0\n") -> list[Path]:
        return [self.jar("amqp-client.jar", manifest), self.jar("slf4j-api.jar")]

    def find(self) -> Peer | str:
        return find("java", self.folder / "work")

    def peer(self) -> Peer:
        peer = self.find()
        assert isinstance(peer, Peer), peer
        return peer


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def class_path(peer: Peer) -> list[Path]:
    return [Path(part) for part in peer.command[peer.command.index("-cp") + 1].split(os.pathsep)]


@posix
def test_without_a_jdk_java_is_skipped(machine: Machine) -> None:
    machine.both_jars()
    machine.tool("java", "exit 0")
    machine.tool("apt-get", "exit 0")
    assert machine.find() == (
        f"The official Java client is skipped: no JDK was found; install what it needs with {APT}."
    )


@posix
def test_without_apt_another_way_is_named(machine: Machine) -> None:
    said = machine.find()
    assert isinstance(said, str)
    assert said.startswith("The official Java client is skipped: no JDK was found; install a JDK")
    assert f"`export CLASSPATH=amqp-client.jar{os.pathsep}slf4j-api.jar`" in said


@posix
@pytest.mark.parametrize(
    "script",
    ["echo 'Unable to locate a Java Runtime.' >&2; exit 1", "echo 'version \"17\"'; exit 1", ""],
)
def test_a_java_that_does_not_run_counts_as_none(machine: Machine, script: str) -> None:
    machine.jdk()
    machine.both_jars()
    machine.tool("java", script)
    said = machine.find()
    assert isinstance(said, str)
    assert said.startswith(f"The official Java client is skipped: {machine.tools}/java does not")


@posix
@pytest.mark.parametrize(
    ("there", "missing"),
    [("slf4j-api.jar", "amqp-client.jar"), ("amqp-client.jar", "slf4j-api.jar")],
)
def test_without_a_jar_java_is_skipped(machine: Machine, there: str, missing: str) -> None:
    machine.jdk()
    machine.tool("apt-get", "exit 0")
    machine.jar(there)
    said = machine.find()
    assert isinstance(said, str)
    assert said.startswith(f"The official Java client is skipped: {missing}")
    assert said.endswith(f"was not found; install what it needs with {APT}.")


@posix
def test_java_is_compiled_into_the_work_folder_and_started_from_there(machine: Machine) -> None:
    machine.jdk()
    jars = machine.both_jars()
    peer = machine.peer()
    classes = machine.folder / "work" / "java"
    assert class_path(peer) == [classes, *jars]
    assert peer.command[0] == str(machine.tools / "java")
    assert peer.command[-1] == "JavaPeer"
    asked = (machine.folder / "asked").read_text().split()
    assert asked[asked.index("-d") + 1] == str(classes)
    assert asked[asked.index("-cp") + 1] == os.pathsep.join(map(str, jars))
    assert asked[-1].endswith("JavaPeer.java")
    assert Path(asked[-1]).is_file()
    assert (peer.publish, peer.consume) == (True, True)
    assert (peer.client.name, peer.client.version, peer.client.confirms) == ("java", "5.9.0", True)
    assert peer.client.note.startswith("Runs on Java 17.0.1, ")


@posix
def test_the_java_of_the_same_jdk_is_used(machine: Machine) -> None:
    """JAVA_HOME comes before PATH; a java without a compiler beside it is not taken."""
    machine.both_jars()
    machine.jdk(release="8")
    machine.jdk(machine.folder / "home" / "bin", release="21")
    machine.set("JAVA_HOME", str(machine.folder / "home"))
    peer = machine.peer()
    assert peer.command[0] == str(machine.folder / "home" / "bin" / "java")
    assert "Java 21," in peer.client.note
    (machine.folder / "home" / "bin" / "javac").unlink()
    assert "Java 8," in machine.peer().client.note
    # As the alternatives of Debian do: the name on PATH leads into the JDK.
    machine.jdk(machine.folder / "lib" / "jdk" / "bin", release="17")
    (machine.tools / "javac").unlink()
    (machine.tools / "javac").symlink_to(machine.folder / "lib" / "jdk" / "bin" / "javac")
    assert "Java 17," in machine.peer().client.note


@posix
def test_class_path_comes_before_the_jars_of_the_system(machine: Machine) -> None:
    machine.jdk()
    client, slf4j = machine.both_jars()
    mine = machine.jar("amqp-client-5.22.0.jar", folder=machine.folder / "mine")
    machine.jar("amqp-client-5.22.0-sources.jar", folder=machine.folder / "mine")
    machine.set("CLASSPATH", str(mine))
    assert class_path(machine.peer())[1:] == [mine, slf4j]
    machine.set("CLASSPATH", os.pathsep.join(["", str(machine.folder / "mine" / "*")]))
    assert class_path(machine.peer())[1:] == [mine, slf4j]
    machine.set("CLASSPATH", str(machine.folder / "gone" / "amqp-client.jar"))
    assert class_path(machine.peer())[1:] == [client, slf4j]


@posix
def test_the_jar_without_a_release_in_its_name_is_the_current_one(machine: Machine) -> None:
    machine.jdk()
    machine.jar("amqp-client-4.0.0.jar")
    jars = machine.both_jars()
    assert class_path(machine.peer())[1:] == jars


@posix
def test_a_log_that_says_nothing_is_added_when_it_is_there(machine: Machine) -> None:
    machine.jdk()
    jars = machine.both_jars()
    silent = machine.jar("slf4j-nop.jar")
    assert class_path(machine.peer())[1:] == [*jars, silent]


@posix
@pytest.mark.parametrize(
    ("manifest", "version"),
    [
        ("Bundle-Version: 5.1\nImplementation-Version: 5.0.0\n", "5.0.0"),
        ("Manifest-Version: 1.0\r\nBundle-Version: 5.20.0\r\n", "5.20.0"),
        ("X-Implementation-Version: 1\n", "unknown"),
        ("Bundle-Version: \x1b[31m5\n", r"\x1b[31m5"),
        (None, "unknown"),
    ],
)
def test_the_release_of_the_client_is_read_from_its_jar(
    machine: Machine, manifest: str | None, version: str
) -> None:
    machine.jdk()
    machine.both_jars()
    machine.jar("amqp-client.jar", manifest)
    assert machine.peer().client.version == version


@posix
def test_a_jar_that_is_none_has_no_release(machine: Machine) -> None:
    machine.jdk()
    machine.both_jars()[0].write_bytes(b"")
    assert machine.peer().client.version == "unknown"


@posix
@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        (
            "warning: [options] old\n{source}:7: error: package x does not exist\n1 error",
            "JavaPeer.java:7: error: package x does not exist",
        ),
        ("error: invalid flag: \x1b[1m", r"error: invalid flag: \x1b[1m"),
        ("", "it says nothing"),
    ],
)
def test_a_program_that_does_not_compile_is_skipped_with_the_first_complaint(
    machine: Machine, says: str, complaint: str
) -> None:
    machine.jdk()
    machine.both_jars()
    says = says.format(source=catalogue._JAVA_SOURCE)
    machine.tool("javac", f"printf '%s' '{says}' >&2; exit 1")
    assert machine.find() == (
        "The official Java client is skipped: its program does not compile with Java 17.0.1: "
        f"{complaint}; name another release of amqp-client.jar in CLASSPATH, or another JDK in "
        "JAVA_HOME."
    )


@posix
def test_a_compiler_that_hangs_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = shutil.which("sleep", path=os.defpath)
    machine.jdk()
    machine.both_jars()
    machine.tool("javac", f"exec {sleep} 60")
    monkeypatch.setattr(catalogue, "_COMPILE_S", 0.2)
    said = machine.find()
    assert isinstance(said, str)
    assert "Java 17.0.1: the compiler took longer than 0.2 s; name" in said


@posix
def test_a_compiler_that_does_not_start_is_no_crash(machine: Machine) -> None:
    machine.jdk()
    machine.both_jars()
    (machine.tools / "javac").write_text("#!/nowhere/sh\n")
    said = machine.find()
    assert isinstance(said, str)
    assert "the compiler does not start (No such file or directory); name" in said


def test_the_real_program_compiles(found: Callable[[str], Peer]) -> None:
    peer = found("java")
    classes = Path(peer.command[peer.command.index("-cp") + 1].split(os.pathsep)[0])
    assert (classes / "JavaPeer.class").is_file()
    assert peer.client.version[0].isdigit()
