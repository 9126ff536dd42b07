"""The checks in ``tests/outside``, which use the product only from outside, a few times each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]

DEADLINE_S = 200
"""On two cores with nothing else, each takes half a minute."""

pytestmark = [
    pytest.mark.timeout(DEADLINE_S + 80),
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process"),
]


def outside(*words: str) -> dict[str, Any]:
    """Run one of them and return what its last line says."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # so that it ends its broker
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


def test_nothing_confirmed_is_missing_when_processes_are_killed() -> None:
    told = outside("outside.kills", "--times", "4", "--kind", "classic", "--seed", "7", "--light")
    assert (told["kills"], told["missing"], told["sound"]) == (4, 0, True)
    assert told["confirmed"] >= 20_000
    (tally,) = told["kinds"]
    assert tally["killed"]["broker"]
