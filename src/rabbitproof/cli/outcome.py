"""How a verdict reaches the terminal, and which exit code it is.

Refuses to word it (``view/verdict``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rabbitproof.cli.exits import Exit
from rabbitproof.model import Decision

if TYPE_CHECKING:
    from rabbitproof.model import TrialResult

EXITS = {
    Decision.PASS: Exit.DONE,
    Decision.FAIL: Exit.FAILED,
    Decision.UNKNOWN: Exit.UNKNOWN,
}
COLOURS = {Decision.PASS: "green", Decision.FAIL: "red", Decision.UNKNOWN: "yellow"}


def exit_of(result: TrialResult) -> Exit:
    """Return the exit code of a verdict."""
    return EXITS[result.verdict.decision]


def show_result(result: TrialResult, *, as_json: bool) -> None:
    """Print a verdict: lines for people, or one JSON object."""
    from rabbitproof.view import verdict as words

    if as_json:
        print(json.dumps(words.as_object(result)))
        return
    from rich.console import Console
    from rich.text import Text

    decision = result.verdict.decision
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(
        Text.assemble(
            (f" {decision} ", f"bold reverse {COLOURS[decision]}"), " ", words.headline(result)
        )
    )
    for line in [*words.details(result), *words.expectation(result)]:
        console.print(Text(line))
