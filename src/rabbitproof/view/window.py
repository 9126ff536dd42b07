"""The window: messages as they come, one of them whole, and the buttons that answer them.

What is received and kept is behind two values that are passed in, an ``Inbox`` and a ``Control``. A
tick, 25 times a second, looks whether something changed and draws it, ten times a second at most;
what takes longer (a filter, a search, a file) is done in slices of a tick, so that no key and no
click waits for it. Its parts: ``table``, and with a name that begins with ``window_``, the rest of
what is seen (``parts``), where it stands (``layout``), its colours and sizes (``look``), its keys,
its filter (``search``) and what it saves (``files``).

Rules: the receiving thread and this one share one interpreter, so each call to Tcl may have to wait
for the other: few calls, each with much in it. What comes from a message went through ``messages``,
which makes it safe to show.
"""

from __future__ import annotations

import contextlib
import sys
import time
import tkinter as tk
from pathlib import Path
from tkinter import filedialog
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import WindowUnavailable
from rabbitproof.text import safe
from rabbitproof.view import messages as words
from rabbitproof.view import window_files, window_keys
from rabbitproof.view.listing import Rates
from rabbitproof.view.table import Table
from rabbitproof.view.window_layout import Button, Layout, size
from rabbitproof.view.window_look import Look
from rabbitproof.view.window_search import Search

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rabbitproof.received import Control, Inbox, Verb
    from rabbitproof.view.window_look import Theme

TICK_MS: Final = 40
_DRAW_S: Final = 0.1
"""Between two pictures of a table that nobody touches."""
_LABELS_S: Final = 0.25
_SLICE_S: Final = 0.012
"""For which long work goes on in one tick."""
_SWITCH_S: Final = 0.001
"""For which the receiving thread may keep this one waiting after a call to Tcl. With Python's 5 ms
a key waited 40 to 59 ms at worst at 50,000 messages a second, with this 28, at the same rate."""
_NOTHING_SELECTED: Final = "Select messages first: click one, or press ↑."


def open_screen() -> tk.Tk:
    """Return a main window that is not shown yet. Raise WindowUnavailable without a display."""
    if sys.platform == "win32":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.windll.shcore.SetProcessDpiAwareness(1)
    try:
        root = tk.Tk(className="Rabbitproof")
    except tk.TclError as error:
        raise WindowUnavailable(
            f"A window needs a display and there is none here ({safe(str(error), 120)}); run this "
            "in a desktop session, connect with `ssh -X`, or receive with `rabbitproof consume`."
        ) from None
    root.withdraw()
    return root


