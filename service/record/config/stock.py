"""Books whose stock of free codes is kept up (`keepFree`), and what is ordered for them."""

from uuid import UUID

import msgspec
from asyncpg import Pool

from service.record.config import book_rows, job_rows
from service.record.config.job_rows import JobRow
from service.record.pool import Database
from service.record.queries import query


class KeptBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book that shall have so many free codes."""

    workspace: int
    book: int
    book_id: UUID
    version: int
    keep_free: int

    @property
    def key(self) -> tuple[int, int]:
        """Its workspace's number and its own."""
        return self.workspace, self.book


async def page_kept_books(database: Database, partition: int, after: tuple[int, int], limit: int) -> list[KeptBook]:
    """Those that aren't archived, in the order of their keys, after one."""
    return [KeptBook(**row) for row in await database.fetch(query("page_kept_books"), partition, *after, limit)]


async def order_missing(pool: Pool, kept: KeptBook, codes: int, free: int) -> JobRow | None:
    """A job for what the book lacks, where Redis counted `free` of its `codes`; None where nothing is lacking.

    None, too, where Redis hasn't all codes that are recorded by now: those on their way may be free. The book stays
    locked from the look at them to the order, so that one lack is ordered once, whoever looks and when: what was
    ordered before is either still coming, or recorded, and then missing in a count that doesn't have it.
    Raises Refusal `pattern_too_small`.
    """
    async with pool.acquire() as connection, connection.transaction():
        record = await connection.fetchrow(query("lock_kept_book"), *kept.key)
        if record is None or record["code_count"] != codes:
            return None
        coming = await connection.fetchval(query("read_outstanding_codes"), *kept.key)
        missing = record["keep_free"] - free - coming
        if missing <= 0:
            return None
        book = book_rows.row_of(record)
        return await job_rows.create_generation(connection, book, missing, book.code_pattern, book.charset)
