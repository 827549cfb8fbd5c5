"""Changes of many codes as one job: its order, its progress, and the result of each code."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.domain.code_change_requests import ChangeCodes, CodeChange, CodeFilter
from service.domain.configuration import BookRow, CodeRow, WorkspaceRow
from service.domain.errors import Refusal
from service.domain.times import from_ms, to_ms
from service.formats.change_results import (
    CodeResult,
    PendingCodes,
    Result,
    pack_pending,
    pack_results,
    unpack_pending,
    unpack_results,
)
from service.record.config import code_rows
from service.record.config.archived_books import check_book
from service.record.config.audit_log import write_audit
from service.record.config.code_pages import listed_codes
from service.record.config.job_rows import KEEP_DAYS, JobRow, LostLease, read_job
from service.record.config.stored_json import encode_json
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import Connection, Database, set_locally
from service.record.queries import query

MAX_UNFINISHED = 100
"""Changes of a workspace that have not ended."""
EXAMPLES = 5
COUNT_PAGE = 10_000

_SWITCHED = {"switchOff": False, "switchOn": True}
_AUDITED = {"paused": "job.paused", "running": "job.resumed", "cancelled": "job.cancelled"}


class TakenChange(NamedTuple):
    """A change that a worker has leased. Codes at the position `before` and above are done."""

    job_id: UUID
    workspace: int
    partition: int
    book: int
    change: CodeChange
    before: int
    pending: PendingCodes | None


class Progress(NamedTuple):
    """A page of codes that was worked on: how many, its lowest position, and the results of those that match."""

    examined: int
    last: int
    results: Sequence[CodeResult]


async def create_change(
    connection: Connection, book: BookRow, order: ChangeCodes, workspace: WorkspaceRow, now_ms: int
) -> UUID:
    """Create a job for the codes that the book has now, in the caller's transaction. Raises Refusal `too_many_jobs`,
    `book_archived`."""
    await check_book(connection, book.workspace, book.book)
    unfinished = await connection.fetchval(query("count_unfinished_changes"), book.workspace, MAX_UNFINISHED)
    if cast("int", unfinished) >= MAX_UNFINISHED:
        raise Refusal("too_many_jobs")
    expires_ms = now_ms + workspace.clock_offset_ms if order.action == "expire" else None
    if isinstance(order.expires_at, datetime):
        expires_ms = to_ms(order.expires_at)
    chosen = order.filter or CodeFilter()
    expires_at = None if expires_ms is None else from_ms(expires_ms)
    change = CodeChange(action=order.action, filter=chosen, expires_at=expires_at)
    named = order.users or chosen.codes
    values = (uuid7(), book.workspace, book.book, encode_json(change), None if named is None else len(named))
    record = cast("Record", await connection.fetchrow(query("insert_change"), *values))
    if order.users:
        await connection.execute(query("insert_change_users"), record["job_id"], book.workspace, order.users)
    shown = msgspec.to_builtins(_without_codes(change))
    ordered = {"jobId": record["job_id"], **shown, "requested": record["requested"]}
    await write_audit(connection, book.workspace, "codes.changeOrdered", book.book_id, after=ordered)
    return record["job_id"]


def _without_codes(change: CodeChange) -> CodeChange:
    """For the audit, which has no whole codes."""
    return msgspec.structs.replace(change, filter=msgspec.structs.replace(change.filter, codes=None))


async def set_status(
    pool: Pool, workspace: int, job_id: UUID, status: Literal["paused", "running", "cancelled"]
) -> JobRow:
    """Pause, resume or cancel a change; one that has this status stays as it is. Raises Refusal `job_not_found`,
    `job_ended`."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchrow(query("set_change_status"), workspace, job_id, status) is not None:
            await write_audit(connection, workspace, _AUDITED[status], job_id)
        job = await read_job(connection, workspace, job_id)
        if job.change is None:
            raise Refusal("job_ended", "Only a job that changes codes can be paused, resumed or cancelled.")
        if job.status != status:
            raise Refusal("job_ended", f"The job has ended, with the status {job.status}.")
        return job


