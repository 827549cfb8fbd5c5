"""The code, user and order of a quarantined event, whose field `d` may be invalid."""

from typing import NamedTuple

from service.domain.field_types import encode_field

_KINDS = frozenset("AURB")
_USER = 4
"""The index of the user in each of these."""
_GIFT_FROM = 16
"""Fields of a redemption before its gift's; 17 with the user's bucket."""


class Named(NamedTuple):
    """An event's ids as fields of records; '' for a field that it lacks."""

    workspace: int
    book: int
    code: str
    user: str
    order: str


def read_names(d: bytes) -> list[Named]:
    """The ids in a fact's field `d`: two entries for a checkout with a gift, none for an invalid text."""
    words = d.decode("utf-8", "replace").split(" ")
    kind, number = words[0], _number(words[1]) if len(words) > 1 else None
    if kind not in _KINDS or len(words) < 4 or number is None:
        return []
    user = words[_USER] if len(words) > _USER else ""
    at = 7 if kind == "A" else 5
    order = words[at] if kind != "U" and len(words) > at else ""
    pairs = [(words[2], words[3])]
    if kind == "R" and len(words) in (_GIFT_FROM + 3, _GIFT_FROM + 4):
        pairs.append((words[-3], words[-2]))
    named = [(_number(book), code) for book, code in pairs]
    return [Named(number, book, code, user, order) for book, code in named if book is not None and code]


def replace_user(d: bytes, workspace: int, user: str, pseudonym: str) -> bytes | None:
    """Replace this user of a workspace in a fact's field `d`; None if the fact is not the user's."""
    words = d.decode("utf-8", "replace").split(" ")
    if words[0] not in _KINDS or words[1:2] != [str(workspace)] or words[_USER : _USER + 1] != [encode_field(user)]:
        return None
    words[_USER] = pseudonym
    return " ".join(words).encode()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
