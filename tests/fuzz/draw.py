"""Scripts of worlds, drawn from a seed: nearly all of them end in a drain, as real runs do."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.world import HostSetup, QueueSetup, Script, Setup, Step

MISHAPS = (
    "vanish", "vanish", "unbound", "unbound", "unbound", "double", "swap", "damage", "limit",
    "limit", "limit", "letters", "purge", "away", "foreign", "foreign", "foreign", "replay", "take",
    "hold", "clock", "sleep", "reboot", "crash_p", "crash_p", "crash_c", "resume", "fork", "again",
    "twice", "lose", "lose", "lose", "wait", "hand", "hand", "late", "stale", "stale", "answer",
    "answer", "reread", "reread", "as many", "refused", "refused", "unheard", "sleep", "clock",
)  # fmt: skip
SPOILS = ("early", *("early", "both") * 3, "damage", *("zeros",) * 2, "remove")
"""What is done to a file; with a cut for those of a wild world."""
LIMITS = {
    "classic": ("x-message-ttl", "x-max-length"),
    "quorum": ("x-message-ttl", "x-max-length", "x-delivery-limit"),
    "stream": ("x-max-age",),
}


def script(seed: int) -> Script:
    """Return the world of a seed."""
    random = Random(seed)
    mood = random.choices(("calm", "lossy", "odd", "wild"), (18, 10, 44, 28))[0]
    setup = _setup(random, mood)
    steps = _steps(random, setup, mood)
    return Script(seed, setup, tuple(steps), tuple(_spoils(random, setup, mood)))


def _setup(random: Random, mood: str) -> Setup:
    calm = mood in ("calm", "lossy")

    def host() -> HostSetup:
        skew = random.uniform(-0.8, 0.8)
        if not calm and random.random() < 0.2:
            skew = random.choice((-1, 1)) * random.choice((3.0, 60.0, 3_600.0))
        return HostSetup(random.random() < 0.8, skew)

    def queue(role: int) -> QueueSetup:
        kind = random.choices(("classic", "quorum", "stream"), (60, 22, 18))[0]
        told = random.choices(("api", "declared", "silent"), (60, 25, 15))[0]
        limited = random.random() < (0.05 if calm else 0.55 if kind == "stream" else 0.25)
        return QueueSetup(
            kind,
            told,
            limit=random.choice(LIMITS[kind]) if limited else "",
            limit_told=_limit_told(random, told) if limited else "",
            before=random.randint(1, 6) if random.random() < 0.25 else 0,
            before_told=random.random() < 0.8,
        )

    hosts = tuple(host() for _ in range(random.choice((1, 1, 2, 3))))
    queues = tuple(queue(i) for i in range(random.choices((1, 2), (55, 45))[0]))
    consumers = []
    for q in range(len(queues)):
        most = random.choices((0, 1, 2, 3), (12, 50, 26, 12) if q == 0 else (45, 45, 10, 0))[0]
        for _ in range(most):
            answer = random.choices(
                ("ack", "reject", "requeue", "none", "hand"), (58, 12, 15, 3, 12)
            )[0]
            offset = random.choice(("first", "first", "first", "next"))
            consumers.append((q, random.randrange(len(hosts)), "ack" if calm else answer, offset))
    return Setup(
        history=random.random() < 0.5,
        hosts=hosts,
        queues=queues,
        producers=tuple(
            random.randrange(len(hosts)) for _ in range(random.choices((1, 2, 3), (60, 33, 7))[0])
        ),
        confirms=random.random() < 0.95,
        consumers=tuple(consumers),
        run_told=random.random() < 0.6,
        permits=random.choice(((), (), (), ("expired",), ("rejected", "purged"))),
        faults=("broker-kill",) if random.random() < 0.1 else (),
    )


def _limit_told(random: Random, told: str) -> str:
    if random.random() < 0.15 or told == "silent":
        return ""
    return "argument" if told == "declared" else random.choice(("argument", "policy"))


def _fates(random: Random, mood: str, count: int) -> str:
    if mood == "calm":
        return "c" * count
    if mood == "lossy":
        return "".join(random.choices("cl", (30, 1), k=count))
    return "".join(random.choices("cnNrdDl", (40, 1, 1, 2, 3, 2, 0.5), k=count))


def _steps(random: Random, setup: Setup, mood: str) -> list[Step]:
    senders, readers = len(setup.producers), len(setup.consumers)
    body: list[Step] = []
    names = [*(f"p{p}" for p in range(senders)), *(f"c{c}" for c in range(readers))]
    meanwhile = random.random() < 0.5
    late = random.randrange(senders) if mood in ("odd", "wild") and random.random() < 0.15 else None
    for _ in range(random.randint(2, 6)):
        p = random.randrange(senders)
        body.append(("publish", p, _fates(random, mood, random.randint(1, 9))))
        if mood in ("odd", "wild") and random.random() < 0.15:
            body.append(("again", p, _fates(random, mood, 5)))
        if meanwhile and readers and random.random() < 0.7:
            c = random.randrange(readers)
            body.append(("deliver", c, random.randint(1, 6)))
            if random.random() < 0.7:
                body.append(("ack", c))
    ends: list[Step] = []
    for p in range(senders):
        if p != late:
            if mood in ("odd", "wild"):
                ends += [("again", p, "c")] if random.random() < 0.6 else []
                ends += [("resume", f"p{p}", "c")]
            ends.append(("end", f"p{p}", False))
    if setup.faults:
        body.append(("break", setup.faults[0], random.random() < 0.8))
    drains: list[Step] = [("wait", random.choice((0.5, 3.0, 10.0)))]
    order = random.sample(range(readers), readers)
    drains += [("drain", c, random.randint(1, 7)) for c in order]
    if mood != "calm" and mood != "lossy":
        drains += [("drain", c, 5) for c in order]
    drains.append(("wait", random.choice((0.5, 5.0, 5.0))))
    second = random.random() < 0.7
    for c in order:
        q = setup.consumers[c][0]
        asks = second and (setup.queues[q].kind != "classic" or setup.queues[q].told != "api")
        drains.append(("end", f"c{c}", asks))
        if random.random() < 0.8:
            drains.append(("wait", 5.0))
    if late is not None:
        drains += [("publish", late, _fates(random, mood, 4)), ("end", f"p{late}", False)]
    steps = body + ends + drains
    _meddle(random, setup, mood, steps, len(body))
    for name in names if mood in ("odd", "wild") else []:
        steps.insert(random.randint(2, len(steps)), ("copy", name))
    for q, queue in enumerate(setup.queues):
        if queue.limit and mood in ("odd", "wild"):
            steps.insert(random.randint(2, len(steps)), ("limit", q, random.randint(1, 3)))
            if random.random() < 0.5:  # somebody reads them, and more come after that
                steps[2:2] = [("limit", q, 1), ("dead_letters", q)]
            if random.random() < 0.45:
                steps.append(("dead_letters", q))
    # The count is taken by who carries it out, once all are gone.
    last: list[Step] = []
    if late is not None and random.random() < 0.5:  # what was late is there, and nobody says so
        for q in range(len(setup.queues)):
            last += [("away", q), ("count", q, "declare", 0), ("count", q, "api", 1)]
        return [*steps, *last, ("over",)]
    for q in range(len(setup.queues)):
        last.append(("count", q, "declare", 0))
    if random.random() < 0.7:
        last.append(("wait", random.choice((1.0, 7.0, 7.0))))
        last += [("count", q, "api", 0) for q in range(len(setup.queues))]
    if random.random() < 0.97:
        last.append(("over",))
    return steps + last


def _meddle(random: Random, setup: Setup, mood: str, steps: list[Step], sent: int) -> None:
    """Put mishaps among the steps."""
    if mood == "calm":
        return
    if mood == "lossy":
        for _ in range(random.choice((0, 1, 1, 2))):
            at = random.randint(1, max(1, sent))
            steps.insert(at, ("vanish", random.randrange(2), random.randrange(99), 1))
        unread = set(range(len(setup.queues))) - {one[0] for one in setup.consumers}
        if unread and random.random() < 0.5:  # more than there are messages, and one is lost
            q = random.choice(sorted(unread))
            before = setup.queues[q].before
            if before:  # as many are lost as were there before
                steps.insert(sent, ("vanish", q, before, before))
            else:
                steps[1:1] = [("vanish", q, 0, 1), *[("foreign", q, 0)] * 3]
        return
    kinds = [random.choice(MISHAPS) for _ in range(random.choice((2, 3, 5, 8, 12)))]
    if mood == "wild":
        kinds += [random.choice(("crash_p", "crash_c", "crash_c")), "take", "vanish"]
    for kind in kinds:
        early = random.random() < 0.7
        at = random.randint(1, max(1, sent)) if early else random.randint(1, len(steps))
        steps[at:at] = _mishap(random, setup, kind)


def _mishap(random: Random, setup: Setup, kind: str) -> list[Step]:
    q, r = random.randrange(len(setup.queues)), random.randrange(999)
    limited = [i for i, one in enumerate(setup.queues) if one.limit]
    if kind in ("limit", "letters") and limited:
        q = random.choice(limited)
    p, c = random.randrange(len(setup.producers)), random.randrange(max(1, len(setup.consumers)))
    h, few = random.randrange(len(setup.hosts)), random.randint(1, 4)
    refusers = [i for i, one in enumerate(setup.consumers) if one[2] in ("reject", "hand")]
    if kind in ("refused", "unheard") and refusers:
        c = random.choice(refusers)
    first = [i for i in range(len(setup.consumers))
             if setup.queues[setup.consumers[i][0]].kind == "stream"]  # fmt: skip
    if kind == "reread" and first:
        c = random.choice(first)
    mates = [i for i, one in enumerate(setup.consumers) if one[0] == setup.consumers[c][0]
             and i != c] if setup.consumers else []  # fmt: skip
    mate = random.choice(mates or [c])
    full = [i for i, one in enumerate(setup.queues) if one.before]
    if kind == "as many" and full:
        q = random.choice(full)
    seconds = random.choice((-1, 1)) * random.choice((3.0, 60.0, 3_600.0))
    fates = _fates(random, "odd", 5)
    made: dict[str, list[Step]] = {
        "vanish": [("vanish", q, r, random.choice((1, 1, 1, 3)))],
        "unbound": [("publish", p, "u" * few)],
        "double": [("double", q, r)],
        "swap": [("swap", q, r)],
        "damage": [("damage", q, r)],
        "limit": [("limit", q, few), ("dead_letters", q)][: random.choice((1, 2, 2))],
        "letters": [("dead_letters", q)],
        "reread": [("deliver", c, few), ("lose", c, False), ("deliver", c, few),
                   ("end", f"c{c}", True)],
        "as many": [("vanish", q, 5 + r % 9, setup.queues[q].before)],
        "refused": [("deliver", mate, few), ("lose", mate, False), ("deliver", c, few),
                    ("ack", c), ("hand", c, "reject", few)],
        "unheard": [("deliver", c, few), ("lose", c, True), ("end", f"c{c}", False)],
        "answer": [("deliver", c, few), ("ack", c)],
        "purge": [("purge", q, r)],
        "away": [("away", q)],
        "foreign": [("foreign", q, r) for _ in range(random.choice((1, 1, 2)))],
        "replay": [("replay", q, r)],
        "take": [("take", q, few)],
        "hold": [("hold", q, few), *([("wait", 1.0), ("release", q)] if r % 2 else [])],
        "clock": [("clock", h, seconds if r % 2 else 0.0)],
        "sleep": [("sleep", h, random.choice((30.0, 3_600.0)))],
        "reboot": [("reboot", h), *([("clock", h, seconds)] if r % 3 == 0 else [])],
        "crash_p": [("crash", f"p{p}", r if r % 3 == 0 else 0),
                    *([("wait", 3.0), ("resume", f"p{p}", fates)] if r % 2 else [])],
        "crash_c": [("start", c), ("deliver", c, few), *([("ack", c)] if r % 2 else []),
                    ("crash", f"c{c}", r if r % 3 == 0 else 0)],
        "resume": [("crash", f"p{p}", 0), ("resume", f"p{p}", fates)],
        "fork": [("publish", p, "rc"),
                 ("fork", f"p{p}", h, random.choice(("DcDcc", fates))),
                 ("publish", f"p{p}-twin", fates[:few]),
                 ("publish", p, _fates(random, "odd", few)),
                 *([("end", f"p{p}-twin", False)] if r % 3 else [])],
        "again": [("again", p, fates)],
        "twice": [("twice", p, few)],
        "lose": [("deliver", c, few), ("lose", c, r % 2 == 0)],
        "wait": [("wait", random.choice((3.0, 8.0)))],
        "hand": [("deliver", c, few), ("hand", c, random.choice(("ack", "reject", "back")), few)],
        "late": [("publish", p, "c" * few)],
        "stale": [("count", q, "api", 1), ("away", q)],
    }  # fmt: skip
    return made[kind]


def _spoils(random: Random, setup: Setup, mood: str) -> list[Step]:
    if mood in ("calm", "lossy") or (mood == "odd" and random.random() < 0.55):
        return []
    names = [f"p{p}" for p in range(len(setup.producers))]
    names += [f"c{c}" for c in range(len(setup.consumers))]
    made: list[Any] = []
    if mood == "wild":
        made.append(("cut", random.choice(names), random.randrange(1_000)))
    for _ in range(random.choice((0, 1, 1, 2)) if mood == "wild" else 1):
        name = random.choice(
            [*names, *names, *(["history"] * 3 if setup.history else []), "p0-twin"]
        )
        kinds = ("cut", "damage", "remove") if name == "history" else SPOILS
        made.append((random.choice(kinds), name, random.randrange(1_000)))
    return made
