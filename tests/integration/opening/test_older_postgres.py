"""A Postgres that is older than Redis never replaces what Redis has (docs/decisions/0074-older-postgres.md)."""

from collections.abc import Awaitable, Callable

import pytest

from service.engine.formats import key_names
from service.engine.operations import redeem
from service.engine.record.partitions.openings import order_rebuild
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.opening.older_postgres import PostgresOlder
from service.server.record.code_rows import add_codes
from service.server.requests.code_requests import CodeLine
from tests.integration.opening.opening_fixtures import Place, restored, trim

_OUTBOX = key_names.outbox(0)


async def _sell(place: Place) -> None:
    """Redeem three codes, and record that."""
    for n in range(40, 43):
        await place.do(redeem.REDEEM, f"CODE-{n}", userId="ann")
    await place.record()


async def _more_sales(place: Place) -> None:
    await _sell(place)
    await trim(place)


async def _an_upload(place: Place) -> None:
    """The last event is the answer of an upload, and no fact is left in the outbox."""
    await _sell(place)
    row = await read_partition(place.pool, 0)
    await place.redis.xadd(
        _OUTBOX, {"e": f"K {place.caller.workspace} 1800000000000\n{{}}"}, id=f"{row.epoch}-{row.cursor_seq + 1}"
    )
    await place.record()
    await trim(place)


async def _a_recovery(place: Place) -> None:
    """Redis lost its end, which was applied again and never was in its outbox."""
    kept = await place.snapshot()
    await _sell(place)
    await place.put_back(kept)
    await place.reopen()


async def _a_rebuild(place: Place) -> None:
    await _sell(place)
    await place.rebuild()


async def _configuration(place: Place) -> None:
    await add_codes(place.pool, place.caller.workspace, 0, 1, [CodeLine("LATE-1")])
    await place.reopen()


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
    place: Place, older: str, change: Callable[[Place], Awaitable[None]], lacks: str
) -> None:
    """If Postgres lacks anything that Redis has, the opening changes nothing in Redis, the partition stays closed, and
    says what is missing. With the newer Postgres it opens again, and nothing was lost."""
    await change(place)
    before = await place.stored()
    async with restored(place, older):
        for _ in range(2):
            with pytest.raises(PostgresOlder, match=lacks):
                await place.open()
            row = await read_partition(place.pool, 0)
            assert (row.state, lacks in (row.lacks or "")) == ("closed", True)
    assert await place.stored() == before
    whole = await place.everything()
    await place.reopen()
    assert await place.everything() == whole
    assert await place.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert (await read_partition(place.pool, 0)).lacks is None


async def test_what_is_in_the_outbox_is_recorded(place: Place, older: str) -> None:
    """If the outbox reaches back to the older Postgres, the opening records the rest, also of epochs that it lost."""
    await _sell(place)
    await place.reopen()
    await place.do(redeem.REDEEM, "CODE-50", userId="ann")
    await place.record()
    whole = await place.everything()
    async with restored(place, older):
        await place.reopen()
        assert await place.everything() == whole
        codes = "SELECT code FROM redemptions WHERE code IN ('CODE-40', 'CODE-41', 'CODE-42', 'CODE-50') ORDER BY code"
        assert len(await place.pool.fetch(codes)) == 4
        assert await place.refusal(redeem.REDEEM, "CODE-40", userId="bob") == "coupon_redeemed"


async def test_both_restored_to_different_times(place: Place, older: str) -> None:
    """A Redis that was restored, too, stays as it is if the older Postgres lacks any of its events."""
    await _more_sales(place)
    older_redis = await place.snapshot()
    await place.do(redeem.REDEEM, "CODE-50", userId="ann")
    await place.record()
    await place.put_back(older_redis)
    async with restored(place, older):
        with pytest.raises(PostgresOlder, match="3 events or more"):
            await place.open()


async def test_an_empty_redis_has_nothing_to_lose(place: Place, older: str) -> None:
    """An older Postgres beside an empty Redis opens."""
    await _sell(place)
    await place.redis.flushall()
    async with restored(place, older):
        await place.open()


async def test_an_operator_accepts_the_loss(place: Place, older: str) -> None:
    """By order Redis is rebuilt from the older Postgres."""
    await _more_sales(place)
    async with restored(place, older):
        await order_rebuild(place.pool, 0, "an operator ordered it")
        with pytest.raises(PostgresOlder):
            await place.open()
        await order_rebuild(place.pool, 0, "an operator ordered it", "discard")
        await place.reopen()
        assert (await read_partition(place.pool, 0)).lacks is None
        await place.do(redeem.REDEEM, "CODE-40", userId="bob")
