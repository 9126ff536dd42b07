"""The Management API asked for everything a monitor shows, as cheaply as it can be had.

Holds: which endpoints give which figure, how many requests that costs, and how their answers
become a ``Snapshot`` or a ``Detail``. Refuses to hold: HTTP (``management``), differences
between two snapshots (``work/rates``), judging (``work/diagnosis``).

What is asked, and why so (measured on RabbitMQ 3.10 with 10,000 queues, 2 busy cores):

- *Depths*: one list of all queues without metrics and with the few columns needed, 0.5 s. It
  is exact, where the metrics are up to 5 s old. In pages of 500 the same costs 20 s, because the
  broker counts every queue again for each page.
- *Counters*, and who leads a queue: pages of 500 with columns, 0.2 s each; the whole list would
  take 2 to 8 s. Where there are more than ``PAGES`` pages, each refresh asks for the next ones in
  turn; from ``MANY`` queues on for one only, as the list of depths takes its time then. Queues that
  are said to move, and are on none of these pages, are asked for one by one, 2 ms each. (A page of
  just them, by a regular expression over their names, takes seconds.)
- *Consumers*: one list, with columns. *Connections*: pages of 500.
- *Nodes* and *overview*: one request each, 20 ms.

An endpoint that refuses (400, 403, 404) takes its own figure with it and nothing else: the
snapshot says what is missing. An API that does not answer is an error.

Fields: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from rabbitproof.errors import ManagementError, ManagementUnreachable
from rabbitproof.snapshot import (
    ConnectionSample,
    ConsumerSample,
    Counters,
    Detail,
    NodeSample,
    QueueSample,
    Rates,
    Snapshot,
)
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rabbitproof.broker.management import Management
    from rabbitproof.snapshot import Key

_T = TypeVar("_T")

PAGE = 500
"""Objects on one page: the most the API gives."""
PAGES = 2
"""Pages of counters in one refresh, which keeps it at about a second; see above."""
MANY = 5_000
CONNECTION_PAGES = 2
"""Pages of connections in one refresh."""
HISTORY_S = 600
"""Seconds of its own history that a broker keeps at a resolution of 5 s (its default)."""
_CHANNELS = 20
"""Consumers of one queue whose channel is asked what it holds."""

_REPLICAS = ("leader", "members", "online")
_TOTALS = {
    "disable_stats": "true",
    "enable_queue_totals": "true",
    "columns": "name,vhost,type,state,messages,messages_ready,messages_unacknowledged",
}
_COUNTS = {"publish": "publish", "deliver": "deliver_get", "ack": "ack", "redeliver": "redeliver"}
"""Our name of a counter -> the broker's."""
_METRICS = (
    "name,vhost,consumers,messages,messages_ready,messages_unacknowledged,"
    + ",".join(_REPLICAS)
    + ","
) + ",".join(f"message_stats.{name},message_stats.{name}_details.rate" for name in _COUNTS.values())
_CONSUMER_COLUMNS = (
    "queue.name,queue.vhost,consumer_tag,prefetch_count,ack_required,active,"
    "channel_details.connection_name,channel_details.name"
)
_CONNECTION_COLUMNS = "name,user,vhost,state,channels,client_properties.connection_name"


class _NoVhost(ManagementError):
    """The vhost that alone is looked at is not there: nothing can be shown at all."""


