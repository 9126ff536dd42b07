"""``rabbitproof prove``: the command that `make demo` runs."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from support import leftovers, nothing_is_left

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.broker.install import Installation


@pytest.fixture
def cache(tmp_path: Path, installation: Installation) -> Path:
    """A cache folder for one test, in which a RabbitMQ that had to be fetched is there already."""
    folder = tmp_path / "cache"
    folder.mkdir()
    if installation.origin == "fetched":
        fetched = installation.home.parents[4]  # …/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8
        (folder / "rabbitmq").symlink_to(fetched)
    return folder


@pytest.fixture
def shell(shell: Any, cache: Path) -> Any:
    """The shell, with that cache: what other tests start meanwhile is not ours to look for."""
    return replace(shell, environment=shell.environment | {"RABBITPROOF_CACHE": str(cache)})


def test_prove_on_a_private_node_passes_and_leaves_nothing(shell: Any, cache: Path) -> None:
    """PASS, exit code 0, the books in words, and nothing is left afterwards."""
    done = shell.run("prove")
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    assert "10,000 messages were confirmed" in done.stdout
    for kind in ("confirm", "end-to-end"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(kind)]
        assert re.match(kind + r" latency ms: p50=[\d,.]+ p90=.* p99=.* p99\.9=.* max=", line)
    assert "a private RabbitMQ" in done.stderr
    assert leftovers(cache) == []


def test_the_verdict_as_json(shell: Any, vhost: Any) -> None:
    """The documented object, with every documented key."""
    done = shell.run("prove", "--url", vhost.url, "--count", "3000", "--json",
                     "--management-url", shell.environment["RABBITMQ_MANAGEMENT_URL"])  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] == "PASS"
    assert verdict["reasons"] == []
    assert (verdict["attempted"], verdict["confirmed"]) == (3000, 3000)
    assert (verdict["nacked"], verdict["returned"], verdict["in_doubt"]) == (0, 0, 0)
    assert list(verdict["queues"]) == ["work.queue", "audit.queue"]
    for queue in verdict["queues"].values():
        assert queue["received"] == queue["unique"] == 3000
        assert queue["lost_ids"] == []
        for key in (
            "lost", "recovered", "duplicates_redelivered", "duplicates_resent",
            "duplicates_unflagged", "corrupt", "foreign", "reordered", "left_in_queue",
        ):  # fmt: skip
            assert queue[key] == 0, key
    assert verdict["environment"]["rabbitmq"].count(".") == 2
    assert list(verdict["latency_ms"]) == ["confirm", "end_to_end"]
    for latency in verdict["latency_ms"].values():
        assert latency["count"] + latency["warm_up_left_out"] == 3000
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99_9"]
        assert latency["p99_9"] <= latency["p99_99"] <= latency["max"]
    assert verdict["latency_ms"]["end_to_end"]["clocks"] == "one host"
    assert verdict["publish_per_s"] > 0
    assert verdict["consume_per_s"] > 0


def test_the_report_agrees_with_the_verdict(shell: Any, vhost: Any, tmp_path: Path) -> None:
    """The object is that of --json, and neither page nor JUnit file says anything else."""
    folder = tmp_path / "report"
    done = shell.run("prove", "--url", vhost.url, "--count", "2000", "--json",
                     "--management-url", shell.environment["RABBITMQ_MANAGEMENT_URL"],
                     "--report", str(folder))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "report.json").read_text("utf-8") == done.stdout
    page = (folder / "report.html").read_text("utf-8")
    assert "<title>PASS: " in page
    assert page.count("<svg") >= 5  # rates and depths twice each, and a latency
    assert "guest:guest" not in page
    assert '<testsuites name="rabbitproof" tests="' in (folder / "junit.xml").read_text("utf-8")
    assert 'failures="0" errors="0"' in (folder / "junit.xml").read_text("utf-8")
    assert not list(folder.glob("lost-*.txt"))


def test_a_report_that_cannot_be_written_is_found_before_the_run(
    shell: Any, tmp_path: Path
) -> None:
    """Wrong usage, and nothing was sent or started."""
    (tmp_path / "file").write_text("x")
    done = shell.run("prove", "--report", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "name another folder with --report" in done.stderr
    assert "sending" not in done.stderr


def test_the_stress_test_with_fewer_messages(shell: Any, vhost: Any) -> None:
    """Both queues are lazy by the scenario itself, and --lazy does no harm."""
    for more in ([], ["--lazy"]):
        done = shell.run("prove", "stress", "--url", vhost.url, "--count", "5000", "--json",
                         "--management-url", shell.environment["RABBITMQ_MANAGEMENT_URL"],
                         *more)  # fmt: skip
        assert done.returncode == 0, done.stderr
        verdict = json.loads(done.stdout)
        assert (verdict["verdict"], verdict["scenario"]) == ("PASS", "stress")
        for name in ("work.queue", "audit.queue"):
            assert verdict["queues"][name]["unique"] == 5000
            assert verdict["environment"]["topology"]["queues"][name]["lazy"] is True


def test_the_stress_test_with_queues_that_are_never_lazy(shell: Any, vhost: Any) -> None:
    """A scenario's lazy is for its classic queues; --lazy with others stays wrong usage."""
    options = ("--queue-type", "quorum", "--audit-type", "stream", "--count", "500")
    done = shell.run("prove", "stress", "--url", vhost.url, *options, "--json",
                     "--management-url", shell.environment["RABBITMQ_MANAGEMENT_URL"])  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = shell.run("prove", "stress", *options, "--lazy")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--lazy is for classic queues" in refused.stderr


