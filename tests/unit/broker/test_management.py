import itertools
import json
from collections.abc import Callable

import httpx
import pytest

from rabbitproof.address import Tls
from rabbitproof.broker import management as module
from rabbitproof.broker.management import Management
from rabbitproof.errors import ManagementError, ManagementUnreachable, UsageError

PASSWORD = "sesame"
Answer = Callable[[httpx.Request], httpx.Response]


class Api:
    """A client whose requests are kept and answered by a function."""

    def __init__(self, answer: Answer, url: str = "http://h:15672") -> None:
        self.requests: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return answer(request)

        self.client = Management(
            url, "bob", PASSWORD, timeout=0.2, transport=httpx.MockTransport(handler)
        )

    @property
    def path(self) -> str:
        return self.requests[-1].url.raw_path.decode()


def answering(status: int, content: object = None, headers: dict[str, str] | None = None) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: httpx.Response(status, content=body, headers=headers)


def raising(error: Exception) -> Answer:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("/", "%2F"),
        ("a/b", "a%2Fb"),
        ("../overview", "..%2Foverview"),
        ("...", "..."),
        ("a?b#c%d e", "a%3Fb%23c%25d%20e"),
        ("é\n", "%C3%A9%0A"),
    ],
)
def test_a_name_stays_one_segment_of_the_path(name: str, encoded: str) -> None:
    api = Api(answering(204, b""))
    api.client.delete_queue(name, name)
    assert api.path == f"/api/queues/{encoded}/{encoded}"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_the_server_would_drop_from_the_path_is_never_sent(name: str) -> None:
    api = Api(answering(204, b""))
    with pytest.raises(ManagementError, match="another name"):
        api.client.delete_queue("v", name)
    assert api.requests == []


def test_the_login_is_sent_in_utf_8_and_shown_nowhere() -> None:
    api = Api(answering(401, {"error": "not_authorized", "reason": "Login failed"}))
    with pytest.raises(ManagementError) as caught:
        api.client.overview()
    assert api.requests[0].headers["authorization"] == "Basic Ym9iOnNlc2FtZQ=="
    assert PASSWORD not in str(caught.value)
    assert "bob" in str(caught.value)


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Management("http://127.0.0.1:1", "u", "p") as client:
        assert client._client._mounts == {}


def test_a_path_in_the_address_is_kept() -> None:
    api = Api(answering(200, {"name": "bob", "tags": []}), "http://h/prefix/")
    api.client.whoami()
    assert api.path == "/prefix/api/whoami"


def test_the_overview_names_versions_and_cluster() -> None:
    answer = {
        "rabbitmq_version": "4.3.6",
        "erlang_version": "27.3",
        "cluster_name": "c",
        "node": "n@h",
        "queue_totals": {},
    }
    assert Api(answering(200, answer)).client.overview().metrics
    answer["disable_stats"] = True
    overview = Api(answering(200, answer)).client.overview()
    assert (overview.rabbitmq, overview.erlang, overview.cluster, overview.node) == (
        "4.3.6",
        "27.3",
        "c",
        "n@h",
    )
    assert not overview.metrics


QUEUE = {"name": "q", "type": "quorum", "durable": True, "arguments": {}, "state": "running"}
TOTALS = {"messages": 3, "messages_ready": 2, "messages_unacknowledged": 1}


def test_a_queue_joins_its_totals_with_its_metrics() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        exact = "disable_stats" in request.url.params
        return httpx.Response(200, json=QUEUE | (TOTALS if exact else {"consumers": 4}))

    queue = Api(answer).client.queue("v", "q")
    assert queue is not None
    assert (queue.messages, queue.ready, queue.unacked, queue.consumers) == (3, 2, 1, 4)
    assert (queue.name, queue.type, queue.durable, queue.state) == ("q", "quorum", True, "running")


def with_list(*listed: dict[str, object]) -> Answer:
    """Answer as RabbitMQ 3.10: a queue alone has no totals, the list may have them."""

    def answer(request: httpx.Request) -> httpx.Response:
        alone = request.url.path.count("/") == 4
        return httpx.Response(200, json=QUEUE if alone else list(listed))

    return answer


