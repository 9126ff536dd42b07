"""The window's keys: what each does, and the page that says so.

Keys of the table are ``table``'s.
"""

from __future__ import annotations

import tkinter as tk
from tkinter import ttk
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.view.window import Window

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


def bind(window: Window) -> None:
    """Give the window its keys."""
    root = window.root
    for key, action in (
        ("p", window.pause),
        ("a", lambda: window.answer("ack")),
        ("r", lambda: window.answer("requeue")),
        ("x", lambda: window.answer("reject")),
    ):
        root.bind(f"<Key-{key}>", lambda event, action=action: _letter(window, event, action))  # type: ignore[misc]  # a default, as a constant
    for keys, action in (
        ("<Control-f>", window.layout.filter.focus_set),
        ("<Control-g>", window.layout.sought.focus_set),
        ("<F3>", lambda: window.find(-1)),
        ("<Shift-F3>", lambda: window.find(1)),
        ("<Control-s>", window.save),
        ("<Control-S>", lambda: window.save(everything=True)),
        ("<Control-l>", window.clear),
        ("<Control-t>", window.switch_theme),
        ("<Control-plus>", lambda: window.zoom(1)),
        ("<Control-equal>", lambda: window.zoom(1)),
        ("<Control-KP_Add>", lambda: window.zoom(1)),
        ("<Control-minus>", lambda: window.zoom(-1)),
        ("<Control-KP_Subtract>", lambda: window.zoom(-1)),
        ("<Control-Key-0>", lambda: window.zoom(0)),
        ("<F1>", window.help),
        ("<Escape>", window.empty_filter),
        ("<Control-q>", window.close),
        ("<Control-w>", window.close),
    ):
        root.bind(keys, lambda _, action=action: _done(action))  # type: ignore[misc]
    tree = window.table.tree
    tree.bind("<Control-c>", lambda _: _done(window.copy))
    tree.bind("<Control-t>", lambda _: _done(window.switch_theme))
    for text in (window.layout.detail.text, window.layout.body.text):
        # A text widget gives these meanings of its own.
        for keys, action in (
            ("<Control-t>", window.switch_theme),
            ("<Control-f>", window.layout.filter.focus_set),
            ("<Tab>", lambda text=text: _next_widget(text)),
        ):
            text.bind(keys, lambda _, action=action: _done(action))  # type: ignore[misc]
    window.layout.filter.bind("<KeyRelease>", lambda _: window.filter_changed())
    window.layout.filter.bind("<Down>", lambda _: _done(tree.focus_set))
    window.layout.filter.bind(
        "<Control-f>", lambda _: _done(lambda: window.layout.filter.selection_range(0, "end"))
    )
    for entry in (window.layout.filter, window.layout.sought):
        entry.bind("<Control-a>", lambda e: _done(lambda: e.widget.selection_range(0, "end")))
    window.layout.sought.bind("<Return>", lambda _: _done(lambda: window.find(-1)))
    window.layout.sought.bind("<Shift-Return>", lambda _: _done(lambda: window.find(1)))
    for each in window.layout.buttons.values():
        each.bind("<Return>", lambda event: _done(event.widget.invoke))


def show_help(root: tk.Tk) -> None:
    """Show what the keys do."""
    top = tk.Toplevel(root)
    top.title("Keys")
    top.transient(root)
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


def _letter(window: Window, event: Any, action: Callable[[], None]) -> None:
    """Do what a letter stands for, unless somebody is typing."""
    if event.state & 0x4 or isinstance(event.widget, (ttk.Entry, tk.Entry)):
        return
    if event.widget.winfo_toplevel() is window.root:
        action()


def _next_widget(widget: tk.Misc) -> None:
    following = widget.tk_focusNext()
    if following is not None:
        following.focus_set()


def _done(action: Callable[[], Any]) -> str:
    action()
    return "break"
