import pytest

from rabbitproof.address import Address
from rabbitproof.cli import cleanup
from rabbitproof.cli.connection import Api, Connection
from rabbitproof.errors import UsageError
from rabbitproof.work.cleanup import Deleted, Item


@pytest.mark.parametrize(
    ("what", "queues", "task"),
    [
        (["all"], [], ("all", ())),
        (["exchanges"], [], ("exchanges", ())),
        (["a/b", "--flag"], [], ("queues", ("a/b", "--flag"))),
        (["a"], ["all"], ("queues", ("a", "all"))),
        ([], ["exchanges"], ("queues", ("exchanges",))),
    ],
)
def test_a_word_is_a_task_and_anything_else_a_queue(
    what: list[str], queues: list[str], task: object
) -> None:
    assert cleanup._task(what, queues) == task


@pytest.mark.parametrize(
    ("what", "queues"), [([], []), (["all", "q"], []), (["all"], ["q"]), (["x" * 256], [])]
)
def test_what_is_ambiguous_or_impossible_is_wrong_usage(what: list[str], queues: list[str]) -> None:
    with pytest.raises(UsageError):
        cleanup._task(what, queues)


@pytest.mark.parametrize(
    ("amqp", "http", "remote"),
    [
        ("localhost", "http://127.0.0.1:15672", None),
        ("10.0.0.7", "http://localhost:15672", "10.0.0.7"),
        ("localhost", "http://broker.example:15672", "broker.example"),
        ("::1", "http://[::1]:15672", None),
    ],
)
def test_either_address_makes_a_broker_remote(amqp: str, http: str, remote: str | None) -> None:
    address = Address(host=amqp)
    assert cleanup._remote(Connection((address,), Api(http, address))) == remote


def test_the_lines_are_as_documented_and_safe() -> None:
    odd = Item("queue", "a\x1b[2Jb\u202e", 1)
    assert cleanup._line(Deleted(odd, ok=True)) == r"[OK] Deleted: a\x1b[2Jb\u202e"
    assert cleanup._line(Deleted(odd, ok=False, found=False)).startswith("[FAIL] Not found: a")
    failed = Deleted(Item("queue", "q"), ok=False, why="it is locked.")
    assert cleanup._line(failed) == "[FAIL] Could not delete: q (it is locked)"


@pytest.mark.parametrize(
    ("item", "line", "total"),
    [
        (Item("queue", "q", 5, consumers=0), "queue q: 5 messages", "1 queue with 5 messages"),
        (Item("queue", "q", 5, more=True, consumers=0), "queue q: at least 5 messages",
         "1 queue with at least 5 messages"),
        (Item("queue", "q"), "queue q: ? messages", "1 queue with ? messages"),
    ],
)  # fmt: skip
def test_messages_that_nobody_could_count_are_not_called_none(
    capsys: pytest.CaptureFixture[str], item: Item, line: str, total: str
) -> None:
    cleanup._show([item], "v", dry_run=True)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].endswith(f"would delete in vhost v: {total}")
    assert shown[1].endswith(line)
