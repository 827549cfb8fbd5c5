"""Change many codes of a book as one job, which another worker can continue (decision 0065).
partition_tasks.py lists it. The order counts: codes are stored in the job before scripts decide them, and Postgres
commits a version before Redis gets it. Results are words of the API."""

import time
from collections.abc import Sequence
from functools import partial
from typing import cast
from uuid import UUID

import asyncpg

from service.common.pace import Pace
from service.common.serial_runner import SerialRunner
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Nothing
from service.engine.hot.projection import SHARE, RedisProjector
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import Scripts
from service.engine.operations.base import Call, Command, Reply
from service.engine.operations.caller import Caller
from service.engine.operations.run import begin_decoded, needs_facts
from service.engine.operations.table import UNASSIGN
from service.engine.worker.projection_catchup import runner_of
from service.engine.worker.projector import log_skipped_code
from service.server.in_postgres import job_rows
from service.server.in_postgres.change_results import CodeResult, PendingCodes
from service.server.in_postgres.code_pages import find_codes, missing_codes
from service.server.in_postgres.code_rows import configure_codes
from service.server.in_postgres.job_rows import DecidedUser, JobRow, JobStopped
from service.server.requests.code_change_requests import CodeChange
from service.server.tasks.code_assigner import Decide, assign_page
from service.server.tasks.job_runner import JobRunner

CONFIGURED, DECIDED = 5_000, 500
"""Codes of a page: in one transaction, or between two notes of what scripts are deciding."""
DECIDED_A_CALL = 20
"""Scripts that go out together: bounds how long other requests wait to about a millisecond."""


def changer_of(pool: asyncpg.Pool, server: Server, scripts: Scripts, fence: int) -> "CodeChanger":
    """A changer that leaves the rest of the time to others."""
    pace = Pace(SHARE)

    async def decide(commands: Sequence[Command]) -> Sequence[Reply | Refusal]:
        with pace:
            runs = [(command.script, command.keys, command.args) for command in commands]
            replies = await server.run_all(scripts, runs)
        await pace.rest()
        for reply in replies:
            if isinstance(reply, Refusal) and reply.outcome.status == 503:
                raise reply
        return replies

    projector = RedisProjector(runner_of(server, scripts), log_skipped_code, pace)
    return CodeChanger(pool, projector, server.partition, fence, decide)


class CodeChanger(JobRunner):
    """1. Find the next codes that match the job's filter, from the newest to the oldest.
    2. Switch or expiry: in one transaction, draw the next configuration version, change the codes, store the result of
       each, and advance the job. Project the codes into Redis while the next are changed. If the worker dies first,
       ProjectionCatchUp projects them.
    3. Release: store the codes in the job, run the script of the single request for each, then store results and
       progress in one transaction. A worker that continues runs the scripts of the stored codes again: a code that is
       no longer assigned was released by the worker that died.
    4. Assign: as 3, with the users who are not decided yet, so many at a time; when no code is left, the others are
       refused.

    A job that was paused or cancelled stops after the codes that are being changed.
    """

    kind, task = "change", "changing"

    def __init__(
        self, pool: asyncpg.Pool, projector: RedisProjector, partition: int, fence: int, decide: Decide
    ) -> None:
        super().__init__(pool, projector, partition, fence)
        self._decide_all = decide

    async def _work(self, job: JobRow, ends: float) -> bool:
        """Change codes. Raises Refusal `book_archived`."""
        book, change, before = cast("int", job.book), cast("CodeChange", job.parameters), job.before
        decides = change.action in ("assign", "release")
        if job.pending is not None:
            before = await self._decide(job, job.pending, before, is_repeat=True)
        async with SerialRunner() as projecting:
            while before > 0:
                size = DECIDED if decides else CONFIGURED
                page = await find_codes(self._pool, job.workspace, book, change.filter, before, size)
                if not decides:
                    before = await self._configure(job, page, projecting)
                else:
                    if page.codes:
                        await job_rows.keep_pending(self._pool, job, self._fence, page)
                    before = await self._decide(job, page, before)
                if time.monotonic() >= ends:
                    break
        return before == 0

    async def _configure(self, job: JobRow, page: PendingCodes, projecting: SerialRunner) -> int:
        """Change the switch or expiry of a page's codes; return the cursor after them."""
        if not page.codes:
            return await self._store(job, page, [])
        status, version, rows = await configure_codes(self._pool, job, self._fence, page)
        await projecting.put(partial(self._project, job, version, rows))
        return _go_on(job, status, page.last)

    async def _decide(self, job: JobRow, page: PendingCodes, before: int, is_repeat: bool = False) -> int:
        """Let scripts decide a page's codes, which are before a cursor; return the cursor after them."""
        if cast("CodeChange", job.parameters).action == "assign":
            return await self._assign(job, page, before)
        return await self._release(job, page, is_repeat)

    async def _release(self, job: JobRow, page: PendingCodes, is_repeat: bool) -> int:
        """Release a page's codes; return the cursor after them."""
        call = Call(Caller(None, job.workspace, UUID(int=0), job.partition, "live", frozenset({"manage"})))
        results = list[CodeResult]()
        for start in range(0, len(page.codes), DECIDED_A_CALL):
            some = page.codes[start : start + DECIDED_A_CALL]
            commands = [begin_decoded(UNASSIGN, call, code, Nothing()) for code in some]
            replies = await self._decide_all(commands)
            results += [_release_of(code, reply, is_repeat) for code, reply in zip(some, replies, strict=True)]
        return await self._store(job, page, results)

    async def _assign(self, job: JobRow, page: PendingCodes, before: int) -> int:
        """Assign a page's codes to users, so many users at a time; return the cursor after them, 0 if each user is
        decided."""
        codes = page.codes
        while True:
            users = await job_rows.read_undecided(self._pool, job.job_id, DECIDED)
            decided, codes = await assign_page(job, users, codes, self._decide_all)
            if page.last == 0 and not codes:
                known = {one.number for one in decided}
                decided += [
                    DecidedUser(one.number, "refused", reason="out_of_stock")
                    for one in users
                    if one.number not in known
                ]
            is_last = len(users) < DECIDED and len(decided) == len(users)
            last = 0 if is_last else before if codes else page.last or before
            async with self._pool.acquire() as connection, connection.transaction():
                status = await job_rows.store_decided(connection, job, self._fence, last, decided)
            if last != before:
                return _go_on(job, status, last)
            await job_rows.keep_pending(self._pool, job, self._fence, page._replace(codes=codes))

    async def _store(self, job: JobRow, page: PendingCodes, results: Sequence[CodeResult]) -> int:
        missing = missing_codes(cast("CodeChange", job.parameters).filter, page)
        async with self._pool.acquire() as connection, connection.transaction():
            status = await job_rows.store_page(connection, job, self._fence, page, [*missing, *results])
        return _go_on(job, status, page.last)


def _go_on(job: JobRow, status: str, last: int) -> int:
    """The cursor. Raises JobStopped if the job was paused or cancelled."""
    if status != "running":
        raise JobStopped(job.job_id)
    return last


def _release_of(code: str, reply: Reply | Refusal, is_repeat: bool) -> CodeResult:
    reason = ""
    if isinstance(reply, Refusal):
        reason = reply.code
    elif needs_facts(reply):
        reason = "internal"
    if not reason or (is_repeat and reason == "coupon_not_assigned"):
        return CodeResult(code, "changed", "assigned", "available")
    return CodeResult(code, "refused", reason=reason)
