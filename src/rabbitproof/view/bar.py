"""The progress bar that stands below the lines on a terminal.

Refuses to show anything elsewhere: a pipe or a file gets lines only.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rabbitproof.view.lines import blocked

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from rabbitproof.model import Advanced

_REDRAW_S = 0.1


class Bar:
    """A bar with count, rate and time left; use it as a context manager.

    Does nothing unless standard error is a terminal.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if not sys.stderr.isatty():
            return self
        # rich is imported here because it costs 50 ms that pipes and --help need not pay.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
            auto_refresh=False,
        )
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def visible(self) -> bool:
        """True on a terminal."""
        return self._progress is not None

    def clear(self) -> None:
        """Take the bar away; the next one begins anew."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.refresh()
            self._task, self._drawn = None, 0.0

    def advance(self, event: Advanced) -> None:
        """Show how far it is, at most ten times a second."""
        progress, now = self._progress, time.monotonic()
        if progress is None or now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        of = "" if event.total is None else f"/{event.total:,}"
        if self._task is None:
            self._task = progress.add_task(self._label, total=event.total, count="", rate="")
        (task,) = progress.tasks
        state = "" if task.speed is None else f"{task.speed:,.0f} msg/s"
        if event.blocked is not None:
            state = blocked(event.blocked)
        progress.update(self._task, completed=event.done, count=f"{event.done:,}{of}", rate=state)
        progress.refresh()

    def without(self, seconds: float) -> None:
        """Show for how long there has been no connection."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, rate=f"no connection for {seconds:.0f} s")
            self._progress.refresh()
            self._drawn = 0.0
