"""Generating codes, as a job that survives its worker."""

import asyncio
import contextlib
from functools import partial
from typing import cast
from uuid import UUID, uuid4

import asyncpg
import structlog

from service.common.pipeline import SerialRunner
from service.domain.code_patterns import generate_codes
from service.domain.code_requests import CHUNK, CodeLine
from service.domain.configuration import CodeRow, Projector
from service.domain.errors import Refusal
from service.record.config import job_rows
from service.record.config.code_rows import insert_codes
from service.record.config.job_rows import Generation, JobRow, LostLease
from service.record.partitions.partition_rows import bump_config_version
from service.record.pool import ERRORS, is_away

LEASE_S = 30
IDLE_S = 0.5
MAX_EMPTY_DRAWS = 20
"""Draws in a row without a single new code: what the pattern can make is used up by other books."""

log = structlog.get_logger()


class Generator:
    """One for each partition that a worker keeps.

    1. Take a job that no live worker has, with a lease; any of them can go on with what another left.
    2. Draw codes, at most 5,000 and never more than are missing.
    3. In one transaction: the configuration's next version, those codes that are new, what is done by now and the
       lease's renewal. A worker whose lease is another's commits nothing.
    4. Project them into Redis, while the next are drawn and written. What dies before that is projected by the catching
       up.
    5. With all codes made the job is done; where no new ones can be drawn it has failed, and says so.
    """

    def __init__(self, pool: asyncpg.Pool, projector: Projector, partition: int) -> None:
        self._pool, self._projector, self._partition = pool, projector, partition

    async def run(self) -> None:
        """Work until cancelled, or until Redis is no longer ours; while Postgres is away, wait."""
        while True:
            try:
                worked = await self.run_one()
            except ERRORS as error:
                if not is_away(error):
                    raise
                log.warning("postgres_away", error=type(error).__name__)
                worked = False
            except Refusal as not_yet:  # Postgres was started, and is to be compared with Redis first
                log.info("generating_waits", reason=not_yet.code)
                worked = False
            if not worked:
                await asyncio.sleep(IDLE_S)

    async def run_one(self) -> bool:
        """Work on one job to its end; False where there was none to take."""
        token = uuid4()
        job = await job_rows.take_job(self._pool, self._partition, token, LEASE_S, "generate")
        if job is None:
            return False
        try:
            error = await self._generate(job, token)
            await job_rows.finish_job(self._pool, job.job_id, token, [error] if error else [])
        except LostLease:
            log.warning("job_lease_lost", job_id=str(job.job_id))
        except BaseException:
            with contextlib.suppress(Exception):  # the lease ends by itself
                await asyncio.shield(job_rows.release_job(self._pool, job.job_id, token))
            raise
        return True

    async def _generate(self, job: JobRow, token: UUID) -> str | None:
        """Make all codes; or say why that is not possible."""
        done, empty, wanted = job.done, 0, cast("Generation", job.parameters)
        async with SerialRunner() as projecting:
            while done < job.requested:
                version, rows = await self._write(job, token, min(CHUNK, job.requested - done))
                await projecting.put(partial(self._project, job.workspace, version, rows))
                done += len(rows)
                empty = 0 if rows else empty + 1
                if empty == MAX_EMPTY_DRAWS:
                    return f"No more new codes can be found for the pattern {wanted.code_pattern}."
        return None

    async def _write(self, job: JobRow, token: UUID, count: int) -> tuple[int, list[CodeRow]]:
        """At most so many new codes, and the version that they are of."""
        wanted = cast("Generation", job.parameters)
        lines = [CodeLine(code) for code in generate_codes(wanted.code_pattern, wanted.charset, count)]
        async with self._pool.acquire() as connection, connection.transaction():
            version = await bump_config_version(connection, self._partition)
            rows = await insert_codes(connection, job.workspace, self._partition, wanted.book, version, lines)
            await job_rows.advance_job(connection, job.job_id, token, len(rows), LEASE_S)
        return version, rows

    async def _project(self, workspace: int, version: int, rows: list[CodeRow]) -> None:
        await self._projector.codes(workspace, self._partition, version, rows)
        await self._projector.seen(self._partition, version)
