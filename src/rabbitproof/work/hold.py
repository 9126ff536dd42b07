"""Reading a queue without taking anything out of it, as far as that can be done.

A queue of AMQP can't be read without consuming. What is read here is held unacknowledged and
given back in one piece at the end, so that it stands where it stood, marked as redelivered. No
consumer may hold all of a long queue, so another channel is opened when one is full. A stream can
be read as it is: its acknowledgements only ask for more.

Rules: it ends at what was there when it began, or when nothing comes any more; never waits for
new messages unless told to ``follow``. Refuses to know what a message means.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from rabbitproof.amqp import content, methods
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.amqp.publishes import FRAME_OVERHEAD
from rabbitproof.amqp.session import ConsumerCancelled
from rabbitproof.errors import ConsumerGone, Overdue, UsageError
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pamqp.common import FieldValue

    from rabbitproof.amqp.connection import Connection

Message = Batch | Delivery

HELD: Final = 5_000
"""Messages that one consumer holds before the next one begins. It may be 65,535 (basic.qos has 16
bits for it), but a broker's channel gets slower with what is unacknowledged on it: 200,000 messages
of a classic queue were read in 5.2 s with 10,000 each and in 8.9 s with 65,535 (RabbitMQ 3.10)."""
_MOST_CHANNELS: Final = 1_000
"""More messages each before there are more: a connection has 2,047 channels at most, or what the
broker allows."""
_MOST_HELD: Final = 65_535
STREAM_PREFETCH: Final = 5_000
_SILENCE_S: Final = 0.5
"""How long it has to be silent before that counts as the end."""
_LATE_S: Final = 3.0
"""How long it has to be when less came than was there, and the queue may be a quorum queue."""
_LOOK_S: Final = 0.05
"""Between two looks at a count."""
_LAGS_S: Final = 2.0
"""For which a stream that says it is empty may have messages all the same."""
_SETTLED_S: Final = 3.0
"""For which the count of a queue that gets messages back has to stand still."""
_PATIENCE_S: Final = 60.0
"""For a queue that does not answer, or gives nothing though it has something."""
_TICK_S: Final = 0.25
_CLOSING_COUNTS: Final = (4, 0)
"""The release from which a quorum queue may count a closed channel as a failed delivery, and a
nack not. Before, it counts both alike; but it writes each message that is nacked to its log once
more, and takes a closed channel's back as they are: 300,000 in 0.3 s instead of 11 (3.10)."""
_GATHER_BYTES: Final = 64 * 1024
_GATHER_FROM: Final = 200
"""As for consumers (``consume``): worth it for a prefetch of this and more."""

OFFSET_HEADER: Final = "x-stream-offset"


