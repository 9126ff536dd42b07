import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from rabbitproof.address import Address
from rabbitproof.broker import management
from rabbitproof.cli import monitor, serve
from rabbitproof.cli.connection import Api, Connection
from rabbitproof.cli.exits import Exit, run


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", "NO_COLOR", "TEXTUAL_DRIVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """An API with one queue; the requests it got."""
    requests: list[httpx.Request] = []
    queue = {"vhost": "/", "name": "q", "messages": 2, "messages_ready": 2,
             "messages_unacknowledged": 0}  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if request.url.path.endswith("/overview"):
            return httpx.Response(200, json={"rabbitmq_version": "4.3.6", "queue_totals": {}})
        if "page" in request.url.params:
            return httpx.Response(200, json={"items": [], "filtered_count": 0})
        return httpx.Response(200, json=[queue] if "/queues" in request.url.path else [])

    real = httpx.Client
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(
        management.httpx, "Client", lambda **given: real(**given | {"transport": transport})
    )
    return requests


@pytest.mark.parametrize("how", [["--once"], ["--watch", "0"]])
def test_once_prints_one_picture_and_ends(
    how: list[str], asked: list[httpx.Request], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monitor.app, arguments=how) == Exit.DONE
    out, err = capsys.readouterr()
    assert out.startswith("╔═")
    assert "● q  [" in out
    assert "\x1b" not in out
    assert err == ""
    assert str(asked[0].url) == "http://localhost:15672/api/overview"


def test_json_is_one_object_on_a_line(
    asked: list[httpx.Request], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monitor.app, arguments=["--once", "--json"]) == Exit.DONE
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out)["queues"][0]["ready"] == 2


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://h:1", "http://h:1"),
        ("https://h/prefix", "https://h/prefix"),
        ("h", "http://h:15672"),
        ("h:8080", "http://h:8080"),
    ],
)
def test_the_host_is_a_url_or_just_a_host(
    host: str, url: str, asked: list[httpx.Request], capsys: pytest.CaptureFixture[str]
) -> None:
    run(monitor.app, arguments=["--once", "--host", host])
    assert str(asked[0].url) == f"{url}/api/overview"
    warned = "unencrypted" in capsys.readouterr().err
    assert warned == url.startswith("http:")


def test_the_login_is_the_one_given(asked: list[httpx.Request], tmp_path: Path) -> None:
    secret = tmp_path / "p"
    secret.write_text("b\n")
    secret.chmod(0o600)
    run(monitor.app, arguments=["--once", "--username", "a", "--password-file", str(secret)])
    assert asked[0].headers["authorization"] == "Basic YTpi"


def test_a_vhost_is_all_that_is_asked_for(asked: list[httpx.Request]) -> None:
    run(monitor.app, arguments=["--once", "--vhost", "a/b"])
    assert {request.url.raw_path.split(b"?")[0] for request in asked} >= {
        b"/api/queues/a%2Fb",
        b"/api/consumers/a%2Fb",
        b"/api/vhosts/a%2Fb/connections",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--filter", "("], "--filter is no regular expression"),
        (["--watch", "-1"], "--watch"),
        (["--serve", "--once"], "--serve shows the live view"),
        (["--host", "ftp://h"], "is not a URL of HTTP"),
        (["--queue", ""], "--queue"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monitor.app, arguments=arguments) == Exit.USAGE
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("how", [["--once"], ["--once", "--json"], ["--watch", "5"]])
def test_an_api_that_is_not_there_is_one_sentence_and_exit_3(
    how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monitor.app, arguments=[*how, "--host", "http://127.0.0.1:1"]) == Exit.UNREACHABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "rabbitmq-plugins enable rabbitmq_management" in err


def test_what_serve_starts_learns_the_login_from_its_environment_alone() -> None:
    address = Address(host="h", username="u:", password="p@/")
    environment = serve.environment(Connection((address,), Api("http://h:1/x", address)))
    assert environment["RABBITMQ_MANAGEMENT_URL"] == "http://u%3A:p%40%2F@h:1/x"
    assert environment["RABBITMQ_URL"] == "amqp://u%3A:p%40%2F@h:5672/%2F"


def test_serve_refuses_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    import socketserver

    taken: Any = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
    with taken:
        port = str(taken.server_address[1])
        assert run(monitor.app, arguments=["--serve", "--serve-port", port]) == Exit.USAGE
    assert "name another one" in capsys.readouterr().err
