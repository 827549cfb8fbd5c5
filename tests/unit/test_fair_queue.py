"""Tasks of several workspaces that wait for the same thing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from service.common.fair_queue import FairGate
from service.common.pace import Pace
from service.server.api.bulk import PIECE, Bulk
from tests.harness.waiting import PATIENCE_S

Enter = Callable[[int], AbstractAsyncContextManager[None]]


class Runs:
    """What runs at once, and the order in which it began."""

    def __init__(self) -> None:
        self.order = list[int]()
        self.running, self.most = Counter[int](), Counter[int]()
        self.most_in_all = 0

    async def work(self, workspace: int) -> None:
        self.order.append(workspace)
        self.running[workspace] += 1
        self.most |= self.running
        self.most_in_all = max(self.most_in_all, self.running.total())
        await asyncio.sleep(0)
        self.running[workspace] -= 1

    async def within(self, enter: Enter, workspace: int) -> None:
        async with enter(workspace):
            await self.work(workspace)


def test_a_gate_bounds_what_runs_at_once() -> None:
    """So many tasks run in all, and of one workspace; all of them run in the end."""
    runs = Runs()

    async def run() -> None:
        gate = FairGate(5, 2)
        await asyncio.gather(*(runs.within(gate.one, number % 4) for number in range(40)))

    asyncio.run(run())
    assert Counter(runs.order) == dict.fromkeys(range(4), 10)
    assert (runs.most, runs.most_in_all) == (dict.fromkeys(range(4), 2), 5)


def test_a_workspace_with_one_task_is_next() -> None:
    """Of 32 tasks of one workspace at most two run before the only task of another, which comes last."""
    runs = Runs()

    async def run() -> None:
        paces: list[Enter] = [Pace(1.0).turn, FairGate(1, 1).one]
        for enter in paces:
            runs.order.clear()
            await asyncio.gather(*(runs.within(enter, workspace) for workspace in [1] * 32 + [2]))
            assert runs.order.index(2) <= 2
            assert len(runs.order) == 33

    asyncio.run(run())


@pytest.mark.parametrize("by", ["read", "read_pages"])
def test_a_large_page_is_next(by: str) -> None:
    """A workspace's large page, or page of a file, is read before the other 31 of a workspace with 32 readers."""
    runs, bulk = Runs(), Bulk()

    async def pages(workspace: int) -> AsyncIterator[list[int]]:
        await runs.work(workspace)
        yield []

    async def read_file(workspace: int) -> None:
        async for _ in bulk.read_pages(workspace, pages(workspace)):
            pass

    def read(workspace: int) -> Awaitable[None]:
        if by == "read_pages":
            return read_file(workspace)
        return bulk.read(workspace, PIECE + 1, lambda: runs.work(workspace))

    async def run() -> None:
        await asyncio.gather(*map(read, [1] * 32 + [2]))

    asyncio.run(run())
    assert runs.order.index(2) <= 2
    assert len(runs.order) == 33


@pytest.mark.parametrize("at", range(4))
def test_a_cancelled_task_frees_its_place(at: int) -> None:
    """Whether it waits, or its turn has just come: the others run."""
    runs = Runs()

    async def run() -> None:
        gate = FairGate(1, 1)
        tasks = [asyncio.create_task(runs.within(gate.one, 1)) for _ in range(4)]
        for _ in range(at):
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [False, True, False, False]
        async with gate.one(2):  # else it waits without an end
            assert gate.waiting(1) == 0

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


def test_who_is_full_does_not_keep_others_waiting() -> None:
    """A workspace that has all it may have at once is passed over, until one of its tasks ends."""

    async def run() -> None:
        gate = FairGate(2, 1)
        await gate.enter(1)
        second = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        assert gate.waiting(1) == 1
        await gate.enter(2)
        gate.leave(2)
        await asyncio.sleep(0)
        assert not second.done()
        gate.leave(1)
        await second
        assert gate.waiting(1) == 0

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
