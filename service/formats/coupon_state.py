"""What Redis keeps of a coupon and what the record says of it, and how the two differ.

Redis's texts are those of docs/architecture.md (Redis keys); the record's rows come from `sql/queries/reconciling.sql`.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from service.domain.field_types import encode_field

Class = Literal[
    "code_missing", "code_surplus", "book", "uses", "assignee", "state", "redemptions", "free_missing", "free_surplus",
    "user_counts", "user_cap", "book_counts", "orders", "gifts", "idempotency_keys", "configuration", "wrong_type",
]  # fmt: skip
"""How a difference is named. `state`: switched off, or ends at another time; `free_…`: offered to nobody, or offered
though it isn't free; `configuration`: another version, or other settings, of a workspace, a book or a code;
`wrong_type`: a key of another type than its kind's."""

_UNLOCKED = "- - - - - -"
_IDLE = ["0", "-", "-", "0", "-", "-", "-", "-"]
_entry = re.compile(r"(\d+)(!?)(\S*)").fullmatch


class Write(NamedTuple):
    """Of one value in Redis what was seen and what it should be (None for nothing), as lua/repair.lua has it: kinds h a
    hash's field, s a string, i one that lives for `member` ms, z a score; n adds to a counter; t, first, removes a key
    whose type is as seen."""

    kind: Literal["h", "s", "i", "z", "n", "t"]
    key: str
    member: str
    seen: str | None
    to: str | None


class About(NamedTuple):
    """A code, a user, an order or a book."""

    kind: Literal["code", "user", "order", "book"]
    name: str


class Difference(NamedTuple):
    """One thing that differs: by which classes, and what would mend it; or why nothing safely does."""

    classes: tuple[Class, ...]
    thing: str
    """Where it is, as may be logged: codes and users masked."""
    writes: Sequence[Write] = ()
    unsafe: str = ""
    about: Sequence[About] = ()
    """What it belongs to, in the words of records, not to be logged."""


class Said(NamedTuple):
    """A code as the record has it after an event. `max` is None where nobody has used it and it has none of its own, 0
    for no limit; `standing` is "event ms event ms …" of one with several uses, None where these were very many;
    `special` where the merchant said something of the code itself."""

    bucket: int
    code: str
    book: int
    version: int
    active: bool
    expires_ms: int | None
    owner: str | None
    at_ms: int | None
    uses: int
    max: int | None
    last: str | None
    standing: str | None
    stand: int
    special: bool

    @property
    def used_up(self) -> bool:
        """Whether no use is left."""
        return bool(self.max) and self.uses >= self.max

    @property
    def tells_standing(self) -> bool:
        """Whether its standing redemptions are told, as far as there are any."""
        return self.max == 1 or self.stand == 0 or self.standing is not None

    @property
    def free(self) -> bool:
        """Whether it is in the pool, as far as nobody has locked it."""
        return not self.used_up and self.active and self.owner is None and self.expires_ms is None

    @property
    def waits_for_end(self) -> bool:
        """Whether it is free, and has an end of its own: then it waits in a set by that end."""
        return not self.used_up and self.active and self.owner is None and self.expires_ms is not None


def entry_of(said: Said) -> tuple[str, str | None]:
    """What a Redis that was built from the record holds: the directory's entry, and the coupon's record or None."""
    if said.owner is None and not said.special:
        if said.uses == 0 and said.max is None:
            return str(said.book), None
        if said.uses == 1 == said.max and said.last:
            return f"{said.book}!{said.last}", None
    return f"{said.book}{'' if said.free else '!'}", f"{' '.join(_words(said))} {_UNLOCKED}"


def unlike(said: Said, entry: str, record: str | None, locked: bool) -> list[Class]:
    """How a directory's entry and a coupon's record differ from what they should say. Locks are Redis's own; `locked`
    where there are some that the record doesn't name."""
    found = _entry(entry)
    if not found:
        return ["book"]
    book, mark, event = found.groups()
    words = record.split(" ") if record else [*_IDLE[:3], "1", "1", "-", "-", event] if event else _IDLE
    classes: list[Class] = [] if book == str(said.book) else ["book"]
    if len(words) not in (8, 14) or not words[0].isdigit():
        return [*classes, "state"]
    classes += _unlike_words(said, words)
    if event and record and "state" not in classes:
        classes.append("state")
    locked = locked or is_locked(record)
    if not locked and not event and said.free == bool(mark):
        classes.append("free_missing" if said.free else "free_surplus")
    return classes


def _unlike_words(said: Said, words: list[str]) -> list[Class]:
    version, user, at, uses, limit, off, ends, last = words[:8]
    expected = _words(said)
    # Who locks a code leaves the limit there under which it was.
    unused = said.max is None and said.uses == 0
    found: tuple[tuple[bool, Class], ...] = (
        ([user, at] != expected[1:3], "assignee"),
        (uses != expected[3] or (limit != expected[4] and not unused), "uses"),
        ([off, ends] != expected[5:7], "state"),
        (last != expected[7], "redemptions"),
        (int(version) > said.version or (said.special and int(version) != said.version), "configuration"),
    )
    return [class_ for unlike, class_ in found if unlike]


def is_locked(record: str | None) -> bool:
    """Whether a coupon's record names a lock, live or not."""
    return record is not None and not record.endswith(_UNLOCKED)


def _words(said: Said) -> list[str]:
    return [
        str(said.version if said.special else 0),
        encode_field(said.owner),
        _word(said.at_ms),
        str(said.uses),
        _word(said.max),
        "-" if said.active else "1",
        _word(said.expires_ms),
        said.last or "-",
    ]


def _word(number: int | None) -> str:
    return "-" if number is None else str(number)
