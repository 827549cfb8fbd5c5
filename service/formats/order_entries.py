"""What Redis stores of orders and users, by bucket: an order's places and a user's counts of a book (`o:<bucket>`,
lua/includes/orders.lua and state.lua), and an order's gift (`g:<bucket>`, lua/includes/gifts.lua)."""

import re
from typing import NamedTuple

from service.formats.event_id import EventId

_places = re.compile(r"(?:^| )(\d+)-(\d+)(?::(\d+))?(!?)").findall


class Place(NamedTuple):
    """A place of an order, and the redemption that takes it; `kept` where that was rolled back without restore."""

    event: EventId
    slot: int
    kept: bool


class Gift(NamedTuple):
    """An order's gift, in its words."""

    code: str
    bucket: str
    user: str
    assigned_at: str

    def __str__(self) -> str:
        return " ".join(self)


def parse_places(text: str) -> list[Place]:
    """The places of an order's entry; those of it that can be read."""
    found = _places(text)
    return [Place(EventId(int(epoch), int(seq)), int(slot or 1), mark == "!") for epoch, seq, slot, mark in found]


def parse_gift(text: str) -> Gift:
    """The inverse of str. What is missing of it is ''."""
    words = text.split(" ", 3)
    return Gift(*words, *[""] * (4 - len(words)))


def is_nothing(text: str) -> bool:
    """Whether an order's places were all given back, or a user's counts are zero."""
    return text in ("", "0", "0 0")
