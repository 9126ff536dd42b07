from typing import Any

import httpx
import pytest

from rabbitproof.broker.management import Management
from rabbitproof.broker.watch import PAGES, Watch
from rabbitproof.errors import ManagementError, ManagementUnreachable
from rabbitproof.snapshot import Counters, Rates, Snapshot

OVERVIEW = {
    "rabbitmq_version": "4.3.6",
    "cluster_name": "c",
    "queue_totals": {"messages": 1},
    "object_totals": {"connections": 7},
    "message_stats": {"drop_unroutable": 2, "return_unroutable": 3},
}
REFUSED = httpx.Response(400, json={"error": "bad_request", "reason": "stats are disabled"})


def queue(name: str = "q", **more: Any) -> dict[str, Any]:
    return {"vhost": "/", "name": name, "type": "classic", "state": "running", **more}


TOTALS = {"messages": 3, "messages_ready": 2, "messages_unacknowledged": 1}


class Broker:
    """Answers like RabbitMQ; ``changed`` replaces the answer of a path."""

    def __init__(self, listed: list[dict[str, Any]] | None = None, **changed: Any) -> None:
        self.queues = [queue(**TOTALS)] if listed is None else listed
        self.changed = changed
        self.asked: list[httpx.URL] = []
        api = Management("http://h:15672", "u", "p", transport=httpx.MockTransport(self.answer))
        self.watch = Watch(api)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        what = request.url.path.split("/")[2]
        params = request.url.params
        if what == "queues" and "page" in params:
            what = "metrics"
        if what == "queues" and request.url.path.startswith("/api/queues///"):
            name = request.url.path.removeprefix("/api/queues///")
            found = [one for one in self.queues if one["name"] == name]
            gone = httpx.Response(404, json={"error": "Object Not Found"})
            if "queues" not in self.changed:
                return httpx.Response(200, json=found[0]) if found else gone
        if what in self.changed:
            change = self.changed[what]
            return (
                change if isinstance(change, httpx.Response) else httpx.Response(200, json=change)
            )
        if what == "overview":
            return httpx.Response(200, json=OVERVIEW)
        if what == "queues":
            return httpx.Response(200, json=self.queues)
        if what == "metrics":
            start = 500 * (int(params["page"]) - 1)
            items = self.queues[start : start + 500]
            return httpx.Response(200, json={"items": items, "filtered_count": len(self.queues)})
        if what == "connections":
            return httpx.Response(200, json={"items": [], "filtered_count": 0})
        return httpx.Response(200, json=[])

    def look(self) -> Snapshot:
        return self.watch.look()


def test_a_small_broker_is_asked_six_things() -> None:
    broker = Broker()
    assert broker.look().requests == len(broker.asked) == 6
    assert [url.path for url in broker.asked] == [
        "/api/overview",
        "/api/nodes",
        "/api/queues",
        "/api/queues",
        "/api/consumers",
        "/api/connections",
    ]
    depths, counters = broker.asked[2].params, broker.asked[3].params
    assert (depths["disable_stats"], depths["enable_queue_totals"]) == ("true", "true")
    assert counters["page_size"] == "500"
    assert all("columns" in url.params for url in broker.asked[2:])


def test_ten_thousand_queues_cost_no_more_requests_and_their_counters_come_in_turn() -> None:
    many = [queue(f"q{i}", message_stats={"publish": 1}, **TOTALS) for i in range(10_000)]
    broker = Broker(many)
    seen: set[str] = set()
    for _ in range(20):
        snapshot = broker.look()
        assert len(snapshot.queues) == 10_000
        assert snapshot.requests == 6
        counted = {one.name for one in snapshot.queues if one.counters is not None}
        assert len(counted) == 500
        assert not counted & seen
        seen |= counted
    assert len(seen) == 10_000


def test_moving_queues_are_asked_for_one_by_one_where_their_page_is_not() -> None:
    many = [queue(f"q{i}", message_stats={"publish": 1}, **TOTALS) for i in range(10_000)]
    broker = Broker(many)
    moving = [("/", "q3"), ("/", "q7000"), ("/", "q8000"), ("/", "gone"), ("/", "..")]
    snapshot = broker.watch.look(moving)  # q3 is on the first page
    assert len(broker.asked) == 6 + 3
    counted = {one.name for one in snapshot.queues if one.counters is not None}
    assert counted == {f"q{i}" for i in range(500)} | {"q7000", "q8000"}
    few = Broker(many[:10])
    assert few.watch.look([("/", "q3"), ("/", "gone")]).requests == 6


def test_some_thousand_queues_are_counted_by_two_pages_at_a_time() -> None:
    broker = Broker([queue(f"q{i}", **TOTALS) for i in range(2001)])
    assert [broker.look().requests for _ in range(3)] == [5 + PAGES] * 3
    assert [
        url.params["page"]
        for url in broker.asked
        if "page" in url.params and url.path == "/api/queues"
    ] == ["1", "2", "3", "4", "5", "1"]


