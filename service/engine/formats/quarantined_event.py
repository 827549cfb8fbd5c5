"""Read what a quarantined event says. Its line `d` may be invalid, or have only what is known of the event.

The API's quarantine, `scrip quarantine` and `recover`, comparisons and openings call this; user_deletion.py
replaces users with it. The names of kinds are in the API's JSON; `describe`'s sentence is searched by
idempotency_entry.py.
"""

from typing import Literal, NamedTuple

from service.engine.domain.field_types import decode_field, encode_field
from service.engine.domain.times import from_ms
from service.engine.formats.event_id import EventId
from service.engine.formats.events import REDEEMED_FIELDS, BalanceChanged, Fact, Redeemed, RolledBack, parse_entry

Kind = Literal[
    "assigned", "unassigned", "redeemed", "rolled_back", "balance_changed", "stock_notice", "answered", "unreadable"
]  # fmt: skip

_OF_USERS = frozenset("AURB")
_USER = 4
"""The index of the user in each of these."""
_WITH_GIFT = 1 + len(REDEEMED_FIELDS) + 3
"""Words of a redemption with a gift, whose book, code and bucket are the last three."""


class Named(NamedTuple):
    """An event's ids as fields of records; '' for a field that it lacks."""

    workspace: int
    book: int
    code: str
    user: str
    order: str


def read_names(d: bytes) -> list[Named]:
    """The ids in a fact's `d`: two entries for a checkout with a gift, none for an invalid text."""
    words = d.decode("utf-8", "replace").split(" ")
    kind, number = words[0], _number(words[1]) if len(words) > 1 else None
    if kind not in {*_OF_USERS, "C"} or len(words) < 4 or number is None:
        return []
    user = words[_USER] if kind != "C" and len(words) > _USER else ""
    at = 7 if kind == "A" else 5
    order = words[at] if kind not in ("U", "C") and len(words) > at else ""
    pairs = [(words[2], words[3])]
    if kind == "R" and len(words) == _WITH_GIFT:
        pairs.append((words[-3], words[-2]))
    named = [(_number(book), code) for book, code in pairs]
    return [Named(number, book, code, user, order) for book, code in named if book is not None and code]


def kind_of(d: bytes) -> Kind:
    """What happened."""
    kinds: dict[bytes, Kind] = {
        b"A ": "assigned", b"U ": "unassigned", b"R ": "redeemed", b"B ": "rolled_back", b"S ": "stock_notice",
        b"C ": "balance_changed", b"K ": "answered",
    }  # fmt: skip
    return kinds.get(d[:2], "unreadable")


def describe(at: EventId, d: bytes, r: bytes) -> str:
    """The event in a sentence."""
    kind = kind_of(d).replace("_", " ")
    fact = parse_entry(at, d, r or b"{}")
    if not isinstance(fact, Fact):
        return f"{kind}{''.join(map(_describe_names, read_names(d)))}."
    text = f"{kind}, code {fact.code}" + (f" by user {fact.user}" if fact.user else "")
    if isinstance(fact, Redeemed):
        text += f" in order {fact.order}" if fact.order else ""
        if fact.value_e4 is not None:
            text += f", order value {fact.value_e4 / 10_000:.{fact.digits}f} {fact.currency or ''}".rstrip()
            text += f", discount {fact.discount_e4 / 10_000:.{fact.digits}f}"
        text += f", redemption {fact.redemption_id}"
        text += f", with code {fact.gift.code} as a gift" if fact.gift else ""
    elif isinstance(fact, RolledBack):
        text += f", redemption {fact.redemption_id}, {'with' if fact.restore else 'without'} giving the use back"
    elif isinstance(fact, BalanceChanged):
        text += f", {fact.kind} by {fact.amount_e4 / 10_000:.4f}"
    return f"{text}, at {from_ms(fact.at_ms)}."


def _describe_names(names: Named) -> str:
    """What is known of an event that is not whole."""
    user, order = (decode_field(field) if field else None for field in (names.user, names.order))
    return f", code {names.code}{f' by user {user}' if user else ''}{f' in order {order}' if order else ''}"


def replace_user(d: bytes, workspace: int, user: str, pseudonym: str) -> bytes | None:
    """Replace this user of a workspace in a fact's `d`; None if the fact is not the user's."""
    words = d.decode("utf-8", "replace").split(" ")
    if words[0] not in _OF_USERS or words[1:2] != [str(workspace)] or words[_USER : _USER + 1] != [encode_field(user)]:
        return None
    words[_USER] = pseudonym
    return " ".join(words).encode()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
