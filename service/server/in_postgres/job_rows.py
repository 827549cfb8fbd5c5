"""Jobs: work that takes longer than a request. The worker of their partition does it, under the fence of its lease.
Controllers, book_rows.py, stock.py and quarantine_settler.py create jobs; the worker's bulk/ and comparison_job.py
take, advance and end them. Kinds, parameters (JSON), pending codes and results are stored, and shown by the API: old
jobs must stay readable. Each transaction of a worker calls `_keep_job`. DecidedUser has the statement's parameters,
JobUser and AssignedCode the query's columns, in their order."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record
from uuid_utils.compat import uuid7

from service.engine.domain.configuration import BookRow, WorkspaceRow
from service.engine.domain.errors import Refusal
from service.engine.domain.money import from_e4
from service.engine.domain.storage import codes_bytes
from service.engine.domain.times import from_ms, to_ms
from service.engine.record.archived_books import check_here
from service.engine.record.audit_entries import write_audit
from service.engine.record.configuration_rows import card_of
from service.engine.record.pool import Connection, Database, count_changed
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json
from service.server.in_postgres.change_results import (
    CodeResult,
    PendingCodes,
    Result,
    pack_pending,
    pack_results,
    unpack_pending,
    unpack_results,
)
from service.server.in_postgres.comparisons import count_compared, is_reconciling
from service.server.in_postgres.storage_rows import check_storage
from service.server.requests.code_change_requests import ChangeCodes, CodeChange, CodeChangeProgress, CodeFilter
from service.server.requests.code_patterns import SPARSITY, count_possible_codes, refuse_pattern

KEEP_DAYS = 90
"""How long an ended job can be read."""
MAX_GENERATIONS, MAX_CHANGES = 10_000, 100
"""Jobs of a workspace that have not ended: an import of books orders a generation for each."""

USERS_AT_ONCE = 1_000
"""Users of a job that one statement reads or writes."""

Kind = Literal["generate", "reconcile", "change"]
Control = Literal["paused", "running", "cancelled"]
_AUDITED: dict[Control, str] = {"paused": "job.paused", "running": "job.resumed", "cancelled": "job.cancelled"}


class JobStopped(Exception):
    """The job was paused or cancelled, or another worker has the partition's lease."""


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that generates codes."""

    code_pattern: str
    charset: str
    amount_e4: int | None = None
    """Of each card: the book's value when the job was ordered."""


