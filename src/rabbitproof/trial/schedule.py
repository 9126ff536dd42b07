"""When faults happen: what is due, and carrying it out while everybody goes on working.

Rules: one after the other. What is due while another one lasts begins when that is over, so that
each record says what one fault did. A fault that lasts runs in a thread of its own; whoever
sends and receives meets it as a program does that knows nothing of it. What is over in an instant
is done at once, in the thread of the trial.

Refuses to know how a fault is carried out (``faults``, ``breaking``).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from rabbitproof.model import Step
from rabbitproof.trial import faults
from rabbitproof.trial.kinds import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.model import FaultRecord, Progress
    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.gaps import Gaps
    from rabbitproof.trial.plan import FaultPlan

_LOOK_S: Final = 0.05
_LET_GO_S: Final = 20.0
"""For a fault that was interrupted to change back what it changed."""


@dataclass(slots=True)
class Schedule:
    """Which fault is due when."""

    plans: tuple[FaultPlan, ...]
    _fired: list[int] = field(init=False)
    _last: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._fired = [0] * len(self.plans)
        self._last = [0.0] * len(self.plans)

    def due(self, sent: float, received: float, seconds: float) -> list[FaultPlan]:
        """Return what is due at these shares of the messages, so long after the first publish.

        What is returned counts as carried out.
        """
        out = []
        for i, plan in enumerate(self.plans):
            if self._fired[i] >= plan.times:
                continue
            if self._fired[i]:
                ready = seconds - self._last[i] >= plan.every_s
            elif plan.at_s is not None:
                ready = seconds >= plan.at_s
            else:
                share = received if CATALOGUE[plan.name].hits == "consumer" else sent
                ready = share >= (plan.at_share or 0.0)
            if ready:
                self._fired[i] += 1
                self._last[i] = seconds
                out.append(plan)
        return out


class _Underway:
    """A fault that lasts, in its thread."""

    def __init__(self, plan: FaultPlan, scene: Scene, at_s: float) -> None:
        self.record: FaultRecord | None = None
        self._failure: BaseException | None = None
        in_flight = scene.in_flight()

        def run() -> None:
            try:
                self.record = faults.carry_out(plan, scene, at_s, in_flight)
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                self._failure = error

        self._thread = threading.Thread(target=run, name=plan.name, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait so long for its end; tell whether it is over. Raises what went wrong in it."""
        self._thread.join(seconds)
        over = not self._thread.is_alive()  # asked first: it may fail at this very moment
        if self._failure is not None:
            raise self._failure
        return over


class Faults:
    """All faults of one trial. Use it as a context manager: none lasts longer than that."""

    def __init__(
        self,
        plans: tuple[FaultPlan, ...],
        scene: Scene,
        clock: Callable[[], float],
        gaps: Gaps,
        note: Callable[[FaultRecord], None],
    ) -> None:
        """``clock`` tells the seconds after the first publish; ``note`` is told of each fault."""
        self.records: list[FaultRecord] = []
        self._schedule = Schedule(plans)
        self._scene, self._clock, self._gaps, self._note = scene, clock, gaps, note
        self._waiting: deque[FaultPlan] = deque()
        self._underway: _Underway | None = None
        self._ending = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.join(_LET_GO_S)

    @property
    def busy(self) -> bool:
        """Whether something is broken at this moment."""
        return self._underway is not None

    def last(self, seconds: float) -> None:
        """Let so much time of a fault pass; see ``faults.Scene``."""
        if self._ending.wait(seconds):
            raise faults.Interrupted

    def due(self, sent: float, received: float) -> Iterator[Progress]:
        """Begin what is due at these shares of the messages; see what has ended."""
        self._waiting += self._schedule.due(sent, received, self._clock())
        yield from self._go_on(0.0)

    def finish(self) -> Iterator[Progress]:
        """Wait until everything that was due is over."""
        while self._underway is not None or self._waiting:
            yield from self._go_on(_LOOK_S, at_last=True)

    def _go_on(self, seconds: float, *, at_last: bool = False) -> Iterator[Progress]:
        """Wait so long for the one that lasts, and begin the next ones.

        ``at_last``: everything else is over, so none may wait for a better moment.
        """
        if (underway := self._underway) is not None:
            self._underway = None  # nobody waits again for what goes wrong in it
            if not underway.join(seconds):
                self._underway = underway
            elif underway.record is not None:
                yield from self._over(underway.record)
        while self._underway is None and self._waiting:
            is_cut = self._waiting[0].name == "connection-cut"
            if is_cut and not at_last and self._scene.reconnects():
                return  # on a busy machine after the one before: there is nothing to cut yet
            plan = self._waiting.popleft()
            kind = CATALOGUE[plan.name]
            yield Step(f"now {kind.about}")
            at_s = self._clock()
            if kind.meanwhile:
                self._underway = _Underway(plan, self._scene, at_s)
                return
            record = faults.carry_out(plan, self._scene, at_s, self._scene.in_flight())
            if kind.hits in {"consumer", "queue"}:
                # The broker served on; only our own producer was kept waiting.
                self._gaps.leave_out(self._clock() - at_s)
            yield from self._over(record)

    def _over(self, record: FaultRecord) -> Iterator[Progress]:
        self.records.append(record)
        self._note(record)
        yield Step(record.evidence, done=True)
