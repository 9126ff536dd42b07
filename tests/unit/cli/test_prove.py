"""What ``prove`` refuses before anything is started."""

from __future__ import annotations

import pytest

from rabbitproof.cli import prove
from rabbitproof.cli.exits import run


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
