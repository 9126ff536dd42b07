"""The files of a report, written into a folder: the page, the object, JUnit, and all lost ids.

Not a command: what ``prove --report DIR`` calls, before the run and after it. Holds what a file is
called and whether it may be written; refuses to word anything (``view``).

Rules: what can go wrong with the folder is found out before the run. A file that is not an earlier
report's is never replaced. An earlier report is taken away before the run, so that one that breaks
never leaves yesterday's PASS behind. Each file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from rabbitproof.errors import ReportFailed, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.model import Releases, Suite, TrialResult

PAGE: Final = "report.html"
OBJECT: Final = "report.json"
JUNIT: Final = "junit.xml"
INDEX: Final = "index.html"
"""The page of several scenarios, or releases; each has a folder of its own beside it."""
TABLE: Final = "table.md"

_ID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}\r?\n")
"""A line of a file with lost ids; see docs/message.md."""
_HEAD: Final = 4_096
"""Bytes at the beginning of a page in which its generator is named."""
_LONGEST: Final = 80
"""Characters of a queue's name in a file's name."""


def lost_file(queue: str) -> str:
    """Return the name of the file with a queue's lost ids, good on every system.

    Two queues never share one, not even where upper and lower case are the same.
    """
    plain = re.sub(r"[^a-z0-9._-]", "_", queue.lower())[:_LONGEST]
    if plain != queue:
        digest = hashlib.sha256(queue.encode("utf-8", "surrogatepass")).hexdigest()
        plain = f"{plain}-{digest[:10]}"
    return f"lost-{plain}.txt"


def prepare(folder: Path, page: str = PAGE) -> None:
    """See that a report can be written there, and take an earlier one away.

    Errors: ``UsageError`` when the folder can't be made or written, or holds files under the
    names of a report that are not a report's. ``page`` is that report's page.
    """
    with _changing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        old = _earlier(folder, page)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
        for path in old:
            path.unlink()


def write(
    folder: Path,
    result: TrialResult,
    lost: Mapping[str, Iterable[str]] | None = None,
    logs: Mapping[str, Iterable[str]] | None = None,
) -> list[str]:
    """Write the report and return the names of its files.

    ``lost``: logical name of a queue -> all its lost ids, read once and never held; without it
    the first thousand, which the verdict has. ``logs``: name of a node that did not come back ->
    the last lines of its log. Error: ``ReportFailed``.
    """
    from rabbitproof.view import verdict as words
    from rabbitproof.view.junit import junit
    from rabbitproof.view.report import page

    files = {}
    try:
        for name, queue in result.verdict.queues.items():
            ids = iter((lost or {}).get(name, queue.lost_ids) if queue.lost else ())
            first = next(ids, None)
            if first is not None:
                files[name] = lost_file(name)
                with _whole(folder / files[name]) as file:
                    file.writelines(f"{one}\n" for one in chain([first], ids))
        kept = {f"broker-{i}.log": lines for i, lines in enumerate((logs or {}).values(), 1)}
        for name, lines in kept.items():
            with _whole(folder / name) as file:
                file.writelines(f"{line}\n" for line in lines)
        for name, text in (
            (OBJECT, json.dumps(words.as_object(result)) + "\n"),
            (JUNIT, junit(result)),
            (PAGE, page(result, files)),
        ):
            with _whole(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise _incomplete(folder, error) from None
    return [PAGE, OBJECT, JUNIT, *files.values(), *kept]


def prepare_all(folder: Path, scenarios: Sequence[str], releases: Sequence[str] = ()) -> None:
    """Do as ``prepare`` does, for a report of several scenarios, or of them on several releases.

    What the report that is taken away wrote below goes as well, also where this one writes
    nothing. Errors: ``UsageError``, as there.
    """
    old = list(_parts(folder))
    prepare(folder, INDEX)
    for part in old:
        with _changing(part):
            _take_away(part)
    above = [folder / version for version in releases]
    for one in above:
        prepare(one, INDEX)
    for one in above or [folder]:
        for name in scenarios:
            prepare(one / name)


def write_all(folder: Path, suite: Suite) -> list[str]:
    """Write what several scenarios have in common: a page that leads to each, JSON and JUnit.

    Error: ``ReportFailed``.
    """
    from rabbitproof.view import suite as words
    from rabbitproof.view.junit import junit_of_all

    return _write(
        folder,
        words.as_object(suite),
        junit_of_all(suite),
        words.markdown(suite),
        words.page(suite, _pages(folder, suite)),
    )


def write_releases(folder: Path, found: Releases) -> list[str]:
    """Write what several releases have in common, as ``write_all`` does.

    Each has what ``write_all`` writes in a folder of its own. Error: ``ReportFailed``.
    """
    from rabbitproof.view import releases as words
    from rabbitproof.view.junit import junit_of_releases

    pages = {
        version: {"": f"{version}/{INDEX}"}
        | {name: f"{version}/{page}" for name, page in _pages(folder / version, suite).items()}
        for version, suite in found.suites.items()
    }
    return _write(
        folder,
        words.as_object(found),
        junit_of_releases(found),
        words.markdown(found),
        words.page(found, pages),
    )


def _pages(folder: Path, suite: Suite) -> dict[str, str]:
    """Return where each scenario's page is below the folder, if it has one."""
    pages = {entry.scenario: f"{entry.scenario}/{PAGE}" for entry in suite.entries}
    return {name: page for name, page in pages.items() if (folder / page).is_file()}


