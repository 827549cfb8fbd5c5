"""Data of the console that has no public endpoint: the overview, and lists over all books. session.py registers the
routes; overview.js and other scripts of the console read these names. Bodies copy fields of rows by name."""

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, Literal, TypeVar
from uuid import UUID

from litestar import Controller, Request, Response, get

from service.console.stocks import MAX_BOOKS, BookNow, count_books
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, Page, UserId
from service.engine.domain.times import Time, Timestamp, check_times, to_ms
from service.engine.domain.uuids import LAST_ID
from service.engine.hot.connection import Broken
from service.engine.hot.fitness import check_server
from service.engine.operations.caller import Caller
from service.engine.record.actor import ActorKind
from service.engine.record.partitions.partition_rows import Partition, read_partitions
from service.engine.record.pool import ERRORS
from service.engine.record.queries import query
from service.server.answers.views import Job
from service.server.api.auth import FOR_MANAGERS, FOR_OPERATORS
from service.server.api.context import Context
from service.server.api.controllers.histories import RedemptionPage, list_redemptions
from service.server.api.reading import Listing, unpack_request
from service.server.in_postgres.book_rows import page_books
from service.server.in_postgres.change_history import UNKNOWN, read_job_actors
from service.server.in_postgres.history_pages import RedemptionFilter, redemptions_of_workspace
from service.server.in_postgres.job_rows import page_jobs
from service.server.in_postgres.object_names import read_names
from service.server.requests import page_cursors

T = TypeVar("T")

MAX_PARTITIONS = 50
ASK_S = 1.0


class RedisNow(Answer):
    """The state of the Redis server; `server` is None while it is unreachable."""

    connected: bool
    gate: str
    epoch: int
    server: str | None = None
    used_bytes: int = 0
    max_bytes: int = 0
    fsynced: bool = False


class PostgresNow(Answer):
    """The state of the Postgres server; `version` is None while it is unreachable."""

    version: str | None = None
    database_bytes: int = 0
    connections: int = 0


class PartitionNow(Answer):
    """A partition. One that is `waiting` is closed until no process can use its last server; one that is `older`, until
    an operator decides what happens to what Redis has and Postgres lacks."""

    id: int
    state: Literal["open", "closed", "waiting", "older"]
    since: Timestamp | None
    """Since when it is open or closed; None if unknown."""
    lacks: str | None
    """What Redis has and Postgres lacks, in words, if the workspace's own partition is `older`."""
    has_worker: bool
    """Whether a living worker has its lease: else nothing is recorded."""


class Workers(Answer):
    """How many partitions exist and are open; and the workspace's, then others that are not open or have no worker."""

    partitions: int
    open: int
    shown: list[PartitionNow]


class Overview(Answer):
    """The overview. `workers` is None while Postgres is unavailable, and without the scope `operate`."""

    at: int
    redis: RedisNow
    postgres: PostgresNow
    workers: Workers | None
    books: list[BookNow]
    more_books: bool


class ListRedemptions(Listing, kw_only=True):
    """Filters of the list of redemptions."""

    book_id: UUID | None = None
    user_id: UserId | None = None
    since: Time | None = None
    until: Time | None = None

    def __post_init__(self) -> None:
        check_times(self)


class ListedJob(Job, kw_only=True):
    """A job with the id and name of its book; None for a job of the whole workspace. `actor` ordered it: a key with a
    name, a person, the command line, or the service; None if it is not known."""

    book_id: UUID | None
    book_name: str | None
    actor: ActorKind | None
    key_id: UUID | None
    key_name: str | None
    person: str | None


class JobPage(Page[ListedJob]):
    """A page of jobs, newest first."""


