"""Generate codes: a job that another worker can continue. partition_tasks.py lists it. Postgres commits a version
before Redis gets its codes."""

from functools import partial
from time import monotonic
from typing import cast

from service.common.serial_runner import SerialRunner
from service.engine.domain.configuration import CodeRow
from service.engine.domain.errors import Refusal
from service.engine.record.partitions.partition_rows import bump_config_version
from service.server.in_postgres.code_rows import insert_codes
from service.server.in_postgres.job_rows import Generation, JobRow, advance_job
from service.server.requests.code_patterns import generate_codes
from service.server.requests.code_requests import GENERATED, CodeLine
from service.server.tasks.job_runner import JobRunner

MAX_EMPTY_DRAWS = 20
"""Draws in a row without a new code: the workspace has nearly all codes of the pattern."""


class Generator(JobRunner):
    """1. Draw the missing codes, at most 5,000 at a time.
    2. In one transaction: draw the next configuration version, insert the new codes, advance the job. A
       worker that has lost the partition's lease commits nothing.
    3. Project the codes into Redis while drawing the next. If the worker dies first, ProjectionCatchUp projects them.
    """

    kind, task = "generate", "generating"

    async def _work(self, job: JobRow, ends: float) -> bool:
        """Make codes. Raises Refusal `pattern_too_small` if no new codes can be drawn."""
        done, empty = job.done, 0
        async with SerialRunner() as projecting:
            while done < job.requested:
                version, rows = await self._write(job, min(GENERATED, job.requested - done))
                await projecting.put(partial(self._project, job, version, rows))
                done += len(rows)
                empty = 0 if rows else empty + 1
                if empty == MAX_EMPTY_DRAWS:
                    pattern = cast("Generation", job.parameters).code_pattern
                    raise Refusal("pattern_too_small", f"No more new codes can be found for the pattern {pattern}.")
                if monotonic() >= ends and not empty:
                    break
        return done == job.requested

    async def _write(self, job: JobRow, count: int) -> tuple[int, list[CodeRow]]:
        generation, book = cast("Generation", job.parameters), cast("int", job.book)
        codes = generate_codes(generation.code_pattern, generation.charset, count)
        lines = [CodeLine(code, amount_e4=generation.amount_e4) for code in codes]
        async with self._pool.acquire() as connection, connection.transaction():
            version = await bump_config_version(connection, self._partition)
            rows = await insert_codes(connection, job.workspace, self._partition, book, version, lines)
            await advance_job(connection, job, self._fence, len(rows))
        return version, rows
