from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pages import Read
from rabbitproof.model import (
    Books,
    Decision,
    FaultRecord,
    QueueVerdict,
    Series,
    TrialResult,
    Verdict,
)
from rabbitproof.text import safe
from rabbitproof.view import report


def queue(name: str, **changed: Any) -> QueueVerdict:
    given: dict[str, Any] = {
        "name": name, "judged_by": "ledger", "received": 10_000, "unique": 10_000, "lost": 0,
        "lost_ids": (), "undecided": 0, "recovered": 0, "duplicates_redelivered": 0,
        "duplicates_resent": 0, "duplicates_unflagged": 0, "corrupt": 0, "foreign": 0,
        "reordered": 0, "order_unchecked": None, "left_in_queue": 0,
        "books": Books(wanted=10_000, seen=10_000),
    }  # fmt: skip
    return QueueVerdict(**given | changed)


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"0a1b2c3d-4e5f-8001-8000-{n:012x}" for n in range(1, count + 1))


SUMMARY = {
    "count": 9_500, "p50": 12.3, "p90": 31.0, "p99": 57.1, "p99_9": 80.5, "p99_99": 121.0,
    "max": 140.9, "negative": 0, "warm_up_left_out": 500,
}  # fmt: skip
PASSED = TrialResult(
    verdict=Verdict(
        Decision.PASS, (), 10_000, 10_000, 0, 0, 0,
        {"work.queue": queue("work.queue"), "audit.queue": queue("audit.queue")},
    ),
    scenario="offline",
    run="0a1b2c3d4e5f",
    publish_per_s=24_183,
    consume_per_s=58_117,
    claims=(("work.queue was empty at the end.", True),),
    environment={
        "rabbitmq": "3.10.8", "erlang": "25", "python": "3.11.7",
        "topology": {"exchange": "direct.exchange", "queues": {"work.queue": {"type": "quorum"}}},
    },
    latency={"confirm": SUMMARY, "end_to_end": None},
    title="The consumer is offline",
    teaches="Both need not run at the same time.",
    started="2026-11-25T02:31:00+00:00",
    command="rabbitproof prove offline --count 10000",
    series=(
        Series("confirmed", "msg/s", ((0.0, 20_000.0), (0.5, 24_000.0), (1.0, 0.0))),
        Series("work.queue ready", "messages", ((0.0, 0.0), (0.5, 10_000.0), (1.0, 0.0))),
    ),
)  # fmt: skip
FAILED = replace(
    PASSED,
    verdict=replace(
        PASSED.verdict,
        decision=Decision.FAIL,
        reasons=("1,500 confirmed messages are lost in work.queue.",),
        in_doubt=7,
        attempted=10_007,
        queues={
            "work.queue": queue(
                "rp-0a1b-work.queue", unique=8_195, recovered=2, lost=1_500, lost_ids=ids(1_000),
                lost_head=1, lost_middle=1_400, lost_tail=99, left_in_queue=4,
                dropped={"expired": 300, "odd": 2}, reordered=None, dead_lettered=7,
                books=Books(10_000, 8_193, 1, 302, 4, 1_500, 0, -1),
                order_unchecked="several consumers shared the queue",
            ),
            "audit.queue": queue("audit.queue", corrupt=1),
        },
    ),
    claims=(("work.queue still held 4 messages at the end.", False),),
    faults=(
        FaultRecord("broker-kill", 0.25, True, "Process 4711 ended by signal 9.", 0.5, 1_980),
        FaultRecord("consumer-kill", 9.0, False, "The run was over before it was due."),
    ),
)  # fmt: skip
UNKNOWN = replace(
    PASSED,
    verdict=replace(
        PASSED.verdict,
        decision=Decision.UNKNOWN,
        reasons=("3 confirmed messages were not seen in work.queue.",),
        queues={
            "work.queue": queue(
                "work.queue",
                unique=9_997,
                undecided=3,
                left_in_queue=None,
                books=Books(10_000, 9_997, undecided=3),
            ),
            "audit.queue": queue(
                "audit.queue",
                judged_by="count",
                unique=0,
                left_in_queue=10_000,
                books=Books(10_000, left=10_000),
            ),
        },
    ),
)
EMPTY = TrialResult(
    Verdict(Decision.UNKNOWN, ("Nothing was confirmed.",), 0, 0, 0, 0, 0, {}),
    "x", "y", 0, 0, (), {},
)  # fmt: skip
BLIND = replace(PASSED, series=(), latency={}, curves={})
ALL = {"passed": PASSED, "failed": FAILED, "unknown": UNKNOWN, "empty": EMPTY, "blind": BLIND}

OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section",
    "h1", "h2", "h3", "p", "small", "div", "figure", "figcaption", "table", "caption", "thead",
    "tbody", "tr", "th", "td", "i", "b", "a", "span", "strong", "code", "pre", "ul", "li", "dl",
    "dt", "dd", "svg", "g", "rect", "path", "text",
}  # fmt: skip


