"""Books, as the merchant made them."""

import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.access.actor import mask
from service.domain import book_requests, discounts
from service.domain.book_requests import CreateBook, PatchBook
from service.domain.configuration import BookRow
from service.domain.errors import Refusal
from service.domain.field_types import canonicalize_code
from service.domain.limits import BookLimits
from service.domain.times import to_datetime, to_ms
from service.record.config import job_rows
from service.record.config.audit_log import note
from service.record.config.limit_json import encode_limits, limits_from
from service.record.config.workspace_rows import check_gift_book, read_workspace
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Connection, Database
from service.record.queries import query


async def create_book(pool: Pool, workspace: int, partition: int, said: CreateBook) -> tuple[BookRow, UUID | None]:
    """The new book, and the job that generates its `totalCodes`."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        row = await insert_book(connection, workspace, partition, version, said)
        await note(connection, workspace, "book.created", row.book_id, after=told(row))
        if row.total_codes is None:
            return row, None
        job = await job_rows.create_generation(connection, row, row.total_codes, row.code_pattern, row.charset)
        return row, job.job_id


async def insert_book(
    connection: Connection, workspace: int, partition: int, version: int, said: CreateBook
) -> BookRow:
    """The new book alone, within a transaction that has its version."""
    row = book_requests.create_book_row(
        said,
        workspace=workspace,
        partition=partition,
        book=cast("int", await connection.fetchval(query("next_book"), workspace)),
        book_id=uuid7(),
        version=version,
        workspace_currency=(await read_workspace(connection, workspace)).currency,
        now_ms=time.time_ns() // 1_000_000,
    )
    if row.limits:
        await connection.execute(query("bump_keys_version"))
    await check_gift_book(connection, row.workspace, row.gift_book_id)
    await _write(connection, row)
    return row


async def patch_book(pool: Pool, workspace: int, partition: int, book_id: UUID, said: PatchBook) -> BookRow:
    """The book with the changes. Raises Refusal `book_not_found`, and what `changed_book` does."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        old = await read_book(connection, workspace, book_id)
        row = book_requests.update_book_row(old, said, version, time.time_ns() // 1_000_000)
        if said.limits is not msgspec.UNSET:
            await connection.execute(query("bump_keys_version"))  # whether books limit misses goes with the keys
        await check_gift_book(connection, row.workspace, row.gift_book_id)
        await _write(connection, row)
        await note(connection, workspace, "book.changed", book_id, told(old), told(row))
        return row


def told(row: BookRow) -> dict[str, Any]:
    """The book as the audit tells it: a single coupon's, where nobody named it, has the code in its name."""
    answer: dict[str, Any] = msgspec.to_builtins(book_requests.render_book(row))
    before, _, code = row.name.partition("Coupon ")
    if not before and canonicalize_code(code) == code:
        answer["name"] = f"Coupon {mask(code)}"
    return answer


async def read_book(database: Database, workspace: int, book_id: UUID) -> BookRow:
    """A book by its id. Raises Refusal `book_not_found`."""
    record = await database.fetchrow(query("read_book"), workspace, book_id)
    if record is None:
        raise Refusal("book_not_found")
    return row_of(record)


async def read_books(database: Database, workspace: int, books: Sequence[int]) -> list[BookRow]:
    """Those of the numbers that there are."""
    return [row_of(record) for record in await database.fetch(query("read_books"), workspace, list(books))]


async def page_books(
    database: Database,
    workspace: int,
    limit: int,
    before: int | None,
    status: str | None,
    tag: str | None,
    q: str | None,
) -> list[BookRow]:
    """Books with a number below `before`, newest first."""
    records = await database.fetch(query("page_books"), workspace, before, limit, status, tag, q)
    return [row_of(record) for record in records]


def row_of(record: Record | dict[str, Any]) -> BookRow:
    """The row as it was read, joined with its workspace."""
    found: dict[str, Any] = dict(record)
    for name in ("valid_from", "valid_until"):
        at = found.pop(name)
        found[f"{name}_ms"] = None if at is None else to_ms(at)
    for name in ("created", "updated"):
        found[f"{name}_ms"] = to_ms(found.pop(f"{name}_at"))
    for name in ("code_count", "single"):
        del found[name]
    discount = found["discount"]
    found["discount"] = None if discount is None else discounts.decode_discount(msgspec.json.decode(discount))
    found["metadata"] = msgspec.json.decode(found["metadata"])
    found["limits"] = limits_from(found["limits"], BookLimits)
    return BookRow(**found)


async def _write(connection: Connection, row: BookRow) -> None:
    await connection.execute(
        query("write_book"),
        row.workspace,
        row.book,
        row.book_id,
        row.version,
        row.name,
        row.description,
        row.status,
        None if row.valid_from_ms is None else to_datetime(row.valid_from_ms),
        None if row.valid_until_ms is None else to_datetime(row.valid_until_ms),
        row.max_redemptions_per_code,
        row.max_redemptions_per_user,
        row.max_redemptions,
        row.max_codes_per_user,
        row.require_assignment,
        row.require_lock,
        row.lock_seconds,
        row.max_lock_seconds,
        None if row.discount is None else msgspec.json.encode(discounts.encode_discount(row.discount)).decode(),
        row.code_pattern,
        row.charset,
        row.total_codes,
        row.low_stock_threshold,
        row.gift_book_id,
        row.keep_free,
        row.tags,
        msgspec.json.encode(row.metadata).decode(),
        row.created_by,
        encode_limits(row.limits),
        to_datetime(row.created_ms),
        to_datetime(row.updated_ms),
    )
