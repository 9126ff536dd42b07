"""``prove --all --rabbitmq all`` without a broker: what is done on which release, told, written."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import install, releases
from rabbitproof.cli import prove
from rabbitproof.cli.exits import run
from rabbitproof.errors import InstallError, NodeFailed
from rabbitproof.model import Decision, Entry, FaultRecord, QueueVerdict, TrialResult, Verdict
from rabbitproof.trial import scenario, suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rabbitproof.trial.plan import Scenario

NAMES = ("offline", "random")


class Trial:
    """What a report asks of a trial."""

    logs: dict[str, Any] = {}  # noqa: RUF012  the same for all

    @property
    def judged(self) -> Trial:
        return self

    def lost(self) -> dict[str, Any]:
        return {}


class World:
    """Releases that start or do not, and trials that end as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.versions = ["4.3.6", "4.0.5"]
        self.missing: dict[str, str] = {}
        self.stillborn: dict[str, str] = {}
        self.carried: list[tuple[str, str, int | None, str]] = []
        self.ends: dict[tuple[str, str], Callable[[], TrialResult]] = {}
        self.on = ""
        world = self

        class Nodes:
            """In place of ``suite.Nodes``."""

            def __init__(self, installation: install.Installation, _note: object) -> None:
                self.version = installation.version

            def __enter__(self) -> Nodes:
                return self

            def __exit__(self, *_: object) -> None: ...

            def ready(self, _: Scenario) -> None:
                world.on = self.version
                if why := world.stillborn.get(self.version):
                    raise NodeFailed(why)

            @contextmanager
            def venue(self, _scenario: Scenario, _run: str) -> Iterator[None]:
                yield

            def discard(self) -> None: ...

        monkeypatch.setattr(releases, "every", lambda _: self.versions)
        monkeypatch.setattr(releases, "provide", self._provide)
        monkeypatch.setattr(suite, "Nodes", Nodes)
        monkeypatch.setattr(
            suite, "scenarios_of", lambda **_: [scenario.find(name) for name in NAMES]
        )
        monkeypatch.setattr(suite, "run_scenario", self._carry_out)
        monkeypatch.delenv(releases.VARIABLE, raising=False)

    def _provide(self, asked: str, _note: object) -> install.Installation:
        if why := self.missing.get(asked):
            raise InstallError(why)
        return install.Installation(None, None, asked, "fetched")  # type: ignore[arg-type]

    def _carry_out(self, one: Scenario, *_: Any, command: str, **__: Any) -> Any:
        self.carried.append((self.on, one.name, one.seed, command))
        end = self.ends.get((self.on, one.name), lambda: passed(one.name))
        result = end()
        return suite.Carried(Entry(one.name, one.title, 1.0, result), Trial())  # type: ignore[arg-type]
        yield

    def prove(self, *arguments: str) -> int:
        return run(prove.app, "rabbitproof prove", ["--all", "--rabbitmq", "all", *arguments])


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def passed(name: str, decision: Decision = Decision.PASS, lost: int = 0) -> TrialResult:
    queue = QueueVerdict(
        "work.queue", "ledger", 10, 10, lost, (), 0, 0, 0, 0, 0, 0, 0, None, None, 0
    )
    reasons = () if decision is Decision.PASS else (f"{lost} are lost.",)
    verdict = Verdict(decision, reasons, 10, 10, 0, 0, 0, {"work.queue": queue})
    faults = (FaultRecord("broker-kill", 1.0, fired=True, evidence=""),)
    return TrialResult(verdict, name, "0a1b2c3d4e5f", 1, 1, (), {"rabbitmq": "?"}, faults=faults)


