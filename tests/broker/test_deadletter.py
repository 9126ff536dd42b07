"""Dead letters on a real broker; pika makes them and counts what is where."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

from kills import kill_again_and_again
from rabbitproof.broker.management import Management
from rabbitproof.broker.routes import read_vhost
from rabbitproof.model import Note
from rabbitproof.work import letters
from rabbitproof.work.deadletter import Mover, Task
from rabbitproof.work.forecast import Forecast
from rabbitproof.work.letters import Filter
from support import connector, eventually, ready, witness

if TYPE_CHECKING:
    from rabbitproof.broker.node import Node

DEAD = {"x-dead-letter-exchange": "dlx"}


def topology(channel: Any, kind: str = "classic", **arguments: Any) -> None:
    """A work queue whose dead letters go through an exchange into ``dead``."""
    channel.exchange_declare("dlx", "fanout", durable=True)
    channel.queue_declare("dead", durable=True, arguments={"x-queue-type": kind})
    channel.queue_bind("dead", "dlx")
    channel.exchange_declare("shop", "direct", durable=True)
    for name in ("orders", "copy"):
        channel.queue_declare(name, durable=True, arguments=DEAD | arguments)
        channel.queue_bind(name, "shop", "order")


def publish(channel: Any, count: int, exchange: str = "shop", key: str = "order") -> None:
    for n in range(1, count + 1):
        channel.basic_publish(
            exchange,
            key,
            f"body {n}".encode(),
            pika.BasicProperties(
                message_id=f"m{n}",
                delivery_mode=2,
                headers={"color": "red" if n % 2 else "blue", "n": n, "nested": {"a": [1, n]}},
            ),
        )


def reject_all(channel: Any, queue: str, count: int) -> None:
    for _ in range(count):
        method = channel.basic_get(queue)[0]
        channel.basic_reject(method.delivery_tag, requeue=False)


def die(url: str, count: int, kind: str = "classic") -> None:
    """Have ``count`` messages die in ``orders``; ``copy`` keeps its own."""
    with witness(url) as channel:
        topology(channel, kind)
        publish(channel, count)
        reject_all(channel, "orders", count)
    eventually(lambda: ready(url, "dead") >= count, "dead letters")


def run(url: str, **settings: Any) -> Mover:
    mover = Mover(Task(queue="dead", **settings), connector(url))
    for _ in mover.run():
        pass
    return mover


def drain(url: str, queue: str) -> list[tuple[Any, bytes]]:
    found = []
    with witness(url) as channel:
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append((properties, body))


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_retry_goes_to_where_it_died_and_nowhere_else(vhost: Any, kind: str) -> None:
    """Properties, body and headers are the same but for the deaths, which are counted instead."""
    die(vhost.url, 40, kind)
    counts = run(vhost.url, what="retry").counts
    assert (counts.before, counts.fitting, counts.sent, counts.stayed) == (40, 40, 40, 0)
    assert eventually(lambda: ready(vhost.url, "dead") == 0, "an empty queue")
    assert ready(vhost.url, "copy") == 40, "the other queue of the exchange got no second copy"
    back = drain(vhost.url, "orders")
    assert [body for _, body in back] == [f"body {n}".encode() for n in range(1, 41)]
    properties = back[6][0]
    assert (properties.message_id, properties.delivery_mode) == ("m7", 2)
    assert properties.headers == {
        "color": "red",
        "n": 7,
        "nested": {"a": [1, 7]},
        "rabbitproof_retries": 1,
    }


def test_filters_take_only_what_fits_and_leave_the_rest_in_place(vhost: Any) -> None:
    """Reason, queue, age and header have to fit all; the others stay in their order."""
    die(vhost.url, 10)
    for which, fitting in (
        (Filter(reason="expired"), 0),
        (Filter(from_queue="copy"), 0),
        (Filter(older_than_s=3600), 0),
        (Filter(headers=(("color", "green"),)), 0),
        (Filter("rejected", "orders", 0, (("color", "red"), ("n", "3"))), 1),
    ):
        assert run(vhost.url, what="retry", which=which).counts.sent == fitting
    assert ready(vhost.url, "dead") == 9
    limited = run(vhost.url, what="retry", which=Filter(headers=(("color", "blue"),)), limit=2)
    assert limited.counts.sent == 2
    assert [body for _, body in drain(vhost.url, "dead")] == [
        f"body {n}".encode() for n in (1, 5, 6, 7, 8, 9, 10)
    ]


def test_a_dry_run_changes_nothing(vhost: Any) -> None:
    """It counts what it would send and gives everything back."""
    die(vhost.url, 5)
    counts = run(vhost.url, what="retry", dry_run=True).counts
    assert (counts.fitting, counts.sent, counts.targets) == (5, 0, {("", "orders"): 5})
    assert (ready(vhost.url, "dead"), ready(vhost.url, "orders")) == (5, 0)


def test_a_queue_that_is_gone_keeps_its_dead_letters(vhost: Any) -> None:
    """Nothing is sent to a queue that is not there, and it is said."""
    die(vhost.url, 5)
    with witness(vhost.url) as channel:
        channel.queue_delete("orders")
    mover = run(vhost.url, what="retry")
    assert (mover.counts.sent, mover.counts.returned) == (0, 5)
    assert "no such queue" in mover.problems["", "orders"]
    assert ready(vhost.url, "dead") == 5


def test_what_cannot_go_back_is_in_nobodys_way(vhost: Any) -> None:
    """Anybody can write into the dead letter queue, also where nothing can go back to."""
    with witness(vhost.url) as owner:
        owner.queue_declare("mine", exclusive=True)
        owner.queue_declare("dead", durable=True)
        for queue in ("mine", "q" * 300):
            death = [{"queue": queue, "reason": "rejected", "count": 1}]
            owner.basic_publish("", "dead", b"", pika.BasicProperties(headers={"x-death": death}))
        die(vhost.url, 1)
        eventually(lambda: ready(vhost.url, "dead") == 3, "all of them")
        mover = run(vhost.url, what="retry")
    counts = mover.counts
    assert (counts.sent, counts.returned, counts.homeless) == (1, 1, 1)
    assert mover.problems == {("", "mine"): "another connection has it for itself"}
    assert ready(vhost.url, "dead") == 2


def test_a_queue_deleted_in_the_middle_returns_the_copies(vhost: Any, monkeypatch: Any) -> None:
    """A copy that comes back is no copy: its dead letter is not acknowledged."""
    die(vhost.url, 5)
    monkeypatch.setattr(Mover, "_check", lambda *_: None)
    mover = run(vhost.url, what="move", to_queue="nowhere")
    assert (mover.counts.sent, mover.counts.returned) == (0, 5)
    assert ready(vhost.url, "dead") == 5


def test_a_full_queue_refuses_and_its_dead_letters_stay(vhost: Any) -> None:
    """What the target nacks is not acknowledged.

    A busy broker was once seen to return the first two, as if the new queue were not there yet:
    those stay as well.
    """
    die(vhost.url, 10)
    with witness(vhost.url) as channel:
        full = {"x-max-length": 4, "x-overflow": "reject-publish"}
        channel.queue_declare("small", durable=True, arguments=full)
    mover = run(vhost.url, what="move", to_queue="small")
    assert mover.counts.sent + mover.counts.stayed == 10
    assert mover.counts.nacked > 0
    assert ready(vhost.url, "small") == mover.counts.sent
    assert ready(vhost.url, "dead") == mover.counts.stayed


def test_what_dies_again_and_again_is_left_after_some_retries(vhost: Any) -> None:
    """The broker's own count is not relied on: 4.0 does not go on with a client's x-death."""
    die(vhost.url, 3)
    for _ in range(2):
        assert run(vhost.url, what="retry", most_retries=2).counts.sent == 3
        with witness(vhost.url) as channel:
            reject_all(channel, "orders", 3)
        assert eventually(lambda: ready(vhost.url, "dead") == 3, "dead again")
    mover = run(vhost.url, what="retry", most_retries=2)
    assert (mover.counts.sent, mover.counts.looping) == (0, 3)
    assert ready(vhost.url, "dead") == 3


def test_a_retry_that_dies_at_once_ends(vhost: Any) -> None:
    """What comes back while it works is not retried again by the same run."""
    with witness(vhost.url) as channel:
        topology(channel, **{"x-message-ttl": 0})
        publish(channel, 20)
    assert eventually(lambda: ready(vhost.url, "dead") == 40, "expired in both queues")
    counts = run(vhost.url, what="retry").counts
    assert counts.sent == 40
    assert eventually(lambda: ready(vhost.url, "dead") == 40, "expired again: none dropped")


def test_a_move_keeps_the_history(vhost: Any) -> None:
    """A moved message still says where and why it died."""
    die(vhost.url, 3)
    with witness(vhost.url) as channel:
        channel.queue_declare("parked", durable=True)
    assert run(vhost.url, what="move", to_queue="parked").counts.sent == 3
    properties, body = drain(vhost.url, "parked")[0]
    assert properties.headers["x-death"][0]["queue"] == "orders"
    assert properties.headers["x-death"][0]["reason"] == "rejected"
    assert (properties.message_id, body) == ("m1", b"body 1")


def test_odd_messages_are_read_and_moved(vhost: Any) -> None:
    """No x-death, no properties, 10 MB, random bytes, 200 headers: counted, kept or moved."""
    big = os.urandom(10 << 20)
    with witness(vhost.url) as channel:
        for name in ("dead", "parked"):
            channel.queue_declare(name, durable=True)
        channel.basic_publish("", "dead", b"")
        channel.basic_publish("", "dead", big)
        headers = {f"h\x1b{i}": {"deep": [i, {"\u202e": b"\xff"}]} for i in range(200)}
        odd = pika.BasicProperties(headers=headers | {"x-death": "not a list", "CC": ["dead"]})
        channel.basic_publish("", "dead", b"\x00\xff", odd)
        headerless = pika.BasicProperties(headers={"x-death": [{"queue": 5}]})
        channel.basic_publish("", "dead", b"x", headerless)
    eventually(lambda: ready(vhost.url, "dead") == 4, "four dead letters")
    stays = run(vhost.url, what="retry")
    assert stays.counts.sent == 0
    eventually(lambda: ready(vhost.url, "dead") == 4, "all four are back")
    assert run(vhost.url, what="move", to_queue="parked").counts.sent == 4
    bodies = {body for _, body in drain(vhost.url, "parked")}
    assert bodies == {b"", big, b"\x00\xff", b"x"}


def test_dead_letter_queues_are_found(vhost: Any, node: Any) -> None:
    """By the arguments and the bindings of other queues."""
    die(vhost.url, 2)
    with witness(vhost.url) as channel:
        through = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}
        channel.queue_declare("more", durable=True, arguments=through)
        channel.queue_declare("graveyard", durable=True)
    with Management(node.management_url, node.username, node.password) as api:
        assert list(letters.find(api, vhost.name).queues) == ["dead", "graveyard"]


def test_queues_are_found_through_exchanges_and_alternate_ones(node: Node, vhost: Any) -> None:
    """Bound to another exchange, behind an alternate one, or by the message's own key."""
    with witness(vhost.url) as channel:
        for name, kind in (("dlx", "fanout"), ("all", "topic"), ("ae", "fanout")):
            channel.exchange_declare(name, kind, durable=True)
        ours = {"alternate-exchange": "ae"}
        channel.exchange_declare("dlx2", "direct", durable=True, arguments=ours)
        channel.exchange_bind("all", "dlx")
        for name in ("dead", "dead.ae", "away"):
            channel.queue_declare(name, durable=True)
        channel.queue_bind("dead", "all", "#")
        channel.queue_bind("dead.ae", "ae")
        for name, exchange in (("orders", "dlx"), ("bills", "dlx2"), ("raw", "")):
            dead = {"x-dead-letter-exchange": exchange}
            channel.queue_declare(name, durable=True, arguments=dead)
    with Management(node.management_url, node.username, node.password) as api:
        found = letters.find(api, vhost.name)
    assert list(found.queues) == ["dead", "dead.ae"]
    assert (found.untold, found.own_key) == ((), ("raw",))


