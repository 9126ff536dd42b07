"""``rabbitproof deadletter list|show|retry|move``: what died, why, and back with it.

Holds: options and lines. Refuses to hold: reading, sending, acknowledging (``work``).
"""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rabbitproof.cli import options
from rabbitproof.cli.connection import Connection
from rabbitproof.cli.exits import Exit, note
from rabbitproof.cli.options import new_app, with_connection
from rabbitproof.errors import RabbitproofError, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.cli.show import Show
    from rabbitproof.work.deadletter import Counts, Task
    from rabbitproof.work.letters import Filter, Found, Letter

app = new_app(no_args_is_help=True, help="List dead letters, send them back or elsewhere.")

Queue = Annotated[
    str, typer.Option("--queue", metavar="NAME", help="The queue that holds the dead letters.")
]
AnyQueue = Annotated[
    str | None,
    typer.Option("--queue", metavar="NAME", help="The queue that holds them.  [default: find all]"),
]
FromQueue = Annotated[
    str | None,
    typer.Option("--from-queue", metavar="NAME", help="Only what died last in this queue."),
]
Reason = Annotated[
    Literal["rejected", "expired", "maxlen", "delivery_limit"] | None,
    typer.Option("--reason", help="Only what died last for this reason."),
]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than",
        metavar="TIME",
        help="Only what died so long ago: 90s, 5m, 2h, 1d. Not what died several times in one "
        "way: it tells of the first alone.",
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="K=V", help="Only what has this header; may be repeated."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="No more than N of them.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
MaxRetries = Annotated[
    int,
    typer.Option(
        "--max-retries", metavar="N", min=1, help="Leave what was retried N times before."
    ),
]

