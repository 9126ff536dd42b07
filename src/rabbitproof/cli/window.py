"""``rabbitproof window``, also ``python src/consumer_gui.py``: receive in a window."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import API_PATIENCE_S, Connection
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import WindowUnavailable

NAME = "Window-1"
PREFETCH = 500
KEEP = 10_000
"""Messages that a window holds."""

app = new_app()


@app.command()
@with_connection
def window(
    *,
    connection: Connection,
    queue: options.Queue = options.QUEUE,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Who consumes; in the window's title.")
    ] = NAME,
    prefetch: Annotated[
        int,
        typer.Option(
            "--prefetch",
            metavar="N",
            min=1,
            max=65_535,
            help="Messages that may be here without an acknowledgement.",
        ),
    ] = PREFETCH,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", metavar="N", min=1, max=1_000_000, help="Messages that the window holds."
        ),
    ] = KEEP,
    ack: Annotated[
        Literal["auto", "hand"],
        typer.Option("--ack", help="Acknowledge what was shown, or only what you decide."),
    ] = "auto",
    ledger: options.Ledger = None,
    theme: Annotated[
        Literal["light", "dark"], typer.Option("--theme", help="How it looks; Ctrl+T changes it.")
    ] = "light",
) -> Exit:
    """Receive messages in a window: look at them, and answer them by hand if you want."""
    try:
        from rabbitproof.view.window import Window, open_screen
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("tkinter", "_tkinter"):
            raise
        raise WindowUnavailable(_no_tkinter()) from None

    from rabbitproof.cli.show import Show
    from rabbitproof.view.humanize import size
    from rabbitproof.work.consume import Task
    from rabbitproof.work.inbox import ROOM, Messages
    from rabbitproof.work.recorder import LedgerRecorder, Recorder
    from rabbitproof.work.window import Receiver

    by_hand = ack == "hand"
    task = Task(
        queue=options.queue_name(queue, "--queue"),
        name=name,
        prefetch=prefetch,
        host=platform.node(),
    )
    messages = Messages(keep, by_hand=by_hand)
    client = f"RabbitMQ GUI Consumer {name} ({platform.node()})"
    recorder = Recorder()
    if ledger is not None:
        recorder = LedgerRecorder(
            ledger,
            vhost=connection.addresses[0].vhost,
            open_api=lambda: connection.api.open(timeout=API_PATIENCE_S),
            options=connection.for_ledger(),
        )
    receiver = Receiver(task, connection.dialer(client), messages, recorder)
    root = open_screen()
    show = Show(name)
    receiver.open()
    shown = Window(
        root,
        messages,
        receiver,
        name=name,
        queue=queue,
        by_hand=by_hand,
        bound=f"Keeps the last {keep:,} messages, {size(ROOM)} at most.",
        theme=theme,
    )
    receiver.start()
    try:
        shown.run()
    finally:
        receiver.close()
        show.end(receiver.summary())
        if receiver.returned:
            show.note(
                f"{receiver.returned} were not acknowledged; they are back in the queue and will "
                "come again."
            )
    return Exit.DONE


def _no_tkinter() -> str:
    """Return what to do where this Python has no tkinter, in a sentence."""
    system = Path(sys.base_prefix) in (Path("/usr"), Path("/usr/local"))
    if sys.platform == "win32":
        fix = "run the installer of Python again and tick tcl/tk"
    elif sys.platform == "darwin":
        fix = (
            f"install it with `brew install python-tk@{sys.version_info[0]}.{sys.version_info[1]}`"
        )
    elif not system or Path(sys.base_prefix) == Path("/usr/local"):
        fix = (
            f"the Python in {sys.base_prefix} was built without it: install tk-dev and build that "
            "Python again, or use the system's (`sudo apt-get install python3-tk`)"
        )
    elif shutil.which("dnf"):
        fix = "install it with `sudo dnf install python3-tkinter`"
    elif shutil.which("pacman"):
        fix = "install it with `sudo pacman -S tk`"
    elif shutil.which("zypper"):
        fix = "install it with `sudo zypper install python3-tk`"
    elif shutil.which("apk"):
        fix = "install it with `sudo apk add python3-tkinter`"
    else:
        fix = "install it with `sudo apt-get install python3-tk`"
    return f"A window needs tkinter and this Python has none; {fix}."
