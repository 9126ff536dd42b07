from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.cli import report
from rabbitproof.errors import ReportFailed, UsageError
from rabbitproof.model import Decision, Entry, QueueVerdict, Suite, TrialResult, Verdict
from rabbitproof.view import verdict as words

if TYPE_CHECKING:
    from collections.abc import Iterator


def queue(name: str, lost: int) -> QueueVerdict:
    shown = tuple(f"0a1b2c3d-4e5f-8001-8000-{n:012x}" for n in range(1, min(lost, 1000) + 1))
    given: dict[str, Any] = {
        "name": name, "judged_by": "ledger", "received": 10, "unique": 10, "lost": lost,
        "lost_ids": shown, "undecided": 0, "recovered": 0, "duplicates_redelivered": 0,
        "duplicates_resent": 0, "duplicates_unflagged": 0, "corrupt": 0, "foreign": 0,
        "reordered": 0, "order_unchecked": None, "left_in_queue": 0,
    }  # fmt: skip
    return QueueVerdict(**given)


def result(**lost: int) -> TrialResult:
    queues = {name: queue(name, count) for name, count in lost.items()}
    failed = any(lost.values())
    verdict = Verdict(Decision.FAIL if failed else Decision.PASS, (), 10, 10, 0, 0, 0, queues)
    return TrialResult(verdict, "offline", "0a1b2c3d4e5f", 1, 1, (), {})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_files_are_written_and_agree(tmp_path: Path) -> None:
    """The object is that of --json; the queue without a loss has no file."""
    folder = tmp_path / "a" / "b"
    report.prepare(folder)
    written = report.write(folder, result(work=3, audit=0))
    assert set(written) == names(folder) == {
        "report.html", "report.json", "junit.xml", "lost-work.txt",
    }  # fmt: skip
    content = json.loads((folder / "report.json").read_text("utf-8"))
    assert content == json.loads(json.dumps(words.as_object(result(work=3, audit=0))))
    assert Xml.parse(folder / "junit.xml").getroot().get("failures") == "2"  # noqa: S314
    page = (folder / "report.html").read_text("utf-8")
    assert 'href="lost-work.txt"' in page
    assert (folder / "lost-work.txt").read_text("utf-8").splitlines() == list(
        result(work=3).verdict.queues["work"].lost_ids
    )


def test_a_million_lost_ids_are_never_held(tmp_path: Path) -> None:
    """They are written as they come."""

    def ids() -> Iterator[str]:
        for n in range(1_000_000):
            yield f"0a1b2c3d-4e5f-8001-8000-{n:012x}"

    report.write(tmp_path, result(work=1))  # imports what it needs
    tracemalloc.start()
    report.write(tmp_path, result(work=1_000_000), {"work": ids()})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
    with (tmp_path / "lost-work.txt").open("rb") as file:
        assert sum(1 for _ in file) == 1_000_000


def test_nothing_lost_has_no_file_whatever_is_passed(tmp_path: Path) -> None:
    """And a queue judged by count has no ids to write."""
    known = result(work=0, audit=5)
    audit = replace(known.verdict.queues["audit"], lost_ids=())
    counted = replace(
        known, verdict=replace(known.verdict, queues={**known.verdict.queues, "audit": audit})
    )
    assert len(report.write(tmp_path, counted, {"work": iter(["x"])})) == 3


# --- what was there before --------------------------------------------------------------------


