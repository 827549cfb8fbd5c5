"""The HTTP server of an API process."""

import asyncio
import signal

from service.common.config import Settings
from service.serving.server import Server, make_server_config
from tests.waiting import PATIENCE_S, elapse


async def test_a_signal_ends_a_start_that_waits() -> None:
    """SIGTERM ends a server whose application waits for Postgres; the server has not started."""
    nowhere = Settings(redis_url="redis://127.0.0.1:1/0", database_url="postgresql://user@127.0.0.1:1/scrip")
    server = Server(make_server_config(nowhere, port=0))
    before = asyncio.all_tasks()
    serving = asyncio.create_task(server._serve())
    await elapse(0.1, "the application waits for Postgres now, or will")
    server.handle_exit(signal.SIGTERM, None)

    async with asyncio.timeout(PATIENCE_S):
        await serving
    assert not server.started
    for task in asyncio.all_tasks() - before:
        task.cancel()
