"""A field that the Management API does not tell is no value: whichever is missing of an answer,
nothing is called wrong for it, nothing is called well, and nothing is shown as 0 or as none.

The answers are those of RabbitMQ 3.10.8, cut to what is read of them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import pytest

from rabbitproof.broker import watch
from rabbitproof.snapshot import Picture, Rates
from rabbitproof.view import cards, closeup, overview
from rabbitproof.work import doctor, monitor
from rabbitproof.work.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.management import Management

Path = tuple[str | int, ...]
LOOK_S = 6.0
REPLICAS = {"members": ["n"], "online": ["n"]}


def totals(ready: int, unacked: int = 0) -> dict[str, int]:
    return {
        "messages": ready + unacked, "messages_ready": ready, "messages_unacknowledged": unacked
    }  # fmt: skip


def counted(**counters: int) -> dict[str, Any]:
    details = {f"{name}_details": {"rate": 0.0} for name in counters}
    return {"message_stats": {**counters, **details}}


def answers(look: int, *, sick: bool) -> dict[str, Any]:
    """What a broker answers when it is looked at for the n-th time, well or with all its ills."""
    acked = 0 if sick else 7 * look
    online = {"members": ["n", "m", "o"], "online": ["n"] if sick else ["n", "m", "o"]}
    queues = [
        {"name": "cl", "vhost": "/", "type": "classic", "state": "running", **totals(15, 5)},
        {"name": "st", "vhost": "/", "type": "stream", "state": "running"},
        {"name": "qq", "vhost": "/", "type": "quorum", "state": "running", **totals(0)},
        {"name": "idle", "vhost": "/", "type": "classic", "state": "running",
         **totals(4 if sick else 0)},
    ]  # fmt: skip
    metrics = [
        {**queues[0], "consumers": 1,
         **counted(publish=20 + acked, deliver_get=5 + acked, ack=acked, redeliver=0)},
        {**queues[1], "consumers": 0, **online, **totals(20), **counted(publish=20)},
        {**queues[2], "consumers": 0, **online, "leader": "" if sick else "n"},
        {**queues[3], "consumers": 0},
    ]  # fmt: skip
    return {
        "overview": {
            "rabbitmq_version": "3.10.8", "cluster_name": "c", "rates_mode": "basic",
            "disable_stats": False, "queue_totals": {"messages": 40},
            "object_totals": {"connections": 1},
            "message_stats": {"drop_unroutable": 3 if sick else 0, "return_unroutable": 0},
        },
        "nodes": [
            {
                "name": "n", "running": True, "partitions": ["m"] if sick else [], "uptime": 60_000,
                "mem_used": 10, "mem_limit": 100, "mem_alarm": sick, "disk_free": 1000,
                "disk_free_limit": 10, "disk_free_alarm": sick, "fd_used": 40, "fd_total": 20_000,
                "sockets_used": 1, "sockets_total": 17_910,
            },
            {"name": "m", "running": not sick, **({} if sick else {"mem_alarm": False,
             "disk_free_alarm": False})},
        ],
        "queues": queues,
        "metrics": {"items": metrics, "filtered_count": len(metrics)},
        "consumers": [
            {
                "queue": {"name": "cl", "vhost": "/"}, "consumer_tag": "t", "prefetch_count": 5,
                "ack_required": True, "active": True,
                "channel_details": {"connection_name": "a -> b", "name": "a -> b (1)"},
            }
        ],
        "connections": {
            "items": [
                {
                    "name": "a -> b", "user": "guest", "vhost": "/", "channels": 1,
                    "state": "blocked" if sick else "running",
                    "client_properties": {"connection_name": "worker"},
                }
            ],
            "filtered_count": 1,
        },
    }  # fmt: skip


def paths(value: Any, above: Path = ()) -> Iterator[Path]:
    """Every field there is, of objects and of what they hold."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(value, dict) and above:
            yield (*above, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*above, key))


def without(answer: dict[str, Any], path: Path) -> dict[str, Any]:
    answer = copy.deepcopy(answer)  # some of it stands in two places
    inner: Any = answer
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return answer


class Broker:
    """Answers as told, less one field; its clock goes on with each look."""

    url = "http://h:15672"

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, untold: Path | None = None, *, sick: bool
    ) -> None:
        self.looks, self.sick, self.untold = 0, sick, untold
        self.told: dict[str, Any] = {}
        monkeypatch.setattr(watch.time, "monotonic", lambda: LOOK_S * self.looks)
        monkeypatch.setattr(monitor.time, "sleep", lambda _: None)

    def ask(self, *path: str, query: dict[str, str] | None = None) -> Any:
        what = "metrics" if path == ("queues",) and "page" in (query or {}) else path[0]
        if what == "overview":
            self.looks += 1
            self.told = answers(self.looks, sick=self.sick)
            if self.untold is not None:
                self.told = without(self.told, self.untold)
        return self.told.get(what)

    @property
    def api(self) -> Management:
        return cast("Management", self)

    def watched(self, times: int = 4) -> Picture:
        eyes = Monitor(watch.Watch(self.api))
        return [eyes.refresh() for _ in range(times)][-1]


