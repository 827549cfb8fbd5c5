"""Codes that were uploaded, generated or changed. The API, demo_data.py, quarantine_settler.py and code_changer.py call
this, and project the returned rows into Redis. single_coupon_rows.py and code_generator.py call `insert_codes` alone,
in transactions that have taken the version already. Each transaction takes the version first, so that other changes
of the partition wait. None in a code's fields means: no owner, no limit of its own, no end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from asyncpg import Pool, Record
from msgspec import structs

from service.engine.domain.configuration import CodeRow, DiscountRow
from service.engine.domain.errors import Refusal
from service.engine.domain.money import from_e4
from service.engine.domain.storage import codes_bytes
from service.engine.domain.times import from_ms, to_datetime, to_ms
from service.engine.record.actor import mask
from service.engine.record.archived_books import check_here
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import card_of, code_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import FRESH_PLAN, IN_ORDER, Connection, set_locally
from service.engine.record.queries import query
from service.server.in_postgres.change_results import CodeResult, PendingCodes, Result
from service.server.in_postgres.code_pages import find_code, missing_codes
from service.server.in_postgres.job_rows import JobRow, store_page
from service.server.in_postgres.storage_rows import check_storage
from service.server.requests.code_change_requests import CodeChange
from service.server.requests.code_requests import CodeLine

BY_CODE = FRESH_PLAN | IN_ORDER
"""For queries that look up a list of codes."""
_SWITCHED = {"switchOff": False, "switchOn": True}


async def add_codes(
    pool: Pool, workspace: int, partition: int, book: int, lines: Sequence[CodeLine], part: dict[str, str] | None = None
) -> tuple[int, list[CodeRow]]:
    """Add codes; return the change's version and the new codes among them. The audit shows a call whose part is
    {"upload": id} and later ones with {"partOf": id} as one entry. Raises Refusal `unavailable` if the
    book first has to return to Redis."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        rows = await insert_codes(connection, workspace, partition, book, version, lines)
        if rows:
            read = cast("Record", await connection.fetchrow(query("read_book_id"), workspace, book))
            after = {"count": len(rows), **(part or {})}
            if card := card_of(read["discount"]):
                amount_e4 = sum(row.amount_e4 or 0 for row in rows)
                after |= {"amount": from_e4(amount_e4, card.digits), "currency": card.currency}
            await write_audit(connection, workspace, "codes.added", read["book_id"], after=after)
        return version, rows


async def insert_codes(
    connection: Connection, workspace: int, partition: int, book: int, version: int, lines: Sequence[CodeLine]
) -> list[CodeRow]:
    """Like add_codes, in a transaction that has its version; of a duplicate code, the first line counts. Raises Refusal
    `storage_full`, and `unavailable` if the lines were read for a book with or without cards, and it has changed."""
    codes, owners, expiries_ms, limits, amounts_e4 = zip(*lines, strict=True)
    await check_storage(connection, workspace, codes_bytes(len(codes), len(owners) - owners.count(None)))
    expiries = [None if ms is None else to_datetime(ms) for ms in expiries_ms]
    values = (workspace, book, partition, version, codes, owners, expiries, limits, amounts_e4)
    added = cast("Record", await connection.fetchrow(query("insert_codes"), *values))
    card = card_of(added["card"])
    _check_terms(card, limits, amounts_e4)
    if added["codes"] is not None:  # else all were new
        by_code = {line.code: line for line in reversed(lines)}
        lines = [by_code[code] for code in added["codes"]]
    if await connection.fetchval(query("add_book_codes"), workspace, book, len(lines)) is None:
        await check_here(connection, workspace, book)
        raise Refusal("book_not_found")
    created_ms = to_ms(added["created_at"])
    rows = [
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
            amount_e4=card.value_e4 if card and amount_e4 is None else amount_e4,
        )
        for code, owner_id, expires_ms, max_redemptions, amount_e4 in lines
    ]
    if issued_e4 := sum(row.amount_e4 or 0 for row in rows):
        await connection.execute(query("report_issued"), workspace, book, issued_e4)
    return rows


