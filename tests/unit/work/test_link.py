"""Which errors may pass by themselves."""

import pytest

from rabbitproof.address import parse
from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import (
    AccessRefused,
    BrokerUnreachable,
    ConnectionClosed,
    ConnectionLost,
    NotFound,
    Overdue,
    PreconditionFailed,
)
from rabbitproof.work.link import has_others, lacks_replica, passes

NO_QUEUE = "NOT_FOUND - no queue 'work.queue' in vhost '/'"
DOWN = "NOT_FOUND - home node 'a@b' of durable queue 'work.queue' in vhost '/' is down"
NO_COPY = (
    "PRECONDITION_FAILED - queue 'queue 'audit.queue' in vhost '/'' does not have a replica on "
    "the local node"
)
OTHER = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'work.queue' in vhost '/'"


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (ConnectionLost(), True),
        (BrokerUnreachable(), True),
        (Overdue("."), True),
        (NotFound(NO_QUEUE, code=404, reply=NO_QUEUE), False),
        (NotFound(DOWN, code=404, reply=DOWN), True),
        (ConnectionClosed("", code=541, reply="INTERNAL_ERROR"), True),
        (ConnectionClosed("", code=530, reply="NOT_ALLOWED"), False),
        (PreconditionFailed("", code=406, reply=NO_COPY), True),
        (PreconditionFailed("", code=406, reply=OTHER), False),
        (AccessRefused("", code=403, reply="ACCESS_REFUSED"), False),
    ],
)
def test_what_passes_by_itself(error: Exception, may_pass: bool) -> None:
    """A broker that is away comes back; what was refused stays refused."""
    assert passes(error) is may_pass


def test_a_stream_without_a_copy_here() -> None:
    """It is told from other refusals, and where there are several brokers another one has it."""
    newer = NO_COPY.replace("have a replica", "have a running replica")  # as 4.3 says it
    for reply in (NO_COPY, newer):
        assert lacks_replica(PreconditionFailed("", code=406, reply=reply))
    assert not lacks_replica(PreconditionFailed("", code=406, reply=OTHER))
    assert has_others(Dialer(parse("amqp://a,amqp://b"), "x"))
    assert not has_others(Dialer(parse("amqp://a"), "x"))
