"""Cursors of lists that go by a number."""

import pytest

from service.api.reading import Listing, cursor_at, position
from service.domain.errors import Refusal


def test_a_cursor_names_its_place() -> None:
    """Whatever the list and the place, the cursor leads back to it, and no other list takes it."""
    for name in ("codes", "books", "users!", "keys..."):
        for place in (0, *(10**digits for digits in range(19)), 2**63 - 1):
            asked = Listing(cursor=cursor_at(name, place))
            assert position(asked, name) == place
            with pytest.raises(Refusal, match="malformed"):
                position(asked, "another")
