"""The directory's entry of a code, in `d:<bucket>`: `<book>` of a free code, `<book>!` of another, `<book>!<event>` of
one whose only use this redemption spent, and of which nothing else is true. lua/includes/directory.lua reads it."""

import re
from typing import NamedTuple

NOT_FREE = "!"
_entry = re.compile(r"(\d+)(!?)(\S*)").fullmatch


class DirectoryEntry(NamedTuple):
    """An entry; `last` is '' but for a code that has no record since it is used up."""

    book: str
    is_free: bool
    last: str = ""

    def __str__(self) -> str:
        return f"{self.book}{'' if self.is_free else NOT_FREE}{self.last}"


def parse_directory_entry(text: str) -> DirectoryEntry | None:
    """The inverse of str; None where nobody wrote it so."""
    found = _entry(text)
    return DirectoryEntry(found[1], not found[2], found[3]) if found else None
