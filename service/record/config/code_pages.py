"""A book's codes as lists and exports show them."""

from typing import Literal

import msgspec

from service.record.pool import Database
from service.record.queries import query

Status = Literal["redeemed", "exhausted", "inactive", "expired", "assigned", "available"]
"""A code's status beneath a lock."""

FIRST = 2**63 - 1
"""The place before which all codes are."""
STEP = 1000
MAX_STEPS = 20
"""Steps of a page of which a filter leaves little; the next page goes on from there."""


class ListedCode(msgspec.Struct, frozen=True):
    """A code with what stands of it; `position` is its place in the order in which codes were added."""

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


async def listed_codes(database: Database, workspace: int, book: int, limit: int, before: int) -> list[ListedCode]:
    """The newest codes of a book below a place."""
    return [ListedCode(*row) for row in await database.fetch(query("listed_codes"), workspace, book, limit, before)]


async def page_codes(
    database: Database, workspace: int, book: int, limit: int, before: int, status: Status | None
) -> tuple[list[ListedCode], int | None]:
    """A page of codes of this status below a place, and the place below which the next one goes on.

    A filtered page reads at most MAX_STEPS times STEP codes; it may hold fewer than `limit`, and still not be the last.
    """
    if status is None:
        rows = await listed_codes(database, workspace, book, limit + 1, before)
        return rows[:limit], rows[limit - 1].position if len(rows) > limit else None
    found: list[ListedCode] = []
    for _ in range(MAX_STEPS):
        rows = await listed_codes(database, workspace, book, STEP, before)
        for row in rows:
            if row.status == status:
                if len(found) == limit:
                    return found, found[-1].position
                found.append(row)
        if len(rows) < STEP:
            return found, None
        before = rows[-1].position
        if len(found) == limit:
            break
    return found, before
