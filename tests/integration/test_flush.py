"""From the outbox into Postgres exactly once, whatever breaks, on a real Postgres and a real Valkey."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import uuid_utils
from redis.asyncio import Redis

from service.domain.events import decided, entry_digest
from service.domain.keys import bucket, outbox
from service.record import facts
from service.record.facts import facts_in_order
from service.record.partitions import LeaseLost, begin_epoch, ensure_partitions, enter_epoch, read_partition, take_lease
from service.record.pool import connect
from service.worker import flush
from service.worker.flush import AnchorLost, Flusher, OutboxGap, TooManyRefused

OUTBOX = outbox(0)
MakeFlusher = Callable[[], Awaitable[Flusher]]


class Shop:
    """A partition that is open, whose events a script would append; it remembers what it was told."""

    def __init__(self, redis: Redis, pool: asyncpg.Pool, database_url: str) -> None:
        self.redis, self.pool, self.database_url, self.epoch = redis, pool, database_url, 0
        self.said: list[str] = []

    async def append(self, *events: str) -> None:
        """Append events as a script does."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for d in events:
                pipeline.xadd(OUTBOX, {"d": d, "r": '{"ip":"::1"}'}, id=f"{self.epoch}-*", nomkstream=True)
            await pipeline.execute()
        self.said += events

    async def sell(self, count: int) -> None:
        """Redeem so many codes with one use each."""
        start = len(self.said)
        await self.append(*(redeemed(f"CODE-{start + i}") for i in range(count)))

    async def facts(self) -> list[str]:
        """What Postgres holds, as the outbox had it."""
        async with self.pool.acquire() as connection, contextlib.aclosing(facts_in_order(connection, 0)) as all_:
            return [decided(fact) async for fact in all_]

    async def outbox(self) -> list[int]:
        """The numbers of what is in the outbox."""
        found: Any = await self.redis.xrange(OUTBOX)
        return [int(entry_id.split(b"-")[1]) for entry_id, _ in found]

    async def cursor(self) -> tuple[int, int]:
        return (await read_partition(self.pool, 0)).cursor

    async def quarantined(self) -> list[tuple[Any, ...]]:
        rows = await self.pool.fetch("SELECT epoch, seq, reason, d FROM quarantine ORDER BY epoch, seq")
        return [tuple(row) for row in rows]

    async def fence(self, epoch: int) -> None:
        await self.redis.xadd(OUTBOX, {"d": "O", "r": ""}, id=f"{epoch}-0")
        self.epoch = epoch


def redeemed(code: str, redemption_id: str = "", order: str = "-", discount_e4: int = 250_000) -> str:
    """A redemption of a code with one use, as a script says it."""
    own_id = redemption_id or uuid_utils.uuid7()
    return (
        f"R 1 2 {code} user {order} {own_id} 1000000 USD 2 {discount_e4} 1794991234567 {int(order != '-')} "
        f"{bucket(code)} {bucket(order)} 1"
    )


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with contextlib.AsyncExitStack() as stack:
        pool = await connect(database_url)
        stack.push_async_callback(pool.close)
        await ensure_partitions(pool, 1)
        yield pool


@pytest_asyncio.fixture
async def shop(redis: Redis, pool: asyncpg.Pool, database_url: str) -> Shop:
    fence = await take_lease(pool, 0, "opener", 0)
    assert fence is not None
    shop = Shop(redis, pool, database_url)
    await shop.fence(await begin_epoch(pool, 0, fence, "nonce"))
    digest = entry_digest(f"{shop.epoch}-0".encode(), b"O", b"")
    assert await enter_epoch(pool, 0, fence, (0, 0), shop.epoch, digest)
    return shop


@pytest_asyncio.fixture
async def make_flusher(shop: Shop) -> MakeFlusher:
    """Take the lease from whoever has it, and flush under it."""

    async def make() -> Flusher:
        fence = await take_lease(shop.pool, 0, "flusher", 0)
        assert fence is not None
        return Flusher(shop.redis, shop.pool, 0, fence)

    return make


