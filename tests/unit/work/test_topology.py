from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pamqp import commands

from rabbitproof.errors import (
    BrokerRefused,
    ConnectionClosed,
    NotFound,
    PreconditionFailed,
    UsageError,
)
from rabbitproof.model import Note, Purged, Queue, Topology
from rabbitproof.work import link, topology

WORK, AUDIT = Queue("work.queue"), Queue("audit.queue")


class Broker:
    """Stands in for a connection: notes what is asked, and answers or refuses."""

    def __init__(self, version: str = "3.10.8", **answers: Any) -> None:
        self.server_properties = {"version": version}
        self.asked: list[Any] = []
        self.answers = answers
        """By the method's name without the dot: an answer, an error, or a list of them."""

    def open_channel(self) -> int:
        return 7

    def wait(self, _timeout: float) -> list[Any]:
        return []

    def call(self, _channel: int, method: Any) -> Any:
        self.asked.append(method)
        answer = self.answers.get(method.name.replace(".", ""))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def names(self) -> list[str]:
        return [method.name for method in self.asked]


def refusal(text: str) -> PreconditionFailed:
    return PreconditionFailed(f"The broker refused: {text}.", code=406, reply=text)


def explained(text: str, queue: Queue = WORK) -> str:
    with pytest.raises(PreconditionFailed) as caught:
        topology.declare_queue(Broker(QueueDeclare=refusal(text)), 1, queue)  # type: ignore[arg-type]
    assert caught.value.code == 406
    assert caught.value.reply == text
    return str(caught.value)


START = "PRECONDITION_FAILED - inequivalent arg "
REFUSALS = [
    (
        "'durable' for queue 'work.queue' in vhost '/': received 'false' but current is 'true'",
        "durable: declared true, wanted false",
        "add --durable",
    ),
    (
        "'durable' for queue 'work.queue' in vhost '/': received 'true' but current is 'false'",
        "durable: declared false, wanted true",
        "leave out --durable",
    ),
    (
        "'x-queue-mode' for queue 'work.queue' in vhost '/': "
        "received none but current is the value 'lazy' of type 'longstr'",
        "x-queue-mode: declared lazy, wanted none",
        "add --lazy",
    ),
    (
        "'x-queue-mode' for queue 'work.queue' in vhost '/': "
        "received the value 'lazy' of type 'longstr' but current is none",
        "x-queue-mode: declared none, wanted lazy",
        "leave out --lazy",
    ),
    (
        "'x-queue-type' for queue 'work.queue' in vhost '/': "
        "received none but current is the value 'quorum' of type 'longstr'",
        "x-queue-type: declared quorum, wanted classic",
        "ask for the type that it has (quorum) with --queue-type",
    ),
    (
        "'x-queue-type' for queue 'work.queue' in vhost '/': "
        "received the value 'quorum' of type 'longstr' but current is none",
        "x-queue-type: declared classic, wanted quorum",
        "ask for the type that it has (classic) with --queue-type",
    ),
    (
        "'x-queue-type' for queue 'work.queue' in vhost 'dev': "
        "received 'classic' but current is 'quorum'",
        "x-queue-type: declared quorum, wanted classic",
        "ask for the type that it has (quorum) with --queue-type",
    ),
    (
        "'x-expires' for queue 'work.queue' in vhost '/': "
        "received none but current is the value '2592000000' of type 'long'",
        "x-expires: declared 2592000000, wanted none",
        "declare it the same way",
    ),
    (
        "'auto_delete' for queue 'it's in vhost '/': q' in vhost '/': "
        "received 'false' but current is 'true'",
        "auto_delete: declared true, wanted false",
        "declare it the same way",
    ),
]


@pytest.mark.parametrize(("text", "compared", "way_out"), REFUSALS)
def test_a_queue_with_other_settings_is_shown_side_by_side(
    text: str, compared: str, way_out: str
) -> None:
    """What is declared, what was wanted, and both ways out."""
    said = explained(START + text)
    assert "The queue 'work.queue' exists with other settings (PRECONDITION_FAILED)" in said
    assert compared in said
    assert f"keep it as it is ({way_out}" in said
    assert "--no-declare" in said
    assert "delete_queue work.queue" in said