def interrupt() -> TrialResult:
    raise KeyboardInterrupt


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_scenario_runs_on_each_release(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, with the same faults, under the command that repeats it; one object."""
    assert world.prove("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one[:2] for one in world.carried] == [
        ("4.3.6", "offline"), ("4.3.6", "random"), ("4.0.5", "offline"), ("4.0.5", "random"),
    ]  # fmt: skip
    first, second = (one[2] for one in world.carried if one[1] == "random")
    assert first == second is not None
    assert world.carried[2][3] == "rabbitproof prove offline --rabbitmq 4.0.5"
    assert list(told["releases"]) == ["4.3.6", "4.0.5"]
    assert [one["verdict"] for one in told["releases"].values()] == ["PASS", "PASS"]
    assert told["releases"]["4.0.5"]["command"] == "rabbitproof prove --all --rabbitmq 4.0.5"
    assert (told["verdict"], told["differences"]) == ("PASS", [])


def test_a_loss_on_one_release_fails_all_and_is_a_difference(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its table, its row among the differences, its reason at the end, and exit code 1."""
    world.ends["4.0.5", "offline"] = lambda: passed("offline", Decision.FAIL, 3)
    assert world.prove() == 1
    out = capsys.readouterr().out
    at = [out.index(part) for part in ("\nRabbitMQ 4.3.6\n", "\nRabbitMQ 4.0.5\n", "Where they")]
    assert at == sorted(at)
    assert "FAIL  1 of 2 releases passed all 2 scenarios." in out
    assert out.rstrip().splitlines()[-2] == "  - RabbitMQ 4.0.5: offline: 3 are lost."
    rows = [line.split() for line in out.splitlines() if line.startswith("offline ")][-2:]
    assert rows == [["offline", "verdict", "PASS", "FAIL"], ["offline", "lost", "0", "3"]]


@pytest.mark.parametrize("how", ["missing", "stillborn"])
def test_a_release_that_cannot_be_had_is_unknown_and_the_others_run(
    world: World, how: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With its reason everywhere, said once and not for each scenario; exit code 4."""
    getattr(world, how)["4.3.6"] = "It is not to be had; look elsewhere."
    assert world.prove("--report", str(tmp_path), "--json") == 4
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["verdict"] == "UNKNOWN"
    gone, there = told["releases"].values()
    assert (gone["verdict"], gone["scenarios"]) == ("UNKNOWN", [])
    assert gone["broken"] == "It is not to be had; look elsewhere."
    assert gone["environment"]["rabbitmq"] == "4.3.6"
    assert there["verdict"] == "PASS"
    assert err.count("4.3.6 UNKNOWN: It is not to be had; look elsewhere.") == 1
    for name in ("index.html", "junit.xml", "table.md", "4.3.6/index.html", "4.3.6/junit.xml"):
        assert "It is not to be had" in (tmp_path / name).read_text("utf-8"), name


@pytest.mark.parametrize("at", [("4.3.6", "random"), ("4.0.5", "offline")])
def test_an_interrupt_ends_with_what_is_known(
    world: World, at: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is over stands, the rest is left out on each release; 130, and all of it is written."""
    world.ends[at] = interrupt
    assert world.prove("--report", str(tmp_path), "--json") == 130
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["interrupted"]) == ("UNKNOWN", True)
    verdicts = [[one["verdict"] for one in each["scenarios"]] for each in told["releases"].values()]
    over = world.carried.index(next(one for one in world.carried if one[:2] == at))
    done = [*["PASS"] * over, *[None] * (4 - over)]
    assert verdicts == [done[:2], done[2:]]
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == told
    assert {"4.3.6/index.html", "4.0.5/index.html"} <= files(tmp_path)


def test_what_was_not_begun_has_no_table(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody wants to read that each scenario was left out."""
    world.ends["4.3.6", "random"] = interrupt
    assert world.prove() == 130
    out = capsys.readouterr().out
    assert "RabbitMQ 4.3.6\n" in out
    assert "RabbitMQ 4.0.5\n" not in out
    assert "it was interrupted" in out


def test_a_report_is_a_folder_for_each_release_and_replaces_an_earlier_one(
    world: World, tmp_path: Path
) -> None:
    """Also that of a release that is no more among them; what is somebody's stays."""
    assert world.prove("--report", str(tmp_path)) == 0
    common = {"index.html", "junit.xml", "table.md", "report.json"}
    each = {"report.html", "report.json", "junit.xml"}
    assert files(tmp_path) == common | {
        f"{version}/{file}"
        for version in world.versions
        for file in common | {f"{name}/{one}" for name in NAMES for one in each}
    }
    assert 'href="4.0.5/offline/report.html"' in (tmp_path / "index.html").read_text("utf-8")
    (tmp_path / "4.0.5" / "notes.txt").write_text("mine")
    world.versions = ["4.3.6", "4.2.1"]
    assert world.prove("--report", str(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "4.3.6", "4.2.1", "4.0.5",
    }  # fmt: skip
    assert files(tmp_path / "4.0.5") == {"notes.txt"}


def test_reports_of_one_and_of_several_releases_replace_each_other(
    world: World, tmp_path: Path
) -> None:
    """In one folder, and back again."""
    alone = ["--all", "--rabbitmq", "4.3.6", "--report", str(tmp_path)]
    assert run(prove.app, "rabbitproof prove", alone) == 0
    one = files(tmp_path)
    assert "offline/report.html" in one
    assert world.carried[0][3].endswith(f"--report {tmp_path / 'offline'}")
    assert world.prove("--report", str(tmp_path)) == 0
    assert "offline/report.html" not in files(tmp_path)
    assert "4.3.6/offline/report.html" in files(tmp_path)
    assert run(prove.app, "rabbitproof prove", alone) == 0
    assert files(tmp_path) == one


def test_the_environment_may_name_all(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it names any release, and the command that repeats it says so."""
    monkeypatch.setenv(releases.VARIABLE, "all")
    assert run(prove.app, "rabbitproof prove", ["--all", "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["command"] == "rabbitproof prove --all --rabbitmq all"
    )


def test_with_a_broker_of_somebodys_there_is_no_release(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--all", "--rabbitmq", "all", "--url", "amqp://localhost"]
    assert run(prove.app, "rabbitproof prove", arguments) == 2
    assert "leave out --url or --rabbitmq" in capsys.readouterr().err
