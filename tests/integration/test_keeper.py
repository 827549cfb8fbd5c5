"""What keeps a partition: the worker's loop around opening and recording."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.config import Settings
from service.record.partitions import read_partition, take_lease
from service.record.recovery import order_rebuild, rebuild_order
from service.worker import main as worker
from service.worker.main import Keeper
from tests.integration.opening_fixtures import Place


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
    failures = [RuntimeError("the handler is closed")]

    async def take(*args: Any) -> int | None:
        if failures:
            raise failures.pop()
        return await take_lease(*args)

    monkeypatch.setattr(worker, "take_lease", take)
    monkeypatch.setattr(worker, "RETRY_S", 0.001)
    await order_rebuild(place.pool, 0, "an operator ordered it")
    with capture_logs() as logs:
        await _keep_until_rebuilt(place, database_url)
    assert [entry["log_level"] for entry in logs if entry["event"] == "failed"] == ["error"]


async def _keep_until_rebuilt(place: Place, database_url: str) -> None:
    settings = Settings(redis_url=place.valkey_url, database_url=database_url)
    stopping = asyncio.Event()
    keeping = asyncio.create_task(Keeper(settings, place.pool, 0, "tests").run(stopping))
    try:
        async with asyncio.timeout(30):
            while await rebuild_order(place.pool, 0) or (await read_partition(place.pool, 0)).state != "open":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        stopping.set()
        await keeping
