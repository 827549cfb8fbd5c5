"""A partition in Postgres with an epoch, and events to record in it."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio
import uuid_utils

from service.engine.domain.configuration import BookRow, WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.formats.event_id import NO_EVENT
from service.engine.formats.events import (
    Assigned,
    BalanceChanged,
    Event,
    Fact,
    Redeemed,
    RolledBack,
    Unassigned,
    encode_event,
    encode_request,
)
from service.engine.operations.caller import SCOPES, Caller
from service.engine.record.facts.event_writer import record
from service.engine.record.facts.fact_reader import fact_pages
from service.engine.record.partitions.partition_rows import begin_epoch, ensure_partitions, enter_epoch, take_lease
from service.engine.record.pool import connect
from service.server.in_postgres.book_rows import create_book
from service.server.in_postgres.job_rows import JobRow, Kind, begin_turn, jobs_by_id
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.book_requests import CreateBook

EVENT_MS = 1_600_000_000_000
"""When facts happened: long ago, so that no test of them depends on the clock."""


class Record:
    """A partition with an epoch, and its cursor."""

    def __init__(self, pool: asyncpg.Pool, fence: int, epoch: int) -> None:
        self.pool, self.fence, self.epoch, self.seq = pool, fence, epoch, 0
        self._ids: dict[str, str] = {}

    def id_of(self, use: Redeemed) -> str:
        """The id that a redemption was recorded with."""
        return self._ids[use.redemption_id]

    def _number(self, event: Event, seq: int) -> Event:
        numbered = msgspec.structs.replace(event, epoch=self.epoch, seq=seq)
        if isinstance(event, Redeemed) and isinstance(numbered, Redeemed):
            self._ids[event.redemption_id] = numbered.redemption_id
        if isinstance(numbered, RolledBack) and numbered.redemption_id in self._ids:
            return msgspec.structs.replace(numbered, redemption_id=self._ids[numbered.redemption_id])
        return numbered

    async def write(self, *events: Event) -> bool:
        """Number events and record them in one batch; False if not written."""
        entries = [
            (
                self.seq + i,
                encode_event(self._number(event, self.seq + i)).encode(),
                encode_request(event.request),
                event.kept.encode() if event.kept else None,
            )
            for i, event in enumerate(events, 1)
        ]
        to_seq = self.seq + len(events)
        async with self.pool.acquire() as connection:
            moved = await record(connection, 0, self.epoch, self.seq, to_seq, self.fence, entries, b"digest")
        self.seq = to_seq if moved else self.seq
        return moved

    async def facts(self, **options: Any) -> list[Fact]:
        return await read_facts(self.pool, **options)


async def read_facts(pool: asyncpg.Pool, **options: Any) -> list[Fact]:
    async with pool.acquire() as connection, contextlib.aclosing(fact_pages(connection, 0, **options)) as pages:
        return [fact async for page in pages for fact in page]


@pytest.fixture
def partitions() -> int:
    return 1


@pytest_asyncio.fixture
async def pool(database_url: str, partitions: int) -> AsyncIterator[asyncpg.Pool]:
    async with await connect(database_url) as pool:
        await ensure_partitions(pool, partitions)
        yield pool


@pytest_asyncio.fixture
async def workspace(pool: asyncpg.Pool) -> WorkspaceRow:
    async with pool.acquire() as connection:
        return await create_workspace(connection, "shop")


async def make_book(pool: asyncpg.Pool, row: WorkspaceRow, **fields: Any) -> BookRow:
    request = convert({"name": "Sale"} | fields, CreateBook)
    return (await create_book(pool, row.workspace, row.partition, request))[0]


def make_caller(row: WorkspaceRow) -> Caller:
    """A key of the workspace, with all scopes."""
    return Caller(uuid4(), row.workspace, row.workspace_id, row.partition, "live", frozenset(SCOPES))


FENCE = 0
"""Of a partition whose lease no worker has taken yet."""


async def take_partition(pool: asyncpg.Pool, partition: int = 0) -> int:
    """Take the lease of a partition as a new worker; return its fence."""
    fence = await take_lease(pool, partition, uuid4().hex)
    assert fence is not None
    return fence


async def take_job(pool: asyncpg.Pool, partition: int, fence: int, kind: Kind) -> JobRow | None:
    """Begin a job's turn, and read the job."""
    turn = await begin_turn(pool, partition, fence, kind)
    return None if turn is None else (await jobs_by_id(pool, [turn.job_id]))[turn.job_id]


@pytest_asyncio.fixture
async def kept(pool: asyncpg.Pool) -> Record:
    fence = await take_partition(pool)
    epoch = await begin_epoch(pool, 0, fence, "nonce")
    assert await enter_epoch(pool, 0, fence, NO_EVENT, epoch, b"first")
    return Record(pool, fence, epoch)


def assigned(code: str = "CODE", user: str = "user", at_ms: int = EVENT_MS, **more: Any) -> Assigned:
    return Assigned(epoch=0, seq=0, workspace=1, book=2, code=code, user=user, at_ms=at_ms, **more)


def unassigned(code: str = "CODE", user: str = "user", at_ms: int = EVENT_MS, **more: Any) -> Unassigned:
    return Unassigned(epoch=0, seq=0, workspace=1, book=2, code=code, user=user, at_ms=at_ms, **more)


_drafts = itertools.count(1)


def redeemed(code: str = "CODE", **more: Any) -> Redeemed:
    """A redemption with an id of its own, until Record.write numbers it."""
    fields: dict[str, Any] = {
        "workspace": 1,
        "book": 2,
        "user": "user",
        "at_ms": EVENT_MS,
        "order": None,
        "value_e4": 1_000_000,
        "currency": "USD",
        "digits": 2,
        "discount_e4": 250_000,
        "slot": 1 if more.get("order") else 0,
        "max_uses": 1,
    }
    return Redeemed(epoch=0, seq=next(_drafts), code=code, **fields | more)


def rolled_back(use: Redeemed, restore: bool = True, **more: Any) -> RolledBack:
    same = {name: getattr(use, name) for name in ("workspace", "book", "code", "user", "order", "redemption_id")}
    return RolledBack(epoch=0, seq=0, **same, at_ms=EVENT_MS + 5, restore=restore, **more)


def balance_changed(code: str = "CARD", at_ms: int = EVENT_MS, **more: Any) -> BalanceChanged:
    fields: dict[str, Any] = {"kind": "credited", "amount_e4": 50_000, "balance_after_e4": 150_000}
    return BalanceChanged(epoch=0, seq=0, workspace=1, book=2, code=code, at_ms=at_ms, **fields | more)


async def make_workspace(pool: asyncpg.Pool) -> UUID:
    """Make workspace 1 with book 2; return its `book_id`."""
    book_id = UUID(str(uuid_utils.uuid7()))
    await pool.execute(
        "INSERT INTO workspaces (workspace_id, name, mode, partition, version) "
        "VALUES (gen_random_uuid(), 'w', 'live', 0, 1)"
    )
    await pool.execute(
        """INSERT INTO books (workspace, book, book_id, name, description, status, require_assignment, require_lock,
        lock_seconds, max_lock_seconds, code_pattern, charset, tags, metadata, version)
        VALUES (1, 2, $1, 'b', '', 'active', false, false, 300, 3600, '####', 'AB', '{}', '{}', 1)""",
        book_id,
    )
    return book_id
