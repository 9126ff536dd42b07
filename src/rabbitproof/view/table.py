"""The table of messages: a pane of as many rows as fit, which moves over all that are held.

A tree view that had a row for every message would need fifty thousand insertions a second. This
one has its few rows for good, and what stands in them is replaced, all at once, by one call to Tcl:
each call may have to wait for the thread that receives.

Which messages are shown and selected is ``listing``'s; here are the widget, the mouse and the keys.
"""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.view.listing import Listing
from rabbitproof.view.messages import COLUMNS, cells
from rabbitproof.view.window_columns import COLUMNS as WIDTHS
from rabbitproof.view.window_columns import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.received import Inbox, Row

_FILL: Final = """
proc rabbitproof_fill {tree rows chosen focus} {
    set i 0
    foreach row $rows {
        $tree item r$i -values [lindex $row 0] -tags [lindex $row 1]
        incr i
    }
    if {[$tree selection] ne $chosen} { $tree selection set $chosen }
    if {$focus ne ""} { $tree focus $focus }
}
"""
_WHEEL_ROWS: Final = 3
_BORDER: Final = 4
"""Of the widget, pixels on each side."""
_EMPTY: Final = ("", "", "", "", "", "", "", "", "")
_SHIFT, _CONTROL = 0x1, 0x4


