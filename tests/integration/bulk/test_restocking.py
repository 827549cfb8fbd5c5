"""Ordering codes for books with `keepFree`: each missing code once, also with several workers and running jobs."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.engine.domain.configuration import BookRow, WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.record.partitions.partition_rows import bump_config_version
from service.server.in_postgres import book_rows, code_rows, job_rows, stock
from service.server.in_postgres.job_rows import Generation
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.in_redis.workspace_state import BookCounts, counts_of
from service.server.requests.book_requests import PatchBook
from service.server.requests.code_requests import CodeLine
from service.server.tasks import restocker
from service.server.tasks.restocker import Restocker
from tests.harness.waiting import wait_until
from tests.integration.recording.record_fixtures import FENCE, make_book, take_job


async def make_kept_book(
    pool: asyncpg.Pool, row: WorkspaceRow, keep_free: int = 50, **fields: Any
) -> tuple[BookRow, stock.StockedBook]:
    """Create the only book with `keepFree`; also as the restocker reads it."""
    book = await make_book(pool, row, keepFree=keep_free, **fields)
    (kept,) = await stock.page_stocked_books(pool, 0, 100, {})
    return book, kept


async def make_codes(pool: asyncpg.Pool, job: job_rows.JobRow, count: int) -> None:
    """Write codes of a job, and finish it once all are there, as Generator does."""
    async with pool.acquire() as connection, connection.transaction():
        await write_chunk(connection, job, count)
    if job.done + count == job.requested:
        await job_rows.end_job(pool, job, FENCE)


async def write_chunk(connection: Any, job: job_rows.JobRow, count: int) -> None:
    version = await bump_config_version(connection, 0)
    lines = [CodeLine(f"G-{uuid4().hex.upper()}") for _ in range(count)]
    await code_rows.insert_codes(connection, job.workspace, 0, cast("int", job.book), version, lines)
    await job_rows.advance_job(connection, job, FENCE, count)


async def list_running(pool: asyncpg.Pool) -> list[int]:
    """Return how many codes each running job was ordered to make."""
    rows = await pool.fetch("SELECT requested FROM jobs WHERE status = 'running' ORDER BY job_id")
    return [row["requested"] for row in rows]


async def test_only_kept_books_are_paged(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A page has books with `keepFree` of one partition: inactive books too, archived ones not."""
    first = await make_book(pool, workspace, keepFree=5)
    await make_book(pool, workspace)
    second = await make_book(pool, workspace, keepFree=6, status="inactive")
    await make_book(pool, workspace, keepFree=7, status="archived")
    third = await make_book(pool, workspace, keepFree=8)
    books = await stock.page_stocked_books(pool, 0, 100, {})
    assert [(kept.book_id, kept.version, kept.keep_free) for kept in books] == [
        (row.book_id, row.version, row.keep_free) for row in (first, second, third)
    ]
    assert await stock.page_stocked_books(pool, 0, 2, {}) == books[:2]
    assert await stock.page_stocked_books(pool, 0, 2, dict([books[1].key])) == [books[2], books[0]]
    assert await stock.page_stocked_books(pool, 1, 100, {}) == []


