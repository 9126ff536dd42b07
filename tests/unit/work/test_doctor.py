"""What the doctor knows without a broker."""

import importlib.util
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rabbitproof.errors import BrokerUnreachable, ManagementError
from rabbitproof.model import Queue, Topology
from rabbitproof.work import doctor


def findings(
    release: tuple[int, int], version: str, *, permits: bool | None = True, **settings: Any
) -> list[str]:
    topology = Topology("e", "k", Queue("q", **settings))
    found = list(doctor.judge_version(release, version, topology, permits_transient=permits))
    assert all(one.fix for one in found if one.level != "ok")
    return [one.text for one in found if one.level != "ok"]


def test_what_a_release_no_longer_allows_is_said_where_it_matters() -> None:
    assert findings((3, 10), "3.10.8", lazy=True) == []
    assert "ignores lazy" in findings((3, 12), "3.12.1", lazy=True)[0]
    assert findings((3, 12), "3.12.1") == []
    assert findings((4, 3), "4.3.0") == []
    assert "refuses queues that are not durable" in findings((4, 0), "4.0.9", permits=False)[0]
    assert "may refuse queues" in findings((4, 3), "4.3.0", permits=None)[0]
    assert findings((4, 3), "4.3.0", permits=False, durable=True) == []
    assert "failed 21 times" in findings((4, 2), "4.2.0", kind="quorum", durable=True)[0]


@pytest.mark.parametrize(
    ("release", "answer", "permits"),
    [
        ((3, 10), None, True),
        ((4, 0), [{"deprecation_phase": "permitted_by_default"}], True),
        ((4, 2), [{"deprecation_phase": "denied_by_default"}], None),
        ((4, 3), [{"deprecation_phase": "permitted_by_default", "state": "denied"}], False),
        ((4, 3), [{"deprecation_phase": "denied_by_default", "state": "permitted"}], True),
        ((4, 3), [], None),
        ((4, 3), None, None),
        ((4, 3), ManagementError("No."), None),
    ],
)
def test_a_broker_is_asked_what_it_permits(
    release: tuple[int, int], answer: Any, permits: bool | None
) -> None:
    class Api:
        def ask(self, path: str) -> Any:
            assert path == "deprecated-features"
            if isinstance(answer, Exception):
                raise answer
            return answer and [{"name": "transient_nonexcl_queues", **one} for one in answer]

    assert doctor._permits_transient(cast("Any", Api()), release) is permits


@pytest.mark.parametrize(
    ("release", "version", "loses"),
    [
        ((3, 12), "3.12.14", False),
        ((3, 13), "3.13.7", True),
        ((4, 0), "4.0.9", True),
        ((4, 1), "4.1.4", True),
        ((4, 1), "4.1.5", False),
        ((4, 2), "4.2.0", False),
    ],
)
def test_releases_that_lose_messages_are_named(
    release: tuple[int, int], version: str, loses: bool
) -> None:
    assert any("can lose" in text for text in findings(release, version, durable=True)) == loses


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [(".*", "q", True), ("", "q", False), ("^$", "q", False), ("work", "work.queue", True),
     ("^(a|b)$", "c", False), ("(?<unclosed", "q", True)],
)  # fmt: skip
def test_a_permission_is_a_pattern(pattern: str, name: str, matches: bool) -> None:
    assert doctor._matches(pattern, name) == matches


def window(monkeypatch: pytest.MonkeyPatch, tk: bool, display: str, platform: str) -> Any:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if tk else None)
    return list(doctor._window({"DISPLAY": display} if display else {}, platform))


def test_what_the_window_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    (missing,) = window(monkeypatch, False, ":0", "linux")
    assert "python3-tk" in missing.fix
    (dark,) = window(monkeypatch, True, "", "linux")
    assert "no display" in dark.text
    (fine,) = window(monkeypatch, True, ":0", "linux")
    assert fine.level == "ok"


def test_windows_is_told_how_to_run_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = window(monkeypatch, True, "", "win32")
    assert "-ExecutionPolicy Bypass" in found[-1].fix
    assert "RemoteSigned" in found[-1].fix


def test_an_error_becomes_a_finding_with_its_fix() -> None:
    found = doctor._failed("reachable", BrokerUnreachable("Nobody answers; start one."))
    assert (found.text, found.fix) == ("Nobody answers", "start one")


@pytest.mark.parametrize(
    ("amqp", "http", "level", "words"),
    [
        ("c", "c", "ok", "answers"),
        ("c", "d", "fail", "leads to the cluster"),
        ("c", "", "warn", "the Management API names no cluster"),
        ("", "c", "warn", "AMQP names no cluster"),
        ("", "", "warn", "names no cluster"),
    ],
)
def test_two_that_do_not_say_their_cluster_are_not_the_same(
    monkeypatch: pytest.MonkeyPatch, amqp: str, http: str, level: str, words: str
) -> None:
    for name in ("_permissions", "_bindings", "_shown", "_strays"):
        monkeypatch.setattr(doctor, name, lambda *_: ())
    connection: Any = SimpleNamespace(
        server_properties={"cluster_name": amqp}, address=SimpleNamespace(vhost="/")
    )
    overview = SimpleNamespace(cluster=http, metrics=True, counts=True)
    api: Any = SimpleNamespace(url="http://h", overview=lambda: overview)
    (found,) = doctor._management(api, connection, Topology("e", "k", Queue("q")))
    assert (found.level, words in found.text) == (level, True)
