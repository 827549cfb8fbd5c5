"""A partition with some traffic behind it, opened by workers that may die at any command."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.engine.deciding.recall import decide
from service.engine.domain.configuration import WorkspaceRow
from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.formats import key_names
from service.engine.hot.connection import Broken
from service.engine.hot.decider import Decider, Reply
from service.engine.hot.link import Link
from service.engine.hot.outbox import Outbox
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import PROJECTION, SERVING, Scripts
from service.engine.operations import assign, checkout, coupon_view, gift, redeem, rollback, unassign
from service.engine.operations.base import Call, Operation
from service.engine.operations.caller import Caller
from service.engine.record import pool as postgres
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.opening import partition_opening as opening
from service.engine.worker.opening import restorer
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.projection_catchup import ProjectionCatchUp, projector_of
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.write_behind import Flusher
from service.server.in_postgres.code_rows import add_codes
from service.server.requests.code_requests import CodeLine
from tests.harness.reaching import reach
from tests.harness.waiting import PATIENCE_S, running
from tests.integration.recording.record_fixtures import make_book, make_caller, take_partition

_SNAPSHOT = """
local keys = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  keys[#keys + 1] = { name, redis.call('DUMP', name), math.max(0, redis.call('PTTL', name)) }
end
return keys"""
_PUT_BACK = "for i = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[i], ARGV[i + 1], ARGV[i + 2]) end"
_VALUES = """
local keys = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', name).ok
  if kind == 'string' then keys[#keys + 1] = { name, kind, redis.call('GET', name) } end
  if kind == 'hash' then keys[#keys + 1] = { name, kind, redis.call('HGETALL', name) } end
  if kind == 'zset' then keys[#keys + 1] = { name, kind, redis.call('ZRANGE', name, 0, -1, 'WITHSCORES') } end
end
return keys"""


class Life:
    """How many steps a worker has left before it dies; -1 for no end."""

    def __init__(self, left: int = -1) -> None:
        self.left = left

    def step(self) -> None:
        """Count a step. Raises Broken when there are none left."""
        if self.left == 0:
            raise Broken
        self.left -= 1


class Dying(Server):
    """A server whose worker dies before its n-th command."""

    life = Life()

    async def command(self, *command: Any) -> Any:
        self.life.step()
        return await super().command(*command)

    async def run(self, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        self.life.step()
        return await super().run(scripts, script, names, args)


@dataclass
class PartitionSetup:
    """A partition with some traffic behind it."""

    pool: asyncpg.Pool
    redis: Redis
    outbox: Outbox
    valkey_url: str
    link: Link
    decider: Decider
    caller: Caller

    @asynccontextmanager
    async def server(self, partition: int = 0) -> AsyncIterator[Dying]:
        """A worker's connection to Redis."""
        with closing(await reach(self.valkey_url)) as connection:
            yield Dying(connection, partition)

    async def scripts(self) -> Scripts:
        """Return the scripts of the open epoch."""
        row = await read_partition(self.pool, 0)
        return Scripts(0, row.epoch, row.nonce, [*SERVING, *PROJECTION])

    async def open(self, dies_after: int = -1) -> None:
        """Open as a worker that dies after so many commands. Raises Broken when it did."""
        fence = await take_partition(self.pool)
        flusher = Flusher(self.outbox, self.pool, 0, fence)
        async with self.server() as server:
            server.life = Life(dies_after)
            await Opening(server, self.pool, flusher, fence, LoadedScripts(self.pool)).run()

    async def learn(self) -> None:
        """Let the API process read the open epoch from Postgres."""
        row = await read_partition(self.pool, 0)
        if row.state == "open":
            self.decider.learn(0, row.epoch, row.nonce)
        else:
            self.decider.forget(0)

    async def do(self, operation: Operation, code: str, /, key: str = "", **body: Any) -> Any:
        """Run an operation; return the body of its answer."""
        return await ask(self.decider, self.pool, self.caller, operation, code, key, **body)

    async def refusal(self, operation: Operation, code: str, /, **body: Any) -> str:
        """Return the code with which an operation is refused; '' if it is not."""
        return await refusal_of(self.do(operation, code, **body))

    async def record(self) -> int:
        """Record what is in the outbox; return the number of events."""
        flusher = Flusher(self.outbox, self.pool, 0, await take_partition(self.pool))
        await flusher.start()
        return await flusher.step()

    async def reopen(self) -> None:
        """Open the partition as another worker, and let the API process read its new epoch."""
        await self.open()
        await self.learn()

    async def catch_up(self) -> None:
        """Project what Redis lacks, as the worker's task does, until Redis has everything."""
        async with self.server() as server:
            fence = (await read_partition(self.pool, 0)).fence
            projector = projector_of(server, await self.scripts())
            caught_up, lease = asyncio.Event(), Mock()

            async def wait_until_configured(_: int) -> None:
                caught_up.set()
                await asyncio.Event().wait()

            lease.wait_until_configured = wait_until_configured
            async with running(ProjectionCatchUp(server, projector, self.pool, fence).run(lease)):
                await asyncio.wait_for(caught_up.wait(), PATIENCE_S)

    async def rebuild(self) -> None:
        """Empty Redis, and open the partition again."""
        await self.redis.flushall()
        await self.reopen()

    async def snapshot(self) -> dict[bytes, tuple[bytes, int]]:
        """Return all keys of Redis, for put_back."""
        keys: Any = await self.redis.eval(_SNAPSHOT, 0)
        return {name: (value, ttl_ms) for name, value, ttl_ms in keys}

    async def stored(self) -> dict[bytes, bytes]:
        """Return all keys of Redis with their values, streams too."""
        return {name: value for name, (value, _) in (await self.snapshot()).items()}

    async def put_back(self, kept: dict[bytes, tuple[bytes, int]]) -> None:
        """Restore Redis as it was at the snapshot."""
        await self.redis.flushall()
        args = [arg for name, (value, ttl_ms) in kept.items() for arg in (name, ttl_ms, value)]
        await self.redis.eval(_PUT_BACK, 0, *args)

    async def recovery(self) -> str:
        """Return in which way the last opening restored Redis; it has restored all."""
        row = await self.pool.fetchrow("SELECT kind, total, done FROM recoveries ORDER BY epoch DESC LIMIT 1")
        assert row
        assert row["total"] == row["done"]
        return row["kind"]

    async def everything(self) -> dict[bytes, Any]:
        """Return what Redis holds of the workspace, without samples of stored answers: a rebuild counts all; and
        without how far the outbox may name deleted users: a rebuild empties it."""
        held = await self.values(f"{self.caller.prefix}*")
        moved = f"{self.caller.prefix}e".encode()
        held[moved] = {event: to for event, to in held.get(moved, {}).items() if event != b"last"}
        if not held[moved]:
            del held[moved]
        name = f"{self.caller.prefix}y".encode()
        counts = {field: n for field, n in held.pop(name, {}).items() if not field.startswith(b"h") and n != b"0"}
        return held | ({name: counts} if counts else {})

    async def values(self, names: str = "*") -> dict[bytes, Any]:
        """Return the values of keys that match the pattern, except streams."""
        return await read_values(self.redis, names)


async def ask(
    decider: Decider, pool: asyncpg.Pool, caller: Caller, operation: Operation, code: str, /, key: str = "", **body: Any
) -> Any:
    """Run an operation as an API process; return the body of its answer."""
    command = operation.prepare(Call(caller, key, "f" if key else "-"), code, convert(body, operation.request))
    return command.render(await decide(decider, pool, caller, command), "recorded").body


async def refusal_of(asked: Awaitable[Any]) -> str:
    """Return the code with which what is asked is refused; '' if it is not."""
    try:
        await asked
    except Refusal as refusal:
        return refusal.code
    return ""


async def read_values(redis: Redis, names: str) -> dict[bytes, Any]:
    """Return the values of keys that match the pattern, except streams; read in one script."""
    keys: Any = await redis.eval(_VALUES, 0, names)
    return {
        name: dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
        for name, kind, value in keys
    }


@pytest_asyncio.fixture
async def older(
    setup: PartitionSetup, database_url: str, new_database: Callable[..., Awaitable[str]]
) -> AsyncIterator[str]:
    """The address of a copy of the setup's Postgres from before the test."""
    await setup.pool.close()
    copy = await new_database(urlsplit(database_url).path[1:])
    async with await postgres.connect(database_url) as setup.pool:
        yield copy


@asynccontextmanager
async def restored(setup: PartitionSetup, copy: str) -> AsyncIterator[None]:
    """Use the older Postgres within the block, and the newer one again afterwards."""
    newer = setup.pool
    async with await postgres.connect(copy) as setup.pool:
        yield
    setup.pool = newer


async def trim(setup: PartitionSetup) -> None:
    """Remove all recorded entries from the outbox but the anchor, as the worker does while it is idle."""
    await setup.redis.xtrim(
        key_names.outbox(0), minid=str((await read_partition(setup.pool, 0)).cursor), approximate=False
    )


async def assert_blocked(setup: PartitionSetup, *codes: str) -> None:
    for code in codes:
        assert await setup.refusal(redeem.REDEEM, code, userId="bob") == "coupon_inactive"
        assert await setup.refusal(assign.ASSIGN_CODE, code, userId="bob") == "coupon_inactive"
        assert b'"inactive"' in await setup.do(coupon_view.READ, code)


def without(held: dict[bytes, Any], *codes: bytes) -> dict[bytes, Any]:
    """What Redis holds, without these codes, and without orders, users and counters."""
    kept: dict[bytes, Any] = {}
    for name, value in held.items():
        if name.split(b":")[-1] not in codes and name.split(b":")[2] not in (b"n", b"f", b"o", b"u"):
            fields = (
                {field: value[field] for field in value if field not in codes} if isinstance(value, dict) else value
            )
            kept[name] = fields
    return {name: value for name, value in kept.items() if value != {}}


@pytest_asyncio.fixture
async def setup(
    pool: asyncpg.Pool, workspace: WorkspaceRow, redis: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PartitionSetup]:
    """An open partition in which each kind of event has happened and is recorded."""
    monkeypatch.setattr(opening, "SETTLE_S", 0)
    monkeypatch.setattr(opening, "COMMITTEE_SETTLE_S", 0)
    book = await make_book(pool, workspace, name="b", maxRedemptionsPerUser=9)
    many = await make_book(pool, workspace, name="m", maxRedemptionsPerCode=5)
    few = await make_book(pool, workspace, name="f", lowStockThreshold=3)
    number = workspace.workspace
    await add_codes(pool, number, 0, book.book, [CodeLine(f"CODE-{n}") for n in range(100)])
    await add_codes(pool, number, 0, many.book, [CodeLine("MANY-1"), CodeLine("MINE-1", owner_id="eve")])
    await add_codes(pool, number, 0, few.book, [CodeLine(f"FEW-{n}") for n in range(5)])
    link = Link(valkey_url, "tests")
    await link.start()
    outbox = Outbox(valkey_url, 0)
    setup = PartitionSetup(pool, redis, outbox, valkey_url, link, Decider(link), make_caller(workspace))
    await setup.reopen()
    monkeypatch.setattr(restorer, "EVENTS_A_RUN", 2)
    monkeypatch.setattr(restorer, "KEYS_A_RUN", 1)
    await setup.do(assign.ASSIGN_CODE, "CODE-1", "key-1", userId="ann")
    for n in range(2, 8):
        await setup.do(redeem.REDEEM, f"CODE-{n}", f"key-{n}", userId="ann", orderId=f"o{n}", orderValue="10.00")
    for n in range(3):
        await setup.do(redeem.REDEEM, "MANY-1", userId=f"u{n}")
    await setup.do(rollback.ROLLBACK_ORDER, "o2", "key-b")
    await setup.do(rollback.ROLLBACK_ORDER, "o3", restore=False)
    await setup.do(unassign.UNASSIGN, "MINE-1", "key-u")
    for user in ("ann", "bob"):
        await setup.do(assign.ASSIGN_CODE, "CODE-8", userId=user)
        if user == "ann":
            await setup.do(unassign.UNASSIGN, "CODE-8")
    given = {"bookId": str(few.book_id), "orderId": "o4"}
    await setup.do(gift.GIFT, "ann", "key-g", **given)
    await setup.do(rollback.ROLLBACK_ORDER, "o4", "key-o")
    bought = {"orderValue": "3", "giftBookId": str(few.book_id), "userId": "bob"}
    await setup.do(checkout.CHECKOUT, "", "key-c", code="CODE-99", orderId="o9", **bought)
    await setup.do(checkout.CHECKOUT, "", "key-d", orderId="o10", **bought)
    await setup.do(checkout.CHECKOUT, "", code="MANY-1", orderId="o11", **bought)
    assert await setup.record() == 23
    yield setup
    await link.stop()
    outbox.close()
