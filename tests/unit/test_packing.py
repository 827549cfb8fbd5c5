"""Requests to Redis as bytes."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from service.hot.packing import pack

_PARTS = st.one_of(st.text(), st.text("ab", min_size=1020, max_size=1030), st.binary(), st.integers(), st.floats())


@given(st.lists(_PARTS, min_size=1, max_size=20).map(tuple))
def test_any_command_is_packed_as_hiredis_does(command: tuple[str | bytes | float, ...]) -> None:
    """Short and long texts of all letters, bytes and numbers have the bytes of hiredis's own packing."""
    for parts in (command, command * 120):
        assert pack(parts) == hiredis.pack_command(parts)  # type: ignore[arg-type]
