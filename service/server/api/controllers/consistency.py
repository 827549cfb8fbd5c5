"""Consistency of Redis and Postgres: the lag, the result of the last comparison, and starting a comparison. app.py
registers it; roles.py has the scope of each operation id. Bodies copy fields of rows by name."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post

from service.engine.domain import field_types
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.engine.domain.times import Timestamp, from_ms, to_ms
from service.engine.formats.event_id import NO_EVENT
from service.engine.formats.events import MalformedEvent, parse
from service.engine.record.partitions.failing_tasks import read_failing
from service.engine.record.partitions.partition_rows import Partition, read_partition
from service.server.answers.views import Job
from service.server.api.configuration_writes import check_open
from service.server.api.context import Context
from service.server.api.controllers import jobs
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.readiness import state_of
from service.server.api.reading import read_json_body, unpack_request
from service.server.in_postgres import comparisons
from service.server.in_postgres.job_rows import create_reconciling
from service.server.in_postgres.workspace_rows import read_workspace

State = Literal["open", "recovering", "behind"]

_CONSISTENCY = {
    "state": "open",
    "lagEvents": 12,
    "lagSeconds": 0.031,
    "lastRecorded": "3-118204",
    "lastReconciledAt": "2026-11-20T03:30:07.412Z",
    "reconciledTo": "3-90112",
    "drift": {},
    "failing": [],
}
_JOB = jobs.EXAMPLE | {"kind": "reconcile", "requested": 1000000, "done": 0}


class FailingTask(Answer):
    """A task of the partition's worker that fails and restarts, or a thing of the workspace that it has set aside."""

    task: str
    thing: str | None
    failures: int
    reason: str
    since: Timestamp


class Consistency(Answer):
    """The lag of Postgres behind Redis, and the differences that the workspace's last comparison found."""

    state: State
    lag_events: int
    lag_seconds: float
    last_recorded: str
    last_reconciled_at: Timestamp | None
    reconciled_to: str | None
    drift: dict[str, int]
    failing: list[FailingTask]


class StartReconcile(field_types.Request, kw_only=True):
    """Options of a comparison."""

    repair: Annotated[
        bool | None, msgspec.Meta(description="Whether differences in Redis are repaired from Postgres.")
    ] = False


class ConsistencyChecks(Controller):
    path = "/v1/ops"
    tags = ("Operators",)

    @get(
        "/consistency",
        **describe_route(
            "getConsistency",
            "Read the lag and the differences",
            returns="The state of the workspace's partition, what is not recorded yet, and the last comparison.",
            answer=_CONSISTENCY,
        ),
    )
    async def consistency(self, request: Request[Any, Any, Any]) -> Consistency:
        """The lag of the workspace's partition, and the workspace's last comparison. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        state = await state_of(context, caller.partition)
        try:
            tail = await context.decider.read_tail(caller.partition)
        except Refusal:
            tail = NO_EVENT
        row = await read_partition(context.pool, caller.partition)
        pending = row.unrecorded(tail)
        last = await comparisons.read_last(context.pool, caller.workspace)
        return Consistency(
            state=state if state in ("open", "behind") else "recovering",
            lag_events=pending,
            lag_seconds=await lag_s(context, row) if pending else 0.0,
            last_recorded=str(row.cursor),
            last_reconciled_at=from_ms(to_ms(last.when)) if last else None,
            reconciled_to=str(last.at) if last else None,
            drift=last.left if last else {},
            failing=[
                *_missing_worker(context, caller.partition),
                *(
                    FailingTask.from_row(row, thing=row.thing or None)
                    for row in await read_failing(context.pool, caller.partition, caller.workspace)
                ),
            ],
        )

    @post(
        "/reconcile",
        status_code=202,
        **describe_action(
            "startReconcile",
            "Compare Redis with Postgres",
            returns="The job that compares.",
            body=StartReconcile,
            example={"repair": False},
            answer=_JOB,
            refusals="reconcile_running",
            located=True,
        ),
    )
    async def reconcile(self, request: Request[Any, Any, Any]) -> Response[Job]:
        """Start a job that compares all of the workspace's data in Redis with Postgres, without stopping requests.
        `GET /v1/ops/consistency` returns the result. One comparison runs at a time. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, StartReconcile)
        check_open(context, caller.partition)

        async def act() -> ActionResult[Job]:
            async with context.pool.acquire() as connection, connection.transaction():
                job = await create_reconciling(connection, caller.workspace, bool(payload.repair))
            return jobs.accept(job)

        return await run_once(request, body, act)


def _missing_worker(context: Context, partition: int) -> list[FailingTask]:
    since = context.watch.without_worker().get(partition)
    if since is None:
        return []
    return [
        FailingTask(task="worker", thing=None, failures=1, reason="NoLiveLease", since=from_ms(round(since * 1000)))
    ]


async def lag_s(context: Context, row: Partition) -> float:
    """The age of the oldest event that is not recorded, on Redis's clock; 0 if it can't be read."""
    try:
        for (epoch, seq), decided, request in await context.decider.read_entries_after(row.id, row.cursor):
            try:
                event = parse(epoch, seq, decided, request)
            except MalformedEvent:
                continue
            at_ms, workspace = getattr(event, "at_ms", None), getattr(event, "workspace", None)
            if at_ms is not None and workspace is not None:
                # A test workspace's clock may have an offset.
                moved_ms = (await read_workspace(context.pool, workspace)).clock_offset_ms
                return round(max(await context.decider.read_time_ms(row.id) - at_ms + moved_ms, 0) / 1000, 3)
    except Refusal:
        pass
    return 0.0
