"""Do what operators order for quarantined events."""

import asyncpg
import structlog

from service.domain.errors import Refusal
from service.formats.quarantined_event import read_names
from service.record.config.code_rows import patch_coupon
from service.record.config.job_rows import create_reconciling
from service.record.facts.event_writer import EVENT_ERRORS, record_late, refusal_reason
from service.record.facts.quarantine_resolutions import Quarantined, ordered_resolutions, reject, resolve
from service.record.partitions.comparisons import is_reconciling
from service.record.partitions.partition_rows import keep_lease
from service.record.pool import Connection, wait_out_outage
from service.worker.lease_keeper import Lease

AT_ONCE = 100

log = structlog.get_logger()


class QuarantineSettler:
    """One for each open partition.

    1. Take the events for which something is ordered.
    2. `retry`: record the event as it was decided, under its own id. `settle`: switch its codes off. `release`: do
       nothing.
    3. Mark it as resolved, and order a comparison of its workspace that repairs Redis from Postgres, all in one
       transaction. Until the comparison has read them, the event's codes stay blocked.
    4. If Postgres refuses the event again, store why; the event stays in quarantine.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, fence: int) -> None:
        self._pool, self._partition, self._fence = pool, partition, fence

    async def run(self, lease: Lease) -> None:
        while True:
            await lease.until_due("settling")
            with wait_out_outage(log):
                for event in await ordered_resolutions(self._pool, self._partition, AT_ONCE):
                    await self._settle(event)

    async def _settle(self, event: Quarantined) -> None:
        workspace = next((name.workspace for name in read_names(event.d)), None)
        if workspace is not None and await is_reconciling(self._pool, workspace):
            return  # it may have read the codes already; the order is found again
        try:
            if event.ordered == "settle":
                await self._switch_off(event)
            async with self._pool.acquire() as connection, connection.transaction():
                await keep_lease(connection, self._partition, self._fence)
                await self._resolve(connection, event, workspace)
        except EVENT_ERRORS as error:
            await reject(self._pool, event, refusal_reason(error))
            log.error("event_refused_again", event_id=str(event.id), reason=refusal_reason(error))
            return
        log.info("event_resolved", event_id=str(event.id), resolution=event.ordered)

    async def _switch_off(self, event: Quarantined) -> None:
        for name in read_names(event.d):
            try:
                await patch_coupon(self._pool, name.workspace, self._partition, name.code, {"active": False})
            except Refusal as refusal:
                if refusal.code != "coupon_not_found":
                    raise

    async def _resolve(self, connection: Connection, event: Quarantined, workspace: int | None) -> None:
        if event.ordered == "retry" and event.cause != "not_redone":
            await record_late(connection, event.partition, event.epoch, [(event.seq, event.d, event.r, None)])
        if await resolve(connection, event) and workspace is not None:
            await create_reconciling(connection, workspace, repair=True)
