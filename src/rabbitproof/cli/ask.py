"""Asking before something that can't be undone.

Rules: nothing is ever deleted because nobody could be asked: without an answer it is not done.
The question goes to standard error, the answer comes from standard input.
"""

from __future__ import annotations

import sys

from rabbitproof.errors import UsageError
from rabbitproof.text import safe


def confirm(question: str, *, yes: bool) -> bool:
    """Ask; ``yes``: it was answered on the command line already.

    Raise ``UsageError`` when there is nobody to ask.
    """
    if yes:
        return True
    answer = _answer(f"{question} [y/N] ", "say --yes to answer beforehand")
    return answer.lower() in {"y", "yes"}


def confirm_by_name(question: str, name: str) -> bool:
    """Ask for a name to be typed, which no option can answer."""
    return _answer(f"{question} ", "type it, or pipe it in") == name


def _answer(question: str, advice: str) -> str:
    print(safe(question, 2_000, newlines=True), end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line or not sys.stdin.isatty():
        print(file=sys.stderr)  # which a terminal has done when somebody pressed Enter
    if not line:
        raise UsageError(f"there was no answer, so nothing was done; {advice}.")
    return line.rstrip("\r\n")
