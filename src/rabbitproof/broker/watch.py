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
snapshot says what is missing. A field that is missing is not a value (``answers``): on 3.10 a
stream tells no leader, which is not having none. An API that does not answer is an error.

Fields: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from rabbitproof.broker.answers import (
    count,
    flag,
    mapping,
    read_overview,
    read_policy,
    text,
    told,
)
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
        who = read_overview(overview)
        nodes = self._try("the nodes", self._nodes) or ()
        queues, listed = self._queues(self._pages if who.metrics else 0, moving)
        at = time.monotonic()  # the counters are of now, whatever the rest takes
        consumers = connections = None
        known = None
        if who.metrics:
            consumers = self._try("the consumers", self._consumers)
            found = self._try("the connections", self._connections)
            connections, known = found or (None, None)
        stats = mapping(overview, "message_stats") or {}
        totals = mapping(overview, "object_totals") or {}
        return Snapshot(
            at=at,
            clock=time.time(),
            source=self._api.url,
            version=who.rabbitmq,
            cluster=who.cluster,
            queues=queues,
            listed=listed,
            consumers=consumers,
            connections=connections,
            connection_count=count(totals, "connections") if known is None else known,
            nodes=nodes,
            metrics=who.counts,
            unroutable_dropped=count(stats, "drop_unroutable"),
            unroutable_returned=count(stats, "return_unroutable"),
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
        details = answer.get("consumer_details")
        consumers = [
            _consumer(one | {"queue": {"name": name, "vhost": vhost}}) for one in _dicts(details)
        ]
        stats = mapping(answer, "message_stats") or {}
        oldest = count(answer, "head_message_timestamp")
        first = count(answer, "first_timestamp")  # a stream's, in milliseconds
        return Detail(
            queue=_queue(answer, answer),
            durable=flag(answer, "durable"),
            exclusive=answer.get("exclusive") is True,
            auto_delete=answer.get("auto_delete") is True,
            arguments=mapping(answer, "arguments"),
            policy=read_policy(answer),
            policy_definition=mapping(answer, "effective_policy_definition"),
            bindings=None
            if bindings is None
            else tuple((told(one, "source"), told(one, "routing_key")) for one in bindings),
            consumers=tuple((one, self._held(one, n)) for n, one in enumerate(consumers))
            if isinstance(details, list)
            else None,
            oldest=float(oldest) if oldest else (first / 1000 if first else None),
            bytes=count(answer, "message_bytes"),
            depth=_samples(answer, "messages_details"),
            published=_slopes(_samples(stats, "publish_details")),
            acknowledged=_slopes(_samples(stats, "ack_details")),
            missing=tuple(self._missing),
        )

    def _held(self, consumer: ConsumerSample, number: int) -> int | None:
        """Return what a consumer's channel holds unacknowledged."""
        if number >= _CHANNELS or not consumer.channel:
            return None
        channel = self._try(
            "what the consumers hold", lambda: self._ask("channels", consumer.channel)
        )
        return count(channel, "messages_unacknowledged") if isinstance(channel, dict) else None

    def _nodes(self) -> tuple[NodeSample, ...]:
        return tuple(map(_node, self._list("nodes", query=None)))

    def _queues(self, pages: int, moving: Sequence[Key]) -> tuple[tuple[QueueSample, ...], bool]:
        """Return the queues, and whether they are all there are."""
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
        there = {_key(one): one for one in basis if all(_key(one))}
        for gone in self._replicas.keys() - there.keys():
            del self._replicas[gone]
        for key, replicas in self._replicas.items():
            there[key] = there[key] | replicas
        queues = tuple(_queue(one, metrics.get(key)) for key, one in there.items())
        return queues, listed is not None and len(there) == len(listed)

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
        found = tuple(map(_consumer, self._list("consumers", *self._vhost, query=query)))
        if not all(one.vhost and one.queue for one in found):  # or its queue would have none
            raise ManagementError(
                "it is not told of which queue each is; check that --host is RabbitMQ's API."
            )
        return found

    def _connections(self) -> tuple[tuple[ConnectionSample, ...], int | None]:
        """Return the connections of the first pages, and how many there are."""
        path = ("vhosts", *self._vhost, "connections") if self._vhost else ("connections",)
        out: list[ConnectionSample] = []
        for number in range(1, CONNECTION_PAGES + 1):
            items, known = self._page(number, *path, columns=_CONNECTION_COLUMNS)
            out += map(_connection, items)
            if len(items) < PAGE:  # the last page
                known = known or len(out)
            if known is not None and len(out) >= known:
                break
        return tuple(out), None if known is None else max(known, len(out))

    def _page(
        self, number: int, *path: str, columns: str
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return one page and how many objects all have."""
        answer = self._ask(
            *path, query={"page": str(number), "page_size": str(PAGE), "columns": columns}
        )
        if isinstance(answer, list):  # an endpoint that does not know pages gives all
            return _dicts(answer), len(answer)
        if not isinstance(answer, dict) or not isinstance(answer.get("items"), list):
            raise self._absent(path)
        return _dicts(answer["items"]), count(answer, "filtered_count")

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
        stats = mapping(metrics, "message_stats") or {}
        counters = Counters(*(count(stats, name) for name in _COUNTS.values()))
        rates = Rates(*(_rate(stats, f"{name}_details") for name in _COUNTS.values()))
    elsewhere = metrics or {}  # a stream's depth stands there alone
    depths = (
        _first(count(basis, key), count(elsewhere, key))
        for key in ("messages_ready", "messages_unacknowledged", "messages")
    )
    ready, unacked, total = depths
    kind = text(basis, "type") or text(elsewhere, "type")
    replicated = kind in {"quorum", "stream"}
    return QueueSample(
        vhost=text(basis, "vhost"),
        name=text(basis, "name"),
        type=kind,
        state=text(basis, "state"),
        ready=ready,
        unacked=unacked,
        total=total,
        consumers=count(elsewhere, "consumers"),
        counters=counters,
        rates=rates,
        node=text(basis, "node"),
        leader=told(basis, "leader") if replicated else None,
        members=_length(basis, "members") if replicated else None,
        online=_length(basis, "online") if replicated else None,
    )


def _consumer(answer: dict[str, Any]) -> ConsumerSample:
    queue, channel = mapping(answer, "queue") or {}, mapping(answer, "channel_details") or {}
    return ConsumerSample(
        vhost=text(queue, "vhost"),
        queue=text(queue, "name"),
        tag=text(answer, "consumer_tag"),
        connection=text(channel, "connection_name"),
        channel=text(channel, "name"),
        prefetch=count(answer, "prefetch_count"),
        manual=flag(answer, "ack_required"),
        active=flag(answer, "active"),
    )


def _connection(answer: dict[str, Any]) -> ConnectionSample:
    return ConnectionSample(
        name=text(answer, "name"),
        client=text(mapping(answer, "client_properties") or {}, "connection_name"),
        user=text(answer, "user"),
        vhost=text(answer, "vhost"),
        state=text(answer, "state"),
        channels=count(answer, "channels"),
    )


def _node(answer: dict[str, Any]) -> NodeSample:
    uptime = count(answer, "uptime")
    cut_off = answer.get("partitions")
    files, files_limit = _used(answer, "fd_used", "fd_total")
    sockets, sockets_limit = _used(answer, "sockets_used", "sockets_total")
    return NodeSample(
        name=text(answer, "name"),
        running=flag(answer, "running"),
        memory=count(answer, "mem_used"),
        memory_limit=count(answer, "mem_limit"),
        memory_alarm=flag(answer, "mem_alarm"),
        disk_free=count(answer, "disk_free"),
        disk_limit=count(answer, "disk_free_limit"),
        disk_alarm=flag(answer, "disk_free_alarm"),
        files=files,
        files_limit=files_limit,
        sockets=sockets,
        sockets_limit=sockets_limit,
        uptime=None if uptime is None else uptime / 1000,
        partitions=tuple(one for one in cut_off if isinstance(one, str))
        if isinstance(cut_off, list)
        else (),
    )


def _used(answer: dict[str, Any], used: str, limit: str) -> tuple[int | None, int | None]:
    """Return how much of something is used and how much there is."""
    most = count(answer, limit)
    # A limit of 0 stands for what is not counted, as sockets are not since 4.0.
    return (None, None) if most == 0 else (count(answer, used), most)


def _samples(answer: dict[str, Any], details: str) -> tuple[tuple[float, float], ...]:
    """Return the broker's own samples, oldest first: (clock, value)."""
    out = []
    for one in _dicts((mapping(answer, details) or {}).get("samples")):
        value, when = count(one, "sample"), count(one, "timestamp")
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


def _key(answer: dict[str, Any]) -> Key:
    return (text(answer, "vhost"), text(answer, "name"))


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _rate(stats: dict[str, Any], details: str) -> float | None:
    value = (mapping(stats, details) or {}).get("rate")
    sound = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if sound else None  # type: ignore[arg-type]  # sound says it is a number


def _length(answer: dict[str, Any], key: str) -> int | None:
    value = answer.get(key)
    return len(value) if isinstance(value, list) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
