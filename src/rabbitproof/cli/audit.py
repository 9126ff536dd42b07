"""``rabbitproof audit tail|export|replay|check``: look at the audit trail, keep it, send it again.

Holds: options and lines. Refuses to hold: reading, files, sending (``work``).
"""

from __future__ import annotations

import datetime
import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import ExportBroken, RabbitproofError, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.amqp.connection import Connection as Amqp
    from rabbitproof.amqp.deliveries import Delivery
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.work.audit import Counts, Records, Task
    from rabbitproof.work.export_lines import Record
    from rabbitproof.work.forecast import Forecast
    from rabbitproof.work.hold import Held

app = new_app(no_args_is_help=True, help="Look at the audit trail, keep it, send it again.")

_INTERVAL = re.compile(r"\d+(Y|M|D|h|m|s)")
_SHOWN = 10
"""Messages of a queue that `tail` shows when nothing else is asked for."""
_TARGETS = 20
"""Places that a dry run names."""

Queue = Annotated[
    str, typer.Option("--queue", metavar="NAME", help="The audit queue or stream to read.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="first|last|next|N|TIME",
        help="Where to begin in a stream: an offset, a time such as 2026-01-31T12:00, or so long "
        "ago (5m, 2h).",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="No more than N messages.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
@with_connection
def tail(
    *,
    connection: Connection,
    queue: Queue = options.AUDIT_QUEUE,
    from_: From = None,
    limit: Limit = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is yet to come; streams only.")
    ] = False,
    yes: Yes = False,
    as_json: options.Json = False,
) -> Exit:
    """Show messages of the audit queue or stream, and leave them there.

    A stream is shown from its last messages on, a queue from its oldest, ten of them.
    """
    with connection.open("RabbitMQ Audit") as opened:
        held = _hold(
            opened,
            connection,
            queue,
            from_ or "last",
            default=from_ is None,
            yes=yes,
            most=_SHOWN if limit is None else limit,
        )
        if held is None:
            return Exit.FAILED
        if follow and not held.stream:
            raise UsageError(
                f"'{safe(queue)}' is no stream, and what is read of it is held back from its "
                "consumers, so it can't be followed; leave out --follow."
            )
        if limit is None and not held.stream:
            limit = _SHOWN
        number = 0
        for some in held.read(limit, follow=follow):
            for delivery in some:
                number += 1
                _show(number, delivery, as_json=as_json)
        held.give_back()
        if not held.stream and number < held.there:
            note(f"{held.there - number:,} more; see them with --limit {held.there}.")
    return Exit.DONE


@app.command()
@with_connection
def export(
    *,
    connection: Connection,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="….jsonl, ….gz or ….zst")],
    queue: Queue = options.AUDIT_QUEUE,
    from_: From = None,
    limit: Limit = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file.")] = False,
    yes: Yes = False,
) -> Exit:
    """Write the messages of a queue or stream into a file, byte for byte, and leave them there."""
    from rabbitproof.cli.show import Show
    from rabbitproof.work import audit
    from rabbitproof.work.export import create

    show = Show("audit")
    with connection.open("RabbitMQ Audit") as opened:
        held = _hold(
            opened,
            connection,
            queue,
            from_ or "first",
            default=from_ is None,
            yes=yes,
            most=limit,
        )
        if held is None:
            return Exit.FAILED
        began = time.monotonic()
        with create(file, replace=replace) as writer:
            try:
                show.all(audit.export(held, writer, limit))
            except (KeyboardInterrupt, RabbitproofError):
                note(f"{safe(str(file))} is cut: the export did not end. Export again.")
                raise
    show.data(
        f"done. exported={writer.messages}, bytes={file.stat().st_size}, "
        f"file={safe(str(file))}, time={time.monotonic() - began:.2f}s"
    )
    return Exit.DONE


