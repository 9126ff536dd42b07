"""The window's own command, which also writes down where its buttons and rows are on the screen.

Run as `mapped_window.py MAP ROWS …`, where `…` are the arguments of `rabbitproof window`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rabbitproof.cli.exits import run
from rabbitproof.cli.window import app
from rabbitproof.view import window


class MappedWindow(window.Window):
    """Has its map drawn when it is complete."""

    def start(self) -> None:
        """Show it, and draw the map once every button and row has its place and keeps it."""
        super().start()
        self.root.after(100, self._map, {})

    def _map(self, before: dict[str, object]) -> None:
        tree = self.table.tree
        box = tree.bbox("r0")
        placed = all(button.winfo_viewable() for button in self.layout.buttons.values())
        if not box or not placed or len(self.table.listing.numbers) < int(sys.argv[2]):
            self.root.after(100, self._map, {})
            return
        places: dict[str, object] = {
            key: (each.winfo_rootx() + each.winfo_width() // 2,
                  each.winfo_rooty() + each.winfo_height() // 2)
            for key, each in self.layout.buttons.items()
        }  # fmt: skip
        first = (tree.winfo_rootx() + 60, tree.winfo_rooty() + box[1] + box[3] // 2)
        places |= {"row": first, "row height": box[3]}
        if places != before:
            self.root.after(100, self._map, places)
            return
        drawn = Path(sys.argv[1]).with_suffix(".part")
        drawn.write_text(json.dumps(places), "utf-8")
        drawn.replace(sys.argv[1])


if __name__ == "__main__":
    window.Window = MappedWindow  # type: ignore[misc]
    sys.exit(run(app, "window", sys.argv[3:]))
