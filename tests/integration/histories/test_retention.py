"""Books that ended long ago leave Redis for good; Postgres keeps them (docs/internals/decisions/0094-retention.md)."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from service.engine.domain.decoding import convert
from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.hot.connection import Broken
from service.engine.operations import assign, coupon_view, gift, lock, redeem, rollback
from service.engine.record import archived_books
from service.engine.record.changes import changes_since
from service.engine.record.partitions.failing_tasks import read_failing
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.opening import restorer
from service.engine.worker.projection_catchup import projector_of
from service.engine.worker.projector import PROJECTING
from service.engine.worker.script_versions import own_scripts
from service.engine.worker.set_aside import SetAside
from service.engine.worker.waiting import NotYet
from service.engine.worker.write_behind import Flusher
from service.server.api.book_counts import count_book
from service.server.in_postgres import job_rows
from service.server.in_postgres.book_rows import patch_book, read_books
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.user_deletion import begin_erasure, is_erased, pending_erasures
from service.server.in_redis.workspace_state import Workspace
from service.server.reconcile.comparison import Busy, reconcile
from service.server.requests.book_requests import PatchBook
from service.server.requests.code_requests import CodeLine
from service.server.tasks import retention as worker
from service.server.tasks.retention import Retention
from service.server.tasks.user_eraser import Eraser, make_erasing_gate
from tests.integration.opening.opening_fixtures import Life, PartitionSetup
from tests.integration.recording.record_fixtures import take_partition

DAY_MS = 86_400_000
DAYS = 30
SALE, MANY, FEW = 1, 2, 3
"""The place's books: single use, several uses, gifts."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SETTLE_S", 0)
    monkeypatch.setattr(worker, "WAIT_S", 5)
    monkeypatch.setattr(worker, "CODES_A_RUN", 30)
    monkeypatch.setattr(worker, "USES_A_RUN", 2)


class DyingPool:
    """A pool whose worker dies before its n-th use."""

    def __init__(self, pool: Any, life: Life) -> None:
        self._pool, self._life = pool, life

    def __getattr__(self, name: str) -> Any:
        self._life.step()
        return getattr(self._pool, name)


@asynccontextmanager
async def retaining(setup: PartitionSetup, dies_after: int = -1) -> AsyncIterator[Retention]:
    """A new worker's, which dies after so many steps."""
    fence, row = await take_partition(setup.pool), await read_partition(setup.pool, 0)
    async with setup.server() as server:
        life = Life()
        server.life = life
        pool: Any = DyingPool(setup.pool, life)
        its = Retention(
            pool, server, own_scripts(0, row.epoch, row.nonce), fence, make_erasing_gate(), asyncio.Lock(), DAYS
        )
        await its.load()
        life.left = dies_after
        yield its


async def project(setup: PartitionSetup) -> None:
    """Project configuration to Redis, as the worker's ProjectionCatchUp does."""
    row = await read_partition(setup.pool, 0)
    async with setup.server() as server:
        projector = projector_of(server, await setup.scripts())
        async for change in changes_since(setup.pool, 0, await projector.read_last_version(0)):
            await restorer.project(projector, 0, change, SetAside(setup.pool, 0, PROJECTING))
    assert row


async def archive(setup: PartitionSetup, dies_after: int = -1) -> bool:
    """Let a worker archive what has ended; return whether there was anything. Raises Broken if it died."""
    async with retaining(setup, dies_after) as its:
        archiving = asyncio.ensure_future(its.archive_books())
        while not archiving.done():
            await asyncio.wait((archiving,), timeout=0.02)
            await project(setup)
        return archiving.result()


async def read_book(setup: PartitionSetup, book: int = SALE) -> BookRow:
    return (await read_books(setup.pool, setup.caller.workspace, [book]))[0]


async def patch(setup: PartitionSetup, book: int = SALE, **changes: Any) -> BookRow:
    row = await read_book(setup, book)
    changed = await patch_book(setup.pool, row.workspace, 0, row.book_id, convert(changes, PatchBook))
    await project(setup)
    return changed


