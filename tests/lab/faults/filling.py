"""Failures of what fills up: outboxes, disks, the storage of a workspace, and the connections of an API."""

import asyncio
import contextlib
import resource
from functools import partial
from pathlib import Path
from typing import Any

from service.engine.formats import key_names
from service.serving.connection_bound import RESERVED_FILES
from tests.harness.running import HOME
from tests.harness.servers import free_port
from tests.harness.waiting import cancel, elapse
from tests.harness.workspaces import make_workspace
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.server_faults import filled
from tests.lab.faults.watched import Undo, Watched

_REPEAT = """
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1000)) do
  local decided = string.match(entry[2][2], '^(R [^\\n]*)')
  if decided then
    for _ = 1, ARGV[2] do redis.call('XADD', KEYS[1], 'NOMKSTREAM', ARGV[1], 'e', decided .. '\\n{}') end
    return ARGV[2]
  end
end
"""
"""Append an outbox's last redemption again, so many times: to Postgres each is another use of its code."""
_AT_ONCE = 10_000


async def fill_outbox(deployment: Watched) -> Undo:
    """A transaction locks a table, so that nothing is recorded, while 420,000 redemptions come."""
    unlock = await deployment.lock_table("redemptions")
    await _redeem(deployment, 420_000)
    return unlock


async def fill_outbox_of_standby(deployment: Watched) -> Undo:
    """The standby no longer reaches Postgres, and 510,000 redemptions come, which are recorded."""
    deployment.database.link.stop()
    for _ in range(51):
        await _redeem(deployment, _AT_ONCE)
        await wait_until(partial(_is_recorded, deployment), "the recording")
    return deployment.database.link.start


async def _redeem(deployment: Watched, many: int) -> None:
    following, outbox = f"{(await deployment.row()).epoch}-*", key_names.outbox(HOME)
    for _ in range(many // _AT_ONCE):
        again = partial(deployment.primary.client.eval, _REPEAT, 1, outbox, following, _AT_ONCE)
        await wait_until(again, "a redemption in the outbox")


async def _is_recorded(deployment: Watched) -> bool:
    """The recording has nearly caught up."""
    info: Any = await deployment.primary.client.xinfo_stream(key_names.outbox(HOME))
    last = str(info["last-generated-id"])
    return int(last.partition("-")[2]) - (await deployment.row()).cursor.seq < _AT_ONCE


async def fill_disk(deployment: Watched) -> Undo:
    """A disk that node_exporter shows has less than a tenth left."""
    image, folder, port = deployment.folder / "image", deployment.folder / "disk", free_port()
    folder.mkdir()
    await _run("truncate", "--size=64M", image)
    await _run("mkfs.ext4", "-q", image)
    await _run("mount", "-o", "loop", image, folder)
    options = (
        f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults", "--collector.filesystem",
        "--collector.filesystem.mount-points-exclude=^/proc",
    )  # fmt: skip
    exporter = await asyncio.create_subprocess_exec("prometheus-node-exporter", *options)
    deployment.ending.push_async_callback(_run, "umount", folder)
    deployment.ending.push_async_callback(exporter.wait)
    deployment.ending.callback(exporter.terminate)
    deployment.add_target(exporter, "node", port)
    filling = contextlib.ExitStack()
    filling.enter_context(filled(folder))

    async def empty() -> None:
        filling.close()

    return empty


async def _run(*command: str | Path) -> None:
    running = await asyncio.create_subprocess_exec(*command)
    assert await running.wait() == 0, command


async def fill_storage(deployment: Watched) -> Undo:
    """A workspace has codes for 86 % of its bound."""
    async with deployment.pool.acquire() as connection:
        await make_workspace(connection, "full", "live")
    await deployment.command("workspaces", "storage", "full", "1")
    body = {"name": "Full", "totalCodes": 22_500, "codePattern": "FULL-########"}
    await deployment.make("/v1/books", body, "full_admin")
    return partial(deployment.command, "workspaces", "storage", "full", "4096")


async def fill_connections(deployment: Watched) -> Undo:
    """An API that may have 40 connections has them, and clients try for more."""
    bounds = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (RESERVED_FILES + 40, bounds[1]))
    api, url = deployment.make_api()
    resource.setrlimit(resource.RLIMIT_NOFILE, bounds)
    port = int(url.rpartition(":")[2])

    async def connect() -> None:
        while True:
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
            await elapse(5, "connections stay open")
            for _, writer in opened:
                writer.close()

    async def answers() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True

    await wait_until(answers, "an API")
    connecting = asyncio.create_task(connect())

    async def end() -> None:
        await cancel(connecting)
        await deployment.forget(api)

    return end
