"""A Postgres that is older than Redis never replaces what Redis has (decision 0074)."""

from collections.abc import Awaitable, Callable

import pytest

from service.engine.formats import key_names
from service.engine.operations import redeem
from service.engine.record.partitions.openings import order_rebuild
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.opening.older_postgres import PostgresOlder
from service.server.in_postgres.code_rows import add_codes
from service.server.requests.code_requests import CodeLine
from tests.integration.opening.opening_fixtures import PartitionSetup, restored, trim

_OUTBOX = key_names.outbox(0)


async def _sell(setup: PartitionSetup) -> None:
    """Redeem three codes, and record that."""
    for n in range(40, 43):
        await setup.do(redeem.REDEEM, f"CODE-{n}", userId="ann")
    await setup.record()


async def _more_sales(setup: PartitionSetup) -> None:
    await _sell(setup)
    await trim(setup)


async def _an_upload(setup: PartitionSetup) -> None:
    """The last event is the answer of an upload, and no fact is left in the outbox."""
    await _sell(setup)
    row = await read_partition(setup.pool, 0)
    await setup.redis.xadd(
        _OUTBOX, {"e": f"K {setup.caller.workspace} 1800000000000\n{{}}"}, id=f"{row.epoch}-{row.cursor_seq + 1}"
    )
    await setup.record()
    await trim(setup)


async def _a_recovery(setup: PartitionSetup) -> None:
    """Redis lost its end, which was applied again and never was in its outbox."""
    kept = await setup.snapshot()
    await _sell(setup)
    await setup.put_back(kept)
    await setup.reopen()


async def _a_rebuild(setup: PartitionSetup) -> None:
    await _sell(setup)
    await setup.rebuild()


async def _configuration(setup: PartitionSetup) -> None:
    await add_codes(setup.pool, setup.caller.workspace, 0, 1, [CodeLine("LATE-1")])
    await setup.reopen()


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (_more_sales, "3 events or more"),
        (_an_upload, "4 events or more"),
        (_a_recovery, "1 event or more"),
        (_a_rebuild, "1 event or more"),
        (_configuration, "1 configuration change"),
    ],
)
async def test_redis_stays_as_it_is(
    setup: PartitionSetup, older: str, change: Callable[[PartitionSetup], Awaitable[None]], lacks: str
) -> None:
    """If Postgres lacks anything that Redis has, the opening changes nothing in Redis, the partition stays closed, and
    says what is missing. With the newer Postgres it opens again, and nothing was lost."""
    await change(setup)
    before = await setup.stored()
    async with restored(setup, older):
        for _ in range(2):
            with pytest.raises(PostgresOlder, match=lacks):
                await setup.open()
            row = await read_partition(setup.pool, 0)
            assert (row.state, lacks in (row.lacks or "")) == ("closed", True)
    assert await setup.stored() == before
    whole = await setup.everything()
    await setup.reopen()
    assert await setup.everything() == whole
    assert await setup.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert (await read_partition(setup.pool, 0)).lacks is None


async def test_what_is_in_the_outbox_is_recorded(setup: PartitionSetup, older: str) -> None:
    """If the outbox reaches back to the older Postgres, the opening records the rest, also of epochs that it lost."""
    await _sell(setup)
    await setup.reopen()
    await setup.do(redeem.REDEEM, "CODE-50", userId="ann")
    await setup.record()
    whole = await setup.everything()
    async with restored(setup, older):
        await setup.reopen()
        assert await setup.everything() == whole
        codes = "SELECT code FROM redemptions WHERE code IN ('CODE-40', 'CODE-41', 'CODE-42', 'CODE-50') ORDER BY code"
        assert len(await setup.pool.fetch(codes)) == 4
        assert await setup.refusal(redeem.REDEEM, "CODE-40", userId="bob") == "coupon_redeemed"


async def test_both_restored_to_different_times(setup: PartitionSetup, older: str) -> None:
    """A Redis that was restored, too, stays as it is if the older Postgres lacks any of its events."""
    await _more_sales(setup)
    older_redis = await setup.snapshot()
    await setup.do(redeem.REDEEM, "CODE-50", userId="ann")
    await setup.record()
    await setup.put_back(older_redis)
    async with restored(setup, older):
        with pytest.raises(PostgresOlder, match="3 events or more"):
            await setup.open()


async def test_an_empty_redis_has_nothing_to_lose(setup: PartitionSetup, older: str) -> None:
    """An older Postgres beside an empty Redis opens."""
    await _sell(setup)
    await setup.redis.flushall()
    async with restored(setup, older):
        await setup.open()


async def test_an_operator_accepts_the_loss(setup: PartitionSetup, older: str) -> None:
    """By order Redis is rebuilt from the older Postgres."""
    await _more_sales(setup)
    async with restored(setup, older):
        await order_rebuild(setup.pool, 0, "an operator ordered it")
        with pytest.raises(PostgresOlder):
            await setup.open()
        await order_rebuild(setup.pool, 0, "an operator ordered it", "discard")
        await setup.reopen()
        assert (await read_partition(setup.pool, 0)).lacks is None
        await setup.do(redeem.REDEEM, "CODE-40", userId="bob")