def row(text: str, name: str) -> str:
    """Return a row of a table of the page, its cells joined."""
    (found,) = (
        cells
        for cells in re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.DOTALL)
        if f"</i>{name}</th>" in cells
    )
    return " ".join(re.findall(r"<td>(.*?)</td>", found))


@pytest.mark.parametrize("name", ALL)
def test_every_page_can_be_read(name: str) -> None:
    """Closed elements, no None, no NaN, and a verdict in words."""
    read = Read(report.page(ALL[name]))
    assert set(read.tags) <= OUR_TAGS
    assert not re.search(r"\b(None|nan|NaN|inf|Undefined|True|False)\b", read.words)
    assert read.words.index(str(ALL[name].verdict.decision)) < 30


@pytest.mark.parametrize("result", [PASSED, FAILED, UNKNOWN])
def test_the_verdict_comes_first_as_a_colour_and_as_a_word(result: TrialResult) -> None:
    """Both, for those who see no colours."""
    decision = result.verdict.decision
    text = report.page(result)
    body = text[text.index("<body>") :]
    assert f'<header class="{decision}">\n<p class="verdict">{decision}</p>' in body
    assert f"<title>{decision}: The consumer is offline</title>" in text
    for reason in result.verdict.reasons:
        assert f"<h1>{reason}</h1>" in body


def test_all_reasons_are_said_once() -> None:
    """The first one large, unless it is too long for that."""
    many = replace(FAILED, verdict=replace(FAILED.verdict, reasons=("First.", "Second.")))
    text = report.page(many)
    assert "<h1>First.</h1>" in text
    assert "<li>Second.</li>" in text
    assert text.count("First.") == 1
    long = "word " * 60
    many = replace(FAILED, verdict=replace(FAILED.verdict, reasons=(long, "Second.")))
    text = report.page(many)
    assert f"<li>{long}</li>" in text
    assert f"<h1>{long}" not in text


def test_the_page_says_what_was_done() -> None:
    """In plain words, with what was claimed."""
    read = Read(report.page(FAILED)).words
    assert "Both need not run at the same time." in read
    assert "10,007 messages were sent, meant for each of 2 queues." in read
    assert "RabbitMQ confirmed 10,000 of them and left 7 without an answer." in read
    assert "broken on purpose: broker-kill. 1 more was to be broken and held." in read
    assert "broken work.queue still held 4 messages at the end." in read
    assert "RabbitMQ confirmed all of them." in Read(report.page(PASSED)).words


def test_the_books_have_every_part() -> None:
    """Seen, left, dropped, damaged, lost; and what is too many."""
    text = report.page(FAILED)
    assert row(text, "confirmed") == "10,000 10,000"
    assert row(text, "seen by a consumer") == "8,193 10,000"
    assert row(text, "still in the queue") == "4 0"
    assert row(text, "dropped for a known reason") == "302 0"
    assert row(text, "came, and only damaged") == "1 0"
    assert row(text, "lost") == "1,500 0"
    assert row(text, "copies too many for that") == "1 0"
    read = Read(text).words
    assert "work.queue rp-0a1b-work.queue audit.queue" in read
    assert "In work.queue the order was not checked: several consumers shared the queue." in read
    assert (
        "Of the lost in work.queue, 1 is from before the first that was seen, 1,400 are from "
        "between others that were seen and 99 are from behind the last that was seen."
    ) in read


def test_copies_are_counted_below_the_books() -> None:
    """What came, what went and why; a line that says nothing is left out where that is usual."""
    text = report.page(FAILED)
    assert row(text, "damaged") == "0 1"
    assert row(text, "came behind a later one") == "– 0"
    assert row(text, "dropped: expired") == "300 0"
    assert row(text, "dropped: odd") == "2 0"
    assert row(text, "of these: found in a dead-letter queue") == "7 0"
    assert "dropped: " not in report.page(PASSED)


def test_what_is_not_known_is_not_zero() -> None:
    """A count that the broker did not give, and messages that are neither seen nor lost."""
    text = report.page(UNKNOWN)
    assert row(text, "left at the end, by the broker’s count") == "? 10,000"
    assert row(text, "nobody can tell") == "3 0"
    assert "audit.queue was judged by the broker’s count alone" in Read(text).words


def test_without_confirms_the_books_begin_with_what_was_sent() -> None:
    """Nothing was confirmed, and that is no finding."""
    sent = replace(PASSED, verdict=replace(PASSED.verdict, confirmed=0, in_doubt=10_000))
    text = report.page(sent)
    assert row(text, "had to be here") == "10,000 10,000"
    assert "Nothing was to be confirmed, so nobody was told what arrived." in Read(text).words
    assert "confirmed 0" not in text


def test_lost_copies_of_a_message_are_not_added_up() -> None:
    """Each queue has its own figure; a sum would say more than were sent."""
    both = {name: queue(name, lost=6_000) for name in ("work.queue", "audit.queue")}
    told = Read(report.page(replace(FAILED, verdict=replace(FAILED.verdict, queues=both)))).words
    assert "lost in work.queue 6,000 lost in audit.queue 6,000" in told
    assert "12,000" not in told
    many = {f"q{n}": queue(f"q{n}", lost=n) for n in range(1, 10)}
    told = Read(report.page(replace(FAILED, verdict=replace(FAILED.verdict, queues=many)))).words
    assert "lost in q3 3 more queues that lost some 6" in told


def test_a_loss_that_can_only_be_counted_is_no_list() -> None:
    """When some went for a known reason and nobody knows which."""
    work = queue("work.queue", lost=3, lost_among=10, books=Books(10_000, 9_990, dropped=7, lost=3))
    few = replace(FAILED, verdict=replace(FAILED.verdict, queues={"work.queue": work}))
    read = Read(report.page(few)).words
    assert "The lost in work.queue are among 10 that were not seen" in read
    assert "It is known how many are lost, and not which." in read


def test_a_note_decides_nothing_and_is_said() -> None:
    """Below the reasons."""
    noted = replace(PASSED, verdict=replace(PASSED.verdict, notes=("The clock was set.",)))
    assert "The clock was set." in Read(report.page(noted)).words


def test_the_first_lost_are_named_and_the_file_with_all() -> None:
    """Ten of them; the file's name is a link whatever is in it."""
    text = report.page(FAILED, {"work.queue": "lost-work queue%.txt"})
    read = Read(text).words
    assert all(one in read for one in ids(10))
    assert ids(11)[-1] not in read
    assert "… and 1,490 more. All of them are in lost-work queue%.txt" in read
    assert '<a href="lost-work%20queue%25.txt">' in text
    assert "What was lost" not in Read(report.page(PASSED)).words


def test_charts_show_what_was_broken() -> None:
    """One for each unit, for wide and for narrow screens, and a table below."""
    text = report.page(FAILED)
    assert text.count("<svg") == 2 * 2 + 1
    assert text.count('<g class="band">') == text.count('<g class="mark">') == 2 * 2
    read = Read(text)
    assert (
        "1 broker-kill 0.25 s 0.25 s 1,980 yes Process 4711 ended by signal 9. "
        "2 consumer-kill – – ? no The run was over before it was due."
    ) in read.words
    names = [v for tag, name, v in read.attributes if (tag, name) == ("svg", "aria-label")]
    assert names[0] == "Messages a second, over 1 seconds: confirmed up to 24,000."
    assert names[-1].startswith("To the confirm, milliseconds: p50 12.3, p90 31,")


def test_a_curve_is_preferred_to_five_percentiles() -> None:
    """It has the same table below it."""
    curve = {"confirm": tuple((float(p), 1.0 + p) for p in range(100))}
    few = re.findall(r'<g class="line c0"><path d="([^"]*)"', report.page(PASSED))[-1]
    many = re.findall(
        r'<g class="line c0"><path d="([^"]*)"', report.page(replace(PASSED, curves=curve))
    )[-1]
    assert len(few.split()) == 2 * 5
    assert len(many.split()) == 2 * 100


def test_sections_with_nothing_to_say_are_left_out() -> None:
    """No empty picture, no empty table."""
    read = Read(report.page(BLIND)).words
    assert "How it went" not in read
    assert "How long messages took" not in read
    assert "The books" not in Read(report.page(EMPTY)).words
    assert "What this does not say kill -9" in read


def test_what_was_not_tested_is_the_trials_word() -> None:
    """Where it has one."""
    told = replace(PASSED, not_tested=("It ran for 3 seconds.",))
    assert "What this does not say It ran for 3 seconds." in Read(report.page(told)).words


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (replace(FAILED, safe=False), "This was expected:"),
        (replace(PASSED, safe=False), "This was not expected:"),
    ],
)
def test_a_scenario_that_loses_by_design_says_so(result: TrialResult, words: str) -> None:
    """Whether it did or not."""
    assert words in Read(report.page(result)).words
    assert words not in Read(report.page(replace(result, safe=True))).words


def test_a_password_does_not_get_into_the_page() -> None:
    """Should one slip into the command or the environment."""
    url = "amqps://bob:s3cret@host:5671/v"
    told = replace(PASSED, command=f"rabbitproof prove --url {url}", environment={"broker": url})
    text = report.page(told)
    assert "s3cret" not in text
    assert text.count("amqps://bob:***@host:5671/v") == 2


def test_the_page_can_be_heard() -> None:
    """Charts have names, header cells say what they head, what scrolls takes the focus."""
    read = Read(report.page(FAILED))
    assert ("html", "lang", "en") in read.attributes
    assert read.tags.count("th") == sum(
        (tag, name) == ("th", "scope") for tag, name, _ in read.attributes
    )
    svgs = [name for tag, name, _ in read.attributes if tag == "svg"]
    assert svgs.count("role") == svgs.count("aria-label") == read.tags.count("svg")
    regions = [value for _, name, value in read.attributes if (name, value) == ("role", "region")]
    assert sum(name == "tabindex" for _, name, _ in read.attributes) == len(regions)
    assert read.tags.count("h1") == 1


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, no address but the file beside it, and a policy that forbids the rest."""
    text = report.page(FAILED, {"work.queue": "lost-work.queue.txt"})
    read = Read(text)
    addresses = [v for _, name, v in read.attributes if name in {"src", "href", "data"}]
    assert addresses == ["lost-work.queue.txt"]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in read.attributes
    assert "url(" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}
    assert report.GENERATOR in text[:1000]


# --- untrusted --------------------------------------------------------------------------------

EVIL = "<script>alert('x')</script>\x1b]0;pwned\x07\x1b[2J\n[bold]&amp;\u202e{{ 7*7 }}"


def hostile(text: str) -> TrialResult:
    """Return a result in which every text comes from somebody else."""
    return TrialResult(
        verdict=Verdict(
            Decision.FAIL, (text,), 2, 2, 0, 0, 0,
            {
                text: queue(text, lost=2, lost_ids=(text, text), dropped={text: 1}),
                "other": queue(text, order_unchecked=text, reordered=None),
            },
        ),
        scenario=text, run=text, publish_per_s=1, consume_per_s=1, claims=((text, False),),
        environment={text: text, "topology": {text: text, "queues": {text: {text: text}}}},
        latency={"confirm": SUMMARY, text: SUMMARY}, title=text, teaches=text, started=text,
        command=text, faults=(FaultRecord(text, 0.5, True, text),),
        series=(Series(text, text, ((0.0, 1.0), (1.0, 2.0))),),
        curves={text: ((50.0, 1.0), (99.0, 2.0))}, not_tested=(text,),
    )  # fmt: skip


def checked(text: str) -> None:
    """Assert that nothing of what came from outside has become markup or a control."""
    read = Read(text)
    assert set(read.tags) <= OUR_TAGS
    assert {name for _, name, _ in read.attributes if name.startswith("on")} == set()
    assert text == safe(text, len(text), newlines=True)
    assert [value for _, name, value in read.attributes if name == "href"] in ([], ["x"])
    assert read.tags.count("section") == 8


def test_hostile_texts_are_only_text() -> None:
    """Shown, not obeyed."""
    text = report.page(hostile(EVIL))
    checked(text)
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text
    assert "{{ 7*7 }}" in text
    assert r"\x1b]0;pwned\x07" in text


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60) | st.text("<>&\"'/=`-!{}%# \x00\x1b\ud800onsvgtitle", max_size=60))
def test_no_text_at_all_becomes_markup(text: str) -> None:
    """In no place of the page."""
    checked(report.page(hostile(text)))


# --- size -------------------------------------------------------------------------------------


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_the_page_stays_small(data: st.DataObject) -> None:
    """A million lost, long series, many queues, faults, reasons and long names: below 500 kB."""
    long = "<&'\u202e" * 400
    count = data.draw(st.integers(1, 20_000))
    unit = data.draw(st.sampled_from(["messages", long]))
    points = tuple((float(i), float(i * i * 7919 % 100_003)) for i in range(count))
    queues = {
        f"{long}{i}": queue(long, lost=1_000_000, lost_ids=(long,) * 1_000, dropped={long: 1})
        for i in range(data.draw(st.integers(0, 60)))
    }
    result = replace(
        FAILED,
        verdict=replace(FAILED.verdict, reasons=(long,) * 500, queues=queues),
        series=tuple(Series(long, unit, points) for _ in range(data.draw(st.integers(0, 40)))),
        faults=(FaultRecord(long, 3.0, True, long, 9.0, 5),) * data.draw(st.integers(0, 300)),
        claims=((long, False),) * 50,
        curves={kind: tuple((i / 200, 1.0 + i) for i in range(20_000)) for kind in (long, "b")},
        environment=dict.fromkeys((f"{long}{i}" for i in range(40)), long),
        teaches=long, command=long, title=long, not_tested=(long,) * 20,
    )  # fmt: skip
    assert len(report.page(result).encode()) < 500_000


def test_importing_it_imports_no_library() -> None:
    """They are imported when something is shown."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, rabbitproof.view.report\n"
            "print(sorted({'rich', 'jinja2', 'pygal', 'markupsafe'} & set(sys.modules)))",
        ],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "[]\n"
