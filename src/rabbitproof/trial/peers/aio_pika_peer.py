"""aio-pika, as a program: one coroutine for each publish that may wait for its confirm."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aio_pika

from rabbitproof.trial.peers import program
from rabbitproof.trial.peers.program import Done, Failed, Job, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage


def publish(job: Job) -> Done:
    """Publish all messages, at most ``window`` of them unconfirmed."""
    return _run(_publish(job))


def consume(job: Job) -> Done:
    """Receive all messages; each is recorded before it is acknowledged."""
    return _run(_consume(job))


def _run(work: Coroutine[None, None, Done]) -> Done:
    try:
        return asyncio.run(work)
    except ExceptionGroup as group:
        # All publishers fail when one does; the first says why.
        first: Exception = group
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _publish(job: Job) -> Done:
    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel(
            publisher_confirms=True,
            on_return_raises=True,  # else what was returned would pass for confirmed
        )
        closed = _until_closed(channel)
        exchange = await channel.get_exchange(job.exchange, ensure=False)
        body, prefix, key = job.body, job.id_prefix, job.routing_key

        async def work(numbers: Iterator[int]) -> None:
            for n in numbers:
                sent_ns = time.time_ns()
                message = aio_pika.Message(
                    body % n,
                    headers=program.headers(sent_ns),
                    content_type=program.CONTENT_TYPE,
                    delivery_mode=program.PERSISTENT,
                    message_id=f"{prefix}{n:012x}",
                    timestamp=sent_ns // 1_000_000_000,
                    app_id=program.APP_ID,
                )
                await exchange.publish(message, key, mandatory=True)

        # A coroutine for each place in the window, each with one publish at a time: 6,100
        # messages a second with 10,000 of them, where `gather` over 10,000 publishes, one group
        # after the other, did 4,700, and a task for each publish behind a semaphore 3,100.
        numbers = iter(range(1, job.count + 1))
        watch = Stopwatch()
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(job.window, job.count)):
                    workers.create_task(work(numbers))
        except* aio_pika.exceptions.ChannelInvalidStateError:
            await closed  # says why, where the other only says that
        watch.stop()
    return Done(job.count, watch)


async def _consume(job: Job) -> Done:
    async with await aio_pika.connect(job.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=job.prefetch)
        queue = await channel.get_queue(job.queue, ensure=False)
        receipts = _Receipts(job, _until_closed(channel))
        watch = Stopwatch()
        await queue.consume(receipts.take)
        await receipts.end
        watch.stop()
    return Done(len(receipts.seen), watch)


def _until_closed(channel: AbstractChannel) -> asyncio.Future[None]:
    """Return a future that fails when the channel is closed, with the reason."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def closed(_channel: AbstractChannel | None, reason: BaseException | None) -> None:
        if not future.done():
            future.set_exception(reason or Failed("The channel was closed; look at the log."))

    channel.close_callbacks.add(closed)
    return future


class _Receipts:
    """Records every message id, then acknowledges, several at once."""

    def __init__(self, job: Job, end: asyncio.Future[None]) -> None:
        self.seen: set[str | None] = set()
        self.end = end
        """Done when all are acknowledged; fails when that can't be any more."""
        self._count, self._every = job.count, job.ack_every
        self._received = 0

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Take a delivery. aio-pika runs this in a task for each."""
        if self._received == self._count:
            return  # more than was asked for; goes back to the queue
        self.seen.add(message.message_id)
        self._received += 1
        number = self._received
        if number % self._every and number != self._count:
            return
        try:
            if message.delivery_tag != number:
                # The tasks begin in order. If ever they did not, this ack would be for messages
                # that are not recorded.
                self._fail(
                    Failed("aio-pika handed out messages in another order; use another release.")
                )
                return
            await message.ack(multiple=True)
        except Exception as error:  # noqa: BLE001 - aio-pika only logs what a callback raises
            self._fail(error)
        else:
            if number == self._count and not self.end.done():
                self.end.set_result(None)

    def _fail(self, reason: BaseException) -> None:
        if not self.end.done():
            self.end.set_exception(reason)


if __name__ == "__main__":
    program.main(publish, consume, confirms=True)