def test_a_retry_says_when_the_next_death_is_the_end(node: Node, vhost: Any) -> None:
    """Its key is the queue's name then, which the dead letter exchange does not know."""
    with witness(vhost.url) as channel:
        channel.exchange_declare("dlx", "direct", durable=True)
        channel.exchange_declare("shop", "direct", durable=True)
        for name in ("dead", "orders", "copy"):
            channel.queue_declare(name, durable=True, arguments=DEAD if name == "orders" else None)
        channel.queue_bind("dead", "dlx", "order")
        for name in ("orders", "copy"):
            channel.queue_bind(name, "shop", "order")
        for how, end, then in (({}, True, 0), ({"as_published": True}, False, 3)):
            channel.queue_purge("copy")
            publish(channel, 3)
            eventually(lambda: ready(vhost.url, "orders") == 3, "published")
            reject_all(channel, "orders", 3)
            eventually(lambda: ready(vhost.url, "dead") == 3, "died")
            mover = Mover(Task("dead", "retry", **how), connector(vhost.url), model(node, vhost))
            for _ in mover.run():
                pass
            assert (mover.counts.sent, set(mover.counts.last_death.values())) == (3, {end})
            assert ready(vhost.url, "copy") == 3 + then, "as published it comes here, too"
            eventually(lambda: ready(vhost.url, "orders") == 3, "sent back")
            reject_all(channel, "orders", 3)
            eventually(lambda then=then: ready(vhost.url, "dead") == then, "died again, or not")
            assert ready(vhost.url, "orders") == 0


