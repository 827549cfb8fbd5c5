"""A code's entry in the directory, `d:<bucket>`, for coupon_state.py, coupon_differences.py, surplus_survey.py and
others that read coupons.

`<book>` of a free code, `<book>+` of one with a record; `<book>!` of another with a record; `<book>!<event>` of a
single-use code without a record, which this event redeemed; `<book>!<lock>` of one that is locked. Scripts read and
write it by hand: lua/includes/coupon.lua, place.lua and picking.lua, lua/put_codes.lua, and usual_*.lua of lua/fast/.
"""

import re
from typing import Literal, NamedTuple, cast

from service.engine.formats.coupon_record import IDLE, UNLOCKED, CouponRecord, parse_coupon_record

Mark = Literal["", "+", "!"]
FREE, FREE_WITH_RECORD, NOT_FREE = "", "+", "!"
_entry = re.compile(r"(\d+)(\+|!?)((?<=!).*|)").fullmatch


class DirectoryEntry(NamedTuple):
    """An entry; `rest`: the redemption of a used-up code without a record, or the lock of a locked one, else ''."""

    book: str
    mark: Mark
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.book}{self.mark}{self.rest}"

    @property
    def is_free(self) -> bool:
        return self.mark != NOT_FREE

    @property
    def has_record(self) -> bool:
        return self.mark != FREE and not self.rest

    def record(self, text: str | None) -> CouponRecord | None:
        """What is true of the code; None for an invalid record. `text` is the record's."""
        if " " in self.rest:
            return IDLE._replace(max_uses="1", lock=self.rest)
        if self.rest:
            return IDLE._replace(uses="1", max_uses="1", last=self.rest)
        return parse_coupon_record(text) if text else IDLE


def parse_directory_entry(text: str) -> DirectoryEntry | None:
    """The inverse of str; None for an invalid text."""
    match = _entry(text)
    return DirectoryEntry(match[1], cast("Mark", match[2]), match[3]) if match else None


def is_locked(entry: str | None, record: str | None) -> bool:
    """Whether a single-use code has a lock, live or expired."""
    return (entry is not None and " " in entry) or (record is not None and not record.endswith(UNLOCKED))
