"""Jobs: work that takes longer than a request. A lease gives each to one worker at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
from asyncpg import Record
from uuid_utils.compat import uuid7

from service.domain.code_change_requests import CodeChange, CodeChangeProgress
from service.domain.code_patterns import SPARSITY, count_possible_codes
from service.domain.configuration import BookRow
from service.domain.errors import FieldError, Refusal
from service.record.config.archived_books import check_book
from service.record.config.audit_log import write_audit
from service.record.config.stored_json import encode_json
from service.record.partitions.comparisons import count_compared, is_reconciling
from service.record.pool import Connection, Database
from service.record.queries import query

KEEP_DAYS = 90
"""How long an ended job can be read."""
MAX_UNFINISHED = 10_000
"""Generations of a workspace that have not ended: an import of books orders one for each."""


class LostLease(Exception):
    """Another worker has the job."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that generates codes."""

    book: int
    code_pattern: str
    charset: str


class Reconciling(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that compares a workspace's Redis with the record."""

    repair: bool


Kind = Literal["generate", "reconcile"]
"""Kinds of the table `jobs`; service/record/config/code_changes.py has the kind `change`."""
_PARAMETERS: dict[str, type[Generation | Reconciling]] = {"generate": Generation, "reconcile": Reconciling}


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    job_id: UUID
    workspace: int
    partition: int
    kind: Kind | Literal["change"]
    parameters: Generation | Reconciling | None
    """None for a change."""
    change: CodeChangeProgress | None
    status: Literal["running", "paused", "done", "cancelled", "failed"]
    requested: int
    done: int
    errors: list[str]
    started_at: datetime
    finished_at: datetime | None


async def create_generation(connection: Connection, book: BookRow, count: int, pattern: str, charset: str) -> JobRow:
    """Create a job for so many codes, in the caller's transaction. Raises Refusal `pattern_too_small`,
    `book_archived`, `too_many_jobs`."""
    existing = cast("int", await connection.fetchval(query("lock_book_count"), book.workspace, book.book))
    await check_book(connection, book.workspace, book.book)
    outstanding = cast("int", await connection.fetchval(query("read_outstanding_codes"), book.workspace, book.book))
    unfinished = await connection.fetchval(query("count_unfinished_generations"), book.workspace, MAX_UNFINISHED)
    if cast("int", unfinished) >= MAX_UNFINISHED:
        raise Refusal("too_many_jobs")
    if (existing + outstanding + count) * SPARSITY > count_possible_codes(pattern, charset):
        reason = f"needs {SPARSITY:,} possibilities for each code that the book would then have"
        raise Refusal("pattern_too_small", errors=[FieldError("codePattern", reason)])
    parameters = Generation(book=book.book, code_pattern=pattern, charset=charset)
    job = await _insert(connection, book.workspace, "generate", parameters, count)
    ordered = {"jobId": job.job_id, "count": count, "codePattern": pattern, "charset": charset}
    await write_audit(connection, book.workspace, "codes.ordered", book.book_id, after=ordered)
    return job


async def create_reconciling(connection: Connection, workspace: int, repair: bool) -> JobRow:
    """Create a comparison job, in the caller's transaction. Raises Refusal `reconcile_running`."""
    await connection.execute(query("lock_reconciling"), workspace)
    if await is_reconciling(connection, workspace):
        raise Refusal("reconcile_running")
    size = (await count_compared(connection, [workspace]))[workspace]
    job = await _insert(connection, workspace, "reconcile", Reconciling(repair=repair), size)
    await write_audit(connection, workspace, "reconcile.ordered", job.job_id, after={"repair": repair})
    return job


async def _insert(
    connection: Connection, workspace: int, kind: Kind, parameters: Generation | Reconciling, size: int
) -> JobRow:
    values = (uuid7(), workspace, kind, encode_json(parameters), size)
    return job_of(cast("Record", await connection.fetchrow(query("insert_job"), *values)))


async def read_job(database: Database, workspace: int, job_id: UUID) -> JobRow:
    """Raises Refusal `job_not_found`."""
    record = await database.fetchrow(query("read_job"), workspace, job_id)
    if record is None:
        raise Refusal("job_not_found")
    return job_of(record)


async def page_jobs(database: Database, workspace: int, limit: int, before: UUID) -> list[JobRow]:
    """Jobs with ids below `before`, newest first."""
    return [job_of(record) for record in await database.fetch(query("page_jobs"), workspace, limit, before)]


async def take_job(
    database: Database, partition: int, token: UUID, lease_s: int, kind: Kind, served: Sequence[int] = ()
) -> JobRow | None:
    """Lease a job of the partition that has no live lease. Of the workspaces in `served` the first is preferred, and
    before them every other one; then a small job."""
    record = await database.fetchrow(query("take_job"), token, lease_s, partition, kind, served)
    return None if record is None else job_of(record)


async def advance_job(connection: Connection, job_id: UUID, token: UUID, done: int, lease_s: int) -> int:
    """Add to the job's progress and renew the lease; return the total. Raises LostLease."""
    total = await connection.fetchval(query("advance_job"), job_id, token, done, lease_s)
    if total is None:
        raise LostLease(job_id)
    return total


async def size_job(database: Database, job_id: UUID, token: UUID, done: int, total: int, lease_s: int) -> None:
    """Set the job's progress and size, and renew the lease. Raises LostLease."""
    if await database.fetchval(query("set_job_size"), job_id, token, total, done, lease_s) is None:
        raise LostLease(job_id)


async def finish_job(database: Database, job_id: UUID, token: UUID, errors: Sequence[str] = ()) -> None:
    """Mark the job as done, or failed with the errors. Raises LostLease."""
    status = "failed" if errors else "done"
    if await database.fetchval(query("finish_job"), job_id, token, status, encode_json(errors)) is None:
        raise LostLease(job_id)


async def release_job(database: Database, job_id: UUID, token: UUID) -> None:
    """Let another worker take the job at once."""
    await database.execute(query("release_job"), job_id, token)


async def prune_jobs(database: Database, limit: int) -> int:
    """Delete at most so many of the oldest ended jobs; return their number."""
    return int((await database.execute(query("prune_jobs"), KEEP_DAYS, limit)).split()[1])


def job_of(record: Record) -> JobRow:
    fields: dict[str, Any] = dict(record)
    counts = {name: fields.pop(name, None) for name in ("book_id", "changed", "unchanged", "refused")}
    parameters, fields["parameters"], fields["change"] = fields["parameters"], None, None
    if fields["kind"] == "change":
        ordered = msgspec.json.decode(parameters, type=CodeChange)
        fields["change"] = CodeChangeProgress(**msgspec.structs.asdict(ordered), **counts)
    else:
        fields["parameters"] = msgspec.json.decode(parameters, type=_PARAMETERS[fields["kind"]])
    fields["errors"] = msgspec.json.decode(fields["errors"])
    return JobRow(**fields)
