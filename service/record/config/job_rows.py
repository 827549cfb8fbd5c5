"""Jobs: what takes longer than a request. A lease keeps each with one worker at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
from asyncpg import Record
from uuid_utils.compat import uuid7

from service.domain.code_patterns import SPARSITY, count_possible_codes
from service.domain.configuration import BookRow
from service.domain.errors import FieldError, Refusal
from service.record.config.audit_log import note
from service.record.partitions.comparisons import count_compared, is_reconciling
from service.record.pool import Connection, Database
from service.record.queries import query

KEEP_DAYS = 90
"""How long it can be read how a job ended."""


class LostLease(Exception):
    """Another worker has the job now."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that generates codes."""

    book: int
    code_pattern: str
    charset: str


class Reconciling(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that compares a workspace's Redis with the record."""

    repair: bool


Kind = Literal["generate", "reconcile"]
_PARAMETERS: dict[str, type[Generation | Reconciling]] = {"generate": Generation, "reconcile": Reconciling}


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job; `partition` is its workspace's."""

    job_id: UUID
    workspace: int
    partition: int
    kind: Kind
    parameters: Generation | Reconciling
    status: Literal["running", "done", "failed"]
    requested: int
    done: int
    errors: list[str]
    started_at: datetime
    finished_at: datetime | None


async def create_generation(connection: Connection, book: BookRow, count: int, pattern: str, charset: str) -> JobRow:
    """A job for so many codes, in the caller's transaction. Raises Refusal `pattern_too_small`."""
    there = cast("int", await connection.fetchval(query("lock_book_count"), book.workspace, book.book))
    coming = cast("int", await connection.fetchval(query("read_outstanding_codes"), book.workspace, book.book))
    if (there + coming + count) * SPARSITY > count_possible_codes(pattern, charset):
        reason = f"needs {SPARSITY:,} possibilities for each code that the book would then have"
        raise Refusal("pattern_too_small", errors=[FieldError("codePattern", reason)])
    parameters = msgspec.json.encode(Generation(book=book.book, code_pattern=pattern, charset=charset)).decode()
    values = (uuid7(), book.workspace, "generate", parameters, count)
    job = job_of(cast("Record", await connection.fetchrow(query("insert_job"), *values)))
    ordered = {"jobId": job.job_id, "count": count, "codePattern": pattern, "charset": charset}
    await note(connection, book.workspace, "codes.ordered", book.book_id, after=ordered)
    return job


async def create_reconciling(connection: Connection, workspace: int, repair: bool) -> JobRow:
    """A job that compares, in the caller's transaction. Raises Refusal `reconcile_running`."""
    await connection.execute(query("lock_reconciling"), workspace)
    if await is_reconciling(connection, workspace):
        raise Refusal("reconcile_running")
    parameters = msgspec.json.encode(Reconciling(repair=repair)).decode()
    size = (await count_compared(connection, [workspace]))[workspace]
    values = (uuid7(), workspace, "reconcile", parameters, size)
    job = job_of(cast("Record", await connection.fetchrow(query("insert_job"), *values)))
    await note(connection, workspace, "reconcile.ordered", job.job_id, after={"repair": repair})
    return job


async def read_job(database: Database, workspace: int, job_id: UUID) -> JobRow:
    """A job of a workspace. Raises Refusal `job_not_found`."""
    record = await database.fetchrow(query("read_job"), workspace, job_id)
    if record is None:
        raise Refusal("job_not_found")
    return job_of(record)


async def page_jobs(database: Database, workspace: int, limit: int, before: UUID) -> list[JobRow]:
    """A workspace's jobs with ids below this one, newest first."""
    return [job_of(record) for record in await database.fetch(query("page_jobs"), workspace, limit, before)]


async def take_job(database: Database, partition: int, token: UUID, lease_s: int, kind: Kind) -> JobRow | None:
    """A partition's job that no live worker has; it is ours until the lease ends."""
    record = await database.fetchrow(query("take_job"), token, lease_s, partition, kind)
    return None if record is None else job_of(record)


async def advance_job(connection: Connection, job_id: UUID, token: UUID, done: int, lease_s: int) -> int:
    """What is done in all, `done` more than before, and the lease renewed. Raises LostLease."""
    total = await connection.fetchval(query("advance_job"), job_id, token, done, lease_s)
    if total is None:
        raise LostLease(job_id)
    return total


async def size_job(database: Database, job_id: UUID, token: UUID, done: int, total: int, lease_s: int) -> None:
    """So much of so much is done, and the lease renewed. Raises LostLease."""
    if await database.fetchval(query("set_job_size"), job_id, token, total, done, lease_s) is None:
        raise LostLease(job_id)


async def finish_job(database: Database, job_id: UUID, token: UUID, errors: Sequence[str] = ()) -> None:
    """The job is done, or failed with the errors. Raises LostLease."""
    packed = msgspec.json.encode(errors).decode()
    status = "failed" if errors else "done"
    if await database.fetchval(query("finish_job"), job_id, token, status, packed) is None:
        raise LostLease(job_id)


async def release_job(database: Database, job_id: UUID, token: UUID) -> None:
    """Let another worker go on with the job at once."""
    await database.execute(query("release_job"), job_id, token)


async def prune_jobs(database: Database, limit: int) -> int:
    """Forget the oldest jobs that ended long ago, at most so many; how many there were."""
    return int((await database.execute(query("prune_jobs"), KEEP_DAYS, limit)).split()[1])


def job_of(record: Record) -> JobRow:
    """The row as it was read."""
    found: dict[str, Any] = dict(record)
    found["parameters"] = msgspec.json.decode(found["parameters"], type=_PARAMETERS[found["kind"]])
    found["errors"] = msgspec.json.decode(found["errors"])
    return JobRow(**found)
