"""Work on a partition's jobs of one kind, each for a turn: the base of Generator and CodeChanger. `kind` is stored with
the job; `task` is a name that the query `renew_leases` returns, and that alarms and metrics show."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import asyncpg
import structlog

from service.engine.domain.configuration import CodeRow
from service.engine.domain.errors import Refusal
from service.engine.hot.projection import RedisProjector
from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres import job_rows
from service.server.in_postgres.job_rows import JobRow, JobStopped, Kind

TURN_S = 1.0
"""After this time another workspace's job has its turn."""
MAX_KNOWN = 1_000
"""Workspaces whose last turns are remembered."""

log = structlog.get_logger()


class JobRunner(ABC):
    """One for each open partition and kind.

    1. Take a job. Workspaces take turns of a second; of a workspace small jobs come first.
    2. Work on it until it is done, or its turn ends. Each transaction requires the fence of the partition's lease, and
       its next holder continues the job at once.
    3. Mark it as done; or as failed, with the sentence of a refusal that repeating does not mend. A job at which
       anything else fails is set aside.
    """

    kind: ClassVar[Kind]
    task: ClassVar[str]
    """The name of the worker's task, by which a lease says that there is work."""

    def __init__(self, pool: asyncpg.Pool, projector: RedisProjector, partition: int, fence: int) -> None:
        self._pool, self._projector, self._partition, self._fence = pool, projector, partition, fence
        self._aside = SetAside(pool, partition, self.task)
        self._served: dict[int, None] = {}
        """The workspaces whose jobs had a turn; first the one whose turn was longest ago."""

    @abstractmethod
    async def _work(self, job: JobRow, ends: float) -> bool:
        """Work on the job until this time; return whether it is done. Raises JobStopped, Refusal."""

    async def run(self, lease: Lease) -> None:
        while True:
            is_idle = True
            try:
                with wait_out_outage(log):
                    is_idle = not await self.run_one()
            except Refusal as refusal:  # Redis or Postgres takes no changes now
                log.info("job_waits", kind=self.kind, reason=refusal.code)
            if is_idle:
                await lease.wait_until_due(self.task)

    async def run_one(self) -> bool:
        """Work on one job for its turn; return False if there was none. Raises a temporary Refusal."""
        turn = await job_rows.begin_turn(self._pool, self._partition, self._fence, self.kind, list(self._served))
        if turn is None:
            return False
        self._note_turn(turn.workspace)
        async with self._aside.contain(Thing(f"job {turn.job_id}", turn.workspace)):
            try:
                await self._give_turn((await job_rows.jobs_by_id(self._pool, [turn.job_id]))[turn.job_id])
            except JobStopped:
                log.info("job_stopped", job_id=str(turn.job_id))
        return True

    async def _give_turn(self, job: JobRow) -> None:
        errors = list[str]()
        try:
            if not await self._work(job, time.monotonic() + TURN_S):
                return
        except Refusal as refusal:
            if refusal.outcome.status == 503:
                raise
            errors.append(refusal.detail)
        await job_rows.end_job(self._pool, job, self._fence, errors)

    async def _project(self, job: JobRow, version: int, rows: Sequence[CodeRow]) -> None:
        """Write the codes of a version that the job has drawn, and then the version, as it says that Redis has them."""
        await self._projector.codes(job.workspace, self._partition, version, rows)
        await self._projector.confirm_version(self._partition, version)

    def _note_turn(self, workspace: int) -> None:
        self._served.pop(workspace, None)
        self._served[workspace] = None
        if len(self._served) > MAX_KNOWN:
            del self._served[next(iter(self._served))]
