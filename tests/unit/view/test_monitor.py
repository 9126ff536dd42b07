"""The live view, driven by its keys, without a terminal and without a broker.

The screens in ``snapshots`` are what it looks like, as text; when a change of look is meant, run
this file with RABBITPROOF_SNAPSHOTS=write and read the difference.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.errors import ManagementUnreachable
from rabbitproof.snapshot import Detail, Picture, QueueSample
from rabbitproof.view import monitor
from rabbitproof.view.monitor import CloseUp, Help, MonitorApp
from seen import AUDIT, CLOCK, RATES, WORK, picture, snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SNAPSHOTS = Path(__file__).parent / "snapshots"
DETAIL = Detail(
    queue=WORK, durable=True, exclusive=False, auto_delete=False, arguments={}, policy="",
    policy_definition={}, bindings=(("direct.exchange", "work"),), consumers=(), oldest=None,
    bytes=None, depth=tuple((CLOCK - 600 + 5 * i, float(i)) for i in range(121)),
)  # fmt: skip


def screen(app: MonitorApp) -> str:
    """What is on the screen, as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip).rstrip() for strip in strips) + "\n"


def drive(
    steps: Callable[[MonitorApp, Any], Awaitable[None]],
    look: Callable[[], Picture] = picture,
    close_up: Callable[[str, str], Detail | None] = lambda *_: DETAIL,
    size: tuple[int, int] = (100, 30),
    every: float = 3600.0,
    wanted: Callable[[], bool] = lambda: True,
) -> MonitorApp:
    """Run the app with a first picture on the screen, and do ``steps`` with it."""
    app = MonitorApp(look, close_up, every=every, clock=lambda: CLOCK + 2, wanted=wanted)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.picture.snapshot is not None or app.picture.error)
            await steps(app, pilot)

    asyncio.run(run())
    return app


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        await pilot.pause(0.005)
        if condition():
            return
    pytest.fail("it never came true")


async def press(pilot: Any, *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def leave(app: MonitorApp, pilot: Any) -> None:
    """Go back to the cards; a screen takes a moment to go."""
    await press(pilot, "escape")
    await until(pilot, lambda: len(app.screen_stack) == 1)


@pytest.mark.parametrize("width", [40, 80, 120, 220])
@pytest.mark.parametrize("what", ["cards", "lists", "closeup", "stale", "help"])
def test_the_look_is_held(what: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(monitor.time, "time", lambda: CLOCK + 2)
    __import__("time").tzset()
    seen = picture()
    if what == "stale":
        seen = replace(seen, error="it can't be reached; start it.", failing_since=CLOCK)
    shown = []

    async def steps(app: MonitorApp, pilot: Any) -> None:
        if what == "lists" and width < 120:
            await press(pilot, "tab")
        if what == "help":
            await press(pilot, "question_mark")
        if what == "closeup":
            await press(pilot, "enter")
            await until(pilot, lambda: "Bindings" in str(app.screen.query_one("#page").render()))
        await pilot.pause()
        shown.append(screen(app))

    drive(steps, look=lambda: seen, size=(width, 30))
    path = SNAPSHOTS / f"{what}-{width}.txt"
    if os.environ.get("RABBITPROOF_SNAPSHOTS") == "write":
        path.write_text(shown[0], encoding="utf-8")
    assert shown[0] == path.read_text("utf-8")


def test_a_broker_that_takes_its_time_freezes_no_key() -> None:
    answer = threading.Event()
    calls = []

    def look() -> Picture:
        calls.append(1)
        if len(calls) > 1:
            answer.wait(30)
        return picture()

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await until(pilot, lambda: len(calls) > 1)
        await press(pilot, "s", "question_mark")
        assert isinstance(app.screen, Help)
        await press(pilot, "escape")
        monkey = monitor._SLOW_S
        try:
            monitor._SLOW_S = 0.0  # type: ignore[misc]
            app._draw_status()
            await pilot.pause()
            assert "waiting for the broker" in screen(app)
        finally:
            monitor._SLOW_S = monkey  # type: ignore[misc]

    drive(steps, look=look, every=0.01)
    answer.set()


def test_keys_move_and_open_the_queue_under_the_cursor() -> None:
    asked = []

    def close_up(vhost: str, name: str) -> Detail:
        asked.append(name)
        return DETAIL

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, "down", "down", "down", "enter")
        assert isinstance(app.screen, CloseUp)
        await until(pilot, lambda: asked)
        assert asked == ["audit.queue"]
        await leave(app, pilot)
        await press(pilot, "home", "enter")
        await until(pilot, lambda: len(asked) > 1)
        assert asked[-1] == "work.queue"

    drive(steps, close_up=close_up)


def test_a_click_opens_a_queue() -> None:
    async def steps(app: MonitorApp, pilot: Any) -> None:
        await pilot.click("#cards", offset=(5, 6))
        await pilot.pause()
        assert isinstance(app.screen, CloseUp)
        assert app.screen.key == AUDIT.key

    drive(steps)


def test_a_queue_that_is_gone_or_an_api_that_fails_is_a_sentence_and_the_view_goes_on() -> None:
    answers: list[Detail | Exception | None] = [
        ManagementUnreachable("it is down; start it."),
        None,
    ]

    def close_up(*_: str) -> Detail | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, "enter")
        await until(pilot, lambda: "it is down; start it." in screen(app))
        await leave(app, pilot)
        await press(pilot, "enter")
        await until(pilot, lambda: "this queue is gone" in screen(app))

    drive(steps, close_up=close_up)


