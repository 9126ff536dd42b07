"""Which RabbitMQ is meant, in a cache of the test's own; what apt would do is told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import apt, install, releases
from rabbitproof.errors import InstallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file modes and sh")

FAILS = InstallError("Debian testing could not be asked: no route.")


def put(tree: Path, version: str) -> Path:
    """Make a folder look like a fetched release; return its server's."""
    home = tree / f"usr/lib/rabbitmq/lib/rabbitmq_server-{version}"
    for file in (home / "sbin/rabbitmq-env", tree / "usr/lib/erlang/bin/erl"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    (home / "plugins").mkdir()
    return home


@dataclass
class Suite:
    """What a suite offers, without apt."""

    where: str
    version: str | None
    broken: str | None = None
    size: int = 54_000_000

    def choose(self) -> None: ...

    def fetch(self, root: Path) -> None:
        if self.broken:
            root.mkdir()
            raise InstallError(self.broken)
        put(root, self.version or "")


class World:
    """What is installed, what is offered, and what was said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.suites: list[Suite | InstallError] = []
        self.asked = 0
        self.notes: list[str] = []
        self._patch = monkeypatch
        self.install(None)
        self.has_apt(yes=True)
        monkeypatch.setattr(apt, "offers", self._offers)
        monkeypatch.delenv(releases.VARIABLE, raising=False)

    def has_apt(self, *, yes: bool) -> None:
        self._patch.setattr(apt, "usable", lambda: yes)

    def install(self, version: str | None) -> None:
        found = None
        if version is not None:
            found = install.Installation(Path("/usr/lib/x"), None, version, "installed")
        self._patch.setattr(releases, "find", lambda: found)

    def _offers(self, _work: Path) -> Iterator[Suite | InstallError]:
        for suite in self.suites:
            self.asked += 1
            yield suite

    def meant(self, asked: str | None = None) -> tuple[str, str]:
        found = releases.provide(asked, self.notes.append)
        return found.version, found.origin


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setenv("RABBITPROOF_CACHE", str(tmp_path))
    return World(monkeypatch)


@pytest.fixture
def debian(world: World) -> World:
    """A machine that can fetch three releases."""
    world.suites = [Suite("Debian testing", "4.3.6"), Suite("Debian stable", "4.0.5")]
    world.suites += [Suite("Debian oldstable", "3.10.8")]
    return world


def test_the_newest_is_fetched_once_and_one_line_says_so(debian: World) -> None:
    debian.install("3.10.8")
    assert debian.meant() == ("4.3.6", "fetched")
    (note,) = debian.notes
    assert "4.3.6 of Debian testing into the cache (54 MB, once)" in note
    assert "--rabbitmq installed takes the installed 3.10.8 instead" in note
    assert debian.meant() == ("4.3.6", "fetched")
    assert (len(debian.notes), debian.asked) == (1, 1)


def test_a_release_is_taken_from_the_suite_that_offers_it(debian: World) -> None:
    assert debian.meant("3.10") == ("3.10.8", "fetched")
    assert debian.meant("4.0.5") == ("4.0.5", "fetched")
    # Now the newest of the cache serves, though there would be a newer one.
    asked = debian.asked
    assert debian.meant() == ("4.0.5", "fetched")
    assert debian.meant("3.10") == ("3.10.8", "fetched")
    assert debian.asked == asked


def test_the_environment_counts_unless_something_is_asked_for(
    debian: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(releases.VARIABLE, "4.0")
    assert releases.default() is None
    assert debian.meant() == ("4.0.5", "fetched")
    assert debian.meant("4.3") == ("4.3.6", "fetched")
    assert debian.meant() == ("4.0.5", "fetched")
    found = releases.default()
    assert found is not None
    assert found.version == "4.0.5"


def test_an_installed_one_that_is_asked_for_by_its_release_is_not_fetched(debian: World) -> None:
    debian.install("4.0.5")
    assert debian.meant("4.0") == ("4.0.5", "installed")
    assert debian.meant("installed") == ("4.0.5", "installed")
    assert debian.asked == 0


def test_4_1_is_not_4_10(debian: World) -> None:
    assert not releases.matches("4.10.1", "4.1")
    assert releases.matches("4.1.10", "4.1")
    assert not releases.matches("4.1.10", "4.1.1")
    assert debian.asked == 0


def test_without_a_network_the_installed_one_is_taken_and_said(world: World) -> None:
    world.suites = [FAILS]
    world.install("3.10.8")
    assert world.meant() == ("3.10.8", "installed")
    assert "no route" in world.notes[0]
    assert world.notes[0].endswith("Using the installed RabbitMQ 3.10.8.")
    world.install(None)
    with pytest.raises(InstallError, match=r"no route.*RABBITPROOF_MIRROR.*--rabbitmq DIR"):
        world.meant()


def test_without_apt_the_installed_one_is_taken(world: World) -> None:
    world.has_apt(yes=False)
    world.install("4.1.0")
    assert world.meant() == ("4.1.0", "installed")
    with pytest.raises(InstallError, match=r"no RabbitMQ 4\.3 on this machine; install"):
        world.meant("4.3")
    world.install(None)
    with pytest.raises(InstallError, match=r"no RabbitMQ on this machine; install it with `"):
        world.meant()


def test_a_suite_that_fails_leaves_the_next_and_is_said(debian: World) -> None:
    debian.suites[0] = FAILS
    assert debian.meant() == ("4.0.5", "fetched")
    assert "no route. Taking what is offered elsewhere." in debian.notes[0]


def test_a_fetch_that_breaks_off_leaves_no_half_release(debian: World, tmp_path: Path) -> None:
    """It ends there: a full disk is no reason to fetch an older one."""
    debian.suites[0] = Suite("Debian testing", "4.3.6", broken="apt could not download.")
    with pytest.raises(InstallError, match="could not download"):
        debian.meant()
    assert [path.name for path in (tmp_path / "releases").iterdir()] == ["fetch.lock"]


def test_one_that_was_never_tried_is_taken_only_when_asked_for(world: World) -> None:
    world.suites = [Suite("Debian oldoldstable", "3.8.9")]
    with pytest.raises(UsageError, match=r"offered here: 3\.8\.9"):
        world.meant()
    assert world.meant("3.8") == ("3.8.9", "fetched")


def test_what_nobody_offers_is_wrong_usage_only_if_all_were_asked(debian: World) -> None:
    with pytest.raises(UsageError, match=r"no RabbitMQ 9\.9.*offered here: 4\.3\.6, 4\.0\.5"):
        debian.meant("9.9")
    debian.suites.append(FAILS)
    with pytest.raises(InstallError, match=r"no RabbitMQ 9\.9.*no route"):
        debian.meant("9.9")


def test_an_architecture_for_which_nothing_is_offered_takes_the_installed_one(
    world: World,
) -> None:
    world.suites = [Suite("Debian testing", None)]
    with pytest.raises(UsageError, match="no RabbitMQ for this machine"):
        world.meant()
    world.install("3.12.0")
    assert world.meant() == ("3.12.0", "installed")


@pytest.mark.parametrize("asked", ["abc", "4", "4.", "4.3.6.1.2", "-4.3", "4.3 ", "/", "\x1b[1m"])
def test_what_is_neither_release_nor_server_is_wrong_usage(debian: World, asked: str) -> None:
    with pytest.raises(UsageError, match=r"--rabbitmq .*say a release such as 4\.3") as failure:
        debian.meant(asked)
    assert "\x1b" not in str(failure.value)
    assert debian.asked == 0


def test_what_the_variable_says_wrong_is_blamed_on_it(
    debian: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(releases.VARIABLE, "newest")
    with pytest.raises(UsageError, match="RABBITPROOF_RABBITMQ newest is no release"):
        debian.meant()


def test_a_folder_can_be_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = put(tmp_path / "archive", "4.2.1")
    monkeypatch.setenv("ERLANG_HOME", str(tmp_path / "archive/usr/lib/erlang"))
    assert world.meant(str(home)) == ("4.2.1", "installed")
    with monkeypatch.context() as bare:
        bare.setattr(install, "_erlang_roots", lambda _: [])
        bare.setenv("PATH", "")
        with pytest.raises(InstallError, match="no Erlang to run it with"):
            world.meant(str(home))
    monkeypatch.chdir(home.parent)
    assert releases.provide(f"./{home.name}", world.notes.append).home == home


def test_the_cache_of_an_older_version_is_used_as_it_is(debian: World, tmp_path: Path) -> None:
    home = put(tmp_path / "rabbitmq", "3.10.8")
    assert releases.provide(None, debian.notes.append).home == home
    assert debian.meant("4.3") == ("4.3.6", "fetched")
    assert debian.meant() == ("4.3.6", "fetched")
    assert releases.remove("3.10") == ["3.10.8"]
    assert not (tmp_path / "rabbitmq").exists()


def test_what_a_killed_fetch_left_is_no_release_and_is_removed(
    debian: World, tmp_path: Path
) -> None:
    half = tmp_path / "releases/tmpabc.part"
    put(half / "root", "4.3.6")
    put(tmp_path / "releases/4.2.0.part", "4.2.0")
    assert releases.cached() == []
    assert debian.meant("4.0") == ("4.0.5", "fetched")
    assert not list((tmp_path / "releases").glob("*.part"))


def test_a_newer_patch_comes_when_it_is_fetched_and_stands_beside(debian: World) -> None:
    debian.meant()
    debian.suites[0] = Suite("Debian testing", "4.3.7")
    assert debian.meant("4.3") == ("4.3.6", "fetched")
    assert releases.fetch("4.3", debian.notes.append, refresh=True).version == "4.3.7"
    assert [one.version for one in releases.cached()] == ["4.3.7", "4.3.6"]
    assert releases.fetch("4.3", debian.notes.append, refresh=True).version == "4.3.7"
    assert "is in the cache" in debian.notes[-1]


def test_a_release_that_runs_is_not_removed(debian: World, tmp_path: Path) -> None:
    debian.meant()
    program = tmp_path / "releases/4.3.6/usr/lib/beam"
    program.symlink_to(sys.executable)
    running = subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(UsageError, match=f"pid {running.pid}"):
            releases.remove("4.3.6")
    finally:
        running.communicate()
    assert releases.remove("4.3.6") == ["4.3.6"]
    assert releases.cached() == []
    with pytest.raises(UsageError, match="it holds nothing"):
        releases.remove("4.3.6")


def test_a_cache_that_cannot_be_written_is_said(
    debian: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RABBITPROOF_CACHE", str(tmp_path / "file"))
    with pytest.raises(InstallError, match="RABBITPROOF_CACHE"):
        debian.meant()


def test_too_little_room_is_said_before_anything_is_asked(
    debian: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "LISTS", 10**18)
    with pytest.raises(InstallError, match="MB are free"):
        debian.meant()
    assert debian.asked == 0


def test_two_commands_at_once_fetch_once(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:]
import test_releases as t
from rabbitproof.broker import apt, releases
class Slow(t.Suite):
    def fetch(self, root):
        time.sleep(0.3)  # while the other waits
        super().fetch(root)
apt.usable = lambda: True
apt.offers = lambda work: iter([Slow("Debian testing", "4.3.6")])
print(releases.provide(ASKED, lambda line: print("note", line)).version)
"""
    for number, asked in enumerate((None, "4.3")):
        cache = tmp_path / str(number)
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code.replace("ASKED", repr(asked)), Path(__file__).parent],
                env={**os.environ, "RABBITPROOF_CACHE": str(cache), releases.VARIABLE: "",
                     "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]  # fmt: skip
        said = [process.communicate(timeout=60)[0].splitlines() for process in both]
        assert sorted(len(lines) for lines in said)[0] == 1
        assert sum("fetching" in line for lines in said for line in lines) == 1
        assert all(lines[-1] == "4.3.6" for lines in said)


# --- all of them ------------------------------------------------------------------------------


def every(world: World) -> list[str]:
    return releases.every(world.notes.append)


def test_all_are_the_newest_patch_of_each_release_that_is_here(
    debian: World, tmp_path: Path
) -> None:
    """Of what is installed as well, and without asking anybody."""
    for version in ("4.3.2", "4.3.10", "3.10.8", "3.9.1"):
        put(tmp_path / "releases" / version, version)
    debian.install("4.0.5")
    assert every(debian) == ["4.3.10", "4.0.5", "3.10.8"]
    debian.install("4.3.11")
    assert every(debian) == ["4.3.11", "3.10.8"]
    assert (debian.asked, debian.notes) == (0, [])


@pytest.mark.parametrize("here", [None, "4.3.2"])
def test_where_fewer_than_two_are_here_the_suites_say_what_there_is(
    debian: World, here: str | None, tmp_path: Path
) -> None:
    """What is here is not replaced; what nobody tried is too old. Fetched is none of them yet."""
    if here is not None:
        put(tmp_path / "releases" / here, here)
    debian.suites.append(Suite("Debian oldoldstable", "3.8.9"))
    debian.suites.append(Suite("this system's own packages", None))
    assert every(debian) == [here or "4.3.6", "4.0.5", "3.10.8"]
    assert [one.version for one in releases.cached()] == ([here] if here else [])
    assert len(debian.notes) == 1
    assert debian.meant("4.0.5") == ("4.0.5", "fetched")


def test_a_suite_that_does_not_answer_is_said(debian: World) -> None:
    """The others are compared all the same."""
    debian.suites[1] = InstallError("Debian stable could not be asked: no route.")
    assert every(debian) == ["4.3.6", "3.10.8"]
    assert debian.notes[-1] == (
        "Debian stable could not be asked: no route. What it offers is not tried."
    )


def test_one_release_is_nothing_to_compare(world: World, tmp_path: Path) -> None:
    """It is an error that says why there is no other, and never a pass of one."""
    world.suites = [FAILS]
    put(tmp_path / "releases/4.3.6", "4.3.6")
    with pytest.raises(InstallError, match=r"4\.3\.6 is the only release.*no route.*Leave out"):
        every(world)
    world.has_apt(yes=False)
    with pytest.raises(InstallError, match="the only release that can be had here"):
        every(world)


def test_without_any_release_it_says_how_to_have_one(world: World) -> None:
    world.has_apt(yes=False)
    with pytest.raises(InstallError, match="There is no RabbitMQ on this machine"):
        every(world)


def test_all_is_no_release(debian: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts one broker says so, whoever named it, and nothing is fetched."""
    with pytest.raises(UsageError, match="--rabbitmq all is for `rabbitproof prove --all`"):
        debian.meant("all")
    monkeypatch.setenv(releases.VARIABLE, "all")
    with pytest.raises(UsageError, match="RABBITPROOF_RABBITMQ all is for"):
        debian.meant()
    assert debian.asked == 0
