"""Parse and change Redis's entries of orders and users, by bucket: for comparisons and openings.

`o:<bucket>` has an order's places, with marks of its locks, and a user's counts of a book (lua/includes/orders.lua and
redemption.lua).
`g:<bucket>` has an order's gift (lua/includes/gifts.lua). Both sides write these texts: change both.
"""

import re
from typing import NamedTuple

from service.engine.formats.event_id import EventId

_places = re.compile(r"(?:^| )(\d+)-(\d+)(?::(\d+))?(!?)").findall


class Place(NamedTuple):
    """A place of an order, and its redemption; `kept` if that was rolled back without restore."""

    event: EventId
    slot: int
    kept: bool


class Gift(NamedTuple):
    """The fields of an order's gift."""

    code: str
    bucket: str
    user: str
    assigned_at: str

    def __str__(self) -> str:
        return " ".join(self)


def split_marks(text: str) -> tuple[str, str]:
    """An order's places, and the marks of its locks; '' for none, as in a user's counts."""
    places, separator, marks = text.partition("=")
    return places, separator + marks


def parse_places(text: str) -> list[Place]:
    """The valid places of an order's entry."""
    matches = _places(split_marks(text)[0])
    return [Place(EventId(int(epoch), int(seq)), int(slot or 1), sign == "!") for epoch, seq, slot, sign in matches]


def parse_gift(text: str) -> Gift:
    """The inverse of str; missing fields are ''."""
    words = text.split(" ", 3)
    return Gift(*words, *[""] * (4 - len(words)))


def is_nothing(text: str) -> bool:
    """Whether an order has no places, or a user's counts are zero."""
    return text in ("", "0", "0 0")
