"""Partitions in Postgres: leases, epochs, and the versions of their configuration."""

import asyncio

import asyncpg
import pytest

from service.engine.domain.errors import Refusal
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.record.partitions.partition_rows import (
    DEFAULT_PARTITIONS,
    LeaseLost,
    NotMigrated,
    WrongPartitions,
    begin_epoch,
    bump_config_version,
    check_partitions,
    confirm_incarnation,
    confirm_open,
    ensure_partitions,
    enter_epoch,
    read_partition,
    read_partitions,
    release_lease,
    renew_leases,
    take_lease,
)
from service.engine.record.pool import connect
from service.engine.record.processes import end_process, name_process, name_session
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.integration.recording.record_fixtures import Record, assigned


@pytest.fixture
def partitions() -> int:
    return 2


async def test_a_database_keeps_its_number_of_partitions(pool: asyncpg.Pool):
    """A new database gets the number that is asked for, else the default one. Another number is refused."""
    for refuse in (ensure_partitions, check_partitions):
        with pytest.raises(WrongPartitions, match="has 2 partitions, not 3"):
            await refuse(pool, 3)
    assert await check_partitions(pool, 2) == await check_partitions(pool) == 2
    assert [(row.id, row.state, row.config_version) for row in await read_partitions(pool)] == [
        (0, "closed", 0),
        (1, "closed", 0),
    ]
    await pool.execute("DELETE FROM config_versions; DELETE FROM partitions; DELETE FROM settings")
    with pytest.raises(NotMigrated):
        await check_partitions(pool)
    for default in (DEFAULT_PARTITIONS, 1):
        await ensure_partitions(pool, None, default)
        assert len(await read_partitions(pool)) == await check_partitions(pool) == 16


@pytest.mark.parametrize("has_session", [True, False])
@pytest.mark.parametrize("was_seen", [True, False])
async def test_a_lease_ends_with_its_session(
    pool: asyncpg.Pool, database_url: str, has_session: bool, was_seen: bool
) -> None:
    """The lease of a worker whose session has ended can be taken before it expires, if the worker renewed it since the
    reader's session began: before that, Postgres may have restarted. Without a session of its own it expires."""
    dying, reader = (name_process(has_session=has_session) for _ in range(2))
    own = await connect(database_url, name=name_session(dying), max_size=1)
    before = await connect(database_url, max_size=1)
    await renew_leases(own, dying, 60_000, "v1")
    after = await connect(database_url, max_size=1)
    database = before if was_seen else after
    assert await take_lease(pool, 0, dying)
    await renew_leases(database, reader, 60_000, "v1")
    assert (await renew_leases(database, reader, 60_000, "v1")).workers.keys() == {dying, reader}
    assert await take_lease(pool, 0, reader) is None
    pid = await own.fetchval("SELECT pg_backend_pid()")
    await own.close()
    await wait_until(lambda: pool.fetchval("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1", pid))
    is_ended = has_session and was_seen
    living = (await renew_leases(database, reader, 60_000, "v1")).workers.keys()
    assert living == ({reader} if is_ended else {dying, reader})
    assert (await take_lease(pool, 0, reader) is not None) is is_ended
    await before.close()
    await after.close()


async def test_a_lease_has_one_owner(pool: asyncpg.Pool):
    """A living worker's lease can't be taken; after its end, or a release, another takes it, with another fence."""
    for holder in ("first", "second", "third"):
        await renew_leases(pool, holder, 60_000, "v1")
    fences = await asyncio.gather(*(take_lease(pool, 0, holder) for holder in ("first", "second", "third")))
    (fence,) = [fence for fence in fences if fence is not None]
    leases = await renew_leases(pool, "first", 60_000, "v1")
    assert leases.workers.keys() == {"first", "second", "third"}
    owner = leases.partitions[0].holder
    assert owner
    assert leases.partitions[0].fence == fence
    another, last = leases.workers.keys() - {owner}
    await end_process(pool, owner)
    second = await take_lease(pool, 0, another)
    assert second is not None
    assert second != fence
    await release_lease(pool, 0, fence)
    assert await take_lease(pool, 0, last) is None
    await release_lease(pool, 0, second, last)
    assert await take_lease(pool, 0, another) is None
    assert await take_lease(pool, 0, last) is not None