def test_counts_that_only_the_list_has_are_taken_from_there() -> None:
    other = QUEUE | {"name": "other", "messages": 9}
    queue = Api(with_list(other, QUEUE | TOTALS)).client.queue("v", "q")
    assert queue is not None
    assert (queue.name, queue.messages, queue.ready, queue.unacked) == ("q", 3, 2, 1)


def test_counts_that_the_broker_does_not_give_are_none_and_not_zero() -> None:
    queue = Api(with_list(QUEUE)).client.queue("v", "q")
    assert queue is not None
    assert (queue.messages, queue.ready, queue.unacked, queue.consumers) == (None,) * 4


def test_a_queue_that_goes_while_it_is_asked_for_is_none() -> None:
    assert Api(with_list()).client.queue("v", "q") is None


def test_a_queue_that_does_not_exist_is_none() -> None:
    missing = answering(404, {"error": "Object Not Found", "reason": "Not Found"})
    assert Api(missing).client.queue("v", "q") is None
    assert not Api(missing).client.delete_queue("v", "q")
    assert not Api(missing).client.delete_vhost("v")
    with pytest.raises(ManagementError, match="no user nobody"):
        Api(missing).client.set_permissions("v", "nobody")
    with pytest.raises(ManagementError, match="knows no queues/v"):
        Api(missing).client.queue_totals("v")


def test_queue_totals_come_in_one_request_without_metrics() -> None:
    api = Api(answering(200, [QUEUE | TOTALS]))
    assert api.client.queue_totals("/")["q"].messages == 3
    assert api.path == "/api/queues/%2F?disable_stats=true&enable_queue_totals=true"


def test_conditions_of_a_deletion_are_in_the_query() -> None:
    api = Api(answering(204, b""))
    assert api.client.delete_queue("v", "q", if_empty=True, if_unused=True)
    assert api.path == "/api/queues/v/q?if-empty=true&if-unused=true"
    assert api.client.delete_exchange("v", "e")
    assert api.path == "/api/exchanges/v/e"


def test_bindings_are_asked_for_where_they_are() -> None:
    binding = {
        "source": "e",
        "destination": "q",
        "destination_type": "queue",
        "routing_key": "work",
        "arguments": [],
    }
    api = Api(answering(200, [binding]))
    (one,) = api.client.bindings("v")
    assert (one.source, one.destination, one.routing_key) == ("e", "q", "work")
    assert api.path == "/api/bindings/v"
    api.client.bindings("v", queue="q")
    assert api.path == "/api/queues/v/q/bindings"
    api.client.bindings("v", exchange="")
    assert api.path == "/api/exchanges/v/amq.default/bindings/source"


@pytest.mark.parametrize("untold", ["source", "destination", "destination_type", "routing_key"])
def test_a_binding_that_says_not_what_it_binds_is_no_binding_of_rabbitmq(untold: str) -> None:
    """An exchange would look as if nothing used it, and `cleanup exchanges` deletes those."""
    binding = {"source": "e", "destination": "f", "destination_type": "exchange", "routing_key": ""}
    api = Api(answering(200, [binding, {**binding, untold: None}]))
    with pytest.raises(ManagementError, match="does not say what each binding binds"):
        api.client.bindings("v")


@pytest.mark.parametrize("untold", ["configure", "write", "read"])
def test_a_permission_that_is_not_told_is_not_refused(untold: str) -> None:
    granted = {"configure": ".*", "write": "", "read": ".*"}
    assert Api(answering(200, granted)).client.permissions("v", "u") == granted
    del granted[untold]
    with pytest.raises(ManagementError, match="does not say all that u may do"):
        Api(answering(200, granted)).client.permissions("v", "u")


def test_what_a_policy_defines_is_nothing_only_where_there_is_none() -> None:
    gone = answering(404, {"error": "Object Not Found"})
    assert Api(gone).client.policy("v", "p") == {}
    assert Api(answering(200, {"definition": {"max-length": 5}})).client.policy("v", "p")
    with pytest.raises(ManagementError, match="what the policy p defines"):
        Api(answering(200, {"name": "p"})).client.policy("v", "p")


def test_a_connection_is_closed_by_name_with_a_reason_that_fits_a_header() -> None:
    api = Api(answering(204, b""))
    assert api.client.close_connection("1.2.3.4:5 -> 6.7.8.9:1", "bye\r\nX-Evil: é")
    assert api.path == "/api/connections/1.2.3.4%3A5%20-%3E%206.7.8.9%3A1"
    assert api.requests[0].headers["x-reason"] == "bye\\r\\nX-Evil: \\xe9"


