"""Judge random worlds by the thousand: ``PYTHONPATH=tests python -m fuzz --worlds 300000``.

Prints the account, and wrong verdicts as stories, in their shortest form. Exit 1 if there was one,
or a kind of event was too rare.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from fuzz import runner

_PART = 1_000
"""Worlds that a process judges before it reports."""
_STORIES = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--worlds", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--tell", action="store_true", help="tell the world of the seed, only that")
    options = parser.parse_args()
    if options.tell:
        print(runner.tell(options.seed))
        return 0
    end = options.seed + options.worlds
    parts = [range(at, min(at + _PART, end)) for at in range(options.seed, end, _PART)]
    account, began = runner.Account(), time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        for part in pool.map(runner.run_all, parts):
            account.unite(part)
    seconds = time.monotonic() - began
    print(
        f"{account.worlds:,} worlds in {seconds:,.0f} s, {account.worlds / seconds:,.0f} a second"
    )
    print(account.told())
    for seed, _ in account.wrong[:_STORIES]:
        print(f"\n{runner.tell(seed)}")
    short = account.short()
    print(*short, sep="\n")
    return 1 if account.wrong or short else 0


if __name__ == "__main__":
    sys.exit(main())
