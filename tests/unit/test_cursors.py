"""Cursors of lists: a cursor decodes to its position, and only in its own list."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.domain.errors import Refusal
from service.server.requests import page_cursors
from service.server.requests.page_cursors import Cursor

_PLACES: dict[str, list[tuple[Any, ...]]] = {
    **{name: [(0,), (7,), (2**31 - 1,)] for name in ("active", "books", "webhooks")},
    **{name: [(0,), (2**31,), (2**63 - 1,)] for name in ("audit", "codes", "deliveries", "keys", "users")},
    **{name: [(UUID(int=0),), (UUID(int=2**128 - 1),)] for name in ("jobs", "redemptions")},
    **{name: [(0, 0), (2**63 - 1, 2**63 - 1)] for name in ("ledger", "notices", "quarantine")},
    "user-coupons": [(0, "ABCD"), (253_402_300_799_999_999, "Z" * 64)],
}
_BEYOND = [
    ("books", 2**31), ("webhooks", 2**63 - 1), ("active", 2**31), ("books", -1), ("codes", 2**63), ("codes", 10**400),
    ("books", 1.5), ("books", True), ("books", None), ("books", "1"), ("books", [1]), ("books",), ("books", 1, 1),
    ("notices", 0, 2**63), ("notices", -1, 0), ("notices", 1), ("user-coupons", 253_402_300_800_000_000, "ABCD"),
    ("user-coupons", 0, ""), ("user-coupons", 0, "AB\0D"), ("user-coupons", 0, "abcd"), ("user-coupons", "0", "ABCD"),
    ("jobs", "x"), ("jobs", 1), ("redemptions", "0" * 31), (1, 1), (), ([], 1), ({}, 1),
]  # fmt: skip


def test_a_cursor_names_its_position() -> None:
    """A cursor decodes to the position that it was made of, and every other list refuses it."""
    assert _PLACES.keys() == page_cursors.by_name.keys()
    for name, places in _PLACES.items():
        for place in places:
            text = page_cursors.by_name[name].encode(*place)
            assert page_cursors.by_name[name].decode(text) == place
            for other in page_cursors.by_name.keys() - {name}:
                with pytest.raises(Refusal, match="malformed"):
                    page_cursors.by_name[other].decode(text)


@pytest.mark.parametrize("parts", _BEYOND, ids=lambda parts: repr(parts)[:40])
def test_impossible_positions(parts: tuple[Any, ...]) -> None:
    """Every list refuses a position that no row can have."""
    made: Cursor[Any] = object.__new__(Cursor)
    made._name = parts[0] if parts else "books"  # type: ignore[assignment]
    text = made.encode(*parts[1:])
    for cursor in page_cursors.by_name.values():
        with pytest.raises(Refusal, match="malformed"):
            cursor.decode(text)


@given(st.text(max_size=600))
def test_any_text(text: str) -> None:
    """Every list refuses a text that no list made."""
    for cursor in page_cursors.by_name.values():
        with pytest.raises(Refusal, match="malformed"):
            cursor.decode(text)


@given(st.datetimes(min_value=page_cursors.time_of(0).replace(tzinfo=None)))
def test_times(at: Any) -> None:
    """A time in a cursor keeps its microseconds."""
    at = at.replace(tzinfo=page_cursors.time_of(0).tzinfo)
    assert page_cursors.time_of(page_cursors.microseconds(at)) == at


def test_a_name_is_one_list_s() -> None:
    """Two lists can't have one name."""
    with pytest.raises(ValueError, match="books"):
        Cursor("books", page_cursors.Int4)
