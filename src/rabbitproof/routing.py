"""Where a message would go: exchanges, bindings, alternate exchanges and dead letters, computed.

Holds: what of a vhost decides on routing, as values, and the rules of RabbitMQ's four kinds of
exchange. Refuses to hold: reading them from a broker, and wording. Pure; does no I/O.

What is not known is never guessed: an exchange of a kind that a plugin adds, or a setting that the
broker does not tell, is named in ``Routes.unknown``, and then what lies behind it can't be told.

Rules as RabbitMQ has them, tried on 3.10, 4.0 and 4.3 by ``tests/broker/test_routing.py``:

- An exchange routes a message once, however many bindings lead to it, and a queue gets one copy.
- The alternate exchange is asked when no binding of the exchange itself matches, and not when what
  a binding leads to takes nothing.
- ``CC`` and ``BCC`` are further routing keys. They stay with a message that dies in a queue without
  a dead letter routing key.
- A message that died is dropped before it comes to a queue in which it died before, unless it was
  rejected since then or just now.
- An argument wins over a policy.
- The default exchange leads to the queue of the key's name where it is published to, dead letters
  too; as somebody's alternate exchange it leads nowhere.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from rabbitproof.matching import headers_match, topic_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]
By = Literal["routing key", "CC", "BCC", "fanout", "headers", "alternate exchange"]

KINDS: Final = frozenset({"direct", "fanout", "topic", "headers"})
"""Of exchange, whose rules are known."""
_REPLY: Final = "amq.rabbitmq.reply-to."
"""Begins a routing key that leads the default exchange to a waiting client and not to a queue."""
_CONTAINERS: Final = (3, 13)
"""Since then headers are compared exactly, and deaths are kept beside them."""
_FORGETFUL: Final = (4, 0)
"""Since then what a publisher writes into ``x-death`` is not read."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding; ``source`` is empty for the default exchange."""

    source: str
    destination: str
    destination_type: str
    """``queue`` or ``exchange``."""
    routing_key: str
    arguments: Mapping[str, Any] | None = field(default=None, hash=False)
    """As plain values; None: not told."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange. What the broker does not tell is None."""

    name: str
    type: str = "direct"
    internal: bool | None = False
    arguments: Mapping[str, Any] | None = field(default_factory=dict, hash=False)
    policy: Mapping[str, Any] | None = field(default_factory=dict, hash=False)
    """What the policy that applies defines."""

    @property
    def alternate(self) -> str | None:
        """The exchange that gets what this one routes nowhere; None: there is none.

        Raise LookupError where the broker does not tell.
        """
        return _setting(self.arguments, self.policy, "alternate-exchange", "alternate-exchange")


@dataclass(frozen=True, slots=True)
class DyingQueue:
    """A queue, by what decides where its dead letters go. What the broker does not tell is None."""

    name: str
    type: str = "classic"
    arguments: Mapping[str, Any] | None = field(default_factory=dict, hash=False)
    policy: Mapping[str, Any] | None = field(default_factory=dict, hash=False)
    """What the policy that applies and the operator's define together."""

    @property
    def exchange(self) -> str | None:
        """Its dead letter exchange; None: there is none. Raise LookupError where it is not told."""
        return self._text("dead-letter-exchange")

    @property
    def routing_key(self) -> str | None:
        """With which its dead letters go; None: with their own. Raise LookupError as above."""
        return self._text("dead-letter-routing-key")

    @property
    def overflow(self) -> str:
        """What a full queue does; ``drop-head`` unless told. Raise LookupError as above."""
        return self._text("overflow") or "drop-head"

    def _text(self, name: str) -> str | None:
        return _setting(self.arguments, self.policy, f"x-{name}", name)


@dataclass(frozen=True, slots=True)
class Routable:
    """What of a message decides where it goes; ``Vhost.message`` makes one of what is published."""

    exchange: str
    keys: tuple[tuple[By, str], ...]
    """Its routing key, then those in CC and BCC."""
    headers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """As plain values, or ``matching.Timestamp``; without BCC, which RabbitMQ takes out."""
    deaths: tuple[tuple[str, str], ...] = ()
    """Queue and reason, in the order in which the broker looks through them; each pair once."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One exchange on the way to a queue, and by what it sent the message on."""

    exchange: str
    by: By
    key: str = ""
    """The routing key that matched, where one did."""


