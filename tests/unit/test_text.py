import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.text import DEFAULT_LIMIT, safe

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ANYTHING = st.text(st.characters(codec=None, categories=None)) | st.text(
    st.sampled_from("\x00\x07\n\r\t\x1b\x7f\x9b\xad\u200b\u2028\u2029\ufeff\ud800\udfff…a\\" + BIDI)
)


def is_dangerous(character: str) -> bool:
    """Judge by the Unicode database, not by the table under test."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


SHOWN_FORMATS = {
    # Prepended marks are visible signs that enclose digits; the others format hieroglyphs,
    # shorthand and music in scripts of their own. None of them hides or reorders text.
    *range(0x0600, 0x0606), 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD,
    *range(0x13430, 0x13456), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B),
}  # fmt: skip


@given(ANYTHING | st.binary(), st.integers(1, 400))
def test_nothing_dangerous_survives(value: str | bytes, limit: int) -> None:
    shown = safe(value, limit)
    assert not [c for c in shown if is_dangerous(c) and ord(c) not in SHOWN_FORMATS]
    shown.encode("utf-8")


def test_every_dangerous_character_of_unicode_is_escaped() -> None:
    everything = [chr(code) for code in range(0x110000) if code not in SHOWN_FORMATS]
    assert [c for c in everything if is_dangerous(c) and safe(c, 20) == c] == []


@given(ANYTHING | st.binary(), st.integers(-1, 50))
def test_the_result_is_never_longer_than_the_limit(value: str | bytes, limit: int) -> None:
    assert len(safe(value, limit)) <= max(limit, 1)


@given(ANYTHING | st.binary(), st.integers(1, 50), st.booleans())
def test_making_safe_text_safe_again_changes_nothing(
    value: str | bytes, limit: int, newlines: bool
) -> None:
    once = safe(value, limit, newlines=newlines)
    assert safe(once, limit, newlines=newlines) == once


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_harmless_text_is_never_changed(value: str) -> None:
    harmless = "".join(c for c in value if c not in "\u115f\u1160")  # letters that show nothing
    assert safe(harmless, len(harmless) + 1) == harmless
    assert safe(harmless.encode(), len(harmless) + 1) == harmless


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("work.queue", "work.queue"),
        ("Hello Wörld — 你好 🐇", "Hello Wörld — 你好 🐇"),
        (r"C:\temp\x1b", r"C:\temp\x1b"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("a\nb\r\tc\x00\x7f", r"a\nb\r\tc\x00\x7f"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\U000e0041", r"\U000e0041"),
        ("\udc80", r"\udc80"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe\x1b", r"\xff\xfe\x1b"),
        (b"", ""),
    ],
)
def test_dangerous_characters_become_visible_escapes(value: str | bytes, shown: str) -> None:
    assert safe(value) == shown


def test_newlines_stay_only_where_they_are_allowed() -> None:
    assert safe("one\ntwo\x1b", newlines=True) == "one\ntwo\\x1b"


@pytest.mark.parametrize("value", ["x" * 10_000, b"x" * 10_000, b"\xe2\x82\xac" * 10_000])
def test_long_values_are_cut_with_an_ellipsis(value: str | bytes) -> None:
    shown = safe(value)
    assert len(shown) == DEFAULT_LIMIT
    assert shown.endswith("…")
    assert len(set(shown)) == 2


def test_a_cut_leaves_no_half_escape() -> None:
    assert safe("ab\x1b\x1b", 8) == "ab\\x1b…"
    assert safe("ab\x1b", 6) == "ab\\x1b"
    assert safe("ab\x1b", 5) == "ab…"
    assert safe("\x1b", 1) == "…"


def test_a_value_that_just_fits_is_not_cut() -> None:
    assert safe("x" * DEFAULT_LIMIT) == "x" * DEFAULT_LIMIT
    assert safe("é" * DEFAULT_LIMIT) == "é" * DEFAULT_LIMIT
