"""The worker's loop around opening and recording a partition."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.common.config import Settings
from service.engine.formats import key_names
from service.engine.hot.connection import Broken
from service.engine.hot.redis_server import ScriptFailed
from service.engine.operations import redeem
from service.engine.record.partitions.failing_tasks import FailingTask, read_failing
from service.engine.record.partitions.openings import order_rebuild, rebuild_order
from service.engine.record.partitions.partition_rows import LeaseLost, read_partition
from service.engine.worker import lease_keeper, task_supervisor, write_behind
from service.engine.worker import partition_worker as worker
from service.engine.worker.engine_settings import EngineSettings
from service.engine.worker.lease_keeper import Lease, LeaseKeeper
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.partition_worker import PartitionWorker, Parts, Shared
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.server_metrics import ServerMetrics
from service.engine.worker.server_watch import ServerWatch
from service.engine.worker.write_behind import CursorMoved
from service.server.in_postgres.code_rows import add_codes
from service.server.requests.code_requests import CodeLine
from service.server.tasks.partition_tasks import partition_tasks
from service.server.tasks.process_tasks import follow_jobs
from service.server.tasks.restocker import Restocker
from service.server.webhooks.public_http import Poster
from tests.harness.waiting import PATIENCE_S, cancel, wait_until
from tests.harness.waiting import running as meanwhile
from tests.integration.opening.opening_fixtures import PartitionSetup


async def test_an_order_doesnt_stop_what_carries_it_out(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that renews its lease during an ordered rebuild goes on, and rebuilds once."""
    monkeypatch.setattr(lease_keeper, "RENEW_S", 0.001)
    await order_rebuild(setup.pool, 0, "an operator ordered it")
    before = await setup.pool.fetchval("SELECT count(*) FROM recoveries")
    await keep_until_rebuilt(setup, make_keeper(setup, database_url))
    assert await setup.pool.fetchval("SELECT count(*) FROM recoveries") == before + 1


async def test_an_opening_that_fails_backs_off_and_says_so(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each error the worker pauses longer, up to a bound; Postgres has the failures and the last reason."""
    pauses: list[float] = []
    noted: list[FailingTask] = []
    failures, opens, takes = 6, Opening.run, LeaseKeeper.take

    async def take(keeper: LeaseKeeper, *args: Any) -> int | None:
        if not pauses:
            raise RuntimeError("the handler is closed")  # as uvloop does
        return await takes(keeper, *args)

    async def fails(opening: Opening) -> Any:
        if len(pauses) < failures:
            raise ScriptFailed("apply_events", "WRONGTYPE", "user_script:7")
        return await opens(opening)

    async def pause(seconds: float, *_: asyncio.Event) -> None:
        pauses.append(seconds)
        if len(pauses) == failures:
            noted.extend(await read_failing(setup.pool, 0))

    monkeypatch.setattr(LeaseKeeper, "take", take)
    monkeypatch.setattr(Opening, "run", fails)
    monkeypatch.setattr(worker, "pause", pause)
    monkeypatch.setattr(task_supervisor.random, "uniform", lambda _, most: most)
    await order_rebuild(setup.pool, 0, "an operator ordered it")
    keeper = make_keeper(setup, database_url)
    await keep_until_rebuilt(setup, keeper)
    assert pauses[:failures] == [0.5, 1, 2, 4, 8, 16]
    assert keeper._backoff.next_s() == worker.LONGEST_RETRY_S
    assert [(one.task, one.failures, one.reason) for one in noted] == [
        ("opening", failures, "ScriptFailed apply_events WRONGTYPE user_script:7")
    ]
    assert await read_failing(setup.pool, 0) == []


async def test_a_moved_cursor_starts_the_opening_again(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that loses its cursor to a commit in doubt starts again without a pause, and counts as no failure."""
    opens, openings, pauses = Opening.run, 0, list[float]()

    async def run(opening: Opening) -> Any:
        nonlocal openings
        openings += 1
        if openings == 1:
            raise CursorMoved
        return await opens(opening)

    async def pause(seconds: float, *_: asyncio.Event) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Opening, "run", run)
    monkeypatch.setattr(worker, "pause", pause)
    await order_rebuild(setup.pool, 0, "an operator ordered it")
    await keep_until_rebuilt(setup, make_keeper(setup, database_url))
    assert (openings, pauses[0]) == (2, 0.0)
    assert await read_failing(setup.pool, 0) == []


@pytest.mark.parametrize("away", [Broken(), ConnectionRefusedError(), hiredis.ReplyError("LOADING it loads")])
async def test_a_server_that_is_away_is_asked_again_soon(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch, away: Exception
) -> None:
    """An error of a server that is away is retried soon, and is no failure of the task."""
    keeper = make_keeper(setup, database_url)
    for _ in range(5):
        async with asyncio.timeout(PATIENCE_S):
            assert await keeper._pause_after(away) <= worker.RETRY_S
    assert await read_failing(setup.pool, 0) == []