class Overviews(Controller):
    path = "/"

    @get("/overview", opt=FOR_OPERATORS)
    async def overview(self, request: Request[Any, Any, Any]) -> Overview:
        """The overview. Without Postgres it has no books."""
        caller, context, _ = unpack_request(request)
        redis, postgres, workers, (books, more) = await asyncio.gather(
            _redis(context, caller), _postgres(context), _workers(context, caller), _books(context, caller)
        )
        return Overview(
            at=time.time_ns() // 1_000_000,
            redis=redis,
            postgres=postgres,
            workers=workers,
            books=books,
            more_books=more,
        )

    @get("/jobs", opt=FOR_OPERATORS)
    async def jobs(self, request: Request[Any, Any, Any]) -> JobPage:
        """The workspace's jobs, newest first."""
        caller, context, params = unpack_request(request, Listing)
        (before,) = page_cursors.JOBS.decode(params.cursor) or (LAST_ID,)
        rows = await page_jobs(context.pool, caller.workspace, params.limit + 1, before)
        page = page_cursors.JOBS.make_page(rows, params.limit, lambda row: (row.job_id,))
        ids = {row.job_id for row in rows}
        names = await read_names(context.pool, caller.workspace, ids)
        actors = await read_job_actors(context.pool, caller.workspace, ids)
        items = [
            ListedJob.from_row(row, book_name=names.get(row.job_id), **actors.get(row.job_id, UNKNOWN)._asdict())
            for row in page.items
        ]
        return JobPage(items=items, next_cursor=page.next_cursor)

    @get("/redemptions", opt=FOR_MANAGERS)
    async def redemptions(self, request: Request[Any, Any, Any]) -> Response[RedemptionPage]:
        """The workspace's redemptions that pass the filters, newest first."""
        caller, context, params = unpack_request(request, ListRedemptions)
        wanted = RedemptionFilter(
            since_ms=None if params.since is None else to_ms(params.since),
            until_ms=None if params.until is None else to_ms(params.until),
            book_id=params.book_id,
            user_id=params.user_id,
        )
        return await list_redemptions(context, caller, params, partial(redemptions_of_workspace, wanted))


async def _redis(context: Context, caller: Caller) -> RedisNow:
    decider, link = context.decider, context.decider.link(caller.partition)
    now = RedisNow(connected=link.connected, gate="", epoch=decider.epoch(caller.partition))
    try:
        async with asyncio.timeout(ASK_S):
            now.gate = await decider.read_verified_gate(caller.partition)
            server = await check_server(link.call)
    except (Refusal, Broken, TimeoutError):
        return now
    about = {"connected": now.connected, "gate": now.gate, "epoch": now.epoch, "fsynced": link.fsynced}
    return RedisNow.from_row(server, **about)


async def _read_or_none(reading: Awaitable[T]) -> T | None:
    """What is read from Postgres; None if it is unavailable."""
    try:
        async with asyncio.timeout(ASK_S):
            return await reading
    except ERRORS:
        return None


async def _postgres(context: Context) -> PostgresNow:
    row = await _read_or_none(context.pool.fetchrow(query("read_postgres_figures")))
    return PostgresNow(**row) if row else PostgresNow()


async def _workers(context: Context, caller: Caller) -> Workers | None:
    """Other partitions are those of other workspaces: nothing is shown of them but what /health/ready tells anyone, and
    since when."""
    if "operate" not in caller.scopes:
        return None
    rows = await _read_or_none(read_partitions(context.pool))
    if rows is None:
        return None
    of_workspace = [row for row in rows if row.id == caller.partition]
    idle = [row for row in rows if row.id != caller.partition and not (row.state == "open" and row.lease_live)]
    shown = [_render_partition(row, is_own=row in of_workspace) for row in (of_workspace + idle)[:MAX_PARTITIONS]]
    return Workers(partitions=len(rows), open=sum(row.state == "open" for row in rows), shown=shown)


def _render_partition(row: Partition, *, is_own: bool) -> PartitionNow:
    closed = "older" if row.lacks else "waiting" if row.waits_until else "closed"
    state = "open" if row.state == "open" else closed
    lacks = row.lacks if is_own else None
    return PartitionNow.from_row(row, state=state, lacks=lacks, has_worker=row.lease_live)


async def _books(context: Context, caller: Caller) -> tuple[list[BookNow], bool]:
    """The newest books, and whether there are more."""
    rows = await _read_or_none(page_books(context.pool, caller.workspace, MAX_BOOKS + 1)) or []
    return await count_books(context, caller, rows[:MAX_BOOKS]), len(rows) > MAX_BOOKS