async def count_matching(pool: Pool, book: BookRow, chosen: CodeFilter, seconds: float) -> tuple[int, bool, list[str]]:
    """How many codes match a filter, whether all codes were counted in this time, and the newest examples."""
    deadline, matching, examples = time.monotonic() + seconds, 0, list[str]()
    before = 2**63 - 1
    while True:
        page = await find_codes(pool, book.workspace, book.book, chosen, before, COUNT_PAGE)
        matching += len(page.codes)
        examples += page.codes[: EXAMPLES - len(examples)]
        if chosen.codes is not None or page.examined < COUNT_PAGE:
            return matching, True, examples
        if time.monotonic() > deadline:
            return matching, False, examples
        before = page.last


async def find_codes(
    pool: Pool, workspace: int, book: int, chosen: CodeFilter, before: int, limit: int
) -> PendingCodes:
    """Of the book's newest codes below a position, those that match; `last` is 0 if there are no more. Raises Refusal
    `book_archived`."""
    if chosen.codes is not None:
        found = await pool.fetch(query("find_codes_of_book"), workspace, book, chosen.codes)
        return PendingCodes(len(chosen.codes), 0, [record["code"] for record in found])
    args = (workspace, book, before, limit, chosen.prefix, chosen.created_from, chosen.created_until)
    page = cast("Record", await pool.fetchrow(query("page_codes_to_change"), *args))
    codes = page["codes"]
    if codes and chosen.status:
        listed = await listed_codes(pool, workspace, book, limit, before)
        statuses, matching = set(chosen.status), set(codes)
        codes = [row.code for row in listed if row.status in statuses and row.code in matching]
    return PendingCodes(page["examined"], page["last"] or 0, codes)


async def take_change(
    database: Database, partition: int, token: UUID, lease_s: int, served: Sequence[int] = ()
) -> TakenChange | None:
    """Lease a change of the partition that has no live lease. Of the workspaces in `served` the first is preferred, and
    before them every other one."""
    record = await database.fetchrow(query("take_change"), token, lease_s, partition, served)
    if record is None:
        return None
    pending = record["pending"]
    return TakenChange(
        record["job_id"],
        record["workspace"],
        partition,
        record["book"],
        msgspec.json.decode(record["parameters"], type=CodeChange),
        record["before"],
        None if pending is None else unpack_pending(pending),
    )


async def configure_codes(
    pool: Pool, job: TakenChange, token: UUID, page: PendingCodes, lease_s: int
) -> tuple[str, int, list[CodeRow]]:
    """Change a page's codes, and store results and progress, in one transaction; return the job's status, the version
    and the changed rows. Raises LostLease, and Refusal `unavailable` if the book first has to return to Redis, or the
    deletion of a user changes one of the rows at this moment."""
    async with pool.acquire() as connection, connection.transaction():
        await set_locally(connection, code_rows.BY_CODE)
        version = await bump_config_version(connection, job.partition, job.workspace)
        if await connection.fetchval(query("lock_retirement"), job.workspace, job.book):
            raise Refusal.temporary("unavailable")
        active = _SWITCHED.get(job.change.action)
        expires_at = None if job.change.expires_at is None else datetime.fromisoformat(job.change.expires_at)
        args = (job.workspace, job.book, page.codes, version, active, active is None, expires_at)
        rows, results = list[CodeRow](), list[CodeResult]()
        records = await connection.fetch(query("change_codes"), *args)
        if records and records[0]["changed"] != sum(record["is_changed"] for record in records):
            raise Refusal.temporary("unavailable")
        for record in records:
            old = code_rows.row_of(record)
            new = old
            if record["is_changed"]:
                changes = _changes(active, None if expires_at is None else to_ms(expires_at))
                new = msgspec.structs.replace(old, version=version, **changes)
                rows.append(new)
            result: Result = "changed" if record["is_changed"] else "unchanged"
            results.append(CodeResult(old.code, result, *(_show(row, active) for row in (old, new))))
        results += missing_codes(job, page)
        status = await store_progress(connection, job, token, Progress(page.examined, page.last, results), lease_s)
    return status, version, rows


