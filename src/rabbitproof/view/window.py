"""The window: messages as they come, one of them whole, and the buttons that answer them.

Everything that is seen and typed is here and in ``table``; what is received and kept is behind two
values that are passed in, an ``Inbox`` and a ``Control``. A tick, 25 times a second, looks whether
something changed and draws it, ten times a second at most; what takes longer (a filter, a search, a
file) is done in slices of a tick, so that no key and no click waits for it.

Rules: the receiving thread and this one share one interpreter, so each call to Tcl may have to wait
for the other: few calls, each with much in it. What comes from a message went through ``messages``,
which makes it safe to show.
"""

from __future__ import annotations

import contextlib
import sys
import time
import tkinter as tk
from bisect import bisect_left
from pathlib import Path
from tkinter import filedialog, font, ttk
from typing import TYPE_CHECKING, Any, Final, Literal

import sv_ttk

from rabbitproof.errors import WindowUnavailable
from rabbitproof.text import safe
from rabbitproof.view import messages as words
from rabbitproof.view.humanize import rate as human_rate
from rabbitproof.view.humanize import size as human_size
from rabbitproof.view.listing import Numbers, Rates
from rabbitproof.view.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rabbitproof.received import Control, Counts, Inbox, Verb

TICK_MS: Final = 40
_DRAW_S: Final = 0.1
"""Between two pictures of a table that nobody touches."""
_LABELS_S: Final = 0.25
_SLICE_S: Final = 0.012
"""For which long work goes on in one tick."""
_RESCAN_S: Final = 1.0
"""How often a filter on states is applied anew while states change."""
_LARGEST_COPY: Final = 4 << 20
"""Characters that are put on the clipboard."""
_STEPS: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Of the zoom."""

Theme = Literal["light", "dark"]

_COLOURS: Final[dict[str, dict[str, str]]] = {
    "light": {
        "ground": "#fafafa", "text": "#1c1c1c", "quiet": "#5f5f5f", "accent": "#0a5fae",
        "good": "#107c10", "warn": "#9a5a00", "bad": "#c42b1c", "chosen": "#cfe4fa",
        "line": "#d0d0d0",
        "unacked": "#0a5fae", "gone": "#6b6b6b", "redelivered": "#9a5a00", "corrupt": "#c42b1c",
    },
    "dark": {
        "ground": "#1c1c1c", "text": "#fafafa", "quiet": "#a0a0a0", "accent": "#60cdff",
        "good": "#6ccb5f", "warn": "#fcb95b", "bad": "#ff99a4", "chosen": "#1d4b6e",
        "line": "#454545",
        "unacked": "#60cdff", "gone": "#9a9a9a", "redelivered": "#fcb95b", "corrupt": "#ff99a4",
    },
}  # fmt: skip
"""Contrast with the ground is 4.5 or more (WCAG 2.1, 1.4.3)."""

_PHASES: Final = {"connected": "good", "broken": "bad", "no queue": "bad", "closed": "quiet"}

_COUNTERS: Final = (
    ("received", "Received"), ("rate", "Rate"), ("unacked", "Unacked"), ("acked", "Acked"),
    ("requeued", "Requeued"), ("rejected", "Rejected"), ("returned", "Returned"),
    ("unique", "Unique"), ("redelivered", "Redelivered"), ("duplicates", "Duplicates"),
    ("missing", "Missing"), ("corrupt", "Corrupt"), ("foreign", "Foreign"),
)  # fmt: skip

HELP: Final = (
    ("P", "pause, go on: paused, the prefetch fills and the rest stays in the queue"),
    ("A   R   X", "acknowledge, requeue, reject the selected messages (with --ack hand)"),
    ("↑ ↓ PgUp PgDn Home", "move in the table; with Shift, select"),
    ("End", "go to the newest message and stay with it"),
    ("Ctrl+A", "select all that is listed"),
    ("Ctrl+F", 'filter: words, id: from: n: text: is:unacked is:redelivered, -word, "two words"'),
    ("F3   Shift+F3", "find the next older, the next newer message (Ctrl+G: what to find)"),
    ("Ctrl+C", "copy the selected messages as lines of JSON"),
    ("Ctrl+S   Ctrl+Shift+S", "save the selected, or all listed messages as lines of JSON"),
    ("Ctrl+L", "clear: forget what is answered"),
    ("Ctrl+T", "light or dark"),
    ("Ctrl++   Ctrl+-   Ctrl+0", "larger, smaller, as it was"),
    ("Tab", "go through filter, search, table, message and buttons"),
    ("Esc", "empty the filter, back to the table"),
    ("Ctrl+Q", "close; what is unacknowledged returns to the queue"),
)


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
        self._name = name
        self._queue = queue
        self._theme: Theme = theme
        self._scale = max(0.75, root.winfo_fpixels("1i") / 96)
        self._zoom = 1.0
        self._rates = Rates()
        self._newest = 0
        self._paused = False
        self._drawn = self._labelled = self._scanned = 0.0
        self._changes = -1
        self._dirty = True
        self._query = ""
        self._matches: list[int] = []
        self._next = 1
        """The first number that the filter has not looked at."""
        self._shown_message: tuple[int, str] | None = None
        self._jobs: list[Generator[None, None, None]] = []
        self._failure: BaseException | None = None
        self._texts: dict[str, str] = {}
        self._quiet: list[ttk.Label] = []
        self._heading = f"{safe(name, 60)}: {safe(queue, 80)}"
        root.title(self._heading)
        root.report_callback_exception = self._failed
        root.protocol("WM_DELETE_WINDOW", self.close)
        self._build(bound)
        self._keys()
        self._dress()

    # --- life ---

    def start(self) -> None:
        """Show the window and begin to look for messages."""
        self.root.deiconify()
        self.table.tree.focus_set()
        self.root.after(TICK_MS, self._tick)

    def run(self) -> None:
        """Show the window until it is closed. Raises what went wrong, Ctrl+C as well."""
        self.start()
        self.root.mainloop()
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

    # --- building ---

    def _build(self, bound: str) -> None:
        root = self.root
        outer = ttk.Frame(root, padding=round(12 * self._scale))
        outer.pack(fill="both", expand=True)
        outer.columnconfigure(0, weight=1)
        outer.rowconfigure(4, weight=1)

        head = ttk.Frame(outer)
        head.grid(row=0, column=0, sticky="ew")
        head.columnconfigure(0, weight=1)
        self._title = ttk.Label(head, text=safe(self._queue, 80))
        self._title.grid(row=0, column=0, sticky="w")
        self._link = ttk.Label(head, text="")
        self._link.grid(row=1, column=0, sticky="ew")
        self._graph = tk.Canvas(head, highlightthickness=0, borderwidth=0)
        self._graph.grid(row=0, column=1, rowspan=2, sticky="e")

        self._counters = ttk.Frame(outer)
        self._counters.grid(row=1, column=0, sticky="ew", pady=(8, 4))
        self._values: dict[str, ttk.Label] = {}
        boxes = []
        for key, label in _COUNTERS:
            box = ttk.Frame(self._counters)
            self._label_of(box, label).pack(anchor="w")
            value = ttk.Label(box, text="0", style="Figure.TLabel")
            value.pack(anchor="w")
            self._values[key] = value
            boxes.append(box)
        _flow(self._counters, boxes, round(18 * self._scale))

        buttons = ttk.Frame(outer)
        buttons.grid(row=2, column=0, sticky="ew", pady=4)
        self._buttons: dict[str, ttk.Button] = {}

        def button(
            key: str, text: str, command: Callable[[], None], style: str = "TButton"
        ) -> None:
            self._buttons[key] = ttk.Button(buttons, text=text, command=command, style=style)

        button("pause", "Pause  P", self.pause)
        if self._by_hand:
            button("ack", "Ack  A", lambda: self.answer("ack"), "Accent.TButton")
            button("requeue", "Requeue  R", lambda: self.answer("requeue"))
            button("reject", "Reject  X", lambda: self.answer("reject"))
        button("newest", "Newest  End", self._to_newest)
        button("clear", "Clear  ^L", self.clear)
        button("copy", "Copy  ^C", self.copy)
        button("save", "Save  ^S", self.save)
        button("all", "Save all  ^⇧S", lambda: self.save(everything=True))
        button("theme", "Dark  ^T", self.switch_theme)
        button("help", "Keys  F1", self.help)
        _flow(buttons, list(self._buttons.values()), round(6 * self._scale))

        search = ttk.Frame(outer)
        search.grid(row=3, column=0, sticky="ew", pady=(4, 8))
        self._listed = self._label_of(search, "")
        self._listed.pack(side="right")
        ttk.Label(search, text="Filter ^F").pack(side="left")
        self.filter = ttk.Entry(search)
        self.filter.pack(side="left", fill="x", expand=True, padx=(6, 12))
        ttk.Label(search, text="Find ^G").pack(side="left")
        self.sought = ttk.Entry(search, width=18)
        self.sought.pack(side="left", padx=(6, 12))

        panes = ttk.PanedWindow(outer, orient="vertical")
        panes.grid(row=4, column=0, sticky="nsew")
        self.table = Table(panes, self._inbox, self._touched)
        panes.add(self.table, weight=3)
        below = ttk.PanedWindow(panes, orient="horizontal")
        self.detail = self._reader(below, 2)
        self.body = self._reader(below, 3)
        panes.add(below, weight=3)

        foot = ttk.Frame(outer)
        foot.grid(row=5, column=0, sticky="ew", pady=(6, 0))
        self._note = self._label_of(foot, "")
        self._note.pack(side="left", fill="x", expand=True)
        self._label_of(foot, bound).pack(side="right")

    def _reader(self, parent: ttk.PanedWindow, weight: int) -> tk.Text:
        """Return a text that can be read and copied, not changed."""
        frame = ttk.Frame(parent)
        text = tk.Text(
            frame, width=20, height=10, wrap="char", state="disabled", borderwidth=0,
            highlightthickness=1, padx=round(10 * self._scale), pady=round(8 * self._scale),
            takefocus=True, undo=False,
        )  # fmt: skip
        bar = ttk.Scrollbar(frame, orient="vertical", command=text.yview)
        text.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        text.pack(side="left", fill="both", expand=True)
        parent.add(frame, weight=weight)
        return text

    def _label_of(self, parent: tk.Misc, text: str) -> ttk.Label:
        """Return a label in a colour that does not ask for attention."""
        label = ttk.Label(parent, text=text)
        self._quiet.append(label)
        return label

    def _dress(self) -> None:
        """Put on the theme, its colours and the size of the fonts."""
        root, colours = self.root, _COLOURS[self._theme]
        sv_ttk.set_theme(self._theme, root)
        # The theme colours every widget once more when nothing else is to be done; what is ours
        # comes after that.
        root.update_idletasks()
        size = self._scale * self._zoom
        for name in font.names(root):
            if name.startswith("SunValley"):
                each = font.nametofont(name, root)
                pixels = self._texts.setdefault(f"font {name}", str(abs(int(each.cget("size")))))
                each.configure(size=-round(int(pixels) * size * 0.93))
        body = font.nametofont("SunValleyBodyFont", root)
        fixed = font.nametofont("TkFixedFont", root)
        fixed.configure(size=-round(13 * size))
        strong = font.nametofont("SunValleyBodyStrongFont", root)
        strong.configure(weight="bold")
        title = font.nametofont("SunValleySubtitleFont", root)
        title.configure(weight="bold")
        style = ttk.Style(root)
        style.configure("Treeview", rowheight=body.metrics("linespace") + round(6 * size))
        style.configure("Treeview.Cell", padding=(round(4 * size), 0))
        style.configure("TButton", padding=(round(8 * size), round(4 * size)))
        style.configure("Accent.TButton", padding=(round(8 * size), round(4 * size)))
        style.map("Treeview", background=[("selected", colours["chosen"])], foreground=[])
        for label in self._quiet:
            label.configure(foreground=colours["quiet"])
        style.configure("Figure.TLabel", font=strong)
        self._title.configure(font=title)
        bold = (fixed.actual("family"), fixed.cget("size"), "bold")
        for text in (self.detail, self.body):
            text.configure(
                font=fixed, background=colours["ground"], foreground=colours["text"],
                highlightbackground=colours["line"], highlightcolor=colours["accent"],
                selectbackground=colours["chosen"], selectforeground=colours["text"],
                insertbackground=colours["text"],
            )  # fmt: skip
            text.tag_configure("title", font=bold, foreground=colours["accent"])
            text.tag_configure("name", foreground=colours["quiet"])
            text.tag_configure("note", foreground=colours["warn"])
        self._graph.configure(
            background=colours["ground"], width=round(280 * size), height=round(52 * size)
        )
        self._buttons["theme"].configure(text="Light  ^T" if self._theme == "dark" else "Dark  ^T")
        self.table.dress(
            body, {k: colours[k] for k in ("unacked", "gone", "redelivered", "corrupt")}
        )
        width, height = round(1180 * self._scale), round(800 * self._scale)
        if self._zoom == 1.0 and not self._texts.get("placed"):
            self._texts["placed"] = "yes"
            width = min(width, root.winfo_screenwidth() - 40)
            height = min(height, root.winfo_screenheight() - 80)
            root.geometry(f"{width}x{height}")
            root.minsize(
                min(width, round(640 * self._scale)), min(height, round(560 * self._scale))
            )
        self._texts = {k: v for k, v in self._texts.items() if k.startswith(("font ", "placed"))}
        self._dirty, self._labelled = True, 0.0

    def _keys(self) -> None:
        root = self.root
        for key, action in (
            ("p", self.pause),
            ("a", lambda: self.answer("ack")),
            ("r", lambda: self.answer("requeue")),
            ("x", lambda: self.answer("reject")),
        ):
            root.bind(f"<Key-{key}>", lambda event, action=action: self._letter(event, action))  # type: ignore[misc]  # a default, as a constant
        for keys, action in (
            ("<Control-f>", self.filter.focus_set),
            ("<Control-g>", self.sought.focus_set),
            ("<F3>", lambda: self.find(-1)),
            ("<Shift-F3>", lambda: self.find(1)),
            ("<Control-s>", self.save),
            ("<Control-S>", lambda: self.save(everything=True)),
            ("<Control-l>", self.clear),
            ("<Control-t>", self.switch_theme),
            ("<Control-plus>", lambda: self.zoom(1)),
            ("<Control-equal>", lambda: self.zoom(1)),
            ("<Control-KP_Add>", lambda: self.zoom(1)),
            ("<Control-minus>", lambda: self.zoom(-1)),
            ("<Control-KP_Subtract>", lambda: self.zoom(-1)),
            ("<Control-Key-0>", lambda: self.zoom(0)),
            ("<F1>", self.help),
            ("<Escape>", self._escape),
            ("<Control-q>", self.close),
            ("<Control-w>", self.close),
        ):
            root.bind(keys, lambda _, action=action: _done(action))  # type: ignore[misc]
        tree = self.table.tree
        tree.bind("<Control-c>", lambda _: _done(self.copy))
        tree.bind("<Control-t>", lambda _: _done(self.switch_theme))
        for text in (self.detail, self.body):
            # A text widget gives these meanings of its own.
            for keys, action in (
                ("<Control-t>", self.switch_theme),
                ("<Control-f>", self.filter.focus_set),
                ("<Tab>", lambda text=text: _next_widget(text)),
            ):
                text.bind(keys, lambda _, action=action: _done(action))  # type: ignore[misc]
        self.filter.bind("<KeyRelease>", lambda _: self._filter_changed())
        self.filter.bind("<Down>", lambda _: _done(tree.focus_set))
        self.filter.bind(
            "<Control-f>", lambda _: _done(lambda: self.filter.selection_range(0, "end"))
        )
        for entry in (self.filter, self.sought):
            entry.bind("<Control-a>", lambda e: _done(lambda: e.widget.selection_range(0, "end")))
        self.sought.bind("<Return>", lambda _: _done(lambda: self.find(-1)))
        self.sought.bind("<Shift-Return>", lambda _: _done(lambda: self.find(1)))
        for each in self._buttons.values():
            each.bind("<Return>", lambda event: _done(event.widget.invoke))

    def _letter(self, event: Any, action: Callable[[], None]) -> None:
        """Do what a letter stands for, unless somebody is typing."""
        if event.state & 0x4 or isinstance(event.widget, (ttk.Entry, tk.Entry)):
            return
        if event.widget.winfo_toplevel() is self.root:
            action()

    def _escape(self) -> None:
        self.filter.delete(0, "end")
        self._filter_changed()
        self.table.tree.focus_set()

    # --- the tick ---

    def _tick(self) -> None:
        if self._control.failure is not None:
            raise self._control.failure
        now = time.monotonic()
        self._work(now + _SLICE_S)
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

    _touch = False
    """Whether somebody moved something: drawn at the next tick."""

    def _touched(self) -> None:
        self._touch = True
        self.root.after_idle(self._draw_touched)

    def _draw_touched(self) -> None:
        if self._touch:
            self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        self._drawn, self._dirty, self._touch = now, False, False
        single, span = self._inbox.span()
        span = range(span.start, min(span.stop, self._newest + 1))
        if self._query:
            self._narrow(single, span)
            self.table.listing.update(Numbers((), self._matches))
        else:
            self.table.listing.update(Numbers(single, span))
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
        self._write(self.detail, () if message is None else words.detail(message), keep=same)
        self._write(self.body, () if message is None else words.body(message), keep=same)

    @staticmethod
    def _write(text: tk.Text, parts: Sequence[tuple[str, str]], *, keep: bool = False) -> None:
        """Replace a text; ``keep``: stay at the same place in it."""
        at = text.yview()[0] if keep else 0.0
        text.configure(state="normal")
        text.delete("1.0", "end")
        if parts:
            text.tk.call(str(text), "insert", "1.0", *(each for part in parts for each in part))
        text.configure(state="disabled")
        text.yview_moveto(at)

    def _label(self, now: float) -> None:
        self._labelled = now
        control, counts = self._control, self._control.counts
        # What stands in the table is the truth of this moment; the counts come four times a second.
        self._rates.add(counts.received, now)
        for key, label in self._values.items():
            self._say(label, key, self._figure(key, counts, now))
        link = control.link
        text = f"● {safe(link.text, 300)}"
        if self._paused:
            waiting = max(0, counts.received - self._newest)
            text += f"  Paused: {waiting:,} wait here, the rest in the queue."
        if self._say(self._link, "link", text) or self._texts.get("phase") != link.phase:
            self._texts["phase"] = link.phase
            colour = "warn" if self._paused and link.phase == "connected" else _PHASES[link.phase]
            self._link.configure(foreground=_COLOURS[self._theme][colour])
        if self._texts.get("title") != (title := f"{self._heading} ({self._newest:,})"):
            self._texts["title"] = title
            self.root.title(title)
        while control.notes:
            self.say(control.notes.popleft())
        total = len(self.table.listing.numbers)
        chosen = len(self.table.listing.selected)
        listed = f"{total:,} listed" + (f", {chosen:,} selected" if chosen else "")
        self._say(self._listed, "listed", listed)
        self._draw_graph(now)

    def _figure(self, key: str, counts: Counts, now: float) -> str:
        if key == "rate":
            return human_rate(self._rates.latest(now))
        value = getattr(counts, key)
        return "?" if value is None else f"{value:,}"

    def _say(self, label: ttk.Label, key: str, text: str) -> bool:
        """Write a label if it says something else now."""
        if self._texts.get(key) == text:
            return False
        self._texts[key] = text
        label.configure(text=text)
        return True

    def say(self, text: str) -> None:
        """Show a note at the bottom."""
        self._note.configure(text=safe(text, 300))

    def _draw_graph(self, now: float) -> None:
        points = self._rates.points(now)
        width, height = int(self._graph["width"]), int(self._graph["height"])
        top = max(*points, 1)
        key = f"{points}{width}{self._theme}"
        if self._texts.get("graph") == key:
            return
        self._texts["graph"] = key
        colours = _COLOURS[self._theme]
        step = width / max(1, len(points) - 1)
        low = height - 2
        line = [(i * step, low - value / top * (height - 18)) for i, value in enumerate(points)]
        flat = [number for point in line for number in point]
        canvas = self._graph
        canvas.delete("all")
        canvas.create_polygon(0, low, *flat, width, low, fill=colours["chosen"], outline="")
        canvas.create_line(*flat, fill=colours["accent"], width=2)
        canvas.create_text(
            2, 1, anchor="nw", fill=colours["quiet"], font="SunValleyCaptionFont",
            text=f"last 60 s, highest {human_rate(max(points))}",
        )  # fmt: skip

    # --- filter and search ---

    def _filter_changed(self) -> None:
        query = self.filter.get().strip()
        if query == self._query:
            return
        wrong = self._inbox.check(query)
        if wrong is not None:
            self.say(wrong)
            return
        self.say("")
        self._query = query
        self._matches, self._next = [], 1
        self._touched()

    def _narrow(self, single: Sequence[int], span: range) -> None:
        """Forget matches that are no longer held."""
        matches = self._matches
        if matches and matches[0] < span.start:
            cut = bisect_left(matches, span.start)
            kept = set(single)
            self._matches = [n for n in matches[:cut] if n in kept] + matches[cut:]

    def _work(self, until: float) -> None:
        """Go on with what takes longer than a tick."""
        if self._query:
            now = time.monotonic()
            if (
                "is:" in self._query
                and self._next > self._newest
                and (now - self._scanned >= _RESCAN_S and self._scan_changes != self._inbox.changes)
            ):
                self._matches, self._next = [], 1
            if self._next == 1:
                self._scanned, self._scan_changes = now, self._inbox.changes
            if self._next <= self._newest:
                found = self._inbox.search(self._query, self._next, self._newest + 1, until - now)
                self._next = found.after
                if found.numbers or self._next > self._newest:
                    self._matches += found.numbers
                    self._dirty = True
        while self._jobs and time.monotonic() < until:
            try:
                next(self._jobs[0])
            except StopIteration:
                self._jobs.pop(0)

    _scan_changes = -1

    def find(self, step: int) -> None:
        """Go to the next older (-1) or newer (1) message that has what is sought."""
        query = self.sought.get().strip()
        if not query:
            self.sought.focus_set()
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
        while True:
            number, start = self._inbox.find(query, start, step, _SLICE_S)
            if number is not None and number in listing.numbers and number <= self._newest:
                listing.choose(number)
                self.say("")
                self._touched()
                return
            if number is not None:
                start = number + step
            elif not start:
                self.say(f"No {'newer' if step > 0 else 'older'} message has '{safe(query, 60)}'.")
                return
            yield

    # --- actions ---

    def pause(self) -> None:
        """Take no more messages, or go on."""
        self._paused = not self._paused
        self._buttons["pause"].configure(text="Go on  P" if self._paused else "Pause  P")
        self._texts.pop("phase", None)
        self._labelled = 0.0

    def answer(self, verb: Verb) -> None:
        """Answer the selected messages."""
        if not self._by_hand:
            self.say("Messages are acknowledged once they are shown; with --ack hand you decide.")
            return
        chosen = self.table.listing.chosen()
        if not chosen:
            self.say("Select messages first: click one, or press ↑.")
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
        self._matches = [] if not self._by_hand else self._matches
        self._shown_message = None
        self._write(self.detail, ())
        self._write(self.body, ())
        self._touched()

    def copy(self) -> None:
        """Put the selected messages on the clipboard as lines of JSON."""
        chosen = self.table.listing.chosen()
        if not chosen:
            self.say("Select messages first: click one, or press ↑.")
            return
        self._jobs.append(self._copying(chosen))

    def _copying(self, numbers: list[int]) -> Generator[None, None, None]:
        lines: list[str] = []
        size = 0
        for number in numbers:
            message = self._inbox.message(number)
            if message is not None:
                if size + message.size > _LARGEST_COPY:
                    self.say(
                        f"That is more than the {human_size(_LARGEST_COPY)} that the clipboard "
                        "gets; save it instead."
                    )
                    return
                lines.append(words.json_line(message))
                size += len(lines[-1])
            yield
        self.root.clipboard_clear()
        self.root.clipboard_append("\n".join(lines) + "\n")
        self.say(f"Copied {len(lines):,} as lines of JSON.")

    def save(self, *, everything: bool = False) -> None:
        """Ask for a file and write the selected, or all listed messages into it."""
        listing = self.table.listing
        numbers = listing.numbers.part(0, len(listing.numbers)) if everything else listing.chosen()
        if not numbers:
            self.say(
                "There is nothing to save."
                if everything
                else "Select messages first: click one, or press ↑."
            )
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
            self._jobs.append(self._saving(Path(name), numbers))

    def _saving(self, path: Path, numbers: list[int]) -> Generator[None, None, None]:
        part = path.with_name(path.name + ".part")
        written = 0
        try:
            with part.open("w", encoding="utf-8") as file:
                for number in numbers:
                    message = self._inbox.message(number)
                    if message is not None:
                        file.write(words.json_line(message) + "\n")
                        written += 1
                    yield
            part.replace(path)
        except OSError as error:
            self.say(
                f"Could not save ({safe(error.strerror or str(error), 100)}); choose another file."
            )
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return
        gone = len(numbers) - written
        self.say(
            f"Saved {written:,} to {safe(str(path), 160)}."
            + (f" {gone:,} were no longer kept." if gone else "")
        )

    def switch_theme(self) -> None:
        """Go from light to dark or back."""
        self._theme = "dark" if self._theme == "light" else "light"
        self._dress()
        self._touched()

    def zoom(self, step: int) -> None:
        """Make everything larger (1), smaller (-1), or as it was (0)."""
        at = _STEPS.index(self._zoom) + step if step else _STEPS.index(1.0)
        self._zoom = _STEPS[max(0, min(at, len(_STEPS) - 1))]
        self._dress()
        self._touched()

    def help(self) -> None:
        """Show what the keys do."""
        top = tk.Toplevel(self.root)
        top.title("Keys")
        top.transient(self.root)
        frame = ttk.Frame(top, padding=16)
        frame.pack(fill="both", expand=True)
        for row, (key, meaning) in enumerate(HELP):
            ttk.Label(frame, text=key, style="Figure.TLabel").grid(
                row=row, column=0, sticky="w", padx=(0, 18), pady=2
            )
            ttk.Label(frame, text=meaning).grid(row=row, column=1, sticky="w", pady=2)
        shut = ttk.Button(frame, text="Close  Esc", command=top.destroy)
        shut.grid(row=len(HELP), column=1, sticky="e", pady=(12, 0))
        for key in ("<Escape>", "<F1>", "<Return>"):
            top.bind(key, lambda _: _done(top.destroy))
        shut.focus_set()


def _next_widget(widget: tk.Misc) -> None:
    following = widget.tk_focusNext()
    if following is not None:
        following.focus_set()


def _done(action: Callable[[], Any]) -> str:
    action()
    return "break"


def _flow(frame: ttk.Frame, children: Sequence[tk.Widget], gap: int) -> None:
    """Lay children out in lines, as many as the width takes."""
    last: list[tuple[int, int]] = []

    def place(event: Any = None) -> None:
        width = event.width if event is not None else frame.winfo_width()
        x = line = 0
        places: list[tuple[int, int]] = []
        column = 0
        for child in children:
            need = child.winfo_reqwidth() + gap
            if column and x + need - gap > width:
                x, line, column = 0, line + 1, 0
            places.append((line, column))
            x, column = x + need, column + 1
        if places != last:
            last[:] = places
            rows: dict[int, ttk.Frame] = {}
            for child, (row, at) in zip(children, places, strict=True):
                if row not in rows:
                    rows[row] = ttk.Frame(frame)
                child.pack_forget()
                child.pack(in_=rows[row], side="left", padx=(gap if at else 0, 0))
                child.lift()
            for old in frame.pack_slaves():
                old.pack_forget()
            for each in rows.values():
                each.pack(anchor="w", pady=2)

    frame.bind("<Configure>", place)
    frame.after_idle(place)
