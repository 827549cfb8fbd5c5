"""Codes, as the merchant uploaded, generated or switched them."""

from collections.abc import Sequence
from typing import Any, cast

from asyncpg import Pool, Record
from msgspec import structs

from service.access.actor import mask
from service.domain.code_requests import CodeLine
from service.domain.configuration import CodeRow
from service.domain.errors import Refusal
from service.domain.times import from_ms, to_datetime, to_ms
from service.record.config.audit_log import note
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Connection, Database
from service.record.queries import query


async def add_codes(
    pool: Pool, workspace: int, partition: int, book: int, lines: Sequence[CodeLine]
) -> tuple[int, list[CodeRow]]:
    """The version of this change, and what is new of these codes (at least one); none where the workspace has all."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        rows = await insert_codes(connection, workspace, partition, book, version, lines)
        if rows:
            book_id = await connection.fetchval(query("read_book_id"), workspace, book)
            await note(connection, workspace, "codes.added", book_id, after={"count": len(rows)})
        return version, rows


async def insert_codes(
    connection: Connection, workspace: int, partition: int, book: int, version: int, lines: Sequence[CodeLine]
) -> list[CodeRow]:
    """As add_codes, within a transaction that has its version; of a code that is there twice, the first line."""
    codes, owners, expiries_ms, limits = zip(*lines, strict=True)
    expiries = [None if ms is None else to_datetime(ms) for ms in expiries_ms]
    added = cast(
        "Record",
        await connection.fetchrow(
            query("insert_codes"), workspace, book, partition, version, codes, owners, expiries, limits
        ),
    )
    if added["codes"] is not None:
        by_code = {line.code: line for line in reversed(lines)}
        lines = [by_code[code] for code in added["codes"]]
    if await connection.fetchval(query("add_book_codes"), workspace, book, len(lines)) is None:
        raise Refusal("book_not_found")
    created_ms = to_ms(added["created_at"])
    return [
        CodeRow(
            workspace=workspace,
            partition=partition,
            book=book,
            version=version,
            code=code,
            owner_id=owner_id,
            max_redemptions=max_redemptions,
            expires_ms=expires_ms,
            active=True,
            created_ms=created_ms,
        )
        for code, owner_id, expires_ms, max_redemptions in lines
    ]


async def count_known(database: Database, workspace: int, codes: Sequence[str]) -> int:
    """How many of these codes, each of them once, the workspace has."""
    return cast("int", await database.fetchval(query("count_known_codes"), workspace, codes))


async def patch_coupon(pool: Pool, workspace: int, partition: int, code: str, changes: dict[str, Any]) -> CodeRow:
    """The code with `active` or `expires_ms` changed. Raises Refusal `coupon_not_found`."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        record = await connection.fetchrow(query("read_code"), workspace, code)
        if record is None:
            raise Refusal("coupon_not_found")
        old = row_of(record)
        row = structs.replace(old, version=version, **changes)
        expires_at = None if row.expires_ms is None else to_datetime(row.expires_ms)
        await connection.execute(query("update_code"), workspace, code, version, row.active, expires_at)
        book_id = await connection.fetchval(query("read_book_id"), workspace, row.book)
        await note(connection, workspace, "coupon.changed", f"{book_id} {mask(code)}", _told(old), _told(row))
        return row


def _told(row: CodeRow) -> dict[str, Any]:
    expires_at = None if row.expires_ms is None else from_ms(row.expires_ms)
    return {"status": "active" if row.active else "inactive", "expiresAt": expires_at}


def row_of(record: Record | dict[str, Any]) -> CodeRow:
    """The row as it was read."""
    expires_at = record["expires_at"]
    return CodeRow(
        workspace=record["workspace"],
        partition=record["partition"],
        book=record["book"],
        version=record["version"],
        code=record["code"],
        owner_id=record["owner_id"],
        max_redemptions=record["max_redemptions"],
        expires_ms=None if expires_at is None else to_ms(expires_at),
        active=record["active"],
        created_ms=to_ms(record["created_at"]),
    )
