"""Change many codes of a book as one job. app.py registers it; roles.py has the scope of `changeCodes`. code_changer.py
does the job."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIType

from service.engine.domain.configuration import BookRow
from service.engine.domain.errors import FieldError, Refusal, invalid
from service.server.answers.views import Job
from service.server.api.auth import get_caller
from service.server.api.configuration_writes import check_open
from service.server.api.controllers import jobs
from service.server.api.controllers.books import BookId, find_book
from service.server.api.controllers.codes import parse_body
from service.server.api.controllers.histories import wait_recorded
from service.server.api.documented import describe_action
from service.server.api.idempotency import ActionResult, Stream, read_key, run_once
from service.server.api.reading import (
    UPLOAD_JSON_BYTES,
    parse_media_type,
    read_chunks,
    read_json_body,
    refuse_media_type,
    unpack_request,
)
from service.server.in_postgres.code_pages import count_matching
from service.server.in_postgres.job_rows import create_change
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.requests.code_change_requests import MAX_USERS, Change, ChangeCodes, CodeFilter, MatchingCodes
from service.server.requests.code_requests import CodeLine, Lines

COUNT_S = 5.0
"""How long the codes of a dry run are counted."""
MAX_ERRORS = 20
"""Invalid lines of a file that a refusal names."""
_FILES = {"text/csv": True, "text/plain": False}
"""The media types of a file of users, and whether it has columns."""

_MATCHING = {"matching": 2, "isComplete": True, "examples": ["SUMMER-2", "SUMMER-1"]}


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
            body={"application/json": ChangeCodes} | dict.fromkeys(_FILES, Schema(type=OpenAPIType.STRING)),
            example={"action": "switchOff", "filter": {"status": ["available"], "prefix": "SUMMER-"}},
            answer=jobs.CHANGE_EXAMPLE,
            answers={200: (MatchingCodes, "The result of a dry run.", _MATCHING)},
            refusals="book_not_found book_archived too_many_jobs",
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

        A body in CSV or plain text is a file of up to 100,000 users and 16 MiB, for `assign`: the column `userId`, or
        `userColumn`, of a CSV file, or one user a line. They get available codes, which the query may choose. A file
        with an invalid line is refused.
        """
        caller, context, params = unpack_request(request, Change)
        kind = parse_media_type(request.headers)
        if kind in _FILES:
            with context.bulk.uploads.one(caller.workspace):
                book = await find_book(context, caller, book_id)
                stream = Stream(read_chunks(request, UPLOAD_JSON_BYTES))

                async def read() -> ChangeCodes:
                    lines = Lines(_FILES[kind], needed="userId", named=params.user_column)
                    return params.assign_to(await _read_users(request, book, lines, stream))

                return await _answer(request, book, params, stream, read)
        if kind not in ("", "application/json"):
            raise refuse_media_type(kind, "application/json, text/csv or text/plain")
        if params.needs_file:
            raise invalid("query", "may choose codes or a column only for a file of users; send `filter`")
        body, payload = await read_json_body(request, ChangeCodes)

        async def decoded() -> ChangeCodes:
            return payload

        return await _answer(request, await find_book(context, caller, book_id), params, body, decoded)


async def _answer(
    request: Request[Any, Any, Any],
    book: BookRow,
    params: Change,
    body: bytes | Stream,
    read: Callable[[], Awaitable[ChangeCodes]],
) -> Response[Job]:
    """Count the codes, or create the job; `read` reads the rest of the request."""
    caller, context = get_caller(request), request.app.state.context
    await wait_recorded(context, caller)
    if params.dry_run:
        read_key(request)  # refuses a bad key, as a real run does
        order = await read()
        args = (context.pool, book.workspace, book.book, order.filter or CodeFilter(), COUNT_S)
        count, is_complete, examples = await count_matching(*args)
        result = MatchingCodes(matching=count, is_complete=is_complete, examples=examples)
        if isinstance(body, Stream) and order.users:
            result.users = len(order.users)
        return Response(result, status_code=200)  # type: ignore[arg-type, return-value]
    check_open(context, caller.partition)

    async def act() -> ActionResult[Job]:
        order = await read()
        now_ms = await context.decider.read_time_ms(caller.partition)
        workspace = await read_workspace(context.pool, caller.workspace)
        # Rows of users are bulk work for Postgres, as uploads are.
        async with (
            context.bulk.at_postgres.turn(book.workspace) if order.users else nullcontext(),
            context.pool.acquire() as connection,
            connection.transaction(),
        ):
            job = await create_change(connection, book, order, workspace, now_ms)
        return jobs.accept(job)

    return await run_once(request, body, act)


async def _read_users(request: Request[Any, Any, Any], book: BookRow, lines: Lines, stream: Stream) -> list[str]:
    """The users of a file, each once. Raises Refusal for a file with an invalid line, without a user or with too
    many."""
    users, errors = dict[str, None](), list[FieldError]()
    async for some in parse_body(request, book, lines, stream):
        for line in some:
            if isinstance(line, CodeLine):
                users[line.owner_id or ""] = None
            elif len(errors) < MAX_ERRORS:
                errors.append(FieldError("users", f"line {line.line}: {line.reason}"))
        if len(users) > MAX_USERS:
            raise invalid("users", f"must have at most {MAX_USERS:,} users; send several files for more")
    if errors or not users:
        raise Refusal("invalid", errors=errors or [FieldError("users", "must have a user")])
    return list(users)
