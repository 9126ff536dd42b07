import json
from pathlib import Path
from typing import Any

from rabbitproof.received import Message
from rabbitproof.view.window_files import copying, saving


class Few:
    """Two messages, 1 and 3."""

    def __init__(self, size: int = 5) -> None:
        self._size = size

    def message(self, number: int) -> Message | None:
        if number not in (1, 3):
            return None
        body = b"x" * self._size
        return Message(
            number, 5.0, "acked", False, False, True, "", "key", {}, {}, False, body, len(body)
        )  # fmt: skip


def done(steps: Any) -> int:
    return sum(1 for _ in steps)


def test_what_is_copied_is_lines_of_json() -> None:
    put: list[str] = []
    said: list[str] = []
    assert done(copying(Few(), [1, 2, 3], put.append, said.append)) == 3, "a pause after each"  # type: ignore[arg-type]
    assert [json.loads(line)["number"] for line in put[0].splitlines()] == [1, 3]
    assert said == ["Copied 2 as lines of JSON."]


def test_a_clipboard_gets_only_so_much() -> None:
    put: list[str] = []
    said: list[str] = []
    done(copying(Few(3 << 20), [1, 3], put.append, said.append))  # type: ignore[arg-type]
    assert not put
    assert "save it instead" in said[0]


def test_a_file_is_there_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    said: list[str] = []
    steps = saving(Few(), [1, 2, 3], path, said.append)  # type: ignore[arg-type]
    next(steps)
    assert not path.exists()
    done(steps)
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 3]
    assert said == [f"Saved 2 to {path}. 1 were no longer kept."]
    assert [*tmp_path.iterdir()] == [path]


def test_nothing_is_left_of_a_file_when_the_window_is_closed(tmp_path: Path) -> None:
    steps = saving(Few(), [1, 2, 3], tmp_path / "m.jsonl", [].append)  # type: ignore[arg-type]
    next(steps)
    steps.close()
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    done(saving(Few(), [1], tmp_path / "none" / "m.jsonl", said.append))  # type: ignore[arg-type]
    assert said[0].startswith("Could not save (No such file or directory)")