@dataclass(frozen=True, slots=True)
class Routes:
    """Where a message goes."""

    queues: Mapping[str, tuple[Hop, ...]] = field(default_factory=dict, hash=False)
    """Each queue that certainly gets a copy, with a shortest way to it."""
    unknown: tuple[str, ...] = ()
    """Why it can't be told whether further queues get one; clauses."""
    refused: str | None = None
    """Why the broker does not take it at all and closes the channel; a clause."""
    cycles: tuple[str, ...] = ()
    """Queues that a dead letter would come back to, so that it is dropped instead."""
    message: Routable | None = field(default=None, hash=False)
    """As it arrives; None where nothing was routed."""

    @property
    def unroutable(self) -> bool | None:
        """Whether no queue gets it, so that ``mandatory`` returns it; None: can't be told."""
        if self.queues or self.refused:
            return False
        return None if self.unknown else True


class Vhost:
    """What of a vhost decides on routing, ready to be asked. Nothing of it changes."""

    def __init__(
        self,
        exchanges: Iterable[Exchange],
        queues: Iterable[DyingQueue],
        bindings: Iterable[Binding],
        release: tuple[int, ...],
    ) -> None:
        """``release`` is RabbitMQ's: ``(4, 3, 6)``. The default exchange and its bindings may be
        among them, and mean nothing: they are implied.
        """
        self.exchanges = {one.name: one for one in exchanges if one.name}
        self.queues = {one.name: one for one in queues}
        self.release = release
        self._bindings: dict[str, list[Binding]] = defaultdict(list)
        for binding in bindings:
            if binding.source:
                self._bindings[binding.source].append(binding)

    def bindings(self, source: str) -> list[Binding]:
        """Return the bindings of an exchange."""
        return self._bindings.get(source, [])

    def message(self, exchange: str, key: str, headers: Mapping[str, Any]) -> Routable:
        """Return a message as it is published.

        Raise ValueError for one that the broker refuses: CC or BCC that is no list.
        """
        keys: list[tuple[By, str]] = [("routing key", key)]
        for name in ("CC", "BCC"):
            more = headers.get(name, [])
            if not isinstance(more, list):
                msg = f"its header {name} is no list"
                raise ValueError(msg)  # noqa: TRY004  # it is no mistake of the caller
            keys += [(name, one) for one in more if isinstance(one, str)]
        kept = {name: value for name, value in headers.items() if name != "BCC"}
        deaths = _deaths(headers.get("x-death")) if self.release < _FORGETFUL else ()
        return Routable(exchange, tuple(keys), kept, deaths)

    def publish(self, exchange: str, key: str, headers: Mapping[str, Any] | None = None) -> Routes:
        """Say where a message goes that is published."""
        known = self.exchanges.get(exchange)
        if exchange and known is None:
            return Routes(refused="there is no such exchange")
        if known is not None and known.internal:
            return Routes(refused="the exchange is internal: only other exchanges send to it")
        try:
            message = self.message(exchange, key, headers or {})
        except ValueError as error:
            return Routes(refused=str(error))
        unknown = []
        if known is not None and known.internal is None:
            unknown.append(f"whether the exchange {exchange!r} is internal is not told")
        return self._route(message, unknown)

    def dead_letter(self, queue: str, message: Routable, reason: Reason) -> Routes:
        """Say where a message goes that dies in a queue; nowhere: this is its end."""
        try:
            dying = self.queues[queue]
            if dying.type == "stream":
                return Routes()
            exchange, key = dying.exchange, dying.routing_key
            refuses = reason == "maxlen" and dying.overflow == "reject-publish"
        except LookupError:
            return Routes(unknown=(f"where dead letters of the queue {queue!r} go is not told",))
        if exchange is None or refuses:
            return Routes()
        if exchange and exchange not in self.exchanges:
            return Routes()
        dead = self._died(message, queue, reason, exchange, key)
        routes = self._route(dead, [])
        if reason == "rejected":
            return routes
        cycles = tuple(one for one in routes.queues if _is_cycle(one, dead.deaths))
        queues = {name: path for name, path in routes.queues.items() if name not in cycles}
        return Routes(queues, routes.unknown, cycles=cycles, message=dead)

    def reachable(self, exchange: str) -> set[str]:
        """Return the queues to which an exchange can send, depending on the message, or might."""
        found: set[str] = set()
        seen, todo = {exchange}, [exchange]
        while todo:
            name = todo.pop()
            more = []
            for binding in self.bindings(name):
                if binding.destination_type == "queue":
                    found.add(binding.destination)
                else:
                    more.append(binding.destination)
            with contextlib.suppress(LookupError):
                more.append(self.exchanges[name].alternate or name)
            todo += [one for one in dict.fromkeys(more) if one not in seen]
            seen.update(more)
        return found

    def _died(
        self, message: Routable, queue: str, reason: Reason, exchange: str, key: str | None
    ) -> Routable:
        """Return the dead letter that a message becomes."""
        headers = dict(message.headers)
        old = self.release < _CONTAINERS
        first = "x-death" not in headers if old else not message.deaths
        for which in ("first",) * first + ("last",) * (not old):
            headers[f"x-{which}-death-queue"] = queue
            headers[f"x-{which}-death-reason"] = reason
            headers[f"x-{which}-death-exchange"] = message.exchange
        before = message.deaths
        if old:
            headers["x-death"] = [{}]
            if key is not None:
                headers.pop("CC", None)
            before = before[::-1]  # each death turns the list of those before it around
        here = (queue, str(reason))
        return Routable(
            exchange,
            message.keys if key is None else (("routing key", key),),
            headers,
            (here, *(one for one in before if one != here)),
        )

    def _route(self, message: Routable, unknown: list[str]) -> Routes:
        """Follow a message from its exchange through all that it leads to."""
        found: dict[str, tuple[Hop, ...]] = {}
        if message.exchange == "":
            for by, key in message.keys:
                if key.startswith(_REPLY):
                    unknown.append(f"{key!r} leads to a client that waits for a reply, if it does")
                elif key in self.queues:
                    found.setdefault(key, (Hop("", by, key),))
            return Routes(found, tuple(unknown), message=message)
        seen = {message.exchange}
        ways: list[tuple[str, tuple[Hop, ...]]] = [(message.exchange, ())]
        for name, way in ways:  # which grows meanwhile
            if (exchange := self.exchanges.get(name)) is None:
                continue  # an alternate exchange that does not exist
            for kind, destination, hop in self._step(exchange, message, unknown):
                if kind == "queue":
                    found.setdefault(destination, (*way, hop))
                elif destination not in seen:
                    seen.add(destination)
                    ways.append((destination, (*way, hop)))
        return Routes(found, tuple(unknown), message=message)

    def _step(
        self, exchange: Exchange, message: Routable, unknown: list[str]
    ) -> Iterator[tuple[str, str, Hop]]:
        """Yield where one exchange sends a message: kind of destination, its name, by what."""
        if exchange.type not in KINDS:
            unknown.append(
                f"how the exchange {exchange.name!r} routes is not known: it is of type "
                f"{exchange.type!r}"
            )
            return
        certain = possible = False
        for binding in self.bindings(exchange.name):
            hop, matches = self._match(exchange, binding, message)
            if matches is None:
                possible = True
                unknown.append(
                    f"whether a binding of the exchange {exchange.name!r} to "
                    f"{binding.destination!r} matches can't be told from its arguments"
                )
            elif matches:
                certain = True
                yield binding.destination_type, binding.destination, hop
        if certain:
            return
        try:
            alternate = exchange.alternate
        except LookupError:
            unknown.append(f"the alternate exchange of {exchange.name!r} is not told")
            return
        if alternate is not None and possible:
            unknown.append(f"so it can't be told whether its alternate exchange {alternate!r} does")
        elif alternate is not None:
            yield "exchange", alternate, Hop(exchange.name, "alternate exchange")

    def _match(
        self, exchange: Exchange, binding: Binding, message: Routable
    ) -> tuple[Hop, bool | None]:
        """Say whether a binding takes a message; None: can't be told."""
        name, pattern = exchange.name, binding.routing_key
        if exchange.type == "fanout":
            return Hop(name, "fanout"), True
        if exchange.type == "headers":
            exact = self.release >= _CONTAINERS
            matches = headers_match(binding.arguments, message.headers, exact=exact)
            return Hop(name, "headers"), matches
        for by, key in message.keys:
            if key == pattern if exchange.type == "direct" else topic_matches(pattern, key):
                return Hop(name, by, key), True
        return Hop(name, "routing key"), False


def _setting(
    arguments: Mapping[str, Any] | None, policy: Mapping[str, Any] | None, name: str, key: str
) -> str | None:
    """Return what an argument, else a policy says, None for nothing.

    Raise LookupError where what would decide is not told.
    """
    for settings, wanted in ((arguments, name), (policy, key)):
        if settings is None:
            raise LookupError(wanted)
        value = settings.get(wanted)
        if isinstance(value, str):
            return value
    return None


def _deaths(value: Any) -> tuple[tuple[str, str], ...]:
    """Return the deaths that an ``x-death`` header tells of."""
    found: dict[tuple[str, str], None] = {}
    for one in value if isinstance(value, list) else []:
        # What a client wrote there breaks a cycle, as a rejection does.
        odd = {"reason": "rejected"}
        entry = one if isinstance(one, dict) else odd
        found[str(entry.get("queue", "")), str(entry.get("reason", ""))] = None
    return tuple(found)


def _is_cycle(queue: str, deaths: tuple[tuple[str, str], ...]) -> bool:
    """Say whether a message comes back to a queue in which it died without a rejection since."""
    for where, why in deaths:
        if why == "rejected":
            return False
        if where == queue:
            return True
    return False
