"""What codes cost in Redis, idle, locked and redeemed: bytes, and the server's CPU."""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from loadtests.figures import markdown, say
from loadtests.hot import Hot
from service.engine.formats.key_names import outbox
from service.engine.hot.connection import connect
from service.engine.operations.base import Call, Command
from service.engine.operations.lock import LockRequest, prepare_lock
from service.engine.operations.redeem import RedeemRequest, prepare_redeem
from service.server.embedded.valkey import build_allocator_env
from service.server.requests.code_patterns import generate_codes
from tests.harness.servers import VALKEY, started
from tests.harness.shop import Shop

PATTERN, CHARSET = "####-####-####", "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
CHUNK = 5_000
AT_ONCE = 500


class Cost(NamedTuple):
    """Of each of so many: bytes that Redis holds more, the server's CPU in µs, and how many came in a second."""

    name: str
    many: int
    bytes: float
    us: float
    a_second: float

    def cells(self) -> list[str]:
        return [self.name, f"{self.many:,}", f"{self.bytes:.1f}", f"{self.us:.1f}", f"{self.a_second:,.0f}"]


class Filled:
    """A server with a book's codes, of which some are then locked, and the others redeemed."""

    def __init__(self, hot: Hot) -> None:
        self._hot = hot
        self._codes: list[str] = []
        self._at = 0

    async def fill(self, count: int) -> Cost:
        self._shop = await self._hot.shop(Shop)
        self._caller = self._shop.caller
        book = await self._shop.book()
        self._used = await self._hot.used_bytes()
        before = self._used, await self._hot.cpu_us(), time.perf_counter()
        for start in range(0, count, CHUNK):
            codes = list(generate_codes(PATTERN, CHARSET, min(CHUNK, count - start)))
            await self._shop.add(book, *codes)
            self._codes += codes
        return await self._cost(f"idle code of {len(PATTERN)} characters", count, before)

    async def spend(self, most: int) -> list[Cost]:
        """Lock a twentieth of so many codes, redeem all others, a twentieth of them under keys. What is recorded is no
        more in the outbox. Each has an order and a user of its own."""
        few = most // 20
        locked = await self._each("live lock", few, self._locked)
        redeemed = await self._each("recorded redemption, its order and user", most - 2 * few, self._redeemed)
        keyed = await self._each("Idempotency-Key", few, self._redeemed_under_key)
        return [locked, redeemed, keyed._replace(bytes=keyed.bytes - redeemed.bytes, us=keyed.us - redeemed.us)]

    async def _each(self, name: str, count: int, prepared: Callable[[str, int], Command]) -> Cost:
        """Run so many, each on a code that is idle yet."""
        before, end = (self._used, await self._hot.cpu_us(), time.perf_counter()), self._at + count
        while self._at < end:
            some = range(self._at, min(self._at + AT_ONCE, end))
            commands = [prepared(self._codes[n], n) for n in some]
            await asyncio.gather(*(self._shop.decider.run(0, one.script, one.keys, one.args) for one in commands))
            self._at += len(some)
            if not self._at % CHUNK or self._at == end:
                await self._hot.server.command("XTRIM", outbox(0), "MAXLEN", 1)
        return await self._cost(name, count, before)

    async def _cost(self, name: str, many: int, before: tuple[int, float, float]) -> Cost:
        used, cpu_us, began = before
        took_s, spent_us = time.perf_counter() - began, await self._hot.cpu_us() - cpu_us
        self._used = await self._hot.used_bytes()
        say(f"{many:,}, each a {name}: {took_s:.1f} s")
        return Cost(name, many, (self._used - used) / many, spent_us / many, many / took_s)

    def _locked(self, code: str, n: int) -> Command:
        return prepare_lock(Call(self._caller), code, LockRequest(user_id=_user(n), order_id=_order(n)))

    def _redeemed(self, code: str, n: int, call: Call | None = None) -> Command:
        request = RedeemRequest(user_id=_user(n), order_id=_order(n), order_value=Decimal("59.90"))
        return prepare_redeem(call or Call(self._caller, ip="192.0.2.1", user_agent="memory"), code, request)

    def _redeemed_under_key(self, code: str, n: int) -> Command:
        return self._redeemed(code, n, Call(self._caller, str(uuid4()), "f" * 32))


def _user(n: int) -> str:
    return f"user-{n:07}"


def _order(n: int) -> str:
    return f"A-{n:08}"


async def measure(url: str, codes: int, spent: int) -> list[Cost]:
    """On an empty server; so many of its codes are locked or redeemed."""
    hot = Hot(await connect(url, "memory"))
    filled = Filled(hot)
    costs = [await filled.fill(codes), *await filled.spend(spent)]
    hot.connection.close()
    return costs


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--spent", type=int, help="how many of them are locked or redeemed; all where not given")
    options.add_argument("--server", type=Path, help="the wheel's Valkey where not given")


def run(chosen: argparse.Namespace) -> None:
    """Print the table, of a server as `make run` starts it, or of another."""
    if not chosen.server:
        os.environ |= build_allocator_env()
    options = ("--hash-max-listpack-value", "256")  # as of the shop's nonce
    with tempfile.TemporaryDirectory() as folder, started(chosen.server or VALKEY, Path(folder), *options) as url:
        costs = asyncio.run(measure(url, chosen.codes, min(chosen.spent or chosen.codes, chosen.codes)))
    print(markdown(["each", "of", "bytes more", "µs of the server", "a second"], [cost.cells() for cost in costs]))
