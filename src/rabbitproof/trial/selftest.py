"""The self-test: every scenario that loses by design, each loss to be found to the last message.

One node for all of them, each scenario in a vhost of its own. What can't be done to a broker that
is not ours is skipped and says so; skipped is never passed.

Yields progress, prints nothing. Refuses to decide an exit code (``cli``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rabbitproof.errors import BrokerRefused, RabbitproofError
from rabbitproof.identity import new_run
from rabbitproof.trial import faults
from rabbitproof.trial import scenario as scenarios
from rabbitproof.trial.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from rabbitproof.model import Progress, Topology, TrialResult
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one scenario."""

    name: str
    title: str
    seconds: float
    surprises: tuple[str, ...]
    """What came out differently than expected; none when exactly that was found."""
    found: tuple[tuple[str, str, int], ...] = ()
    """What was found: queue, count's name, number."""
    skipped: str | None = None
    """Why it was not carried out."""
    result: TrialResult | None = None

    @property
    def passed(self) -> bool:
        """Whether exactly the expected was found."""
        return not self.surprises and self.skipped is None


def unsafe() -> list[Scenario]:
    """Return the scenarios that lose, double or spoil by design."""
    found = [scenarios.find(name) for name in scenarios.names()]
    return [one for one in found if not one.safe]


def carry_out(
    scenario: Scenario,
    where: Callable[[Topology, str], AbstractContextManager[Place]],
    *,
    private: bool,
) -> Generator[Progress, None, Outcome]:
    """Carry out one scenario and compare what was found with what was to be found."""
    began = time.monotonic()

    def outcome(
        surprises: tuple[str, ...] = (),
        skipped: str | None = None,
        result: TrialResult | None = None,
    ) -> Outcome:
        return Outcome(
            scenario.name,
            scenario.title,
            round(time.monotonic() - began, 2),
            surprises,
            () if result is None else result.planted,
            skipped,
            result,
        )

    why = None if private else faults.refusal(scenario)
    if why is not None:
        return outcome(skipped=f"{why}.")
    run = new_run()
    try:
        with where(scenario.wiring(), run) as place:
            trial = Trial(scenario, place, run, sender="selftest")
            yield from trial.run()
    except BrokerRefused as error:
        if private:
            return outcome((f"It could not be carried out: {error}",))
        return outcome(skipped=f"this broker does not allow it: {error}")
    except RabbitproofError as error:
        return outcome((f"It could not be carried out: {error}",))
    result = trial.result
    if result is None:
        raise AssertionError("a trial that ended has a result")
    return outcome(result.surprises, result=result)


def run(
    where: Callable[[Topology, str], AbstractContextManager[Place]],
    *,
    private: bool,
    chosen: list[Scenario] | None = None,
) -> Iterator[Progress | Outcome]:
    """Carry out all of them; yield an ``Outcome`` after each."""
    for scenario in unsafe() if chosen is None else chosen:
        yield (yield from carry_out(scenario, where, private=private))
