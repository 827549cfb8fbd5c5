"""What fails of one workspace, user, book or row keeps no loop from the next (docs/reliability.md). Webhooks are in
test_webhook_sending.py, books that leave Redis in test_retention.py."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from typing import Any, cast

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from service.common import left_out
from service.engine.domain.errors import Refusal
from service.engine.hot.connection import Broken
from service.engine.hot.redis_server import Fenced, ScriptFailed
from service.engine.operations import lock
from service.engine.record.partitions.failing_tasks import count_set_aside, prune_set_aside, read_failing
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker import lock_sweeper
from service.engine.worker.housekeeping import clean_up
from service.engine.worker.projection_catchup import projector_of
from service.engine.worker.set_aside import SetAside, Thing
from service.engine.worker.waiting import NotYet
from service.server.in_postgres import comparisons, job_rows, samples
from service.server.in_postgres.book_rows import patch_book
from service.server.in_postgres.key_rows import create_key, read_callers
from service.server.in_postgres.stock import NoticedBook
from service.server.in_postgres.storage_rows import read_storage_bounds
from service.server.in_postgres.user_deletion import is_erased, pending_erasures
from service.server.in_postgres.workspace_rows import create_workspace, read_workspace
from service.server.reconcile.comparison import reconcile
from service.server.requests.book_requests import PatchBook
from service.server.tasks import quarantine_settler, restocker
from service.server.tasks.budget_counter import BudgetCounter
from service.server.tasks.code_generator import Generator
from service.server.tasks.quarantine_settler import QuarantineSettler
from service.server.tasks.restocker import Restocker
from service.server.tasks.storage_watch import StorageWatch
from tests.harness.waiting import running, wait_until
from tests.integration.histories.test_erasing import begin, project, start_eraser
from tests.integration.opening.opening_fixtures import PartitionSetup
from tests.integration.recording.record_fixtures import make_book, take_partition

Steps = AsyncIterator[None]
"""Two steps. First: plant a failure, let the loop run, and check that the next thing is served. Second, after the
pause: remove the failure, let the loop run, and check that the first thing is served, too."""


async def spoil(setup: PartitionSetup, key: str) -> Callable[[], Any]:
    """Give a key the wrong type; return what puts it back."""
    name = f"{setup.caller.prefix}{key}"
    kept: Any = await setup.redis.dump(name)
    await setup.redis.delete(name)
    await setup.redis.lpush(name, "x")

    async def mend() -> None:
        await setup.redis.delete(name)
        if kept:
            await setup.redis.restore(name, 0, kept)

    return mend


async def erasing(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    mend = await spoil(setup, "c:CODE-1")  # ann's
    ann, other = await begin(setup, "ann"), await begin(setup, "u0")
    await project(setup)
    async with start_eraser(setup) as eraser:
        await eraser.erase(await pending_erasures(setup.pool, 0, 100))
        assert await is_erased(setup.pool, setup.caller.workspace, other)
        assert await pending_erasures(setup.pool, 0, 100) == []
        yield
        await mend()
        await setup.record()
        await eraser.erase(await pending_erasures(setup.pool, 0, 100))
        assert await is_erased(setup.pool, setup.caller.workspace, ann)
        yield


async def generating(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    row = await read_workspace(setup.pool, setup.caller.workspace)
    books = [await make_book(setup.pool, row, name=f"g{n}") for n in range(2)]
    await project(setup)
    async with setup.pool.acquire() as connection:
        first, second = [
            await job_rows.create_generation(connection, book, 3, "G-######", "0123456789ABCDEF") for book in books
        ]
    rights = "UPDATE jobs SET parameters = $2 WHERE job_id = $1"
    kept = await setup.pool.fetchval("SELECT parameters FROM jobs WHERE job_id = $1", first.job_id)
    await setup.pool.execute(rights, first.job_id, '{"codePattern": 7}')
    async with setup.server() as server:
        projector = projector_of(server, await setup.scripts())
        generator = Generator(setup.pool, projector, 0, await take_partition(setup.pool))
        while await generator.run_one():
            pass
        assert (await job_rows.read_job(setup.pool, second.workspace, second.job_id)).status == "done"
        yield
        await setup.pool.execute(rights, first.job_id, kept)
        assert await generator.run_one()
        assert (await job_rows.read_job(setup.pool, first.workspace, first.job_id)).status == "done"
        yield


async def reconciling(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    async with setup.pool.acquire() as connection:
        other = await create_workspace(connection, "other", "live")
    await project(setup)  # a comparison tries again for seconds where a change is still to come
    await setup.pool.execute("UPDATE workspaces SET limits = '{\"nonsense\": 1}' WHERE workspace = 1")
    compared = "SELECT count(*) FROM reconciled WHERE workspace = $1"
    outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=False)
    assert list(outcome.failed) == [1]
    assert await setup.pool.fetchval(compared, other.workspace) == 1
    yield
    await setup.pool.execute("UPDATE workspaces SET limits = NULL WHERE workspace = 1")
    outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=False, is_retry=True)
    assert (list(outcome.failed), await setup.pool.fetchval(compared, 1)) == ([], 1)
    yield


async def counting(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    row, limit = await read_workspace(setup.pool, setup.caller.workspace), {"uses": 1, "per": "book", "period": "day"}
    first, second = [await make_book(setup.pool, row, name=f"c{n}") for n in range(2)]
    for book in (first, second):
        await patch_book(setup.pool, row.workspace, 0, book.book_id, msgspec.convert({"useLimits": [limit]}, PatchBook))
    await project(setup)
    mend = await spoil(setup, f"n:{first.book}")
    counted = "SELECT array_agg(book ORDER BY book) FROM books WHERE counted_from > 0 AND is_counted"
    async with setup.server() as server:
        scripts = await setup.scripts()
        its = BudgetCounter(setup.pool, server, scripts, projector_of(server, scripts))
        await its.load()
        assert not await its.count_all()
        assert await setup.pool.fetchval(counted) == [second.book]
        yield
        await mend()
        assert await its.count_all()
        assert await setup.pool.fetchval(counted) == [first.book, second.book]
        yield


async def restocking(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    row = await read_workspace(setup.pool, setup.caller.workspace)
    first, second = [await make_book(setup.pool, row, name=f"k{n}", keepFree=5) for n in range(2)]
    await project(setup)
    mend = await spoil(setup, f"n:{first.book}")
    ordered = "SELECT array_agg(book ORDER BY book) FROM jobs"
    async with setup.server() as server:
        scripts = await setup.scripts()
        its = Restocker(setup.pool, server, scripts, projector_of(server, scripts), 0)
        assert await its.restock_next()
        assert await setup.pool.fetchval(ordered) == [second.book]
        yield
        await mend()
        assert await its.restock_next()
        assert await setup.pool.fetchval(ordered) == [first.book, second.book]
        yield


async def watching_stock(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> Steps:
    rows = await setup.pool.fetch("SELECT workspace, 'w', book_id, 1000 FROM books WHERE book IN (1, 3) ORDER BY book")
    noticed = [NoticedBook(*row) for row in rows]

    async def read_noticed(*_: Any) -> list[NoticedBook]:
        return noticed

    monkeypatch.setattr(restocker, "books_that_ran_low", read_noticed)
    mend = await spoil(setup, "n:1")
    async with setup.server() as server:
        args: Any = setup.pool, server, await setup.scripts(), SetAside(setup.pool, 0, "watching_stock")
        assert [low.book_id for low in await restocker._find_low_books(*args)] == [str(noticed[1].book_id)]
        yield
        await mend()
        assert len(await restocker._find_low_books(*args)) == 2
        yield


async def settling(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> Steps:
    columns = "partition, epoch, seq, cause, reason, d, r, ordered"
    insert = f"INSERT INTO quarantine ({columns}) VALUES (0, 1, $1, 'refused', '', $2, '{{}}', $3)"
    await setup.pool.execute(insert, 901, b"A 1 1 CODE-50 ann 1 1", "settle")
    await setup.pool.execute(insert, 902, b"A 99 1 CODE-51 ann 1 1", "release")
    patch = quarantine_settler.patch_coupon

    async def fail(*_: Any) -> None:
        raise KeyError("CODE-50")

    monkeypatch.setattr(quarantine_settler, "patch_coupon", fail)
    resolved = "SELECT array_agg(seq ORDER BY seq) FROM quarantine WHERE resolution IS NOT NULL"
    settler = QuarantineSettler(setup.pool, 0, await take_partition(setup.pool))
    await settler.settle()
    await settler.settle()  # nothing that rests is tried
    assert await setup.pool.fetchval(resolved) == [902]
    yield
    monkeypatch.setattr(quarantine_settler, "patch_coupon", patch)
    await settler.settle()
    assert await setup.pool.fetchval(resolved) == [901, 902]
    yield


async def sweeping(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> Steps:
    monkeypatch.setattr(lock_sweeper, "SWEEP_S", 0.05)
    await setup.do(lock.LOCK, "CODE-60", userId="eve", lockSeconds=1)
    await setup.do(lock.LOCK, "MANY-1", userId="eve", lockSeconds=1)
    first, second = [f"{setup.caller.prefix}l:{book}:*" for book in (1, 2)]

    async def find(pattern: str) -> list[str]:
        names: Any = await setup.redis.keys(pattern)
        return [name.decode() for name in names if not name.endswith(b":x")]

    async def is_gone(pattern: str) -> bool:
        return not await find(pattern)

    (name,) = await find(first)
    mend = await spoil(setup, name.removeprefix(setup.caller.prefix))
    async with setup.server() as server, running(lock_sweeper.sweep(setup.pool, server, await setup.scripts())):
        await wait_until(lambda: is_gone(second))
        await wait_until(lambda: read_failing(setup.pool, 0))
        yield
        await mend()
        await wait_until(lambda: is_gone(first))

        async def is_forgotten() -> bool:
            return not await read_failing(setup.pool, 0)

        await wait_until(is_forgotten)
        yield


async def measuring(setup: PartitionSetup, _: pytest.MonkeyPatch) -> Steps:
    async with setup.pool.acquire() as connection:
        other = await create_workspace(connection, "other", "live")
    await project(setup)
    mend = await spoil(setup, "n:1")
    async with setup.server() as server:
        watch = StorageWatch(setup.pool, server, await setup.scripts())
        watch._bounds = await read_storage_bounds(setup.pool, 0)
        await server.load(watch._scripts)
        await watch.count_next()
        await watch.count_next()
        assert [failing.failures for failing in await read_failing(setup.pool, 0)] == [1]
        assert list(watch._uses) == [other.workspace]
        yield
        await mend()
        await watch.count_next()
        assert sorted(watch._uses) == [1, other.workspace]
        yield


LOOPS = {
    loop.__name__: loop
    for loop in (
        counting,
        erasing,
        generating,
        measuring,
        reconciling,
        restocking,
        settling,
        sweeping,
        watching_stock,
    )
}


@pytest.mark.parametrize("loop", LOOPS)
async def test_the_next_is_served(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    """A thing that fails is logged, stored and counted; the next one is served, and then it is tried again."""
    with capture_logs() as logs:
        async with aclosing(cast("Any", LOOPS[loop](setup, monkeypatch))) as steps:
            await anext(steps)
            (failing,) = await read_failing(setup.pool, 0, 1)
            assert failing.task == loop
            assert failing.next_try_at
            assert await read_failing(setup.pool, 0, 2) == []  # another tenant's
            assert await count_set_aside(setup.pool) == {(0, loop): 1}
            assert {one["thing"] for one in logs if one["event"] == "set_aside"} == {failing.thing}
            await setup.pool.execute("UPDATE failing_tasks SET next_try_at = clock_timestamp()")
            await anext(steps)
    assert await read_failing(setup.pool, 0) == []
    assert "CODE-" not in str([one for one in logs if one["event"] == "set_aside" and one.pop("exc_info")])


async def test_a_thing_that_goes_on_failing_rests_longer(pool: asyncpg.Pool) -> None:
    """Pauses double up to an hour, also for the next worker; success in a step that is not the last forgets nothing."""
    pauses: list[float] = []
    for _ in range(15):
        aside = SetAside(pool, 0, "trying")
        async with aside.contain(Thing("book 1", 1), is_last=False):
            pass
        with capture_logs() as logs:
            async with aside.contain(Thing("book 1", 1)):
                raise ValueError
        pauses.append(round(logs[0]["next_try_s"]))
    assert pauses == [2 ** (n + 1) for n in range(11)] + [3600] * 4
    (failing,) = await read_failing(pool, 0)
    assert failing.failures == 15
    assert await prune_set_aside(pool, 10) == 0
    await pool.execute("UPDATE failing_tasks SET next_try_at = now() - interval '121 minutes'")
    assert await prune_set_aside(pool, 10) == 1


@pytest.mark.parametrize(
    ("error", "is_contained"),
    [
        (KeyError("x"), True),
        (Refusal("code_exists"), True),
        (asyncpg.NumericValueOutOfRangeError(), True),
        (ScriptFailed("redeem", "ERR", "1"), True),
        (ScriptFailed("redeem", "WRONGTYPE", "1"), True),
        (asyncpg.QueryCanceledError(), True),
        (TimeoutError(), True),
        (ExceptionGroup("", [KeyError("x"), ValueError()]), True),
        (ScriptFailed("redeem", "OOM", "1"), False),
        (Refusal.temporary("recovering"), False),
        (asyncpg.ConnectionDoesNotExistError(), False),
        (asyncpg.DiskFullError(), False),
        (ConnectionResetError(), False),
        (Broken(), False),
        (Fenced(), False),
        (NotYet(), False),
        (ExceptionGroup("", [KeyError("x"), Broken()]), False),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
async def test_whose_an_error_is(pool: asyncpg.Pool, error: Exception, is_contained: bool) -> None:
    """Errors of a thing are contained. Those of a server or of the lease are raised; a slow statement is its thing's
    while Postgres answers."""
    with nullcontext() if is_contained else pytest.raises(type(error)):
        async with SetAside(pool, 0, "trying").contain(Thing("book 1", 1)):
            raise error
    assert len(await read_failing(pool, 0)) == is_contained


async def test_a_slow_statement_without_postgres(pool: asyncpg.Pool) -> None:
    """If Postgres does not answer either, the statement's thing is not to blame."""
    aside = SetAside(pool, 0, "trying")
    async with aside.contain(Thing("book 1", 1)):
        pass
    await pool.close()
    with pytest.raises(TimeoutError):
        async with aside.contain(Thing("book 1", 1)):
            raise TimeoutError