class Held:
    """One reading of one queue; ``give_back`` when done."""

    def __init__(
        self,
        connection: Connection,
        queue: str,
        *,
        stream: bool = False,
        classic: bool = False,
        offset: Any = "first",
        until: int | None = None,
        hold: int = HELD,
    ) -> None:
        """``offset``: where to begin in a stream, as RabbitMQ understands ``x-stream-offset``.

        ``until``: the offset to end with; without it, that of what is the last message now.
        ``classic``: it is certain that the queue is one, so giving back may be quicker.
        """
        self.queue = queue
        self.stream = stream
        self._classic = classic
        self.connection = connection
        self._offset = offset
        self._hold = STREAM_PREFETCH if stream else hold
        self._channels: dict[int, int] = {}
        """Channel -> the highest tag that came on it."""
        self._held = 0
        """Messages that were read and not acknowledged."""
        self._acknowledged: set[int] = set()
        """Channels on which something was, and may be under way."""
        self._current = 0
        self._inbox: list[Message] = []
        """What came while nobody read."""
        self._look = connection.open_channel()
        self.there = self._count_there()
        """Messages that were ready at the start; a stream's lags."""
        # One channel asks, and one may be needed beside.
        self._channels_left = max(1, min(_MOST_CHANNELS, connection.channel_max - 2))
        if not stream:
            self._hold = min(max(self._hold, -(-self.there // self._channels_left)), _MOST_HELD)
        if stream or min(self._hold, self.there) >= _GATHER_FROM:  # a stream's count lags
            connection.gather(_GATHER_BYTES)
        self.until = until
        """The offset of the last message of a stream that is to be read; -1 for an empty one."""

    def read(self, limit: int | None = None, *, follow: bool = False) -> Iterator[list[Delivery]]:
        """Yield messages in the order of the queue, some at a time; an empty list now and then.

        ``limit``: no more than so many. ``follow``: go on when there are no more.
        """
        self.connection.deliver_whole()
        for some in self._read(limit, follow=follow):
            yield [one for one in some if isinstance(one, Delivery)]

    def read_bulk(self, limit: int | None = None) -> Iterator[list[Message]]:
        """Do as ``read`` with our own messages in batches, which have their ``heads``."""
        self.connection.keep_heads()
        yield from self._read(limit, follow=False)

    def _read(self, limit: int | None, *, follow: bool) -> Iterator[list[Message]]:
        end = None if follow or self.stream else self.there
        if limit is not None:
            end = limit if end is None else min(limit, end)
        if end == 0:
            return
        most = self._channels_left * self._hold
        if end is not None and end > most:
            raise UsageError(
                f"'{safe(self.queue)}' has {self.there:,} messages, and with the channels that the "
                f"broker allows (channel_max) {most:,} can be held at once: say --limit {most}, or "
                "raise channel_max."
            )
        if self.stream and not follow and self.until is None:
            self.until = self._last_offset()
        last = None if follow else self.until
        if last is not None and self._begins_after(last):
            return
        count, full = 0, self._subscribe(end)
        silent_since = time.monotonic()
        while end is None or count < end:
            some = self._take()
            now = time.monotonic()
            if some:
                silent_since = now
                size = sum(map(_size, some))
                if end is not None and count + size > end:
                    some, size = _first(some, end - count), end - count
                count += size
                self._held += size
                tags = self._channels
                for one in some:
                    tags[one.channel] = _last_tag(one)
                if self.stream:
                    self._ask_for_more()
                elif tags[self._current] >= full and (end is None or count < end):
                    full = self._subscribe(None if end is None else end - count)
            elif not follow and now - silent_since >= _SILENCE_S:
                if self._nothing_left(now - silent_since, none_yet=not count):
                    return
                if now - silent_since >= _PATIENCE_S:
                    raise Overdue(
                        f"'{safe(self.queue)}' has had nothing for this reader for "
                        f"{_PATIENCE_S:g} s and is not empty; see whether another consumer is its "
                        "only active one, and try again."
                    )
            yield some
            if (
                some
                and last is not None
                and (at := _offset_at(some[-1])) is not None
                and at >= last
            ):
                return

    def give_back(self) -> None:
        """Return everything that was read and not acknowledged to its place in the queue."""
        # The last ones first: into a classic queue that already has what came before them, each
        # channel's messages take three times as long. A quorum queue would keep that order.
        channels = [*self._channels]
        if self._classic:
            channels.reverse()
        if self.stream:
            for channel in channels:
                self.connection.call(channel, methods.CLOSE)
            self._channels.clear()
            return
        for channel in self._channels:  # first all: or messages would come to another one of us
            self.connection.call(channel, commands.Basic.Cancel(_TAG))
        before = None if self._classic else self._ask()
        if self._classic or wiring.release(self.connection) >= _CLOSING_COUNTS:
            for channel in channels:
                # Tag 0: all that is not acknowledged yet.
                self.connection.tell(channel, commands.Basic.Nack(0, multiple=True, requeue=True))
                # Asked on the same channel, a classic queue answers when it has done it: who
                # counts afterwards counts all of them.
                wiring.message_count(self.connection, channel, self.queue)
        for channel in channels:
            self.connection.call(channel, methods.CLOSE)
        self._channels.clear()
        if not self._classic:
            self._wait_for_return(before)

    def acknowledge(self, delivery: Delivery) -> None:
        """Take one message out of the queue."""
        self._held -= 1
        self._acknowledged.add(delivery.channel)
        self.connection.tell(delivery.channel, commands.Basic.Ack(delivery.delivery_tag))

    def catch_up(self) -> None:
        """Wait until the broker has handled all acknowledgements so far."""
        for channel in self._acknowledged:
            # It answers one channel in order.
            wiring.sure_count(self.connection, channel, self.queue)
        self._acknowledged.clear()

    # --- the inside ---

    def _ask(self) -> int | None:
        """Ask how many are ready; None when the queue did not answer."""
        count = wiring.sure_count(self.connection, self._look, self.queue)
        return 0 if count is None and (self._classic or self.stream) else count

    def _count_there(self) -> int:
        """Count what is ready. A quorum queue says 0 for a moment after messages came back to it,
        so one that seems empty is asked again.
        """
        count, began = self._ask(), time.monotonic()
        while not count:
            waited = time.monotonic() - began
            if count == 0 and (self._classic or waited >= _SILENCE_S):
                return count
            if waited >= _PATIENCE_S:
                raise Overdue(
                    f"'{safe(self.queue)}' does not say how many messages it has; it is busy, so "
                    "try again later."
                )
            self.connection.wait(_LOOK_S)
            count = self._ask()
        return count

    def _wait_for_return(self, before: int | None) -> None:
        """Wait until a quorum queue has what it got back: it says that it has it before it has.

        As long as its count grows, or it does not answer; who else reads ends that, too.
        """
        grew, count = time.monotonic(), before or 0
        wanted = count + self._held
        while count < wanted and time.monotonic() - grew < _PATIENCE_S:
            self.connection.wait(_LOOK_S)
            now = self._ask()
            if now is None:
                continue
            if now > count:
                count, grew = now, time.monotonic()
            elif time.monotonic() - grew >= _SETTLED_S:
                return

    def _subscribe(self, wanted: int | None) -> int:
        """Begin to consume on a new channel; return how many messages it takes."""
        channel = self.connection.open_channel()
        prefetch = self._hold if wanted is None or self.stream else min(self._hold, wanted)
        self.connection.call(channel, commands.Basic.Qos(prefetch_count=prefetch))
        arguments: dict[str, FieldValue] = {}
        if self.stream:
            arguments["x-stream-offset"] = self._offset
        self.connection.call(
            channel,
            methods.BasicConsume(queue=self.queue, consumer_tag=_TAG, arguments=arguments),
        )
        self._channels[channel], self._current = 0, channel
        return prefetch

    def serve(self) -> None:
        """Keep the connection alive while nobody reads; what comes is kept for who does."""
        self._inbox += self._receive(0)

    def _take(self) -> list[Message]:
        found, self._inbox = self._inbox, []
        return found or self._receive(_TICK_S)

    def _receive(self, timeout: float) -> list[Message]:
        found: list[Message] = []
        for event in self.connection.wait(timeout):
            if isinstance(event, Batch | Delivery) and event.channel in self._channels:
                found.append(event)
            elif isinstance(event, ConsumerCancelled):
                raise ConsumerGone(
                    f"The broker ended the reading of '{safe(self.queue)}': the queue was deleted "
                    "or lost its node; check it with `rabbitmqctl list_queues`."
                )
        return found

    def _ask_for_more(self) -> None:
        tag = self._channels[self._current]
        self.connection.tell(self._current, commands.Basic.Ack(tag, multiple=True))

    def _nothing_left(self, silent_s: float, *, none_yet: bool) -> bool:
        """Say whether the queue, asked by itself, has nothing more for us.

        A stream ends with its last message, not with a silence: only from a time on that is after
        its last one nothing comes at all. A quorum queue no longer counts what it is still reading
        from its log for us, so its 0 is believed only after a longer silence.
        """
        if self.stream:
            return none_yet and not isinstance(self._offset, int | str)
        if not self._classic and silent_s < _LATE_S:
            return False
        return self._ask() == 0 and not self.connection.look_ahead(0)

    def _begins_after(self, last: int) -> bool:
        """Say whether reading would begin after a stream's last message."""
        return (
            last < 0
            or self._offset == "next"
            or (isinstance(self._offset, int) and self._offset > last)
        )

    def _last_offset(self) -> int | None:
        """Return the offset of a stream's last message: its last chunk is read for that.

        -1 for an empty one: it says that it has none, and nothing comes.
        """
        channel = self.connection.open_channel()
        self.connection.call(channel, commands.Basic.Qos(prefetch_count=STREAM_PREFETCH))
        self.connection.call(
            channel,
            methods.BasicConsume(
                queue=self.queue, consumer_tag=_TAG, arguments={"x-stream-offset": "last"}
            ),
        )
        last, deadline = -1, time.monotonic() + (_PATIENCE_S if self.there else _LAGS_S)
        while (left := deadline - time.monotonic()) > 0:
            for event in self.connection.wait(left):
                if isinstance(event, Batch | Delivery):
                    last = max(last, _offset_at(event) or 0)
                    ack = commands.Basic.Ack(_last_tag(event), multiple=True)
                    self.connection.tell(channel, ack)
                    deadline = time.monotonic() + _SILENCE_S
        self.connection.call(channel, commands.Basic.Cancel(_TAG))
        self.connection.call(channel, methods.CLOSE)
        return last


_TAG: Final = "rabbitproof"


def offset_of(delivery: Delivery) -> int | None:
    """Return where a message stands in its stream; None outside one."""
    return _offset_in(delivery.header)


def _offset_at(message: Message) -> int | None:
    if isinstance(message, Delivery):
        return offset_of(message)
    head = message.heads[-1]  # the frame of the method, then that of the content header
    start = FRAME_OVERHEAD + int.from_bytes(head[3:7], "big")
    return _offset_in(head[start + 7 : -1])


def _offset_in(header: bytes) -> int | None:
    # Among the headers of the message itself alone: a forwarder may have kept another's in a
    # header of its own, and any text may have these bytes.
    properties = header[FLAGS_AT:]
    for name, start, end, kind in content.spans(properties) or ():
        if name == OFFSET_HEADER and kind == "q":
            return int.from_bytes(properties[start:end], "big", signed=True)
    return None


def _last_tag(message: Message) -> int:
    return message.last_tag if isinstance(message, Batch) else message.delivery_tag


def _size(message: Message) -> int:
    return len(message.bodies) if isinstance(message, Batch) else 1


def _first(some: list[Message], count: int) -> list[Message]:
    """Return the first ``count`` messages."""
    out: list[Message] = []
    for one in some:
        size = _size(one)
        if size > count:
            if count and isinstance(one, Batch):
                out.append(one.part(0, count))
            return out
        out.append(one)
        count -= size
    return out