@app.command()
@with_connection
def replay(
    *,
    connection: Connection,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="An export; without one, the stream --queue."),
    ] = None,
    queue: Queue = options.AUDIT_QUEUE,
    from_: From = None,
    limit: Limit = None,
    to_exchange: Annotated[
        str | None,
        typer.Option(
            "--to-exchange", metavar="NAME", help="Not to where each came from, but here."
        ),
    ] = None,
    to_queue: Annotated[
        str | None, typer.Option("--to-queue", metavar="NAME", help="Straight into this queue.")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            "--speed",
            metavar="X|max",
            help="So many times as fast as they were sent; max.",
        ),
    ] = "1",
    allow_cut: Annotated[
        bool, typer.Option("--allow-cut", help="Take what there is of an export that was cut.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent, and where.")
    ] = False,
    give_up_after: options.GiveUpAfter = options.GIVE_UP_AFTER,
    yes: Yes = False,
) -> Exit:
    """Send the messages of an export, or of a stream's range, again, each marked as replayed."""
    from rabbitproof.cli.ask import confirm
    from rabbitproof.cli.held import look_at
    from rabbitproof.work import audit
    from rabbitproof.work import export as exported

    task = _task(to_exchange, to_queue, speed, dry_run=dry_run)
    task = replace(task, give_up_s=give_up_after)
    if file is not None:
        try:
            count: int | None = exported.check(file)
        except ExportBroken as broken:
            if not allow_cut:
                raise
            note(str(broken))
            count = None
        where = _where(task)
        many = "the messages" if count is None else f"{count:,} messages"
        if not dry_run and not confirm(f"Send {many} of {safe(str(file))} {where}?", yes=yes):
            note("nothing was sent.")
            return Exit.FAILED
        records = exported.records(file, cut=allow_cut)
        if limit is not None:
            records = _first(records, limit)
        return _replay(connection, task, audit.Records(records))
    if to_queue == queue:
        raise UsageError("that would send the stream into itself; name another --to-queue.")
    offset = _offset(from_ or "first")
    with connection.open("RabbitMQ Audit") as opened:
        if look_at(opened, connection, queue).type != "stream":
            raise UsageError(f"'{safe(queue)}' is no stream; export it, and replay the file.")
    # Asked without a connection: whoever answers late would find it closed by the broker.
    question = f"Send messages of '{safe(queue)}' {_where(task)}?"
    if not dry_run and not confirm(question, yes=yes):
        note("nothing was sent.")
        return Exit.FAILED
    reader = connection.dialer("RabbitMQ Audit")
    return _replay(
        connection, task, audit.StreamRecords(reader, queue, offset, limit, give_up_after)
    )


@app.command()
def check(
    *,
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Where the participants' ledgers are.")
    ],
    work_queue: Annotated[
        str | None, typer.Option("--work-queue", metavar="NAME", help="Where no ledger says it.")
    ] = None,
    audit_queue: Annotated[
        str | None, typer.Option("--audit-queue", metavar="NAME", help="Where no ledger says it.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Which run, where the ledgers are of several."),
    ] = None,
    as_json: options.Json = False,
) -> Exit:
    """Compare the audit copies of a run with the work copies, from the ledgers of --ledger.

    The verdict and its exit code are those of verify.
    """
    from rabbitproof.cli.outcome import EXITS
    from rabbitproof.proof.mirror import check as compare

    found = compare(folders, run, work_queue, audit_queue)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.decision}: confirmed={found.confirmed}")
        for role, side in (("work", found.work), ("audit", found.audit)):
            print(f"  {role} {safe(side.name) or '?'}: seen={side.seen}, lacks={side.lacks}")
            for message_id in side.lacks_ids:
                print(f"    lacks {safe(message_id, 60)}")
        for line in (*found.reasons, *found.notes):
            note(safe(line, 500))
    return EXITS[found.decision]


def _hold(
    opened: Amqp,
    connection: Connection,
    queue: str,
    from_: str,
    *,
    default: bool,
    yes: bool,
    most: int | None,
) -> Held | None:
    """Begin to read a queue or stream; None when that was declined."""
    from rabbitproof.cli.held import look_at, may_hold
    from rabbitproof.work.hold import Held

    offset = _offset(from_)
    info: QueueInfo = look_at(opened, connection, queue)
    stream = info.type == "stream"
    if not stream and not default:
        raise UsageError(
            f"'{safe(queue)}' is a {info.type} queue, which has no offsets: leave out --from."
        )
    if not may_hold(opened, connection, info, yes=yes, most=most):
        note("nothing was read.")
        return None
    return Held(opened, queue, stream=stream, classic=info.type == "classic", offset=offset)


def _offset(text: str) -> Any:
    """Return where to begin as RabbitMQ wants it."""
    if text in {"first", "last", "next"} or _INTERVAL.fullmatch(text):
        return text
    if text.isascii() and text.isdigit() and int(text) < 1 << 63:
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--from {safe(text, 40)} is neither first, last, next, an offset, a time such as "
            "2026-01-31T12:00, nor an interval such as 5m."
        ) from None
    return moment.astimezone(datetime.UTC)


def _task(to_exchange: str | None, to_queue: str | None, speed: str, *, dry_run: bool) -> Task:
    from rabbitproof.work.audit import Task

    if to_exchange is not None and to_queue is not None:
        raise UsageError("--to-exchange and --to-queue are two places; give one.")
    factor: float | None = None
    if speed != "max":
        try:
            factor = float(speed)
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            raise UsageError("--speed is a number above 0, or max.")
    if to_queue is not None:
        return Task("", options.queue_name(to_queue, "--to-queue"), factor, dry_run)
    if to_exchange is not None:
        to_exchange = options.queue_name(to_exchange, "--to-exchange")
    return Task(to_exchange, None, factor, dry_run)