def _check_terms(card: DiscountRow | None, limits: Sequence[int | None], amounts_e4: Sequence[int | None]) -> None:
    """Raise Refusal if a book without cards gets amounts, or cards a limit, or an amount that their currency lacks. Its
    discount may change after an upload was read."""
    if card is None:
        fits = not any(amounts_e4)
    else:
        unit = 10 ** (4 - card.digits)
        fits = not any(limits) and not any(amount_e4 and amount_e4 % unit for amount_e4 in amounts_e4)
    if not fits:
        raise Refusal.temporary("unavailable", "The book's discount has changed meanwhile; send the codes again.")


async def find_known_codes(pool: Pool, workspace: int, codes: Sequence[str]) -> set[str]:
    """Those of these codes that the workspace has."""
    async with pool.acquire() as connection, connection.transaction():
        await set_locally(connection, BY_CODE)
        return {record["code"] for record in await connection.fetch(query("find_known_codes"), workspace, codes)}


async def patch_coupon(pool: Pool, workspace: int, partition: int, code: str, changes: dict[str, Any]) -> CodeRow:
    """Change `active` or `expires_ms`. Raises Refusal `coupon_not_found`, and as add_codes."""
    place = await find_code(pool, workspace, code)
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, partition)
        record = await connection.fetchrow(query("read_code"), workspace, code)
        if place is None or record is None:
            raise Refusal("coupon_not_found")
        old = code_row(record)
        await check_here(connection, workspace, old.book)
        row = structs.replace(old, version=version, **changes)
        expires_at = None if row.expires_ms is None else to_datetime(row.expires_ms)
        await connection.execute(query("update_code"), workspace, code, version, row.active, expires_at)
        subject = f"{place.book_id} {mask(code)}"
        await write_audit(connection, workspace, "coupon.changed", subject, _to_audit(old), _to_audit(row))
        return row


def _to_audit(row: CodeRow) -> dict[str, Any]:
    expires_at = None if row.expires_ms is None else from_ms(row.expires_ms)
    return {"status": "active" if row.active else "inactive", "expiresAt": expires_at}


async def configure_codes(pool: Pool, job: JobRow, fence: int, page: PendingCodes) -> tuple[str, int, list[CodeRow]]:
    """Change a page's codes, and store results and progress, in one transaction; return the job's status, the version
    and the changed rows. Raises JobStopped, and Refusal `book_archived`, or `unavailable` if the deletion of a user
    changes one of the rows at this moment."""
    change = cast("CodeChange", job.parameters)
    active = _SWITCHED.get(change.action)
    expires_at = None if change.expires_at is None else datetime.fromisoformat(change.expires_at)
    if active is None:
        changes: dict[str, Any] = {"expires_ms": None if expires_at is None else to_ms(expires_at)}
    else:
        changes = {"active": active}
    async with pool.acquire() as connection, connection.transaction():
        await set_locally(connection, BY_CODE)
        version = await bump_config_version(connection, job.partition)
        await check_here(connection, job.workspace, cast("int", job.book))
        args = (job.workspace, job.book, page.codes, version, active, active is None, expires_at)
        rows, results = list[CodeRow](), list[CodeResult]()
        records = await connection.fetch(query("change_codes"), *args)
        if records and records[0]["changed"] != sum(record["is_changed"] for record in records):
            raise Refusal.temporary("unavailable")
        for record in records:
            old = new = code_row(record)
            if record["is_changed"]:
                new = structs.replace(old, version=version, **changes)
                rows.append(new)
            result: Result = "changed" if record["is_changed"] else "unchanged"
            results.append(CodeResult(old.code, result, *(_show(row, active) for row in (old, new))))
        status = await store_page(connection, job, fence, page, [*results, *missing_codes(change.filter, page)])
    return status, version, rows


def _show(row: CodeRow, active: bool | None) -> str:
    """The value that is changed: the switch, or the expiry."""
    if active is not None:
        return "active" if row.active else "inactive"
    return "" if row.expires_ms is None else from_ms(row.expires_ms)
