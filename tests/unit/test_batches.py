"""How much of Redis the batches of one workspace take at a time."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from service.server.api.bulk import BATCHES_OF_ONE, Bulk
from service.server.api.controllers import batches
from service.server.api.durability import Wait
from tests.harness.waiting import PATIENCE_S


class Redis:
    """A decider that replies once every workspace has as many calls in flight as it may."""

    def __init__(self) -> None:
        self.in_flight, self.most = Counter[int](), Counter[int]()
        self.is_full = asyncio.Event()

    async def run_all(self, workspace: int, runs: Any) -> list[Any]:
        self.in_flight[workspace] += 1
        self.most[workspace] = max(self.most[workspace], self.in_flight[workspace])
        if min(self.in_flight[1], self.in_flight[2]) >= BATCHES_OF_ONE:
            self.is_full.set()
        await self.is_full.wait()
        await asyncio.sleep(0)
        self.in_flight[workspace] -= 1
        return [[0, "", "", 0] for _ in runs]

    def durability(self, _: int) -> str:
        return "accepted"


async def test_batches_of_a_workspace_share_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches of each of two workspaces have BATCHES_OF_ONE calls of each in flight, and all are decided."""
    redis = Redis()
    context = SimpleNamespace(decider=redis, bulk=Bulk())
    request: Any = SimpleNamespace(
        app=SimpleNamespace(state=SimpleNamespace(context=context)), headers={}, scope={"state": {"request_id": "r"}}
    )

    async def prepare(_: Any, __: Any, operations: Any) -> list[Any]:
        command: Any = SimpleNamespace(script="coupon", keys=(), args=())
        return [batches._Operation(command=command) for _ in operations]

    async def nothing(*_: Any) -> Any:
        return None

    monkeypatch.setattr(batches, "_prepare_some", prepare)
    monkeypatch.setattr(batches, "_render", nothing)
    monkeypatch.setattr(Wait, "begin", nothing)

    async def run(workspace: int) -> Any:
        call: Any = SimpleNamespace(caller=SimpleNamespace(workspace=workspace, partition=workspace, limits=None))
        operations: Any = [SimpleNamespace()] * 200
        return await batches._run(request, call, operations, None)

    async with asyncio.timeout(PATIENCE_S):
        runs = await asyncio.gather(*(run(workspace) for workspace in (1, 2) for _ in range(10)))
    assert redis.most == {1: BATCHES_OF_ONE, 2: BATCHES_OF_ONE}
    assert [len(one.entries) for one in runs] == [200] * 20