def test_what_died_twice_goes_to_the_first_or_the_last(node: Node, vhost: Any) -> None:
    """And it is said that these are not the same."""
    with witness(vhost.url) as channel:
        for name in ("dead", "first", "last"):
            channel.queue_declare(name, durable=True, arguments=straight(name))
        for to in ("first", "last"):
            channel.basic_publish("", "first", b"x")
            for name in ("first", "last"):
                eventually(lambda name=name: ready(vhost.url, name) == 1, f"in {name}")
                reject_all(channel, name, 1)
            eventually(lambda: ready(vhost.url, "dead") == 1, "died twice")
            mover = Mover(Task("dead", "retry", to=to), connector(vhost.url), model(node, vhost))
            for _ in mover.run():
                pass
            assert mover.counts.astray == {("first", "last"): 1}
            eventually(lambda to=to: ready(vhost.url, to) == 1, f"back in {to}")
            channel.queue_purge(to)


def straight(queue: str) -> dict[str, str] | None:
    """From `first` to `last`, from there to `dead`."""
    then = {"first": "last", "last": "dead"}.get(queue)
    key = "x-dead-letter-routing-key"
    return None if then is None else {"x-dead-letter-exchange": "", key: then}


def model(node: Node, vhost: Any) -> Forecast:
    with Management(node.management_url, node.username, node.password) as api:
        return Forecast(read_vhost(api, vhost.name))


