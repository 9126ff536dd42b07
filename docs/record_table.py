"""Records one real run of ``prove --all`` in the pages that show its table.

``make table`` runs it, with what ``TABLE=`` adds to the command, such as ``--rabbitmq 4.0``; it
takes some minutes, with ``--rabbitmq all`` for each release. Then the newest one's table is taken,
and how the releases differ is recorded as well. What stands between the two marks of a page is
replaced; below each table stands of which release it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/prove-all.md", "README.md")
COMPARED = ("docs/prove-all.md",)


def main() -> int:
    """Run all scenarios and put their table into the pages; return the run's exit code."""
    with tempfile.TemporaryDirectory(prefix="rabbitproof-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "rabbitproof", "prove", "--all", *sys.argv[1:]]
        status = subprocess.run([*command, "--report", name], check=False).returncode  # noqa: S603  our own command
        if not (folder / "report.json").exists():
            return status  # it said why
        record(folder)
    return status


def record(folder: Path) -> None:
    """Put the tables of a report into the pages."""
    found = json.loads((folder / "report.json").read_text("utf-8"))
    newest = next(iter(found.get("releases", [])), None)
    table = (folder / "table.md" if newest is None else folder / newest / "table.md").read_text(
        "utf-8"
    )
    put(PAGES, "table", table.replace(f" --report {folder}", ""))
    if newest is not None:
        compared, _, _ = (folder / "table.md").read_text("utf-8").partition("\n### ")
        put(COMPARED, "releases", compared.replace(f" --report {folder}", ""))


def put(pages: tuple[str, ...], name: str, text: str) -> None:
    """Replace what stands between a mark and its end in each page."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    for page in (ROOT / one for one in pages):
        before, _, rest = page.read_text("utf-8").partition(begin)
        _, _, after = rest.partition(end)
        page.write_text(f"{before}{begin}{text}{end}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
