"""What ``prove`` refuses before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rabbitproof.cli import prove
from rabbitproof.cli.exits import run
from rabbitproof.view.report import GENERATOR

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["soak"], "add --minutes 30"),
        (["soak", "--minutes", "5", "--count", "9"], "--count does not fit soak"),
        (["soak", "--minutes", "5", "--seconds", "9"], "--seconds does not fit soak"),
        (["offline", "--minutes", "5"], "--minutes does not fit offline, which is no soak"),
        (["--rate", "5"], "--rate does not fit offline"),
        (["offline", "--all"], "--all and SCENARIO contradict each other"),
        (["--all", "--lazy"], "--all and --lazy contradict each other"),
        (["--all", "--minutes", "3"], "--all and --minutes contradict each other"),
        (["random", "--seed", "-1"], "--seed"),
    ],
)
def test_what_contradicts_itself_is_wrong_usage(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2, and no broker."""
    assert run(prove.app, "rabbitproof prove", arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_the_highest_seed_is_the_same_everywhere() -> None:
    """The command knows it without importing what draws."""
    from rabbitproof.trial import dice, soak

    assert prove.MOST_SEED == dice.MOST_SEED
    assert prove.SOAK == soak.NAME


@pytest.mark.parametrize(("what", "name"), [("offline", "report.html"), ("--all", "index.html")])
def test_what_is_refused_leaves_an_earlier_report(what: str, name: str, tmp_path: Path) -> None:
    """A release that there is not is found out before anything is taken away."""
    page = tmp_path / name
    page.write_text(GENERATOR)
    arguments = [what, "--rabbitmq", "nonsense", "--report", str(tmp_path)]
    assert run(prove.app, "rabbitproof prove", arguments) == 2
    assert page.is_file()