def test_an_earlier_report_is_taken_away_before_the_run(tmp_path: Path) -> None:
    """A run that breaks must not leave yesterday's verdict; what is not of a report stays."""
    report.write(tmp_path, result(work=3))
    (tmp_path / "lost-property.txt").write_text("an umbrella\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    report.prepare(tmp_path)
    assert names(tmp_path) == {"lost-property.txt", "notes.txt"}


@pytest.mark.parametrize("name", ["report.html", "report.json", "junit.xml"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_ours_is_not_replaced(tmp_path: Path, name: str, kind: str) -> None:
    """It is said before the run, and nothing is touched."""
    path = tmp_path / name
    if kind == "file":
        path.write_text("<html>mine</html>")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=f"holds {name}, and not from a report of ours"):
        report.prepare(tmp_path)
    assert names(tmp_path) == {name}


def test_a_link_to_a_report_is_not_a_report(tmp_path: Path) -> None:
    """Whoever made the link may not want it replaced."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    report.write(elsewhere, result(work=0))
    here = tmp_path / "here"
    here.mkdir()
    (here / "report.html").symlink_to(elsewhere / "report.html")
    with pytest.raises(UsageError):
        report.prepare(here)
    assert (elsewhere / "report.html").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    """With the reason and the way out; nothing is left behind by looking."""
    blocked = tmp_path / "file"
    blocked.write_text("x")
    for folder in (blocked, blocked / "below", tmp_path / ("x" * 300), Path("/proc/rabbitproof")):
        with pytest.raises(UsageError, match="name another folder with --report"):
            report.prepare(folder)
    assert names(tmp_path) == {"file"}
    report.prepare(tmp_path / "new")
    assert names(tmp_path / "new") == set()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")  # noqa: PTH110
def test_a_full_disk_is_said_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict stands; the file has its name only when it is whole."""
    (tmp_path / ".report.json.unfinished").symlink_to("/dev/full")
    with pytest.raises(ReportFailed, match=r"No space left on device.*the verdict stands"):
        report.write(tmp_path, result(work=0))
    assert names(tmp_path) == set()


# --- names ------------------------------------------------------------------------------------

RESERVED = set('<>:"/\\|?*') | {chr(code) for code in range(32)}


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_queue_has_a_file_name_that_every_system_takes(name: str) -> None:
    """No path, no control, no trailing dot, not too long, ASCII."""
    file = report.lost_file(name)
    assert file.isascii()
    assert not RESERVED & set(file)
    assert file.startswith("lost-")
    assert file.endswith(".txt")
    assert len(file) <= 110


@given(
    st.sets(
        st.text("aAbB/_.\ud800é", max_size=4) | st.text("x", min_size=78, max_size=84), max_size=30
    )
)
def test_no_two_queues_share_a_file(names: set[str]) -> None:
    """Not even where upper and lower case are the same."""
    assert len({report.lost_file(name).lower() for name in names}) == len(names)


def test_a_plain_name_stays_readable() -> None:
    """What most queues are called."""
    assert report.lost_file("work.queue.1m") == "lost-work.queue.1m.txt"


def test_several_scenarios_have_an_index_and_a_folder_each(tmp_path: Path) -> None:
    """An earlier report of that kind is taken away first; somebody's file never is."""
    entries = (Entry("offline", "A title", 1.0), Entry("stress", "B", left_out="It is long."))
    report.prepare_all(tmp_path, ["offline"])
    (tmp_path / "offline" / "report.html").write_text("x")
    written = report.write_all(tmp_path, Suite(entries, 2.0))
    assert written == ["report.json", "junit.xml", "table.md", "index.html"]
    index = (tmp_path / "index.html").read_text("utf-8")
    assert 'href="offline/report.html"' in index
    assert 'href="stress/' not in index
    (tmp_path / "offline" / "report.html").unlink()
    report.prepare_all(tmp_path, ["offline"])
    assert [path.name for path in tmp_path.iterdir()] == ["offline"]
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="not from a report of ours"):
        report.prepare_all(tmp_path, ["offline"])


@pytest.mark.parametrize("name", ["..", "../beside", "/etc", "", ".", "link", 7, None])
def test_what_an_earlier_object_names_is_not_trusted(tmp_path: Path, name: object) -> None:
    """Only a folder right below is a part of it; a report elsewhere stays."""
    beside, folder = tmp_path / "beside", tmp_path / "here"
    beside.mkdir()
    folder.mkdir()
    report.write(tmp_path, result(work=0))
    report.write(beside, result(work=0))
    (folder / "link").symlink_to(beside)
    report.write_all(folder, Suite((), 1.0))
    found = {"scenarios": [{"scenario": name}], "releases": {str(name): {}}}
    (folder / "report.json").write_text(json.dumps(found))
    report.prepare_all(folder, [])
    assert "report.html" in names(tmp_path)
    assert "report.html" in names(beside)
    assert names(folder) == {"link"}


@pytest.mark.parametrize("text", ["", "[]", "7", '{"scenarios": 7}', '{"scenarios": [{}]}', "\xff"])
def test_an_earlier_object_may_be_broken(tmp_path: Path, text: str) -> None:
    """Then its parts are nobody's; the new report is written all the same."""
    report.write_all(tmp_path, Suite((), 1.0))
    (tmp_path / "report.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "old").mkdir()
    report.write(tmp_path / "old", result(work=0))
    report.prepare_all(tmp_path, ["offline"])
    assert names(tmp_path) == {"old", "offline"}


def test_a_part_that_is_not_ours_any_more_stays(tmp_path: Path) -> None:
    """Somebody put a page of their own there, and this report does not need the place."""
    entries = (Entry("offline", "A title", 1.0),)
    (tmp_path / "offline").mkdir()
    report.write(tmp_path / "offline", result(work=0))
    report.write_all(tmp_path, Suite(entries, 2.0))
    (tmp_path / "offline" / "report.html").write_text("mine")
    report.prepare_all(tmp_path, ["stress"])
    assert "report.html" in names(tmp_path / "offline")
    report.write_all(tmp_path, Suite(entries, 2.0))
    with pytest.raises(UsageError, match="not from a report of ours"):
        report.prepare_all(tmp_path, ["offline"])
