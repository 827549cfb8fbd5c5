"""The facts of redemptions that an answer refers to by their events."""

from collections.abc import Sequence

from service.access.caller import Caller
from service.operations.base import Command, Rendered, Reply

Records = dict[str, tuple[str, str]]
"""By event, or id: a redemption's record, and the id of its book."""


def prepare_records(caller: Caller, names: Sequence[str]) -> Command:
    """Read the records of some redemptions, at most 50; `read_records` reads the reply."""
    return Command("records", (caller.gate, caller.keys.settings), (" ".join(dict.fromkeys(names)),), _unanswered)


def read_records(reply: Reply) -> Records:
    """What the script replied."""
    parts = iter(reply[1:])
    return {name: (record, book_id) for name, record, book_id in zip(parts, parts, parts, strict=True)}


def _unanswered(reply: Reply, durability: str) -> Rendered:
    return Rendered(204, None)  # no request asks for it alone
