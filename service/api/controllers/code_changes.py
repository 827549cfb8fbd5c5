"""Change many codes of a book as one job. app.py registers it; roles.py has the scope of `changeCodes`. code_changer.py
does the job."""

from contextlib import nullcontext
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, post

from service.api.configuration_writes import check_open
from service.api.controllers import jobs
from service.api.controllers.books import BookId, find_book
from service.api.controllers.histories import wait_recorded
from service.api.documented import describe_action
from service.api.idempotency import ActionResult, read_key, run_once
from service.api.reading import read_json_body, unpack_request
from service.domain import field_types
from service.domain.code_change_requests import ChangeCodes, CodeFilter, MatchingCodes
from service.operations.views import Job
from service.record.config.code_pages import count_matching
from service.record.config.job_rows import create_change
from service.record.config.workspace_rows import read_workspace

COUNT_S = 5.0
"""How long the codes of a dry run are counted."""


_MATCHING = {"matching": 2, "isComplete": True, "examples": ["SUMMER-2", "SUMMER-1"]}


class Change(field_types.Request):
    """Options of a change."""

    dry_run: Annotated[
        bool, msgspec.Meta(description="Return how many codes match, with status 200, without a job.")
    ] = False


class CodeChanges(Controller):
    path = "/v1/books"
    tags = ("Codes",)

    @post(
        "/{bookId:str}/codes/change",
        status_code=202,
        **describe_action(
            "changeCodes",
            "Change many codes",
            returns="The job that changes the codes.",
            query=Change,
            body=ChangeCodes,
            example={"action": "switchOff", "filter": {"status": ["available"], "prefix": "SUMMER-"}},
            answer=jobs.CHANGE_EXAMPLE,
            answers={200: (MatchingCodes, "The result of a dry run.", _MATCHING)},
            refusals="book_not_found month_detached too_many_jobs",
            located=True,
        ),
    )
    async def change(self, request: Request[Any, Any, Any], book_id: BookId) -> Response[Job]:
        """Start a job that changes all codes of the book that match the filter, as the request for a single coupon
        would. Codes that are added later stay as they are. Scope `manage`.

        `requested` and `done` count the codes that are examined; `change` counts those that match. A worker changes
        thousands of codes a second. `GET /v1/jobs/{jobId}/results.csv` has the result of each code.

        `assign` gives each user one available code, as the request for a single coupon would, with the same limits:
        `requested` and `done` count users, and the results name each with the code. If no code is left for a user, the
        user is refused with `out_of_stock`.
        """
        caller, context, params = unpack_request(request, Change)
        body, payload = await read_json_body(request, ChangeCodes)
        book = await find_book(context, caller, book_id)
        await wait_recorded(context, caller)
        if params.dry_run:
            read_key(request)  # refuses a bad key, as a real run does
            chosen = payload.filter or CodeFilter()
            args = (context.pool, book.workspace, book.book, chosen, COUNT_S)
            count, is_complete, examples = await count_matching(*args)
            result = MatchingCodes(matching=count, is_complete=is_complete, examples=examples)
            return Response(result, status_code=200)  # type: ignore[arg-type, return-value]
        check_open(context, caller.partition)

        async def act() -> ActionResult[Job]:
            now_ms = await context.decider.time_ms(caller.partition)
            workspace = await read_workspace(context.pool, caller.workspace)
            # Rows of users are bulk work for Postgres, as uploads are.
            async with (
                context.bulk.at_postgres.turn() if payload.users else nullcontext(),
                context.pool.acquire() as connection,
                connection.transaction(),
            ):
                job = await create_change(connection, book, payload, workspace, now_ms)
            return ActionResult(status=202, body=Job.from_row(job), location=f"/v1/jobs/{job.job_id}")

        return await run_once(request, body, act)
