"""Deleting queues and exchanges, with pika's eyes on what is gone and what is not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pika
import pika.exceptions
import pytest

from rabbitproof.broker.management import Management
from rabbitproof.errors import ManagementError
from rabbitproof.work import cleanup
from support import connector, drive, eventually, producer, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.amqp.connection import Connection

ODD_NAMES = ("a/b", "100%", "%2F", "two words", "🐰", "--yes", "-", "..", ".", "a?b#c")


@pytest.fixture
def api(node: Any) -> Iterator[Management]:
    with Management(node.management_url, node.username, node.password) as opened:
        yield opened


@pytest.fixture
def connection(vhost: Any) -> Iterator[Connection]:
    with connector(vhost.url)() as opened:
        yield opened


def exists(url: str, queue: str) -> bool:
    with witness(url) as channel:
        try:
            channel.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
    return True


def names_of(api: Management, vhost: Any) -> set[str]:
    return {one.name for one in api.exchanges(vhost.name)}


def delete(
    connection: Connection, api: Management, vhost: str, what: cleanup.What, *names: str
) -> list[cleanup.Deleted]:
    items = cleanup.plan(connection, api, vhost, what, names)
    return list(cleanup.carry_out(connection, api, vhost, what, items))


def test_queues_of_any_name_are_deleted_and_no_other(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """Names with slashes, percent signs, blanks, emoji and dashes mean themselves."""
    with witness(vhost.url) as channel:
        for name in (*ODD_NAMES, "stays"):
            channel.queue_declare(name, durable=True)
    results = delete(connection, api, vhost.name, "queues", *ODD_NAMES, "not there")
    assert [result.ok for result in results] == [True] * len(ODD_NAMES) + [False]
    assert not results[-1].found
    assert not any(exists(vhost.url, name) for name in ODD_NAMES)
    assert exists(vhost.url, "stays")


def test_a_plan_counts_messages_and_consumers(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """What will be lost is known before: messages in the queue, consumers on it."""
    drive(producer(vhost.url, 123))
    with witness(vhost.url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("work.queue", lambda *_: None)
        channel.queue_declare("other", durable=True)
        (item,) = cleanup.plan(connection, api, vhost.name, "queues", ["work.queue"])
        assert item.consumers == 1
        assert item.messages in {122, 123}, "at least what is ready"
        (result,) = cleanup.carry_out(connection, api, vhost.name, "queues", [item])
    assert result.ok
    assert not exists(vhost.url, "work.queue")


def test_all_leaves_rabbitmqs_own_and_other_vhosts(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """After `all` only amq.… and the default exchange are there; a second one finds nothing.

    A queue whose name RabbitMQ chose is no less somebody's.
    """
    drive(producer(vhost.url, 10))
    with witness(vhost.url) as channel:
        own = channel.queue_declare("", durable=True).method.queue  # amq.gen-…
        results = delete(connection, api, vhost.name, "all")
        names = {(one.item.kind, one.item.name) for one in results}
        assert names == {
            ("queue", "work.queue"),
            ("queue", "audit.queue"),
            ("queue", own),
            ("exchange", "direct.exchange"),
        }
        assert all(one.ok for one in results)
        assert not exists(vhost.url, own)
        assert {name for name in names_of(api, vhost) if not name.startswith("amq.")} == {""}
        assert cleanup.plan(connection, api, vhost.name, "all") == ()


def test_exchanges_are_those_that_nothing_uses(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """Bound on either side, named by or naming another, named by a queue or a policy: it stays."""
    drive(producer(vhost.url, 1))
    define(api, vhost, "dl", {"dead-letter-exchange": "dlx.policy"}, "queues")
    define(api, vhost, "ae", {"alternate-exchange": "catch.policy"}, "exchanges")
    with witness(vhost.url) as channel:
        for name in ("unused", "from", "to", "catch", "catch.policy", "dlx", "dlx.policy", "none"):
            channel.exchange_declare(name, "fanout", durable=True)
        ours = {"alternate-exchange": "catch"}
        channel.exchange_declare("in", "direct", durable=True, arguments=ours)
        channel.exchange_declare("by policy", "direct", durable=True)
        channel.exchange_bind("to", "from")
        channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "dlx"})
    items = cleanup.plan(connection, api, vhost.name, "exchanges")
    assert {one.name: one.kept for one in items} == {
        "by policy": "what comes to it goes on to its alternate exchange 'catch.policy'",
        "catch": "it is the alternate exchange of 'in'",
        "catch.policy": "it is the alternate exchange of 'by policy'",
        "direct.exchange": "it leads to the queue 'audit.queue'",
        "dlx": "it is the dead letter exchange of the queue 'q'",
        "dlx.policy": "the policy 'dl' names it as dead-letter-exchange",
        "from": "it leads to the exchange 'to'",
        "in": "what comes to it goes on to its alternate exchange 'catch'",
        "none": "",
        "to": "the exchange 'from' leads to it",
        "unused": "",
    }
    results = list(cleanup.carry_out(connection, api, vhost.name, "exchanges", items))
    assert [(one.item.name, one.ok) for one in results] == [("none", True), ("unused", True)]
    assert {one.name for one in items if one.kept} <= names_of(api, vhost)


def define(api: Management, vhost: Any, name: str, definition: dict[str, str], kind: str) -> None:
    """Make a policy for what is called `by policy`; of queues there is none."""
    body = {"pattern": "^by policy$", "definition": definition, "apply-to": kind}
    api._request("PUT", "policies", vhost.name, name, body=body)


@pytest.mark.slow  # for the broker computes rates every five seconds
def test_an_exchange_into_which_messages_come_stays(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """Bound to nothing, and its publisher would still be refused without it."""

    def plan() -> cleanup.Item:
        (item,) = cleanup.plan(connection, api, vhost.name, "exchanges")
        return item

    with witness(vhost.url) as channel:
        channel.exchange_declare("events", "fanout", durable=True)

        def comes_in() -> bool:
            channel.basic_publish("events", "", b"")
            return "messages a second come in" in plan().kept

        assert plan().kept == ""
        eventually(comes_in, "a rate above 0", 40)


def test_an_exchange_that_was_bound_meanwhile_stays(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """Between the look and the deletion somebody may have begun to use it."""
    with witness(vhost.url) as channel:
        channel.exchange_declare("unused", "fanout", durable=True)
        items = cleanup.plan(connection, api, vhost.name, "exchanges")
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "unused")
    (result,) = cleanup.carry_out(connection, api, vhost.name, "exchanges", items)
    assert (result.ok, result.found) == (False, True)
    assert "unused" in names_of(api, vhost)


def test_a_queue_that_belongs_to_a_living_connection_says_why_it_stays(
    vhost: Any, api: Management, connection: Connection
) -> None:
    with witness(vhost.url) as channel:
        own = channel.queue_declare("", exclusive=True).method.queue
        (result,) = delete(connection, api, vhost.name, "queues", own)
        assert not result.ok
        assert result.found
        assert "exclusive" in result.why


def test_two_cleanups_at_once_delete_everything_once(
    vhost: Any, node: Any, api: Management, connection: Connection
) -> None:
    """Each queue is deleted by one of them and not found by the other; neither fails otherwise."""
    with witness(vhost.url) as channel:
        for i in range(30):
            channel.queue_declare(f"q{i}", durable=True)
    items = cleanup.plan(connection, api, vhost.name, "all")
    found: list[list[cleanup.Deleted]] = []
    together = threading.Barrier(2)

    def one() -> None:
        with (
            connector(vhost.url)() as mine,
            Management(node.management_url, node.username, node.password) as its,
        ):
            together.wait()
            found.append(list(cleanup.carry_out(mine, its, vhost.name, "all", items)))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for first, second in zip(*found, strict=True):
        assert first.ok or second.ok
        for result in (first, second):
            assert result.ok or not result.found, result.why
    assert cleanup.plan(connection, api, vhost.name, "all") == ()


def test_an_exclusive_queue_of_somebody_else_is_a_failure_that_says_why(
    vhost: Any, api: Management, connection: Connection
) -> None:
    """The broker's reason is told, and the rest is deleted all the same."""
    with witness(vhost.url) as channel:
        channel.queue_declare("theirs", exclusive=True)
        channel.queue_declare("ours", durable=True)
        results = {one.item.name: one for one in delete(connection, api, vhost.name, "all")}
    assert results["ours"].ok
    assert not results["theirs"].ok
    assert "exclusive" in results["theirs"].why


def test_two_clusters_are_refused(vhost: Any, node: Any, connection: Connection) -> None:
    """Nothing is planned when the Management API belongs to another broker."""

    class Elsewhere(Management):
        def overview(self) -> Any:
            theirs = super().overview()
            return type(theirs)(
                theirs.rabbitmq, theirs.erlang, "another", "x", metrics=True, counts=True
            )

    with (
        Elsewhere(node.management_url, node.username, node.password) as api,
        pytest.raises(ManagementError, match="another"),
    ):
        cleanup.plan(connection, api, vhost.name, "all")
