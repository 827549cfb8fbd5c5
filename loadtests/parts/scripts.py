"""What a call of each hot script costs the server in CPU.

It starts the embedded Valkey twice, with the append-only file and without, and runs each script many times on both in
turn, in pipelines, with the operations' own keys and arguments. Of several rounds the cheapest counts: what else the
machine does only adds. With --count it prints instructions, counted by callgrind, in their place: those repeat within a
few in a thousand and so tell a small gain from noise, but leave out what the kernel does."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import uuid4

from loadtests.callgrind import require_callgrind
from loadtests.figures import markdown, say
from loadtests.hot import Hot, metered_valkey
from service.formats.events import parse_record
from service.formats.redemption_id import id_from_event
from service.hot.scripts import HOT, Scripts
from service.operations import assign, lock, redeem, rollback
from service.operations.base import Call, Command
from service.operations.call_headers import fingerprint
from tests.harness.premises import EPOCH
from tests.harness.shop import Shop

PIPELINE = 64
CALLS, COUNTED_CALLS, ROUNDS = 50_000, 512, 3
DISCOUNT = {"type": "percentage", "value_e4": 100_000}
NOTHING = "return { 0 }"
"""A script's price before it does anything: the request, its keys and arguments, and a reply."""

_DIGESTS = Scripts(0, EPOCH, "nonce", HOT).digests


class Cost(NamedTuple):
    """Of one call: CPU in µs as the server's user and in the kernel, or instructions and 0; commands that it ran."""

    user: float
    kernel: float
    commands: float

    @property
    def both(self) -> float:
        """User and kernel."""
        return self.user + self.kernel


