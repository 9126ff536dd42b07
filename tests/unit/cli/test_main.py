import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from rabbitproof import __version__
from rabbitproof.cli import main
from rabbitproof.cli.exits import Exit, run

SOURCE = Path(__file__).parents[3] / "src"


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main.app, arguments=["--version"]) == Exit.DONE
    assert capsys.readouterr() == (f"rabbitproof {__version__}\n", "")


def test_the_overview_shows_every_command_with_its_whole_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(main.app, arguments=["--help"]) == Exit.DONE
    out, err = capsys.readouterr()
    assert err == ""
    for name, summary in main.COMMANDS.items():
        assert f"  {name}" in out
        assert summary in out


def test_without_a_command_the_overview_is_a_note_and_the_usage_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(main.app, arguments=[]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: rabbitproof" in err


def test_a_mistyped_command_is_told_what_it_may_have_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(main.app, arguments=["cosume"]) == Exit.USAGE
    assert capsys.readouterr().err == (
        "rabbitproof: No such command 'cosume'. Did you mean 'consume'? See `rabbitproof --help`.\n"
    )


def test_the_package_runs_as_a_module() -> None:
    done = command_line("-m", "rabbitproof", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rabbitproof {__version__}\n", "")


@pytest.mark.parametrize(
    "what",
    [*([str(SOURCE / name)] for name in ("producer.py", "monitor.py")), ["-m", "rabbitproof"]],
    ids=lambda what: Path(what[-1]).stem,
)
def test_without_what_it_needs_it_names_what_installs_it(what: list[str]) -> None:
    done = command_line("-S", *what)  # -S: without site-packages
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rabbitproof: this Python lacks what requirements.txt lists; ")
    assert done.stderr.endswith(" -m pip install -r requirements.txt\n")
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_too_old_is_told_so() -> None:
    older = "import sys; sys.version_info = (3, 10, 9); import rabbitproof.cli"
    done = command_line("-S", "-c", older)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rabbitproof: this is Python 3.10, and 3.11 or newer is needed;")


def test_only_the_command_that_runs_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    real = typer.Typer()
    real.command()(lambda: Exit.UNKNOWN)

    def import_module(name: str) -> object:
        loaded.append(name)
        return type("Module", (), {"app": real})

    # In this module alone: typer itself imports more when it first reads a command line.
    monkeypatch.setattr(main, "importlib", SimpleNamespace(import_module=import_module))
    assert run(main.app, arguments=["--help"]) == Exit.DONE
    assert loaded == []
    assert run(main.app, arguments=["consume"]) == Exit.UNKNOWN
    assert loaded == ["rabbitproof.cli.consume"]


BUILT = [name for name in main.COMMANDS if importlib.util.find_spec(f"rabbitproof.cli.{name}")]
HEAVY = ("httpx", "textual", "rich", "tkinter", "asyncio", "hdrh")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in BUILT)],
    ids=" ".join,
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    done = command_line(
        "-c",
        "import sys\n"
        "from rabbitproof.cli import exits, main\n"
        "code = exits.run(main.app)\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)",
        *arguments,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("name", BUILT)
def test_a_command_of_the_table_has_its_name_and_a_help_text(name: str) -> None:
    command = main.load(name)
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("name", ["bench", "prove", "selftest"])
def test_who_ignores_the_environment_does_not_offer_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main.app, arguments=[name, "--help"]) == Exit.DONE
    text = " ".join(capsys.readouterr().out.split())
    assert "--url URL" in text
    assert "RABBITMQ_" not in text
