from __future__ import annotations

import uuid
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.identity import (
    MAX_NUMBER,
    MAX_PRODUCER,
    Identity,
    Source,
    checksum,
    damaged,
    id_prefix,
    identify,
    identify_all,
    message_id,
    new_run,
)

RUNS = st.text("0123456789abcdef", min_size=12, max_size=12)
SOURCES = st.builds(Source, RUNS, st.integers(1, MAX_PRODUCER))
NUMBERS = st.integers(1, MAX_NUMBER)
IDS = st.builds(lambda source, n: message_id(source, n).encode(), SOURCES, NUMBERS)
NEARLY = st.builds(
    lambda good, at, byte: good[:at] + byte + good[at + 1 :],
    IDS,
    st.integers(0, 35),
    st.sampled_from([b"-", b" ", b"\n", b"0", b"8", b"F", b"g", b"\xff", b"_", b"x"]),
)


@given(SOURCES, NUMBERS)
def test_an_identity_survives_its_message_id(source: Source, n: int) -> None:
    """Whoever reads the id knows run, producer and number again, as text or bytes."""
    text = message_id(source, n)
    assert identify(text) == Identity(source, n)
    assert identify(text.encode()) == Identity(source, n)
    assert text.startswith(id_prefix(source))
    assert len(id_prefix(source)) == 24


@given(SOURCES, NUMBERS)
def test_a_message_id_is_a_uuid_of_version_8(source: Source, n: int) -> None:
    """RFC 9562: version 8, its variant, and written in the usual way."""
    parsed = uuid.UUID(message_id(source, n))
    assert parsed.version == 8
    assert parsed.variant == uuid.RFC_4122
    assert str(parsed) == message_id(source, n)


def test_the_example_of_the_documentation_holds() -> None:
    """What the module's drawing shows."""
    assert message_id(Source("0a1b2c3d4e5f", 1), 1234) == "0a1b2c3d-4e5f-8001-8000-0000000004d2"


def test_every_run_has_a_name_of_its_own() -> None:
    """Twelve lower-case hex digits, different each time."""
    runs = {new_run() for _ in range(100)}
    assert len(runs) == 100
    assert all(len(run) == 12 and set(run) <= set("0123456789abcdef") for run in runs)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0a1b2c3d-4e5f-4001-8000-0000000004d2",  # version 4
        "0a1b2c3d-4e5f-8000-8000-0000000004d2",  # no producer
        "0a1b2c3d-4e5f-8001-8000-000000000000",  # no number
        "0a1b2c3d-4e5f-8001-8000-0000ffffffff",  # beyond MAX_NUMBER
        "0a1b2c3d-4e5f-8001-8000-0001000004d2",
        "0a1b2c3d-4e5f-8001-8001-0000000004d2",  # reserved bits
        "0a1b2c3d-4e5f-8001-0000-0000000004d2",  # no variant
        "0a1b2c3d-4e5f-8001-c000-0000000004d2",
        "0a1b2c3d4e5f-8001-8000-0000000004d2-",
        "0a1b2c3d-4e5f-8001-8000-0000000004 2",
        "0a1b2c3d-4e5f-8001-8000-00000000d2--",
        "0a1b2c3d-4e5f-8001-8000-0000000004d\ud800",
        "{0a1b2c3d-4e5f-8001-8000-0000000004d",
    ],
)
def test_an_id_that_is_not_ours_names_nobody(text: str) -> None:
    """None, and no exception."""
    assert identify(text) is None


@given(st.binary(min_size=36, max_size=36) | st.text(min_size=36, max_size=36) | NEARLY)
def test_any_text_is_ours_or_not_but_never_fails(text: bytes | str) -> None:
    """What is accepted is, but for the case of its letters, what we would have written."""
    found = identify(text)
    if found is not None:
        written = text if isinstance(text, str) else text.decode()
        assert message_id(*found) == written.lower()


def one_by_one(ids: list[bytes]) -> list[Identity] | None:
    found = [identify(text) for text in ids]
    return None if None in found else found  # type: ignore[return-value]


@st.composite
def rows_of_ids(draw: st.DrawFn) -> list[bytes]:
    """Return ids as they come: runs that count up, jumps, several producers, rarely a bad one."""
    sources = draw(st.lists(SOURCES, min_size=1, max_size=3))
    out: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        source, first = draw(st.sampled_from(sources)), draw(NUMBERS | st.integers(1, 20))
        step = draw(st.sampled_from([1, 1, 1, 2, 0, -1]))
        numbers = [first + i * step for i in range(draw(st.integers(1, 6)))]
        out += [message_id(source, n).encode() for n in numbers if 1 <= n <= MAX_NUMBER]
    return out + draw(st.lists(NEARLY, max_size=1))