def _write(folder: Path, found: dict[str, Any], junit: str, table: str, page: str) -> list[str]:
    texts = {OBJECT: json.dumps(found) + "\n", JUNIT: junit, TABLE: table, INDEX: page}
    try:
        for name, text in texts.items():
            with _whole(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise _incomplete(folder, error) from None
    return list(texts)


def _incomplete(folder: Path, error: OSError) -> ReportFailed:
    return ReportFailed(
        f"The report in {safe(str(folder))} is not complete ({_why(error)}), and the verdict "
        "stands all the same; make room there and run it again."
    )


def _earlier(folder: Path, page: str) -> list[Path]:
    """Return the files of an earlier report."""
    fixed = [
        path for name in (page, OBJECT, JUNIT, TABLE) if os.path.lexists(path := folder / name)
    ]
    if fixed and not _is_ours(folder / page):
        raise UsageError(
            f"{safe(str(folder))} holds {fixed[0].name}, and not from a report of ours; "
            "name another folder with --report."
        )
    return fixed + [path for path in folder.glob("lost-*.txt") if _has_ids(path)]


def _parts(folder: Path) -> Iterator[Path]:
    """Yield the folders below that an earlier report of several names as its own, deepest first."""
    if not _is_ours(folder / INDEX):
        return
    try:
        found = json.loads((folder / OBJECT).read_bytes())
        names = [
            *found.get("releases", ()),
            *(one["scenario"] for one in found.get("scenarios", ())),
        ]
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return  # whoever changed it has its parts, too
    for name in names:
        part = folder / str(name)
        below = part.parent == folder and part.name != ".."
        if below and part.is_dir() and not part.is_symlink():
            yield from _parts(part)
            yield part


def _take_away(part: Path) -> None:
    """Delete the files of an earlier report, of whichever kind, and the folder if it is empty."""
    for page in (INDEX, PAGE):
        with suppress(UsageError):  # what is not ours stays
            for path in _earlier(part, page):
                path.unlink()
    if not any(part.iterdir()):
        part.rmdir()


def _is_ours(page: Path) -> bool:
    from rabbitproof.view.report import GENERATOR

    if page.is_symlink() or not page.is_file():
        return False
    with page.open("rb") as file:
        return GENERATOR.encode() in file.read(_HEAD)


def _has_ids(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return _ID.fullmatch(file.readline(64)) is not None


@contextmanager
def _changing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{safe(str(folder))} can't be written to ({_why(error)}); "
            "name another folder with --report."
        ) from None


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    """Open a file that gets its name when all of it is written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def _why(error: OSError) -> str:
    return safe(error.strerror or type(error).__name__)
