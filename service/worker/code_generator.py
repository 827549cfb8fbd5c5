"""Generate codes: a job that another worker can continue."""

import asyncio
import contextlib
import time
from functools import partial
from typing import cast
from uuid import UUID, uuid4

import asyncpg
import structlog

from service.common.pipeline import SerialRunner
from service.domain.code_patterns import generate_codes
from service.domain.code_requests import GENERATED, CodeLine
from service.domain.configuration import CodeRow, Projector
from service.domain.errors import Refusal
from service.record.config import job_rows
from service.record.config.code_rows import insert_codes
from service.record.config.job_rows import Generation, JobRow, LostLease
from service.record.config.retirements import bring_back
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import wait_out_outage
from service.worker.job_turns import TURN_S, JobTurns
from service.worker.lease_keeper import Lease
from service.worker.projector import project_version

LEASE_S = 30
MAX_EMPTY_DRAWS = 20
"""Draws in a row without a new code: the workspace has nearly all codes of the pattern."""

log = structlog.get_logger()


class Generator:
    """One for each open partition.

    1. Take a job without a live lease. Workspaces take turns of a second; of a workspace the smallest job comes first.
       Taking a partition's lease ends those of its jobs, so its next holder continues them at once.
    2. Draw the missing codes, at most 5,000 at a time.
    3. In one transaction: draw the next configuration version, insert the new codes, advance the job and renew its
       lease. A worker that has lost the lease commits nothing.
    4. Project the codes into Redis while drawing the next. If the worker dies first, ProjectionCatchUp projects them.
    5. Mark the job as done, or as failed if no new codes can be drawn.
    """

    def __init__(self, pool: asyncpg.Pool, projector: Projector, partition: int) -> None:
        self._pool, self._projector, self._partition = pool, projector, partition
        self._turns = JobTurns()

    async def run(self, lease: Lease) -> None:
        while True:
            is_idle = True
            try:
                with wait_out_outage(log):
                    is_idle = not await self.run_one()
            except Refusal as refusal:  # Postgres has restarted, and was not compared with Redis yet
                log.info("generating_waits", reason=refusal.code)
            if is_idle:
                await lease.until_due("generating")

    async def run_one(self) -> bool:
        """Work on one job for its turn; return False if there was none."""
        token = uuid4()
        job = await job_rows.take_job(self._pool, self._partition, token, LEASE_S, "generate", self._turns.served)
        if job is None:
            return False
        self._turns.note(job.workspace)
        try:
            is_done, errors = await self._generate(job, token)
            if is_done:
                await job_rows.finish_job(self._pool, job.job_id, token, errors)
        except LostLease:
            log.warning("job_lease_lost", job_id=str(job.job_id))
        finally:
            with contextlib.suppress(Exception):  # the lease expires
                await asyncio.shield(job_rows.release_job(self._pool, job.job_id, token))
        return True

    async def _generate(self, job: JobRow, token: UUID) -> tuple[bool, list[str]]:
        """Make codes until all are made, or the turn ends; return whether the job is done, and why it failed."""
        done, empty, generation = job.done, 0, cast("Generation", job.parameters)
        ends = time.monotonic() + TURN_S
        await bring_back(self._pool, job.workspace, generation.book)
        async with SerialRunner() as projecting:
            while done < job.requested:
                version, rows = await self._write(job, token, min(GENERATED, job.requested - done))
                about = (job.workspace, self._partition, version, rows)
                await projecting.put(partial(project_version, self._projector, *about))
                done += len(rows)
                empty = 0 if rows else empty + 1
                if empty == MAX_EMPTY_DRAWS:
                    return True, [f"No more new codes can be found for the pattern {generation.code_pattern}."]
                if time.monotonic() >= ends and not empty:
                    break
        return done == job.requested, []

    async def _write(self, job: JobRow, token: UUID, count: int) -> tuple[int, list[CodeRow]]:
        generation = cast("Generation", job.parameters)
        lines = [CodeLine(code) for code in generate_codes(generation.code_pattern, generation.charset, count)]
        async with self._pool.acquire() as connection, connection.transaction():
            version = await bump_config_version(connection, self._partition, job.workspace)
            rows = await insert_codes(connection, job.workspace, self._partition, generation.book, version, lines)
            await job_rows.advance_job(connection, job.job_id, token, len(rows), LEASE_S)
        return version, rows
