"""Single coupons: a book and its one code, created together in one transaction. single_coupons.py calls this.
`page_active` lists time-specific coupons alone; `before` is a book's number, which is in clients' cursors."""

from asyncpg import Pool

from service.engine.domain.configuration import BookRow, CodeRow
from service.engine.domain.errors import Refusal
from service.engine.record.actor import mask
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import book_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query
from service.server.in_postgres import book_rows
from service.server.in_postgres.code_rows import insert_codes
from service.server.requests.code_patterns import DEFAULT_CHARSET, DEFAULT_PATTERN, generate_codes
from service.server.requests.single_coupon_requests import SingleCoupon, make_book, make_code_line, rename_book_fields

MAX_DRAWS = 20


async def create_single(pool: Pool, workspace: int, partition: int, request: SingleCoupon) -> tuple[BookRow, CodeRow]:
    """Create a book and its code. Raises Refusal `code_exists`, or `invalid`, which names a field of the flat request,
    if the book is contradictory."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        # No other transaction adds codes until this ends: it waits for the version.
        code = await _new_code(connection, workspace, request.code)
        with rename_book_fields():
            book = await book_rows.insert_book(connection, workspace, partition, version, make_book(request, code))
        await connection.execute(query("mark_single"), workspace, book.book, request.kind)
        lines = [make_code_line(request, code)]
        (made,) = await insert_codes(connection, workspace, partition, book.book, version, lines)
        after = {**book_rows.to_audit(book), "code": mask(code)}
        await write_audit(connection, workspace, "book.created", book.book_id, after=after)
        return book, made


async def page_active(database: Database, workspace: int, limit: int, before: int | None) -> list[tuple[BookRow, str]]:
    """Time-specific books that are usable now, with a number below `before`, newest first; each with its code."""
    records = await database.fetch(query("page_active_time_specific"), workspace, before, limit)
    return [(book_row(record), record["code"]) for record in records]


async def _new_code(connection: Connection, workspace: int, wanted: str | None) -> str:
    """The wanted code, or a random one, if the workspace doesn't have it yet. Raises Refusal `code_exists`."""
    for code in [wanted] if wanted else generate_codes(DEFAULT_PATTERN, DEFAULT_CHARSET, MAX_DRAWS):
        if await connection.fetchrow(query("read_code"), workspace, code) is None:
            return code
    raise Refusal("code_exists")
