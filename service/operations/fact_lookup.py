"""Fetch the records of redemptions that a stored answer refers to, for batches.py, with lua/records.lua."""

from collections.abc import Sequence

from service.access.caller import Caller
from service.operations.base import Command, Reply, render_nothing

Records = dict[str, tuple[str, str]]
"""Event or redemption id → (record, book id)."""


def prepare_records(caller: Caller, names: Sequence[str]) -> Command:
    """Read at most 64 records (AT_ONCE in batches.py); `read_records` parses the reply."""
    return Command("records", (caller.gate, caller.keys.settings), (" ".join(dict.fromkeys(names)),), render_nothing)


def read_records(reply: Reply) -> Records:
    parts = iter(reply[1:])
    return {name: (record, book_id) for name, record, book_id in zip(parts, parts, parts, strict=True)}
