"""Books and their settings. books.py, flash_sale.py, demo_data.py and single_coupon_rows.py change books; many read
them. Each change takes the next version first: its row lock lets changes of a partition run one after another.
`discount`, `metadata`, `limits`, `budgets` and `use_limits` are stored as JSON. A switch or a count belongs in BookRow;
another column also in `_WRITTEN` (in the order of `write_book`'s parameters), or in `_ELSEWHERE`."""

import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.engine.domain import discounts
from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import Refusal, invalid
from service.engine.domain.field_types import canonicalize_code
from service.engine.domain.storage import BOOK_BYTES
from service.engine.domain.times import to_datetime
from service.engine.record.actor import mask
from service.engine.record.archived_books import check_here
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import book_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import Connection, Database, bounded_read
from service.engine.record.queries import SETTINGS, query
from service.engine.record.stored_json import encode_json
from service.server.in_postgres import job_rows
from service.server.in_postgres.storage_rows import check_storage
from service.server.in_postgres.workspace_rows import check_gift_book, read_workspace
from service.server.requests import book_requests
from service.server.requests.book_requests import CreateBook, PatchBook

_WRITTEN = (
    """workspace book book_id version name description status valid_from valid_until discount code_pattern charset
    total_codes gift_book_id tags metadata created_by limits created updated locks_ended own_currency budgets use_limits
    counted_from is_counted""".split()
    + SETTINGS
)
"""The fields in the order of the query's parameters."""


async def create_book(pool: Pool, workspace: int, partition: int, request: CreateBook) -> tuple[BookRow, UUID | None]:
    """Create a book; return it and the job that generates its `totalCodes`."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        row = await insert_book(connection, workspace, partition, version, request)
        await write_audit(connection, workspace, "book.created", row.book_id, after=to_audit(row))
        if row.total_codes is None:
            return row, None
        job = await job_rows.create_generation(connection, row, row.total_codes, row.code_pattern, row.charset)
        return row, job.job_id


async def insert_book(
    connection: Connection, workspace: int, partition: int, version: int, request: CreateBook
) -> BookRow:
    """Create only the book, in a transaction that has its version. Raises Refusal `storage_full`."""
    await check_storage(connection, workspace, BOOK_BYTES)
    row = book_requests.create_book_row(
        request,
        workspace=workspace,
        partition=partition,
        book=cast("int", await connection.fetchval(query("next_book"), workspace)),
        book_id=uuid7(),
        version=version,
        workspace_currency=(await read_workspace(connection, workspace)).currency,
        now_ms=time.time_ns() // 1_000_000,
    )
    if row.limits:
        await connection.execute(query("bump_keys_version"), workspace)
    await check_gift_book(connection, row.workspace, row.gift_book_id)
    await _write(connection, row)
    return row


async def patch_book(pool: Pool, workspace: int, partition: int, book_id: UUID, request: PatchBook) -> BookRow:
    """Change the book. Raises Refusal `book_not_found`, `book_archived`, and those of `update_book_row`."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        old = await read_book(connection, workspace, book_id)
        await check_here(connection, workspace, old.book)
        row = book_requests.update_book_row(old, request, version, time.time_ns() // 1_000_000)
        await _check_cards(connection, old, row)
        if request.limits is not msgspec.UNSET:
            # Keys are read with whether books limit misses.
            await connection.execute(query("bump_keys_version"), workspace)
        await check_gift_book(connection, row.workspace, row.gift_book_id)
        await _write(connection, row)
        before, after = to_audit(old), to_audit(row)
        if request.end_locks:
            before["endLocks"], after["endLocks"] = False, True
        await write_audit(connection, workspace, "book.changed", book_id, before, after)
        return row


async def _check_cards(connection: Connection, old: BookRow, new: BookRow) -> None:
    """Raise Refusal `invalid` if a book that has codes, or will have some, becomes or ceases to be one of cards, or its
    cards get another currency."""
    if (old.card and old.card.currency) == (new.card and new.card.currency):
        return
    of_book = (new.workspace, new.book)
    record = cast("Record", await connection.fetchrow(query("lock_book_count"), *of_book))
    if record["code_count"] or await connection.fetchval(query("read_outstanding_codes"), *of_book):
        if old.card and new.card:
            raise invalid(
                "discount.currency", f"is fixed, since the book has cards in {old.card.currency}: create a new book"
            )
        change = "cease to be" if old.card else "become"
        raise invalid("discount.type", f"can't {change} `balance`, since the book has codes: create a new book")


def to_audit(row: BookRow) -> dict[str, Any]:
    """The book for the audit, without the code in the default name of a single coupon."""
    answer: dict[str, Any] = msgspec.to_builtins(book_requests.render_book(row))
    answer["name"] = mask_name(row.name)
    return answer


def mask_name(name: str) -> str:
    """A book's name, without the code in the default name of a single coupon."""
    before, _, code = name.partition("Coupon ")
    return f"Coupon {mask(code)}" if not before and canonicalize_code(code) == code else name


async def read_book(database: Database, workspace: int, book_id: UUID) -> BookRow:
    """A book by its id. Raises Refusal `book_not_found`."""
    record = await database.fetchrow(query("read_book"), workspace, book_id)
    if record is None:
        raise Refusal("book_not_found")
    return book_row(record)


async def read_books(database: Database, workspace: int, books: Sequence[int]) -> list[BookRow]:
    """Those of these books that exist."""
    return [book_row(record) for record in await database.fetch(query("read_books"), workspace, list(books))]


async def page_books(
    pool: Pool,
    workspace: int,
    limit: int,
    before: int | None = None,
    status: str | None = None,
    tag: str | None = None,
    q: str | None = None,
) -> list[BookRow]:
    """Books with a number below `before`, newest first; those that match what is given. Raises Refusal `invalid` if a
    search takes too long."""
    values = (workspace, before, limit, status, tag, q)
    if q is None:
        records = await pool.fetch(query("page_books"), *values)
    else:
        async with bounded_read(pool, "q", "list the books by `tag` instead") as connection:
            records = await connection.fetch(query("page_books"), *values)
    return [book_row(record) for record in records]


async def _write(connection: Connection, row: BookRow) -> None:
    fields = msgspec.structs.asdict(row)
    for name in ("valid_from", "valid_until", "created", "updated"):
        at_ms = fields.pop(f"{name}_ms")
        fields[name] = None if at_ms is None else to_datetime(at_ms)
    discount = None if row.discount is None else discounts.encode_discount(row.discount)
    fields |= {
        "discount": encode_json(discount),
        "metadata": encode_json(row.metadata),
        "limits": encode_json(row.limits),
        "budgets": encode_json(row.budgets),
        "use_limits": encode_json(row.use_limits),
    }
    await connection.execute(query("write_book"), *(fields[name] for name in _WRITTEN))