async def test_a_lack_is_ordered_once(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """Of ten workers that count the same missing codes, one orders them; free and running codes are not ordered."""
    _, kept = await make_kept_book(pool, workspace, codePattern="A-######", charset="0123456789ABCDEF")
    made = await asyncio.gather(*(stock.order_missing(pool, kept, 0, 0) for _ in range(10)))
    (job,) = [job for job in made if job]
    assert (job.kind, job.requested, job.workspace) == ("generate", 50, workspace.workspace)
    assert job.parameters == job_rows.Generation(code_pattern="A-######", charset="0123456789ABCDEF")

    await make_codes(pool, job, 20)
    assert await stock.order_missing(pool, kept, 20, 20) is None
    more = await stock.order_missing(pool, kept, 20, 15)
    assert more is not None
    assert more.requested == 5
    assert await list_running(pool) == [50, 5]


async def test_codes_on_their_way_are_not_ordered_again(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """A count by a Redis that does not have all recorded codes orders nothing."""
    book, kept = await make_kept_book(pool, workspace)
    job = await stock.order_missing(pool, kept, 0, 0)
    assert job is not None
    await make_codes(pool, job, 50)
    assert await list_running(pool) == []
    for codes_, free in ((0, 0), (1, 1), (49, 49), (49, 0)):
        assert await stock.order_missing(pool, kept, codes_, free) is None
    assert await stock.order_missing(pool, kept, 50, 50) is None
    await code_rows.add_codes(pool, workspace.workspace, 0, book.book, [CodeLine("OWN-1")])
    assert await stock.order_missing(pool, kept, 50, 20) is None
    more = await stock.order_missing(pool, kept, 51, 21)
    assert more is not None
    assert more.requested == 29


async def test_an_order_waits_for_codes_being_written(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """An order waits while another transaction writes codes of the book, and then counts them."""
    _, kept = await make_kept_book(pool, workspace)
    job = await stock.order_missing(pool, kept, 0, 0)
    assert job is not None
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%lock_stocked_book%'"
    async with pool.acquire() as connection:
        async with connection.transaction():
            await write_chunk(connection, job, 50)
            order = asyncio.create_task(stock.order_missing(pool, kept, 0, 0))
            await wait_until(lambda: pool.fetch(waits))
            assert not order.done()
        assert await order is None
    assert await list_running(pool) == [50]


async def test_an_order_follows_the_book_as_it_is_now(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """An order uses the book's `keepFree`, pattern and status of now, not those of the count."""
    book, kept = await make_kept_book(pool, workspace)

    async def patch(**changes: Any) -> None:
        await book_rows.patch_book(pool, workspace.workspace, 0, book.book_id, convert(changes, PatchBook))

    for changes in ({"keepFree": None}, {"keepFree": 50, "status": "archived"}):
        await patch(**changes)
        assert await stock.order_missing(pool, kept, 0, 0) is None
    await patch(keepFree=10, status="active", codePattern="NEW-########")
    job = await stock.order_missing(pool, kept, 0, 0)
    assert job is not None
    assert (job.requested, cast("Generation", job.parameters).code_pattern) == (10, "NEW-########")


async def test_a_pattern_without_room_orders_nothing(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """An order for a book whose pattern has no room for one more code is refused."""
    book, kept = await make_kept_book(pool, workspace, 1, codePattern="####", charset="0123456789")
    await code_rows.add_codes(pool, workspace.workspace, 0, book.book, [CodeLine("OWN-1")])
    with pytest.raises(Refusal, match="pattern_too_small"):
        await stock.order_missing(pool, kept, 1, 0)
    assert await list_running(pool) == []


class Counted(Restocker):
    """A Restocker whose Redis has a config version and no codes; it stores which books it counted."""

    def __init__(self, pool: asyncpg.Pool, version: int = 1000) -> None:
        super().__init__(pool, cast("Any", None), cast("Any", None), cast("Any", self), 0)
        self.version, self.counted, self.counted_ids = version, list[int](), list[UUID]()

    async def read_last_version(self, partition: int) -> int:
        return self.version

    async def _count(self, book: stock.StockedBook) -> BookCounts:
        self.counted.append(book.book)
        self.counted_ids.append(book.book_id)
        return counts_of(["", *["0"] * 15, "USD", "-"])


async def test_a_look_is_bounded(pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look counts at most BOOKS_A_PAGE books; the next continues after them, and after the last comes the first."""
    monkeypatch.setattr(restocker, "BOOKS_A_PAGE", 2)
    numbers = [(await make_book(pool, workspace, keepFree=5)).book for _ in range(5)]
    worker = Counted(pool)
    for wanted in (numbers[:2], numbers[2:4], [numbers[4], numbers[0]], numbers[1:3]):
        worker.counted = []
        await worker.restock_next()
        assert worker.counted == wanted
    assert await list_running(pool) == [5] * 5


async def test_workspaces_take_turns(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a workspace with many books, each look counts the only book of another; and of more workspaces than a look
    has books, each is counted within the next looks."""
    many = [(await make_book(pool, workspace, keepFree=5)).book_id for _ in range(9)]
    async with pool.acquire() as connection:
        others = [await create_workspace(connection, f"other-{number}") for number in range(4)]
    own = (await make_book(pool, others[0], keepFree=5)).book_id
    monkeypatch.setattr(restocker, "BOOKS_A_PAGE", 4)
    worker = Counted(pool)

    async def count() -> list[UUID]:
        worker.counted_ids = []
        await worker.restock_next()
        return worker.counted_ids

    looks = [await count() for _ in range(3)]
    assert [len(set(look)) for look in looks] == [4, 4, 4]
    assert all(own in look for look in looks)
    assert {book for look in looks for book in look} == {own, *many}
    singles = {own} | {(await make_book(pool, other, keepFree=5)).book_id for other in others[1:]}
    monkeypatch.setattr(restocker, "BOOKS_A_PAGE", 2)
    assert singles <= {book for _ in range(4) for book in await count()}


async def test_a_book_is_counted_once_redis_has_it(pool: asyncpg.Pool, workspace: WorkspaceRow) -> None:
    """The restocker counts a book once Redis has the book's version."""
    book = await make_book(pool, workspace, keepFree=5)
    worker = Counted(pool, book.version - 1)
    await worker.restock_next()
    assert worker.counted == []
    worker.version += 1
    await worker.restock_next()
    assert worker.counted == [book.book]


async def test_failing_is_tried_again_a_minute_later(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed job its book rests for PAUSE_S, and no other; a change of the book ends the rest."""
    now = 1000.0
    monkeypatch.setattr(restocker, "time", SimpleNamespace(monotonic=lambda: now))
    full = await make_book(pool, workspace, keepFree=2)
    other = await make_book(pool, workspace, keepFree=3)
    worker = Counted(pool)
    await worker.restock_next()
    assert await list_running(pool) == [2, 3]
    failing = await take_job(pool, 0, FENCE, "generate")
    assert failing is not None
    await job_rows.end_job(pool, failing, FENCE, ["No more."])
    for _ in range(3):
        await worker.restock_next()
    assert await list_running(pool) == [3]
    now += restocker.PAUSE_S - 1
    worker.counted = []
    await worker.restock_next()
    assert worker.counted == [other.book]
    assert await list_running(pool) == [3]
    now += 2
    await worker.restock_next()
    assert await list_running(pool) == [3, 2]

    taken = [await take_job(pool, 0, FENCE, "generate") for _ in range(2)]
    (again,) = [job for job in taken if job and job.requested == 2]
    await job_rows.end_job(pool, again, FENCE, ["No more."])
    await worker.restock_next()
    assert await list_running(pool) == [3]
    changes = convert({"codePattern": "B-########"}, PatchBook)
    await book_rows.patch_book(pool, workspace.workspace, 0, full.book_id, changes)
    await worker.restock_next()
    assert await list_running(pool) == [3, 2]


async def test_books_that_ran_low_in_turns(
    pool: asyncpg.Pool, workspace: WorkspaceRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Books that ran low are found in turns of workspaces, of each the last ones first, among its last notices."""
    monkeypatch.setattr(stock, "NOTICES_OF_ONE", 5)
    async with pool.acquire() as connection:
        other = await create_workspace(connection, "other")
    own = [await make_book(pool, workspace, lowStockThreshold=5) for _ in range(7)]
    theirs = [await make_book(pool, other, **fields) for fields in ({"lowStockThreshold": 5}, {})]
    notices = [*theirs, *own, own[4], own[4]]
    await pool.executemany(
        """INSERT INTO stock_notices (partition, epoch, seq, workspace, book, notice, what, remaining, noticed_at)
        VALUES (0, 1, $1, $2, $3, 'low', 'codes', 4, now())""",
        [(seq, book.workspace, book.book) for seq, book in enumerate(notices, 1)],
    )
    found = [book.book_id for book in await stock.books_that_ran_low(pool, 0, 10)]
    assert found == [book.book_id for book in (own[4], theirs[0], own[6], own[5])]
    assert [book.book_id for book in await stock.books_that_ran_low(pool, 0, 2)] == found[:2]
