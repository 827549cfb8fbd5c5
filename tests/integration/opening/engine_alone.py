"""The engine in a process where nothing above it can be imported: a worker opens the partition and records; beside it,
a code is redeemed. test_engine_alone.py runs it, with the workspace's number and id. Its last line has the
status and the recorded row."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

CLOSED = (
    *("service.server", "service.console", "service.serving", "service.cli"),
    *("aiohttp", "click", "litestar", "pydantic", "pydantic_settings", "rich", "uvicorn"),
)


class _Closed:
    """Refuses imports of CLOSED."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in CLOSED or name.startswith(tuple(f"{closed}." for closed in CLOSED)):
            raise ImportError(f"{name} is above the engine")
        return None


async def main(workspace: int, workspace_id: UUID) -> None:
    import msgspec

    from service.engine.deciding.deciding import open_deciding
    from service.engine.domain.errors import Refusal
    from service.engine.hot.link import Link
    from service.engine.operations import redeem
    from service.engine.operations.base import Call
    from service.engine.operations.caller import SCOPES, Caller
    from service.engine.record import pool as postgres
    from service.engine.worker import process
    from service.engine.worker.engine_settings import EngineSettings
    from tests.harness.waiting import running, wait_until

    redis_url, database_url = os.environ["REDIS_URL"], os.environ["DATABASE_URL"]
    working = asyncio.create_task(process.work(EngineSettings(redis_url, database_url), process.Work()))
    pool = await postgres.connect_with_retries(database_url, name="scrip-api", max_size=2)
    caller = Caller(uuid4(), workspace, workspace_id, 0, "live", frozenset(SCOPES))
    request = msgspec.convert({"userId": "ann", "orderId": "A-1"}, redeem.REDEEM.request)
    command = redeem.REDEEM.prepare(Call(caller), "ALONE-1", request)
    async with open_deciding(redis_url, pool, None) as deciding, contextlib.AsyncExitStack() as following:
        for run in deciding.background.values():
            await following.enter_async_context(running(run()))

        async def decide() -> list[Any]:
            await deciding.poll(pool, time.monotonic(), Link.made)
            return await deciding.decider.run(0, command.script, command.keys, command.args)

        reply = await wait_until(decide, "an open partition", away=(Refusal,))
        recorded = "SELECT code, user_id, order_id FROM redemptions"
        row = await wait_until(lambda: pool.fetchrow(recorded), "the record")
    os.kill(os.getpid(), signal.SIGTERM)
    await working
    await pool.close()
    print(command.render(reply, "accepted").status, *row)


if __name__ == "__main__":
    sys.meta_path.insert(0, _Closed())
    asyncio.run(main(int(sys.argv[1]), UUID(sys.argv[2])))