Group = tuple[str, str, str, bool | None]
"""Where it died last, why, where first, and whether the next death after a retry is the end."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command("list")
@with_connection
def list_(
    *,
    connection: Connection,
    queue: AnyQueue = None,
    reason: Reason = None,
    from_queue: FromQueue = None,
    older_than: OlderThan = None,
    header: Headers = None,
    yes: Yes = False,
    as_json: options.Json = False,
) -> Exit:
    """Count dead letters by reason and by the queue they died in; without --queue, find them."""
    from rabbitproof.cli.held import vhost_of
    from rabbitproof.work import deadletter, letters
    from rabbitproof.work.cleanup import require_same_cluster
    from rabbitproof.work.forecast import Forecast

    which = _filter(reason, from_queue, older_than, header)
    with connection.open("RabbitMQ Dead Letters") as opened:
        if queue is None:
            with connection.api.open() as api:
                require_same_cluster(opened, api)
                found = letters.find(api, opened.address.vhost)
            _list_queues(found, as_json=as_json)
            return Exit.DONE
        if not _may_read(opened, connection, queue, yes=yes):
            return Exit.FAILED
        vhost = vhost_of(connection)
        forecast = None if vhost is None else Forecast(vhost)
        retry = deadletter.Task(queue, "retry")
        groups: Counter[Group] = Counter()
        oldest: dict[Group, int] = {}
        for letter in letters.read(opened, queue, which, None):
            end = None
            if forecast is not None and letter.first.target:
                copy = deadletter.copy_of(letter, retry)
                end = forecast.last_death(copy, letter.first.target)
            key = (letter.last.queue, letter.last.reason, letter.first.queue, end)
            groups[key] += 1
            oldest[key] = min(oldest.get(key, letter.last.began), letter.last.began)
    for key, count in groups.most_common():
        died, why, first, end = key
        data = {"died_in": died, "reason": why, "first_in": first, "count": count,
                "oldest": oldest[key], "last_death": end}  # fmt: skip
        if not _print(data, as_json=as_json):
            print(
                f"{count:,} {safe(why) or 'unknown reason'} in {safe(died) or '?'}, "
                f"first in {safe(first) or '?'}, oldest {_when(oldest[key])}"
                + ("; retried, the next death is the end" if end else "")
            )
    if not groups:
        note(f"nothing of that kind in '{safe(queue)}'.")
    return Exit.DONE


def _list_queues(found: Found, *, as_json: bool) -> None:
    for info in found.queues.values():
        held = "?" if info.messages is None else f"{info.messages:,}"
        if not _print({"queue": info.name, "messages": info.messages}, as_json=as_json):
            print(f"{safe(info.name)}: {held} messages")
    if found.untold:
        note(
            "the broker does not tell what its policies define, so there may be others; "
            "name one with --queue."
        )
    elif not found.queues and not found.own_key:
        note("no queue here has a dead letter exchange that leads to a queue.")
    for name in found.own_key:
        note(
            f"what dies in '{safe(name)}' goes to the queue that its own routing key names, "
            "which may be any."
        )


@app.command()
@with_connection
def show(
    *,
    connection: Connection,
    queue: Queue,
    reason: Reason = None,
    from_queue: FromQueue = None,
    older_than: OlderThan = None,
    header: Headers = None,
    limit: Limit = 10,
    yes: Yes = False,
    as_json: options.Json = False,
) -> Exit:
    """Show dead letters one by one, the oldest first, with their history."""
    from rabbitproof.work import letters

    which = _filter(reason, from_queue, older_than, header)
    with connection.open("RabbitMQ Dead Letters") as opened:
        if not _may_read(opened, connection, queue, yes=yes):
            return Exit.FAILED
        for number, letter in enumerate(letters.read(opened, queue, which, limit), start=1):
            _show(number, letter, as_json=as_json)
    return Exit.DONE


@app.command()
@with_connection
def retry(
    *,
    connection: Connection,
    queue: Queue,
    to_queue: Annotated[
        str | None,
        typer.Option("--to-queue", metavar="NAME", help="Not to where each died, but here."),
    ] = None,
    to: Annotated[
        Literal["first", "last"], typer.Option("--to", help="Where each died first, or last.")
    ] = "first",
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published",
            help="To the exchange and with the keys with which it came to where it died, and so "
            "to all queues there.",
        ),
    ] = False,
    reason: Reason = None,
    from_queue: FromQueue = None,
    older_than: OlderThan = None,
    header: Headers = None,
    limit: Limit = None,
    max_retries: MaxRetries = 3,
    dry_run: DryRun = False,
    give_up_after: options.GiveUpAfter = options.GIVE_UP_AFTER,
    yes: Yes = False,
    as_json: options.Json = False,
) -> Exit:
    """Send dead letters back into the queues in which they first died.

    Each goes straight into its queue, so that no other queue gets a second copy. The dead letter
    is acknowledged only after the broker confirmed the copy.
    """
    from rabbitproof.work.deadletter import Task

    if to_queue is not None and (as_published or to != "first"):
        raise UsageError("--to-queue says where they go; leave out --to and --as-published.")
    task = Task(
        queue=options.queue_name(queue, "--queue"),
        what="retry",
        which=_filter(reason, from_queue, older_than, header),
        to_queue=None if to_queue is None else options.queue_name(to_queue, "--to-queue"),
        to=to,
        as_published=as_published,
        limit=limit,
        dry_run=dry_run,
        give_up_s=give_up_after,
        most_retries=max_retries,
    )
    return _carry_out(connection, task, yes=yes, as_json=as_json)


@app.command()
@with_connection
def move(
    *,
    connection: Connection,
    queue: Queue,
    to_queue: Annotated[
        str, typer.Option("--to-queue", metavar="NAME", help="Where they go, as they are.")
    ],
    reason: Reason = None,
    from_queue: FromQueue = None,
    older_than: OlderThan = None,
    header: Headers = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    give_up_after: options.GiveUpAfter = options.GIVE_UP_AFTER,
    yes: Yes = False,
) -> Exit:
    """Move dead letters into another queue, with all their history."""
    from rabbitproof.work.deadletter import Task

    task = Task(
        queue=options.queue_name(queue, "--queue"),
        what="move",
        which=_filter(reason, from_queue, older_than, header),
        to_queue=options.queue_name(to_queue, "--to-queue"),
        limit=limit,
        dry_run=dry_run,
        give_up_s=give_up_after,
    )
    return _carry_out(connection, task, yes=yes)


def _carry_out(connection: Connection, task: Task, *, yes: bool, as_json: bool = False) -> Exit:
    from rabbitproof.cli.ask import confirm
    from rabbitproof.cli.held import vhost_of
    from rabbitproof.cli.show import Show
    from rabbitproof.work.deadletter import Mover, described
    from rabbitproof.work.forecast import Forecast

    with connection.open("RabbitMQ Dead Letters") as opened:
        if not _may_read(opened, connection, task.queue, yes=yes):
            return Exit.FAILED
    vhost = vhost_of(connection)
    if vhost is None and task.as_published:
        raise UsageError("--as-published needs the Management API; leave it out, or see above.")
    forecast = None if vhost is None else Forecast(vhost)
    where = f"back to where they {task.to} died"
    if task.as_published:
        where = f"as they were published before they {task.to} died"
    if task.to_queue is not None:
        where = f"to '{task.to_queue}'"
    question = f"{task.what.capitalize()} the dead letters of '{safe(task.queue)}' {safe(where)}?"
    if not task.dry_run and not confirm(question, yes=yes):
        note("nothing was sent.")
        return Exit.FAILED
    mover = Mover(task, connection.dialer("RabbitMQ Dead Letters"), forecast)
    show = Show("deadletter", as_json=as_json)
    try:
        show.all(mover.run())
    except (KeyboardInterrupt, RabbitproofError):
        _end(show, mover.counts, task, "stopped", as_json=as_json)
        show.note(
            "interrupted: what was under way may be there twice now, as dead letter and as copy; "
            "none is lost. Run it again for the rest."
        )
        raise
    counts = mover.counts
    _end(show, counts, task, "ended" if counts.stayed else "done", as_json=as_json)
    for target, count in sorted(counts.targets.items()):
        show.note(f"to {target.shown}: {count}")
    if task.as_published and task.dry_run and forecast is not None:
        for (queue, _), count in sorted(forecast.queues.items()):
            show.note(f"of these into '{safe(queue)}': {count}")
    for sentence in described(mover):
        show.note(sentence)
    return Exit.FAILED if counts.stayed else Exit.DONE


def _end(show: Show, counts: Counts, task: Task, word: str, *, as_json: bool) -> None:
    """Say what became of them."""
    show.data(_summary(counts, task, word))
    done = "would_send" if task.dry_run else "sent"
    targets = [
        {
            "exchange": target.exchange,
            "routing_key": target.key,
            "count": count,
            "last_death": counts.last_death.get(target),
        }
        for target, count in sorted(counts.targets.items())
    ]
    data = {
        "before": counts.before,
        "looked_at": counts.looked_at,
        "fitting": counts.fitting,
        done: counts.fitting - counts.stayed if task.dry_run else counts.sent,
        "stayed": counts.stayed,
        "in_doubt": counts.in_doubt,
        "after": counts.after,
        "targets": targets,
    }
    _print(data, as_json=as_json)


def _summary(counts: Counts, task: Task, word: str) -> str:
    after = "?" if counts.after is None else counts.after
    done = "would_send" if task.dry_run else "sent"
    sent = counts.fitting - counts.stayed if task.dry_run else counts.sent
    return (
        f"{word}. before={counts.before}, looked_at={counts.looked_at}, fitting={counts.fitting}, "
        f"{done}={sent}, stayed={counts.stayed}, after={after}"
    )


def _may_read(opened: Any, connection: Connection, queue: str, *, yes: bool) -> bool:
    from rabbitproof.cli.held import look_at, may_hold

    info = look_at(opened, connection, queue)
    if info.type == "stream":
        raise UsageError(
            f"'{safe(queue)}' is a stream, from which nothing can be taken; "
            "use `rabbitproof audit replay` to send its messages again."
        )
    return may_hold(opened, connection, info, yes=yes)


def _filter(
    reason: str | None, from_queue: str | None, older_than: str | None, header: list[str] | None
) -> Filter:
    from rabbitproof.work.letters import Filter

    pairs = []
    for text in header or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--header {safe(text, 40)} is not K=V; write it like color=red.")
        pairs.append((key, value))
    return Filter(reason, from_queue, _seconds(older_than), tuple(pairs))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if found is None:
        raise UsageError(f"--older-than {safe(text, 40)} is no time; write it like 90s, 5m or 2h.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _print(data: dict[str, Any], *, as_json: bool) -> bool:
    if as_json:
        print(json.dumps(data), flush=True)
    return as_json


def _show(number: int, letter: Letter, *, as_json: bool) -> None:
    body = letter.delivery.body
    if _print(
        {
            "number": number,
            "message_id": letter.message_id,
            "reason": letter.last.reason,
            "died_in": letter.last.queue,
            "first_in": letter.first.queue,
            "time": letter.last.time,
            "since": letter.last.began,
            "deaths": letter.deaths,
            "retries": letter.retries,
            "properties": letter.properties,
            "body": body.decode("utf-8", "backslashreplace"),
        },
        as_json=as_json,
    ):
        return
    first, last = letter.first, letter.last
    when = f"at {_when(last.began)}"
    if last.count > 1:
        when = f"first at {_when(last.began)}, {last.count} times in all"
    key = safe(last.keys[0]) if last.keys else "?"
    print(
        f"#{number} {safe(last.reason) or 'unknown reason'} in {safe(last.queue) or '?'} {when} "
        f"(deaths={letter.deaths}, retries={letter.retries}, "
        f"first in {safe(first.queue) or '?'}, key={key})"
    )
    print(f"   msg_id={safe(letter.message_id, 60) or '?'} {len(body):,} bytes: {safe(body, 120)}")
    for key, value in letter.headers.items():
        if not key.startswith("x-"):
            print(f"   {safe(key, 60)}: {safe(str(value), 120)}")


def _when(seconds: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone()
    except (OverflowError, OSError, ValueError):
        return "?"
    return moment.isoformat(sep=" ", timespec="seconds") if seconds else "?"
