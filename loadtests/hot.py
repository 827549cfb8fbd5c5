"""A Redis alone with a shop, for what is measured without an API; and the server's own account of itself."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from loadtests.callgrind import InstructionCounter, under_callgrind
from service.engine.hot.connection import Connection, connect
from service.engine.hot.link import LinkToAll
from service.engine.hot.redis_server import Server
from service.server.embedded.valkey import Valkey
from tests.harness.shop import Shop

S = TypeVar("S", bound=Shop)
NONCE = "256xnonce"
"""Of a shop's scripts; the embedded server has this `hash-max-listpack-value`."""


class _ConnectionLink(LinkToAll):
    """One connection, as a shop calls it; no other command goes out on it."""

    history = ""
    generation = 0

    def __init__(self, connection: Connection) -> None:
        self.connection, self.call, self.send = connection, connection.call, connection.send


class Hot:
    """A running server, and connections to it."""

    def __init__(self, connection: Connection, pid: int = 0) -> None:
        self.connection, self.pid = connection, pid
        self.server = Server(connection, 0)

    async def shop(self, kind: type[S]) -> S:
        """A new shop of this kind, on an empty server."""
        await self.server.command("FLUSHALL")
        shop = kind(_ConnectionLink(self.connection))
        shop.nonce = NONCE
        return await shop.open()

    async def used_bytes(self) -> int:
        """The server's memory."""
        return int((await self.server.info("memory"))["used_memory"])

    async def cpu_us(self) -> float:
        """The server's CPU since it began, user and kernel."""
        info = await self.server.info("cpu")
        return (float(info["used_cpu_user"]) + float(info["used_cpu_sys"])) * 1e6


@asynccontextmanager
async def own_valkey(folder: Path, *, under: tuple[str, ...] = ()) -> AsyncIterator[Hot]:
    """The embedded server on a folder, without the append-only file, for the block; as a child of a named program."""
    valkey = Valkey(folder)
    valkey.child.argv[:0] = under
    await valkey.start()
    try:
        hot = Hot(await connect(valkey.url, "bench"), valkey.child.pid or 0)
        await hot.server.command("CONFIG", "SET", "appendonly", "no")
        yield hot
        hot.connection.close()
    finally:
        await valkey.stop()


@asynccontextmanager
async def metered_valkey(counted: bool) -> AsyncIterator[tuple[Hot, Callable[[], Awaitable[float]]]]:
    """An idle embedded server, and a function that reads what it has spent: CPU in µs or, `counted`, instructions."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind"
        async with own_valkey(Path(folder), under=under_callgrind(out) if counted else ()) as hot:
            await hot.server.command("CONFIG", "SET", "hz", 1)
            yield hot, InstructionCounter(hot.pid, out).read if counted else hot.cpu_us
