"""How many publishes wait for a confirm, and which confirms count, against a scripted broker."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pamqp.frame
import pytest
from pamqp import commands

from rabbitproof.trial.peers import catalogue
from wire import FRAME_MAX, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.trial.peers.catalogue import Peer

LIMIT_S = 60.0
SILENCE_S = 0.3
"""How long nothing more may come before the window counts as full."""


class Broker:
    """Takes publishes; confirms only when nothing more comes, and then in an odd order.

    It waits for ``window`` publishes, but at those counts of ``ends`` at which a client has no
    more for the moment.
    """

    def __init__(
        self, client: socket.socket, window: int, ends: set[int], *, answer: str = "ack"
    ) -> None:
        self.most_open = 0
        self.published = 0
        self._client = client
        self._window = window
        self._ends = ends
        self._answer = answer
        self._data = b""
        self._open: defaultdict[int, list[int]] = defaultdict(list)
        self._tags: defaultdict[int, int] = defaultdict(int)

    def serve(self) -> None:
        """Play the broker until the client hangs up."""
        self._say(
            0,
            commands.Connection.Start(
                0,
                9,
                {
                    "product": "RabbitMQ",
                    "capabilities": dict.fromkeys(("publisher_confirms", "basic.nack"), True),
                },
                "PLAIN",
                "en_US",
            ),
        )
        while True:
            waits = sum(map(len, self._open.values()))
            full = waits >= self._window or (waits and self.published in self._ends)
            patience = SILENCE_S if full else LIMIT_S
            if not select.select([self._client], [], [], patience)[0]:
                assert full, f"{waits} publishes came and no more"
                if self._answer == "hang up":
                    return
                self._confirm()
                continue
            data = self._client.recv(1 << 16)
            if not data:
                return
            self._data += data
            self._read()

    def _say(self, channel: int, *methods: Any) -> None:
        self._client.sendall(b"".join(frame(method, channel) for method in methods))

    def _read(self) -> None:
        if self._data.startswith(b"AMQP"):
            self._data = self._data[8:]
        while True:
            size = 8 + int.from_bytes(self._data[3:7], "big")
            if len(self._data) < max(size, 8):
                return
            _, channel, value = pamqp.frame.unmarshal(self._data[:size])
            self._data = self._data[size:]
            self._take(channel, value)

    def _take(self, channel: int, value: Any) -> None:
        answers = {
            commands.Connection.StartOk: commands.Connection.Tune(2047, FRAME_MAX, 0),
            commands.Connection.Open: commands.Connection.OpenOk(),
            commands.Connection.Close: commands.Connection.CloseOk(),
            commands.Channel.Open: commands.Channel.OpenOk(),
            commands.Channel.Close: commands.Channel.CloseOk(),
            commands.Confirm.Select: commands.Confirm.SelectOk(),
        }
        if type(value) in answers:
            self._say(channel, answers[type(value)])
            if isinstance(value, commands.Channel.Open):
                self._tags[channel] = 0
        elif isinstance(value, commands.Basic.Publish):
            self.published += 1
            self._tags[channel] += 1
            self._open[channel].append(self._tags[channel])
            self.most_open = max(self.most_open, len(self._open[channel]))

    def _confirm(self) -> None:
        """Answer all: the last one and the first one alone, then those between at once."""
        for channel, tags in self._open.items():
            if self._answer == "nack" and tags:
                self._say(channel, commands.Basic.Nack(tags[-1], multiple=False))
            else:
                alone = {tags[-1], tags[0]} if tags else set()
                answers = [commands.Basic.Ack(tag, multiple=False) for tag in sorted(alone)[::-1]]
                if len(tags) > 2:
                    answers.append(commands.Basic.Ack(tags[-2], multiple=True))
                self._say(channel, *answers)
        self._open.clear()


@contextlib.contextmanager
def broker(window: int, ends: set[int], answer: str = "ack") -> Iterator[tuple[str, list[Broker]]]:
    """Run one for one client; give its address."""
    served: list[Broker] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)

        def play() -> None:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # nobody came: that client is not installed, so its test is skipped
            with client, contextlib.suppress(ConnectionError):
                served.append(Broker(client, window, ends, answer=answer))
                served[0].serve()

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        try:
            yield f"amqp://127.0.0.1:{listener.getsockname()[1]}/", served
        finally:
            socket.create_connection(listener.getsockname()).close()  # if nobody else came
            thread.join(LIMIT_S)
        assert not thread.is_alive()


def publish(peer: Peer, url: str, count: int, window: int) -> Any:
    """Run a publisher to its end."""
    flags = catalogue.arguments(
        "publish",
        exchange="x",
        routing_key="k",
        queue="q",
        count=count,
        window=window,
        prefetch=10,
        text="t",
        run="0a1b2c3d4e5f",
        deadline_s=LIMIT_S,
    )
    return subprocess.run(
        [*peer.command, *flags, *(("--warm-up", "1") if peer.warms_up else ())],
        env=catalogue.environment(url),
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 10,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "window", "open_at_once", "count"),
    [
        ("aio-pika", 10, 10, 25),
        ("aio-pika", 1, 1, 4),
        ("java", 10, 10, 25),
        ("java", 1, 1, 4),
        ("pika-confirms", 10, 1, 4),
    ],
)
def test_the_window_is_filled_and_never_exceeded(
    found: Callable[[str], Peer], name: str, window: int, open_at_once: int, count: int
) -> None:
    """As many publishes as allowed are open at once; all count once, however confirmed."""
    peer = found(name)
    warm_up = 1 if peer.warms_up else 0
    with broker(open_at_once, {warm_up, warm_up + count}) as (url, served):
        done = publish(peer, url, count, window)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["messages"] == count
    assert served[0].most_open == open_at_once
    assert served[0].published == warm_up + count
    # It waited for each round of confirms.
    assert json.loads(done.stdout)["seconds"] > SILENCE_S * (count // open_at_once)


@pytest.mark.parametrize("name", ["aio-pika", "java", "pika-confirms"])
def test_a_refused_message_fails_the_publisher(found: Callable[[str], Peer], name: str) -> None:
    """A nack is no confirm."""
    peer = found(name)
    with broker(1, set(), answer="nack") as (url, _):
        done = publish(peer, url, 3, 1)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Could not publish 3 messages (")


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_a_connection_that_breaks_fails_the_publisher(
    found: Callable[[str], Peer], name: str
) -> None:
    """Nobody connects again behind the back of a measurement."""
    peer = found(name)
    with broker(1, set(), answer="hang up") as (url, served):
        done = publish(peer, url, 3, 1)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Could not publish 3 messages (")
    assert served[0].published <= 3