def _changes(active: bool | None, expires_ms: int | None) -> dict[str, Any]:
    return {"expires_ms": expires_ms} if active is None else {"active": active}


def _show(row: CodeRow, active: bool | None) -> str:
    """The value that is changed: the switch, or the expiry."""
    if active is not None:
        return "active" if row.active else "inactive"
    return "" if row.expires_ms is None else from_ms(row.expires_ms)


def missing_codes(job: TakenChange, page: PendingCodes) -> list[CodeResult]:
    """The results of codes that the filter names and the book does not have."""
    known = set(page.codes)
    missing = [code for code in job.change.filter.codes or () if code not in known]
    return [CodeResult(code, "refused", reason="coupon_not_found") for code in missing]


async def store_progress(
    connection: Connection, job: TakenChange, token: UUID, progress: Progress, lease_s: int
) -> str:
    """Store a page's results and the job's progress, in the caller's transaction, and return the job's status. Raises
    LostLease."""
    results: list[Result] = [one.result for one in progress.results]
    status = await advance(connection, job, token, progress.last, progress.examined, results, lease_s)
    if progress.results:
        lines = pack_results(progress.results)
        await connection.execute(query("insert_change_results"), job.job_id, progress.last, lines)
    return status


async def advance(
    connection: Connection, job: TakenChange, token: UUID, last: int, done: int, results: Sequence[Result], lease_s: int
) -> str:
    """Add to the job's counts, move its cursor, and return its status. Raises LostLease."""
    counts = [results.count(kind) for kind in ("changed", "unchanged", "refused")]
    status = await connection.fetchval(query("advance_change"), job.job_id, token, lease_s, done, *counts, last)
    if status is None:
        raise LostLease(job.job_id)
    return status


async def keep_pending(database: Database, job_id: UUID, token: UUID, page: PendingCodes, lease_s: int) -> None:
    """Store the codes that scripts will decide next. Raises LostLease, also if the job was paused or cancelled."""
    if await database.fetchval(query("keep_pending"), job_id, token, lease_s, pack_pending(page)) is None:
        raise LostLease(job_id)


async def end_change(pool: Pool, job_id: UUID, token: UUID, errors: Sequence[str] = ()) -> None:
    """Mark the change as done, or failed with the errors. Raises LostLease, also if it was paused or cancelled."""
    status = "failed" if errors else "done"
    async with pool.acquire() as connection, connection.transaction():
        ended = await connection.fetchrow(query("end_change"), job_id, token, status, encode_json(errors))
        if ended is None:
            raise LostLease(job_id)
        counts = {name: ended[name] for name in ("changed", "unchanged", "refused")}
        after = {"jobId": job_id, "status": status, **counts}
        await write_audit(connection, ended["workspace"], "codes.changed", ended["book_id"], after=after)


async def release_change(database: Database, job_id: UUID, token: UUID) -> None:
    """Let another worker take the change at once."""
    await database.execute(query("release_change"), job_id, token)


async def read_results(database: Database, job_id: UUID) -> AsyncIterator[list[CodeResult]]:
    """The results of a change so far, the newest codes first, page by page."""
    before = 2**63 - 1
    while (page := await database.fetchrow(query("page_change_results"), job_id, before)) is not None:
        before = page["position"]
        yield unpack_results(page["lines"])


async def prune_changes(database: Database, limit: int) -> int:
    """Delete at most so many of the oldest ended changes; return their number."""
    return int((await database.execute(query("prune_changes"), KEEP_DAYS, limit)).split()[1])
