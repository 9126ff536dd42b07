"""``rabbitproof verify``: the verdict again, from the ledgers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rabbitproof.cli import options
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app

app = new_app()


@app.command()
def verify(
    *,
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR…", help="Folders with ledgers, of one host or of several."),
    ],
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Which run, where the ledgers are of several."),
    ] = None,
    as_json: options.Json = False,
) -> Exit:
    """Judge a run again from its ledgers alone. Needs no broker and writes nothing.

    The folders are those that were given with --ledger, or copies of them. All the ledgers of
    the run's producers and consumers have to be there.
    """
    from rabbitproof.cli.outcome import exit_of, show_result
    from rabbitproof.proof.verify import verify as judge_again

    result = judge_again(folders, run)
    show_result(result, as_json=as_json)
    return exit_of(result)