@dataclass
class Bench:
    """A server, and the cheapest that each script was on it."""

    name: str
    hot: Hot
    read: Callable[[], Awaitable[tuple[float, float]]]
    """What it spent so far."""
    best: dict[str, Cost] = field(default_factory=dict)

    async def time(self, label: str, runs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run all, a pipeline of them at a time, and keep what a call cost; the replies, which are successes."""
        ran, before = await self._commands(), await self.read()
        replies: list[Any] = []
        for start in range(0, len(runs), PIPELINE):
            asked = [self.hot.connection.call(*run) for run in runs[start : start + PIPELINE]]
            replies += await asyncio.gather(*asked)
        after, calls = await self.read(), len(runs)
        others = [reply for reply in replies if not isinstance(reply, list) or reply[0] != 0]
        if others:
            raise RuntimeError(f"{label}: {len(others)} of {calls} replies are no successes: {others[0]!r}")
        user, kernel = ((later - earlier) / calls for later, earlier in zip(after, before, strict=True))
        cost = Cost(user, kernel, (await self._commands() - ran) / calls)
        self.best[label] = min(cost, self.best.get(label, cost), key=lambda known: known.both)
        return replies

    async def _commands(self) -> int:
        """How many scripts have run; nothing but this counting is asked beside them."""
        stats = await self.hot.server.info("commandstats")
        own = ("cmdstat_evalsha", "cmdstat_info")
        return sum(int(text.split(",")[0].removeprefix("calls=")) for name, text in stats.items() if name not in own)


@dataclass
class Round:
    """A shop with fresh coupons and the requests of a round: each part's are made before it is timed."""

    bench: Bench
    shop: Shop
    calls: int
    orders: list[str] = field(default_factory=list)

    def _run(self, command: Command) -> tuple[Any, ...]:
        return "EVALSHA", _DIGESTS[command.script], len(command.keys), *command.keys, *command.args, EPOCH

    def _call(self, keyed: bool = False) -> Call:
        key = str(uuid4()) if keyed else ""
        print_of = fingerprint(b"POST", b"/", b"", key.encode()) if keyed else "-"
        return Call(self.shop.caller, key, print_of, "192.0.2.1", "shopper/1.0")

    async def _time(self, label: str, commands: Iterable[Command]) -> list[Any]:
        return await self.bench.time(label, [self._run(command) for command in commands])

    async def _locks(self, codes: list[str]) -> list[str]:
        """Lock them; the tokens."""
        each = enumerate(codes)
        commands = [
            lock.LOCK.prepare(self._call(), code, lock.LockRequest(f"user-{n}", self.orders[n])) for n, code in each
        ]
        await self._time("lock", commands)
        return [command.args[6] for command in commands]

    async def go(self) -> None:
        """All parts, in the order of a coupon's life."""
        numbers = range(self.calls)
        self.orders = [str(uuid4()) for _ in numbers]
        codes, others = ([f"{first}{n:05d}-SHOP-2345" for n in numbers] for first in "AB")
        await self.shop.book(*codes, discount=DISCOUNT)
        await self.shop.book(*others)
        gifts = await self.shop.book(*(f"C{n:05d}-SHOP-2345" for n in range(self.calls + self.calls // 10)))
        await self._nothing(codes)

        call, tokens = self._call, await self._locks(codes)
        orders = [self._order(n) for n in numbers]
        each = list(zip(codes, tokens, orders, strict=True))
        prepare_extend, prepare_validate, prepare_redeem = (
            lock.EXTEND.prepare,
            redeem.VALIDATE.prepare,
            redeem.REDEEM.prepare,
        )
        await self._time(
            "extend", (prepare_extend(call(), code, lock.ExtendRequest(token, 600)) for code, token, _ in each)
        )
        asked = (prepare_validate(call(), None, redeem.ValidateRequest(code=code, **order)) for code, _, order in each)
        await self._time("validate", asked)
        asked = (
            prepare_redeem(call(True), code, redeem.RedeemRequest(**order, lock_token=at)) for code, at, order in each
        )
        ids = [_redemption_id(reply) for reply in await self._time("redeem, full", asked)]
        request = rollback.RollbackRequest()
        await self._time("rollback", (rollback.ROLLBACK.prepare(call(), one, request) for one in ids))
        held = zip(others, await self._locks(others), strict=True)
        await self._time("unlock", (lock.UNLOCK.prepare(call(), code, lock.UnlockRequest(at)) for code, at in held))
        asked = (
            prepare_redeem(call(), code, redeem.RedeemRequest(user_id=f"user-{n}")) for n, code in enumerate(others)
        )
        await self._time("redeem, plain", asked)
        book = str(gifts.book_id)
        asked = (assign.ASSIGN_ANY.prepare(call(), None, assign.AssignAny(book, f"user-{n}")) for n in numbers)
        await self._time("assign_any", asked)

    def _order(self, number: int) -> dict[str, Any]:
        return {"user_id": f"user-{number}", "order_id": self.orders[number], "order_value": Decimal("59.90")}

    async def _nothing(self, codes: list[str]) -> None:
        digest = await self.bench.hot.server.command("SCRIPT", "LOAD", NOTHING)
        asked = lock.LockRequest("user-1", self.orders[0])
        runs = [self._run(lock.LOCK.prepare(self._call(), code, asked)) for code in codes]
        await self.bench.time("(nothing)", [(run[0], digest, *run[2:]) for run in runs])


def _redemption_id(reply: list[str]) -> str:
    record = parse_record(reply[1])
    return id_from_event(record.event, record.at_ms)


async def measure(calls: int, rounds: int, counted: bool) -> list[Bench]:
    """The servers in turn, round by round."""
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for logged in (False,) if counted else (False, True):
            hot, read = await stack.enter_async_context(metered_valkey(counted, logged=logged))
            await hot.server.rewrite_file()
            benches.append(Bench("with the file" if logged else "without", hot, read))
        for number in range(rounds):
            for each in benches:
                say(f"round {number + 1} {each.name}")
                await Round(each, await each.hot.shop(), calls).go()
    return benches


def format_costs(benches: list[Bench], unit: str) -> str:
    """The table."""
    heads = [f"{unit} a call", "commands"]
    heads += [f"{each.name}: {what}" for each in benches for what in ("user", "kernel", "both")]
    lines: list[list[str]] = []
    for label in benches[0].best:
        costs = [each.best[label] for each in benches]
        figures = [f"{figure:,.1f}" for cost in costs for figure in (cost.user, cost.kernel, cost.both)]
        lines.append([label, f"{costs[0].commands:.1f}", *figures])
    means = [(each.best["lock"].both + each.best["redeem, full"].both) / 2 for each in benches]
    lines.append(["lock and redeem, full", "", *(cell for mean in means for cell in ("", "", f"{mean:,.1f}"))])
    return markdown(heads, lines)


def add_options(options: argparse.ArgumentParser) -> None:
    """How much, and in what."""
    options.add_argument("--count", action="store_true", help="instructions, by valgrind's callgrind")
    options.add_argument("--calls", type=int, help=f"of each script ({CALLS:,}; {COUNTED_CALLS} with --count)")
    options.add_argument("--rounds", type=int, help=f"({ROUNDS}; 1 with --count)")


def run(chosen: argparse.Namespace) -> int:
    """Print the table."""
    if chosen.count:
        require_callgrind()
    calls = chosen.calls or (COUNTED_CALLS if chosen.count else CALLS)
    benches = asyncio.run(measure(calls, chosen.rounds or (1 if chosen.count else ROUNDS), chosen.count))
    print(format_costs(benches, "instructions" if chosen.count else "µs"))
    return 0
