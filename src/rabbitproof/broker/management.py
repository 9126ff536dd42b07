"""RabbitMQ's Management API: what the broker says about itself, and what it can be told.

Holds: every path below ``/api/`` that the project uses, and what can be odd about an answer.
Refuses to hold: rates, colours, decisions, waiting. The only file that knows HTTP.

Rules:

- A name is percent-encoded whole: a vhost called ``/`` or a queue called ``a/../b`` stays one
  segment of the path.
- The login goes to the address that was named and nowhere else: no redirects, no proxies, no
  ``.netrc``. What certificates are trusted is decided as for AMQP.
- An answer is untrusted: its size and its time are bounded, its shape is checked
  (``broker/answers``), and nothing of it is shown but through ``text.safe``.

How old a count is (seen on 3.10, 4.0 and 4.3): a classic queue's is its own; a quorum queue reports
every 5 s, so that until then a full one counts 0 and a purged one what it held; a stream
reports as often, and only where it is asked for alone. So these counts are for showing. That a
queue is empty is proven over AMQP, whose passive declaration asks the queue itself.

Paths and fields: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx

from rabbitproof.address import HIGHEST_PORT, MANAGEMENT_PORT, Tls
from rabbitproof.broker.answers import (
    ConnectionInfo,
    ExchangeInfo,
    Overview,
    Policy,
    QueueInfo,
    Who,
    count,
    mapping,
    read_binding,
    read_connection,
    read_exchange,
    read_overview,
    read_queue,
    read_who,
    text,
    told,
)
from rabbitproof.errors import ManagementError, ManagementUnreachable, UsageError
from rabbitproof.text import safe
from rabbitproof.tls import client_context

if TYPE_CHECKING:
    from rabbitproof.routing import Binding

TIMEOUT = 10.0
"""Seconds for one request, from connecting to the last byte. The broker itself gives its
nodes 10 s to answer each other."""
LARGEST_ANSWER = 64 * 2**20
"""Bytes of one answer. A queue takes about 1 kB, so this is tens of thousands of queues."""
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
"""What Python writes before the system's words; the words are enough."""

_TOTALS = {"disable_stats": "true", "enable_queue_totals": "true"}
"""Asks for the counts without the metrics, which would be older and cost the broker more."""


