"""A coupon as Postgres records it, and how Redis's entry and record differ from it: for comparisons
(service/reconcile) and the survey of a surplus (service/worker/opening).

RecordedCode's fields are the columns of queries in sql/queries/reconciling.sql, by position. The names of Class are in
JSON and metrics; lua/repair.lua has the kinds of Write.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from service.engine.domain.field_types import encode_field
from service.engine.formats.card_account import CardAccount, parse_account
from service.engine.formats.coupon_record import CouponRecord
from service.engine.formats.directory_entry import (
    FREE,
    FREE_WITH_RECORD,
    NOT_FREE,
    DirectoryEntry,
    is_locked,
    parse_directory_entry,
)

Class = Literal[
    "code_missing", "code_surplus", "book", "uses", "assignee", "state", "redemptions", "free_missing", "free_surplus",
    "user_counts", "user_cap", "book_counts", "orders", "gifts", "idempotency_keys", "configuration", "wrong_type",
    "balance",
]  # fmt: skip
"""The names of differences. `state`: switched off, or another expiry; `free_missing`: a free code is not in the pool;
`free_surplus`: the pool has a code that isn't free; `configuration`: another version or other settings of a workspace,
a book or a code; `wrong_type`: a key has another type than its kind's; `balance`: a card's account, or what a book's
cards hold together."""


class Write(NamedTuple):
    """A change of one value in Redis from `seen` to `to` (None for no value), for lua/repair.lua.

    Kinds: h a hash's field, s a string, i a string that lives for `member` ms, z a score, n a counter
    in a hash, to which `to` is added.
    t, before the others, removes a key of the type `seen`.
    """

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
    """One thing that differs: its classes, and the writes that repair it, or why no repair is safe."""

    classes: tuple[Class, ...]
    thing: str
    """Its name for logs, with codes and users masked."""
    writes: Sequence[Write] = ()
    unsafe: str = ""
    about: Sequence[About] = ()
    """Its code, user, order or book as fields of records; never logged."""


class RecordedCode(NamedTuple):
    """A code as Postgres has it after an event.

    `at_ms`: since when it is its owner's. `max`, which `uses` count against, is None for an unused code without its own
    limit, 0 for no limit. `stand` is how many redemptions stand, `last` the last one's event, and `standing`, for
    several uses, "event score event score …", None if there are too many. `special`: the code has its own settings.
    """

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
    issued_e4: int | None = None
    """Of a card; None for other codes."""
    credited_e4: int = 0
    spent_e4: int = 0
    closed_e4: int = 0
    is_blocked: bool = False
    """Whether an event of it is in quarantine, and Redis blocks it for that."""

    @property
    def account(self) -> CardAccount | None:
        """A card's account without locks."""
        if self.issued_e4 is None:
            return None
        return CardAccount(self.issued_e4, self.credited_e4, self.spent_e4, self.closed_e4)

    @property
    def limit(self) -> int | None:
        """`max`, which a credit or a close of a card sets, too."""
        return 0 if self.max is None and (self.credited_e4 or self.closed_e4) else self.max

    @property
    def used_up(self) -> bool:
        if self.account:
            return self.account.funds_e4 == 0
        return bool(self.max) and self.uses >= self.max

    @property
    def has_all_standing(self) -> bool:
        """Whether all its standing redemptions are known here."""
        return self.max == 1 or self.stand == 0 or self.standing is not None

    @property
    def standing_redemptions(self) -> dict[str, str]:
        """The known standing redemptions of a code with several uses: event → score."""
        words = self.standing.split(" ") if self.standing and self.max != 1 else []
        return dict(zip(words[::2], words[1::2], strict=True))

    @property
    def free(self) -> bool:
        """Whether it belongs to the pool unless it is locked (lua/includes/place.lua)."""
        return self._is_available and self.expires_ms is None

    @property
    def waits_for_end(self) -> bool:
        """Whether it is free and has its own expiry: then it belongs to a set by expiry."""
        return self._is_available and self.expires_ms is not None

    @property
    def is_held_till_end(self) -> bool:
        """Whether its owner holds it and it has its own expiry: then it belongs to the owner's set of these."""
        return not self.used_up and self.owner is not None and self.expires_ms is not None

    @property
    def _is_available(self) -> bool:
        return not self.used_up and self.active and not self.is_blocked and self.owner is None


def entry_of(code: RecordedCode) -> tuple[str, str | None]:
    """The directory's entry and the coupon's record, if it has one, in a rebuilt Redis."""
    book = str(code.book)
    if code.owner is None and not code.special and not code.is_blocked:
        if code.uses == 0 and code.limit is None:
            return str(DirectoryEntry(book, FREE)), None
        if code.uses == 1 == code.max and code.last:
            return str(DirectoryEntry(book, NOT_FREE, code.last)), None
    return str(DirectoryEntry(book, FREE_WITH_RECORD if code.free else NOT_FREE)), str(_record(code))


def has_same_account(code: RecordedCode, text: str | None, held_e4: int | None) -> bool:
    """Whether this is the account of a card, or none of another code. `held_e4`: what its locks hold, None if that is
    not known."""
    if code.account is None or text is None:
        return code.account is None and text is None
    stored = parse_account(text)
    if stored is None:
        return False
    return stored == code.account._replace(held_e4=stored.held_e4 if held_e4 is None else held_e4)


def differing_classes(code: RecordedCode, entry: str, record: str | None, locked: bool) -> list[Class]:
    """The differences of a directory's entry and a coupon's record from Postgres.

    Postgres has no locks; `locked`: the code has locks outside its record.
    """
    listed = parse_directory_entry(entry)
    if not listed:
        return ["book"]
    stored = listed.record(record)
    classes: list[Class] = [] if listed.book == str(code.book) else ["book"]
    if stored is None or not stored.version.isdigit():  # unreadable
        return [*classes, "state"]
    classes += _compare_records(code, stored)
    # A record that scripts don't read, or one that is lost.
    is_unlike = record is not None if not listed.has_record else record is None and listed.is_free
    if is_unlike and "state" not in classes:
        classes.append("state")
    if not (locked or is_locked(entry, record) or listed.rest) and code.free != listed.is_free:
        classes.append("free_missing" if code.free else "free_surplus")
    return classes


def _compare_records(code: RecordedCode, stored: CouponRecord) -> list[Class]:
    expected = _record(code)
    # A lock writes the limit into the record, and the limit stays there.
    unused = code.max is None and code.uses == 0
    tests: tuple[tuple[bool, Class], ...] = (
        ((stored.user, stored.assigned_at) != (expected.user, expected.assigned_at), "assignee"),
        (stored.uses != expected.uses or (stored.max_uses != expected.max_uses and not unused), "uses"),
        ((stored.off, stored.expires_at) != (expected.off, expected.expires_at), "state"),
        (stored.last != expected.last, "redemptions"),
        (int(stored.version) > code.version or (code.special and int(stored.version) != code.version), "configuration"),
    )
    return [class_ for differs, class_ in tests if differs]


def _record(code: RecordedCode) -> CouponRecord:
    return CouponRecord(
        version=str(code.version if code.special else 0),
        user=encode_field(code.owner),
        assigned_at=_format_number(code.at_ms),
        uses=str(code.uses),
        max_uses=_format_number(code.limit),
        off=str((not code.active) + 2 * code.is_blocked or "-"),  # off_word of lua/includes/coupon.lua
        expires_at=_format_number(code.expires_ms),
        last=code.last or "-",
    )


def _format_number(number: int | None) -> str:
    return "-" if number is None else str(number)
