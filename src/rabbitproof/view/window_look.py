"""How the window looks: two themes, their colours, and the size of everything.

Refuses to know which widgets there are: those dress themselves with what is here.
"""

from __future__ import annotations

from tkinter import font, ttk
from typing import TYPE_CHECKING, Final, Literal

import sv_ttk

if TYPE_CHECKING:
    import tkinter as tk

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

_STEPS: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Of the zoom."""


class Look:
    """The theme and the size of one window."""

    def __init__(self, root: tk.Tk, theme: Theme) -> None:
        self.theme: Theme = theme
        self.scale = max(0.75, root.winfo_fpixels("1i") / 96)
        """Of this screen."""
        self._root = root
        self._zoom = 1.0
        self._pixels: dict[str, int] = {}
        """Font of the theme -> its size as the theme has it."""
        self._quiet: list[ttk.Label] = []

    @property
    def size(self) -> float:
        """By how much everything is larger than on a screen of 96 dots an inch."""
        return self.scale * self._zoom

    @property
    def colours(self) -> dict[str, str]:
        """The colours of the theme, by what they are for."""
        return _COLOURS[self.theme]

    @property
    def body(self) -> font.Font:
        """The font of most texts."""
        return font.nametofont("SunValleyBodyFont", self._root)

    @property
    def title(self) -> font.Font:
        """The font of the heading."""
        return font.nametofont("SunValleySubtitleFont", self._root)

    @property
    def fixed(self) -> font.Font:
        """The font whose letters are equally wide."""
        return font.nametofont("TkFixedFont", self._root)

    def pixels(self, count: int) -> int:
        """Return a distance for this screen."""
        return round(count * self.scale)

    def quiet_label(self, parent: tk.Misc, text: str) -> ttk.Label:
        """Return a label in a colour that does not ask for attention."""
        label = ttk.Label(parent, text=text)
        self._quiet.append(label)
        return label

    def switch(self) -> None:
        """Go from light to dark or back."""
        self.theme = "dark" if self.theme == "light" else "light"

    def zoom(self, step: int) -> None:
        """Make everything larger (1), smaller (-1), or as it was (0)."""
        at = _STEPS.index(self._zoom) + step if step else _STEPS.index(1.0)
        self._zoom = _STEPS[max(0, min(at, len(_STEPS) - 1))]

    def put_on(self) -> None:
        """Set the theme, the fonts and the styles."""
        root, size, colours = self._root, self.size, self.colours
        sv_ttk.set_theme(self.theme, root)
        # The theme colours every widget once more when nothing else is to be done; what is ours
        # comes after that.
        root.update_idletasks()
        for name in font.names(root):
            if name.startswith("SunValley"):
                each = font.nametofont(name, root)
                pixels = self._pixels.setdefault(name, abs(int(each.cget("size"))))
                each.configure(size=-round(pixels * size * 0.93))
        self.fixed.configure(size=-round(13 * size))
        strong = font.nametofont("SunValleyBodyStrongFont", root)
        strong.configure(weight="bold")
        self.title.configure(weight="bold")
        style = ttk.Style(root)
        style.configure("Treeview", rowheight=self.body.metrics("linespace") + round(6 * size))
        style.configure("Treeview.Cell", padding=(round(4 * size), 0))
        style.configure("TButton", padding=(round(8 * size), round(4 * size)))
        style.configure("Accent.TButton", padding=(round(8 * size), round(4 * size)))
        style.map("Treeview", background=[("selected", colours["chosen"])], foreground=[])
        style.configure("Figure.TLabel", font=strong)
        for label in self._quiet:
            label.configure(foreground=colours["quiet"])
