"""The Management API as a real broker speaks it. Nothing here stays in the broker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

from rabbitproof.broker.management import Management
from rabbitproof.errors import ManagementError, ManagementUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 30.0
"""Seconds for what the metrics show at their next turn, every 5 s."""


@pytest.fixture
def api(node: Any) -> Iterator[Management]:
    with Management(node.management_url, node.username, node.password) as client:
        yield client


@pytest.fixture
def channel(vhost: Any) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    parameters = pika.URLParameters(vhost.url)
    parameters.client_properties = {"connection_name": f"test of {vhost.name}"}
    connection = pika.BlockingConnection(parameters)
    yield connection.channel()
    if connection.is_open:
        connection.close()


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)  # the API can only be asked again
    return result


def test_the_broker_tells_who_it_is(api: Management, node: Any) -> None:
    overview = api.overview()
    assert overview.rabbitmq[0].isdigit()
    assert overview.erlang[0].isdigit()
    assert overview.cluster
    assert "@" in overview.node
    assert overview.metrics
    assert api.whoami().name == node.username


@pytest.mark.parametrize("name", ["plain", "a/b", "...", "a b%2F?#é"])
def test_a_queue_of_any_name_is_found_and_deleted(
    api: Management, vhost: Any, channel: Any, name: str
) -> None:
    assert api.queue(vhost.name, name) is None
    channel.queue_declare(name, durable=True, arguments={"x-max-length": 7})
    channel.confirm_delivery()
    channel.basic_publish("", name, b"x")
    eventually(
        # Before 3.13 the API knows no count of a queue until its first statistics, 5 s later.
        lambda: (found := api.queue(vhost.name, name)) is not None and found.messages is not None
    )
    queue = api.queue(vhost.name, name)
    assert queue is not None
    assert (queue.name, queue.type, queue.durable) == (name, "classic", True)
    assert queue.arguments["x-max-length"] == 7
    assert (queue.messages, queue.ready, queue.unacked) == (1, 1, 0)
    assert api.queue_totals(vhost.name)[name].messages == 1
    with pytest.raises(ManagementError):
        api.delete_queue(vhost.name, name, if_empty=True)
    assert api.delete_queue(vhost.name, name)
    assert not api.delete_queue(vhost.name, name)


def test_consumers_are_known_once_the_metrics_are(
    api: Management, vhost: Any, channel: Any
) -> None:
    channel.queue_declare("q")
    channel.basic_consume("q", lambda *_: None)

    def consumers() -> bool:
        queue = api.queue(vhost.name, "q")
        return queue is not None and queue.consumers == 1

    eventually(consumers)


def test_bindings_are_listed_and_keep_an_exchange_from_deletion(
    api: Management, vhost: Any, channel: Any
) -> None:
    channel.exchange_declare("e", "direct")
    channel.queue_declare("q")
    channel.queue_bind("q", "e", "work")
    found = {(b.source, b.destination, b.routing_key) for b in api.bindings(vhost.name)}
    assert found == {("", "q", "q"), ("e", "q", "work")}
    assert {b.source for b in api.bindings(vhost.name, queue="q")} == {"", "e"}
    assert [b.routing_key for b in api.bindings(vhost.name, exchange="e")] == ["work"]
    with pytest.raises(ManagementError):
        api.delete_exchange(vhost.name, "e", if_unused=True)
    assert api.delete_exchange(vhost.name, "e")
    assert not api.delete_exchange(vhost.name, "e")


def test_a_vhost_is_made_entered_and_deleted(api: Management, node: Any, vhost: Any) -> None:
    name = f"{vhost.name}/another"
    api.create_vhost(name)
    try:
        api.create_vhost(name)
        api.set_permissions(name, node.username)
        assert api.queue_totals(name) == {}
    finally:
        assert api.delete_vhost(name)
    assert not api.delete_vhost(name)


def test_what_the_broker_refuses_is_an_error_with_its_reason(api: Management, vhost: Any) -> None:
    with pytest.raises(ManagementError, match="refused"):
        api.delete_exchange(vhost.name, "amq.direct")
    with pytest.raises(ManagementError):
        api.set_permissions(vhost.name, "nobody-of-that-name")


def test_a_connection_is_found_by_its_clients_name_and_closed(
    api: Management, vhost: Any, channel: Any
) -> None:
    def mine() -> list[str]:
        return [c.name for c in api.connections() if c.client_name == f"test of {vhost.name}"]

    (name,) = eventually(mine)
    assert api.close_connection(name, "enough")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="enough"):
        channel.connection.process_data_events(DEADLINE)


def test_a_wrong_password_is_refused(node: Any) -> None:
    with (
        Management(node.management_url, node.username, "wrong") as client,
        pytest.raises(ManagementError, match="401") as caught,
    ):
        client.overview()
    assert "wrong" not in str(caught.value)


def test_the_amqp_port_is_no_management_api(node: Any) -> None:
    port = pika.URLParameters(node.url).port
    with (
        Management(f"http://127.0.0.1:{port}", node.username, node.password) as client,
        pytest.raises(ManagementUnreachable),
    ):
        client.overview()
