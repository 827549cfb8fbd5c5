"""Versions side by side: whose scripts Redis has, and which versions fit a database."""

import contextlib
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.engine.deciding.deciding import Deciding
from service.engine.formats import number
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import Scripts, templates, version
from service.engine.operations import redeem
from service.engine.record import migrations, program_versions
from service.engine.record.facts.recorded_wait import Recorded
from service.engine.record.partitions.partition_rows import check_partitions, ensure_partitions, read_partition
from service.engine.record.processes import renew_process
from service.engine.record.program_versions import WrongNumber, check_number, store_scripts, stored_versions
from service.engine.worker import script_versions
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.write_behind import Flusher
from tests.harness.running import migrate
from tests.harness.waiting import running, wait_until
from tests.integration.opening.opening_fixtures import PartitionSetup
from tests.integration.opening.test_keeper import keeping, make_keeper
from tests.integration.recording.record_fixtures import take_partition


def make_version(name: str) -> dict[str, str]:
    """The scripts of another version: the same, with other digests."""
    return {script: f"{text}-- {name}\n" for script, text in templates().items()}


OTHER, NEWEST = make_version("other"), make_version("newest")


async def compose(setup: PartitionSetup, texts: Mapping[str, str]) -> Scripts:
    """A version's scripts for the partition's epoch."""
    row = await read_partition(setup.pool, 0)
    return Scripts(0, row.epoch, row.nonce, list(texts), template_of=texts.__getitem__)


async def has(setup: PartitionSetup, texts: Mapping[str, str]) -> bool:
    """Whether Redis has all scripts of a version for the partition's epoch."""
    async with setup.server() as server:
        return await server.has(await compose(setup, texts))


@contextlib.asynccontextmanager
async def working(setup: PartitionSetup, database_url: str, others: LoadedScripts | None = None) -> AsyncIterator[None]:
    """A worker runs meanwhile, and has opened the partition."""
    keeper = make_keeper(setup, database_url, others)
    async with keeping(keeper):
        await wait_until(lambda: keeper._task == "keeping")
        yield


async def test_scripts_are_composed_the_same_by_another_version(setup: PartitionSetup) -> None:
    """The templates that a version stores, filled by another for an epoch, have the digests that the version calls."""
    await store_scripts(setup.pool, version(), templates())
    stored = await program_versions.read_scripts(setup.pool, version())
    assert stored
    assert (await compose(setup, stored)).digests == setup.decider._digests[0]


async def test_an_opening_loads_the_scripts_of_versions_that_run(setup: PartitionSetup) -> None:
    """Redis has the scripts of the last version that migrated, and of running processes; not of versions that ended."""
    ended = make_version("ended")
    for name, texts in (("ended", ended), ("other", OTHER), ("newest", NEWEST)):
        await store_scripts(setup.pool, name, texts)
    await renew_process(setup.pool, "tests", "api", "other")
    await renew_process(setup.pool, "tests 2", "api", "never stored")
    others, fence = LoadedScripts(setup.pool), await take_partition(setup.pool)
    await others.refresh()
    async with setup.server() as server:
        await Opening(server, setup.pool, Flusher(setup.outbox, setup.pool, 0, fence), fence, others).run()
    assert [await has(setup, texts) for texts in (templates(), OTHER, NEWEST, ended)] == [True, True, True, False]


async def test_another_versions_worker_takes_over_without_an_opening(setup: PartitionSetup, database_url: str) -> None:
    """A worker finds only another version's scripts in Redis: it loads its own, and the epoch goes on."""
    epoch = (await read_partition(setup.pool, 0)).epoch
    await store_scripts(setup.pool, "other", OTHER)
    await setup.redis.script_flush()
    async with setup.server() as server:
        await server.load(await compose(setup, OTHER))
    async with working(setup, database_url):
        assert (await read_partition(setup.pool, 0)).epoch == epoch
        assert await has(setup, templates())
        await setup.do(redeem.REDEEM, "CODE-50", userId="ann")


async def test_a_redis_without_any_versions_scripts_is_opened(setup: PartitionSetup, database_url: str) -> None:
    """A Redis that lacks a script has restarted, may have lost data: a worker opens it, though versions are stored."""
    await store_scripts(setup.pool, "other", OTHER)
    epoch = (await read_partition(setup.pool, 0)).epoch
    await setup.redis.script_flush()
    partly = await compose(setup, OTHER)
    for text in list(partly.texts.values())[1:]:
        await setup.redis.script_load(text)
    async with working(setup, database_url):
        assert (await read_partition(setup.pool, 0)).epoch > epoch


async def test_scripts_of_another_layout_are_neither_loaded_nor_taken_over(
    setup: PartitionSetup, database_url: str
) -> None:
    """A version with another layout gets no scripts in this epoch; a worker that finds only its scripts opens again."""
    await store_scripts(setup.pool, "other", OTHER, layout="another")
    others = LoadedScripts(setup.pool)
    await others.refresh()
    epoch = (await read_partition(setup.pool, 0)).epoch
    await setup.redis.script_flush()
    async with setup.server() as server:
        await server.load(await compose(setup, OTHER))
    async with working(setup, database_url, others):
        assert (await read_partition(setup.pool, 0)).epoch > epoch
        assert not await has(setup, OTHER)