async def test_an_expired_worker_has_no_leases(pool: asyncpg.Pool):
    """A worker that was not renewed in time has no leases; when it is renewed, it has lived for a moment only."""
    await renew_leases(pool, "slow", 0, "v1")
    assert await take_lease(pool, 0, "slow") is not None
    leases = await renew_leases(pool, "quick", 60_000, "v1")
    assert (leases.workers, [leases.partitions[n].holder for n in (0, 1)]) == ({}, ["slow", None])
    assert await take_lease(pool, 0, "quick") is not None
    await pool.execute("UPDATE processes SET alive_since = alive_since - interval '1 hour'")
    await renew_leases(pool, "slow", 60_000, "v1")
    alive_s = (await renew_leases(pool, "slow", 60_000, "v1")).workers
    assert alive_s["slow"] < 3600 <= alive_s["quick"]


async def test_an_epoch_opens_for_its_fence(pool: asyncpg.Pool):
    """An epoch is confirmed only under its fence, with the cursor in it, and before a later epoch begins."""
    fence = await take_lease(pool, 0, "first")
    assert fence is not None
    epoch = await begin_epoch(pool, 0, fence, "a")
    now = (await read_partition(pool, 0)).incarnation
    assert not await confirm_open(pool, 0, fence, epoch, now)
    assert await enter_epoch(pool, 0, fence, NO_EVENT, epoch, b"a")
    assert not await confirm_open(pool, 0, fence, epoch, "another Postgres")
    assert await confirm_open(pool, 0, fence, epoch, now)
    row = await read_partition(pool, 0)
    assert (row.state, row.epoch, row.nonce, row.cursor, row.cursor_digest) == ("open", epoch, "a", (epoch, 0), b"a")
    other = await read_partition(pool, 1)
    assert (row.lease_live, other.since, other.lease_live) == (False, None, False)
    assert row.since
    later = await take_lease(pool, 0, "later")
    assert later is not None
    again = await read_partition(pool, 0)
    assert (again.state, again.since, again.lease_live) == ("open", row.since, False)
    with pytest.raises(LeaseLost):
        await begin_epoch(pool, 0, fence, "b")
    next_epoch = await begin_epoch(pool, 0, later, "b")
    assert next_epoch > epoch
    closed = await read_partition(pool, 0)
    assert closed.since
    assert (closed.state, closed.since > row.since) == ("closed", True)
    assert not await confirm_open(pool, 0, later, epoch, now)
    assert not await enter_epoch(pool, 0, fence, EventId(epoch, 0), next_epoch, b"b")
    assert not await enter_epoch(pool, 0, later, EventId(epoch, 1), next_epoch, b"b")
    assert not await enter_epoch(pool, 0, later, EventId(epoch, 0), next_epoch + 1, b"b")


async def test_nothing_is_configured_in_a_postgres_that_was_not_compared(pool: asyncpg.Pool):
    """After a start of Postgres no change is accepted until the worker with the lease confirms the incarnation."""

    async def change() -> int:
        async with pool.acquire() as connection, connection.transaction():
            return await bump_config_version(connection, 0)

    before = await change()
    await pool.execute("VACUUM FULL config_versions")
    row = await read_partition(pool, 0)
    assert not row.confirmed
    with pytest.raises(Refusal) as refused:
        await change()
    assert refused.value.code == "recovering"
    fence = await take_lease(pool, 0, "worker")
    assert fence is not None
    for wrong in ((fence + 1, row.incarnation), (fence, "another")):
        await confirm_incarnation(pool, 0, *wrong)
        assert not (await read_partition(pool, 0)).confirmed
    await confirm_incarnation(pool, 0, fence, row.incarnation)
    assert (await read_partition(pool, 0)).confirmed
    assert await change() == before + 1


async def test_recording_doesnt_wait_for_configuration(kept: Record):
    """Recording does not wait for a long change of configuration."""
    async with kept.pool.acquire() as connection, connection.transaction():
        await bump_config_version(connection, 0)
        async with asyncio.timeout(PATIENCE_S):
            assert await kept.write(assigned())
