"""What codes cost in Redis, idle, locked and redeemed: bytes, and the server's CPU: `python -m loadtests.memory`."""

import argparse
import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from rich.progress import track

from loadtests.harness.servers import VALKEY
from service.access.caller import Caller
from service.domain.code_patterns import generate
from service.domain.configuration import BookRow, CodeRow, WorkspaceRow
from service.embedded.valkey import build_allocator_env
from service.hot.connection import Connection, connect
from service.hot.decider import Reply
from service.hot.projection import RedisProjector
from service.hot.redis_server import Server
from service.hot.scripts import HOT, PROJECTION, Scripts
from service.operations.base import Call, Command
from service.operations.lock import LockRequest, prepare_lock
from service.operations.redeem import RedeemRequest, prepare_redeem

PATTERN, CHARSET = "####-####-####", "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
CHUNK = 5_000
AT_ONCE = 500


async def used_bytes(server: Server) -> int:
    """The server's own count of its memory."""
    info = await server.command("INFO", "memory")
    return int(next(line.split(":")[1] for line in info.splitlines() if line.startswith("used_memory:")))


async def used_us(server: Server) -> float:
    """The server's own count of its CPU, in µs."""
    info = await server.info("cpu")
    return (float(info["used_cpu_user"]) + float(info["used_cpu_sys"])) * 1e6


class Cost(NamedTuple):
    """Of each: bytes that Redis holds more, and the server's CPU in µs."""

    bytes: float
    us: float

    def __str__(self) -> str:
        return f"{self.bytes:.1f} bytes more, {self.us:.1f} µs of the server"


class Filled:
    """A server with a book's codes, of which some are then locked, and the others redeemed."""

    def __init__(self, connection: Connection, count: int) -> None:
        self._server, self._count = Server(connection, 0), count
        self._scripts = Scripts(0, 1, "memory", [*HOT, *PROJECTION])
        self._caller = Caller(uuid4(), 1, uuid4(), 0, "live", frozenset(["checkout"]))
        self._codes: list[str] = []
        self._at = self._used = 0

    async def fill(self) -> None:
        """Project the codes, and print what an idle one costs."""
        server = self._server
        await server.fence(1)
        await server.move_gate("1 closed", "1 open")
        await server.load(self._scripts)
        projector = RedisProjector(self._run)
        await projector.workspace(_WORKSPACE)
        await projector.book(_BOOK)
        empty, began = await used_bytes(server), time.perf_counter()
        for start in track(range(0, self._count, CHUNK), description=f"{self._count:,} codes"):
            codes = list(generate(PATTERN, CHARSET, min(CHUNK, self._count - start)))
            await projector.codes(1, 0, 1, [_code(code) for code in codes])
            self._codes += codes
        took_s = time.perf_counter() - began
        self._used = await used_bytes(server)
        idle = (self._used - empty) / self._count
        print(f"{self._count:,} idle codes of {len(PATTERN)} characters: {idle:.1f} bytes each, ", end="")
        print(f"{self._count / took_s:,.0f} a second")

    async def spend(self, most: int) -> None:
        """Lock a twentieth of so many codes, redeem all others, a twentieth of them under keys; print what that costs.
        What is recorded is no more in the outbox. Each has an order and a user of its own."""
        few = most // 20
        print(f"a live lock: {await self._each(few, self._locked)}")
        redeemed = await self._each(most - 2 * few, self._redeemed)
        print(f"a recorded redemption, with its order and user: {redeemed}")
        with_key = await self._each(few, self._redeemed_under_key)
        print(f"an Idempotency-Key: {with_key.bytes - redeemed.bytes:.1f} bytes")

    async def _each(self, count: int, prepared: Callable[[str, int], Command]) -> Cost:
        """Run so many, each on a code that is idle yet."""
        server, end, began_us = self._server, self._at + count, await used_us(self._server)
        while self._at < end:
            some = range(self._at, min(self._at + AT_ONCE, end))
            commands = [prepared(self._codes[n], n) for n in some]
            await asyncio.gather(*(self._run(0, one.script, one.keys, one.args) for one in commands))
            self._at += len(some)
            if not self._at % CHUNK or self._at == end:
                await server.command("XTRIM", server.outbox, "MAXLEN", 1)
        before, self._used = self._used, await used_bytes(server)
        return Cost((self._used - before) / count, (await used_us(server) - began_us) / count)

    def _locked(self, code: str, n: int) -> Command:
        return prepare_lock(Call(self._caller), code, LockRequest(user_id=_user(n), order_id=_order(n)))

    def _redeemed(self, code: str, n: int, call: Call | None = None) -> Command:
        request = RedeemRequest(user_id=_user(n), order_id=_order(n), order_value=Decimal("59.90"))
        return prepare_redeem(call or Call(self._caller, ip="192.0.2.1", user_agent="memory"), code, request)

    def _redeemed_under_key(self, code: str, n: int) -> Command:
        return self._redeemed(code, n, Call(self._caller, str(uuid4()), "f" * 32))

    async def _run(self, _: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await self._server.run(self._scripts, script, names, args)


def _user(n: int) -> str:
    return f"user-{n:07}"


def _order(n: int) -> str:
    return f"A-{n:08}"


async def measure(server: Path | None, codes: int, spent: int) -> None:
    """A server of its own, the wheel's as `make run` starts it or another, for as long as it takes; so many of its
    codes are locked or redeemed."""
    env = os.environ | ({} if server else build_allocator_env())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [server or VALKEY, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=subprocess.DEVNULL)
        try:
            connection = await _connected(f"redis://127.0.0.1:{port}/0")
            filled = Filled(connection, codes)
            await filled.fill()
            await filled.spend(spent)
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
    options.add_argument("--spent", type=int, help="how many of them are locked or redeemed; all where not given")
    options.add_argument("--server", type=Path, help="the wheel's Valkey where not given")
    chosen = options.parse_args()
    asyncio.run(measure(chosen.server, chosen.codes, min(chosen.spent or chosen.codes, chosen.codes)))


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
