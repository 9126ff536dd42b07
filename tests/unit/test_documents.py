"""Rules that the documents tell have a test, and the test is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_rule_of_a_verdict_names_a_test_that_there_is() -> None:
    """A row of the table of rules without one, or with one that was renamed, is a mere claim."""
    known = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    text = (ROOT / "docs" / "verdict.md").read_text("utf-8")
    table = text.partition("## What files may prove")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= known, row
