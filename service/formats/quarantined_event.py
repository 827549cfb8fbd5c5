"""What an event in quarantine is about, as far as it can be read: nobody knows what is in its field `d`."""

from typing import NamedTuple

from service.domain.field_types import encode_field

_KINDS = frozenset("AURB")
_USER = 4
"""Where each of these names its user."""
_GIFT_FROM = 16
"""Words of a redemption before its gift's; one more where it names the user's bucket."""


class Named(NamedTuple):
    """What an event names, in the words of records; '' for a encode_field that it lacks."""

    workspace: int
    book: int
    code: str
    user: str
    order: str


def read_names(d: bytes) -> list[Named]:
    """What a fact's field `d` names: of a checkout its coupon and its gift; nothing where it can't be read."""
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
    """A fact's field `d` with a pseudonym in the place of this user of a workspace; None where it isn't the user's."""
    words = d.decode("utf-8", "replace").split(" ")
    if words[0] not in _KINDS or words[1:2] != [str(workspace)] or words[_USER : _USER + 1] != [encode_field(user)]:
        return None
    words[_USER] = pseudonym
    return " ".join(words).encode()


def is_same_but_user(one: str, other: str) -> bool:
    """Whether two fields `d` say the same; the user may have been deleted between them."""
    ours, theirs = one.split(" "), other.split(" ")
    return ours[:_USER] == theirs[:_USER] and ours[_USER + 1 :] == theirs[_USER + 1 :]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