@pytest.mark.parametrize("loss", ["SCRIPT FLUSH", "FLUSHALL"])
async def test_the_pulse_of_an_idle_server_shows_a_loss(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """While a partition is idle its gate is rarely checked; but as soon as the server has fewer scripts or keys."""
    monkeypatch.setattr(worker, "IDLE_POLL_S", 1_000.0)
    monkeypatch.setattr(write_behind, "CHECK_S", 1_000.0)
    monkeypatch.setattr(PartitionWorker, "_background", lambda *_: {})  # other tasks would notice it, too
    monkeypatch.setattr(worker, "FITNESS_POLL_S", 0.05)
    asked: Counter[str] = Counter()
    for name in ("check_partition", "pulse"):
        monkeypatch.setattr(ServerWatch, name, _counting(name, asked))
    async with keeping(make_keeper(setup, database_url)):
        await wait_until(lambda: asked["check_partition"] and asked["pulse"] > 1, "a first check, and an idle server")
        epoch = (await read_partition(setup.pool, 0)).epoch
        await setup.redis.execute_command(*loss.split())
        is_open = "SELECT state = 'open' AND epoch > $1 FROM partitions"
        await wait_until(lambda: setup.pool.fetchval(is_open, epoch))


def _counting(name: str, asked: Counter[str]) -> Callable[..., Awaitable[Any]]:
    """The method of ServerWatch, whose results are counted."""
    ask = getattr(ServerWatch, name)

    async def count(*args: Any) -> Any:
        result = await ask(*args)
        asked[name] += 1
        return result

    return count


async def test_a_failing_task_leaves_the_others_alone(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing task is restarted and reported; the worker records events, and its other tasks go on."""
    for name in ("FIRST_PAUSE_S", "LONGEST_PAUSE_S", "HEALTHY_AFTER_S"):
        monkeypatch.setattr(task_supervisor, name, 0.01)
    is_wrong = True
    works = Restocker.run

    async def fails(restocker: Restocker, lease: Lease) -> None:
        if is_wrong:
            raise ValueError("SECRET-CODE")
        await works(restocker, lease)

    async def has_failed() -> bool:
        return any(one.failures > 3 for one in await read_failing(setup.pool, 0))

    async def is_well() -> bool:
        return not await read_failing(setup.pool, 0)

    monkeypatch.setattr(Restocker, "run", fails)
    with capture_logs() as logs:
        async with keeping(make_keeper(setup, database_url)):
            await wait_until(has_failed)
            (failing,) = await read_failing(setup.pool, 0)
            assert (failing.task, failing.reason) == ("restocking", "ValueError")
            assert _sample("scrip_task_failing", task="restocking") == 1
            assert (_sample("scrip_task_failures_total", task="restocking") or 0) >= failing.failures
            epoch = (await read_partition(setup.pool, 0)).epoch
            await setup.learn()
            await setup.do(redeem.REDEEM, "CODE-70", userId="ann")
            await wait_until(
                lambda: setup.pool.fetchval("SELECT EXISTS (SELECT FROM redemptions WHERE code = 'CODE-70')")
            )
            await add_codes(setup.pool, setup.caller.workspace, 0, 1, [CodeLine("LATE-9")])
            await wait_until(
                lambda: setup.redis.hexists(f"{setup.caller.prefix}d:{key_names.bucket('LATE-9')}", "LATE-9")
            )
            assert (await read_partition(setup.pool, 0)).epoch == epoch
            is_wrong = False
            await wait_until(is_well)
            assert _sample("scrip_task_failing", task="restocking") == 0
    assert "SECRET" not in str([{**entry, "exc_info": None} for entry in logs])


async def test_a_lease_that_is_lost_in_a_pause(
    setup: PartitionSetup, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that failed to open a partition shows this no more once another worker has the lease."""

    async def fails(*_: Any) -> Any:
        raise ValueError("an opening that fails")

    monkeypatch.setattr(PartitionWorker, "_open", fails)
    monkeypatch.setattr(worker, "LONGEST_RETRY_S", 0.5)
    other = LeaseKeeper(setup.pool, "other", 1)
    async with keeping(make_keeper(setup, database_url)):
        await wait_until(lambda: _sample("scrip_task_failing", task="opening"))
        await other.renew()
        async with meanwhile(other.run()):
            await setup.pool.execute("UPDATE partitions SET lease_holder = 'other', fence = fence + 1")
            await wait_until(lambda: not _sample("scrip_task_failing", task="opening"))


async def test_a_task_that_loses_the_lease(setup: PartitionSetup) -> None:
    """A task that loses the lease ends the work on the partition, from within a group of errors too."""
    supervisor = task_supervisor.Supervisor(task_supervisor.TaskFailures(setup.pool, 0), fatal=worker._FATAL)

    async def fails() -> None:
        raise ExceptionGroup("some", [ValueError(), ExceptionGroup("more", [LeaseLost("another has it")])])

    with pytest.raises(LeaseLost):
        await supervisor.run("task", fails)
    assert await read_failing(setup.pool, 0) == []


async def test_what_a_worker_shows(setup: PartitionSetup, database_url: str) -> None:
    """A worker counts openings by how they restored Redis, and what it records. It shows the free codes of books that
    run low, the memory and replicas of its Redis, and clock, connections and archive of its Postgres."""
    before = {way: _sample("scrip_openings_total", way=way) or 0 for way in ("verified", "rebuilt")}
    await setup.reopen()
    assert _sample("scrip_openings_total", way="verified") == before["verified"] + 1
    await setup.rebuild()
    assert _sample("scrip_openings_total", way="rebuilt") == before["rebuilt"] + 1
    recorded = _sample("scrip_recorded_events_total") or 0
    keeper = make_keeper(setup, database_url)
    shown = ServerMetrics()
    shown.redis = keeper._redis
    follows = (shown.follow_servers(setup.pool, 1, "tests", 9), follow_jobs(setup.pool))
    looking = [asyncio.create_task(follow) for follow in follows]
    async with keeping(keeper):
        await wait_until(lambda: _sample("scrip_recorded_events_total") is not None)
        await setup.do(redeem.REDEEM, "CODE-50", userId="ann")
        await wait_until(lambda: _sample("scrip_recorded_events_total") == recorded + 1)
        assert REGISTRY.get_sample_value("scrip_recording_batch_events_count")
        ((name, book_id),) = await setup.pool.fetch(
            "SELECT workspaces.name, book_id FROM books JOIN workspaces USING (workspace) WHERE low_stock_threshold = 3"
        )
        low = {"workspace": name, "book": str(book_id)}
        await wait_until(lambda: REGISTRY.get_sample_value("scrip_book_free_codes", low) == 2)
        await wait_until(lambda: {"scrip_redis_replicas", "scrip_archive_failing"} <= _servers(shown).keys())
        assert _sample("scrip_outbox_held_events") is None
        seen = _servers(shown)
    await cancel(*looking)
    assert all(used > 1 for used in seen["scrip_redis_memory_used_bytes"].values())
    assert [*seen["scrip_redis_replicas"].values()] == [0]
    assert {"redis", "postgres"} <= seen["scrip_clock_offset_seconds"].keys()
    assert 1 < seen["scrip_postgres_connections"][""] < seen["scrip_postgres_connections_limit"][""]
    assert seen["scrip_archive_failing"] == {"": 0}
    assert "scrip_sentinels" not in seen
    assert seen["scrip_standbys_missing"] == {"": 1}
    assert REGISTRY.get_sample_value("scrip_jobs", {"kind": "generate", "state": "running"}) == 0


def _sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"partition": "0", **labels})