def test_who_leads_a_queue_is_remembered_until_its_next_turn() -> None:
    many = [
        queue(f"q{i}", type="quorum", members=["a", "b", "c"], online=["a"], leader="a")
        for i in range(6000)
    ]
    broker = Broker(many)
    broker.queues = [
        {k: v for k, v in one.items() if k not in {"members", "online", "leader"}} for one in many
    ]
    broker.changed["metrics"] = {"items": many[:500], "filtered_count": 6000}
    assert broker.look().queues[0].members == 3
    broker.changed["metrics"] = {"items": many[500:1000], "filtered_count": 6000}
    known = [one for one in broker.look().queues if one.members is not None]
    assert len(known) == 1000


def test_depths_are_those_of_the_exact_list_and_rates_those_of_the_metrics() -> None:
    stats = {"publish": 10, "ack": 4, "publish_details": {"rate": 2.5}}
    old = queue(messages=99, messages_ready=99, consumers=2, message_stats=stats)
    broker = Broker(metrics={"items": [old], "filtered_count": 1})
    (one,) = broker.look().queues
    assert (one.ready, one.unacked, one.total, one.consumers) == (2, 1, 3, 2)
    assert one.counters == Counters(publish=10, ack=4)
    assert one.rates == Rates(publish=2.5)


def test_a_streams_depth_comes_from_the_metrics_where_alone_it_stands() -> None:
    listed = queue(type="stream", totals=None)
    old = queue(messages=9, messages_ready=9)
    broker = Broker([listed], metrics={"items": [old], "filtered_count": 1})
    assert broker.look().queues[0].total == 9


@pytest.mark.parametrize("value", [-5, True, "7", None, 1.5, [1]])
def test_a_count_that_is_none_is_unknown_and_not_nonsense(value: object) -> None:
    broker = Broker([queue(messages=value, messages_ready=value, messages_unacknowledged=value)])
    (one,) = broker.look().queues
    assert (one.ready, one.unacked, one.total) == (None, None, None)


@pytest.mark.parametrize("value", [-5, "x", float("inf"), None])
def test_a_rate_that_is_none_is_unknown(value: object) -> None:
    import json

    old = queue(message_stats={"publish": 1, "publish_details": {"rate": value}})
    content = json.dumps({"items": [old], "filtered_count": 1})
    broker = Broker(metrics=httpx.Response(200, content=content))
    assert broker.look().queues[0].rates == Rates()


def test_metrics_that_are_off_cost_only_what_they_gave() -> None:
    broker = Broker(
        overview={
            "rabbitmq_version": "4",
            "disable_stats": True,
            "object_totals": {"connections": 4},
        }
    )
    snapshot = broker.look()
    assert not snapshot.metrics
    assert snapshot.queues[0].total == 3
    assert (snapshot.consumers, snapshot.connections, snapshot.connection_count) == (None, None, 4)
    assert snapshot.requests == 3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nodes", "the nodes"),
        ("queues", "the depths of the queues"),
        ("metrics", "the counters"),
        ("consumers", "the consumers"),
        ("connections", "the connections"),
    ],
)
@pytest.mark.parametrize(
    "refusal",
    [
        REFUSED,
        httpx.Response(401, json={"error": "not_authorised", "reason": "no tag"}),
        httpx.Response(404, json={"error": "Object Not Found", "reason": "Not Found"}),
        httpx.Response(200, json={"odd": 1}),
    ],
    ids=["400", "401", "404", "odd"],
)
def test_an_endpoint_that_refuses_takes_only_its_own_figure(
    what: str, words: str, refusal: httpx.Response
) -> None:
    snapshot = Broker(**{what: refusal}).look()
    (sentence,) = snapshot.missing
    assert sentence.startswith(f"{words} could not be read: ")
    assert len(snapshot.queues) == 1


def test_a_login_that_is_refused_is_an_error() -> None:
    refusal = httpx.Response(401, json={"error": "not_authorized", "reason": "Login failed"})
    with pytest.raises(ManagementError, match="password of u"):
        Broker(overview=refusal).look()


def test_an_api_that_has_no_overview_is_another_one() -> None:
    with pytest.raises(ManagementUnreachable, match="--host"):
        Broker(overview=[]).look()


