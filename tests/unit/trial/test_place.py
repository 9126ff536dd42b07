"""What makes a broker one that a trial may work on."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from rabbitproof.trial import place

if TYPE_CHECKING:
    from rabbitproof.broker.management import Management


@pytest.mark.parametrize(
    ("amqp", "http", "made"),
    [("c", "c", True), ("c", "d", False), ("c", "", False), ("", "", False)],
)
def test_a_vhost_is_made_only_where_both_name_the_same_cluster(
    amqp: str, http: str, made: bool
) -> None:
    did: list[str] = []
    api: Any = SimpleNamespace(
        overview=lambda: SimpleNamespace(cluster=http),
        create_vhost=lambda name, _: did.append(name),
        set_permissions=lambda *_: None,
    )
    problem = place._make_vhost(cast("Management", api), "v", amqp, "guest")
    assert (did, problem is None) == ((["v"], True) if made else ([], False))