class Window:
    """One window, from ``run`` to its end."""

    def __init__(
        self,
        root: tk.Tk,
        inbox: Inbox,
        control: Control,
        *,
        name: str,
        queue: str,
        by_hand: bool,
        bound: str,
        theme: Theme = "light",
    ) -> None:
        """``bound``: a sentence about what is kept."""
        self.root = root
        self._inbox = inbox
        self._control = control
        self._by_hand = by_hand
        self._look = Look(root, theme)
        self._search = Search(inbox)
        self._rates = Rates()
        self._newest = 0
        self._paused = False
        self._drawn = self._labelled = 0.0
        self._changes = -1
        self._dirty = True
        self._touch = False
        """Whether somebody moved something: drawn at the next tick."""
        self._shown_message: tuple[int, str] | None = None
        self._jobs: list[Generator[None, None, None]] = []
        self._failure: BaseException | None = None
        self._said: dict[str, str] = {}
        self._heading = f"{safe(name, 60)}: {safe(queue, 80)}"
        root.title(self._heading)
        root.report_callback_exception = self._failed
        root.protocol("WM_DELETE_WINDOW", self.close)
        self.layout = Layout(
            root,
            self._look,
            self._buttons(),
            lambda parent: Table(parent, inbox, self._touched),
            queue=safe(queue, 80),
            bound=bound,
        )
        self.layout.pack(fill="both", expand=True)
        self.table = self.layout.table
        window_keys.bind(self)
        self._dress()
        size(root, self._look)

    # --- life ---

    def start(self) -> None:
        """Show the window and begin to look for messages."""
        self.root.deiconify()
        self.table.tree.focus_set()
        self.root.after(TICK_MS, self._tick)

    def run(self) -> None:
        """Show the window until it is closed. Raises what went wrong, Ctrl+C as well."""
        sys.setswitchinterval(_SWITCH_S)
        self.start()
        self.root.mainloop()
        for job in self._jobs:
            job.close()
        with contextlib.suppress(tk.TclError):
            self.root.destroy()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End ``run``."""
        self.root.quit()

    def _failed(self, _kind: Any, error: BaseException, trace: Any) -> None:
        self._failure = error.with_traceback(trace)
        self.root.quit()

    def _buttons(self) -> Iterator[Button]:
        yield Button("pause", "Pause  P", self.pause)
        if self._by_hand:
            yield Button("ack", "Ack  A", lambda: self.answer("ack"), "Accent.TButton")
            yield Button("requeue", "Requeue  R", lambda: self.answer("requeue"))
            yield Button("reject", "Reject  X", lambda: self.answer("reject"))
        yield Button("newest", "Newest  End", self._to_newest)
        yield Button("clear", "Clear  ^L", self.clear)
        yield Button("copy", "Copy  ^C", self.copy)
        yield Button("save", "Save  ^S", self.save)
        yield Button("all", "Save all  ^⇧S", lambda: self.save(everything=True))
        yield Button("theme", "Dark  ^T", self.switch_theme)
        yield Button("help", "Keys  F1", self.help)

    def _dress(self) -> None:
        """Put on the theme, its colours and the size of the fonts."""
        self._look.put_on()
        self.layout.dress()
        self._dirty, self._labelled = True, 0.0

    # --- the tick ---

    def _tick(self) -> None:
        if self._control.failure is not None:
            raise self._control.failure
        now = time.monotonic()
        self._work(now, now + _SLICE_S)
        _, span = self._inbox.span()
        last = span.stop - 1
        new = last > self._newest and not self._paused
        if self._changes != self._inbox.changes:
            self._dirty = True
        late = now - self._drawn
        if self._touch or ((new or self._dirty) and (late >= _DRAW_S or self._inbox.pressing)):
            if new:
                self._newest = last
            self._changes = self._inbox.changes
            self._draw(now)
            if new:
                self._control.shown(last)
        if now - self._labelled >= _LABELS_S:
            self._label(now)
        self.root.after(TICK_MS, self._tick)

    def _work(self, now: float, until: float) -> None:
        """Go on with what takes longer than a tick."""
        if self._search.work(self._newest, now, until):
            self._dirty = True
        while self._jobs and time.monotonic() < until:
            try:
                next(self._jobs[0])
            except StopIteration:
                self._jobs.pop(0)

    def _touched(self) -> None:
        self._touch = True
        self.root.after_idle(self._draw_touched)

    def _draw_touched(self) -> None:
        if self._touch:
            self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        self._drawn, self._dirty, self._touch = now, False, False
        self.table.listing.update(self._search.listed(self._newest))
        self.table.draw()
        self._show_message()

    def _show_message(self) -> None:
        focus = self.table.listing.focus
        message = None if focus is None else self._inbox.message(focus)
        key = None if message is None else (message.number, message.state)
        if key == self._shown_message:
            return
        if message is None and self._shown_message is not None and focus is not None:
            return  # it was forgotten while somebody read it: leave it there
        same = (
            key is not None and self._shown_message is not None and key[0] == self._shown_message[0]
        )
        self._shown_message = key
        self.layout.detail.write(() if message is None else words.detail(message), keep=same)
        self.layout.body.write(() if message is None else words.body(message), keep=same)

    def _label(self, now: float) -> None:
        self._labelled = now
        control, counts = self._control, self._control.counts
        # What stands in the table is the truth of this moment; the counts come four times a second.
        self._rates.add(counts.received, now)
        waiting = max(0, counts.received - self._newest) if self._paused else None
        self.layout.head.show(control.link, counts, self._rates, now, waiting)
        self._say_once("title", f"{self._heading} ({self._newest:,})", self.root.title)
        while control.notes:
            self.say(control.notes.popleft())
        total = len(self.table.listing.numbers)
        chosen = len(self.table.listing.selected)
        listed = f"{total:,} listed" + (f", {chosen:,} selected" if chosen else "")
        self._say_once("listed", listed, lambda text: self.layout.listed.configure(text=text))

    def _say_once(self, what: str, text: str, say: Callable[[str], Any]) -> None:
        if self._said.get(what) != text:
            self._said[what] = text
            say(text)

    def say(self, text: str) -> None:
        """Show a note at the bottom."""
        self.layout.note.configure(text=safe(text, 300))

    # --- filter and search ---

    def filter_changed(self) -> None:
        """Apply what now stands in the filter."""
        query = self.layout.filter.get().strip()
        if query == self._search.query:
            return
        wrong = self._inbox.check(query)
        if wrong is not None:
            self.say(wrong)
            return
        self.say("")
        self._search.begin(query)
        self._touched()

    def empty_filter(self) -> None:
        """List all messages again, and go to the table."""
        self.layout.filter.delete(0, "end")
        self.filter_changed()
        self.table.tree.focus_set()

    def find(self, step: int) -> None:
        """Go to the next older (-1) or newer (1) message that has what is sought."""
        query = self.layout.sought.get().strip()
        if not query:
            self.layout.sought.focus_set()
            return
        wrong = self._inbox.check(query)
        if wrong is not None:
            self.say(wrong)
            return
        self._jobs.append(self._finding(query, step))

    def _finding(self, query: str, step: int) -> Generator[None, None, None]:
        listing = self.table.listing
        start = self._newest if listing.focus is None else listing.focus + step
        if step > 0 and listing.focus is None:
            start = 1
        number = yield from self._search.find(
            query, start, step, _SLICE_S, lambda n: n in listing.numbers and n <= self._newest
        )
        if number is None:
            self.say(f"No {'newer' if step > 0 else 'older'} message has '{safe(query, 60)}'.")
            return
        listing.choose(number)
        self.say("")
        self._touched()

    # --- actions ---

    def pause(self) -> None:
        """Take no more messages, or go on."""
        self._paused = not self._paused
        self.layout.buttons["pause"].configure(text="Go on  P" if self._paused else "Pause  P")
        self._labelled = 0.0

    def answer(self, verb: Verb) -> None:
        """Answer the selected messages."""
        if not self._by_hand:
            self.say("Messages are acknowledged once they are shown; with --ack hand you decide.")
            return
        chosen = self.table.listing.chosen()
        if not chosen:
            self.say(_NOTHING_SELECTED)
            return
        self._control.answer(verb, chosen)
        self.say("")

    def _to_newest(self) -> None:
        self.table.listing.newest()
        self._touched()

    def clear(self) -> None:
        """Forget what is answered."""
        self._inbox.clear(self._newest)
        self.table.listing.forget()
        if not self._by_hand:
            self._search.forget()
        self._shown_message = None
        self.layout.detail.write()
        self.layout.body.write()
        self._touched()

    def copy(self) -> None:
        """Put the selected messages on the clipboard as lines of JSON."""
        chosen = self.table.listing.chosen()
        if not chosen:
            self.say(_NOTHING_SELECTED)
            return
        self._jobs.append(window_files.copying(self._inbox, chosen, self._to_clipboard, self.say))

    def _to_clipboard(self, text: str) -> None:
        self.root.clipboard_clear()
        self.root.clipboard_append(text)

    def save(self, *, everything: bool = False) -> None:
        """Ask for a file and write the selected, or all listed messages into it."""
        listing = self.table.listing
        numbers = listing.numbers.part(0, len(listing.numbers)) if everything else listing.chosen()
        if not numbers:
            self.say("There is nothing to save." if everything else _NOTHING_SELECTED)
            return
        # What is saved is what was there when it was asked for: all of it is read before more goes.
        name = filedialog.asksaveasfilename(
            parent=self.root,
            title=f"Save {len(numbers):,} messages as lines of JSON",
            defaultextension=".jsonl",
            initialfile="messages.jsonl",
            filetypes=[("Lines of JSON", "*.jsonl"), ("All files", "*")],
        )
        if name:
            self._jobs.append(window_files.saving(self._inbox, numbers, Path(name), self.say))

    def switch_theme(self) -> None:
        """Go from light to dark or back."""
        self._look.switch()
        self._dress()
        self._touched()

    def zoom(self, step: int) -> None:
        """Make everything larger (1), smaller (-1), or as it was (0)."""
        self._look.zoom(step)
        self._dress()
        self._touched()

    def help(self) -> None:
        """Show what the keys do."""
        window_keys.show_help(self.root)
