"""Jobs: what takes longer than a request."""

from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.params import PathParameter

from service.api.auth import caller
from service.api.documented import documented
from service.api.reading import id_of, query
from service.operations.views import Job, shown_job
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
    """Reading jobs."""

    path = "/v1/jobs"

    @get("/{jobId:str}", **documented("getJob", "Read a job", "Jobs", answer=EXAMPLE, refusals="job_not_found"))
    async def read(
        self,
        request: Request[Any, Any, Any],
        job_id: Annotated[str, PathParameter(name="jobId", description="The job's id.")],
    ) -> Job:
        """How far a job is; it can be read for 90 days after it ended. Scope `manage` or `operate`."""
        who = caller(request)
        query(request)
        return shown_job(await read_job(request.app.state.context.pool, who.workspace, id_of(job_id, "job_not_found")))
