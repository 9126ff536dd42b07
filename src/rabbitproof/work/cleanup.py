"""Deleting queues and exchanges: what would go, and its going.

Two steps, so that a person can look in between: ``plan`` finds out what is there and how much it
holds, ``carry_out`` deletes it and says of each whether it is gone.

Rules: before anything is planned, AMQP and the Management API have to name the same cluster.
An exchange called ``amq.…`` is RabbitMQ's own and never touched, nor is the default one; a queue
of such a name is somebody's who let RabbitMQ choose it. Who
else deletes at the same time is no error of ours: what is gone by then is "not found". An exchange
is in use when it is bound, when anything names it or it names another, and when messages come in;
of ``exchanges``, such stay.
Refuses to know who is asked and how (``cli``).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rabbitproof.amqp import methods
from rabbitproof.broker.routes import exchange_of, policies_of, queues_of
from rabbitproof.errors import ChannelClosed, ManagementError, ManagementUnreachable, NotFound
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.broker.management import Management

What = Literal["all", "exchanges", "queues"]

BUILT_IN = "amq."
"""How the names of exchanges begin that RabbitMQ keeps for itself (AMQP 0-9-1, section 3.1.3)."""
_UNNAMEABLE = (".", "..")
"""Names that cannot stand in a path of the Management API."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is to be deleted."""

    kind: Literal["queue", "exchange"]
    name: str
    messages: int | None = None
    """None: not known, and for an exchange."""
    more: bool = False
    """Whether there may be more: nobody tells how many are unacknowledged."""
    consumers: int | None = None
    found: bool = True
    """False: there is no such queue."""
    published: int | None = None
    """Messages that came to an exchange so far, none lately; None: none, or not told."""
    kept: str = ""
    """Why an exchange stays: what it is in use for; a clause, safe to show."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of one item; ``why`` it is still there, or ``found`` is False."""

    item: Item
    ok: bool
    found: bool = True
    why: str = ""


def require_same_cluster(connection: Connection, api: Management) -> None:
    """Raise ManagementError unless both addresses lead to the same cluster."""
    amqp = str(connection.server_properties.get("cluster_name", ""))
    http = api.overview().cluster
    if not amqp or amqp != http:
        raise ManagementError(
            f"AMQP leads to the cluster '{safe(amqp)}' and the Management API to '{safe(http)}'; "
            "nothing was done. Name both of the same broker with --url and --management-url."
        )


def plan(
    connection: Connection, api: Management, vhost: str, what: What, names: Sequence[str] = ()
) -> tuple[Item, ...]:
    """Return what there is to delete, queues first; ``names`` are the queues for ``queues``."""
    require_same_cluster(connection, api)
    if what == "queues":
        return tuple(_look(connection, api, vhost, name) for name in dict.fromkeys(names))
    found: list[Item] = []
    if what == "all":
        for name, info in sorted(api.queue_totals(vhost).items()):
            seen = _look(connection, api, vhost, name, known=info.messages)
            if seen.found:
                found.append(seen)
    exchanges = [
        one for one in api.exchanges(vhost) if one.name and not one.name.startswith(BUILT_IN)
    ]
    uses = _uses(api, vhost) if what == "exchanges" else {}
    return (
        *found,
        *(
            Item("exchange", one.name, published=one.published, kept=uses.get(one.name, ""))
            for one in sorted(exchanges, key=lambda one: one.name)
        ),
    )


def _uses(api: Management, vhost: str) -> dict[str, str]:
    """Return what each exchange in use is in use for."""
    policies = policies_of(api, vhost)
    uses: dict[str, str] = {}

    def use(name: str | None, why: str) -> None:
        if name is not None:
            uses.setdefault(name, why)

    for binding in api.bindings(vhost):
        if binding.source:
            use(binding.source, f"it leads to the {binding.destination_type} "
                f"'{safe(binding.destination)}'")  # fmt: skip
            if binding.destination_type == "exchange":
                use(binding.destination, f"the exchange '{safe(binding.source)}' leads to it")
    for exchange in api.exchanges(vhost):
        if exchange.rate:
            use(exchange.name, f"{exchange.rate:,.1f} messages a second come in")
        try:
            alternate = exchange_of(exchange, policies).alternate
        except LookupError:
            use(exchange.name, "whether it has an alternate exchange is not told")
            continue
        if alternate is not None:
            use(exchange.name, f"what comes to it goes on to its alternate exchange "
                f"'{safe(alternate)}'")  # fmt: skip
            use(alternate, f"it is the alternate exchange of '{safe(exchange.name)}'")
    for queue in queues_of(api, vhost, policies):
        with contextlib.suppress(LookupError):
            use(queue.exchange,
                f"it is the dead letter exchange of the queue '{safe(queue.name)}'")  # fmt: skip
    for name, policy in (policies or {}).items():
        for key in ("alternate-exchange", "dead-letter-exchange"):
            if isinstance(wanted := policy.definition.get(key), str):
                use(wanted, f"the policy '{safe(name)}' names it as {key}")
    return uses


def carry_out(
    connection: Connection, api: Management, vhost: str, what: What, items: Iterable[Item]
) -> Iterator[Deleted]:
    """Delete these one after another and yield what became of each."""
    for item in items:
        if item.kept:
            continue
        if not item.found:
            yield Deleted(item, ok=False, found=False)
        else:
            yield _delete(connection, api, vhost, item, if_unused=what == "exchanges")


def _look(
    connection: Connection, api: Management, vhost: str, name: str, known: int | None = None
) -> Item:
    """Ask the queue itself for what it holds; its unacknowledged messages only the API knows."""
    channel = connection.open_channel()
    try:
        seen = wiring.look_again(connection, channel, name)
    except NotFound:
        return Item("queue", name, found=False)
    except ChannelClosed:  # exclusive, or not for this login: what deleting it says will do
        return Item("queue", name, known)
    connection.call(channel, methods.CLOSE)
    if known is None and name not in _UNNAMEABLE:
        info = api.queue(vhost, name)
        known = None if info is None else info.messages
    ready = int(seen.message_count or 0)
    return Item(
        "queue",
        name,
        max(ready, known or 0),
        more=known is None,
        consumers=int(seen.consumer_count or 0),
    )


def _delete(
    connection: Connection, api: Management, vhost: str, item: Item, *, if_unused: bool
) -> Deleted:
    try:
        if item.name in _UNNAMEABLE:
            _delete_over_amqp(connection, item, if_unused=if_unused)
            return Deleted(item, ok=True)
        if item.kind == "queue":
            there = api.delete_queue(vhost, item.name)
        else:
            there = api.delete_exchange(vhost, item.name, if_unused=if_unused)
    except ManagementUnreachable:
        raise
    except (ManagementError, ChannelClosed) as refusal:
        return Deleted(item, ok=False, why=str(refusal))
    return Deleted(item, ok=there, found=there)


def _delete_over_amqp(connection: Connection, item: Item, *, if_unused: bool) -> None:
    channel = connection.open_channel()
    if item.kind == "queue":
        connection.call(channel, methods.QueueDelete(queue=item.name))
    else:
        connection.call(channel, methods.ExchangeDelete(exchange=item.name, if_unused=if_unused))
    connection.call(channel, methods.CLOSE)