@pytest.mark.parametrize(
    "text",
    [
        "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'work.queue' in vhost '/'",
        START + "'durable' for queue 'work.queue' in vhost...",
        "",
    ],
)
def test_a_refusal_that_is_not_understood_keeps_the_brokers_words(text: str) -> None:
    """Nothing is made up."""
    assert explained(text) == f"The broker refused: {text}."


def test_an_exchange_with_other_settings_is_shown_as_well() -> None:
    """With the ways out that there are for an exchange."""
    text = (
        START + "'type' for exchange 'direct.exchange' in vhost '/': "
        "received 'direct' but current is 'topic'"
    )
    broker = Broker(ExchangeDeclare=refusal(text))
    with pytest.raises(PreconditionFailed) as caught:
        list(topology.declare(broker, 1, Topology("direct.exchange", "work", WORK)))  # type: ignore[arg-type]
    said = str(caught.value)
    assert "The exchange 'direct.exchange' exists" in said
    assert "type: declared topic, wanted direct" in said
    assert "--exchange" in said
    assert "delete_queue" not in said


def test_a_refused_transient_queue_names_the_flag() -> None:
    """The broker closes the whole connection, for good; another 541 is left as it is."""
    reply = "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\\nIts use ..."
    broker: Any = Broker("4.3.0", QueueDeclare=ConnectionClosed("Closed.", code=541, reply=reply))
    with pytest.raises(BrokerRefused, match=r"4\.3\.0 .* add --durable\.$") as caught:
        topology.declare_queue(broker, 1, WORK)
    assert not link.passes(caught.value)
    ended = ConnectionClosed("Closed.", code=541, reply="INTERNAL_ERROR")
    with pytest.raises(ConnectionClosed) as other:
        topology.declare_queue(cast("Any", Broker("4.3.0", QueueDeclare=ended)), 1, WORK)
    assert other.value is ended


# --- what no broker could do ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_lazy_is_for_classic_queues(kind: Any) -> None:
    """Wrong usage, whatever the release."""
    queue = Queue("q", kind, durable=True, lazy=True)
    with pytest.raises(UsageError, match="leave out --lazy"):
        topology.check(Topology("x", "work", WORK, queue))


def test_two_queues_need_two_names() -> None:
    """One alone is fine."""
    with pytest.raises(UsageError, match=r"both named 'work\.queue'"):
        topology.check(Topology("x", "work", WORK, Queue("work.queue", "stream")))
    topology.check(Topology("x", "work", WORK))
    topology.check(Topology("x", "work", WORK, AUDIT))


# --- declaring and purging -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "release", "lazy"),
    [
        ("3.10.8", (3, 10), True),
        ("3.9.0+rc.1", (3, 9), True),
        ("3.12.0", (3, 12), False),
        ("4.1", (4, 1), False),
        ("", (0, 0), True),
        ("unknown", (0, 0), True),
    ],
)
def test_the_release_decides_whether_lazy_is_sent(
    version: str, release: tuple[int, int], lazy: bool
) -> None:
    """Where it changes nothing it is left out, and a note says so."""
    broker: Any = Broker(version)
    assert topology.release(broker) == release
    queue = Queue("q", lazy=True)
    notes = list(topology.declare(broker, 1, Topology("x", "k", queue)))
    declared = next(method for method in broker.asked if method.name == "Queue.Declare")
    assert declared.arguments == ({"x-queue-mode": "lazy"} if lazy else {})
    assert len(notes) == (0 if lazy else 1)
    assert all(isinstance(note, Note) and version in note.text for note in notes)


def test_both_queues_are_declared_and_bound() -> None:
    """The exchange first, so that there is something to bind to."""
    broker: Any = Broker()
    audit = Queue("audit.queue", "stream", durable=True)
    assert list(topology.declare(broker, 1, Topology("x", "k", WORK, audit))) == []
    assert broker.names == [
        "Exchange.Declare", "Queue.Declare", "Queue.Bind", "Queue.Declare", "Queue.Bind",
    ]  # fmt: skip
    exchange, work, _, stream, bound = broker.asked
    assert (exchange.exchange_type, exchange.durable) == ("direct", True)
    assert (work.durable, stream.durable) == (False, True)
    assert stream.arguments == {"x-queue-type": "stream"}
    assert (bound.queue, bound.exchange, bound.routing_key) == ("audit.queue", "x", "k")