def _where(task: Task) -> str:
    if task.routing_key is not None:
        return f"into '{safe(task.routing_key)}'"
    if task.exchange is not None:
        return f"to the exchange '{safe(task.exchange)}', each with its own key"
    return "to where each came from"


def _first(records: Iterator[Record], limit: int) -> Iterator[Record]:
    for _, record in zip(range(limit), records, strict=False):
        yield record


def _replay(connection: Connection, task: Task, records: Records) -> Exit:
    from rabbitproof.cli.held import vhost_of
    from rabbitproof.cli.show import Show
    from rabbitproof.work.audit import Replayer
    from rabbitproof.work.forecast import Forecast

    forecast = None
    if task.dry_run and (vhost := vhost_of(connection)) is not None:
        forecast = Forecast(vhost)
    replayer = Replayer(task, records, connection.dialer("RabbitMQ Replay"), forecast)
    show, counts = Show("audit"), replayer.counts
    try:
        show.all(replayer.run())
    except (KeyboardInterrupt, RabbitproofError):
        show.data(_summary(counts, task, "stopped"))
        show.note("not all was sent; what was in flight may have arrived or not.")
        raise
    lacks = records.lacks()
    well = counts.balances and counts.confirmed == counts.read and lacks is None
    show.data(_summary(counts, task, "done" if well else "ended"))
    for (exchange, key), count in counts.targets.most_common(_TARGETS):
        show.note(f"{count:,} to exchange '{safe(exchange)}' with key '{safe(key)}'")
    if counts.further:
        show.note(
            f"{counts.further:,} have CC or BCC, which are left out: nothing but "
            f"'{safe(str(task.routing_key))}' gets a copy."
        )
    if forecast is not None:
        for line in _forecast(forecast):
            show.note(line)
        if forecast.nowhere or forecast.refused:
            return Exit.FAILED
    if counts.first is not None and counts.last is not None and task.dry_run:
        show.note(f"sent over {max(counts.last - counts.first, 0):,.1f} s at their time")
    if lacks is not None:
        show.note(f"{lacks}: go on behind it with --from.")
    if counts.returned:
        show.note(f"{counts.returned} came back: no queue is bound there for their key.")
    for why, first in replayer.aside.items():
        which = ", ".join(f"{one:,}" for one in first)
        show.note(f"set aside ({safe(why, 300)}): the messages number {which} of those read.")
    if counts.nacked:
        show.note(
            f"{counts.nacked} were refused to the end (a queue is full or down), and nothing more "
            "was sent; make room and replay the rest."
        )
    return Exit.DONE if well or (task.dry_run and lacks is None) else Exit.FAILED


def _forecast(forecast: Forecast) -> Iterator[str]:
    """Say which queues would get copies."""
    shown = forecast.queues.most_common(_TARGETS)
    for (queue, by), count in shown:
        yield f"{count:,} into '{safe(queue)}'" + (f", by the header {by}" if by else "")
    if len(shown) < len(forecast.queues):
        yield f"… and {len(forecast.queues) - len(shown):,} more queues"
    if forecast.nowhere:
        yield f"{forecast.nowhere:,} would come back: no queue takes them."
    for why, count in forecast.refused.most_common(_TARGETS):
        yield f"{count:,} would be refused, exchange {safe(why, 300)}."
    for why, count in forecast.unknown.most_common(_TARGETS):
        yield f"{count:,} may go to further queues: {safe(why, 300)}."


def _summary(counts: Counts, task: Task, word: str) -> str:
    if task.dry_run:
        return f"would send. messages={counts.read}"
    return (
        f"{word}. read={counts.read}, confirmed={counts.confirmed}, returned={counts.returned}, "
        f"nacked={counts.nacked}, refused={counts.refused}, resent={counts.resent}, "
        f"time={counts.seconds:.2f}s"
    )


def _show(number: int, delivery: Delivery, *, as_json: bool) -> None:
    from rabbitproof.view import lines
    from rabbitproof.work.export_lines import record_of
    from rabbitproof.work.hold import offset_of
    from rabbitproof.work.inspect import foreign_sample

    offset = offset_of(delivery)
    if as_json:
        place = {"number": number} if offset is None else {"number": number, "offset": offset}
        print(json.dumps(place | record_of(delivery)), flush=True)
        return
    place_text = "" if offset is None else f"offset={offset} "
    print(f"{place_text}{lines.got(foreign_sample(number, delivery))}", flush=True)