class Reconciling(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a job that compares a workspace's Redis with the record."""

    repair: bool


Parameters = Generation | Reconciling | CodeChange
_PARAMETERS: dict[str, type[Parameters]] = {"generate": Generation, "reconcile": Reconciling, "change": CodeChange}


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job. `requested` and `done` count codes; of a comparison, roughly what is compared."""

    job_id: UUID
    workspace: int
    partition: int
    kind: Kind
    book: int | None
    book_id: UUID | None
    parameters: Parameters
    status: Literal["running", "paused", "done", "cancelled", "failed"]
    requested: int
    done: int
    changed: int
    unchanged: int
    refused: int
    before: int
    """The cursor of a change: codes at this position and above are done."""
    pending: PendingCodes | None
    errors: list[str]
    started_at: datetime
    finished_at: datetime | None

    @property
    def change(self) -> CodeChangeProgress | None:
        """What a change does, and has done; None for other kinds."""
        if self.kind != "change":
            return None
        return CodeChangeProgress(
            **msgspec.structs.asdict(self.parameters),
            book_id=cast("UUID", self.book_id),
            changed=self.changed,
            unchanged=self.unchanged,
            refused=self.refused,
        )


class JobUser(NamedTuple):
    """A user to whom a job assigns a code, and the user's place in the request."""

    number: int
    user_id: str


class DecidedUser(NamedTuple):
    """What became of a user: the code that it has, '' for none, or the code of a refusal."""

    number: int
    result: Result
    code: str = ""
    reason: str = ""


class AssignedCode(NamedTuple):
    """A line of the results of a job that assigns codes, as CodeResult."""

    code: str
    result: Result
    before: str
    after: str
    reason: str
    user_id: str


async def create_generation(connection: Connection, book: BookRow, count: int, pattern: str, charset: str) -> JobRow:
    """Create a job for so many codes, in the caller's transaction. Raises Refusal `pattern_too_small`,
    `book_archived`, `too_many_jobs`, `storage_full`."""
    locked = cast("Record", await connection.fetchrow(query("lock_book_count"), book.workspace, book.book))
    outstanding = cast("int", await connection.fetchval(query("read_outstanding_codes"), book.workspace, book.book))
    await check_here(connection, book.workspace, book.book)
    await _check_unfinished(connection, book.workspace, "generate", MAX_GENERATIONS)
    await check_storage(connection, book.workspace, codes_bytes(outstanding + count))
    codes = locked["code_count"] + outstanding + count
    if codes * SPARSITY > count_possible_codes(pattern, charset):
        raise refuse_pattern("codePattern", pattern, charset, codes)
    card = card_of(locked["discount"])
    parameters = Generation(code_pattern=pattern, charset=charset, amount_e4=card.value_e4 if card else None)
    job = await _insert(connection, book.workspace, "generate", book.book, parameters, count)
    ordered = {"jobId": job.job_id, "count": count, "codePattern": pattern, "charset": charset}
    if card:
        ordered |= {"amount": from_e4(card.value_e4, card.digits), "currency": card.currency}
    await write_audit(connection, book.workspace, "codes.ordered", book.book_id, after=ordered)
    return job


async def create_reconciling(connection: Connection, workspace: int, repair: bool) -> JobRow:
    """Create a comparison job, in the caller's transaction. Raises Refusal `reconcile_running`."""
    await connection.execute(query("lock_reconciling"), workspace)
    if await is_reconciling(connection, workspace):
        raise Refusal("reconcile_running")
    size = (await count_compared(connection, [workspace]))[workspace]
    job = await _insert(connection, workspace, "reconcile", None, Reconciling(repair=repair), size)
    await write_audit(connection, workspace, "reconcile.ordered", job.job_id, after={"repair": repair})
    return job


async def create_change(
    connection: Connection, book: BookRow, order: ChangeCodes, workspace: WorkspaceRow, now_ms: int
) -> JobRow:
    """Create a job for the codes that a book has now, in a transaction. Refusals `too_many_jobs`, `book_archived`."""
    await check_here(connection, book.workspace, book.book)
    await _check_unfinished(connection, book.workspace, "change", MAX_CHANGES)
    expires_ms = now_ms + workspace.clock_offset_ms if order.action == "expire" else None
    if isinstance(order.expires_at, datetime):
        expires_ms = to_ms(order.expires_at)
    chosen = order.filter or CodeFilter()
    expires_at = None if expires_ms is None else from_ms(expires_ms)
    change = CodeChange(action=order.action, filter=chosen, expires_at=expires_at)
    count, after = cast("Record", await connection.fetchrow(query("extent_of_book"), book.workspace, book.book))
    named = order.users or chosen.codes
    size = count if named is None else len(named)
    job = await _insert(connection, book.workspace, "change", book.book, change, size, after)
    for first in range(0, len(order.users or ()), USERS_AT_ONCE):
        some = (order.users or [])[first : first + USERS_AT_ONCE]
        await connection.execute(query("insert_job_users"), job.job_id, book.workspace, some, first)
    # The audit has no whole codes.
    audited = msgspec.structs.replace(change, filter=msgspec.structs.replace(chosen, codes=None))
    ordered = {"jobId": job.job_id, **msgspec.to_builtins(audited), "requested": size}
    await write_audit(connection, book.workspace, "codes.changeOrdered", book.book_id, after=ordered)
    return job


async def _check_unfinished(connection: Connection, workspace: int, kind: Kind, most: int) -> None:
    if cast("int", await connection.fetchval(query("count_unfinished_jobs"), workspace, kind, most)) >= most:
        raise Refusal("too_many_jobs")


async def _insert(
    connection: Connection,
    workspace: int,
    kind: Kind,
    book: int | None,
    parameters: Parameters,
    size: int,
    before: int = 0,
) -> JobRow:
    job_id = uuid7()
    values = (job_id, workspace, kind, book, encode_json(parameters), size, before)
    await connection.execute(query("insert_job"), *values)
    return await read_job(connection, workspace, job_id)


async def read_job(database: Database, workspace: int, job_id: UUID) -> JobRow:
    """Raises Refusal `job_not_found`."""
    job = (await jobs_by_id(database, [job_id])).get(job_id)
    if job is None or job.workspace != workspace:
        raise Refusal("job_not_found")
    return job


async def jobs_by_id(database: Database, ids: Sequence[UUID]) -> dict[UUID, JobRow]:
    """Jobs of any workspace."""
    jobs = [_job_of(record) for record in await database.fetch(query("jobs_by_id"), ids)]
    return {job.job_id: job for job in jobs}


async def page_jobs(database: Database, workspace: int, limit: int, before: UUID) -> list[JobRow]:
    """Jobs with ids below `before`, newest first."""
    return [_job_of(record) for record in await database.fetch(query("page_jobs"), workspace, limit, before)]


def _job_of(record: Record) -> JobRow:
    fields = {name: record[name] for name in JobRow.__struct_fields__}
    fields["parameters"] = msgspec.json.decode(record["parameters"], type=_PARAMETERS[record["kind"]])
    fields["errors"] = msgspec.json.decode(record["errors"])
    fields["pending"] = None if record["pending"] is None else unpack_pending(record["pending"])
    return JobRow(**fields)


async def count_jobs(database: Database) -> dict[tuple[str, str], int]:
    """How many jobs have not ended, by kind and status."""
    return {(kind, status): count for kind, status, count in await database.fetch(query("count_jobs"))}


async def set_status(pool: Pool, workspace: int, job_id: UUID, status: Control) -> JobRow:
    """Pause, resume or cancel a change, unless its status is this one. Raises Refusal `job_not_found`, `job_ended`."""
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchrow(query("set_job_status"), workspace, job_id, status) is not None:
            await write_audit(connection, workspace, _AUDITED[status], job_id)
        job = await read_job(connection, workspace, job_id)
        if job.kind != "change":
            raise Refusal("job_ended", "Only a job that changes codes can be paused, resumed or cancelled.")
        if job.status != status:
            raise Refusal("job_ended", f"The job has ended, with the status {job.status}.")
        return job


class Turn(NamedTuple):
    """A job that has its turn; its row may be unreadable."""

    job_id: UUID
    workspace: int


async def begin_turn(
    database: Database, partition: int, fence: int, kind: Kind, served: Sequence[int] = ()
) -> Turn | None:
    """Begin a turn of a job of the partition that is not set aside; None if another worker has the lease. Of the
    workspaces in `served` the first is preferred, and before them every other one; then a small job."""
    row = await database.fetchrow(query("take_job"), partition, fence, kind, served)
    return row and Turn(*row)


async def _keep_job(connection: Connection, job: JobRow, fence: int) -> None:
    """Keep the lease, and the workspace in its partition, until the transaction ends. Raises JobStopped."""
    if await connection.fetchval(query("lock_job"), job.job_id, job.partition, fence) is None:
        raise JobStopped(job.job_id)


async def advance_job(
    connection: Connection, job: JobRow, fence: int, done: int, results: Sequence[Result] = (), before: int = 0
) -> str:
    """Add progress and move the cursor, last in a transaction; return the job's status. Raises JobStopped."""
    await _keep_job(connection, job, fence)
    counts = [results.count(kind) for kind in ("changed", "unchanged", "refused")]
    return cast("str", await connection.fetchval(query("advance_job"), job.job_id, done, *counts, before))


async def size_job(pool: Pool, job: JobRow, fence: int, done: int, total: int) -> None:
    """Set the job's progress and size. Raises JobStopped."""
    async with pool.acquire() as connection, connection.transaction():
        await _keep_job(connection, job, fence)
        await connection.execute(query("set_job_size"), job.job_id, total, done)


async def end_job(pool: Pool, job: JobRow, fence: int, errors: Sequence[str] = ()) -> None:
    """Mark the job as done, or failed with the errors. Raises JobStopped."""
    status = "failed" if errors else "done"
    async with pool.acquire() as connection, connection.transaction():
        await _keep_job(connection, job, fence)
        ended = await connection.fetchrow(query("end_job"), job.job_id, status, encode_json(errors))
        if ended is None:
            raise JobStopped(job.job_id)
        if ended["kind"] == "change":
            counts = {name: ended[name] for name in ("changed", "unchanged", "refused")}
            after = {"jobId": job.job_id, "status": status, **counts}
            await write_audit(connection, ended["workspace"], "codes.changed", ended["book_id"], after=after)


async def prune_jobs(database: Database, limit: int) -> int:
    """Delete at most so many of the oldest ended jobs, with their results; return their number."""
    return await count_changed(database, query("prune_jobs"), KEEP_DAYS, limit)


async def keep_pending(pool: Pool, job: JobRow, fence: int, page: PendingCodes) -> None:
    """Store the codes that scripts will decide next. Raises JobStopped."""
    async with pool.acquire() as connection, connection.transaction():
        await _keep_job(connection, job, fence)
        if await connection.fetchval(query("keep_pending"), job.job_id, pack_pending(page)) is None:
            raise JobStopped(job.job_id)


async def store_page(
    connection: Connection, job: JobRow, fence: int, page: PendingCodes, results: Sequence[CodeResult]
) -> str:
    """Store a page's results and the progress, last in a transaction; return the job's status. Raises JobStopped."""
    kinds: list[Result] = [one.result for one in results]
    status = await advance_job(connection, job, fence, page.examined, kinds, page.last)
    if results:
        await connection.execute(query("insert_job_results"), job.job_id, page.last, pack_results(results))
    return status


async def read_results(database: Database, job_id: UUID) -> AsyncIterator[list[CodeResult]]:
    """The results of a change so far, the newest codes first, page by page."""
    before = 2**63 - 1
    while (page := await database.fetchrow(query("page_job_results"), job_id, before)) is not None:
        before = page["position"]
        yield unpack_results(page["lines"])


async def read_undecided(database: Database, job_id: UUID, limit: int) -> list[JobUser]:
    """The first users without a decision, in the request's order."""
    return [JobUser(*row) for row in await database.fetch(query("undecided_users"), job_id, limit)]


async def store_decided(
    connection: Connection, job: JobRow, fence: int, last: int, decided: Sequence[DecidedUser]
) -> str:
    """Store what became of users and the cursor, last in a transaction; return the job's status. Raises JobStopped."""
    results: list[Result] = [one.result for one in decided]
    status = await advance_job(connection, job, fence, len(decided), results, last)
    if decided:
        columns = (list(column) for column in zip(*decided, strict=True))
        await connection.execute(query("decide_users"), job.job_id, *columns)
    return status


async def read_assigned(database: Database, job_id: UUID) -> AsyncIterator[list[AssignedCode]]:
    """What became of a job's users so far, in the request's order, page by page."""
    last = -1
    while rows := await database.fetch(query("assigned_users"), job_id, last, USERS_AT_ONCE):
        last = rows[-1]["number"]
        yield [AssignedCode(*list(row)[1:]) for row in rows]
