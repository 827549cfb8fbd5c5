"""Do what operators order for quarantined events. partition_tasks.py lists it. Orders come from quarantine_commands.py
and quarantine.py. Events are marked as resolved and the comparison is ordered in one transaction."""

from collections.abc import Sequence

import asyncpg
import structlog

from service.engine.domain.errors import Refusal
from service.engine.formats.quarantined_event import read_names
from service.engine.record.facts.event_writer import EVENT_ERRORS, record_late, refusal_reason
from service.engine.record.partitions.partition_rows import under_lease
from service.engine.record.pool import Connection, wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres.code_rows import patch_coupon
from service.server.in_postgres.comparisons import is_reconciling
from service.server.in_postgres.job_rows import create_reconciling
from service.server.in_postgres.quarantine_resolutions import Quarantined, list_quarantine, reject, resolve
from service.server.in_postgres.workspace_rows import read_workspace_names

AT_ONCE = 100_000
RETRIES_AT_ONCE = 100
"""Events that are recorded in one transaction, which locks the partition's row."""

log = structlog.get_logger()


class QuarantineSettler:
    """One for each open partition. For all events of a workspace for which something is ordered:

    1. `settle`: switch their codes off. `release`: do nothing.
    2. `retry`: record each event as it was decided, under its own id.
    3. Mark them as resolved, and order a comparison of the workspace that repairs Redis from Postgres, in one
       transaction with 2. Until the comparison has read them, the events' codes stay blocked.
    4. If Postgres refuses an event again, store why; the event stays in quarantine.

    For events of a workspace that Postgres lacks, or of none, nothing is switched off and no comparison is ordered. A
    workspace at which anything else fails is set aside.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, fence: int) -> None:
        self._pool, self._partition, self._fence = pool, partition, fence
        self._aside = SetAside(pool, partition, "settling")

    async def run(self, lease: Lease) -> None:
        while True:
            await lease.wait_until_due("settling")
            with wait_out_outage(log):
                await self.settle()

    async def settle(self) -> None:
        """Do what is ordered now."""
        by_workspace: dict[int | None, list[Quarantined]] = {}
        ordered = await list_quarantine(self._pool, self._partition, AT_ONCE, ordered=True)
        known = set(await read_workspace_names(self._pool)) if ordered else set[int]()
        for event in ordered:
            workspace = next((name.workspace for name in read_names(event.d) if name.workspace in known), None)
            by_workspace.setdefault(workspace, []).append(event)
        resting = await self._aside.read_resting() if ordered else set[str]()
        due = [one for one in by_workspace if _name(one).name not in resting]
        await self._aside.each(due, _name, lambda one: self._settle(one, by_workspace[one]))

    async def _settle(self, workspace: int | None, events: Sequence[Quarantined]) -> None:
        if workspace is not None and await is_reconciling(self._pool, workspace):
            return  # it may have read the codes already; the orders are found again
        for event in events:
            if event.ordered == "settle" and workspace is not None:
                await self._switch_off(event)
        retried = [event for event in events if event.ordered == "retry"][:RETRIES_AT_ONCE]
        async with under_lease(self._pool, self._partition, self._fence) as connection:
            reasons = [await self._record(connection, event) for event in retried]
            done = [event for event in events if event.ordered != "retry"]
            done += [event for event, reason in zip(retried, reasons, strict=True) if not reason]
            resolved = await resolve(connection, self._partition, done)
            if resolved and workspace is not None:
                await create_reconciling(connection, workspace, repair=True)
        for event, reason in zip(retried, reasons, strict=True):
            if reason:
                await reject(self._pool, event, reason)
                log.error("event_refused_again", event_id=str(event.id), reason=reason)
        log.info("events_resolved", partition=self._partition, events=resolved)

    async def _record(self, connection: Connection, event: Quarantined) -> str:
        """Record the event, unless it is recorded; return why Postgres refuses it, or ''."""
        if event.cause == "not_redone":
            return ""
        try:
            async with connection.transaction():
                await record_late(connection, event.partition, event.epoch, [(event.seq, event.d, event.r, None)])
        except EVENT_ERRORS as error:
            return refusal_reason(error)
        return ""

    async def _switch_off(self, event: Quarantined) -> None:
        for name in read_names(event.d):
            try:
                await patch_coupon(self._pool, name.workspace, self._partition, name.code, {"active": False})
            except Refusal as refusal:
                if refusal.code != "coupon_not_found":
                    raise


def _name(workspace: int | None) -> Thing:
    return Thing(f"workspace {workspace}", workspace)