class Table(ttk.Frame):
    """The pane, its headings and its scroll bar."""

    def __init__(self, parent: tk.Misc, inbox: Inbox, moved: Callable[[], None]) -> None:
        """Call ``moved`` when the pane, the selection or the focus is another one."""
        super().__init__(parent)
        self.listing = Listing()
        self._inbox = inbox
        self._moved = moved
        self._rows = 0
        self._filled: Any = None
        self._numbers: list[int] = []
        self._wanted: dict[str, int] = {}
        """The widths of all columns, if there is room for them."""
        keys = [key for key, _ in COLUMNS]
        self.tree = tree = ttk.Treeview(self, columns=keys, show="headings", selectmode="none")
        for key, heading in COLUMNS:
            tree.heading(key, text=f" {heading} ", anchor=_anchor(key))
        self._bar = ttk.Scrollbar(self, orient="vertical", command=self._scrolled)
        tree.grid(row=0, column=0, sticky="nsew")
        self._bar.grid(row=0, column=1, sticky="ns")
        self.rowconfigure(0, weight=1)
        self.columnconfigure(0, weight=1)
        tree.tk.eval(_FILL)
        self._bind()

    def dress(self, font: Any, colours: dict[str, str]) -> None:
        """Take other sizes and colours."""
        padding = font.measure("00")
        self._wanted = {key: font.measure(one.sample) + padding for key, one in WIDTHS.items()}
        for tag in ("unacked", "gone", "redelivered", "corrupt"):
            self.tree.tag_configure(tag, foreground=colours[tag])
        self._resized()

    # --- filling ---

    def draw(self) -> None:
        """Show what is on the pane now."""
        listing = self.listing
        self._numbers = numbers = listing.visible()
        rows = self._inbox.rows(numbers)
        filled = tuple((_EMPTY, ()) if row is None else (cells(row), _tags(row)) for row in rows)
        filled += ((_EMPTY, ()),) * (self._rows - len(filled))
        chosen = tuple(f"r{i}" for i, n in enumerate(numbers) if n in listing.selected)
        focus = next((f"r{i}" for i, n in enumerate(numbers) if n == listing.focus), "")
        if (filled, chosen, focus) != self._filled:
            self._filled = (filled, chosen, focus)
            self.tree.tk.call("rabbitproof_fill", str(self.tree), filled, chosen, focus)
        self._bar.set(*listing.place())

    def _resized(self, _event: Any = None) -> None:
        self._fit_columns()
        self._fit_rows()

    def _fit_columns(self) -> None:
        """Show the columns that there is room for."""
        tree = self.tree
        room = tree.winfo_width() - 2 * _BORDER
        if not self._wanted or room <= 1:  # not on the screen yet
            return
        widths = fit(self._wanted, room)
        for key, width in widths.items():
            tree.column(key, width=width, minwidth=width // 3, anchor=_anchor(key), stretch=False)
        tree.configure(displaycolumns=[*widths])

    def _fit_rows(self) -> None:
        """Have as many rows as there is room for."""
        height = int(ttk.Style(self).lookup("Treeview", "rowheight") or 20)
        if not self._rows:
            self.tree.insert("", "end", "r0", values=_EMPTY)
            self._rows = 1
        box = self.tree.bbox("r0") or (4, 32, 0, 0)  # none before it is on the screen
        # What is beside the rows is below them as well: the border.
        rows = max(1, (self.tree.winfo_height() - box[1] - box[0]) // height)
        while self._rows < rows:
            self.tree.insert("", "end", f"r{self._rows}", values=_EMPTY)
            self._rows += 1
        while self._rows > rows:
            self._rows -= 1
            self.tree.delete(f"r{self._rows}")
        self._filled = None
        self.listing.page = rows
        self._moved()

    # --- the mouse ---

    def _bind(self) -> None:
        tree = self.tree
        tree.bind("<Configure>", self._resized)
        tree.bind("<Button-1>", self._clicked)
        tree.bind("<Double-Button-1>", self._clicked)
        tree.bind("<B1-Motion>", self._dragged)
        tree.bind("<MouseWheel>", lambda e: self._wheel(-1 if e.delta > 0 else 1))
        tree.bind("<Button-4>", lambda _: self._wheel(-1))
        tree.bind("<Button-5>", lambda _: self._wheel(1))
        for key, step in (("Up", -1), ("Down", 1)):
            self._bind_move(key, lambda step=step: step)  # type: ignore[misc]  # a default, as a constant
        self._bind_move("Prior", lambda: -max(1, self.listing.page - 1))
        self._bind_move("Next", lambda: max(1, self.listing.page - 1))
        for key, newest in (("Home", False), ("End", True)):
            for shift in (False, True):
                tree.bind(
                    f"<{'Shift-' if shift else ''}{key}>",
                    lambda _, newest=newest, shift=shift: self._do(  # type: ignore[misc]
                        lambda: self.listing.move_to_end(newest=newest, extend=shift)
                    ),
                )
        tree.bind("<Control-a>", lambda _: self._do(self.listing.choose_all))

    def _bind_move(self, key: str, step: Callable[[], int]) -> None:
        self.tree.bind(f"<{key}>", lambda _: self._do(lambda: self.listing.move(step())))
        self.tree.bind(
            f"<Shift-{key}>", lambda _: self._do(lambda: self.listing.move(step(), extend=True))
        )

    def _do(self, what: Callable[[], None]) -> str:
        what()
        self._moved()
        return "break"

    def _under(self, y: int) -> int | None:
        item = self.tree.identify_row(y)
        index = int(item[1:]) if item else -1
        return self._numbers[index] if 0 <= index < len(self._numbers) else None

    def _clicked(self, event: Any) -> str | None:
        if self.tree.identify_region(event.x, event.y) in ("heading", "separator"):
            return None
        self.tree.focus_set()
        number = self._under(event.y)
        if number is None:
            return "break"
        if event.state & _SHIFT:
            return self._do(lambda: self.listing.extend(number))
        if event.state & _CONTROL:
            return self._do(lambda: self.listing.toggle(number))
        return self._do(lambda: self.listing.choose(number))

    def _dragged(self, event: Any) -> str | None:
        number = self._under(event.y)
        if number is None or not self.listing.selected:
            return None
        return self._do(lambda: self.listing.extend(number))

    def _wheel(self, step: int) -> str:
        return self._do(lambda: self.listing.scroll_by(step * _WHEEL_ROWS))

    def _scrolled(self, how: str, amount: str, unit: str = "") -> None:
        if how == "moveto":
            self.listing.scroll_part(float(amount))
        else:
            rows = self.listing.page - 1 if unit.startswith("page") else 1
            self.listing.scroll_by(int(amount) * rows)
        self._moved()


def _anchor(key: str) -> Any:
    return WIDTHS[key].side


def _tags(row: Row) -> tuple[str, ...]:
    if row.corrupt:
        return ("corrupt",)
    if row.state == "unacked":
        return ("unacked",)
    if row.state != "acked":
        return ("gone",)
    return ("redelivered",) if row.redelivered else ()
