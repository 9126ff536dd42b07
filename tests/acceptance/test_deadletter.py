"""Dead letters as a person types it."""

from __future__ import annotations

import json
import re
from typing import Any

import pika

from support import eventually, ready, witness


def test_found_listed_shown_and_sent_back(shell: Any, vhost: Any) -> None:
    """Which queues hold some, what died and why, one by one, and back again; odd text is safe."""
    with witness(vhost.url) as channel:
        channel.queue_declare("dead %2F 🐰", durable=True)
        channel.queue_declare(
            "work",
            durable=True,
            arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "dead %2F 🐰",
            },
        )
        for n in range(5):
            odd = pika.BasicProperties(message_id=f"m{n}\x1b[2J", headers={"k": "\u202e"})
            channel.basic_publish("", "work", b"\x1b]0;x\x07", odd)
        for _ in range(5):
            method = channel.basic_get("work")[0]
            channel.basic_reject(method.delivery_tag, requeue=False)
    eventually(lambda: ready(vhost.url, "dead %2F 🐰") == 5, "dead letters")
    found = shell.run("deadletter", "list")
    assert found.stdout == "dead %2F 🐰: 5 messages\n"
    queue = ("--queue", "dead %2F 🐰")
    listed = shell.run("deadletter", "list", *queue)
    assert re.match(r"5 rejected in work, first in work, oldest \d{4}-", listed.stdout)
    shown = shell.run("deadletter", "show", *queue, "--limit", "2")
    assert shown.stdout.count("rejected in work") == 2
    assert not re.search("[\x07\x1b\u202e]", shown.stdout)
    as_json = shell.run("deadletter", "show", *queue, "--json").stdout.splitlines()
    assert json.loads(as_json[0])["message_id"] == "m0\x1b[2J"
    unasked = shell.run("deadletter", "retry", *queue)
    assert unasked.returncode == 2
    assert ready(vhost.url, "dead %2F 🐰") == 5
    dry = shell.run("deadletter", "retry", *queue, "--dry-run")
    assert "would_send=5, stayed=0, after=5" in dry.stdout
    done = shell.run("deadletter", "retry", *queue, "--yes", "--limit", "3")
    # It looks at all that came with the third; how many came at once is the broker's affair.
    assert re.fullmatch(
        r"\[deadletter\] done\. before=5, looked_at=[345], fitting=3, sent=3, stayed=0, after=2\n",
        done.stdout,
    )
    assert (done.returncode, ready(vhost.url, "work")) == (0, 3)
    wrong = shell.run("deadletter", "move", *queue, "--to-queue", "nowhere", "--yes")
    assert wrong.returncode == 1
    assert "there is no such queue" in wrong.stderr
    assert shell.run("deadletter", "list", "--queue", "none").returncode == 3


def test_a_retry_tells_the_end_and_goes_as_published(shell: Any, vhost: Any) -> None:
    """The dead letter exchange knows the published key and not the queue's name."""
    with witness(vhost.url) as channel:
        for name in ("shop", "dlx"):
            channel.exchange_declare(name, "direct", durable=True)
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("orders", durable=True, arguments={"x-dead-letter-exchange": "dlx"})
        channel.queue_bind("orders", "shop", "created")
        channel.queue_bind("dead", "dlx", "created")
        for _ in range(3):
            channel.basic_publish("shop", "created", b"x")
        for _ in range(3):
            method = eventually(lambda: channel.basic_get("orders")[0], "one to reject")
            channel.basic_reject(method.delivery_tag, requeue=False)
    eventually(lambda: ready(vhost.url, "dead") == 3, "dead letters")
    queue = ("--queue", "dead")
    listed = shell.run("deadletter", "list", *queue, "--json")
    assert json.loads(listed.stdout)["last_death"] is True
    dry = shell.run("deadletter", "retry", *queue, "--dry-run")
    assert "what dies there again ends there" in dry.stderr
    as_json = shell.run("deadletter", "retry", *queue, "--dry-run", "--json")
    (target,) = json.loads(as_json.stdout)["targets"]
    assert (target["routing_key"], target["last_death"]) == ("orders", True)
    as_published = ("deadletter", "retry", *queue, "--as-published", "--json")
    dry = shell.run(*as_published, "--dry-run")
    assert "of these into 'orders': 3" in dry.stderr
    sent = json.loads(shell.run(*as_published, "--yes").stdout)
    assert sent["targets"] == [
        {"exchange": "shop", "routing_key": "created", "count": 3, "last_death": False}
    ]
    assert ready(vhost.url, "orders") == 3
    both = shell.run("deadletter", "retry", *queue, "--to-queue", "q", "--to", "last")
    assert both.returncode == 2
