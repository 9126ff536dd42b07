"""What of a vhost decides on routing, as its broker tells it.

Holds: how the answers of the Management API become a ``Vhost``. Refuses to hold: its rules
(``routing``). What the API does not tell becomes None there and is not guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rabbitproof.errors import ManagementError, ManagementUnreachable
from rabbitproof.routing import DyingQueue, Exchange, Vhost

if TYPE_CHECKING:
    from rabbitproof.broker.answers import ExchangeInfo, QueueInfo
    from rabbitproof.broker.management import Management

Policies = dict[str, dict[str, Any]] | None
"""What each policy defines, by its name; None: this login may not ask."""


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
        [queue_of(one, policies) for one in api.queues_with_policies(vhost)],
        api.bindings(vhost),
        tuple(map(int, re.findall(r"\d+", api.overview().rabbitmq)[:3])),
    )


def exchange_of(info: ExchangeInfo, policies: Policies) -> Exchange:
    """Return an exchange with what its policy defines."""
    policy = {} if not info.policy else (policies or {}).get(info.policy)
    return Exchange(info.name, info.type, info.internal, info.arguments, policy)


def queue_of(info: QueueInfo, policies: Policies) -> DyingQueue:
    """Return a queue with what its policies define.

    Without metrics RabbitMQ before 4.0 tells of these the name alone, and only of the user's: all
    that an operator's could say of dead letters is nothing.
    """
    policy = info.policy_definition
    if policy is None and info.policy is not None:
        policy = {} if not info.policy else (policies or {}).get(info.policy)
    return DyingQueue(info.name, info.type, info.arguments, policy)
