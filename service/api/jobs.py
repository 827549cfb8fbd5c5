"""Jobs: what takes longer than a request."""

from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller, Request, get
from litestar.params import PathParameter

from service.api.auth import caller
from service.api.documented import documented
from service.api.reading import id_of, query
from service.domain.times import ShownTime, from_ms, to_ms
from service.domain.words import Answer
from service.record.jobs import JobRow, read_job


class Job(Answer, kw_only=True):
    """A job, and how far it is."""

    job_id: UUID
    kind: Literal["generate"]
    status: Literal["running", "done", "failed"]
    requested: int
    done: int
    errors: list[str]
    started_at: ShownTime
    finished_at: ShownTime | None


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


def answer(row: JobRow) -> Job:
    """The job as a client sees it."""
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        status=row.status,
        requested=row.requested,
        done=row.done,
        errors=row.errors,
        started_at=from_ms(to_ms(row.started_at)),
        finished_at=None if row.finished_at is None else from_ms(to_ms(row.finished_at)),
    )


class Jobs(Controller):
    """Reading jobs."""

    path = "/v1/jobs"

    @get("/{jobId:str}", **documented("getJob", "Read a job", "Jobs", answer=EXAMPLE, refusals="job_not_found"))
    async def read(
        self,
        request: Request[Any, Any, Any],
        job_id: Annotated[str, PathParameter(name="jobId", description="The job's id.")],
    ) -> Job:
        """How far a job is. Scope `manage` or `operate`."""
        who = caller(request)
        query(request)
        return answer(await read_job(request.app.state.context.pool, who.workspace, id_of(job_id, "job_not_found")))
