"""pika, as a program: ``BlockingConnection``, the way most people use it.

Without ``--confirms`` it asks for none and knows nothing of the outcome; with it, it waits for
each confirm before the next publish, the only way a blocking channel has.
"""

from __future__ import annotations

import time
from typing import Any

import pika

from rabbitproof.identity import SENT_HEADER
from rabbitproof.trial.peers import program
from rabbitproof.trial.peers.program import Done, Failed, Job, Stopwatch


def publish(job: Job) -> Done:
    """Publish all messages, one after the other."""
    connection = pika.BlockingConnection(pika.URLParameters(job.url))
    channel = connection.channel()
    returned: list[Any] = []
    channel.add_on_return_callback(lambda *_: returned.append(None))
    if job.confirms:
        channel.confirm_delivery()
    body, prefix, exchange, key = job.body, job.id_prefix, job.exchange, job.routing_key
    headers = program.headers(0)
    # One for all messages: pika encodes it before basic_publish returns, and making one for each
    # costs 2 of 35 microseconds.
    properties = pika.BasicProperties(
        content_type=program.CONTENT_TYPE,
        headers=headers,
        delivery_mode=program.PERSISTENT,
        app_id=program.APP_ID,
    )
    watch = Stopwatch()
    for n in range(1, job.count + 1):
        headers[SENT_HEADER] = sent_ns = time.time_ns()
        properties.timestamp = sent_ns // 1_000_000_000
        properties.message_id = f"{prefix}{n:012x}"
        channel.basic_publish(exchange, key, body % n, properties, mandatory=True)
    if not job.confirms:
        # What was returned is handed out only while the channel is open. The broker handles a
        # channel in order: when it has answered this, every return has come.
        channel.basic_qos(prefetch_count=0)
        connection.process_data_events(0)
    channel.close()
    watch.stop()
    connection.close()
    if returned:
        raise Failed(
            f"The broker returned {len(returned)} of {job.count} messages, because no queue takes "
            "them; bind one first."
        )
    return Done(job.count, watch)


def consume(job: Job) -> Done:
    """Receive all messages; each is recorded before it is acknowledged."""
    connection = pika.BlockingConnection(pika.URLParameters(job.url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=job.prefetch)
    count, every = job.count, job.ack_every
    seen: set[str] = set()
    received = 0

    def take(_channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        nonlocal received
        seen.add(properties.message_id)
        received += 1
        if received % every == 0 or received == count:
            channel.basic_ack(method.delivery_tag, multiple=True)
            if received == count:
                watch.stop()
                channel.stop_consuming()  # what came beyond goes back to the queue

    watch = Stopwatch()
    channel.basic_consume(job.queue, take)
    channel.start_consuming()
    if received < count:
        raise Failed(
            f"The broker ended the consumer after {received} of {count} messages; check that "
            "the queue still exists."
        )
    connection.close()
    return Done(len(seen), watch)


if __name__ == "__main__":
    program.main(publish, consume, confirms=None)
