"""Read codes: alone, or a book's by page, for the API's lists and exports, the console, and jobs that change many.
Structs are made from rows by the order of the query's columns; codes.py copies ListedCode's fields by name. A position
is in clients' cursors."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.engine.domain.money import CURRENCY_DIGITS, from_e4
from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.change_results import CodeResult, PendingCodes
from service.server.requests.code_change_requests import CodeFilter, Status

FIRST = 2**63 - 1
"""A position after all codes: the first page is before it."""
STEP = 250
"""Codes that a filtered page reads in a turn: some milliseconds of Postgres, half a millisecond of the event loop."""
FILTER_S = 0.5
"""How long a filtered page reads, waits for its turns included; the next page continues after it."""
Turn = Callable[[], AbstractAsyncContextManager[None]]
COUNTED, EXAMPLES = 10_000, 5
"""Codes of a page that count_matching reads, and codes that it names."""


class ListedCode(msgspec.Struct, frozen=True):
    """A code with its assignment and redemptions; `position` orders codes by creation."""

    position: int
    code: str
    status: Status
    user_id: str | None
    assigned_at_ms: int | None
    redemptions: int
    max_redemptions: int | None
    expires_at_ms: int | None
    redeemed_by: str | None
    redeemed_at_ms: int | None
    amount_e4: int | None
    """What a card was issued with."""
    currency: str | None

    @property
    def amount(self) -> str | None:
        """What a card was issued with, in its currency's digits; None for codes of other books."""
        return None if self.amount_e4 is None else from_e4(self.amount_e4, CURRENCY_DIGITS[self.currency or ""])


class CodePlace(msgspec.Struct, frozen=True):
    """A code's book and position, and when it was created, in ms since 1970."""

    book: int
    book_id: UUID
    position: int
    created_at_ms: int


async def find_code(database: Database, workspace: int, code: str) -> CodePlace | None:
    """Where a code is; None if the workspace does not have it."""
    row = await database.fetchrow(query("place_of_code"), workspace, code)
    return None if row is None else CodePlace(*row)


async def listed_codes(pool: Pool, workspace: int, book: int, limit: int, before: int) -> list[ListedCode]:
    """The newest codes of a book before a position."""
    return [ListedCode(*row) for row in await pool.fetch(query("listed_codes"), workspace, book, limit, before)]


async def page_codes(
    pool: Pool, workspace: int, book: int, limit: int, before: int
) -> tuple[list[ListedCode], int | None]:
    """A page of codes before a position, and the position for the next page."""
    rows = await listed_codes(pool, workspace, book, limit + 1, before)
    return rows[:limit], rows[limit - 1].position if len(rows) > limit else None


async def filter_codes(
    pool: Pool, workspace: int, book: int, limit: int, before: int, status: Status, turn: Turn
) -> tuple[list[ListedCode], int | None]:
    """A page of codes with this status; it may have fewer than `limit` without being the last. Each STEP is
    read in a turn, so that others read in between; after FILTER_S none follows."""
    codes: list[ListedCode] = []
    deadline = time.monotonic() + FILTER_S
    while True:
        async with turn():
            rows = await listed_codes(pool, workspace, book, STEP, before)
        for row in rows:
            if row.status == status:
                if len(codes) == limit:
                    return codes, codes[-1].position
                codes.append(row)
        if len(rows) < STEP:
            return codes, None
        before = rows[-1].position
        if len(codes) == limit or time.monotonic() > deadline:
            return codes, before


async def find_codes(
    pool: Pool, workspace: int, book: int, chosen: CodeFilter, before: int, limit: int
) -> PendingCodes:
    """The book's newest codes below a position that match; `last` is 0 at the end."""
    if chosen.codes is not None:
        known = await pool.fetch(query("find_codes_of_book"), workspace, book, chosen.codes)
        return PendingCodes(len(chosen.codes), 0, [record["code"] for record in known])
    args = (workspace, book, before, limit, chosen.prefix, chosen.created_from, chosen.created_until)
    page = cast("Record", await pool.fetchrow(query("page_codes_to_change"), *args))
    codes = page["codes"]
    if codes and chosen.status:
        listed = await listed_codes(pool, workspace, book, limit, before)
        statuses, matching = set(chosen.status), set(codes)
        codes = [row.code for row in listed if row.status in statuses and row.code in matching]
    return PendingCodes(page["examined"], page["last"] or 0, codes)


def missing_codes(chosen: CodeFilter, page: PendingCodes) -> list[CodeResult]:
    """The results of codes that the filter names and the book does not have."""
    known = set(page.codes)
    missing = [code for code in chosen.codes or () if code not in known]
    return [CodeResult(code, "refused", reason="coupon_not_found") for code in missing]


async def count_matching(
    pool: Pool, workspace: int, book: int, chosen: CodeFilter, seconds: float
) -> tuple[int, bool, list[str]]:
    """How many codes match a filter, whether all codes were counted in this time, and the newest examples."""
    deadline, matching, examples = time.monotonic() + seconds, 0, list[str]()
    before = FIRST
    while True:
        page = await find_codes(pool, workspace, book, chosen, before, COUNTED)
        matching += len(page.codes)
        examples += page.codes[: EXAMPLES - len(examples)]
        if chosen.codes is not None or page.examined < COUNTED:
            return matching, True, examples
        if time.monotonic() > deadline:
            return matching, False, examples
        before = page.last