def kinds(seen: Picture) -> set[str]:
    """What was found wrong, by what can be done about it; its names and numbers may differ."""
    return {problem.do for problem in seen.problems}


WELL = sorted(set(paths(answers(1, sick=False))), key=str)
SICK = sorted(set(paths(answers(1, sick=True))), key=str)


def name(path: Path) -> str:
    return ".".join(map(str, path))


def test_the_broker_that_is_well_and_the_other_one_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Broker(monkeypatch, sick=False).watched().problems == ()
    found = " ".join(one.what for one in Broker(monkeypatch, sick=True).watched().problems)
    for words in ("memory alarm", "disk alarm", "node m is down", "cut off", "blocked by",
                  "without leader: qq", "without a majority of members online: st",
                  "acknowledge none", "dropped", "without consumer: idle"):  # fmt: skip
        assert words in found


@pytest.mark.parametrize("untold", WELL, ids=name)
def test_nothing_is_wrong_for_what_is_not_told(
    monkeypatch: pytest.MonkeyPatch, untold: Path
) -> None:
    seen = Broker(monkeypatch, untold, sick=False).watched()
    assert (seen.error, seen.problems) == (None, ())
    assert not [one.text for one in seen.events if "down" in one.text or "ended" in one.text]


@pytest.mark.parametrize("untold", SICK, ids=name)
def test_what_is_wrong_is_what_was_told(monkeypatch: pytest.MonkeyPatch, untold: Path) -> None:
    all_of_it = kinds(Broker(monkeypatch, sick=True).watched())
    seen = Broker(monkeypatch, untold, sick=True).watched()
    assert kinds(seen) <= all_of_it
    assert not [one.text for one in seen.events if "ended" in one.text or "back" in one.text]


ALARMS = [("nodes", 0, "mem_alarm"), ("nodes", 0, "disk_free_alarm"), ("nodes", 1, "mem_alarm")]


@pytest.mark.parametrize("untold", WELL, ids=name)
def test_the_doctor_calls_nothing_well_of_which_it_was_not_told(
    monkeypatch: pytest.MonkeyPatch, untold: Path
) -> None:
    found = list(doctor._shown(Broker(monkeypatch, untold, sick=False).api, None))
    assert {one.level for one in found} <= {"ok", "skip"}
    if untold in [*ALARMS, ("overview", "queue_totals")]:
        assert "ok" not in {one.level for one in found}
        assert "does not tell of its" in found[-1].text


@pytest.mark.parametrize("untold", WELL, ids=name)
def test_no_figure_is_zero_for_not_being_told(
    monkeypatch: pytest.MonkeyPatch, untold: Path
) -> None:
    """Of each line of the picture: what it says is what it said, or less, or a question mark."""
    whole = Broker(monkeypatch, sick=False).watched(2)
    seen = Broker(monkeypatch, untold, sick=False).watched(2)
    figures, before = cards.figures(seen), cards.figures(whole)
    for what, shown in figures.items():
        assert shown == before[what] or "?" in shown or shown.endswith("+") or "off" in shown
    told = overview.as_object(seen)
    by_name = {one["name"]: one for one in overview.as_object(whole)["queues"]}
    for one in told["queues"]:
        same = by_name[one["name"]]
        for key, value in one.items():
            assert value == same[key] or value is None, key


def test_a_healthy_stream_of_3_10_has_a_page_without_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, sick=False)
    answer = {
        "name": "st", "vhost": "/", "type": "stream", "durable": True, "state": "running",
        "arguments": {"x-queue-type": "stream"}, "policy": None, "effective_policy_definition": {},
        "consumer_details": [], **REPLICAS,
    }  # fmt: skip

    def page(**answer: Any) -> str:
        monkeypatch.setattr(broker, "ask", lambda *path, **_: None if path[3:] else answer)
        detail = watch.Watch(broker.api).close_up("/", "st")
        assert detail is not None
        lines = closeup.lines(detail, Rates(publish=5.0), 0.0, 100)
        return "\n".join(cards.plain(line) for line in lines)

    shown = page(**answer)
    assert "leader ?, 1 of 1 members online" in shown
    assert "Policy  none -" in shown
    assert "Consumers (0)" in shown
    assert "Bindings (?)" in shown  # they could not be read
    assert "Time until empty: ? (no rates yet)" in shown
    assert "leader none" in page(**answer, leader="")
    for untold, told in (
        ("policy", "Policy  none"),
        ("arguments", "Arguments  -"),
        ("effective_policy_definition", "none -"),
        ("consumer_details", "Consumers (0)"),
        ("online", " 0 of"),
        ("members", "of 0"),
        ("durable", "transient"),
    ):
        shown = page(**{key: value for key, value in answer.items() if key != untold})
        assert "?" in shown
        assert told not in shown