async def test_a_table_that_is_not_pruned(pool: asyncpg.Pool) -> None:
    """Housekeeping goes on with the next table."""
    pruned = asyncio.Event()

    async def prune_broken(_pool: asyncpg.Pool, _limit: int) -> int:
        raise ValueError

    async def prune_next(_pool: asyncpg.Pool, _limit: int) -> int:
        pruned.set()
        return 0

    async with running(clean_up(pool, [prune_broken, prune_next])):
        await wait_until(pruned.is_set)
        (failing,) = await read_failing(pool, 0)
    assert (failing.task, failing.thing) == ("housekeeping", "prune_broken")


async def test_traffic_that_cannot_be_stored(pool: asyncpg.Pool) -> None:
    """Counts of one workspace that Postgres refuses are left out; those of others are stored."""
    count = left_out._LEFT_OUT.labels("sampling")._value
    before = count.get()
    await samples.add_traffic(pool, 1_800_000_000, {1: ({"a\0": 1}, {}), 2: ({"b": 1}, {})})
    assert {row[0] for row in await pool.fetch("SELECT workspace FROM traffic_samples")} == {2}
    assert count.get() == before + 1


async def test_a_sample_that_cannot_be_stored(pool: asyncpg.Pool) -> None:
    """It is left out: those behind it are stored."""
    stored: list[int] = []

    async def write(_pool: asyncpg.Pool, at_s: int, _: Any) -> None:
        if at_s == 1:
            raise asyncpg.DataError
        stored.append(at_s)

    sampler = samples.Sampler(pool, lambda: None, write)
    for at_s in (1, 2):
        await sampler.sample(at_s)
    assert stored == [2]


