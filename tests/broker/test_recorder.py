"""What stands in a ledger beside the messages: who, on what, how deep, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from rabbitproof.broker.management import Management
from rabbitproof.identity import Source, new_run
from rabbitproof.proof.record import read
from rabbitproof.proof.verify import verify
from rabbitproof.work import consume, produce
from rabbitproof.work.recorder import LedgerRecorder
from support import connector, drive, topology, witness

if TYPE_CHECKING:
    from pathlib import Path


def recorder(folder: Path, node: Any, vhost: Any, **values: Any) -> LedgerRecorder:
    return LedgerRecorder(
        folder,
        vhost=vhost.name,
        open_api=lambda: Management(node.management_url, node.username, node.password),
        connect=connector(vhost.url, "depths"),
        **values,
    )


def test_a_producers_ledger_says_what_it_published_to_and_how_deep_that_was(
    node: Any, vhost: Any, tmp_path: Path
) -> None:
    """Effective arguments and policy by the Management API; depth over time; counts at the end."""
    with httpx.Client(
        base_url=f"{node.management_url}/api", auth=(node.username, node.password), trust_env=False
    ) as api:
        policy = {"pattern": "^work", "definition": {"max-length": 5000}, "apply-to": "queues"}
        api.put(f"/policies/{vhost.name}/short", json=policy).raise_for_status()
    task = produce.Task(
        topology(), Source(new_run(), 1), count=1300, rate=1000, persistent=True, sender="me"
    )
    keeper = recorder(tmp_path, node, vhost, options={"addresses": []})
    drive(produce.Producer(task, connector(vhost.url), keeper))
    assert keeper.path is not None
    record = read(keeper.path)
    header = record.header
    assert (header.kind, header.run, header.name) == ("producer", task.source.run, "me")
    assert header.versions["rabbitmq"]
    assert header.options["count"] == 1300
    work, audit = header.topology.queues
    assert (work.role, audit.role) == ("work", "audit")
    assert work.effective is not None
    assert work.effective.policy == "short"
    assert work.effective.policy_definition == {"max-length": 5000}
    assert audit.effective is not None
    assert audit.effective.policy in {None, ""}  # not told yet, or none
    assert (work.messages, audit.messages) == (0, 0)
    assert record.end is not None
    assert record.end.counts == {"work.queue": 1300, "audit.queue": 1300}
    assert record.end.consumers == {"work.queue": 0, "audit.queue": 0}
    depths = [one.values["depth"]["work.queue"] for one in record.samples if "depth" in one.values]
    assert len(record.samples) >= 3
    assert depths == sorted(depths)
    assert 0 < depths[-1] <= 1300
    assert [event.name for event in record.events] == ["connected"]


@pytest.mark.slow
def test_a_loss_in_a_quorum_queue_is_proven_by_two_sources(
    node: Any, vhost: Any, tmp_path: Path
) -> None:
    """Its own count of 0 may be wrong, so the Management API is asked as well, after its report."""
    wiring = topology(audit=None, kind="quorum")
    task = produce.Task(wiring, Source(new_run(), 1), count=1000, persistent=True)
    drive(produce.Producer(task, connector(vhost.url), recorder(tmp_path, node, vhost)))
    with witness(vhost.url) as channel:
        for _ in range(3):
            method, _, _ = channel.basic_get("work.queue")
        channel.basic_ack(method.delivery_tag)
    reading = consume.Task("work.queue", idle_timeout=1.0)
    drive(consume.Consumer(reading, connector(vhost.url), recorder(tmp_path, node, vhost)))
    verdict = verify([tmp_path]).verdict
    assert str(verdict.decision) == "FAIL", verdict
    queue = verdict.queues["work.queue"]
    assert (queue.lost, [int(text[-12:], 16) for text in queue.lost_ids]) == (1, [3])
