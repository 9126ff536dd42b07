"""What the Management API answers, as values.

Holds: the objects the project needs of the API, and how each is read from the broker's JSON.
Refuses to hold: HTTP, and judging what the numbers mean. Pure.

Rules: an answer is untrusted. A field that is missing or of another type becomes an empty
text, an empty mapping or None, never an exception; a count that the broker does not give is
None, never 0. Texts are as the broker sent them: whoever shows one makes it safe first.

Fields: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Overview:
    """Who answers: versions as the broker writes them. ``metrics`` tells whether it counts."""

    rabbitmq: str
    erlang: str
    cluster: str
    node: str
    metrics: bool


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """One queue. Counts are None where the broker does not give them."""

    name: str
    type: str
    durable: bool
    arguments: dict[str, Any] = field(hash=False)
    messages: int | None
    ready: int | None
    unacked: int | None
    consumers: int | None
    state: str
    policy: str = ""
    """The name of the policy that applies; empty for none."""
    policy_definition: dict[str, Any] = field(default_factory=dict, hash=False)
    """What that policy and the operator's make of it together."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding; ``source`` is empty for the default exchange."""

    source: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One AMQP connection. ``name`` identifies it; ``client_name`` is what the client says."""

    name: str
    client_name: str
    user: str
    vhost: str
    state: str


@dataclass(frozen=True, slots=True)
class Who:
    """The login as the broker sees it."""

    name: str
    tags: tuple[str, ...]


def read_overview(answer: dict[str, Any]) -> Overview:
    """Read ``/api/overview``."""
    return Overview(
        rabbitmq=_text(answer, "rabbitmq_version"),
        erlang=_text(answer, "erlang_version"),
        cluster=_text(answer, "cluster_name"),
        node=_text(answer, "node"),
        # A broker without metrics says so, or leaves the totals out.
        metrics=answer.get("disable_stats") is not True and "queue_totals" in answer,
    )


def read_who(answer: dict[str, Any]) -> Who:
    """Read ``/api/whoami``."""
    tags = answer.get("tags") or []
    if isinstance(tags, str):  # old brokers give one string, with commas
        tags = tags.split(",")
    return Who(_text(answer, "name"), tuple(map(str, tags)) if isinstance(tags, list) else ())


def read_binding(answer: dict[str, Any]) -> Binding:
    """Read one element of ``/api/bindings``."""
    return Binding(
        source=_text(answer, "source"),
        destination=_text(answer, "destination"),
        destination_type=_text(answer, "destination_type"),
        routing_key=_text(answer, "routing_key"),
        arguments=_mapping(answer, "arguments"),
    )


def read_connection(answer: dict[str, Any]) -> ConnectionInfo:
    """Read one element of ``/api/connections``."""
    return ConnectionInfo(
        name=_text(answer, "name"),
        client_name=_text(_mapping(answer, "client_properties"), "connection_name"),
        user=_text(answer, "user"),
        vhost=_text(answer, "vhost"),
        state=_text(answer, "state"),
    )


def read_queue(answer: dict[str, Any]) -> QueueInfo:
    """Read one queue, of ``/api/queues`` or alone."""
    return QueueInfo(
        name=_text(answer, "name"),
        type=_text(answer, "type") or "classic",
        durable=answer.get("durable") is True,
        arguments=_mapping(answer, "arguments"),
        messages=_count(answer, "messages"),
        ready=_count(answer, "messages_ready"),
        unacked=_count(answer, "messages_unacknowledged"),
        consumers=_count(answer, "consumers"),
        state=_text(answer, "state"),
        policy=_text(answer, "policy"),
        policy_definition=_mapping(answer, "effective_policy_definition"),
    )


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""


def _count(answer: dict[str, Any], key: str) -> int | None:
    value = answer.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(answer: dict[str, Any], key: str) -> dict[str, Any]:
    value = answer.get(key)  # an empty one may come as [], Erlang's empty list
    return value if isinstance(value, dict) else {}