def test_reading_gives_everything_back(vhost: Any) -> None:
    """Letters say where, why and when they died; afterwards they stand where they stood."""
    die(vhost.url, 6)
    with connector(vhost.url)() as connection:
        found = list(letters.read(connection, "dead", Filter(), 4))
    assert [letter.message_id for letter in found] == ["m1", "m2", "m3", "m4"]
    assert {(one.last.queue, one.last.reason, one.last.keys) for one in found} == {
        ("orders", "rejected", ("order",))
    }
    assert abs(found[0].last.time - time.time()) < 120
    assert [body for _, body in drain(vhost.url, "dead")] == [
        f"body {n}".encode() for n in range(1, 7)
    ]


@pytest.mark.slow
def test_a_broker_that_restarts_loses_nothing(private_node: Node) -> None:
    """Both connections are opened again; what was in doubt may be there twice."""
    count = 3_000
    url = private_node.url
    with witness(url) as channel:
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("parked", durable=True)
        channel.confirm_delivery()
        publish(channel, count, "", "dead")
    mover = Mover(Task(queue="dead", what="move", to_queue="parked"), connector(url))
    killed = False
    original = mover._finish

    def finish(*arguments: Any) -> None:
        nonlocal killed
        original(*arguments)
        if mover.counts.sent > 500 and not killed:
            killed = True
            private_node.kill()
            private_node.start_again()

    mover._finish = finish  # type: ignore[method-assign]
    notes = [event.text for event in mover.run() if isinstance(event, Note)]
    assert killed
    assert any("Reconnecting" in note for note in notes)
    found = {properties.message_id for properties, _ in drain(url, "parked")}
    left = {properties.message_id for properties, _ in drain(url, "dead")}
    assert len(found | left) == count
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize("what", ["retry", "move"])
def test_killed_again_and_again_it_loses_nothing(vhost: Any, node: Any, what: str) -> None:
    """A process that is killed with -9 leaves copies, never gaps. `tests/kills.py` kills more."""
    tally = kill_again_and_again(vhost.url, node.management_url, what, times=4, count=3_000)
    assert (tally.lost, tally.foreign) == (0, 0), tally
