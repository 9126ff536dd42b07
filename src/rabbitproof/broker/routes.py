"""What of a vhost decides on routing, as its broker tells it.

Holds: how the answers of the Management API become a ``Vhost``. Refuses to hold: its rules
(``routing``). What the API does not tell becomes None there and is not guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.broker.answers import Policy
from rabbitproof.errors import ManagementError, ManagementUnreachable
from rabbitproof.routing import DyingQueue, Exchange, Vhost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rabbitproof.broker.answers import ExchangeInfo, QueueInfo
    from rabbitproof.broker.management import Management

_DECIDING: Final = {"dead-letter-exchange", "dead-letter-routing-key", "overflow"}
"""What a policy may define that decides where dead letters go."""

Policies = dict[str, Policy] | None
"""By their names; None: this login may not ask."""


def policies_of(api: Management, vhost: str) -> Policies:
    """Return the policies of a vhost."""
    try:
        return api.policies(vhost)
    except ManagementUnreachable:
        raise
    except ManagementError:
        return None


def read_vhost(api: Management, vhost: str) -> Vhost:
    """Ask for all that decides on routing in a vhost: five requests."""
    policies = policies_of(api, vhost)
    return Vhost(
        [exchange_of(one, policies) for one in api.exchanges(vhost)],
        queues_of(api, vhost, policies),
        api.bindings(vhost),
        tuple(map(int, re.findall(r"\d+", api.overview().rabbitmq)[:3])),
    )


def exchange_of(info: ExchangeInfo, policies: Policies) -> Exchange:
    """Return an exchange with what its policy defines."""
    policy = _named(info.policy, policies) if info.policy else {}
    return Exchange(info.name, info.type, info.internal, info.arguments, policy)


def queues_of(api: Management, vhost: str, policies: Policies) -> list[DyingQueue]:
    """Return the queues of a vhost with what their policies define."""
    # Without policies the metrics know what is in effect, though of a new queue some seconds later.
    infos = (
        api.queues_with_policies(vhost) if policies is None else api.queue_totals(vhost).values()
    )
    return [
        DyingQueue(one.name, one.type, one.arguments, _policy_of(one, policies)) for one in infos
    ]


def _policy_of(info: QueueInfo, policies: Policies) -> dict[str, Any] | None:
    """Return what is in effect for a queue; None: not told.

    An operator's policies say nothing of dead letters, and are not asked for.
    """
    if info.policy_definition is not None:
        return info.policy_definition
    if info.policy:
        return _named(info.policy, policies)
    # RabbitMQ tells the name of a policy that applies, and leaves it out where none does, or where
    # it does not know. So nothing is known where one might.
    if info.policy is None and (policies is None or any(_may_fit(info, policies.values()))):
        return None
    return {}


def _may_fit(info: QueueInfo, policies: Iterable[Policy]) -> Iterator[bool]:
    for policy in policies:
        if _DECIDING & policy.definition.keys():
            yield may_apply(policy, info.name)


def may_apply(policy: Policy, name: str) -> bool:
    """Say whether a policy's pattern fits a name, or nobody knows."""
    try:
        return re.search(policy.pattern, name) is not None
    except re.error:  # Erlang's expressions are not quite Python's
        return True


def _named(name: str, policies: Policies) -> dict[str, Any] | None:
    policy = (policies or {}).get(name)
    return None if policy is None else policy.definition