def _servers(shown: ServerMetrics) -> dict[str, dict[str, float]]:
    """The metrics of servers by the values of their labels."""
    return {
        family.name: {"".join(one.labels.values()): one.value for one in family.samples}
        for family in shown.collect()
        if family.samples
    }


def make_keeper(setup: PartitionSetup, database_url: str, loaded: LoadedScripts | None = None) -> PartitionWorker:
    """A worker's loop on the setup's servers, with the server's tasks."""
    settings = Settings()
    parts = Parts(tasks_of=lambda opened: partition_tasks(settings, opened, lambda: Poster(True)))
    engine, leases = EngineSettings(setup.valkey_url, database_url), LeaseKeeper(setup.pool, "tests", 1)
    shared = Shared(engine, setup.pool, leases, loaded or LoadedScripts(setup.pool), lambda: parts)
    return PartitionWorker(shared, 0)


async def keep_until_rebuilt(setup: PartitionSetup, keeper: PartitionWorker) -> None:
    """Run the loop until no rebuild is ordered and the partition is open."""

    async def is_rebuilt() -> bool:
        return not await rebuild_order(setup.pool, 0) and (await read_partition(setup.pool, 0)).state == "open"

    async with keeping(keeper):
        await wait_until(is_rebuilt)


@contextlib.asynccontextmanager
async def keeping(keeper: PartitionWorker) -> AsyncIterator[None]:
    """Run the loop during the block."""
    stopping = asyncio.Event()
    renewing = asyncio.create_task(keeper._keeper.run())
    keeping = asyncio.create_task(keeper.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await keeping
        await cancel(renewing)
        keeper._redis.close()