def test_a_stream_is_purged_by_making_it_anew() -> None:
    """Any other queue by what AMQP has for it."""
    broker: Any = Broker(
        QueuePurge=commands.Queue.PurgeOk(5), QueueDeclare=commands.Queue.DeclareOk("q", 9, 0)
    )
    audit = Queue("audit.queue", "stream", durable=True)
    purged = list(topology.purge(broker, 1, Topology("x", "k", WORK, audit)))
    assert purged == [
        Purged("work.queue", audit=False, messages=5),
        Purged("audit.queue", audit=True, messages=9),
    ]
    assert broker.names == [
        "Queue.Declare", "Queue.Purge",
        "Queue.Declare", "Queue.Delete", "Queue.Declare", "Queue.Bind",
    ]  # fmt: skip
    assert [m.passive for m in broker.asked if m.name == "Queue.Declare"] == [True, True, False]


def test_a_purge_that_takes_seconds_is_said_first() -> None:
    """What is purged at once is not."""
    broker: Any = Broker(
        QueuePurge=commands.Queue.PurgeOk(7), QueueDeclare=commands.Queue.DeclareOk("q", 10**6, 0)
    )
    purging = topology.purge(broker, 1, Topology("x", "k", WORK))
    assert next(purging) == Note("purging work.queue (1,000,000 messages)…")
    assert "Queue.Purge" not in broker.names
    assert list(purging) == [Purged("work.queue", audit=False, messages=7)]


# --- counting ------------------------------------------------------------------------------------


def counts(*values: int) -> Any:
    return Broker(QueueDeclare=[SimpleNamespace(message_count=value) for value in values])


def test_a_count_that_lags_is_read_until_it_is_there() -> None:
    """A classic queue's is right at once."""
    assert topology.settled_count(counts(3, 4), 1, WORK, 10) == 3
    stream = Queue("q", "stream", durable=True)
    assert topology.settled_count(counts(0, 4, 10, 11), 1, stream, 10) == 10


def test_a_count_that_stands_still_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that the lag takes, counted from its last change."""
    clock = iter(range(1000))
    monkeypatch.setattr(topology.time, "monotonic", lambda: float(next(clock)))
    stream = Queue("q", "stream", durable=True)
    assert topology.settled_count(counts(0, 4, 5), 1, stream, 10) == 5
    assert next(clock) >= topology.STREAM_SETTLE_S


def slow_zeros(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> Any:
    """Return a broker whose first answers are 0 and take so long, and whose next is 7 at once."""
    now = [0.0]
    takes = iter([*seconds, 0.0])
    values = iter([*(0 for _ in seconds), 7])

    class Slow(Broker):
        def call(self, _channel: int, _method: Any) -> Any:
            now[0] += next(takes)
            return SimpleNamespace(message_count=next(values), consumer_count=2)

    monkeypatch.setattr(topology.time, "monotonic", lambda: now[0])
    return Slow()


def test_a_zero_that_took_long_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quorum queue that is busy for 250 ms is answered for with 0."""
    assert topology.look_again(slow_zeros(monkeypatch, 0.25, 0.25), 1, "q").message_count == 7
    assert topology.message_count(slow_zeros(monkeypatch, 0.25), 1, "q") == 7
    assert topology.sure_count(slow_zeros(monkeypatch, 0.25), 1, "q") is None


def test_a_zero_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is slow for ever is taken in the end."""
    assert topology.message_count(slow_zeros(monkeypatch, 0.01), 1, "q") == 0
    assert topology.sure_count(slow_zeros(monkeypatch, 0.01), 1, "q") == 0
    assert topology.message_count(slow_zeros(monkeypatch, *[1.0] * 9), 1, "q") == 0


def test_a_queue_that_is_not_there_has_no_count() -> None:
    """None, on a channel of its own."""
    gone = NotFound("gone", code=404, reply="gone")
    assert topology.ready_count(Broker(QueueDeclare=gone), "q") is None  # type: ignore[arg-type]
    broker: Any = Broker(QueueDeclare=commands.Queue.DeclareOk("q", 9, 0))
    assert topology.ready_count(broker, "q") == 9
    assert broker.names == ["Queue.Declare", "Channel.Close"]