async def test_a_key_that_cannot_be_read(setup: PartitionSetup) -> None:
    """The API does without this key: all others stay confirmed."""
    async with setup.pool.acquire() as connection:
        for name in ("first", "second"):
            await create_key(connection, setup.caller.workspace, name, ["manage"], f"secret-{name}")
    await setup.pool.execute("UPDATE keys SET limits = '{\"nonsense\": 1}' WHERE name = 'first'")
    with capture_logs() as logs:
        callers = await read_callers(setup.pool)
    assert len(callers) == 1
    assert [(one["event"], one["task"]) for one in logs] == [("left_out", "keys")]


async def test_a_sum_of_discounts_beyond_64_bits(setup: PartitionSetup) -> None:
    """The comparison counts it exactly, finds that the counter differs, and repairs it."""
    same = "partition, epoch, seq, workspace, book, code, user_id, redeemed_at, slot, max_redemptions"
    await setup.pool.execute(
        f"""INSERT INTO redemptions ({same}, redemption_id, currency, digits, order_value, discount_amount)
          SELECT {same}, gen_random_uuid(), 'USD', 2, 99999999999.99, 99999999999.99
          FROM redemptions, generate_series(1, 9300) WHERE code = 'MANY-1' AND user_id = 'u0'"""
    )
    cut = (await read_partition(setup.pool, 0)).cursor
    async with setup.pool.acquire() as connection:
        counted = await comparisons.counts(connection, 0, 1, cut, [2])
    assert counted[2]["discount"] == 9300 * 999_999_999_999_900 > 2**63
    outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=False)
    assert (outcome.failed, outcome.differing["book_counts"]) == ([], 1)
    outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=True)
    assert (outcome.failed, outcome.left["book_counts"]) == ([], 0)
