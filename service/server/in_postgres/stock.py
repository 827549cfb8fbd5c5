"""Books with `keepFree`, the codes that are ordered for them, and books that ran low. restocker.py calls this."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Pool

from service.engine.record.configuration_rows import book_row
from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres import job_rows
from service.server.in_postgres.job_rows import JobRow

NOTICES_OF_ONE = 200
"""Stock notices of a workspace that are read to find its books that ran low."""


class StockedBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book that must have so many free codes."""

    workspace: int
    book: int
    book_id: UUID
    version: int
    keep_free: int
    is_set_aside: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.workspace, self.book


class NoticedBook(NamedTuple):
    """A book that ran low, perhaps long ago."""

    workspace: int
    workspace_name: str
    book_id: UUID
    threshold: int


async def books_that_ran_low(database: Database, partition: int, limit: int) -> list[NoticedBook]:
    """Active books with a `lowStockThreshold`, of which new stock notices exist, in turns of workspaces; of each the
    last notice first."""
    args = (partition, limit, NOTICES_OF_ONE)
    return [NoticedBook(*row) for row in await database.fetch(query("books_that_ran_low"), *args)]


async def page_stocked_books(
    database: Database, partition: int, limit: int, after: Mapping[int, int], last_workspace: int = 0
) -> list[StockedBook]:
    """Books that are not archived, in turns of workspaces: the next ones after each one's last book, which `after` has
    by workspace; the first turn is of the workspace after `last_workspace`."""
    args = (partition, limit, last_workspace, list(after), list(after.values()))
    return [StockedBook(**row) for row in await database.fetch(query("page_stocked_books"), *args)]


async def order_missing(pool: Pool, book: StockedBook, codes: int, free: int) -> JobRow | None:
    """Create a job for the codes that the book lacks, if Redis counted `free` of its `codes`; None if none is lacking.

    None, too, if Redis lacks recorded codes, which may be free. The book stays locked from the check to the order,
    so that two workers don't order the same codes: earlier orders are still outstanding, or recorded and then not in
    the count. Raises Refusal `pattern_too_small`, `too_many_jobs`.
    """
    async with pool.acquire() as connection, connection.transaction():
        record = await connection.fetchrow(query("lock_stocked_book"), *book.key)
        if record is None or record["code_count"] != codes:
            return None
        outstanding = await connection.fetchval(query("read_outstanding_codes"), *book.key)
        missing = record["keep_free"] - free - outstanding
        if missing <= 0:
            return None
        row = book_row(record)
        return await job_rows.create_generation(connection, row, missing, row.code_pattern, row.charset)
