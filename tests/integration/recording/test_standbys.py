"""A record that goes back, as that of a promoted standby, and an outbox that waits for standbys."""

from contextlib import closing

import pytest

from service.engine.hot.outbox import Outbox
from service.engine.record.partitions.standby_rows import StandbysHidden, check_visible, read_flushed
from service.engine.worker import write_behind
from service.engine.worker.write_behind import CursorMoved, Flusher
from service.server.doctor.verdicts import judge_standbys
from tests.harness.service_fixture import database
from tests.integration.recording.flush_fixtures import OUTBOX, MakeFlusher, RecordedShop
from tests.integration.recording.record_fixtures import take_partition


async def test_a_record_that_goes_back_is_recorded_again(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose Postgres lost the last events reads them again, and drops none from the outbox before."""
    monkeypatch.setattr(write_behind, "BATCH_EVENTS", 50)
    flusher = await make_flusher()
    await shop.sell(100)
    await flusher.start()
    for _ in range(2):
        await flusher.step()
    digest = await shop.pool.fetchval("SELECT cursor_digest FROM partitions")
    await shop.sell(300)
    for _ in range(6):
        await flusher.step()
    assert await shop.cursor() == (shop.epoch, 400)
    await shop.pool.execute("DELETE FROM redemptions WHERE seq > 100")
    await shop.pool.execute("DELETE FROM single_uses WHERE code NOT IN (SELECT code FROM redemptions)")
    await shop.pool.execute("UPDATE partitions SET cursor_seq = 100, cursor_digest = $1", digest)
    await shop.sell(10)
    with pytest.raises(CursorMoved):
        await flusher.step()
    await flusher.start()
    monkeypatch.setattr(write_behind, "KEEP_EVENTS", 200)
    for _ in range(3):
        await flusher.step()
    assert (await shop.outbox())[0] == 0, "events that were just recorded again were dropped"
    monkeypatch.setattr(write_behind, "KEEP_S", -1)
    while await flusher.step():
        pass
    assert await shop.facts() == shop.appended


async def test_the_outbox_waits_for_standbys(
    shop: RecordedShop, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no standby receives the record, the outbox keeps every event, and the gate closes at the bound."""
    monkeypatch.setattr(write_behind, "BATCH_EVENTS", 100)
    monkeypatch.setattr(write_behind, "KEEP_EVENTS", 0)
    monkeypatch.setattr(write_behind, "KEEP_S", -1)
    outbox = Outbox(valkey_url, 0)
    flusher = Flusher(outbox, shop.pool, 0, await take_partition(shop.pool), standbys=1)
    with closing(outbox):
        await shop.sell(1000)
        await flusher.start()
        while await flusher.step():
            await flusher._trim_exactly()
        assert flusher.cursor == (shop.epoch, 1000)
        assert await shop.redis.xlen(OUTBOX) == 1001
    verdict = judge_standbys(await read_flushed(shop.pool, 0, 1), 1)
    assert (verdict.state, verdict.says[:14]) == ("bad", "fewer than 1 r")
    states = []
    for flusher.held in (799_999, 800_000, 1_000_000, 0):
        states.append(flusher.gate_state())
    assert states == ["open", "full", "behind", "open"]


async def test_a_role_that_may_not_see_standbys(database_url: str) -> None:
    """A worker that can't see how far standbys are refuses to wait for them, and says what to grant."""
    async with database(database_url) as owner:
        role = f"blind_{await owner.fetchval('SELECT current_database()')}"
        await owner.execute(f"CREATE ROLE {role} LOGIN")
        try:
            async with database(database_url.replace("postgres@", f"{role}@")) as connection:
                with pytest.raises(StandbysHidden, match=f'GRANT pg_read_all_stats TO "{role}"'):
                    await check_visible(connection)
                await owner.execute(f"GRANT pg_read_all_stats TO {role}")
                await check_visible(connection)
        finally:
            await owner.execute(f"DROP ROLE {role}")
