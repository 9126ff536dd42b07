"""All that is described, the selftest and every scenario, on one RabbitMQ release after the other.

    PYTHONPATH=tests python -m outside.releases 4.3 4.0            (or: make releases)

Uses the product as a person types it and imports nothing of it. One line for each check; what a
check said that failed stands above its line. Exit code 1 when one failed. All three releases take
about three quarters of an hour; one that is not in the cache is fetched.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

RELEASES = ("3.10", "4.0", "4.3")

CHECKS = {
    "seed": ["pytest", "-q", "tests/acceptance/test_seed.py"],
    "selftest": ["rabbitproof", "selftest", "--rabbitmq"],
    "prove": ["rabbitproof", "prove", "--all", "--rabbitmq"],
}
"""Name -> what is typed after `python -m`; the release follows where it is named."""


def passes(check: str, release: str) -> bool:
    """Carry out one check on one release and say what came of it."""
    command = [sys.executable, "-m", *CHECKS[check]]
    command += [release] if command[-1] == "--rabbitmq" else []
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), RABBITPROOF_TEST_RABBITMQ=release)
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    good = done.returncode == 0
    if not good:
        print(done.stdout, end="")
    said = "passed" if good else f"FAILED with exit code {done.returncode}"
    print(f"{release:<5} {check:<9} {said}  ({time.monotonic() - began:.0f} s)", flush=True)
    return good


def main() -> int:
    """Carry out every check on every release."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", default=RELEASES, metavar="RELEASE")
    parser.add_argument("--only", choices=CHECKS, action="append", help="leave out the others")
    given = parser.parse_args()
    checks = given.only or list(CHECKS)
    failed = [
        f"{check} on {release}"
        for release in given.releases
        for check in checks
        if not passes(check, release)
    ]
    print("all passed" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
