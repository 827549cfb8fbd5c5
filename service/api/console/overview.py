"""What the console shows and no other client asks for: everything at one glance, and lists over all books."""

import asyncio
import time
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get

from service.access.caller import Caller
from service.api.auth import caller
from service.api.context import Context
from service.api.controllers.histories import BookStats, RedemptionPage, settled, shown_stats
from service.api.reading import Listing, query
from service.domain.errors import Refusal
from service.domain.field_types import Answer
from service.formats import page_cursors
from service.hot.connection import Broken
from service.hot.fitness import check_server
from service.hot.workspace_state import BookCounts
from service.operations.accounting import answers
from service.operations.base import encode
from service.operations.views import Job, redemption_of, shown_job
from service.record.config.book_rows import page_books
from service.record.config.job_rows import page_jobs
from service.record.facts.history_pages import redemptions_of_workspace
from service.record.pool import ERRORS
from service.record.postgres_server import read_server

MAX_BOOKS = 50
ASK_S = 1.0
FOR_OPERATORS = {"roles": ("manage", "operate")}
FOR_MANAGERS = {"roles": ("manage",)}
"""Who may ask: `opt` of handlers that no document names, and no table of operations' ids."""
_LAST_ID = UUID(int=2**128 - 1)


class BookNow(Answer):
    """A book and what is true of its codes; `counts` is None where Redis can't say."""

    book_id: UUID
    name: str
    status: str
    low_stock_threshold: int | None
    max_redemptions: int | None
    counts: BookStats | None


class RedisNow(Answer):
    """What the server says of itself; `server` is None while it can't be asked."""

    connected: bool
    gate: str
    epoch: int
    server: str | None = None
    used_bytes: int = 0
    max_bytes: int = 0
    replicas: int = 0
    fsynced: bool = False


class PostgresNow(Answer):
    """`version` is None while it can't be asked."""

    version: str | None = None
    bytes: int = 0
    connections: int = 0


class Overview(Answer):
    """Everything at one glance. `totals` counts what all API processes did and refused, by name, since they started."""

    at: int
    totals: dict[str, int]
    redis: RedisNow
    postgres: PostgresNow
    books: list[BookNow]
    more_books: bool


class JobPage(Answer):
    """A page of jobs, newest first."""

    items: list[Job]
    next_cursor: str | None


class Looking(Controller):
    """Reading for operators."""

    path = "/"

    @get("/overview", include_in_schema=False, opt=FOR_OPERATORS)
    async def overview(self, request: Request[Any, Any, Any]) -> Overview:
        """What is going on. Without Postgres it tells no books."""
        who = caller(request)
        query(request)
        context: Context = request.app.state.context
        redis, postgres, (books, more) = await asyncio.gather(
            _redis(context, who), _postgres(context), _books(context, who)
        )
        return Overview(
            at=time.time_ns() // 1_000_000,
            totals=answers.totals(),
            redis=redis,
            postgres=postgres,
            books=books,
            more_books=more,
        )

    @get("/jobs", include_in_schema=False, opt=FOR_OPERATORS)
    async def jobs(self, request: Request[Any, Any, Any]) -> JobPage:
        """The workspace's jobs, newest first."""
        who = caller(request)
        asked = query(request, Listing)
        (before,) = page_cursors.JOBS.decode(asked.cursor) or (_LAST_ID,)
        rows = await page_jobs(request.app.state.context.pool, who.workspace, asked.limit + 1, before)
        items = [shown_job(row) for row in rows[: asked.limit]]
        return JobPage(
            items=items, next_cursor=page_cursors.JOBS.encode_next(rows, asked.limit, lambda row: (row.job_id,))
        )

    @get("/redemptions", include_in_schema=False, opt=FOR_MANAGERS)
    async def redemptions(self, request: Request[Any, Any, Any]) -> Response[RedemptionPage]:
        """All redemptions of the workspace, newest first."""
        who, asked = caller(request), query(request, Listing)
        headers = await settled(request, who)
        page = await redemptions_of_workspace(request.app.state.context.pool, who.workspace, asked.limit, asked.cursor)
        body = RedemptionPage(items=[redemption_of(past) for past in page.items], next_cursor=page.next_cursor)
        return Response(encode(body), headers=headers, media_type="application/json")  # type: ignore[return-value]


async def _redis(context: Context, who: Caller) -> RedisNow:
    decider = context.decider
    now = RedisNow(connected=decider.link.connected, gate="", epoch=decider.epoch(who.partition))
    try:
        async with asyncio.timeout(ASK_S):
            now.gate = await decider.gate(who.partition)
            found = await check_server(decider.link.call)
    except (Refusal, Broken, TimeoutError):
        return now
    now.server, now.used_bytes, now.max_bytes = found.server, found.used_bytes, found.max_bytes
    now.replicas, now.fsynced = found.replicas, found.fsynced
    return now


async def _postgres(context: Context) -> PostgresNow:
    try:
        async with asyncio.timeout(ASK_S):
            found = await read_server(context.pool)
    except ERRORS:
        return PostgresNow()
    return PostgresNow(version=found.version, bytes=found.bytes, connections=found.connections)


async def _books(context: Context, who: Caller) -> tuple[list[BookNow], bool]:
    """The newest books, and whether there are more."""
    try:
        async with asyncio.timeout(ASK_S):
            rows = await page_books(context.pool, who.workspace, MAX_BOOKS + 1, None, None, None, None)
    except ERRORS:
        return [], False
    counts = await asyncio.gather(
        *(context.hot.book_counts(who, str(row.book_id)) for row in rows[:MAX_BOOKS]), return_exceptions=True
    )
    books = [
        BookNow(
            book_id=row.book_id,
            name=row.name,
            status=row.status,
            low_stock_threshold=row.low_stock_threshold,
            max_redemptions=row.max_redemptions,
            counts=shown_stats(found) if isinstance(found, BookCounts) else None,
        )
        for row, found in zip(rows, counts, strict=False)
    ]
    return books, len(rows) > MAX_BOOKS
