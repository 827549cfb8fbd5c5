"""Whether Redis and the record tell the same: how far one is behind, what the last comparison found, and a new one."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post

from service.api.auth import caller
from service.api.configuration_writes import check_open
from service.api.context import Context
from service.api.controllers import jobs
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import json_bytes, query
from service.domain import field_types
from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.domain.times import ShownTime, from_ms, to_ms
from service.formats.event_id import NO_EVENT
from service.formats.events import MalformedEvent, parse
from service.operations.views import Job, shown_job
from service.record.config.job_rows import create_reconciling
from service.record.config.workspace_rows import read_workspace
from service.record.partitions import comparisons
from service.record.partitions.failing_tasks import read_failing
from service.record.partitions.partition_rows import Partition, read_partition

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
    """A task of the partition's worker that fails and is begun anew: `opening` (while it fails, the state is
    `recovering`), or one in the background. `reason` is the last error's type."""

    task: str
    failures: int
    reason: str
    since: ShownTime


class Consistency(Answer):
    """How far the record in Postgres is behind what Redis decided, and what the workspace's last comparison of the two
    left. `lagSeconds` is the age of the oldest event that is not recorded; the comparison covers all events up to
    `reconciledTo`."""

    state: State
    lag_events: int
    lag_seconds: float
    last_recorded: str
    last_reconciled_at: ShownTime | None
    reconciled_to: str | None
    drift: dict[str, int]
    failing: list[FailingTask]


class StartReconcile(field_types.Request, kw_only=True):
    """What a comparison is to do."""

    repair: Annotated[
        bool | None, msgspec.Meta(description="Whether what differs in Redis is set right, as the record has it.")
    ] = False


_start = msgspec.json.Decoder(StartReconcile)


class Consistent(Controller):
    """Redis beside the record."""

    path = "/v1/ops"

    @get(
        "/consistency",
        **documented("getConsistency", "Read how far the record is behind", "Operators", answer=_CONSISTENCY),
    )
    async def consistency(self, request: Request[Any, Any, Any]) -> Consistency:
        """Of the workspace, and its partition. Scope `operate`."""
        who = caller(request)
        query(request)
        context: Context = request.app.state.context
        state = await state_of(context, who.partition)
        try:
            tail = await context.decider.tail(who.partition)
        except Refusal:
            tail = NO_EVENT
        row = await read_partition(context.pool, who.partition)
        pending = row.unrecorded(tail)
        last = await comparisons.last(context.pool, who.workspace)
        return Consistency(
            state=state,
            lag_events=pending,
            lag_seconds=await _lag_s(context, row) if pending else 0.0,
            last_recorded=str(row.cursor),
            last_reconciled_at=last and from_ms(to_ms(last.when)),
            reconciled_to=last and str(last.at),
            drift=last.left if last else {},
            failing=[
                FailingTask(task=one.task, failures=one.failures, reason=one.reason, since=from_ms(to_ms(one.since)))
                for one in await read_failing(context.pool, who.partition)
            ],
        )

    @post(
        "/reconcile",
        status_code=202,
        **documented(
            "startReconcile",
            "Compare Redis with the record",
            "Operators",
            body=StartReconcile,
            example={"repair": False},
            answer=_JOB,
            refusals="reconcile_running",
            idempotent=True,
            located=True,
        ),
    )
    async def reconcile(self, request: Request[Any, Any, Any]) -> Response[Job]:
        """Have all that Redis holds of the workspace compared with the record, by a job, while requests go on. What it
        found is in `GET /v1/ops/consistency` then. One at a time. Scope `operate`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_start, body)
        context: Context = request.app.state.context
        check_open(context, who.partition)

        async def act() -> Answered[Job]:
            async with context.pool.acquire() as connection, connection.transaction():
                job = await create_reconciling(connection, who.workspace, bool(said.repair))
            return Answered(status=202, body=shown_job(job), location=f"/v1/jobs/{job.job_id}")

        return await once(request, who, body, act)


async def _lag_s(context: Context, row: Partition) -> float:
    """How old the oldest event is that is not recorded, on Redis's clock; 0 where that can't be read any more."""
    try:
        for (epoch, seq), decided, request in await context.decider.after(row.id, row.cursor):
            try:
                event = parse(epoch, seq, decided, request)
            except MalformedEvent:
                continue
            at_ms, workspace = getattr(event, "at_ms", None), getattr(event, "workspace", None)
            if at_ms is not None and workspace is not None:
                # A test workspace's clock may be another.
                moved_ms = (await read_workspace(context.pool, workspace)).clock_offset_ms
                return round(max(await context.decider.time_ms() - at_ms + moved_ms, 0) / 1000, 3)
    except Refusal:
        pass
    return 0.0


async def state_of(context: Context, partition: int) -> State:
    if partition not in context.open_partitions:
        return "recovering"
    try:
        gate = await context.decider.gate(partition)
    except Refusal:
        return "recovering"
    if gate == "open":
        return "open"
    return "behind" if gate in ("full", "behind") else "recovering"