def test_nodes_consumers_and_connections_are_read() -> None:
    broker = Broker(
        nodes=[
            {
                "name": "n", "running": True, "mem_used": 5, "mem_limit": 9, "mem_alarm": True,
                "disk_free": 7, "disk_free_limit": 3, "fd_used": 1, "fd_total": 2,
                "sockets_used": 0, "sockets_total": 0, "uptime": 61_000, "partitions": ["m"],
            }
        ],
        consumers=[
            {
                "queue": {"name": "q", "vhost": "/"}, "consumer_tag": "t", "prefetch_count": 8,
                "ack_required": False, "active": False,
                "channel_details": {"connection_name": "a -> b", "name": "a -> b (1)"},
            },
            {"queue": {"name": "q", "vhost": "/"}, "channel_details": []},
        ],
        connections={
            "items": [{"name": "a -> b", "client_properties": {"connection_name": "x"}}],
            "filtered_count": 600,
        },
    )  # fmt: skip
    snapshot = broker.look()
    (node,) = snapshot.nodes
    assert (node.memory, node.memory_alarm, node.uptime, node.partitions) == (5, True, 61.0, ("m",))
    assert (node.sockets, node.sockets_limit) == (None, None)  # not counted since 4.0
    assert snapshot.consumers is not None
    assert (snapshot.consumers[0].prefetch, snapshot.consumers[0].manual) == (8, False)
    assert snapshot.connections is not None
    assert (snapshot.connections[0].client, snapshot.connection_count) == ("x", 600)
    assert (snapshot.unroutable_dropped, snapshot.unroutable_returned) == (2, 3)


def test_a_queue_without_leader_is_told_from_one_whose_leader_is_not_told() -> None:
    replicas = {"members": ["m", "n", "o"], "online": ["m"]}
    quorum = queue("b", type="quorum", leader="", **replicas)
    stream = queue("c", type="stream", **replicas)  # as RabbitMQ 3.10 tells of it
    classic, without, untold = Broker([queue("a"), quorum, stream]).look().queues
    assert (classic.leader, without.leader, untold.leader) == (None, "", None)
    assert (without.members, without.online) == (untold.members, untold.online) == (3, 1)


def test_a_queue_of_which_no_message_was_counted_has_no_counters() -> None:
    """Such a queue has no message_stats; neither has one of a broker with rates_mode none."""
    (one,) = Broker().look().queues
    assert (one.counters, one.rates) == (Counters(), Rates())
    assert Broker().look().metrics
    assert not Broker(overview={**OVERVIEW, "rates_mode": "none"}).look().metrics


@pytest.mark.parametrize("untold", ["filtered_count", "object_totals"])
def test_how_many_connections_there_are_is_not_what_one_page_has(untold: str) -> None:
    page: dict[str, Any] = {"items": [{"name": "c"}] * 500, "filtered_count": 1700}
    overview: dict[str, Any] = dict(OVERVIEW)
    (page if untold in page else overview).pop(untold)
    assert Broker(overview=overview, connections=page).look().connection_count == (
        7 if untold == "filtered_count" else 1700
    )
    page.pop("filtered_count", None)
    overview.pop("object_totals", None)
    assert Broker(overview=overview, connections=page).look().connection_count is None


def test_queues_that_could_not_be_listed_are_not_all_there_are() -> None:
    assert Broker().look().listed
    assert not Broker(queues=REFUSED).look().listed


def test_a_close_up_has_the_brokers_own_history() -> None:
    samples = [{"sample": v, "timestamp": t} for v, t in ((70, 15000), (50, 10000), (90, 5000))]
    answer = queue(
        messages_details={"samples": samples},
        message_stats={"ack_details": {"samples": samples}},
        head_message_timestamp=4,
        consumer_details=[{"consumer_tag": "t", "channel_details": {"name": "c"}}],
    )
    broker = Broker([], channels={"messages_unacknowledged": 6})
    broker.changed["queues"] = answer
    detail = broker.watch.close_up("/", "a/b")
    assert detail is not None
    assert broker.asked[0].raw_path.startswith(b"/api/queues/%2F/a%2Fb?lengths_age=600")
    assert detail.depth == ((5.0, 90.0), (10.0, 50.0), (15.0, 70.0))
    assert detail.acknowledged == ((15.0, 4.0),)  # a counter that fell gives no rate
    assert detail.oldest == 4.0
    assert detail.consumers is not None
    assert [held for _, held in detail.consumers] == [6]
    assert (detail.bindings, detail.arguments, detail.policy, detail.durable) == (None,) * 4
    assert detail.missing[0].startswith("the bindings could not be read")


def test_a_queue_that_is_gone_has_no_close_up() -> None:
    gone = httpx.Response(404, json={"error": "Object Not Found", "reason": "Not Found"})
    assert Broker(queues=gone).watch.close_up("/", "q") is None


def test_a_vhost_that_is_not_there_is_an_error_and_not_an_empty_broker() -> None:
    gone = httpx.Response(404, json={"error": "Object Not Found", "reason": "Not Found"})
    broker = Broker(queues=gone, metrics=gone, consumers=gone)
    watch = Watch(broker.watch._api, vhost="nope\x1b")
    with pytest.raises(ManagementError, match=r"^there is no vhost nope\\x1b; check --vhost\.$"):
        watch.look()