async def test_scripts_of_a_version_that_appears_are_loaded(setup: PartitionSetup, database_url: str) -> None:
    """When another version migrates, or an earlier one starts, the worker loads its scripts into the open epoch."""
    await store_scripts(setup.pool, "other", OTHER)
    others = LoadedScripts(setup.pool)
    async with working(setup, database_url, others):
        epoch = (await read_partition(setup.pool, 0)).epoch
        await store_scripts(setup.pool, "newest", NEWEST)
        await others.refresh()
        await wait_until(lambda: has(setup, NEWEST))
        assert not await has(setup, OTHER)
        await renew_process(setup.pool, "an API", "api", "other")
        await others.refresh()
        await wait_until(lambda: has(setup, OTHER))
        assert (await read_partition(setup.pool, 0)).epoch == epoch


async def test_a_redis_that_lost_its_scripts_gets_no_others(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker loads another version's scripts only while Redis has the worker's own."""
    await store_scripts(setup.pool, "other", OTHER)
    others = LoadedScripts(setup.pool)
    await others.refresh()
    await setup.redis.script_flush()
    looks, look = [], Server.has

    async def count(server: Server, scripts: Scripts) -> bool:
        looks.append(has_scripts := await look(server, scripts))
        return has_scripts

    monkeypatch.setattr(Server, "has", count)
    monkeypatch.setattr(script_versions, "POLL_S", 0.01)
    async with setup.server() as server, running(others.keep_loaded(server, await compose(setup, templates()))):
        await wait_until(lambda: len(looks) > 1, "a second look")
    assert not any(looks)
    assert not await has(setup, OTHER)


async def test_versions_that_nothing_needs_are_deleted(setup: PartitionSetup) -> None:
    """Postgres keeps the scripts of the last three versions that migrated, and of those that run."""
    await renew_process(setup.pool, "tests", "worker", "v0")
    for n in range(6):
        await store_scripts(setup.pool, f"v{n}", OTHER)
    assert await stored_versions(setup.pool) == ["v5", "v4", "v3", "v0"]
    await setup.pool.execute("UPDATE processes SET alive_until = now() - interval '2 minutes'")
    await store_scripts(setup.pool, "v4", OTHER)
    assert await stored_versions(setup.pool) == ["v4", "v5", "v3"]


async def test_a_process_without_its_scripts_is_not_ready(setup: PartitionSetup) -> None:
    """An API process can't decide until Redis has its version's scripts."""
    deciding = Deciding(setup.decider, Recorded(setup.pool), setup.valkey_url)
    deciding.open = frozenset({0})
    await setup.redis.script_flush()
    with capture_logs() as logs:
        async with running(deciding.watch_scripts()):
            await wait_until(lambda: any(line["event"] == "scripts_not_loaded" for line in logs))
            assert not deciding.loaded
            async with setup.server() as server:
                await server.load(await compose(setup, templates()))
            await wait_until(lambda: deciding.loaded == {0})


@pytest.mark.parametrize(
    ("own", "database", "fits"), [(2, 1, True), (2, 2, True), (2, 3, True), (3, 1, False), (1, 3, False)]
)
async def test_versions_next_to_each_other_fit(
    pool: asyncpg.Pool, database_url: str, monkeypatch: pytest.MonkeyPatch, own: int, database: int, fits: bool
) -> None:
    """A process starts and `scrip migrate` runs if the database's number differs by at most one; the larger stays."""
    await pool.execute("UPDATE formats SET number = $1", database)
    use_number(monkeypatch, own)
    if fits:
        await check_partitions(pool)
        assert await migrate(database_url) == []
    else:
        for refused in (check_partitions(pool), ensure_partitions(pool, 1), migrate(database_url)):
            with pytest.raises(WrongNumber, match=rf"has formats {database}, and this version has formats {own}"):
                await refused
    assert await pool.fetchval("SELECT number FROM formats") == (max(own, database) if fits else database)


async def test_a_migration_waits_for_processes_two_steps_behind(
    pool: asyncpg.Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scrip migrate` refuses while a process runs that doesn't fit; one that was only asleep then stops itself."""
    await renew_process(pool, "asleep", "api", "v1")
    await pool.execute("UPDATE formats SET number = 2")
    use_number(monkeypatch, 3)
    with pytest.raises(WrongNumber, match="a process with formats 1 still runs"):
        await migrate(database_url)
    await pool.execute("UPDATE processes SET alive_until = now() - interval '2 minutes'")
    await migrate(database_url)
    use_number(monkeypatch, 1)
    with pytest.raises(WrongNumber):
        await check_number(pool)


async def test_the_previous_version_uses_a_newer_schema(pool: asyncpg.Pool, database_url: str) -> None:
    """To go back, the previous version migrates and starts on a database with a migration that it doesn't know."""
    await pool.execute("INSERT INTO migrations (number, name, sha256) VALUES (9999, '9999_new', '')")
    await pool.execute("UPDATE formats SET number = $1", number.FORMAT_NUMBER + 1)
    assert await migrate(database_url) == []
    async with pool.acquire() as connection:
        assert await migrations.missing(connection) == []


def use_number(monkeypatch: pytest.MonkeyPatch, own: int) -> None:
    monkeypatch.setattr(number, "FORMAT_NUMBER", own)
    monkeypatch.setattr(program_versions, "FORMAT_NUMBER", own)