def test_an_unknown_scenario_is_wrong_usage(shell: Any) -> None:
    """The sentence lists the scenarios that there are."""
    done = shell.run("prove", "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "offline" in done.stderr


def test_the_list_of_scenarios(shell: Any) -> None:
    """Each with what it teaches."""
    done = shell.run("prove", "--list")
    assert done.returncode == 0
    assert "offline: The consumer is offline" in done.stdout
    assert "stress: A million messages (safe, 1,000,000 messages)" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
def test_all_on_a_broker_of_somebodys(shell: Any, vhost: Any, tmp_path: Path) -> None:
    """What breaks a broker is left out with the reason; the rest passes, with a report for each.

    It is interrupted after some of them, for all of them take minutes.
    """
    folder = tmp_path / "report"
    process = shell.start("prove", "--all", "--seed", "5", "--url", vhost.url, "--json",
                          "--management-url", shell.environment["RABBITMQ_MANAGEMENT_URL"],
                          "--report", str(folder))  # fmt: skip
    for line in process.stderr:
        if " connection-cut: PASS" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    found = json.loads(out)
    assert found["seed"] == 5
    one = {entry["scenario"]: entry for entry in found["scenarios"]}
    assert "needs a broker of our own" in one["broker-kill"]["left_out"]
    assert one["broker-kill"]["verdict"] is None
    assert "say --i-own-this-broker" in one["connection-close"]["left_out"]
    assert one["connection-cut"]["result"]["confirmed"] == 40_000
    assert one["confirms-swallowed"]["result"]["verdict"] == "PASS"
    assert "--seed 5" in (folder / "connection-cut" / "report.html").read_text("utf-8")
    assert (folder / "report.json").read_text("utf-8") == out
    assert 'href="connection-cut/report.html"' in (folder / "index.html").read_text("utf-8")
    assert "<skipped" in (folder / "junit.xml").read_text("utf-8")
    again = shell.run("prove", "--all", "--count", "5")
    assert (again.returncode, again.stdout) == (2, "")
    assert "--all and --count contradict each other" in again.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
def test_an_interrupted_run_of_all_shows_what_is_known(shell: Any, cache: Path) -> None:
    """The table with what is over, the rest left out, 130, and nothing is left."""
    process = shell.start("prove", "--all")
    for line in process.stderr:
        if "1/" in line and "PASS" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(r"^broker-kill +PASS +20,000 +0 ", out, re.MULTILINE)
    assert re.search(r"^offline +left out", out, re.MULTILINE)
    assert "it was interrupted" in out
    nothing_is_left(cache)


ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("moment", ["starting a private", "sending"])
def test_an_interrupted_prove_leaves_nothing(
    shell: Any, cache: Path, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C, kill and kill -9, while the node starts and while it works, leave nothing."""
    process = shell.start("prove", "--count", "500000")
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == ENDS[number]
    assert "Traceback" not in err
    nothing_is_left(cache)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals for another process")
@pytest.mark.parametrize("arguments", [("soak", "--minutes", "1"), ("--all",)])
def test_nothing_outlives_a_killed_prove(
    shell: Any, cache: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Node, watchdog and every participant end, and no ledger is left in the folder for those."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    shell = replace(shell, environment=shell.environment | {"TMPDIR": str(temporary)})
    process = shell.start("prove", *arguments)
    family: list[psutil.Process] = []
    wanted = "sending" if arguments[0] == "soak" else "2/"
    for line in process.stderr:
        if wanted in line:
            family = psutil.Process(process.pid).children(recursive=True)
            break
    process.kill()
    process.communicate(timeout=30)
    assert len(family) >= (5 if arguments[0] == "soak" else 2)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    nothing_is_left(cache)
    assert list(temporary.iterdir()) == []
