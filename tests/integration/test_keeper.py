"""What keeps a partition: the worker's loop around opening and recording."""

import asyncio
from typing import Any

import hiredis
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.common.config import Settings
from service.domain.code_requests import CodeLine
from service.formats import key_names
from service.hot.connection import Broken
from service.hot.redis_server import ScriptFailed
from service.operations import redeem
from service.record.config.code_rows import add_codes
from service.record.partitions.failing_tasks import Failing, read_failing
from service.record.partitions.openings import order_rebuild, rebuild_order
from service.record.partitions.partition_rows import LeaseLost, read_partition, take_lease
from service.worker import process as worker
from service.worker import task_supervisor
from service.worker.opening import Opening
from service.worker.process import Keeper
from service.worker.restocker import Restocker
from tests.integration.opening_fixtures import Place
from tests.integration.waiting import until


async def test_an_order_doesnt_stop_what_carries_it_out(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that renews its lease while it rebuilds as ordered goes on with that, and rebuilds once."""
    monkeypatch.setattr(worker, "RENEW_S", 0.001)
    monkeypatch.setattr(worker, "OBEY_S", 0.001)
    await order_rebuild(place.pool, 0, "an operator ordered it")
    before = await place.pool.fetchval("SELECT count(*) FROM recoveries")
    await _keep_until_rebuilt(place, database_url)
    assert await place.pool.fetchval("SELECT count(*) FROM recoveries") == before + 1


async def test_what_nobody_foresaw_ends_no_worker(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop, for one, raises RuntimeError where a connection breaks at a bad moment: it is logged, and tried again."""
    monkeypatch.setattr(task_supervisor, "WELL_S", 0.01)
    failures = [RuntimeError("the handler is closed")]

    async def take(*args: Any) -> int | None:
        if failures:
            raise failures.pop()
        return await take_lease(*args)

    monkeypatch.setattr(worker, "take_lease", take)
    await order_rebuild(place.pool, 0, "an operator ordered it")
    with capture_logs() as logs:
        await _keep_until_rebuilt(place, database_url)
    failed = [(entry["log_level"], entry["task"]) for entry in logs if entry["event"] == "task_failed"]
    assert failed == [("error", "opening")]


async def test_an_opening_that_fails_backs_off_and_says_so(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pauses for longer each time, to a bound; Postgres keeps how often it failed and why until it is open."""
    pauses: list[float] = []
    failures = 6

    async def fails(_: Opening) -> Any:
        if len(pauses) < failures:
            raise ScriptFailed("redo", "WRONGTYPE", "user_script:7")
        return await opens(_)

    async def pause(stopping: asyncio.Event, seconds: float) -> None:
        del stopping
        pauses.append(seconds)
        if len(pauses) == failures:
            noted.extend(await read_failing(place.pool, 0))

    noted: list[Failing] = []
    opens = Opening.run
    monkeypatch.setattr(Opening, "run", fails)
    monkeypatch.setattr(worker, "_pause", pause)
    monkeypatch.setattr(task_supervisor.random, "uniform", lambda _, most: most)
    await order_rebuild(place.pool, 0, "an operator ordered it")
    keeper = Keeper(_settings(place, database_url), place.pool, 0, "tests")
    await _until_rebuilt(place, keeper)
    assert pauses[:failures] == [0.5, 1, 2, 4, 8, 16]
    assert keeper._backoff.next_s() == worker.LONGEST_RETRY_S
    assert [(one.task, one.failures, one.reason) for one in noted] == [
        ("opening", failures, "ScriptFailed redo WRONGTYPE user_script:7")
    ]
    assert await read_failing(place.pool, 0) == []


@pytest.mark.parametrize("away", [Broken(), ConnectionRefusedError(), hiredis.ReplyError("LOADING it loads")])
async def test_a_server_that_is_away_is_asked_again_soon(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch, away: Exception
) -> None:
    """What may be back at once is no failure of the worker's."""
    keeper = Keeper(_settings(place, database_url), place.pool, 0, "tests")
    for _ in range(5):
        assert await keeper._failed(away) == worker.RETRY_S
    assert await read_failing(place.pool, 0) == []


async def test_a_task_that_fails_keeps_no_other_from_its_work(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that raises whatever it does is begun anew, and shown; events are recorded and other tasks go on."""
    monkeypatch.setattr(task_supervisor, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(task_supervisor, "LONGEST_PAUSE_S", 0.01)
    is_wrong = True
    works = Restocker.run

    async def fails(restocker: Restocker) -> None:
        if is_wrong:
            raise ValueError("SECRET-CODE")
        await works(restocker)

    async def has_failed() -> bool:
        return any(one.failures > 3 for one in await read_failing(place.pool, 0))

    async def is_well() -> bool:
        return not await read_failing(place.pool, 0)

    monkeypatch.setattr(Restocker, "run", fails)
    keeper = Keeper(_settings(place, database_url), place.pool, 0, "tests")
    stopping = asyncio.Event()
    keeping = asyncio.create_task(keeper.run(stopping))
    try:
        with capture_logs() as logs:
            await until(has_failed)
        (failing,) = await read_failing(place.pool, 0)
        assert (failing.task, failing.reason) == ("restocking", "ValueError")
        assert _metric("scrip_task_failing", "restocking") == 1
        assert _metric("scrip_task_failures_total", "restocking") >= failing.failures
        assert "SECRET" not in str([{**entry, "exc_info": None} for entry in logs])
        epoch = (await read_partition(place.pool, 0)).epoch
        await place.learn()
        await place.do(redeem.REDEEM, "CODE-70", userId="ann")
        await until(lambda: place.pool.fetchval("SELECT EXISTS (SELECT FROM redemptions WHERE code = 'CODE-70')"))
        await add_codes(place.pool, place.caller.workspace, 0, 1, [CodeLine("LATE-9")])
        await until(lambda: place.redis.hexists(f"{place.caller.prefix}d:{key_names.bucket('LATE-9')}", "LATE-9"))
        assert (await read_partition(place.pool, 0)).epoch == epoch
        monkeypatch.setattr(task_supervisor, "WELL_S", 0.01)
        is_wrong = False
        await until(is_well)
        assert _metric("scrip_task_failing", "restocking") == 0
    finally:
        stopping.set()
        await keeping


async def test_a_task_that_learns_that_the_partition_is_anothers_ends_all(place: Place) -> None:
    """Whatever ends what is done for a partition does so from a task, too, also from within a group of errors."""
    supervisor = task_supervisor.Supervisor(task_supervisor.Troubles(place.pool, 0), fatal=worker._FATAL)

    async def fails() -> None:
        raise ExceptionGroup("some", [ValueError(), ExceptionGroup("more", [LeaseLost("another has it")])])

    with pytest.raises(LeaseLost):
        await supervisor.run("task", fails)
    assert await read_failing(place.pool, 0) == []


def _metric(name: str, task: str) -> float:
    return REGISTRY.get_sample_value(name, {"partition": "0", "task": task}) or 0.0


def _settings(place: Place, database_url: str) -> Settings:
    return Settings(redis_url=place.valkey_url, database_url=database_url)


async def _keep_until_rebuilt(place: Place, database_url: str) -> None:
    await _until_rebuilt(place, Keeper(_settings(place, database_url), place.pool, 0, "tests"))


async def _until_rebuilt(place: Place, keeper: Keeper) -> None:
    stopping = asyncio.Event()
    keeping = asyncio.create_task(keeper.run(stopping))
    try:
        async with asyncio.timeout(30):
            while await rebuild_order(place.pool, 0) or (await read_partition(place.pool, 0)).state != "open":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        stopping.set()
        await keeping
