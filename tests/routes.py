"""Random vhosts and messages, and what a real broker makes of them beside what the model says.

A world has a few exchanges, queues and bindings, whose names begin with its own. Many are declared
over one connection without waiting for an answer, and gone with it. A message makes a *journey*:
published, received from each queue that it came to, one copy of it rejected, and so on. Queues in
which a message can't stay (a time to live or a length of zero) pass it on meanwhile.
"""

from __future__ import annotations

import random
import struct
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self
from unittest import mock
from urllib.parse import quote, urlsplit

import httpx
import pika

from rabbitproof.broker.management import Management
from rabbitproof.broker.routes import read_vhost
from rabbitproof.matching import Timestamp, topic_matches
from rabbitproof.routing import (
    Binding,
    DyingQueue,
    Exchange,
    Hop,
    Routable,
    Routes,
    Vhost,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.node import Node

VHOST = "test-routes"
BATCH = 100
"""Worlds that are declared at once."""
JOURNEYS = 4
"""Messages in each world."""
DEATHS = 5
"""By rejection at most, in one journey."""
ENDLESS = 40
"""Deaths without a rejection after which a world is not tried: 3.10 has circles that never end."""
QUIET_S = 0.1
"""Nothing may come any more for so long, once all has come that should."""
DEADLINE_S = 20.0

WORDS = ["a", "b", "a", "b", "", "c"]
SPECIAL = [1, 2, 1.0, 1000, True, "a", "1", b"a", Timestamp(1), Timestamp(2), Decimal("1.5")]
DEEP = [[1], ["a"], {"k": 1}]
MATCHES = ["all", "any", "all-with-x", "any-with-x"]


@dataclass
class World:
    """One topology with the messages that are sent into it."""

    name: str
    exchanges: list[Exchange] = field(default_factory=list)
    queues: list[DyingQueue] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    messages: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    features: set[str] = field(default_factory=set)


def key_of(dice: random.Random) -> str:
    return ".".join(dice.choices(WORDS, k=dice.choice([0, 1, 1, 2, 2, 3])))


def pattern_of(dice: random.Random) -> str:
    words = dice.choices(WORDS, k=dice.choice([0, 1, 1, 2, 2]))
    for word in dice.choice([(), "*", "*", "#", "#", "##", "*#"]):
        words.insert(dice.randint(0, len(words)), word)
    return ".".join(words)


def headers_of(dice: random.Random, *, pattern: bool) -> dict[str, Any]:
    names = dice.sample(["h", "i", "x-h"], k=dice.choice([0, 1, 2, 2, 3]))
    values = SPECIAL[:3] * 2 + SPECIAL + DEEP[: dice.random() < 0.1]
    found: dict[str, Any] = {name: dice.choice(values) for name in names}
    if dice.random() < 0.15:
        found[dice.choice(["h", "i", "CC", "BCC"] if pattern else ["h", "i"])] = None
    if pattern and dice.random() < 0.15:
        found["x-first-death-reason"] = dice.choice(["rejected", "expired"])
    if pattern and dice.random() < 0.9:
        found["x-match"] = dice.choice(MATCHES)
    return found


def world_of(name: str, dice: random.Random) -> World:
    """Return a random world."""
    world = World(name)
    exchanges = [f"{name}.x{n}" for n in range(dice.randint(2, 5))]
    queues = [f"{name}.q{n}" for n in range(dice.randint(2, 5))]
    nowhere = f"{name}.nowhere"
    for number, one in enumerate(exchanges):
        arguments: dict[str, Any] = {}
        following = exchanges[(number + 1) % len(exchanges)]
        policy: dict[str, Any] = {}
        if dice.random() < 0.55:
            where = dice.choice([*exchanges, *[following] * 8, nowhere, ""])
            arguments["alternate-exchange"] = where
        if dice.random() < 0.35:
            policy["alternate-exchange"] = dice.choice([*exchanges, following])
        kind = dice.choice(["direct", "fanout", "topic", "topic", "headers"])
        world.exchanges.append(Exchange(one, kind, dice.random() < 0.25, arguments, policy))
    for one in queues:
        arguments, policy = {}, {}
        if dice.random() < 0.6:
            arguments["x-dead-letter-exchange"] = dice.choice([*exchanges * 2, "", nowhere])
            if dice.random() < 0.4:
                arguments["x-dead-letter-routing-key"] = dice.choice([key_of(dice), *queues])
        if dice.random() < 0.35:
            policy["dead-letter-exchange"] = dice.choice([*exchanges, *exchanges, ""])
            if dice.random() < 0.4:
                policy["dead-letter-routing-key"] = dice.choice([key_of(dice), *queues])
        match dice.randint(1, 10):
            case 1 | 2:
                arguments["x-message-ttl"] = 0
            case 3 | 4:
                arguments["x-max-length"] = 0
                if dice.random() < 0.6:
                    how = dice.choice(["drop-head", "reject-publish", "reject-publish-dlx"])
                    arguments["x-overflow"] = how
        world.queues.append(DyingQueue(one, "classic", arguments, policy))
    # Some are bound to nothing, so that their alternate exchanges have something to do.
    sources = dice.sample(world.exchanges, k=dice.randint(1, len(exchanges) - 1))
    for _ in range(dice.randint(4, 14)):
        source = dice.choice(sources)
        to_queue = dice.random() < 0.6
        world.bindings.append(
            Binding(
                source.name,
                dice.choice(queues if to_queue else exchanges),
                "queue" if to_queue else "exchange",
                pattern_of(dice) if source.type == "topic" else key_of(dice),
                headers_of(dice, pattern=True) if source.type == "headers" else {},
            )
        )
    for _ in range(JOURNEYS):
        world.messages.append(message_of(world, dice))
    return world


def message_of(world: World, dice: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Return an exchange, a routing key and headers. What is internal is sent to by others."""
    doors = [one.name for one in world.exchanges if not one.internal]
    bound = [one.source for one in world.bindings if one.source in doors]
    exchange = dice.choice([*doors, *bound, *bound, ""])
    # Half of them fit a binding somewhere.
    aim = dice.choice(world.bindings)
    headers = headers_of(dice, pattern=False)
    if dice.random() < 0.6:
        wanted = [one for one in world.bindings if one.arguments]
        wanted = [one for one in wanted if one.source == exchange] or wanted
        fitting = dict((dice.choice(wanted).arguments or {}) if wanted else {})
        for name in ("x-match", "CC", "BCC", "x-first-death-reason"):
            fitting.pop(name, None)
        headers |= {name: dice.choice(SPECIAL) if value is None else value
                    for name, value in fitting.items()}  # fmt: skip

    def key() -> str:
        if not exchange or dice.random() < 0.15:
            return dice.choice(world.queues).name
        if dice.random() < 0.4:
            return key_of(dice)
        here = [one for one in world.bindings if one.source == exchange] or [aim]
        words = dice.choice(here).routing_key.split(".")
        some = {"*": [dice.choice(WORDS)], "#": dice.choices(WORDS, k=dice.randint(0, 2))}
        return ".".join(one for word in words for one in some.get(word, [word]))

    for name in ("CC", "BCC"):
        if dice.random() < 0.25:
            headers[name] = [key() for _ in range(dice.randint(1, 2))] + [1] * (dice.random() < 0.1)
    if dice.random() < 0.15:  # as of a dead letter that somebody publishes again
        headers["x-death"] = [
            {
                "queue": dice.choice(world.queues).name,
                "reason": dice.choice(["rejected", "expired"]),
            }
            for _ in range(dice.randint(1, 3))
        ]
    return exchange, key(), headers


class Endless(Exception):
    """A message goes round without an end."""


@dataclass
class Copy:
    """One copy of a message at rest, as the model has it."""

    world: World
    queue: str
    message: Routable


def rests(queue: DyingQueue) -> str | None:
    """Return of what messages die at once in a queue; None: they stay."""
    arguments = queue.arguments or {}
    if "x-message-ttl" in arguments:
        return "expired"
    return "maxlen" if "x-max-length" in arguments else None


def settle(world: World, vhost: Vhost, routes: Routes) -> tuple[list[Copy], bool]:
    """Return the copies that stay somewhere, and whether that is all that can be told."""
    out: list[Copy] = []
    sure, deaths = True, 0
    todo = [routes]
    while todo:
        routes = todo.pop()
        sure = sure and not routes.unknown
        note(world, vhost, routes)
        for name in routes.queues:
            assert routes.message is not None
            reason = rests(vhost.queues[name])
            if reason is None:
                out.append(Copy(world, name, routes.message))
                continue
            deaths += 1
            if deaths > ENDLESS:
                raise Endless
            world.features.add(f"died of {reason}")
            todo.append(die(world, vhost, name, routes.message, reason))
    return out, sure


def die(world: World, vhost: Vhost, queue: str, message: Routable, reason: Any) -> Routes:
    routes = vhost.dead_letter(queue, message, reason)
    settings = vhost.queues[queue]
    seen = world.features.add
    if routes.queues:
        seen(f"dead letter of {reason}")
        seen("dead letter with key" if settings.routing_key else "dead letter without key")
        if "x-dead-letter-exchange" not in (settings.arguments or {}):
            seen("dead letter exchange by policy")
        if settings.exchange == "":
            seen("dead letter to default exchange")
        if message.deaths:
            seen("died twice")
        if len(message.deaths) > 2:
            seen("died four times")
        if "x-death" in message.headers and not message.deaths:
            seen("x-death not read")
    else:
        seen("end of a message")
    if routes.cycles:
        seen("cycle dropped")
    if settings.exchange and settings.exchange not in vhost.exchanges:
        seen("dead letter exchange missing")
    if {"CC", "BCC"} & {hop.by for path in routes.queues.values() for hop in path}:
        seen("dead letter by CC or BCC")
    return routes


def note(world: World, vhost: Vhost, routes: Routes) -> None:
    """Note what of the model a message used."""
    seen = world.features.add
    message = routes.message
    if not routes.queues:
        seen("unroutable" if routes.unroutable else "can't be told")
        if message is not None and message.exchange:
            alternate = vhost.exchanges[message.exchange].alternate
            if alternate is not None and alternate not in vhost.exchanges:
                seen("alternate exchange missing")
    for path in routes.queues.values():
        by = [hop.by for hop in path]
        for hop in path:
            note_hop(world, vhost, hop, message)
        if len(path) > 2:
            seen("nested")
        if by.count("alternate exchange") > 1:
            seen("alternate exchanges chained")
        internal = [vhost.exchanges[hop.exchange].internal for hop in path if hop.exchange]
        if any(internal):
            seen("through internal")
    reached = {hop.exchange for path in routes.queues.values() for hop in path} - {""}
    for one in reached:
        if any(
            binding.destination_type == "exchange" and binding.destination in reached
            for binding in vhost.bindings(one)
        ) and circular(vhost, one):
            seen("circular bindings")
        if circular_alternate(vhost, one):
            seen("circular alternate exchanges")


def circular(vhost: Vhost, start: str) -> bool:
    """Say whether bindings lead from an exchange back to it."""
    todo, seen = [start], set()
    while todo:
        for binding in vhost.bindings(todo.pop()):
            if binding.destination_type == "exchange" and binding.destination not in seen:
                seen.add(binding.destination)
                todo.append(binding.destination)
    return start in seen


def circular_alternate(vhost: Vhost, start: str) -> bool:
    seen: list[str] = []
    at: str | None = start
    while at is not None and at in vhost.exchanges and at not in seen:
        seen.append(at)
        at = vhost.exchanges[at].alternate
    return at == start


def note_hop(world: World, vhost: Vhost, hop: Hop, message: Routable | None) -> None:
    seen = world.features.add
    seen(f"by {hop.by}")
    if not hop.exchange:
        seen("default exchange")
        return
    exchange = vhost.exchanges[hop.exchange]
    if hop.by == "alternate exchange":
        if "alternate-exchange" not in (exchange.arguments or {}):
            seen("alternate exchange by policy")
        return
    seen(f"{exchange.type} exchange")
    for binding in vhost.bindings(hop.exchange):
        if exchange.type == "topic" and topic_matches(binding.routing_key, hop.key):
            words = binding.routing_key.split(".")
            for at, word in enumerate(words):
                if word in ("*", "#"):
                    alone = len(words) == 1
                    end = "last" if at == len(words) - 1 else "in the middle"
                    seen(f"{word} {'alone' if alone else 'first' if not at else end}")
            if words.count("#") == 2:
                seen("# twice")
            if "" in hop.key.split("."):
                seen("empty word")
        if exchange.type == "headers":
            seen(f"x-match {(binding.arguments or {}).get('x-match', 'not given')}")
            if None in (binding.arguments or {}).values():
                seen("void in a binding")


class Bench:
    """A real broker, into which worlds are put, and what was found."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.api = httpx.Client(
            base_url=f"{node.management_url}/api/", auth=(node.username, node.password),
            timeout=20, trust_env=False,
        )  # fmt: skip
        version = self.api.get("overview").raise_for_status().json()["rabbitmq_version"]
        self.release = tuple(int(part) for part in version.split("."))
        self.features: Counter[str] = Counter()
        """How many worlds had each."""
        self.worlds = 0
        self.differences: list[str] = []
        self.unsure = self.untold = 0
        """Steps that the model can't tell, and routes that it can't when it was read."""
        self.copies = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()

    def try_out(self, worlds: list[World]) -> list[World]:
        """Compare the model with the broker in many worlds; return those that could be tried."""
        models: dict[str, Vhost] = {}
        kept = []
        for world in worlds:
            model = Vhost(world.exchanges, world.queues, world.bindings, self.release)
            try:
                for message in world.messages:
                    settle(world, model, model.publish(*message))
            except Endless:
                continue
            world.features.clear()
            models[world.name] = model
            kept.append(world)
        with self._vhost() as url:
            connection = pika.BlockingConnection(pika.URLParameters(url))
            try:
                for name, body in self._policies(kept):
                    self._put(f"policies/{VHOST}/{name}", body)
                with mock.patch("pika.data.encode_value", encode_value):
                    self._declare(connection, kept)
                    self._read(kept, models)
                    travel = Travel(self, connection, kept, models)
                    for number in range(JOURNEYS):
                        travel.run(number)
            finally:
                connection.close()
        return kept

    def explore(self, count: int, seed: str) -> None:
        """Try so many worlds."""
        dice = random.Random(seed)
        while self.worlds < count:
            names = range(self.worlds, min(self.worlds + BATCH, count))
            kept = self.try_out([world_of(f"w{seed}-{n}", dice) for n in names])
            self.worlds += len(kept)
            for world in kept:
                self.features.update(world.features)

    def report(self) -> str:
        """Return the figures."""
        shares = [f"{n / self.worlds:6.1%} {one}" for one, n in self.features.most_common()]
        first = (
            f"{self.worlds} worlds, {self.copies} copies, {len(self.differences)} differences, "
            f"{self.unsure} steps that can't be told, {self.untold} routes when read, "
            f"RabbitMQ {self.release}"
        )
        return "\n".join([first, *shares, *self.differences[:5]])

    @contextmanager
    def _vhost(self) -> Iterator[str]:
        """A vhost that is gone afterwards, for that is quicker than deleting what is in it."""
        self._put(f"vhosts/{VHOST}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._put(f"permissions/{VHOST}/{quote(self.node.username, safe='')}", everything)
        try:
            yield urlsplit(self.node.url)._replace(path=f"/{VHOST}").geturl()
        finally:
            self.api.delete(f"vhosts/{VHOST}").raise_for_status()

    def _put(self, path: str, body: dict[str, Any] | None = None) -> None:
        self.api.put(path, json=body or {}).raise_for_status()

    def _policies(self, worlds: list[World]) -> Iterator[tuple[str, dict[str, Any]]]:
        for world in worlds:
            for kind, objects in (("exchanges", world.exchanges), ("queues", world.queues)):
                for one in objects:
                    if one.policy:
                        pattern = f"^{one.name.replace('.', '[.]')}$"
                        body = {"pattern": pattern, "definition": one.policy, "apply-to": kind}
                        yield one.name, body

    def _read(self, worlds: list[World], models: dict[str, Vhost]) -> None:
        """Compare with a model that was read from the broker."""
        node = self.node
        with Management(node.management_url, node.username, node.password) as api:
            told = read_vhost(api, VHOST)
        for world in worlds:
            for message in world.messages:
                wanted, found = models[world.name].publish(*message), told.publish(*message)
                pairs = [(wanted, found)]
                for queue in world.queues:
                    if found.message is not None:
                        args: Any = (queue.name, found.message, "rejected")
                        wanted = models[world.name].dead_letter(*args)
                        pairs.append((wanted, told.dead_letter(*args)))
                for ours, theirs in pairs:
                    self.untold += bool(theirs.unknown) and not ours.unknown
                    both = ours.queues.keys(), theirs.queues.keys()
                    if both[0] != both[1] and not (theirs.unknown and both[1] <= both[0]):
                        self.differences.append(f"read: {ours} is {theirs}; {world}")

    def _declare(self, connection: Any, worlds: list[World]) -> None:
        """Declare without waiting for each answer; whatever is refused closes the channel."""
        blocking = connection.channel()
        channel = blocking._impl
        for world in worlds:
            for exchange in world.exchanges:
                channel.exchange_declare(
                    exchange.name,
                    exchange.type,
                    durable=True,
                    internal=exchange.internal,
                    arguments=exchange.arguments,
                )
            for queue in world.queues:
                channel.queue_declare(queue.name, exclusive=True, arguments=queue.arguments)
            for binding in world.bindings:
                arguments = {key: wire(value) for key, value in (binding.arguments or {}).items()}
                if binding.destination_type == "queue":
                    channel.queue_bind(
                        binding.destination, binding.source, binding.routing_key, arguments
                    )
                else:
                    channel.exchange_bind(
                        binding.destination, binding.source, binding.routing_key, arguments
                    )
        blocking.queue_declare(worlds[0].queues[0].name, passive=True)
        blocking.close()


def encode_value(pieces: list[bytes], value: Any, pikas: Any = pika.data.encode_value) -> int:
    """Add what pika can't encode to what it can."""
    if not isinstance(value, float):
        return int(pikas(pieces, value))
    pieces.append(struct.pack(">cd", b"d", value))
    return 9


def wire(value: Any) -> Any:
    """Return a header's value as pika wants it."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, Timestamp) else value


class Travel:
    """The journeys in many worlds, at the same time."""

    def __init__(
        self, bench: Bench, connection: Any, worlds: list[World], models: dict[str, Vhost]
    ) -> None:
        self.bench, self.connection, self.worlds, self.models = bench, connection, worlds, models
        self.channel = connection.channel()
        self.got: dict[str, Counter[str]] = defaultdict(Counter)
        """World -> queue -> copies received in this step."""
        self.tags: dict[tuple[str, str], int] = {}
        """World and queue -> the newest delivery from it."""
        self.returned: set[str] = set()
        self.number = 0
        self.dice = random.Random(worlds[0].name)
        self.channel.add_on_return_callback(lambda *given: self.returned.add(given[3].decode()))
        for world in worlds:
            for queue in world.queues:
                if rests(queue) is None:
                    self.channel.basic_consume(queue.name, self._receive_from(queue.name))

    def run(self, number: int) -> None:
        """Send one message into each world and follow it to its end."""
        for one in (self.got, self.tags, self.returned):
            one.clear()
        self.number = number
        expected: dict[str, tuple[list[Copy], bool]] = {}
        unroutable: dict[str, bool | None] = {}
        for world in self.worlds:
            exchange, key, headers = world.messages[number]
            model = self.models[world.name]
            routes = model.publish(exchange, key, headers)
            unroutable[world.name] = routes.unroutable
            expected[world.name] = settle(world, model, routes)
            properties = pika.BasicProperties(
                headers={name: wire(value) for name, value in headers.items()}
            )
            self.channel.basic_publish(
                exchange, key, world.name.encode(), properties, mandatory=True
            )
        for step in range(DEATHS + 1):
            self._await(expected)
            self._compare(expected, step)
            if step == 0:
                self._compare_returns(unroutable)
            expected = self._reject(expected) if step < DEATHS else {}
            if not expected:
                break
        self.channel.basic_ack(0, multiple=True)

    def _receive_from(self, queue: str) -> Any:
        def receive(_: Any, method: Any, __: Any, body: bytes) -> None:
            world = body.decode()
            self.got[world][queue] += 1
            self.tags[world, queue] = method.delivery_tag

        return receive

    def _await(self, expected: dict[str, tuple[list[Copy], bool]]) -> None:
        """Wait until all has come that should, and then whether more does."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self.connection.process_data_events(0.01)
            if all(self.got[name].total() >= len(copies) for name, (copies, _) in expected.items()):
                break
        quiet = time.monotonic() + QUIET_S
        while time.monotonic() < quiet:
            self.connection.process_data_events(0.02)

    def _compare(self, expected: dict[str, tuple[list[Copy], bool]], step: int) -> None:
        for name in {*expected, *self.got}:
            copies, sure = expected.get(name, ([], True))
            wanted, found = Counter(copy.queue for copy in copies), self.got[name]
            self.bench.copies += found.total()
            self.bench.unsure += not sure
            if wanted != found if sure else wanted - found:
                world = next(one for one in self.worlds if one.name == name)
                self.bench.differences.append(
                    f"{name}, message {self.number}, step {step}: {dict(wanted)} expected, "
                    f"{dict(found)} found; {world}; {[copy.message for copy in copies]}"
                )

    def _compare_returns(self, unroutable: dict[str, bool | None]) -> None:
        for name, wanted in unroutable.items():
            if wanted is not None and wanted != (name in self.returned):
                self.bench.differences.append(
                    f"{name}, message {self.number}: returned is not {wanted}"
                )

    def _reject(
        self, before: dict[str, tuple[list[Copy], bool]]
    ) -> dict[str, tuple[list[Copy], bool]]:
        """Reject one copy in each world where there is one that is known; return what follows."""
        after = {}
        for name, (copies, sure) in before.items():
            counts = Counter(copy.queue for copy in copies)
            alone = [copy for copy in copies if counts[copy.queue] == 1]
            if not sure or not alone or name not in self.got:
                continue
            copy = self.dice.choice(alone)
            model = self.models[name]
            if (name, copy.queue) not in self.tags:
                continue
            routes = die(copy.world, model, copy.queue, copy.message, "rejected")
            try:
                after[name] = settle(copy.world, model, routes)
            except Endless:
                continue
            copy.world.features.add("died of rejected")
            self.channel.basic_reject(self.tags[name, copy.queue], requeue=False)
        self.got.clear()
        self.tags.clear()
        return after