@contextlib.asynccontextmanager
async def running(flusher: Flusher) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(flusher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110, what is waited for is in a server
            await asyncio.sleep(0.02)


async def caught_up(shop: Shop, flusher: Flusher) -> None:
    async def all_recorded() -> bool:
        return (await shop.cursor()) == (shop.epoch, len(shop.said))

    async with running(flusher):
        await until(all_recorded)


async def test_all_events_are_recorded_in_order(shop: Shop, make_flusher: MakeFlusher):
    """What the outbox says is in Postgres, each event once and in order, with the cursor at the last."""
    flusher = await make_flusher()
    async with running(flusher):
        for count in (1, 20, 300):
            await shop.sell(count)
            await asyncio.sleep(0.05)
        await until(lambda: _is(flusher, len(shop.said)))
    assert await shop.facts() == shop.said
    assert await shop.cursor() == (shop.epoch, 321)
    assert (flusher.recorded, flusher.pending, flusher.lag_seconds, flusher.quarantined) == (321, 0, 0.0, 0)
    assert flusher.events_per_second > 0


async def test_more_than_a_batch(shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """An outbox longer than a batch is recorded in several, and what is pending is known meanwhile."""
    monkeypatch.setattr(flush, "BATCH_EVENTS", 100)
    flusher = await make_flusher()
    await shop.sell(250)
    await flusher.start()
    assert [await flusher.step() for _ in range(2)] == [100, 100]
    assert (flusher.cursor, flusher.pending) == ((shop.epoch, 200), 50)
    assert flusher.lag_seconds > 0
    assert [await flusher.step() for _ in range(2)] == [50, 0]
    assert await shop.facts() == shop.said


async def test_killed_between_the_rows_and_the_end(
    shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A backend that dies after the rows and before the commit leaves nothing, and the repeat writes once."""
    copied, original = [], facts._copy

    async def copy_and_die(connection: Any, table: str, *rest: Any) -> None:
        await original(connection, table, *rest)
        if table == "redemptions":
            copied.append(await shop.pool.fetchval("SELECT count(*) FROM redemptions"))
            if len(copied) == 1:
                await shop.pool.fetch("SELECT pg_terminate_backend($1)", connection.get_server_pid())

    monkeypatch.setattr(facts, "_copy", copy_and_die)
    await shop.sell(50)
    await caught_up(shop, await make_flusher())
    assert copied == [0, 0]
    assert await shop.facts() == shop.said


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_in_doubt(
    shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch, committed: bool
):
    """When the answer to a commit is lost, the cursor says whether it happened, and nothing is written twice."""
    original, calls = flush.record, []

    async def answer_lost(*args: Any) -> bool:
        calls.append(args)
        if len(calls) > 1 or committed:
            assert await original(*args)
        if len(calls) == 1:
            raise ConnectionResetError
        return True

    monkeypatch.setattr(flush, "record", answer_lost)
    await shop.sell(10)
    flusher = await make_flusher()
    await caught_up(shop, flusher)
    assert len(calls) == (1 if committed else 2)
    assert await shop.facts() == shop.said


async def test_a_commit_that_arrives_late(shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """A transaction thought lost that commits after the cursor was read again makes the repeat start over."""
    original, late = flush.record, []

    async def lost_first(connection: Any, *args: Any) -> bool:
        if not late:
            other = await asyncpg.connect(shop.database_url)
            late.append(asyncio.create_task(_slowly(original, other, args)))
            raise ConnectionResetError
        await asyncio.wait_for(late[0], 5)
        return await original(connection, *args)

    monkeypatch.setattr(flush, "record", lost_first)
    await shop.sell(10)
    await caught_up(shop, await make_flusher())
    assert await shop.facts() == shop.said


async def test_connections_that_break(shop: Shop, make_flusher: MakeFlusher):
    """Connections to both servers that break again and again delay the record and change nothing in it."""
    flusher = await make_flusher()
    other = await asyncpg.connect(shop.database_url)
    async with running(flusher):
        for i in range(10):
            await shop.sell(30)
            await asyncio.sleep(0.03)
            if i % 2:
                await other.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scrip'"
                )
            else:
                await shop.redis.client_kill_filter(_type="normal", skipme=True)
                await shop.redis.connection_pool.disconnect()  # its own others among them
        await until(lambda: _is(flusher, len(shop.said)))
    await other.close()
    assert await shop.facts() == shop.said


async def test_twenty_thousand_with_random_cancels(shop: Shop, make_flusher: MakeFlusher):
    """20,000 events, recorded by workers that are cancelled at random moments, are there once each, in order."""
    rng = random.Random(20_261_120)
    selling = asyncio.create_task(_sell_slowly(shop, 20_000))
    cancels = 0
    while not selling.done() or await shop.cursor() != (shop.epoch, len(shop.said)):
        flusher = await make_flusher()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.expovariate(1 / 0.04)):
                await flusher.run()
        cancels += 1
    await selling
    assert cancels > 20
    assert len(shop.said) == 20_000
    assert await shop.facts() == shop.said
    assert await shop.pool.fetchval("SELECT count(*) FROM single_uses") == 20_000
    assert (await read_partition(shop.pool, 0)).recorded_events == 20_000


async def test_a_cancellation_that_is_swallowed(make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """A worker ends when it is cancelled, also where a library swallowed that."""

    async def swallow(_flusher: Flusher) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return 1

    monkeypatch.setattr(Flusher, "step", swallow)
    task = asyncio.create_task((await make_flusher()).run())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 2)


@pytest.mark.parametrize("missing", [1, 5, 10])
async def test_a_gap_stops_the_record(shop: Shop, make_flusher: MakeFlusher, missing: int):
    """Where an event is missing nothing after it is recorded."""
    await shop.sell(10)
    await shop.redis.xdel(OUTBOX, f"{shop.epoch}-{missing}")
    await shop.append(redeemed("LAST"))
    with pytest.raises(OutboxGap):
        await (await make_flusher()).run()
    assert await shop.cursor() == (shop.epoch, 0)
    assert await shop.facts() == []


@pytest.mark.parametrize("kind", ["emptied", "shorter", "another"])
async def test_a_lost_anchor_stops_the_record(shop: Shop, make_flusher: MakeFlusher, kind: str):
    """A Redis that is empty, lost its last events, or has others under the same ids is noticed; none is recorded."""
    await shop.sell(10)
    flusher = await make_flusher()
    async with running(flusher) as task:
        await until(lambda: _is(flusher, 10))
        if kind == "shorter":
            await shop.redis.xdel(OUTBOX, f"{shop.epoch}-10")
        else:
            await shop.redis.delete(OUTBOX)
        if kind == "another":
            await shop.fence(shop.epoch)
            await shop.sell(20)
        with pytest.raises(AnchorLost):
            await asyncio.wait_for(task, 5)
    assert await shop.facts() == shop.said[:10]


async def test_a_stale_fence_cant_write(shop: Shop, make_flusher: MakeFlusher):
    """As soon as another has the lease, the worker before it ends and writes nothing more."""
    first = await make_flusher()
    await shop.sell(5)
    await first.start()
    assert await first.step() == 5
    second = await make_flusher()
    await shop.sell(5)
    with pytest.raises(flush.CursorMoved):
        await first.step()
    assert await shop.cursor() == (shop.epoch, 5)
    with pytest.raises(LeaseLost):
        await first.run()
    await caught_up(shop, second)
    assert await shop.facts() == shop.said


async def test_a_worker_that_loses_its_lease_while_running(shop: Shop, make_flusher: MakeFlusher):
    """Workers that take the lease from each other under traffic record each event once, and the losers end."""
    selling = asyncio.create_task(_sell_slowly(shop, 2000))
    tasks = []
    for _ in range(8):
        tasks.append(asyncio.create_task((await make_flusher()).run()))
        await asyncio.sleep(0.05)
    await selling
    await until(lambda: _at(shop, (shop.epoch, 2000)))
    done, (last,) = await asyncio.wait(tasks, timeout=3)
    assert [type(task.exception()) for task in done] == [LeaseLost] * 7
    last.cancel()
    assert await shop.facts() == shop.said


async def test_a_worker_that_slept_past_its_anchor(
    shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A worker that wakes after another trimmed its anchor says that it lost the lease, not that events are lost."""
    monkeypatch.setattr(flush, "KEEP_EVENTS", 0)
    sleeper = await make_flusher()
    await sleeper.start()
    other = await make_flusher()
    for _ in range(5):
        await shop.sell(200)
        await other.start()
        await other.step()
    assert (await shop.outbox())[0] > 0
    with pytest.raises(AnchorLost):
        await sleeper.step()
    with pytest.raises(LeaseLost):
        await sleeper._step_or_start()


async def test_poison_goes_to_quarantine(shop: Shop, make_flusher: MakeFlusher):
    """Events that Postgres refuses are kept apart with the reason, and all others are recorded."""
    await shop.sell(40)
    good = list(shop.said)
    twice = redeemed("CODE-7")
    poison = [
        "R 1 2 nonsense",
        redeemed("SECRET", discount_e4=1_000_001),
        redeemed("SECRET", redemption_id="no-uuid"),
        twice,
        redeemed("SECRET", order="o2"),
    ]
    for i, event in enumerate(poison):
        if i == 4:
            await shop.append(redeemed("ORDER", order="o2"))
            good.append(shop.said[-1])
        await shop.append(event)
        await shop.sell(9)
        good += shop.said[-9:]
    flusher = await make_flusher()
    await caught_up(shop, flusher)
    assert await shop.facts() == good
    kept = await shop.quarantined()
    assert [row[3].decode() for row in kept] == poison
    assert [row[2] for row in kept] == [
        "MalformedEvent a field can't be read (ValueError)",
        "CheckViolationError redemptions_check",
        "InvalidTextRepresentationError",
        "UniqueViolationError single_uses_pkey",
        "UniqueViolationError order_uses_pkey",
    ]
    assert flusher.quarantined == len(poison)


async def test_nothing_of_a_code_is_logged(shop: Shop, make_flusher: MakeFlusher, capsys: pytest.CaptureFixture[str]):
    """The alarm about a poisonous event names its id and the reason, and not the code, user or order."""
    await shop.append(redeemed("SECRETCODE", discount_e4=1_000_001), redeemed("SECRETCODE", redemption_id="SECRETCODE"))
    await caught_up(shop, await make_flusher())
    output = "".join(capsys.readouterr())
    assert "event put into quarantine" in output
    assert f"{shop.epoch}-1" in output
    assert "SECRETCODE" not in output


async def test_a_program_that_is_wrong_quarantines_no_more(
    shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """When event after event is refused the worker stops, instead of putting all of them aside."""
    monkeypatch.setattr(flush, "MAX_REFUSED_IN_A_ROW", 10)
    await shop.sell(5)
    await shop.append(*(redeemed(f"X-{i}", discount_e4=1_000_001) for i in range(30)))
    with pytest.raises(TooManyRefused):
        await (await make_flusher()).run()
    assert await shop.cursor() == (shop.epoch, 15)
    assert len(await shop.quarantined()) == 10


async def test_draining_into_a_new_epoch(shop: Shop, make_flusher: MakeFlusher):
    """A new epoch's opener records all that came before, over epochs that never opened, and where they ended."""
    flusher = await make_flusher()
    old = shop.epoch
    await shop.sell(7)
    epochs = [await begin_epoch(shop.pool, 0, flusher._fence, "b") for _ in range(2)]
    for epoch in epochs:
        await shop.fence(epoch)
    await flusher.drain(epochs[1])
    assert await shop.cursor() == (epochs[1], 0)
    ends = await shop.pool.fetch("SELECT epoch, last_seq FROM closed_epochs WHERE epoch > 0 ORDER BY 1")
    assert [tuple(row) for row in ends] == [(old, 7), (epochs[0], 0)]
    await shop.sell(3)
    assert await flusher.step() == 3
    assert await shop.facts() == shop.said


async def test_draining_an_outbox_that_ends_too_soon(shop: Shop, make_flusher: MakeFlusher):
    """A drain that doesn't find the new epoch's first entry says so, and keeps what it recorded."""
    await shop.sell(3)
    flusher = await make_flusher()
    with pytest.raises(OutboxGap):
        await flusher.drain(shop.epoch + 1)
    assert await shop.facts() == shop.said


async def test_an_epoch_that_postgres_doesnt_know(shop: Shop, make_flusher: MakeFlusher):
    """An entry of an epoch that nobody drew is not entered."""
    await shop.fence(shop.epoch + 100)
    flusher = await make_flusher()
    await flusher.start()
    with pytest.raises(flush.CursorMoved):
        await flusher.step()


async def test_trimming_keeps_what_it_should(shop: Shop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """The outbox keeps what is unrecorded, the anchor, and as many recorded events as are wanted; the rest goes."""
    monkeypatch.setattr(flush, "KEEP_EVENTS", 500)
    monkeypatch.setattr(flush, "BATCH_EVENTS", 200)
    flusher = await make_flusher()
    await shop.sell(3000)
    await flusher.start()
    for _ in range(10):
        await flusher.step()
    assert flusher.cursor == (shop.epoch, 2000)
    kept = await shop.outbox()
    assert kept == list(range(kept[0], 3001))
    assert 1500 <= kept[0] <= 1600
    monkeypatch.setattr(flush, "KEEP_S", 0)
    for _ in range(5):
        await flusher.step()
    assert await shop.redis.xlen(OUTBOX) >= 1
    assert (await shop.outbox())[-1] == 3000
    await flusher.step()
    assert await shop.facts() == shop.said


@pytest.mark.parametrize(
    ("pending", "states"),
    [
        ([0, 799_999, 800_000, 999_999, 1_000_000, 900_000, 899_999, 720_000, 719_999], "OOFFBBFFO"),
        ([1_000_000, 0, 720_000, 800_000, 719_999], "BOOFO"),
    ],
)
def test_the_gate_follows_what_is_pending(pending: list[int], states: str):
    """Locks stop at 800,000 unrecorded events, writes at a million, and a tenth less opens again."""
    flusher = Flusher(None, None, 0, 1)  # type: ignore[arg-type] # nothing is read
    found = ""
    for events in pending:
        flusher._tail = (0, events)
        found += flusher.gate_state()[0].upper()
    assert found == states


async def _sell_slowly(shop: Shop, count: int) -> None:
    for _ in range(count // 100):
        await shop.sell(100)
        await asyncio.sleep(0.005)


async def _is(flusher: Flusher, recorded: int) -> bool:
    return flusher.cursor[1] == recorded


async def _at(shop: Shop, cursor: tuple[int, int]) -> bool:
    return await shop.cursor() == cursor


async def _slowly(
    original: Callable[..., Awaitable[bool]], connection: asyncpg.Connection, args: tuple[Any, ...]
) -> None:
    await asyncio.sleep(0.2)
    assert await original(connection, *args)
    await connection.close()
