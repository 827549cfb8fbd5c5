"""Jobs: work that takes longer than a request. app.py registers it; roles.py has the scope of each operation id. Job
copies JobRow's fields by name; the CSV file's columns are the fields of CodeResult or AssignedCode, in their order.
Controllers that start jobs use EXAMPLE, CHANGE_EXAMPLE and `accept`."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, post
from litestar.params import PathParameter

from service.engine.domain.field_types import Nothing
from service.server.answers.views import Job
from service.server.api.csv_rows import MEDIA_TYPE, CsvFormat, CsvStyle, encode_csv_pages
from service.server.api.csv_stream import CsvFile
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import parse_id, read_json_body, unpack_request
from service.server.in_postgres import job_rows
from service.server.in_postgres.change_results import CodeResult
from service.server.in_postgres.job_rows import AssignedCode, Control, JobRow, read_job

EXAMPLE = {
    "jobId": "019aa0b2-7c1e-7d3a-9d55-0c8d2f6f1a77",
    "kind": "generate",
    "status": "running",
    "requested": 100000,
    "done": 35000,
    "errors": [],
    "startedAt": "2026-11-20T09:14:00.123Z",
    "finishedAt": None,
    "change": None,
}
CHANGE_EXAMPLE = EXAMPLE | {
    "kind": "change",
    "requested": 200000,
    "done": 35000,
    "change": {
        "action": "switchOff",
        "filter": {"status": ["available"], "prefix": "SUMMER-"},
        "expiresAt": None,
        "bookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11",
        "changed": 31200,
        "unchanged": 0,
        "refused": 0,
    },
}
_RESULTS = (
    "code,result,before,after,reason\r\nSUMMER-2,changed,active,inactive,\r\nSUMMER-1,unchanged,inactive,inactive,\r\n"
)

JobId = Annotated[str, PathParameter(name="jobId", description="The job's id.")]


def _describe_control(operation_id: str, summary: str, status: str, *, returns: str) -> dict[str, Any]:
    answer = CHANGE_EXAMPLE | {"status": status}
    if status == "cancelled":
        answer |= {"finishedAt": "2026-11-20T09:15:00.456Z"}
    return describe_action(
        operation_id,
        summary,
        returns=returns,
        body=Nothing,
        example={},
        answer=answer,
        refusals="job_not_found job_ended",
    )


class Jobs(Controller):
    path = "/v1/jobs"
    tags = ("Jobs",)

    @get(
        "/{jobId:str}",
        **describe_route("getJob", "Read a job", returns="The job.", answer=EXAMPLE, refusals="job_not_found"),
    )
    async def read(self, request: Request[Any, Any, Any], job_id: JobId) -> Job:
        """The progress of a job; available for 90 days after its end. Scope `manage` or `operate`."""
        caller, context, _ = unpack_request(request)
        return Job.from_row(await read_job(context.pool, caller.workspace, parse_id(job_id, "job_not_found")))

    @post(
        "/{jobId:str}/pause",
        status_code=200,
        **_describe_control("pauseJob", "Pause a job", "paused", returns="The paused job."),
    )
    async def pause(self, request: Request[Any, Any, Any], job_id: JobId) -> Response[Job]:
        """Pause a job that changes codes, after the codes that it is changing. Scope `manage`."""
        return await _set_status(request, job_id, "paused")

    @post(
        "/{jobId:str}/resume",
        status_code=200,
        **_describe_control("resumeJob", "Resume a job", "running", returns="The job, which runs again."),
    )
    async def resume(self, request: Request[Any, Any, Any], job_id: JobId) -> Response[Job]:
        """Let a paused job go on. Scope `manage`."""
        return await _set_status(request, job_id, "running")

    @post(
        "/{jobId:str}/cancel",
        status_code=200,
        **_describe_control("cancelJob", "Cancel a job", "cancelled", returns="The cancelled job."),
    )
    async def cancel(self, request: Request[Any, Any, Any], job_id: JobId) -> Response[Job]:
        """End a job that changes codes, after the codes that it is changing. What it has changed stays changed.

        Scope `manage`."""
        return await _set_status(request, job_id, "cancelled")

    @get(
        "/{jobId:str}/results.csv",
        media_type=MEDIA_TYPE,
        **describe_route(
            "exportJobResults",
            "Export a job's results",
            returns="The results, as CSV.",
            query=CsvFormat,
            answer=_RESULTS,
            refusals="job_not_found",
        ),
    )
    async def results(self, request: Request[Any, Any, Any], job_id: JobId) -> Response[str]:
        """The result of each matching code so far, as CSV: `changed`, `unchanged` or `refused`, with the switch, end or
        status before and after, or the code of the refusal. Only jobs that change codes have results; those of the
        action `assign` are one for each user, with the column `user_id`.

        Scope `manage`."""
        caller, context, params = unpack_request(request, CsvFormat)
        context.bulk.exports.check(caller.workspace)
        job = await read_job(context.pool, caller.workspace, parse_id(job_id, "job_not_found"))
        assigns = job.change is not None and job.change.action == "assign"
        columns = AssignedCode._fields if assigns else CodeResult._fields
        results: Any = (job_rows.read_assigned if assigns else job_rows.read_results)(context.pool, job.job_id)
        pages = context.bulk.read_pages(job.workspace, results)
        lines = encode_csv_pages(columns, pages, tuple, CsvStyle(params.excel))
        return CsvFile(context.bulk, job.workspace, lines, f"results-{job.job_id}.csv", {})


def accept(job: JobRow) -> ActionResult[Job]:
    """The result of a request that has ordered this job."""
    return ActionResult(status=202, body=Job.from_row(job), location=f"/v1/jobs/{job.job_id}")


async def _set_status(request: Request[Any, Any, Any], job_id: str, status: Control) -> Response[Job]:
    caller, context, _ = unpack_request(request)
    body, _ = await read_json_body(request, Nothing)
    wanted = parse_id(job_id, "job_not_found")

    async def act() -> ActionResult[Job]:
        job = await job_rows.set_status(context.pool, caller.workspace, wanted, status)
        return ActionResult(status=200, body=Job.from_row(job))

    return await run_once(request, body, act)