def test_connections_have_the_name_that_their_client_gave() -> None:
    answer = [
        {"name": "a", "client_properties": {"connection_name": "x"}, "user": "u", "vhost": "v"},
        {"name": "b", "client_properties": []},
    ]
    connections = Api(answering(200, answer)).client.connections()
    assert [(c.name, c.client_name) for c in connections] == [("a", "x"), ("b", "")]


@pytest.mark.parametrize("tags", [["management", "monitoring"], "management,monitoring"])
def test_tags_are_read_as_old_and_new_brokers_write_them(tags: object) -> None:
    who = Api(answering(200, {"name": "bob", "tags": tags})).client.whoami()
    assert who.tags == ("management", "monitoring")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answering(401, {"error": "not_authorized", "reason": "no"}), "password of bob"),
        (answering(401, {"error": "not_authorised", "reason": "no"}), "the permission"),
        (answering(403, b"<html>forbidden"), "the permission"),
        (answering(400, {"error": "bad_request", "reason": "queue q not empty"}), "not empty"),
        (answering(503, {"error": "busy", "reason": "starting"}), "503 starting.*wait"),
        (answering(500, b""), "500 nothing.*log"),
        (answering(400, {"reason": ["odd", [1]], "error": "bad_request"}), "400 bad_request"),
    ],
)
def test_a_refusal_tells_status_reason_and_what_to_do(answer: Answer, words: str) -> None:
    with pytest.raises(ManagementError, match=words) as caught:
        Api(answer).client.queue("v", "q")
    assert not isinstance(caught.value, ManagementUnreachable)
    assert str(caught.value).endswith((".", ")."))


@pytest.mark.parametrize(
    "answer",
    [
        answering(200, b"<html>Welcome to \x1b[2Jnginx</html>"),
        answering(200, b"\xff\xfe"),
        answering(200, b"[" * 100_000),
        answering(200, [1]),
        answering(200, "text"),
        answering(404, b"<html>not here"),
        answering(302, b"", {"location": "http://evil/"}),
    ],
)
def test_what_is_no_management_api_is_told_so(answer: Answer) -> None:
    with pytest.raises(ManagementUnreachable, match="is not RabbitMQ's Management API") as caught:
        Api(answer).client.queue("v", "q")
    assert "--management-url" in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, [1]])
def test_a_list_of_another_shape_is_told_so(content: object) -> None:
    with pytest.raises(ManagementUnreachable, match="gave no list"):
        Api(answering(200, content)).client.queue_totals("v")


def test_a_redirect_is_not_followed() -> None:
    api = Api(answering(302, b"", {"location": "http://evil/api/overview"}))
    with pytest.raises(ManagementUnreachable, match="redirects to http://evil"):
        api.client.overview()
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "rabbitmq-plugins enable"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), r"\(Name or service"),
        (httpx.ConnectTimeout(""), "within 0.2 s"),
        (httpx.ReadTimeout(""), "within 0.2 s"),
        (httpx.RemoteProtocolError("illegal status line: b'AMQP'"), "does not speak HTTP"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "--ca-file"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version"), "http://"),
        (httpx.ReadError(""), "ReadError"),
    ],
)
def test_a_failure_to_reach_it_says_why_and_what_to_do(error: Exception, words: str) -> None:
    with pytest.raises(ManagementUnreachable, match=words):
        Api(raising(error)).client.overview()


def test_an_answer_that_never_ends_is_cut_off_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(0.0, 0.05)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    api = Api(lambda _: httpx.Response(200, content=itertools.repeat(b" ")))
    with pytest.raises(ManagementUnreachable, match=r"within 0\.2 s"):
        api.client.overview()


def test_an_answer_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ANSWER", 2**20)
    with pytest.raises(ManagementError, match="more than 1 MiB"):
        Api(answering(200, b" " * (2**20 + 1))).client.overview()


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://h:99999999", "ftp://h", "h:15672", "http://"]
)
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="http://localhost:15672"):
        Management(url, "u", "p")


def test_tls_files_that_are_none_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="PEM"):
        Management("https://h", "u", "p", tls=Tls(ca_file=__file__))
