"""What the record says of a coupon (`sql/queries/reconciling.sql`), and how what Redis stores differs from that."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from service.domain.field_types import encode_field
from service.formats.coupon_record import IDLE, CouponRecord, is_locked, parse_coupon_record
from service.formats.directory_entry import DirectoryEntry, parse_directory_entry

Class = Literal[
    "code_missing", "code_surplus", "book", "uses", "assignee", "state", "redemptions", "free_missing", "free_surplus",
    "user_counts", "user_cap", "book_counts", "orders", "gifts", "idempotency_keys", "configuration", "wrong_type",
]  # fmt: skip
"""How a difference is named. `state`: switched off, or ends at another time; `free_…`: offered to nobody, or offered
though it isn't free; `configuration`: another version, or other settings, of a workspace, a book or a code;
`wrong_type`: a key of another type than its kind's."""


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
    def standing_redemptions(self) -> dict[str, str]:
        """Those of a code with several uses, as far as they are told: event → score."""
        words = self.standing.split(" ") if self.standing and self.max != 1 else []
        return dict(zip(words[::2], words[1::2], strict=True))

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
    book = str(said.book)
    if said.owner is None and not said.special:
        if said.uses == 0 and said.max is None:
            return str(DirectoryEntry(book, True)), None
        if said.uses == 1 == said.max and said.last:
            return str(DirectoryEntry(book, False, said.last)), None
    return str(DirectoryEntry(book, said.free)), str(_record(said))


def unlike(said: Said, entry: str, record: str | None, locked: bool) -> list[Class]:
    """How a directory's entry and a coupon's record differ from what they should say. Locks are Redis's own; `locked`
    where there are some that the record doesn't name."""
    listed = parse_directory_entry(entry)
    if not listed:
        return ["book"]
    used_up = IDLE._replace(uses="1", max_uses="1", last=listed.last) if listed.last else IDLE
    found = parse_coupon_record(record) if record else used_up
    classes: list[Class] = [] if listed.book == str(said.book) else ["book"]
    if found is None or not found.version.isdigit():
        return [*classes, "state"]
    classes += _unlike_records(said, found)
    if listed.last and record and "state" not in classes:
        classes.append("state")
    locked = locked or is_locked(record)
    if not locked and not listed.last and said.free != listed.is_free:
        classes.append("free_missing" if said.free else "free_surplus")
    return classes


def _unlike_records(said: Said, found: CouponRecord) -> list[Class]:
    expected = _record(said)
    # Who locks a code leaves the limit there under which it was.
    unused = said.max is None and said.uses == 0
    tests: tuple[tuple[bool, Class], ...] = (
        ((found.user, found.assigned_at) != (expected.user, expected.assigned_at), "assignee"),
        (found.uses != expected.uses or (found.max_uses != expected.max_uses and not unused), "uses"),
        ((found.off, found.expires_at) != (expected.off, expected.expires_at), "state"),
        (found.last != expected.last, "redemptions"),
        (int(found.version) > said.version or (said.special and int(found.version) != said.version), "configuration"),
    )
    return [class_ for unlike, class_ in tests if unlike]


def _record(said: Said) -> CouponRecord:
    return CouponRecord(
        version=str(said.version if said.special else 0),
        user=encode_field(said.owner),
        assigned_at=_word(said.at_ms),
        uses=str(said.uses),
        max_uses=_word(said.max),
        off="-" if said.active else "1",
        expires_at=_word(said.expires_ms),
        last=said.last or "-",
    )


def _word(number: int | None) -> str:
    return "-" if number is None else str(number)
