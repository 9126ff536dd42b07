"""``rabbitproof selftest`` as a person types it, and trials whose processes are killed."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from support import lend, nothing_is_left

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.broker.install import Installation


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder for one test."""
    return tmp_path / "cache"


@pytest.fixture
def shell(shell: Any, cache: Path, installation: Installation) -> Any:
    """The shell, with that cache."""
    return replace(shell, environment=shell.environment | lend(installation, cache))


@pytest.mark.slow
def test_the_selftest_finds_everything(shell: Any, cache: Path) -> None:
    """Every scenario is found exactly, within four minutes."""
    done = shell.run("selftest", "--json", deadline_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["passed"] is True
    assert len(found["scenarios"]) >= 19
    assert all(one["passed"] for one in found["scenarios"]), found
    nothing_is_left(cache)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["broker-kill", "consumer-kill", "producer-kill"])
def test_nothing_is_lost_by_what_is_broken(
    shell: Any, cache: Path, tmp_path: Path, name: str
) -> None:
    """PASS, each fault fired with evidence, and verify comes to the same from the ledgers."""
    folder = tmp_path / "report"
    done = shell.run("prove", name, "--json", "--report", str(folder), deadline_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "PASS"
    assert found["faults"]
    assert all(fault["fired"] and fault["evidence"] for fault in found["faults"])
    (ledgers,) = (folder / "ledgers").iterdir()
    again = shell.run("verify", str(ledgers), "--json")
    assert json.loads(again.stdout)["queues"] == found["queues"]
    assert again.returncode == 0
    nothing_is_left(cache)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_of_a_trial_end_with_it(
    shell: Any, cache: Path, number: signal.Signals
) -> None:
    """Whatever ends a trial, none of its participants goes on."""
    process = shell.start("prove", "competing-consumers", "--count", "500000")
    for line in process.stderr:
        if "sending" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
    nothing_is_left(cache)
