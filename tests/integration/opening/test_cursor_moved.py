"""A cursor that moves during an opening."""

import asyncio
from typing import Any

import pytest

from service.common.config import Settings
from service.record.partitions.failing_tasks import read_failing
from service.record.partitions.openings import order_rebuild
from service.worker import partition_worker as worker
from service.worker.lease_keeper import LeaseKeeper
from service.worker.opening.partition_opening import Opening
from service.worker.script_versions import LoadedScripts
from service.worker.write_behind import CursorMoved
from tests.integration.opening.opening_fixtures import Place


async def test_a_moved_cursor_starts_the_opening_again(
    place: Place, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that loses its cursor to a commit in doubt starts again without a pause, and counts as no failure."""
    opens, openings, stopping = Opening.run, 0, asyncio.Event()

    async def run(opening: Opening) -> Any:
        nonlocal openings
        openings += 1
        if openings == 1:
            raise CursorMoved
        scripts = await opens(opening)
        stopping.set()
        return scripts

    pauses: list[float] = []

    async def pause(seconds: float, *_: asyncio.Event) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Opening, "run", run)
    monkeypatch.setattr(worker, "pause", pause)
    await order_rebuild(place.pool, 0, "an operator ordered it")
    settings = Settings(redis_url=place.valkey_url, database_url=database_url)
    keeper = LeaseKeeper(place.pool, "tests", 1)
    keeper[0].is_due.set()
    shared = worker.Shared(settings, place.pool, keeper, LoadedScripts(place.pool))
    await worker.PartitionWorker(shared, 0).run(stopping)
    shared.redis.close()
    assert (openings, pauses[0]) == (2, 0.0)
    assert await read_failing(place.pool, 0) == []