async def end(setup: PartitionSetup, days: float, book: int = SALE) -> None:
    """Set the book's end so many days ago; negative: from now."""
    await patch(setup, book, validUntil=from_ms(time.time_ns() // 1_000_000 - int(days * DAY_MS)))


def of_books(held: dict[bytes, Any], *books: int) -> list[Any]:
    """What Redis holds of these books but their settings."""
    found: list[Any] = []
    for name, value in held.items():
        kind, *parts = name.split(b":")[2:]
        names = {str(book).encode() for book in books}
        if kind in (b"n", b"f", b"lb", b"l", b"lu") and parts[0] in names:
            found.append(name)
        if kind == b"d":
            found += [code for code, entry in value.items() if entry.rstrip(b"+").partition(b"!")[0] in names]
        if kind == b"u":
            found += [(name, field) for field in value if field[:1] in (b"a", b"h") and field[1:] in names]
        if kind == b"o":
            found += [(name, field) for field in value if b"/" in field and field.partition(b"/")[0] in names]
        if kind in (b"c", b"s", b"k", b"kd") and SALE in books and parts[0].startswith(b"CODE-"):
            found.append(name)
    return found


def without_strings(held: dict[bytes, Any]) -> dict[bytes, Any]:
    """Without directories of a wrong type."""
    return {name: value for name, value in held.items() if b":d:" not in name or isinstance(value, dict)}


def orders_of(held: dict[bytes, Any], kind: bytes = b"o") -> set[bytes]:
    """The orders that have places, or gifts (`g`), in Redis."""
    return {
        order for name, value in held.items() if name.split(b":")[2] == kind for order in value if b"/" not in order
    }


async def refusals(setup: PartitionSetup, code: str) -> set[str]:
    """How the hot path refuses each request about a code."""
    asked: Sequence[tuple[Any, dict[str, Any]]] = (
        (coupon_view.READ, {}),
        (lock.LOCK, {"userId": "ann"}),
        (redeem.REDEEM, {"userId": "ann", "orderValue": "1.00"}),
        (assign.ASSIGN_CODE, {"userId": "ann"}),
    )
    return {await setup.refusal(operation, code, **body) for operation, body in asked}


async def compare(setup: PartitionSetup) -> dict[Any, int]:
    """Compare Redis with the record; return what differs. Raises Busy."""
    return dict((await reconcile(setup.valkey_url, setup.pool, 0, repair=False)).differing)


async def test_an_archived_book_is_gone(setup: PartitionSetup) -> None:
    """Nothing of it but its settings is in Redis, also after a rebuild; nothing differs; its codes are unknown."""
    await end(setup, DAYS + 1)
    await end(setup, DAYS + 1, MANY)
    assert of_books(await setup.everything(), SALE, MANY)
    assert await archive(setup)
    await add_codes(setup.pool, setup.caller.workspace, 0, FEW, [CodeLine(f"LIVE-{n}") for n in range(2)])
    await project(setup)
    for n in range(2):
        left = await setup.everything()
        assert of_books(left, SALE, MANY) == []
        assert await compare(setup) == {}
        for code in ("CODE-1", "CODE-3", "CODE-50", "MANY-1", "MINE-1"):
            assert await refusals(setup, code) == {"coupon_not_found"}
        assert await setup.refusal(redeem.REDEEM, f"LIVE-{n}", userId="zoe", orderId=f"live{n}") == ""
        await setup.record()
        await setup.rebuild()
    assert not await archive(setup)


async def test_an_ended_book_stays_until_then(setup: PartitionSetup) -> None:
    """It is expired; its redemptions can be rolled back; and a later end opens it again."""
    await end(setup, DAYS - 1)
    assert not await archive(setup)
    assert await setup.refusal(redeem.REDEEM, "CODE-50", userId="ann", orderValue="1.00") == "expired"
    await setup.do(rollback.ROLLBACK_ORDER, "o5")
    await end(setup, -1)
    await setup.do(redeem.REDEEM, "CODE-50", userId="ann", orderValue="1.00")


async def test_a_book_whose_end_is_moved_in_time_stays(setup: PartitionSetup) -> None:
    """It was found, but its end moved before it was archived; no version of the configuration is lost."""
    await end(setup, DAYS + 1)
    async with retaining(setup) as its:
        (ended,) = await archived_books.find_ended(setup.pool, 0, DAYS, 9)
        await end(setup, -1)
        before = (await read_partition(setup.pool, 0)).config_version
        assert not await archived_books.archive(setup.pool, 0, its._fence, ended, DAYS, [])
    assert (await read_partition(setup.pool, 0)).config_version == before
    await setup.do(redeem.REDEEM, "CODE-50", userId="ann", orderValue="1.00")


async def test_a_book_that_the_merchant_archived(setup: PartitionSetup) -> None:
    """It leaves so many days after that, whatever its end; a book of a test workspace never does."""
    await patch(setup, FEW, status="archived")
    assert not await archive(setup)
    await setup.pool.execute("UPDATE books SET updated_at = now() - interval '31 days' WHERE book = $1", FEW)
    await setup.pool.execute("UPDATE workspaces SET mode = 'test'")
    assert not await archive(setup)
    await setup.pool.execute("UPDATE workspaces SET mode = 'live'")
    assert await archive(setup)
    held = await setup.everything()
    assert of_books(held, FEW) == []
    assert orders_of(held, b"g") == set()


async def test_an_order_is_remembered_as_long_as_one_of_its_books(setup: PartitionSetup) -> None:
    """The order of a book that leaves, and of one that stays, keeps the latter's place; others may be used again."""
    await setup.pool.execute("UPDATE workspaces SET coupons_per_order = 2, version = version")
    await setup.pool.execute(
        "UPDATE workspaces SET version = (SELECT version + 1 FROM config_versions WHERE partition = 0)"
    )
    await setup.pool.execute("UPDATE config_versions SET version = version + 1 WHERE partition = 0")
    await add_codes(setup.pool, setup.caller.workspace, 0, MANY, [CodeLine(f"LIVE-{n}") for n in range(4)])
    await project(setup)
    await setup.do(redeem.REDEEM, "LIVE-0", userId="u9", orderId="o5", orderValue="10.00")
    await setup.record()
    await end(setup, DAYS + 1)
    assert await archive(setup)
    assert orders_of(await setup.everything()) == {b"o5", b"o11"}
    await setup.do(redeem.REDEEM, "LIVE-1", userId="u9", orderId="o5")
    assert await setup.refusal(redeem.REDEEM, "LIVE-2", userId="u9", orderId="o5") == "order_already_used"
    await setup.do(redeem.REDEEM, "LIVE-3", userId="u8", orderId="o6")
    await setup.record()
    assert await setup.pool.fetch("SELECT FROM quarantine") == []
    await end(setup, DAYS + 1, MANY)
    assert await archive(setup)
    assert orders_of(await setup.everything()) == set()
    assert await setup.pool.fetch("SELECT FROM order_uses") == []


async def test_gifts_of_its_orders(setup: PartitionSetup) -> None:
    """An order whose gift left with its book may have another one."""
    await end(setup, DAYS + 1, FEW)
    assert await archive(setup)
    assert orders_of(await setup.everything(), b"g") == set()
    given = {"bookId": str((await read_book(setup, MANY)).book_id), "orderId": "o9"}
    await add_codes(setup.pool, setup.caller.workspace, 0, MANY, [CodeLine("GIFT-1")])
    await project(setup)
    await setup.do(gift.GIFT, "bob", **given)
    await setup.record()
    assert await setup.pool.fetch("SELECT FROM quarantine") == []


async def test_killed_at_each_step(setup: PartitionSetup) -> None:
    """Whatever step the worker dies at, with Redis lost or not, the next worker ends the same."""
    await end(setup, DAYS + 1)
    await end(setup, DAYS + 1, FEW)
    steps, done = 0, False
    before = await setup.snapshot()
    while not done:
        try:
            assert await archive(setup, steps)
            done = True
        except Broken:
            if steps % 5 == 1:
                await setup.rebuild()
            if steps % 5 == 3:
                await setup.put_back(before)
                await setup.reopen()
        steps += 1
        if await setup.pool.fetchval("SELECT EXISTS (SELECT FROM books WHERE archiving)"):
            with pytest.raises(Busy):
                await compare(setup)
        else:
            assert await compare(setup) == {}
    assert steps > 20
    held = await setup.everything()
    assert of_books(held, SALE, FEW) == []
    assert await setup.pool.fetchval("SELECT count(*) FROM books WHERE archiving") == 0
    await setup.rebuild()
    assert await setup.everything() == held


@pytest.mark.parametrize("has_more", [False, True])
async def test_a_redis_that_is_behind(setup: PartitionSetup, has_more: bool) -> None:
    """A Redis from before a book left, or from between, is cleaned again; so it is if events follow."""
    await end(setup, DAYS + 1)
    kept = [await setup.snapshot()]
    for steps in (8, 12, 16):
        with pytest.raises(Broken):
            await archive(setup, steps)
        kept.append(await setup.snapshot())
    assert await archive(setup)
    if has_more:
        await setup.do(redeem.REDEEM, "MANY-1", userId="u9", orderId="o77")
        await setup.record()
    for some in kept:
        await setup.put_back(some)
        await setup.reopen()
        if of_books(await setup.everything(), SALE):
            assert await archive(setup)
        assert of_books(await setup.everything(), SALE) == []
        assert await compare(setup) == {}


async def test_what_is_decided_until_the_code_leaves(setup: PartitionSetup) -> None:
    """A rollback just before its code leaves is recorded; nothing of it stays in Redis."""
    await end(setup, DAYS + 1)
    async with retaining(setup) as its:
        drop = its._drop
        asked = []

        async def roll_back_before(book: Any, script: str, args: Any) -> None:
            if not asked:
                asked.append(await setup.do(rollback.ROLLBACK_ORDER, "o5"))
                flusher = Flusher(setup.outbox, setup.pool, 0, its._fence)
                await flusher.start()
                await flusher.step()
            await drop(book, script, args)

        its._drop = roll_back_before  # type: ignore[method-assign]
        archiving = asyncio.ensure_future(its.archive_books())
        while not archiving.done():
            await asyncio.wait((archiving,), timeout=0.02)
            await project(setup)
        assert archiving.result()
    assert asked
    assert of_books(await setup.everything(), SALE) == []
    assert await compare(setup) == {}


async def test_a_book_that_a_script_cannot_remove(setup: PartitionSetup) -> None:
    """It is set aside, also for comparisons, and tried again later; the others leave."""
    await end(setup, DAYS + 1)
    await end(setup, DAYS + 1, FEW)
    name = key_names.directory(setup.caller.prefix, key_names.bucket("CODE-50"))
    kept: Any = await setup.redis.hgetall(name)
    await setup.redis.delete(name)
    await setup.redis.set(name, "x")
    assert await archive(setup)
    assert of_books(without_strings(await setup.everything()), FEW) == []
    (failing,) = await read_failing(setup.pool, 0)
    assert (failing.task, failing.failures, failing.workspace) == ("retaining", 1, "shop")
    await setup.pool.execute("UPDATE failing_tasks SET next_try_at = now() + interval '1 hour'")  # it is 2 s
    await reconcile(setup.valkey_url, setup.pool, 0, repair=False)  # not Busy
    assert not await archive(setup)
    await setup.pool.execute("UPDATE failing_tasks SET next_try_at = now()")
    await setup.redis.delete(name)
    await setup.redis.hset(name, mapping=kept)
    assert await archive(setup)
    assert of_books(await setup.everything(), SALE) == []
    assert await read_failing(setup.pool, 0) == []


async def test_a_book_with_a_job_waits(setup: PartitionSetup) -> None:
    """A job that runs may still project codes; one that comes too late is refused."""
    row = await read_book(setup)
    async with setup.pool.acquire() as connection:
        job = await job_rows.create_generation(connection, row, 1, row.code_pattern, row.charset)
    await end(setup, DAYS + 1)
    assert not await archive(setup)
    await setup.pool.execute("UPDATE jobs SET status = 'done', finished_at = now() WHERE job_id = $1", job.job_id)
    assert await archive(setup)


async def test_events_that_are_not_recorded(setup: PartitionSetup) -> None:
    """The book's places stay until all of its events are recorded."""
    await setup.do(redeem.REDEEM, "CODE-60", userId="ann", orderValue="1.00", orderId="o60")
    await end(setup, DAYS + 1)
    worker.WAIT_S = 2.0  # a busy machine needs longer for the first of its steps
    with pytest.raises(NotYet, match="not recorded"):
        await archive(setup)
    assert b"o60" in orders_of(await setup.everything())
    await setup.record()
    assert await archive(setup)
    assert b"o60" not in orders_of(await setup.everything())
    assert of_books(await setup.everything(), SALE) == []


async def test_a_user_who_is_deleted(setup: PartitionSetup) -> None:
    """A book waits for a deletion, which a worker may have left half-way. Users of an archived one are deleted."""
    await end(setup, DAYS + 1)
    ids = [await begin_erasure(setup.pool, setup.caller.workspace, 0, "ann", await setup.decider.read_tail(0))]
    await project(setup)
    assert not await archive(setup)
    await _erase(setup)
    await setup.record()
    assert await archive(setup)
    assert of_books(await setup.everything(), SALE) == []
    ids.append(await begin_erasure(setup.pool, setup.caller.workspace, 0, "bob", await setup.decider.read_tail(0)))
    await project(setup)
    await _erase(setup)
    for pseudonym in ids:
        assert await is_erased(setup.pool, setup.caller.workspace, pseudonym)
    users = {row[0] for row in await setup.pool.fetch("SELECT user_id FROM redemptions")}
    assert not {"ann", "bob"} & users
    held = await setup.everything()
    assert of_books(held, SALE) == []
    await setup.record()
    await setup.rebuild()
    assert await setup.everything() == held


async def _erase(setup: PartitionSetup) -> None:
    row = await read_partition(setup.pool, 0)
    async with setup.server() as server:
        eraser = Eraser(setup.pool, server, own_scripts(0, row.epoch, row.nonce))
        await eraser.load()
        await eraser.erase(await pending_erasures(setup.pool, 0, 9))


async def test_its_counts(setup: PartitionSetup) -> None:
    """They are those from before it left, also after a rebuild."""
    await end(setup, DAYS + 1)
    book = await read_book(setup)
    context: Any = type("", (), {"hot": Workspace(setup.decider), "pool": setup.pool})
    before = await count_book(context, setup.caller, book.book_id)
    assert (before.codes, before.redemptions, before.rolled_back) == (100, 4, 3)
    assert await archive(setup)
    now = await count_book(context, setup.caller, book.book_id)
    assert (now.codes, now.available, now.redemptions, now.users) == (
        before.codes, before.available, before.redemptions, before.users,
    )  # fmt: skip
    await setup.rebuild()
    assert await count_book(context, setup.caller, book.book_id) == now


async def test_old_months_are_dropped(setup: PartitionSetup) -> None:
    """The oldest months go, if they are old enough and have no facts of a book that Redis has."""
    await setup.pool.execute(
        "INSERT INTO fact_months SELECT (date_trunc('month', now()) - m * interval '1 month')::date "
        "FROM generate_series(1, 4) AS m ON CONFLICT DO NOTHING"
    )
    for months in range(1, 5):
        await _make_month(setup, months)
    at = "date_trunc('month', now()) - {} * interval '1 month' + interval '1 day'"
    insert = (
        "INSERT INTO assignments (partition, epoch, seq, workspace, book, code, user_id, assigned_at) "
        "VALUES (0, 0, {0}, $1, {1}, 'CODE-1', 'ann', {2})"
    )
    w = setup.caller.workspace
    await setup.pool.execute(insert.format(4, SALE, at.format(4)), w)
    await setup.pool.execute(insert.format(3, MANY, at.format(3)), w)
    # The third month before this one ended so long ago, the second did not.
    days: int = await setup.pool.fetchval(
        "SELECT now()::date - (date_trunc('month', now()) - interval '1 month')::date + 1"
    )
    assert await archived_books.drop_old_months(setup.pool, 0) == []
    assert await archived_books.drop_old_months(setup.pool, days) == []
    await end(setup, DAYS + 1)
    assert await archive(setup)
    assert len(await archived_books.drop_old_months(setup.pool, days)) == 1
    assert await archived_books.drop_old_months(setup.pool, days) == []  # the next one has a fact of a live book
    assert await setup.pool.fetchval("SELECT count(*) FROM assignments WHERE epoch = 0 AND seq = 4") == 0
    await setup.pool.execute("DELETE FROM assignments WHERE epoch = 0")
    async with setup.pool.acquire() as reading, reading.transaction():
        await reading.fetch("SELECT FROM redemptions")
        assert await archived_books.drop_old_months(setup.pool, days) == []  # a table is in use
    assert len(await archived_books.drop_old_months(setup.pool, days)) == 1
    first = await setup.pool.fetchval("SELECT min(month)::timestamp AT TIME ZONE 'UTC' FROM fact_months")
    assert await setup.pool.fetchval("SELECT facts_from FROM settings") == first
    await setup.rebuild()


async def _make_month(setup: PartitionSetup, months: int) -> None:
    for name, key in await setup.pool.fetch("SELECT name, key FROM fact_tables()"):
        month = f"(date_trunc('month', now()) - {months} * interval '1 month')::date"
        partition = await setup.pool.fetchval(f"SELECT fact_partition($1, {month})", name)
        await setup.pool.execute(
            f"CREATE TABLE {partition} (LIKE {name} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)"
        )
        await setup.pool.execute(f"SELECT attach_fact_partition($1, $2, {month})", name, key)
