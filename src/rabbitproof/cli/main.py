"""The command ``rabbitproof``: its name, its version and the table of its commands.

Holds: which commands there are, each with the sentence that the overview shows. Refuses to
hold: any command's options; they are in ``cli/<name>.py``, which has ``app: typer.Typer``.

Rules: a command's file is imported when that command runs, never for the overview. So
``--help`` and ``--version`` stay fast, and what one command needs costs the others nothing.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from rabbitproof import __version__
from rabbitproof.cli import exits
from rabbitproof.cli.options import new_app

COMMANDS = {
    "produce": "Send messages; count what the broker confirmed.",
    "consume": "Receive messages; count what is missing or came twice.",
    "window": "Receive messages in a window; answer them by hand.",
    "monitor": "Watch queues, rates and consumers; say what is wrong.",
    "verify": "Judge a run again, from its ledgers alone.",
    "prove": "Run a scenario, end in a verdict over every message.",
    "audit": "Look at the audit trail, keep it in a file, send it again.",
    "deadletter": "List dead letters, send them back, lose none.",
    "cleanup": "Delete queues and exchanges, after showing what that holds.",
    "selftest": "Lose messages in every known way; pass if each was found.",
    "doctor": "Check the way to a broker, and say what to mend.",
    "bench": "Compare this client with the wire ceiling and other clients.",
    "broker": "Start, stop and inspect a private RabbitMQ.",
}
"""Name and summary of each command; its options are in ``cli/<name>.py``."""


class LazyGroup(TyperGroup):
    """The overview knows every command's summary, and imports only the one that runs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, summary in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find a command by its name and put the real one in the summary's place."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if name is None else load(name), rest


def load(name: str) -> Any:
    """Import one command of the table and return it as typer's core runs it."""
    command = typer.main.get_command(importlib.import_module(f"rabbitproof.cli.{name}").app)
    command.name = name
    return command


app = new_app(cls=LazyGroup, no_args_is_help=True)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        print(f"rabbitproof {__version__}")
        raise typer.Exit


@app.callback()
def rabbitproof(
    *,
    version: Annotated[  # its callback does the work
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Send, receive, watch, break, and prove that RabbitMQ lost nothing."""


def main() -> NoReturn:
    """Run the command line of this process."""
    exits.main(app)
