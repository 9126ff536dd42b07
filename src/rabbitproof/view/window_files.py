"""Messages out of the window: to the clipboard and into a file, one at a time. No widgets."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from rabbitproof.text import safe
from rabbitproof.view import messages as words
from rabbitproof.view.humanize import size as human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from rabbitproof.received import Inbox

_LARGEST_COPY: Final = 4 << 20
"""Characters that are put on the clipboard."""


def copying(
    inbox: Inbox, numbers: Sequence[int], put: Callable[[str], None], say: Callable[[str], None]
) -> Generator[None, None, None]:
    """``put`` these messages as lines of JSON somewhere, and ``say`` how that went."""
    lines: list[str] = []
    size = 0
    for number in numbers:
        message = inbox.message(number)
        if message is not None:
            if size + message.size > _LARGEST_COPY:
                say(
                    f"That is more than the {human_size(_LARGEST_COPY)} that the clipboard "
                    "gets; save it instead."
                )
                return
            lines.append(words.json_line(message))
            size += len(lines[-1])
        yield
    put("\n".join(lines) + "\n")
    say(f"Copied {len(lines):,} as lines of JSON.")


def saving(
    inbox: Inbox, numbers: Sequence[int], path: Path, say: Callable[[str], None]
) -> Generator[None, None, None]:
    """Write these messages as lines of JSON into a file, which is there when it is complete."""
    part = path.with_name(path.name + ".part")
    written = 0
    try:
        with part.open("w", encoding="utf-8") as file:
            for number in numbers:
                message = inbox.message(number)
                if message is not None:
                    file.write(words.json_line(message) + "\n")
                    written += 1
                yield
        part.replace(path)
    except OSError as error:
        say(f"Could not save ({safe(error.strerror or str(error), 100)}); choose another file.")
        return
    finally:  # also when the window is closed meanwhile
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    gone = len(numbers) - written
    say(
        f"Saved {written:,} to {safe(str(path), 160)}."
        + (f" {gone:,} were no longer kept." if gone else "")
    )
