"""Records one real run of ``prove --all`` in the pages that show its table.

``make table`` runs it; it takes some minutes. What stands between the two marks of a page is
replaced.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/prove-all.md", "README.md")
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->"


def main() -> int:
    """Run all scenarios and put their table into the pages; return the run's exit code."""
    with tempfile.TemporaryDirectory(prefix="rabbitproof-") as folder:
        command = [sys.executable, "-m", "rabbitproof", "prove", "--all", "--report", folder]
        status = subprocess.run(command, check=False).returncode  # noqa: S603  our own command
        table = Path(folder, "table.md").read_text("utf-8").replace(f" --report {folder}", "")
    for page in (ROOT / name for name in PAGES):
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}{table}{END}{after}", "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