def test_an_error_before_the_first_picture_is_shown_and_recovered_from() -> None:
    pictures = [Picture(None, error="it is down; start it."), picture()]

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await until(pilot, lambda: "✗ it is down; start it." in screen(app))
        await press(pilot, "r")
        await until(pilot, lambda: "work.queue" in screen(app))
        assert "it is down" not in screen(app)

    drive(steps, look=lambda: pictures.pop(0) if len(pictures) > 1 else pictures[0])


def order(app: MonitorApp) -> list[str]:
    return [one.name for one in app._queues()]


def test_queues_are_sorted_turned_round_and_filtered() -> None:
    async def steps(app: MonitorApp, pilot: Any) -> None:
        assert order(app) == ["work.queue", "audit.queue"]  # by activity
        await press(pilot, "s")
        assert order(app) == ["audit.queue", "work.queue"]  # by depth
        await press(pilot, "S")
        assert order(app) == ["work.queue", "audit.queue"]
        await press(pilot, "S", "slash", *"^w.rk")
        assert order(app) == ["work.queue"]
        await press(pilot, "enter")
        assert order(app) == ["work.queue"]
        assert "filter ^w.rk" in screen(app)
        await press(pilot, "escape")
        assert len(order(app)) == 2
        await press(pilot, "slash", "left_square_bracket")
        assert order(app) == []  # no regular expression, so a part of a name

    drive(steps)


def test_pause_stops_asking_until_it_goes_on() -> None:
    calls: list[int] = []

    def look() -> Picture:
        calls.append(1)
        return picture()

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, "p")
        assert "PAUSED" in screen(app)
        await pilot.pause(0.2)
        before = len(calls)
        await pilot.pause(0.2)
        assert len(calls) == before
        await press(pilot, "p")
        await until(pilot, lambda: len(calls) > before)

    drive(steps, look=look, every=0.02)


def test_the_cursor_stays_on_its_queue_when_the_order_changes() -> None:
    pictures = [picture(), picture(rates={AUDIT.key: RATES[WORK.key]})]

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, "r")
        await until(pilot, lambda: order(app)[0] == "audit.queue")
        assert app.query_one(monitor.Cards).selected == WORK

    drive(steps, look=lambda: pictures.pop(0) if len(pictures) > 1 else pictures[0])


def test_the_last_of_ten_thousand_queues_is_one_key_away() -> None:
    many = tuple(QueueSample("/", f"q{i:05}", ready=0, unacked=0, total=0) for i in range(10_000))
    seen = picture(snapshot(queues=many), rates={})

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, "end")
        await until(pilot, lambda: "q09999" in screen(app))

    drive(steps, look=lambda: seen)


def test_a_name_in_the_live_view_commands_nothing() -> None:
    evil = replace(WORK, name="[red]a[/]\x1b[2J\n")

    async def steps(app: MonitorApp, pilot: Any) -> None:
        assert "[red]a[/]\\x1b[2J\\n" in screen(app)
        assert "\x1b" not in screen(app)

    drive(steps, look=lambda: picture(snapshot(queues=(evil,))))


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", 130)])
def test_it_ends_at_once_with_the_right_code(key: str, code: int) -> None:
    async def steps(app: MonitorApp, pilot: Any) -> None:
        await press(pilot, key)

    assert (drive(steps).return_value or 0) == code


def test_a_clock_that_ticks_when_the_screen_is_gone_draws_nothing() -> None:
    app = MonitorApp(picture, lambda *_: None, every=3600.0)
    app._each_second()  # there is no screen yet

    async def steps(app: MonitorApp, pilot: Any) -> None:
        await app.query_one("#status").remove()
        app._each_second()

    drive(steps)


def test_a_bug_in_a_thread_ends_the_view_and_is_told() -> None:
    bug = ValueError("a bug")

    def look() -> Picture:
        raise bug

    app = MonitorApp(look, lambda *_: None, every=3600.0)

    async def run() -> None:
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.bug)

    asyncio.run(run())
    assert (app.bug, app.return_value) == (bug, 1)


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(app: MonitorApp) -> set[str]:
        found = set()
        for strip in app.screen._compositor.render_strips():
            for line_filter in app._filters:
                strip = strip.apply_filter(line_filter, app.screen.background_colors[1])
            for part in strip:
                style = part.style
                if style and style.color and not style.color.is_default:
                    found.add(style.color.name)
        return found

    found: list[set[str]] = []

    async def steps(app: MonitorApp, pilot: Any) -> None:
        found.append(colours(app))

    drive(steps)
    monkeypatch.setenv("NO_COLOR", "1")
    drive(steps)
    assert len(found[0]) > 3
    assert found[1] == set()


def test_it_ends_when_nobody_sees_it_any_more() -> None:
    async def steps(app: MonitorApp, pilot: Any) -> None:
        app._each_second()
        await pilot.pause()

    assert drive(steps, wanted=lambda: False).return_value == 0


def test_old_figures_are_grey_while_there_are_no_newer_ones() -> None:
    seen = [picture(error="down; start it."), picture()]

    def dim(app: MonitorApp) -> list[bool]:
        strip = app.query_one(monitor.Cards).render_line(1)
        return [bool(part.style and part.style.dim) for part in strip if part.text.strip()]

    async def steps(app: MonitorApp, pilot: Any) -> None:
        assert all(dim(app))
        await press(pilot, "r")
        await until(pilot, lambda: not any(dim(app)))

    drive(steps, look=lambda: seen.pop(0) if len(seen) > 1 else seen[0])
