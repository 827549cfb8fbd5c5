"""Workspaces share the connections of a process, and the process has one for itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from service.engine.domain.errors import Refusal
from service.engine.record import shared_pool
from service.engine.record.pool import count_waiting
from service.engine.record.shared_pool import LEAST, MAX_WAITING, SharedPool, check_waiting, current_workspace
from service.server.api.bulk import Bulk
from tests.harness.waiting import PATIENCE_S


class Statements:
    """Statements that run until `end` is set, on a pool that connects to nothing."""

    def __init__(self, size: int) -> None:
        options: dict[str, Any] = {"connection_class": asyncpg.Connection, "record_class": asyncpg.Record, "loop": None}
        unused = {"max_queries": 1, "max_inactive_connection_lifetime": 1.0}
        self.pool = SharedPool(min_size=0, max_size=size, **options, **unused)
        self.running, self.end = Counter[int | None](), asyncio.Event()

    def begin(self, workspace: int | None) -> asyncio.Task[None]:
        return asyncio.create_task(self.run(workspace))

    async def run(self, workspace: int | None) -> None:
        current_workspace.set(workspace)
        async with self.pool.acquire():
            self.running[workspace] += 1
            async with self.pool.acquire():  # a second connection waits for nothing
                pass
            await self.end.wait()
            self.running[workspace] -= 1


@pytest.fixture(autouse=True)
def _connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def acquire(*_: Any, **__: Any) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(asyncpg.Pool, "acquire", acquire)


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("size", "of_one", "in_all"), [(10, 4, 9), (5, 2, 4), (LEAST, 1, 2)])
async def test_statements_at_once_are_bounded(size: int, of_one: int, in_all: int) -> None:
    """A workspace has at most half of the shared connections, all workspaces all but one, and the process that one."""
    statements = Statements(size)
    tasks = [statements.begin(1) for _ in range(20)]
    await _settle()
    assert statements.running == {1: of_one}
    tasks += [statements.begin(2)]
    await _settle()
    assert statements.running[2] == 1
    tasks += [statements.begin(workspace) for workspace in range(3, 20)]
    await _settle()
    assert statements.running.total() == in_all
    tasks += [statements.begin(None)]
    await _settle()
    assert statements.running[None] == 1
    statements.end.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    assert statements.running.total() == 0


async def test_a_workspace_with_too_many_waiting_statements() -> None:
    """Its next request is refused before it begins, another workspace's is not."""
    statements = Statements(LEAST)
    tasks = [statements.begin(1) for _ in range(MAX_WAITING)]
    await _settle()
    check_waiting(statements.pool, 1)
    tasks += [statements.begin(1)]
    await _settle()
    assert count_waiting(statements.pool) == MAX_WAITING
    with pytest.raises(Refusal, match="rate_limited") as refused:
        check_waiting(statements.pool, 1)
    assert refused.value.retry_after_ms
    check_waiting(statements.pool, 2)
    statements.end.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    check_waiting(statements.pool, 1)


async def test_bulk_work_with_a_turn_is_next() -> None:
    """Bulk work with a turn, for which others wait, gets a connection before its workspace's statements."""
    order, bulk, statements = list[str](), Bulk(), Statements(LEAST)

    async def run(name: str, workspace: int) -> None:
        current_workspace.set(workspace)
        async with statements.pool.acquire():
            order.append(name)
            await asyncio.sleep(0)

    async def read_large(workspace: int) -> None:
        async with bulk.at_postgres.turn(workspace):
            await run(f"large {workspace}", workspace)
        await run("after", workspace)

    tasks = [asyncio.create_task(run("small", 1)) for _ in range(100)]
    tasks += [asyncio.create_task(read_large(workspace)) for workspace in (1, 2)]
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
    assert order.index("large 1") < order.index("large 2") < 10
    assert order[-1] == "after"


async def test_a_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that waited too long fails as if Postgres were away, and frees its place."""
    monkeypatch.setattr(shared_pool, "WAIT_S", 0)
    statements = Statements(LEAST)
    first = statements.begin(1)
    await _settle()
    second = statements.begin(1)
    await asyncio.wait([second], timeout=10)
    assert isinstance(second.exception(), TimeoutError)
    assert statements.pool.gate.waiting(1) == 0
    statements.end.set()
    await first