class Watch:
    """Looks at one broker again and again. Not for several threads at a time.

    ``vhost`` limits it to one; with ``every_page`` each look asks for all counters. Each method
    raises ``ManagementUnreachable`` when the API does not answer and ``ManagementError`` when it
    refuses the login.
    """

    def __init__(
        self, api: Management, *, vhost: str | None = None, every_page: bool = False
    ) -> None:
        self._api = api
        self._pages = sys.maxsize if every_page else PAGES
        self._vhost = () if vhost is None else (vhost,)
        self._turn = 0
        self._requests = 0
        self._missing: list[str] = []
        self._replicas: dict[Key, dict[str, Any]] = {}
        """Of queues with several members: what was said of them in their last turn."""

    def look(self, moving: Sequence[Key] = ()) -> Snapshot:
        """Return what the broker says now, with the counters of ``moving`` queues among others."""
        self._requests, self._missing = 0, []
        overview = self._ask("overview")
        if not isinstance(overview, dict):
            raise ManagementUnreachable(
                f"{safe(self._api.url)} has no overview: it is not RabbitMQ's Management API; "
                "give the right address with --host."
            )
        metrics = overview.get("disable_stats") is not True and "queue_totals" in overview
        nodes = self._try("the nodes", self._nodes) or ()
        queues = self._queues(self._pages if metrics else 0, moving)
        at = time.monotonic()  # the counters are of now, whatever the rest takes
        consumers = connections = None
        count = None
        if metrics:
            consumers = self._try("the consumers", self._consumers)
            found = self._try("the connections", self._connections)
            connections, count = found or (None, None)
        stats = _dict(overview, "message_stats")
        totals = _dict(overview, "object_totals")
        return Snapshot(
            at=at,
            clock=time.time(),
            source=self._api.url,
            version=_text(overview, "rabbitmq_version"),
            cluster=_text(overview, "cluster_name"),
            queues=queues,
            consumers=consumers,
            connections=connections,
            connection_count=_count(totals, "connections") if count is None else count,
            nodes=nodes,
            metrics=metrics,
            unroutable_dropped=_count(stats, "drop_unroutable"),
            unroutable_returned=_count(stats, "return_unroutable"),
            missing=tuple(self._missing),
            requests=self._requests,
        )

    def close_up(self, vhost: str, name: str) -> Detail | None:
        """Return one queue with its history, bindings and consumers; None when it is gone.

        May be called from another thread while ``look`` is under way.
        """
        return Watch(self._api)._close_up(vhost, name)  # its own memory, the same connections

    def _close_up(self, vhost: str, name: str) -> Detail | None:
        history = {
            f"{what}_{key}": str(value)
            for what in ("lengths", "msg_rates")
            for key, value in (("age", HISTORY_S), ("incr", 5))
        }
        answer = self._ask("queues", vhost, name, query=history)
        if not isinstance(answer, dict):
            return None
        bindings = self._try(
            "the bindings", lambda: self._list("queues", vhost, name, "bindings", query=None)
        )
        consumers = [
            _consumer(one | {"queue": {"name": name, "vhost": vhost}})
            for one in _dicts(answer.get("consumer_details"))
        ]
        stats = _dict(answer, "message_stats")
        oldest = _count(answer, "head_message_timestamp")
        first = _count(answer, "first_timestamp")  # a stream's, in milliseconds
        return Detail(
            queue=_queue(answer, answer),
            durable=answer.get("durable") is True,
            exclusive=answer.get("exclusive") is True,
            auto_delete=answer.get("auto_delete") is True,
            arguments=_dict(answer, "arguments"),
            policy=_text(answer, "policy"),
            policy_definition=_dict(answer, "effective_policy_definition"),
            bindings=tuple(
                (_text(one, "source"), _text(one, "routing_key")) for one in bindings or ()
            ),
            consumers=tuple((one, self._held(one, n)) for n, one in enumerate(consumers)),
            oldest=float(oldest) if oldest else (first / 1000 if first else None),
            bytes=_count(answer, "message_bytes"),
            depth=_samples(_dict(answer, "messages_details")),
            published=_slopes(_samples(_dict(stats, "publish_details"))),
            acknowledged=_slopes(_samples(_dict(stats, "ack_details"))),
            missing=tuple(self._missing),
        )

    def _held(self, consumer: ConsumerSample, number: int) -> int | None:
        """Return what a consumer's channel holds unacknowledged."""
        if number >= _CHANNELS or not consumer.channel:
            return None
        channel = self._try(
            "what the consumers hold", lambda: self._ask("channels", consumer.channel)
        )
        return _count(channel, "messages_unacknowledged") if isinstance(channel, dict) else None

    def _nodes(self) -> tuple[NodeSample, ...]:
        return tuple(map(_node, self._list("nodes", query=None)))

    def _queues(self, pages: int, moving: Sequence[Key]) -> tuple[QueueSample, ...]:
        query = dict(_TOTALS)
        if not pages:  # then nothing else tells; beside the counters they are cheaper
            query["columns"] += "," + ",".join(_REPLICAS)
        listed = self._try(
            "the depths of the queues", lambda: self._list("queues", *self._vhost, query=query)
        )
        metrics: dict[Key, dict[str, Any]] = {}
        if pages:
            known = None if listed is None else len(listed)
            found = self._try("the counters", lambda: self._metrics(pages, known))
            metrics = {_key(one): one for one in found or ()}
            if (known or 0) > len(metrics):
                self._one_by_one(moving, metrics)
        basis = listed if listed is not None else list(metrics.values())
        for key, one in metrics.items():
            if "members" in one or "leader" in one:
                self._replicas[key] = {name: one[name] for name in _REPLICAS if name in one}
        there = {_key(one): one for one in basis}
        for gone in self._replicas.keys() - there.keys():
            del self._replicas[gone]
        for key, replicas in self._replicas.items():
            there[key] = there[key] | replicas
        return tuple(_queue(one, metrics.get(key)) for key, one in there.items())

    def _metrics(self, pages: int, known: int | None) -> list[dict[str, Any]]:
        """Return the counters of some pages: the next in turn where not all are asked for."""
        there = pages if known is None else max(1, math.ceil(known / PAGE))
        if pages == PAGES and (known or 0) > MANY:
            pages = 1
        out = []
        for _ in range(min(pages, there)):
            number = self._turn % there + 1
            self._turn = number
            try:
                items, _ = self._page(number, "queues", *self._vhost, columns=_METRICS)
            except ManagementError as error:
                # Fewer pages than the list made us believe: queues went meanwhile.
                if number == 1 or isinstance(error, ManagementUnreachable):
                    raise
                self._turn = 0
                break
            out += items
        return out

    def _one_by_one(self, moving: Sequence[Key], metrics: dict[Key, dict[str, Any]]) -> None:
        """Add the counters of these queues to what is known; one that is gone adds nothing."""
        for key in moving:
            if key in metrics:
                continue
            try:
                answer = self._ask("queues", *key, query={"columns": _METRICS})
            except ManagementUnreachable:
                raise
            except ManagementError:  # a name that can't be asked for: it has its turn
                continue
            if isinstance(answer, dict) and _key(answer) == key:
                metrics[key] = answer

    def _consumers(self) -> tuple[ConsumerSample, ...]:
        query = {"columns": _CONSUMER_COLUMNS}
        return tuple(map(_consumer, self._list("consumers", *self._vhost, query=query)))

    def _connections(self) -> tuple[tuple[ConnectionSample, ...], int]:
        path = ("vhosts", *self._vhost, "connections") if self._vhost else ("connections",)
        out: list[ConnectionSample] = []
        count = 0
        for number in range(1, CONNECTION_PAGES + 1):
            items, count = self._page(number, *path, columns=_CONNECTION_COLUMNS)
            out += map(_connection, items)
            if len(out) >= count or len(items) < PAGE:
                break
        return tuple(out), max(count, len(out))

    def _page(self, number: int, *path: str, columns: str) -> tuple[list[dict[str, Any]], int]:
        """Return one page and how many objects all have."""
        answer = self._ask(
            *path, query={"page": str(number), "page_size": str(PAGE), "columns": columns}
        )
        if isinstance(answer, list):  # an endpoint that does not know pages gives all
            return _dicts(answer), len(answer)
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise self._absent(path)
        return _dicts(answer["items"]), _count(answer, "filtered_count") or 0

    def _list(self, *path: str, query: dict[str, str] | None) -> list[dict[str, Any]]:
        answer = self._ask(*path, query=query)
        if not isinstance(answer, list):
            raise self._absent(path)
        return _dicts(answer)

    def _absent(self, path: tuple[str, ...]) -> ManagementError:
        if self._vhost:
            return _NoVhost(f"there is no vhost {safe(self._vhost[0], 60)}; check --vhost.")
        return ManagementError(
            f"{'/'.join(map(safe, path))} is not there; check that --host is RabbitMQ's API."
        )

    def _ask(self, *path: str, query: dict[str, str] | None = None) -> Any:
        self._requests += 1
        return self._api.ask(*path, query=query)

    def _try(self, what: str, ask: Callable[[], _T]) -> _T | None:
        """Return what ``ask`` gives; when the API refuses it, note that it is missing."""
        try:
            return ask()
        except (ManagementUnreachable, _NoVhost):
            raise
        except ManagementError as error:
            sentence = f"{what} could not be read: {error}"
            if sentence not in self._missing:
                self._missing.append(sentence)
            return None