@given(rows_of_ids())
def test_many_ids_are_read_as_one_by_one(ids: list[bytes]) -> None:
    """The same identities, each producer's in the same order."""
    found, wanted = identify_all(ids), one_by_one(ids)
    if not ids:
        assert found is None
        return
    if wanted is None or found is None:
        assert found is wanted is None
        return
    sources = [source for source, _ in found]
    assert sources == list(dict.fromkeys(one.source for one in wanted))
    for source, numbers in found:
        assert list(numbers) == [one.n for one in wanted if one.source == source]
    for _, numbers in found:
        straight = list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
        assert isinstance(numbers, range) == straight


@given(
    SOURCES,
    st.integers(0, 3).map(lambda k: k * 0x1000) | st.just(MAX_NUMBER),
    st.integers(-30, 30),
    st.integers(8, 50),
    st.none() | st.tuples(st.integers(0, 49), st.integers(0, 35), st.sampled_from(b"0-fF_ x")),
)
def test_ids_that_count_up_are_read_as_one_by_one(
    source: Source, near: int, off: int, count: int, change: tuple[int, int, int] | None
) -> None:
    """Also where more digits change than the last three, at both ends, and with one altered."""
    numbers = range(near + off, near + off + count)
    ids = [bytearray(message_id(source, n).encode()) for n in numbers if n >= 0]
    if change is not None and change[0] < len(ids):
        ids[change[0]][change[1]] = change[2]
    texts = [bytes(text) for text in ids]
    found, wanted = identify_all(texts), one_by_one(texts)
    if wanted is None or not texts:
        assert found is None
        return
    assert found is not None
    assert [(s, n) for s, group in found for n in group] == sorted(
        wanted, key=lambda one: list(dict.fromkeys(w.source for w in wanted)).index(one.source)
    )


@pytest.mark.parametrize("pattern", ["ABAB", "AABAB", "ABBAAB", "ABC" * 5, "AB" * 500])
def test_messages_of_several_producers_stay_with_their_own(pattern: str) -> None:
    """In whatever turn they come."""
    sources = [Source("0a1b2c3d4e5f", "ABC".index(letter) + 1) for letter in pattern]
    ids = [message_id(source, n).encode() for n, source in enumerate(sources, 1)]
    found = identify_all(ids)
    assert found is not None
    assert dict(found).keys() == set(sources)
    for source, numbers in found:
        assert list(numbers) == [n for n, of in enumerate(sources, 1) if of == source]


def test_no_ids_are_nobodys() -> None:
    """An empty list has no identities."""
    assert identify_all([]) is None


# --- checksums ----------------------------------------------------------------------------------


def test_the_checksum_is_the_crc_of_id_and_body() -> None:
    """Eight lower-case hex digits, leading zeros included."""
    assert checksum(b"id", b"body") == b"%08x" % crc32(b"idbody")
    assert checksum(b"", b"") == b"00000000"


def naive(ids: list[bytes], checksums: list[bytes], bodies: list[bytes]) -> list[int]:
    rows = enumerate(zip(ids, checksums, bodies, strict=True))
    return [i for i, (name, stated, body) in rows if stated != checksum(name, body)]


@st.composite
def messages(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], list[bytes]]:
    ids = draw(st.lists(IDS, max_size=8))
    bodies = [draw(st.binary(max_size=9)) for _ in ids]
    checksums = [checksum(*pair) for pair in zip(ids, bodies, strict=True)]
    altered = st.sampled_from([bytes.upper, bytes.title, lambda s: b" " + s[1:], lambda s: s[::-1]])
    for i in draw(st.lists(st.integers(0, max(len(ids) - 1, 0)), max_size=2)):
        if i < len(ids):
            what = draw(st.sampled_from(["body", "id", "checksum", "any"]))
            if what == "body":
                bodies[i] += b"!"
            elif what == "id":
                ids[i] = ids[i].upper() if ids[i] != ids[i].upper() else ids[i][::-1]
            elif what == "checksum":
                checksums[i] = draw(altered)(checksums[i])
            else:
                checksums[i] = draw(st.binary(min_size=8, max_size=8))
    return ids, checksums, bodies


@given(messages())
def test_damaged_messages_are_found_as_by_a_loop(
    columns: tuple[list[bytes], list[bytes], list[bytes]],
) -> None:
    """Whether a message is damaged does not depend on its neighbours."""
    assert list(damaged(*columns)) == naive(*columns)
