"""Configuration on its way into Redis: each row as the one string, or the few fields, that scripts read."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from service.domain.configuration import BookRow, CodeRow, DiscountRow, UserRow, WorkspaceRow
from service.domain.errors import Refusal
from service.domain.field_types import encode_field
from service.domain.limits import encode_book_limits
from service.formats import key_names

Run = Callable[[int, str, Sequence[str], Sequence[Any]], Awaitable[list[Any]]]
"""(partition, script, keys, arguments) → reply; raises Refusal."""

CODES_A_RUN = 200
"""So that no run of put_codes keeps the server for more than about a millisecond."""
RUNS_AT_ONCE = 4
"""Of one call: what shoppers send on the same connection waits for no more than these."""


class RedisProjector:
    """Writes rows through scripts that look at the gate and at the row's version first."""

    def __init__(self, run: Run, left_out: Callable[[CodeRow], None] | None = None) -> None:
        """`left_out` takes each code that Redis has an error on, and the rest is written; without it all is refused."""
        self._run, self._left_out = run, left_out

    async def workspace(self, row: WorkspaceRow) -> None:
        """A workspace is new or changed."""
        w = key_names.prefix(row.partition, row.workspace)
        names = (key_names.gate(row.partition), key_names.settings(w), key_names.newest(row.partition))
        await self._run(row.partition, "put_workspace", names, (row.version, workspace_settings(row)))

    async def book(self, row: BookRow) -> None:
        """A book is new or changed."""
        w = key_names.prefix(row.partition, row.workspace)
        names = (
            key_names.gate(row.partition),
            key_names.settings(w),
            key_names.books(w),
            key_names.book(w, row.book),
            key_names.newest(row.partition),
        )
        await self._run(row.partition, "put_book", names, (row.version, book_settings(row), row.book))

    async def close_book(self, partition: int, workspace: int, book: int, book_id: UUID, version: int) -> None:
        """Of a book that can't be projected: inactive, so that nobody can use its codes."""
        w = key_names.prefix(partition, workspace)
        names = (key_names.gate(partition), f"{w}w", f"{w}x", f"{w}b:{book}", key_names.newest(partition))
        nothing = (None,) * 9
        settings = _joined(book_id, "inactive", None, None, 1, None, None, None, False, False, 1, 1, *nothing)
        await self._run(partition, "put_book", names, (version, settings, book))

    async def codes(
        self, workspace: int, partition: int, version: int, rows: Sequence[CodeRow], *, whole: bool = False
    ) -> None:
        """At most 5,000 codes. With `whole` what is free of them is nobody's until fill_pool has seen it."""
        w = key_names.prefix(partition, workspace)
        names = (key_names.gate(partition), key_names.settings(w), key_names.newest(partition))
        books: dict[int, list[CodeRow]] = {}
        for row in rows:
            books.setdefault(row.book, []).append(row)
        runs = [
            (book, some[start : start + CODES_A_RUN])
            for book, some in books.items()
            for start in range(0, len(some), CODES_A_RUN)
        ]
        head = (version, "1" if whole else "")
        for start in range(0, len(runs), RUNS_AT_ONCE):
            # These go out in one write, and one fsync covers them.
            going = [
                self._run(partition, "put_codes", names, (book, *head, *_words(some)))
                for book, some in runs[start : start + RUNS_AT_ONCE]
            ]
            for (_, some), reply in zip(runs[start : start + RUNS_AT_ONCE], await asyncio.gather(*going), strict=True):
                for position in reply[2:]:
                    if self._left_out is None:
                        raise Refusal.temporary("outcome_unknown")
                    self._left_out(some[int(position)])

    async def coupon(self, row: CodeRow) -> None:
        """One code's switch or expiry changed."""
        await self.codes(row.workspace, row.partition, row.version, [row])

    async def user(self, row: UserRow) -> None:
        """A user is new or changed."""
        w = key_names.prefix(row.partition, row.workspace)
        names = (
            key_names.gate(row.partition),
            key_names.settings(w),
            key_names.user(w, encode_field(row.user_id)),
            key_names.newest(row.partition),
        )
        await self._run(row.partition, "put_user", names, (row.version, _word(row.max_coupons)))

    async def seen(self, partition: int, version: int) -> None:
        """All rows of this version are projected."""
        await self._seen(partition, version - 1, version)

    async def seen_all(self, partition: int, version: int) -> None:
        """All rows up to this version are projected."""
        await self._seen(partition, 0, version)

    async def last_seen(self, partition: int) -> int:
        """The last version of which, and of all before it, everything is in Redis."""
        return (await self._seen(partition, 0, 0))[0]

    async def versions(self, partition: int) -> tuple[int, int]:
        """As last_seen; and the newest version that anything in Redis is of."""
        return await self._seen(partition, 0, 0)

    async def _seen(self, partition: int, after: int, version: int) -> tuple[int, int]:
        names = (key_names.gate(partition), key_names.config(partition), key_names.newest(partition))
        _, last, newest = await self._run(partition, "seen", names, (after, version))
        return int(last), int(newest)


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "1" if value else "0"
    return encode_field(str(value))


def _joined(*values: Any) -> str:
    return " ".join(map(_word, values))


def _words(rows: Sequence[CodeRow]) -> Iterator[Any]:
    """What put_codes reads of each code."""
    for row in rows:
        yield from (key_names.bucket(row.code), row.code, _special(row))


def _special(row: CodeRow) -> str:
    """What the code says differently from its book; nothing for an idle one."""
    if row.owner_id is None and row.max_redemptions is None and row.expires_ms is None and row.active:
        return ""
    return _joined(row.owner_id, row.created_ms, row.max_redemptions, row.expires_ms, row.active)


def _terms(discount: DiscountRow) -> str:
    """lua/includes/money.lua reads these."""
    match discount.type:
        case "tiered":
            return ",".join(f"{tier.from_e4}:{tier.type}:{tier.value_e4}" for tier in discount.tiers)
        case "buyXGetY":
            return f"{discount.buy}:{discount.get}"
        case _:
            return str(discount.value_e4)


def workspace_settings(row: WorkspaceRow) -> str:
    """lua/includes/book.lua reads these, in this order."""
    keep_ms = row.idempotency_hours * 3_600_000
    limits = (row.coupons_per_order, row.currency, row.digits, row.max_coupons)
    settings = _joined(*limits, keep_ms, row.gift_book_id, row.clock_offset_ms)
    books = encode_book_limits(row.limits and row.limits.books)
    return f"{settings} {books}" if books else settings


def book_settings(row: BookRow) -> str:
    """As workspace_settings."""
    discount = row.discount
    money: tuple[Any, ...] = (None,) * 6
    if discount:
        least = discount.min_order_value_e4
        if discount.tiers:
            least = max(least or 0, discount.tiers[0].from_e4)
        money = (discount.type, _terms(discount), discount.max_amount_e4, least, discount.currency, discount.digits)
    return _joined(
        row.book_id,
        "a" if row.status == "active" else row.status,
        row.valid_from_ms,
        row.valid_until_ms,
        row.max_redemptions_per_code,
        row.max_redemptions_per_user,
        row.max_redemptions,
        row.max_codes_per_user,
        row.require_assignment,
        row.require_lock,
        row.lock_seconds * 1000,
        row.max_lock_seconds * 1000,
        encode_book_limits(row.limits),
        row.low_stock_threshold,
        row.gift_book_id,
        *money,
    )