def _queue(basis: dict[str, Any], metrics: dict[str, Any] | None) -> QueueSample:
    """Join a queue's exact depth with its metrics, where they were asked for."""
    counters = rates = None
    if metrics is not None:
        stats = _dict(metrics, "message_stats")
        counters = Counters(*(_count(stats, name) or 0 for name in _COUNTS.values()))
        rates = Rates(*(_rate(_dict(stats, f"{name}_details")) for name in _COUNTS.values()))
    elsewhere = metrics or {}  # a stream's depth stands there alone
    depths = (
        _first(_count(basis, key), _count(elsewhere, key))
        for key in ("messages_ready", "messages_unacknowledged", "messages")
    )
    ready, unacked, total = depths
    kind = _text(basis, "type") or _text(elsewhere, "type") or "classic"
    replicated = kind in {"quorum", "stream"} and ("leader" in basis or "members" in basis)
    return QueueSample(
        vhost=_text(basis, "vhost"),
        name=_text(basis, "name"),
        type=kind,
        state=_text(basis, "state"),
        ready=ready,
        unacked=unacked,
        total=total,
        consumers=_count(elsewhere, "consumers"),
        counters=counters,
        rates=rates,
        node=_text(basis, "node"),
        leader=_text(basis, "leader") if replicated else None,
        members=_length(basis, "members") if replicated else None,
        online=_length(basis, "online") if replicated else None,
    )


