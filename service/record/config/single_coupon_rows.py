"""Single coupons: a book and its one code, made together."""

from typing import Any

from asyncpg import Pool

from service.access.actor import mask
from service.domain.code_patterns import DEFAULT_CHARSET, DEFAULT_PATTERN, generate_codes
from service.domain.configuration import BookRow, CodeRow
from service.domain.errors import Refusal
from service.domain.single_coupon_requests import SingleCoupon, make_book, make_code_line, rename_book_fields
from service.record.config import book_rows
from service.record.config.audit_log import note
from service.record.config.code_rows import insert_codes
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Connection, Database
from service.record.queries import query

MAX_DRAWS = 20


async def create_single(pool: Pool, workspace: int, partition: int, said: SingleCoupon) -> tuple[BookRow, CodeRow]:
    """The new book and its code. Raises Refusal `code_exists`, or `invalid` where the book would make no sense."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        # Nobody else adds codes until this ends: whoever does waits for the version.
        code = await _new_code(connection, workspace, said.code)
        with rename_book_fields():
            book = await book_rows.insert_book(connection, workspace, partition, version, make_book(said, code))
        await connection.execute(query("mark_single"), workspace, book.book, said.kind)
        lines = [make_code_line(said, code)]
        (made,) = await insert_codes(connection, workspace, partition, book.book, version, lines)
        await note(connection, workspace, "book.created", book.book_id, after=book_rows.told(book))
        await note(connection, workspace, "codes.added", book.book_id, after={"count": 1, "code": mask(code)})
        return book, made


async def page_active(database: Database, workspace: int, limit: int, before: int | None) -> list[tuple[BookRow, str]]:
    """Time-specific books that can be used now, with a number below `before`, newest first; each with its code."""
    found: list[tuple[BookRow, str]] = []
    for record in await database.fetch(query("page_active_time_specific"), workspace, before, limit):
        row: dict[str, Any] = dict(record)
        code = row.pop("code")
        found.append((book_rows.row_of(row), code))
    return found


async def _new_code(connection: Connection, workspace: int, wanted: str | None) -> str:
    """The code that is wanted, or a random one, which the workspace doesn't have yet. Raises Refusal `code_exists`."""
    for code in [wanted] if wanted else generate_codes(DEFAULT_PATTERN, DEFAULT_CHARSET, MAX_DRAWS):
        if not await _exists(connection, workspace, code):
            return code
    raise Refusal("code_exists")


async def _exists(connection: Connection, workspace: int, code: str) -> bool:
    return await connection.fetchrow(query("read_code"), workspace, code) is not None
