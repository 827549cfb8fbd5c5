"""Pages of a book's codes, for lists and exports."""

from uuid import UUID

import msgspec
from asyncpg import Pool

from service.domain.code_change_requests import Status
from service.record.config.archived_books import whole_book
from service.record.pool import Database
from service.record.queries import query

FIRST = 2**63 - 1
"""A position after all codes."""
STEP = 1000
MAX_STEPS = 20
"""Reads for one filtered page; the next page continues after them."""


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
    """The newest codes of a book before a position. Raises Refusal `book_archived`."""
    async with whole_book(pool, workspace, book) as database:
        return [ListedCode(*row) for row in await database.fetch(query("listed_codes"), workspace, book, limit, before)]


async def page_codes(
    pool: Pool, workspace: int, book: int, limit: int, before: int, status: Status | None
) -> tuple[list[ListedCode], int | None]:
    """A page of codes before a position, and the position for the next page.

    A filtered page reads at most MAX_STEPS times STEP codes. It may have fewer than `limit` codes without being the
    last.
    """
    if status is None:
        rows = await listed_codes(pool, workspace, book, limit + 1, before)
        return rows[:limit], rows[limit - 1].position if len(rows) > limit else None
    codes: list[ListedCode] = []
    for _ in range(MAX_STEPS):
        rows = await listed_codes(pool, workspace, book, STEP, before)
        for row in rows:
            if row.status == status:
                if len(codes) == limit:
                    return codes, codes[-1].position
                codes.append(row)
        if len(rows) < STEP:
            return codes, None
        before = rows[-1].position
        if len(codes) == limit:
            break
    return codes, before
