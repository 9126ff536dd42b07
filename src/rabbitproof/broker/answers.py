"""What the Management API answers, as values.

Holds: the objects the project needs of the API, and how each is read from the broker's JSON.
Refuses to hold: HTTP, and judging what the numbers mean. Pure.

Rules: an answer is untrusted. A field that is missing, or of another type, is not a value: it
becomes None, never 0, False or an empty mapping, and never an exception. A text becomes an empty
one, which no name and no state is; where empty says something itself (who leads a queue, which
policy applies, where a binding comes from), it becomes None as well. Texts are as the broker sent
them: whoever shows one makes it safe first.

Fields: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

from rabbitproof.matching import UNTOLD
from rabbitproof.routing import Binding

_VOID: Final = "undefined"
_BYTES: Final = "Not UTF-8, base64 is: "
"""How RabbitMQ's API shows values that JSON has no form for (rabbit_mgmt_format.erl)."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Who answers: versions as the broker writes them."""

    rabbitmq: str
    erlang: str
    cluster: str
    node: str
    metrics: bool
    """Whether it knows more of queues than their depths: consumers, connections, alarms."""
    counts: bool
    """Whether it counts messages as they come and go as well, which rates are made of."""


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """One queue. What the broker does not tell is None; ``type`` and ``state`` are empty then."""

    name: str
    type: str
    durable: bool | None
    arguments: dict[str, Any] | None = field(hash=False)
    messages: int | None
    ready: int | None
    unacked: int | None
    consumers: int | None
    state: str
    policy: str | None = None
    """The name of the policy that applies; empty for none."""
    policy_definition: dict[str, Any] | None = field(default=None, hash=False)
    """What that policy and the operator's make of it together."""
    bytes: int | None = None
    """Of all bodies in it, some seconds ago."""


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """One exchange. What the broker does not tell is None; ``type`` is empty then."""

    name: str
    type: str
    internal: bool | None
    arguments: dict[str, Any] | None = field(hash=False)
    policy: str
    """The name of the policy that applies; empty for none."""
    published: int | None
    """Messages that came in; None as well when none ever did."""
    rate: float | None
    """Of those, a second, as the broker computed it last."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy."""

    pattern: str
    """The regular expression that the names match to which it may apply."""
    definition: dict[str, Any] = field(hash=False)


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
    # A broker without metrics says so, or leaves the totals out.
    metrics = answer.get("disable_stats") is not True and "queue_totals" in answer
    return Overview(
        rabbitmq=text(answer, "rabbitmq_version"),
        erlang=text(answer, "erlang_version"),
        cluster=text(answer, "cluster_name"),
        node=text(answer, "node"),
        metrics=metrics,
        counts=metrics and answer.get("rates_mode") != "none",
    )


def read_who(answer: dict[str, Any]) -> Who:
    """Read ``/api/whoami``."""
    tags = answer.get("tags") or []
    if isinstance(tags, str):  # old brokers give one string, with commas
        tags = tags.split(",")
    return Who(text(answer, "name"), tuple(map(str, tags)) if isinstance(tags, list) else ())


def read_exchange(answer: dict[str, Any]) -> ExchangeInfo | None:
    """Read one element of ``/api/exchanges``; None when it does not say its name."""
    name = told(answer, "name")
    stats = mapping(answer, "message_stats") or {}
    rate = (mapping(stats, "publish_in_details") or {}).get("rate")
    sound = isinstance(rate, int | float) and not isinstance(rate, bool) and rate >= 0
    return (
        name
        if name is None
        else ExchangeInfo(
            name=name,
            type=text(answer, "type"),
            internal=flag(answer, "internal"),
            arguments=read_arguments(answer),
            policy=text(answer, "policy"),
            published=count(stats, "publish_in"),
            rate=rate if sound else None,
        )
    )


def read_binding(answer: dict[str, Any]) -> Binding | None:
    """Read one element of ``/api/bindings``; None when it does not say what it binds."""
    source, destination, kind, key = (
        told(answer, name) for name in ("source", "destination", "destination_type", "routing_key")
    )
    if source is None or destination is None or kind is None or key is None:
        return None
    return Binding(source, destination, kind, key, read_arguments(answer))


def read_arguments(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return arguments as they were given, as far as the API's JSON tells.

    A void and the text ``undefined`` look the same there: that is ``UNTOLD``. Bytes that are no
    text come in base64 behind a sentence.
    """
    found = mapping(answer, "arguments")
    return None if found is None else {key: _argument(value) for key, value in found.items()}


def _argument(value: Any) -> Any:
    if value == _VOID:
        return UNTOLD
    if isinstance(value, str) and value.startswith(_BYTES):
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(value.removeprefix(_BYTES), validate=True)
    return value


def read_connection(answer: dict[str, Any]) -> ConnectionInfo:
    """Read one element of ``/api/connections``."""
    return ConnectionInfo(
        name=text(answer, "name"),
        client_name=text(mapping(answer, "client_properties") or {}, "connection_name"),
        user=text(answer, "user"),
        vhost=text(answer, "vhost"),
        state=text(answer, "state"),
    )


def read_queue(answer: dict[str, Any]) -> QueueInfo:
    """Read one queue, of ``/api/queues`` or alone."""
    return QueueInfo(
        name=text(answer, "name"),
        type=text(answer, "type"),
        durable=flag(answer, "durable"),
        arguments=mapping(answer, "arguments"),
        messages=count(answer, "messages"),
        ready=count(answer, "messages_ready"),
        unacked=count(answer, "messages_unacknowledged"),
        consumers=count(answer, "consumers"),
        state=text(answer, "state"),
        policy=read_policy(answer),
        policy_definition=mapping(answer, "effective_policy_definition"),
        bytes=count(answer, "message_bytes"),
    )


def read_policy(answer: dict[str, Any]) -> str | None:
    """Return the name of a queue's policy, empty for none (which is a null), None if not told."""
    return text(answer, "policy") if "policy" in answer else None


def text(answer: dict[str, Any], key: str) -> str:
    """Return a text; an empty one is what the broker does not tell."""
    return told(answer, key) or ""


def told(answer: dict[str, Any], key: str) -> str | None:
    """Return a text of which an empty one says something; None for what is not told."""
    value = answer.get(key)
    return value if isinstance(value, str) else None


def flag(answer: dict[str, Any], key: str) -> bool | None:
    """Return whether something is so."""
    value = answer.get(key)
    return value if isinstance(value, bool) else None


def count(answer: dict[str, Any], key: str) -> int | None:
    """Return a count; a negative one, which brokers give at times, is none."""
    value = answer.get(key)
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if sound else None


def mapping(answer: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return an object; an empty one may come as [], Erlang's empty list."""
    value = answer.get(key)
    return {} if value == [] else value if isinstance(value, dict) else None
