"""Our own small programs beside the nodes (``watchdog``, ``cables``): starting one, hearing it.

Each is a file without imports from outside the standard library, is told what to do by lines of
JSON on its standard input, ends when that does, and answers in lines of JSON. Refuses to know what
the lines mean.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from typing import Any

Replies = queue.SimpleQueue[dict[str, Any]]
"""What a program answered; ``{"gone": true}`` is the last of it."""


def start(file: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Replies]:
    """Start a program in a session of its own, so that a terminal's Ctrl+C is not for it.

    Its answers become items of a queue, so that waiting for one has a deadline.
    """
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-I", "-S", file, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/" if os.name == "posix" else None,
        start_new_session=True,
    )
    replies: Replies = queue.SimpleQueue()
    threading.Thread(target=_forward, args=(process.stdout, replies), daemon=True).start()
    return process, replies


def _forward(source: Any, replies: Replies) -> None:
    with source:
        for line in source:
            replies.put(json.loads(line))
    replies.put({"gone": True})
