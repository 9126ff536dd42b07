"""How the progress of trials reaches the terminal: a bar where there is one, else lines.

Not a command. Refuses to word progress (``view/lines``).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from rabbitproof.model import Advanced, Disconnected, Note, Step

if TYPE_CHECKING:
    from collections.abc import Generator

    from rabbitproof.model import Progress

_QUIET_S = 1.0
"""Seconds between two lines of progress at least."""

_Value = TypeVar("_Value")


def say(text: str) -> None:
    """Print a line about the trial on standard error."""
    print(f"[prove] {text}", file=sys.stderr, flush=True)


def follow(
    progress: Generator[Progress, None, _Value],
    *,
    label: str = "",
    notes: list[str] | None = None,
) -> _Value:
    """Show a trial's steps and the progress of its participants; return what came of it.

    ``label`` stands in the bar. With ``notes`` there is nothing but the bar: what would have been
    noted is added to that list, for whoever wants to show it after all.
    """
    from rabbitproof.view import lines
    from rabbitproof.view.bar import Bar

    with Bar(f"[prove] {label}".rstrip()) as bar:
        said = 0.0
        blocked: str | None = None

        def show(event: Progress) -> None:
            nonlocal said, blocked
            match event:
                case Step():
                    bar.clear()
                    said = 0.0
                    if notes is None:
                        say(f"  -> {event.text}" if event.done else event.text)
                case Note():
                    (say if notes is None else notes.append)(event.text)
                case Disconnected():
                    bar.without(event.seconds)
                case Advanced():
                    bar.advance(event)
                    if event.sample is None and event.blocked != blocked:
                        blocked = event.blocked
                        text = lines.blocked(blocked) if blocked else "unblocked"
                        (say if notes is None else notes.append)(f"     {text}")
                    # A line for every mark, but none that the next step says as well.
                    due = event.mark and event.seconds >= said + _QUIET_S
                    if due and event.done != event.total and not bar.visible and notes is None:
                        said = event.seconds
                        say(f"     {lines.pace(event)}")

        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                event = next(progress) if interrupt is None else progress.throw(interrupt)
            except StopIteration as end:
                value: _Value = end.value
                return value
            interrupt = None
            try:
                show(event)
            except KeyboardInterrupt as error:  # Ctrl+C, or a time limit: the trial ends for it
                interrupt = error
