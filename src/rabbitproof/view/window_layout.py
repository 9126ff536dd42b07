"""Where everything stands in the window: the head, buttons, filter and search, messages, notes.

Refuses to know what the buttons do and what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from tkinter import ttk
from typing import TYPE_CHECKING

from rabbitproof.view.window_parts import Head, Reader, flow

if TYPE_CHECKING:
    import tkinter as tk
    from collections.abc import Callable, Iterable

    from rabbitproof.view.table import Table
    from rabbitproof.view.window_look import Look


@dataclass(frozen=True, slots=True)
class Button:
    """A button to be made."""

    name: str
    text: str
    command: Callable[[], None]
    style: str = "TButton"


class Layout(ttk.Frame):
    """All that is seen, each in its place."""

    def __init__(
        self,
        root: tk.Tk,
        look: Look,
        buttons: Iterable[Button],
        make_table: Callable[[tk.Misc], Table],
        *,
        queue: str,
        bound: str,
    ) -> None:
        """``bound``: a sentence about what is kept. Both texts are safe to show."""
        super().__init__(root, padding=look.pixels(12))
        self._look = look
        self.columnconfigure(0, weight=1)
        self.rowconfigure(3, weight=1)
        self.head = Head(self, look, queue)
        self.head.grid(row=0, column=0, sticky="ew")
        row = ttk.Frame(self)
        row.grid(row=1, column=0, sticky="ew", pady=4)
        self.buttons = {
            one.name: ttk.Button(row, text=one.text, command=one.command, style=one.style)
            for one in buttons
        }
        flow(row, list(self.buttons.values()), look.pixels(6))

        search = ttk.Frame(self)
        search.grid(row=2, column=0, sticky="ew", pady=(4, 8))
        self.listed = look.quiet_label(search, "")
        self.listed.pack(side="right")
        ttk.Label(search, text="Filter ^F").pack(side="left")
        self.filter = ttk.Entry(search)
        self.filter.pack(side="left", fill="x", expand=True, padx=(6, 12))
        ttk.Label(search, text="Find ^G").pack(side="left")
        self.sought = ttk.Entry(search, width=18)
        self.sought.pack(side="left", padx=(6, 12))

        panes = ttk.PanedWindow(self, orient="vertical")
        panes.grid(row=3, column=0, sticky="nsew")
        self.table = make_table(panes)
        panes.add(self.table, weight=3)
        below = ttk.PanedWindow(panes, orient="horizontal")
        self.detail, self.body = Reader(below, look), Reader(below, look)
        below.add(self.detail, weight=2)
        below.add(self.body, weight=3)
        panes.add(below, weight=3)

        foot = ttk.Frame(self)
        foot.grid(row=4, column=0, sticky="ew", pady=(6, 0))
        self.note = look.quiet_label(foot, "")
        self.note.pack(side="left", fill="x", expand=True, padx=(0, look.pixels(18)))
        look.quiet_label(foot, bound).pack(side="right")

    def dress(self) -> None:
        """Take the look's colours and sizes."""
        for part in (self.head, self.detail, self.body):
            part.dress()
        dark = self._look.theme == "dark"
        self.buttons["theme"].configure(text="Light  ^T" if dark else "Dark  ^T")
        self.table.dress(self._look.body, self._look.colours)


def size(root: tk.Tk, look: Look) -> None:
    """Give the window its size: what the screen has room for."""
    width = min(look.pixels(1180), root.winfo_screenwidth() - 40)
    height = min(look.pixels(800), root.winfo_screenheight() - 80)
    root.geometry(f"{width}x{height}")
    root.minsize(min(width, look.pixels(640)), min(height, look.pixels(560)))
