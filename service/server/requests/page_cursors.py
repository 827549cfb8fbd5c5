"""The cursors of all lists, with the types and bounds of their parts: no part can exceed its column's range.

Controllers and history_pages.py call this. Clients hold cursors: a list's name and its parts' order must not change.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import GenericAlias
from typing import Annotated, Any, Generic, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec

from service.engine.domain.errors import malformed
from service.engine.domain.field_types import END, Page

Row = TypeVar("Row")
Parts = TypeVarTuple("Parts")

MAX_CHARACTERS = 500

_SEND_NEXT = "send the `nextCursor` of this list, or no cursor for its first page"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Int4 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Int8 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Code = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9_-]{4,64}" + END)]
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=(datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND)]
"""Since 1970."""

by_name: dict[str, Any] = {}


class Cursor(Generic[*Parts]):
    """The cursors of one list. The text is base64 of JSON: the list's name and the parts of a place."""

    def __init__(self, name: str, *kinds: Any) -> None:
        if name in by_name:
            raise ValueError(f"two lists are named {name}")
        by_name[name] = self
        self._name = name
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(GenericAlias(tuple, (str, *kinds)))

    def encode(self, *place: *Parts) -> str:
        """The cursor of the page after this place."""
        return base64.urlsafe_b64encode(msgspec.json.encode((self._name, *place))).rstrip(b"=").decode()

    def decode(self, cursor: str | None) -> tuple[*Parts] | None:
        """The cursor's place; None for the first page. Refusal `malformed` if it is not this list's."""
        if cursor is None:
            return None
        if len(cursor) > MAX_CHARACTERS:
            raise malformed("cursor", f"has more than {MAX_CHARACTERS} characters")
        try:
            packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            name, *place = self._decoder.decode(packed)
        except (ValueError, msgspec.DecodeError):
            raise malformed("cursor", f"is not one that this list gave; {_SEND_NEXT}") from None
        if name != self._name:
            raise malformed("cursor", f"belongs to another list; {_SEND_NEXT}")
        return tuple(place)

    def make_page(self, rows: Sequence[Row], limit: int, place: Callable[[Row], tuple[*Parts]]) -> Page[Row]:
        """The first `limit` rows, and the next page's cursor if there are more."""
        next_cursor = self.encode(*place(rows[limit - 1])) if len(rows) > limit else None
        return Page(items=[*rows[:limit]], next_cursor=next_cursor)


def microseconds(at: datetime) -> int:
    """A time as a part of a cursor."""
    return (at - _EPOCH) // _MICROSECOND


def time_of(part: int) -> datetime:
    """The inverse of microseconds."""
    return _EPOCH + part * _MICROSECOND


ACTIVE: Cursor[int] = Cursor("active", Int4)
AUDIT: Cursor[int] = Cursor("audit", Int8)
BOOKS: Cursor[int] = Cursor("books", Int4)
CODES: Cursor[int] = Cursor("codes", Int8)
DELIVERIES: Cursor[int] = Cursor("deliveries", Int8)
JOBS: Cursor[UUID] = Cursor("jobs", UUID)
KEYS: Cursor[int] = Cursor("keys", Int8)
LEDGER: Cursor[int, int] = Cursor("ledger", Int8, Int8)
NOTICES: Cursor[int, int] = Cursor("notices", Int8, Int8)
QUARANTINE: Cursor[int, int] = Cursor("quarantine", Int8, Int8)
REDEMPTIONS: Cursor[UUID] = Cursor("redemptions", UUID)
USER_COUPONS: Cursor[int, str] = Cursor("user-coupons", Microseconds, Code)
USERS: Cursor[int] = Cursor("users", Int8)
WEBHOOKS: Cursor[int] = Cursor("webhooks", Int4)
