"""A code's entry in the directory, `d:<bucket>`, for coupon_state.py, coupon_differences.py and surplus_survey.py.

`<book>` of a free code; `<book>!` of another; `<book>!<event>` of a single-use code without a record, which this event
redeemed. Scripts read and write it by hand: lua/includes/coupon.lua and lua/put_codes.lua, save.lua, record.lua and
usual_*.lua of lua/steps/.
"""

import re
from typing import NamedTuple

NOT_FREE = "!"
_entry = re.compile(r"(\d+)(!?)(\S*)").fullmatch


class DirectoryEntry(NamedTuple):
    """An entry; `last` is the redemption of a used-up code without a record, else ''."""

    book: str
    is_free: bool
    last: str = ""

    def __str__(self) -> str:
        return f"{self.book}{'' if self.is_free else NOT_FREE}{self.last}"


def parse_directory_entry(text: str) -> DirectoryEntry | None:
    """The inverse of str; None for an invalid text."""
    match = _entry(text)
    return DirectoryEntry(match[1], not match[2], match[3]) if match else None
