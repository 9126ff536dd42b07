"""How a trial's progress is shown where there is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rabbitproof.cli.follow import follow
from rabbitproof.model import Advanced, Note, Sample, Step
from rabbitproof.trial.suite import TimeUp

if TYPE_CHECKING:
    from collections.abc import Generator

    from rabbitproof.model import Progress

SAMPLE = Sample(1, "id-1", "alice", "1", "Hello World")


def shown(events: list[object], capsys: pytest.CaptureFixture[str]) -> list[str]:
    follow(one for one in events)  # type: ignore[arg-type,misc]
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def mark(done: int, seconds: float, sample: Sample | None = None) -> Advanced:
    return Advanced(done, 1000, mark=True, sample=sample, seconds=seconds)


def test_every_phase_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Steps, notes and marks, the latter with rate and time left."""
    events = [
        Step("sending"),
        Advanced(57, 1000, mark=False),
        mark(100, 2.0),
        Note("A note."),
        mark(500, 10.0),
        Step("sent", done=True),
        Step("consuming"),
        mark(500, 1.0, SAMPLE),
    ]
    assert shown(events, capsys) == [
        "[prove] sending",
        "[prove]      published 100/1,000, 50 msg/s, 18 s left",
        "[prove] A note.",
        "[prove]      published 500/1,000, 50 msg/s, 10 s left",
        "[prove]   -> sent",
        "[prove] consuming",
        "[prove]      received 500/1,000, 500 msg/s, 1 s left",
    ]


def test_a_quick_phase_is_not_shown_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    """There is at most one line a second; the next phase counts anew."""
    events = [
        Step("sending"),
        *[mark(n, n / 400) for n in range(100, 1001, 100)],
        mark(1000, 9.0),
        Step("consuming"),
        mark(100, 0.9, SAMPLE),
        mark(200, 1.1, SAMPLE),
    ]
    lines = shown(events, capsys)
    assert [line.split()[2] for line in lines if "msg/s" in line] == [
        "400/1,000,",
        "800/1,000,",
        "200/1,000,",
    ]


def test_who_is_interrupted_while_showing_ends_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A time limit that is over just then still becomes the trial's own result."""

    def trial() -> Generator[Progress, None, str]:
        try:
            yield Step("sending")
        except TimeUp:
            return "ended"
        return "over"

    def time_up(_: str) -> None:
        raise TimeUp

    monkeypatch.setattr("rabbitproof.cli.follow.say", time_up)
    assert follow(trial()) == "ended"


def test_a_trial_has_ended_before_an_interrupt_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it started is gone by then, and not only when nobody holds it any more."""
    gone = []

    def trial() -> Generator[Progress, None, None]:
        try:
            yield Step("sending")
        finally:
            gone.append(True)

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rabbitproof.cli.follow.say", interrupt)
    running = trial()
    with pytest.raises(KeyboardInterrupt):
        follow(running)
    assert gone
