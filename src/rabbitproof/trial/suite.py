"""Several scenarios, one after the other: all safe ones, or all that lose by design.

One private node for those that need one, each scenario in a vhost of its own; a node on which
something went wrong is replaced. What can't be done where it was asked for is left out and says so:
left out is never passed. A trial that takes far longer than it can is ended, and is UNKNOWN.

Yields progress, prints nothing. Refuses to decide an exit code and where reports go (``cli``).
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from rabbitproof.broker.cluster import Cluster
from rabbitproof.broker.node import Node
from rabbitproof.errors import BrokerRefused, RabbitproofError, SourceMissing
from rabbitproof.identity import new_run
from rabbitproof.model import Decision, Entry
from rabbitproof.trial import faults, place
from rabbitproof.trial import scenario as scenarios
from rabbitproof.trial.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType

    from rabbitproof.broker.install import Installation
    from rabbitproof.model import Progress
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario

_TRIAL_S: Final = 180.0
"""For a trial beside its messages; the longest outage of a scenario is a tenth of it."""
_SLOWEST: Final = 2_000.0
"""Messages a second of a trial, all its phases together; no machine that passes is as slow."""


class TimeUp(KeyboardInterrupt):
    """A trial's time is over. Whoever tidies up after Ctrl+C does the same for this."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One scenario's entry, and the trial where there was one."""

    entry: Entry
    trial: Trial | None = None


def scenarios_of(*, safe: bool) -> list[Scenario]:
    """Return the scenarios that promise to lose nothing, or those that lose by design."""
    found = [scenarios.find(name) for name in scenarios.names()]
    # Those of one size after the other, so that few brokers have to be started.
    return sorted((one for one in found if one.safe is safe), key=lambda one: one.cluster.nodes)


class Nodes:
    """Private nodes for one trial after the other. Use it as a context manager.

    A broker is used again as long as nothing went wrong on it, and ended when another size is
    wanted: several at once would be in each other's way.
    """

    def __init__(self, installation: Installation, note: Callable[[str], None]) -> None:
        self._installation = installation
        self._note = note
        self._broker: Node | Cluster | None = None
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @contextmanager
    def venue(self, scenario: Scenario, run: str) -> Iterator[Place]:
        """Give a vhost of its own for one trial."""
        with place.on_node(self.ready(scenario), scenario.wiring(), run) as here:
            yield here

    def ready(self, scenario: Scenario) -> Node | Cluster:
        """Start what a scenario needs, if it is not there. Raise NodeError where it does not."""
        broker, size = self._broker, scenario.cluster.nodes
        if broker is None or size != self._size or not _is_whole(broker):
            self.discard()
            what = "" if size == 1 else f", {size} nodes"
            self._note(f"starting a private RabbitMQ {self._installation.version}{what}")
            if size == 1:
                broker = Node.start(self._installation)
            else:
                broker = Cluster.start(self._installation, nodes=size)
            self._broker, self._size = broker, size
        return broker

    def discard(self) -> None:
        """End the broker; the next trial gets another one."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.stop()


def _is_whole(broker: Node | Cluster) -> bool:
    if isinstance(broker, Cluster):
        return broker.problem() is None
    return broker.pid is not None


def deadline_s(scenario: Scenario) -> float:
    """Return the seconds after which a trial of this scenario must have gone wrong."""
    work = scenario.workload
    sending = work.count / min(work.rate or _SLOWEST, _SLOWEST)
    if work.seconds is not None:
        sending = 2 * work.seconds
    outages = sum(plan.times * (plan.lasts_s + plan.every_s) for plan in scenario.faults)
    return _TRIAL_S + sending + 2 * outages


def run_scenario(
    scenario: Scenario,
    venue: Callable[[Scenario, str], AbstractContextManager[Place]],
    *,
    private: bool,
    owner: bool = False,
    sender: str = "prove",
    command: str = "",
    ledgers: Path | None = None,
) -> Generator[Progress, None, Carried]:
    """Carry out one scenario; whatever goes wrong with it becomes its entry."""
    began = time.monotonic()

    def entry(**more: object) -> Entry:
        seconds = round(time.monotonic() - began, 2)
        return Entry(scenario.name, scenario.title, seconds, **more)  # type: ignore[arg-type]

    why = None if private else faults.refusal(scenario, owner=owner)
    if why is not None:
        return Carried(entry(left_out=f"{why}."))
    run = new_run()
    most = deadline_s(scenario)
    trial: Trial | None = None
    try:
        with _time_limit(most), venue(scenario, run) as here:
            trial = Trial(
                scenario,
                here,
                run,
                command=command,
                sender=sender,
                keep=None if ledgers is None else ledgers / run,
            )
            yield from trial.run()
    except SourceMissing as error:
        return Carried(entry(left_out=str(error)))
    except BrokerRefused as error:
        if private:
            return Carried(entry(broken=f"It could not be carried out: {error}"), trial)
        return Carried(entry(left_out=f"This broker does not allow it: {error}"), trial)
    except RabbitproofError as error:
        return Carried(entry(broken=f"It could not be carried out: {error}"), trial)
    except TimeUp:
        why = f"It was not over after {most:.0f} s, its deadline, and was ended."
        return Carried(entry(broken=why), trial)
    return Carried(entry(result=trial.result), trial)


def went_wrong(carried: Carried) -> bool:
    """Tell whether the broker is not to be trusted with another trial."""
    return carried.entry.decision in {Decision.FAIL, Decision.UNKNOWN}


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the main thread after so long, whatever it waits for.

    Every wait has a deadline of its own; this is for the sum of them, and for the one that was
    forgotten. Without signals (Windows, another thread) there are only those.
    """
    usable = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return
    before = signal.signal(signal.SIGALRM, _time_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _time_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeUp
