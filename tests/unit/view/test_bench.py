"""The four forms of a comparison. What their words are is tested in test_figures.py."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pages import Read
from rabbitproof.model import Client, Comparison, Measurement, Role, Row, Spread
from rabbitproof.text import safe
from rabbitproof.view import bench


def share(median: float) -> Spread:
    return Spread(median - 0.02, median, median + 0.01)


def row(
    client: str,
    role: Role,
    per_s: float,
    of_ceiling: float | None,
    of_java: float | None,
    topology: str = "classic",
) -> Row:
    return Row(
        topology=topology, role=role, client=client, rounds=6, messages=150_000,
        per_s=Spread(per_s * 0.96, per_s, per_s * 1.03),
        of_ceiling=None if of_ceiling is None else share(of_ceiling),
        of_java=None if of_java is None else share(of_java),
        cpu_us=Spread(1.9, 2.1, 2.4), peak_bytes=48_000_000,
    )  # fmt: skip


CLIENTS = (
    Client("ceiling", "", confirms=True, note="It replays bytes that were encoded beforehand."),
    Client("rabbitproof", "0.1.0", confirms=True),
    Client("java", "5.25.0", confirms=True, note="It has 20,000 messages unconfirmed at most."),
    Client("pika", "1.3.2", confirms=False, note="It would not notice a loss."),
)
ROWS = (
    row("ceiling", "publish", 40_700, None, 1.30),
    row("rabbitproof", "publish", 37_600, 0.92, 1.19),
    row("java", "publish", 31_500, 0.77, None),
    row("pika", "publish", 15_000, 0.37, 0.48),
    row("ceiling", "consume", 155_700, None, 1.26),
    row("rabbitproof", "consume", 153_000, 0.95, 1.20),
    row("java", "consume", 144_000, 0.79, None),
)
TAKEN = (
    Measurement("classic", "publish", "ceiling", 1, 150_000, 3.69, 0.05, 40_000_000),
    Measurement("classic", "publish", "rabbitproof", 1, 150_000, 3.99, 0.3, 48_000_000),
)
ENVIRONMENT = {
    "rabbitmq": "3.10.8", "erlang": "25.2.3", "python": "3.11.7", "count": 150_000,
    "machine": "2 × AMD EPYC, Linux 6.1", "odd": None,
}  # fmt: skip
WHOLE = Comparison(
    CLIENTS,
    ("The Node.js client is left out: there is no node here; install it and run this again.",),
    ROWS,
    TAKEN,
    ENVIRONMENT,
)
EMPTY = Comparison((), (), (), (), {})
WITHOUT_JAVA = replace(
    WHOLE, rows=tuple(replace(row, of_java=None) for row in ROWS if row.client != "java")
)
WITHOUT_CEILING = replace(
    WHOLE, rows=tuple(replace(row, of_ceiling=None) for row in ROWS if row.client != "ceiling")
)
ONLY_CEILING = replace(WHOLE, rows=tuple(row for row in ROWS if row.client == "ceiling"))
ALL = {
    "whole": WHOLE, "empty": EMPTY, "without_java": WITHOUT_JAVA,
    "without_ceiling": WITHOUT_CEILING, "only_ceiling": ONLY_CEILING,
}  # fmt: skip

EVIL = "<script>alert('x')</script>\x1b]0;pwned\x07\x1b[2J\n[bold]&amp;\u202e{{ 7*7 }}"


def hostile(text: str) -> Comparison:
    """Return a comparison in which every text comes from somebody else."""
    return Comparison(
        (Client(text, text, confirms=True, note=text),),
        (text,),
        (
            row(text, "publish", 100, 0.5, 0.5, topology=text),
            row("ceiling", "publish", 200, None, None, topology=text),
        ),
        (replace(TAKEN[0], topology=text, client=text),),
        {text: text, "rabbitmq": text, "started": text, "nested": {text: [text]}},
    )


def printed(comparison: Comparison, width: int = 80, *, color: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        no_color=not color,
        legacy_windows=False,
    )
    console.print(bench.table(comparison))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- table ------------------------------------------------------------------------------------


def test_the_table_at_80_columns() -> None:
    """Word for word, as it is seen."""
    shown = [line.rstrip() for line in printed(WHOLE).splitlines()]
    assert shown[:21] == [
        "rabbitproof publishes at 92% and consumes at 95% of the wire ceiling.",
        "It publishes at 119% and consumes at 120% of the rate of the official Java",
        "client.",
        "",
        "Publish, classic, 6 rounds of 150,000 messages",
        "               con-                               of    of     CPU  peak",
        "client         firms   msg/s       low–high  ceiling  Java  µs/msg    MB",
        "────────────────────────────────────────────────────────────────────────",
        "ceiling [1]    yes    40,700  39,072–41,921        –  130%     2.1    48",
        "› rabbitproof  yes    37,600  36,096–38,728      92%  119%     2.1    48",
        "java [2]       yes    31,500  30,240–32,445      77%     –     2.1    48",
        "pika [3]       no     15,000  14,400–15,450      37%   48%     2.1    48",
        "",
        "Consume, classic, 6 rounds of 150,000 messages",
        "                                              of    of     CPU  peak",
        "client           msg/s         low–high  ceiling  Java  µs/msg    MB",
        "────────────────────────────────────────────────────────────────────",
        "ceiling [1]    155,700  149,472–160,371        –  126%     2.1    48",
        "› rabbitproof  153,000  146,880–157,590      95%  120%     2.1    48",
        "java [2]       144,000  138,240–148,320      79%     –     2.1    48",
        "",
    ]
    rest = "\n".join(shown[20:])
    assert "\n[1] ceiling: It replays bytes that were encoded beforehand.\n" in rest
    assert "\n[3] pika: It would not notice a loss.\n" in rest
    assert "\nLeft out: The Node.js client is left out:" in rest
    assert "\nVersions: rabbitproof 0.1.0, java 5.25.0, pika 1.3.2\n" in rest
    assert "\nWhere: RabbitMQ 3.10.8; Erlang/OTP 25.2.3; " in rest


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ALL)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    """With names and numbers as long as they get, and no figure is cut."""
    long = row("pika-with-confirms", "publish", 1_234_567, 0.37, 1.48)
    shown = printed(replace(ALL[name], rows=(*ALL[name].rows, long)), width)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    assert "…" not in shown
    assert "1,185,184–1,271,604" in shown
    assert "1,234,567" in shown


def test_our_row_stands_out_with_and_without_bold() -> None:
    """A weight where there is one, a mark everywhere, and only on our row."""
    plain = printed(WHOLE)
    assert "\x1b" not in plain
    assert [line for line in plain.splitlines() if line.startswith("› ")] == [
        line for line in plain.splitlines() if "rabbitproof  " in line
    ]
    bold = [
        line for line in printed(WHOLE, color=True).splitlines() if re.match(r"\x1b\[1m\S+", line)
    ]
    assert sum("› rabbitproof" in line for line in bold) == 2
    assert not any(line.startswith("\x1b[1mpika") for line in bold)


def test_a_consumer_has_no_confirms() -> None:
    """The column is in the tables of publishers alone."""
    consumers = replace(WHOLE, rows=tuple(row for row in ROWS if row.role == "consume"))
    assert "firms" in printed(WHOLE)
    assert "firms" not in printed(consumers)


def test_a_client_that_missed_rounds_says_so() -> None:
    """Behind its name."""
    rows = (*ROWS[:3], replace(ROWS[3], rounds=5))
    assert "pika [3] (5 of 6 rounds)" in printed(replace(WHOLE, rows=rows), 120)


@pytest.mark.parametrize("name", ALL)
def test_every_table_can_be_shown(name: str) -> None:
    """Without Java, without a ceiling, without anything; never None, never NaN."""
    shown = printed(ALL[name])
    assert not re.search(r"\b(None|nan|NaN|inf)\b", shown)


def test_an_empty_comparison_is_one_sentence() -> None:
    """And nothing below it."""
    assert printed(EMPTY) == "Nothing was measured.\n"


def test_a_terminal_is_not_told_what_to_do() -> None:
    """By names, notes, reasons, or what calls itself an environment; nor is rich's markup read."""
    shown = printed(hostile(EVIL), 200)
    assert all(line.isprintable() for line in shown.splitlines())
    assert "[bold]" in shown
    assert r"\x1b" in shown


def test_no_text_is_markup() -> None:
    """A name in square brackets keeps them."""
    comparison = hostile("[red]x[/red]")
    assert "[red]x[/red] [1]" in printed(comparison, 120)
    assert "Publish, [red]x[/red], 6 rounds" in printed(comparison, 120)
    assert "Left out: [red]x[/red]" in printed(comparison, 120)


# --- JSON and CSV -----------------------------------------------------------------------------


def test_json_has_these_keys() -> None:
    """They are documented, so they stay."""
    out = json.loads(json.dumps(bench.as_json(WHOLE), allow_nan=False))
    assert list(out) == ["clients", "skipped", "rows", "measurements", "environment"]
    assert out["clients"][3] == {
        "name": "pika", "version": "1.3.2", "confirms": False,
        "note": "It would not notice a loss.",
    }  # fmt: skip
    assert out["rows"][2] == {
        "topology": "classic", "role": "publish", "client": "java", "rounds": 6,
        "messages": 150_000,
        "per_s": {"low": 31_500 * 0.96, "median": 31_500, "high": 31_500 * 1.03},
        "of_ceiling": {"low": 0.77 - 0.02, "median": 0.77, "high": 0.77 + 0.01}, "of_java": None,
        "cpu_us": {"low": 1.9, "median": 2.1, "high": 2.4}, "peak_bytes": 48_000_000,
    }  # fmt: skip
    assert out["measurements"][0] == {
        "topology": "classic", "role": "publish", "client": "ceiling", "round": 1,
        "messages": 150_000, "seconds": 3.69, "cpu_seconds": 0.05, "peak_bytes": 40_000_000,
    }  # fmt: skip
    assert out["skipped"] == list(WHOLE.skipped)
    assert out["environment"] == ENVIRONMENT


def test_the_keys_are_those_that_are_documented() -> None:
    """Each is named in the docstring."""
    out = bench.as_json(WHOLE)
    keys = {*out, *out["clients"][0], *out["rows"][0], *out["rows"][0]["per_s"]}
    keys |= set(out["measurements"][0])
    assert keys <= set(re.findall(r"``(\w+)``", bench.as_json.__doc__ or ""))


def test_csv_has_a_line_for_each_measurement() -> None:
    """Below the names of the columns."""
    assert bench.as_csv(WHOLE) == (
        "topology,role,client,round,messages,seconds,cpu_seconds,peak_bytes\n"
        "classic,publish,ceiling,1,150000,3.69,0.05,40000000\n"
        "classic,publish,rabbitproof,1,150000,3.99,0.3,48000000\n"
    )
    assert bench.as_csv(EMPTY).count("\n") == 1


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"])
def test_no_text_is_a_formula(first: str) -> None:
    """An apostrophe makes it a text."""
    taken = (replace(TAKEN[0], client=f"{first}cmd|' /C calc'!A0"),)
    cells = next(csv.DictReader(io.StringIO(bench.as_csv(replace(WHOLE, measurements=taken)))))
    assert cells["client"].startswith("'")
    assert cells["client"].endswith("cmd|' /C calc'!A0")


def test_a_negative_number_stays_a_number() -> None:
    """The apostrophe is for texts."""
    taken = (replace(TAKEN[0], cpu_seconds=-1.5),)
    assert ",-1.5," in bench.as_csv(replace(WHOLE, measurements=taken))


def test_a_hostile_name_is_one_cell_of_one_line() -> None:
    """Commas, quotes and line feeds included."""
    text = bench.as_csv(hostile('a,"b"\n\x1b[2J,c'))
    assert len(text.splitlines()) == 2
    assert next(csv.DictReader(io.StringIO(text)))["client"] == r'a,"b"\n\x1b[2J,c'


# --- page -------------------------------------------------------------------------------------


OUR_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3",
    "p", "small", "div", "figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td", "br",
    "sup", "a", "strong", "ol", "ul", "li", "dl", "dt", "dd", "svg", "g", "rect", "path", "text",
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_every_page_can_be_read(name: str) -> None:
    """Without Java, without a ceiling, without anything: closed elements, no None, no NaN."""
    read = Read(bench.page(ALL[name]))
    assert set(read.tags) <= OUR_TAGS
    assert not re.search(r"\b(None|nan|NaN|inf|Undefined)\b", read.words)
    assert ("How it was measured" in read.words) == (name != "empty")


def test_the_page_says_what_was_found() -> None:
    """In its title, in its headline, and in the sentence below."""
    text = bench.page(WHOLE)
    words = "rabbitproof publishes at 92% and consumes at 95% of the wire ceiling"
    assert f"<title>{words}</title>" in text
    assert f"<h1>{words}</h1>" in text
    read = Read(text).words
    assert "It publishes at 119% and consumes at 120% of the rate of the official Java" in read


def test_the_page_has_every_figure_of_the_table() -> None:
    """Each row is a row of a table, ours marked."""
    read = Read(bench.page(WHOLE)).words
    assert "rabbitproof 0.1.0 yes 37,600 36,096–38,728 92% 90–93% 119% 117–120% 2.1 48" in read
    assert "pika 3 1.3.2 no 15,000 14,400–15,450 37% 35–38% 48% 46–49% 2.1 48" in read
    assert "java 2 5.25.0 144,000 138,240–148,320 79% 77–80% – 2.1 48" in read
    assert bench.page(WHOLE).count('<tr class="ours">') == 2