def _consumer(answer: dict[str, Any]) -> ConsumerSample:
    queue, channel = _dict(answer, "queue"), _dict(answer, "channel_details")
    return ConsumerSample(
        vhost=_text(queue, "vhost"),
        queue=_text(queue, "name"),
        tag=_text(answer, "consumer_tag"),
        connection=_text(channel, "connection_name"),
        channel=_text(channel, "name"),
        prefetch=_count(answer, "prefetch_count"),
        manual=answer.get("ack_required") is not False,
        active=answer.get("active") is not False,
    )


def _connection(answer: dict[str, Any]) -> ConnectionSample:
    return ConnectionSample(
        name=_text(answer, "name"),
        client=_text(_dict(answer, "client_properties"), "connection_name"),
        user=_text(answer, "user"),
        vhost=_text(answer, "vhost"),
        state=_text(answer, "state"),
        channels=_count(answer, "channels"),
    )


def _node(answer: dict[str, Any]) -> NodeSample:
    uptime = _count(answer, "uptime")
    cut_off = answer.get("partitions")
    return NodeSample(
        name=_text(answer, "name"),
        running=answer.get("running") is not False,
        memory=_count(answer, "mem_used"),
        memory_limit=_count(answer, "mem_limit"),
        memory_alarm=answer.get("mem_alarm") is True,
        disk_free=_count(answer, "disk_free"),
        disk_limit=_count(answer, "disk_free_limit"),
        disk_alarm=answer.get("disk_free_alarm") is True,
        files=_count(answer, "fd_used"),
        files_limit=_count(answer, "fd_total") or None,  # 0: not counted any more
        sockets=_count(answer, "sockets_used"),
        sockets_limit=_count(answer, "sockets_total") or None,
        uptime=None if uptime is None else uptime / 1000,
        partitions=tuple(one for one in cut_off if isinstance(one, str))
        if isinstance(cut_off, list)
        else (),
    )


def _samples(details: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """Return the broker's own samples, oldest first: (clock, value)."""
    out = []
    for one in _dicts(details.get("samples")):
        value, when = _count(one, "sample"), _count(one, "timestamp")
        if value is not None and when is not None:
            out.append((when / 1000, float(value)))
    return tuple(sorted(out))


def _slopes(samples: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return a counter's increase a second between samples; a counter that fell gives none."""
    out = []
    before: tuple[float, float] | None = None
    for when, value in samples:
        if before is not None and when > before[0] and value >= before[1]:
            out.append((when, (value - before[1]) / (when - before[0])))
        before = (when, value)
    return tuple(out)


# An answer is untrusted: what is missing or of another type is nothing, never an exception.


def _key(answer: dict[str, Any]) -> Key:
    return (_text(answer, "vhost"), _text(answer, "name"))


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return value if isinstance(value, str) else ""


def _count(answer: dict[str, Any], key: str) -> int | None:
    """Return a count; a negative one, which brokers give at times, is nothing."""
    value = answer.get(key)
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if sound else None


def _rate(details: dict[str, Any]) -> float | None:
    value = details.get("rate")
    sound = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if sound else None  # type: ignore[arg-type]  # sound says it is a number


def _length(answer: dict[str, Any], key: str) -> int | None:
    value = answer.get(key)
    return len(value) if isinstance(value, list) else None


def _dict(answer: dict[str, Any], key: str) -> dict[str, Any]:
    value = answer.get(key)  # an empty one may come as [], Erlang's empty list
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
