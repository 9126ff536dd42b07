"""What people type: flags, exit codes and printing, one file per command.

Before any of them: whether this Python can run them. Nothing later can say so in a sentence, for
all of them import typer. Rules: this file has to be understood by a Python that is too old.
"""

import sys
from importlib.util import find_spec


def _cannot(why: str) -> None:
    print("rabbitproof: " + why, file=sys.stderr)
    sys.exit(2)


if sys.version_info < (3, 11):  # noqa: UP036  `python src/producer.py` asks no installer
    _cannot(
        "this is Python "
        + ".".join(map(str, sys.version_info[:2]))
        + ", and 3.11 or newer is needed; call a newer one."
    )
if find_spec("typer") is None:
    _cannot(
        "this Python lacks what requirements.txt lists; activate the environment that make sets up "
        "(. .venv/bin/activate), or install it: "
        + (sys.executable or "python")
        + " -m pip install -r requirements.txt"
    )