def test_the_page_says_who_differs_who_is_missing_and_where_it_ran() -> None:
    """Notes are linked from the rows."""
    text = bench.page(WHOLE)
    read = Read(text).words
    assert "pika : It would not notice a loss." in read
    assert "Who did not take part The Node.js client is left out" in read
    assert "Machine 2 × AMD EPYC, Linux 6.1" in read
    assert "odd unknown" in read
    assert text.count('href="#note-3"') == 1
    assert text.count('id="note-3"') == 1


def test_sections_with_nothing_to_say_are_left_out() -> None:
    """An empty comparison is a headline."""
    text = bench.page(EMPTY)
    assert "<h1>Nothing was measured</h1>" in text
    assert "<h2>" not in text
    assert "The wire ceiling is" not in Read(bench.page(WITHOUT_CEILING)).words
    assert "The wire ceiling is" in Read(bench.page(WHOLE)).words


def test_the_page_claims_no_order_that_one_round_cannot_have() -> None:
    """With one round nothing changed from round to round."""
    once = replace(WHOLE, rows=tuple(replace(row, rounds=1) for row in ROWS))
    assert "the order changed" in Read(bench.page(WHOLE)).words
    assert "the order changed" not in Read(bench.page(once)).words


def test_each_job_has_a_chart_with_the_ceiling() -> None:
    """The ceiling is a line and no bar; without it there is no line."""
    text = bench.page(WHOLE)
    assert text.count("<svg") == 2
    assert ">ceiling 40,700</text>" in text
    assert ">rabbitproof  37,600</text>" in text
    assert ">ceiling  40,700</text>" not in text
    without = bench.page(WITHOUT_CEILING)
    assert without.count("<svg") == 2
    assert ">ceiling " not in without
    assert bench.page(ONLY_CEILING).count("<svg") == 0


def test_the_page_can_be_heard() -> None:
    """Charts have names, header cells say what they head, the part that scrolls takes the focus."""
    read = Read(bench.page(WHOLE))
    assert ("html", "lang", "en") in read.attributes
    charts = [value for tag, name, value in read.attributes if (tag, name) == ("svg", "aria-label")]
    assert charts[0] == (
        "Publish, classic, messages a second: "
        "ceiling 40,700, rabbitproof 37,600, java 31,500, pika 15,000."
    )
    assert read.tags.count("th") == sum(
        (tag, name) == ("th", "scope") for tag, name, _ in read.attributes
    )
    assert ("div", "tabindex", "0") in read.attributes
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_the_page_needs_nothing_but_itself() -> None:
    """No script, no address but its own notes, and a policy that forbids the rest."""
    text = bench.page(WHOLE)
    read = Read(text)
    addresses = [
        value for _, name, value in read.attributes if name in {"src", "href", "xlink:href", "data"}
    ]
    assert addresses
    assert all(address.startswith("#note-") for address in addresses)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in read.attributes
    assert "url(" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[\w./]+", text)) == {"http://www.w3.org/2000/svg"}


def checked(text: str, comparison: Comparison) -> None:
    """Assert that nothing of what came from outside has become markup or a control."""
    read = Read(text)
    assert set(read.tags) <= OUR_TAGS
    assert {name for _, name, _ in read.attributes if name.startswith("on")} == set()
    assert text == safe(text, len(text), newlines=True)
    # Elements come from rows, not from texts.
    assert read.tags.count("tr") == 2 + len(comparison.rows) - 1


def test_hostile_texts_are_only_text() -> None:
    """Each of them comes from somebody else: shown, not obeyed."""
    comparison = hostile(EVIL)
    text = bench.page(comparison)
    checked(text, comparison)
    assert "<script" not in text
    assert "&lt;script&gt;alert" in text
    assert "{{ 7*7 }}" in text
    assert r"\x1b]0;pwned\x07" in text


@settings(max_examples=40)
@given(st.text(max_size=60) | st.text("<>&\"'/=`-!{}%# \x00\x1b\ud800onsvgtitle", max_size=60))
def test_no_text_at_all_becomes_markup(text: str) -> None:
    """On the page, in the terminal, in the CSV."""
    comparison = hostile(text)
    checked(bench.page(comparison), comparison)
    shown = printed(comparison)
    assert shown == safe(shown, len(shown), newlines=True)
    assert len(bench.as_csv(comparison).splitlines()) == 2


# --- cost -------------------------------------------------------------------------------------


def test_importing_it_imports_no_library() -> None:
    """They are imported when something is shown."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, rabbitproof.view.bench\n"
            "print(sorted({'rich', 'jinja2', 'pygal', 'markupsafe'} & set(sys.modules)))",
        ],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "[]\n"
