from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.view.messages import COLUMNS as SHOWN
from rabbitproof.view.window_columns import COLUMNS, fit

WANTED = {key: 10 * len(one.sample) for key, one in COLUMNS.items()}
ALL = sum(WANTED.values())


def test_they_are_the_columns_of_the_table() -> None:
    assert [*COLUMNS] == [key for key, _ in SHOWN]


def test_with_room_for_all_the_text_gets_what_is_left() -> None:
    assert fit(WANTED, ALL) == WANTED
    assert fit(WANTED, ALL + 300) == {**WANTED, "text": WANTED["text"] + 300}


def test_what_can_be_read_in_part_is_narrowed_before_anything_goes() -> None:
    widths = fit(WANTED, ALL - 40)
    assert widths == {**WANTED, "id": WANTED["id"] - 40}


def test_what_matters_least_goes_first() -> None:
    assert [*fit(WANTED, 600)] == ["number", "time", "from", "n", "text", "state"]
    assert [*fit(WANTED, 200)] == ["number", "text", "state"]


@given(st.integers(0, 3_000))
def test_the_state_is_always_in_sight(room: int) -> None:
    widths = fit(WANTED, room)
    least = WANTED["number"] + WANTED["text"] // 2 + WANTED["state"]
    assert {"number", "text", "state"} <= widths.keys()
    assert sum(widths.values()) == max(room, least)
    assert all(width > 0 for width in widths.values())
    assert [*widths] == [key for key in WANTED if key in widths]
