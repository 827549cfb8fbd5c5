"""Jobs: work that takes longer than a request."""

from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.params import PathParameter

from service.api.documented import describe
from service.api.reading import parse_id, unpack_request
from service.operations.views import Job
from service.record.config.job_rows import read_job

EXAMPLE = {
    "jobId": "019aa0b2-7c1e-7d3a-9d55-0c8d2f6f1a77",
    "kind": "generate",
    "status": "running",
    "requested": 100000,
    "done": 35000,
    "errors": [],
    "startedAt": "2026-11-20T09:14:00.123Z",
    "finishedAt": None,
}


class Jobs(Controller):
    path = "/v1/jobs"

    @get("/{jobId:str}", **describe("getJob", "Read a job", "Jobs", answer=EXAMPLE, refusals="job_not_found"))
    async def read(
        self,
        request: Request[Any, Any, Any],
        job_id: Annotated[str, PathParameter(name="jobId", description="The job's id.")],
    ) -> Job:
        """The progress of a job; available for 90 days after its end. Scope `manage` or `operate`."""
        caller, context, _ = unpack_request(request)
        return Job.from_row(await read_job(context.pool, caller.workspace, parse_id(job_id, "job_not_found")))
