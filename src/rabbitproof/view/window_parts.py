"""The parts of the window: its head with the figures and the graph, and a text to read.

And ``flow``, which lays widgets out in lines. The table is ``table``. Parts show what they are
given; what that is, and when, is ``window``'s.
"""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.text import safe
from rabbitproof.view.humanize import rate as human_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rabbitproof.received import Counts, Link
    from rabbitproof.view.listing import Rates
    from rabbitproof.view.window_look import Look

_PHASES: Final = {"connected": "good", "broken": "bad", "no queue": "bad", "closed": "quiet"}

_COUNTERS: Final = (
    ("received", "Received"), ("rate", "Rate"), ("unacked", "Unacked"), ("acked", "Acked"),
    ("requeued", "Requeued"), ("rejected", "Rejected"), ("returned", "Returned"),
    ("unique", "Unique"), ("redelivered", "Redelivered"), ("duplicates", "Duplicates"),
    ("missing", "Missing"), ("corrupt", "Corrupt"), ("foreign", "Foreign"),
)  # fmt: skip

_GRAPH_PART: Final = 0.35
"""Of the head's width, for the graph at most."""


class Head(ttk.Frame):
    """The queue's name, how the connection is, a graph of the rate, and the counters."""

    def __init__(self, parent: tk.Misc, look: Look, title: str) -> None:
        super().__init__(parent)
        self._look = look
        self._shown: dict[str, str] = {}
        """What stands where, so that only what changed is written."""
        self.columnconfigure(0, weight=1)
        self._title = ttk.Label(self, text=title)
        self._title.grid(row=0, column=0, sticky="w")
        self._link = ttk.Label(self, text="")
        self._link.grid(row=1, column=0, sticky="ew")
        self._graph = tk.Canvas(self, highlightthickness=0, borderwidth=0)
        self._graph.grid(row=0, column=1, rowspan=2, sticky="e")
        counters = ttk.Frame(self)
        counters.grid(row=2, column=0, columnspan=2, sticky="ew", pady=(8, 4))
        self._values: dict[str, ttk.Label] = {}
        boxes = []
        for key, label in _COUNTERS:
            box = ttk.Frame(counters)
            look.quiet_label(box, label).pack(anchor="w")
            value = ttk.Label(box, text="0", style="Figure.TLabel")
            value.pack(anchor="w")
            self._values[key] = value
            boxes.append(box)
        self._flow = flow(counters, boxes, look.pixels(18))
        self.bind("<Configure>", lambda _: self._size_graph())

    def dress(self) -> None:
        """Take the look's colours and sizes; all is written anew."""
        look = self._look
        self._title.configure(font=look.title)
        self._graph.configure(background=look.colours["ground"], height=round(52 * look.size))
        self._size_graph()
        self._shown.clear()

    def show(
        self, link: Link, counts: Counts, rates: Rates, now: float, waiting: int | None
    ) -> None:
        """Show how things are. ``waiting``: messages kept back by a pause; None: there is none."""
        wider = False
        for key, label in self._values.items():
            if key == "rate":
                figure = human_rate(rates.latest(now))
            else:
                value = getattr(counts, key)
                figure = "?" if value is None else f"{value:,}"
            before = len(self._shown.get(key, ""))
            if self._changed(key, figure):
                label.configure(text=figure)
                wider |= len(figure) != before
        if wider:
            self.after_idle(self._flow)
        text, colour = f"● {safe(link.text, 300)}", _PHASES[link.phase]
        if waiting is not None:
            text += f"  Paused: {waiting:,} wait here, the rest in the queue."
            colour = "warn" if link.phase == "connected" else colour
        if self._changed("link", f"{colour} {text}"):
            self._link.configure(text=text, foreground=self._look.colours[colour])
        self._draw_graph(rates.points(now))

    def _changed(self, key: str, text: str) -> bool:
        before, self._shown[key] = self._shown.get(key), text
        return before != text

    def _size_graph(self) -> None:
        """Have the graph leave room for what is said beside it."""
        width = min(round(280 * self._look.size), round(self.winfo_width() * _GRAPH_PART))
        if width != int(self._graph["width"]):
            self._graph.configure(width=width)
            self._shown.pop("graph", None)

    def _draw_graph(self, points: Sequence[float]) -> None:
        if not self._changed("graph", repr(points)):
            return
        canvas, colours = self._graph, self._look.colours
        width, height = int(canvas["width"]), int(canvas["height"])
        top = max(*points, 1)
        step = width / max(1, len(points) - 1)
        low = height - 2
        line = [(i * step, low - value / top * (height - 18)) for i, value in enumerate(points)]
        flat = [number for point in line for number in point]
        canvas.delete("all")
        canvas.create_polygon(0, low, *flat, width, low, fill=colours["chosen"], outline="")
        canvas.create_line(*flat, fill=colours["accent"], width=2)
        canvas.create_text(
            2, 1, anchor="nw", fill=colours["quiet"], font="SunValleyCaptionFont",
            text=f"last 60 s, highest {human_rate(max(points))}",
        )  # fmt: skip


class Reader(ttk.Frame):
    """A text that can be read and copied, not changed."""

    def __init__(self, parent: tk.Misc, look: Look) -> None:
        super().__init__(parent)
        self._look = look
        self.text = text = tk.Text(
            self, width=20, height=10, wrap="char", state="disabled", borderwidth=0,
            highlightthickness=1, padx=look.pixels(10), pady=look.pixels(8),
            takefocus=True, undo=False,
        )  # fmt: skip
        bar = ttk.Scrollbar(self, orient="vertical", command=text.yview)
        text.configure(yscrollcommand=bar.set)
        bar.pack(side="right", fill="y")
        text.pack(side="left", fill="both", expand=True)

    def dress(self) -> None:
        """Take the look's colours and sizes."""
        colours, fixed, text = self._look.colours, self._look.fixed, self.text
        bold = (fixed.actual("family"), fixed.cget("size"), "bold")
        text.configure(
            font=fixed, background=colours["ground"], foreground=colours["text"],
            highlightbackground=colours["line"], highlightcolor=colours["accent"],
            selectbackground=colours["chosen"], selectforeground=colours["text"],
            insertbackground=colours["text"],
        )  # fmt: skip
        text.tag_configure("title", font=bold, foreground=colours["accent"])
        text.tag_configure("name", foreground=colours["quiet"])
        text.tag_configure("note", foreground=colours["warn"])

    def write(self, parts: Sequence[tuple[str, str]] = (), *, keep: bool = False) -> None:
        """Replace the text with pieces and their tags; ``keep``: stay at the same place in it."""
        text = self.text
        at = text.yview()[0] if keep else 0.0
        text.configure(state="normal")
        text.delete("1.0", "end")
        if parts:
            text.tk.call(str(text), "insert", "1.0", *(each for part in parts for each in part))
        text.configure(state="disabled")
        text.yview_moveto(at)


def flow(frame: ttk.Frame, children: Sequence[tk.Widget], gap: int) -> Callable[[], None]:
    """Lay children out in lines, as many as the width takes.

    Return what does it again, for when the children got another width.
    """
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
                old.destroy()
            for each in rows.values():
                each.pack(anchor="w", pady=2)

    frame.bind("<Configure>", place)
    frame.after_idle(place)
    return place