class Management:
    """A client of one broker's Management API, open from ``with`` to its end.

    ``url`` is like ``http://localhost:15672``; ``timeout`` is in seconds, for each request.
    Every method raises ``ManagementUnreachable`` when nobody or somebody else answers and
    ``ManagementError`` when the API says no, with its reason.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        tls: Tls | None = None,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._shown = safe(self.url)
        if not _is_http(self.url):
            raise UsageError(
                f"{self._shown} is no address of a Management API; "
                "write it like http://localhost:15672."
            )
        self._username = username
        self._timeout = timeout
        self._client = httpx.Client(
            auth=httpx.BasicAuth(username.encode(), password.encode()),
            verify=client_context(tls or Tls()) if self.url.startswith("https:") else False,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; may be called more than once."""
        self._client.close()

    # What the broker says.

    def overview(self) -> Overview:
        """Return who answers."""
        return read_overview(self._object("overview"))

    def memory_left(self) -> int | None:
        """Return how many bytes the node that is closest to its memory limit has left.

        None where that is not told. Behind the limit all publishers are blocked.
        """
        left = []
        for node in self._list("nodes"):
            limit, used = count(node, "mem_limit"), count(node, "mem_used")
            if limit is None or used is None:
                return None
            left.append(limit - used)
        return min(left, default=None)

    def whoami(self) -> Who:
        """Return the login and its tags."""
        return read_who(self._object("whoami"))

    def queue(self, vhost: str, name: str) -> QueueInfo | None:
        """Return one queue, None when there is none or no such vhost.

        ``consumers`` comes from the metrics, and is None until they know the queue.
        """
        metrics = self._object_or_none("queues", vhost, name)
        totals = self._object_or_none("queues", vhost, name, query=_TOTALS)
        if metrics is None or totals is None:
            return None
        queue = read_queue(metrics | totals)
        if "messages" in totals or queue.type == "stream":
            return queue
        # RabbitMQ 3.10 counts in the list of all queues, and not where one is asked for.
        listed = [
            one for one in self._list("queues", vhost, query=_TOTALS) if one.get("name") == name
        ]
        return read_queue(metrics | totals | listed[0]) if listed else None

    def policy(self, vhost: str, name: str) -> dict[str, Any]:
        """Return what a policy defines, empty when there is none; known at once, where a queue's
        effective definition comes with its metrics.
        """
        answer = self._object_or_none("policies", vhost, name)
        found = {} if answer is None else mapping(answer, "definition")
        if found is None:
            raise self._stranger(f"does not say what the policy {safe(name)} defines")
        return found

    def queue_totals(self, vhost: str) -> dict[str, QueueInfo]:
        """Return every queue of a vhost by its name, in one request and without consumers."""
        queues = map(read_queue, self._list("queues", vhost, query=_TOTALS))
        return {queue.name: queue for queue in queues}

    def queues_with_policies(self, vhost: str) -> list[QueueInfo]:
        """Return every queue of a vhost with what policies add to its arguments; slow for many."""
        return [read_queue(one) for one in self._list("queues", vhost)]

    def vhosts(self) -> dict[str, str]:
        """Return the description of each vhost, empty where it has none, or none is told."""
        return {
            name: text(one, "description")
            for one in self._list("vhosts")
            if (name := told(one, "name")) is not None
        }

    def exchanges(self, vhost: str) -> list[ExchangeInfo]:
        """Return a vhost's exchanges; the default one is called ``""``."""
        found = map(read_exchange, self._list("exchanges", vhost))
        return [exchange for exchange in found if exchange is not None]

    def policies(self, vhost: str, *, operators: bool = False) -> dict[str, Policy]:
        """Return the policies of a vhost, or its operator policies, by their names."""
        return {
            name: Policy(text(one, "pattern"), definition)
            for one in self._list("operator-policies" if operators else "policies", vhost)
            if (name := told(one, "name")) is not None
            and (definition := mapping(one, "definition")) is not None
        }

    def bindings(
        self, vhost: str, *, queue: str | None = None, exchange: str | None = None
    ) -> list[Binding]:
        """Return the bindings of a vhost, of those to one queue or from one exchange."""
        if queue is not None:
            answer = self._list("queues", vhost, queue, "bindings")
        elif exchange is not None:
            answer = self._list("exchanges", vhost, exchange or "amq.default", "bindings", "source")
        else:
            answer = self._list("bindings", vhost)
        found = [binding for one in answer if (binding := read_binding(one)) is not None]
        if len(found) < len(answer):  # or an exchange would look as if nothing used it
            raise self._stranger("does not say what each binding binds")
        return found

    def permissions(self, vhost: str, user: str) -> dict[str, str] | None:
        """Return what a user may do in a vhost: regular expressions; None for nothing.

        Only an administrator may ask.
        """
        answer = self._object_or_none("permissions", vhost, user)
        if answer is None:
            return None
        found = {
            kind: pattern
            for kind in ("configure", "write", "read")
            if (pattern := told(answer, kind)) is not None
        }
        if len(found) < 3:  # or what is not told would look as if it were refused
            raise self._stranger(f"does not say all that {safe(user)} may do")
        return found

    def connections(self) -> list[ConnectionInfo]:
        """Return the connections the metrics know; a new one takes some seconds to appear."""
        return [read_connection(one) for one in self._list("connections")]

    def ask(self, *path: str, query: dict[str, str] | None = None) -> Any:
        """Return an answer as JSON, None for a 404: for those in this room who read more of it."""
        return self._request("GET", *path, query=query)

    def peek(self, vhost: str, queue: str, most: int) -> list[dict[str, Any]]:
        """Return up to ``most`` messages of a queue with their properties; they go back to it.

        Each is flagged as redelivered from then on, and a quorum queue counts a delivery. Of a
        body, one byte comes along.
        """
        body = {"count": most, "ackmode": "ack_requeue_true", "encoding": "base64", "truncate": 1}
        answer = self._request("POST", "queues", vhost, queue, "get", body=body)
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise self._stranger("gave no messages of " + safe(queue))
        return answer

    # What the broker is told. What deletes tells whether there was something to delete.

    def create_vhost(self, name: str, description: str = "") -> None:
        """Create a vhost; the login gets every permission in it. Existing is as good."""
        body = {"description": description} if description else {}
        self._request("PUT", "vhosts", name, body=body)

    def delete_vhost(self, name: str) -> bool:
        """Delete a vhost with all that is in it, and close its connections."""
        return self._request("DELETE", "vhosts", name) is not None

    def set_permissions(
        self,
        vhost: str,
        user: str,
        *,
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> None:
        """Set what ``user`` may do in ``vhost``: regular expressions over names."""
        body = {"configure": configure, "write": write, "read": read}
        if self._request("PUT", "permissions", vhost, user, body=body) is None:
            raise ManagementError(
                f"there is no vhost {safe(vhost)} or no user {safe(user)}; create it first."
            )

    def delete_queue(
        self, vhost: str, name: str, *, if_empty: bool = False, if_unused: bool = False
    ) -> bool:
        """Delete a queue; with ``if_empty`` or ``if_unused`` the broker refuses otherwise."""
        query = _conditions(**{"if-empty": if_empty, "if-unused": if_unused})
        return self._request("DELETE", "queues", vhost, name, query=query) is not None

    def delete_exchange(self, vhost: str, name: str, *, if_unused: bool = False) -> bool:
        """Delete an exchange; with ``if_unused`` the broker refuses one that has bindings."""
        query = _conditions(**{"if-unused": if_unused})
        return self._request("DELETE", "exchanges", vhost, name, query=query) is not None

    def close_connection(self, name: str, reason: str) -> bool:
        """Close a connection by its ``name``; its client is told ``reason``."""
        headers = {"X-Reason": safe(reason).encode("ascii", "backslashreplace").decode()}
        return self._request("DELETE", "connections", name, headers=headers) is not None

    # How it is asked.

    def _object(self, *path: str) -> dict[str, Any]:
        answer = self._object_or_none(*path)
        if answer is None:
            raise self._stranger("has no " + "/".join(path))
        return answer

    def _object_or_none(
        self, *path: str, query: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        answer = self._request("GET", *path, query=query)
        if answer is not None and not isinstance(answer, dict):
            raise self._stranger("gave no object for " + safe("/".join(path)))
        return answer

    def _list(self, *path: str, query: dict[str, str] | None = None) -> list[dict[str, Any]]:
        answer = self._request("GET", *path, query=query)
        if answer is None:
            raise ManagementError(
                f"the Management API at {self._shown} knows no {safe('/'.join(path))}; "
                "check the names."
            )
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise self._stranger("gave no list for " + safe("/".join(path)))
        return answer

    def _request(
        self,
        method: str,
        *path: str,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Ask and return the answer's JSON, ``{}`` for an empty one, None for a 404."""
        url = f"{self.url}/api/{'/'.join(_segment(part) for part in path)}"
        deadline = time.monotonic() + self._timeout
        try:
            with self._client.stream(
                method, url, params=query, json=body, headers=headers
            ) as response:
                content = self._read(response, deadline)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return self._judge(response, content)

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        content = bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > LARGEST_ANSWER:
                raise ManagementError(
                    f"the Management API at {self._shown} answers with more than "
                    f"{LARGEST_ANSWER >> 20} MiB; use a vhost with fewer objects."
                )
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer took too long", request=response.request)
        return bytes(content)

    def _judge(self, response: httpx.Response, content: bytes) -> Any:
        status = response.status_code
        try:
            answer = json.loads(content) if content.strip() else {}
        except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested without end
            answer = None
        if response.is_success:
            if answer is None:
                raise self._stranger(f"answered {_start(content)}")
            return answer
        if response.is_redirect:
            where = safe(response.headers.get("location", "nowhere"))
            raise self._stranger(f"redirects to {where}")
        reason = _reason(answer) or _start(content)
        if status == httpx.codes.NOT_FOUND and isinstance(answer, dict):
            return None
        if status == httpx.codes.NOT_FOUND:
            raise self._stranger(f"answered 404 {reason}")
        raise ManagementError(
            f"the Management API at {self._shown} refused ({status} {reason}); "
            f"{self._advice(status, answer)}"
        )

    def _advice(self, status: int, answer: object) -> str:
        login = safe(self._username)
        code = answer.get("error") if isinstance(answer, dict) else None
        if status == httpx.codes.UNAUTHORIZED and code == "not_authorised":
            # British: logged in, and not allowed; American: not logged in (as RabbitMQ spells).
            return f"give the user {login} the permission, or use a login that has it."
        if status == httpx.codes.UNAUTHORIZED:
            return (
                f"check the password of {login} and that this user has the tag management "
                "(guest may log in on the broker's own machine only)."
            )
        if status == httpx.codes.FORBIDDEN:
            return f"give the user {login} the permission, or use a login that has it."
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return "wait until the broker is up and well, or look at its log."
        return "change what it names and try again."

    def _unreachable(self, error: httpx.HTTPError) -> ManagementUnreachable:
        where = f"the Management API at {self._shown}"
        if isinstance(error, httpx.TimeoutException):
            return ManagementUnreachable(
                f"{where} did not answer within {self._timeout:g} s; "
                "check that the broker is well and that nothing blocks the port."
            )
        why = safe(_ERRNO.sub("", str(error)) or type(error).__name__)
        if "CERTIFICATE" in why.upper():
            return ManagementUnreachable(
                f"{where} has a certificate that is not trusted ({why}); "
                "name its authority with --ca-file."
            )
        if "WRONG_VERSION" in why or "RECORD_LAYER" in why:
            return ManagementUnreachable(
                f"{where} does not speak TLS ({why}); give its address as http://…."
            )
        if isinstance(error, httpx.ProtocolError | httpx.UnsupportedProtocol):
            return ManagementUnreachable(
                f"{where} does not speak HTTP ({why}); give its address with --management-url "
                "(its port is 15672, AMQP's 5672)."
            )
        return ManagementUnreachable(
            f"{where} can't be reached ({why}); check the address (its port is 15672, AMQP's "
            "5672), that the broker runs, and that it has the plugin: rabbitmq-plugins enable "
            "rabbitmq_management."
        )

    def _stranger(self, what: str) -> ManagementUnreachable:
        return ManagementUnreachable(
            f"{self._shown} is not RabbitMQ's Management API (it {what}); "
            "give the right address with --management-url."
        )


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    port = parsed.port or MANAGEMENT_PORT
    return parsed.scheme in {"http", "https"} and bool(parsed.host) and port <= HIGHEST_PORT


def _segment(name: str) -> str:
    """Percent-encode one name so that it stays one segment of the path.

    The server drops empty and dot segments even when they are encoded, so a request that
    names such an object would act on another one. None is sent.
    """
    if name in {"", ".", ".."}:
        raise ManagementError(
            f"the Management API can't name an object that is called {name!r}; use another name."
        )
    return quote(name, safe="")


def _conditions(**wanted: bool) -> dict[str, str]:
    return {name: "true" for name, value in wanted.items() if value}


def _reason(answer: object) -> str:
    """Return the API's own words, which are untrusted."""
    if not isinstance(answer, dict):
        return ""
    words = [answer.get("reason"), answer.get("error")]  # a reason may be an Erlang term
    return next((safe(word) for word in words if isinstance(word, str) and word), "")


def _start(content: bytes) -> str:
    """Return how an answer begins that should have been JSON."""
    return safe(content.strip(), 60) or "nothing"
