"""What a call of each hot script costs the server in CPU: `python -m loadtests.scripts`.

It starts the embedded Valkey twice, with the append-only file and without, and runs each script many times on both in
turn, in pipelines, with the operations' own keys and arguments. Of several rounds the cheapest counts: what else the
machine does only adds. With --count it prints instructions, counted by callgrind, in their place: those repeat within a
few in a thousand and so tell a small gain from noise, but leave out what the kernel does."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from loadtests.harness.premises import EPOCH
from loadtests.harness.shop import Shop
from service.embedded.valkey import Valkey
from service.formats.events import shown_redemption_id
from service.formats.redemption_record import parse_record
from service.hot.connection import Connection, connect
from service.hot.redis_server import Server
from service.hot.scripts import HOT, Scripts
from service.operations import assign, lock, redeem, rollback
from service.operations.base import Call, Command
from service.operations.call_headers import fingerprint

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
class Wire:
    """One connection, as a shop calls it; nothing else is asked on it meanwhile."""

    connection: Connection
    fsynced: bool = False
    history: str = ""
    generation: int = 0

    async def call(self, *command: Any) -> Any:
        """A reply."""
        return await self.connection.call(*command)


class Clock:
    """The server's CPU time in µs, by its own account."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def read(self) -> tuple[float, float]:
        """User and kernel since it began."""
        info = await self._server.info("cpu")
        return float(info["used_cpu_user"]) * 1e6, float(info["used_cpu_sys"]) * 1e6


class Counter:
    """Instructions of a server that runs under callgrind with `--callgrind-out-file=<out>`."""

    def __init__(self, pid: int, out: Path) -> None:
        self._pid, self._out, self._sum, self._dumps = pid, out, 0.0, 0

    async def read(self) -> tuple[float, float]:
        """Instructions since it began, and 0."""
        asked = await asyncio.create_subprocess_exec(
            "callgrind_control", "--dump", str(self._pid), stdout=DEVNULL, stderr=DEVNULL
        )
        await asyncio.wait_for(asked.wait(), 60)
        self._dumps += 1
        self._sum += _total(Path(f"{self._out}.{self._dumps}"))
        return self._sum, 0.0


def _total(dump: Path) -> int:
    return int(dump.read_text().rpartition("totals: ")[2].split()[0])


@dataclass
class Bench:
    """A server, and the cheapest that each script was on it."""

    name: str
    connection: Connection
    server: Server
    meter: Clock | Counter
    best: dict[str, Cost] = field(default_factory=dict)

    async def shop(self) -> Shop:
        """A new shop, on an empty server."""
        await self.server.command("FLUSHALL")
        return await Shop(Wire(self.connection)).open()

    async def time(self, label: str, runs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run all, a pipeline of them at a time, and keep what a call cost; the replies."""
        ran, before = await self._commands(), await self.meter.read()
        replies: list[Any] = []
        for start in range(0, len(runs), PIPELINE):
            asked = [self.connection.call(*run) for run in runs[start : start + PIPELINE]]
            replies += await asyncio.gather(*asked)
        after, calls = await self.meter.read(), len(runs)
        refused = [reply for reply in replies if not isinstance(reply, list) or reply[0] != 0]
        if refused:
            raise RuntimeError(f"{label}: {len(refused)} of {calls} were not carried out: {refused[0]!r}")
        user, kernel = ((later - earlier) / calls for later, earlier in zip(after, before, strict=True))
        cost = Cost(user, kernel, (await self._commands() - ran) / calls)
        self.best[label] = min(cost, self.best.get(label, cost), key=lambda known: known.both)
        return replies

    async def _commands(self) -> int:
        """How many scripts have run; nothing but this counting is asked beside them."""
        told = await self.server.info("commandstats")
        own = ("cmdstat_evalsha", "cmdstat_info")
        return sum(int(text.split(",")[0].removeprefix("calls=")) for name, text in told.items() if name not in own)


@dataclass
class Round:
    """A shop with fresh coupons and the requests of a round: each part's are made before it is timed."""

    bench: Bench
    shop: Shop
    calls: int
    orders: list[str] = field(default_factory=list)

    def _run(self, command: Command) -> tuple[Any, ...]:
        return "EVALSHA", _DIGESTS[command.script], len(command.keys), *command.keys, *command.args

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

        tokens = await self._locks(codes)
        mine = list(zip(codes, tokens, strict=True))
        await self._time(
            "extend",
            (lock.EXTEND.prepare(self._call(), code, lock.ExtendRequest(token, 600)) for code, token in mine),
        )
        await self._time(
            "validate",
            (
                redeem.VALIDATE.prepare(self._call(), None, redeem.ValidateRequest(code, **self._order(n)))
                for n, code in enumerate(codes)
            ),
        )
        full = [
            redeem.REDEEM.prepare(self._call(True), code, redeem.RedeemRequest(**self._order(n), lock_token=tokens[n]))
            for n, code in enumerate(codes)
        ]
        redeemed = [_redemption_id(reply) for reply in await self._time("redeem, full", full)]
        request = rollback.RollbackRequest()
        await self._time("rollback", (rollback.ROLLBACK.prepare(self._call(), each, request) for each in redeemed))
        tokens = await self._locks(others)
        await self._time(
            "unlock",
            (
                lock.UNLOCK.prepare(self._call(), code, lock.UnlockRequest(token))
                for code, token in zip(others, tokens, strict=True)
            ),
        )
        await self._time(
            "redeem, plain",
            (
                redeem.REDEEM.prepare(self._call(), code, redeem.RedeemRequest(f"user-{n}"))
                for n, code in enumerate(others)
            ),
        )
        await self._time(
            "assign_any",
            (
                assign.ASSIGN_ANY.prepare(self._call(), None, assign.AssignAny(str(gifts.book_id), f"user-{n}"))
                for n in numbers
            ),
        )

    def _order(self, number: int) -> dict[str, Any]:
        return {"user_id": f"user-{number}", "order_id": self.orders[number], "order_value": Decimal("59.90")}

    async def _nothing(self, codes: list[str]) -> None:
        digest = await self.bench.server.command("SCRIPT", "LOAD", NOTHING)
        asked = lock.LockRequest("user-1", self.orders[0])
        runs = [self._run(lock.LOCK.prepare(self._call(), code, asked)) for code in codes]
        await self.bench.time("(nothing)", [(run[0], digest, *run[2:]) for run in runs])


def _redemption_id(reply: list[str]) -> str:
    record = parse_record(reply[1])
    return shown_redemption_id(record.name, record.at_ms)


@asynccontextmanager
async def bench(folder: Path, logged: bool, counted: bool) -> AsyncIterator[Bench]:
    """The embedded server on a folder, for as long as it takes; under callgrind where instructions are counted."""
    valkey, out = Valkey(folder), folder / "callgrind"
    if counted:
        valkey.part.argv[:0] = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    await valkey.start()
    try:
        connection = await connect(valkey.url, "scripts")
        server = Server(connection, 0)
        await server.command("CONFIG", "SET", "hz", 1, "appendonly", "yes" if logged else "no")
        await server.rewrite_file()
        meter = Counter(valkey.part.pid or 0, out) if counted else Clock(server)
        yield Bench("with the file" if logged else "without", connection, server, meter)
        connection.close()
    finally:
        await valkey.stop()


async def measure(calls: int, rounds: int, counted: bool) -> None:
    """The servers in turn, round by round, and the table."""
    async with AsyncExitStack() as stack:
        benches: list[Bench] = []
        for logged in (False,) if counted else (False, True):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            benches.append(await stack.enter_async_context(bench(folder, logged, counted)))
        for number in range(rounds):
            for each in benches:
                print(f"round {number + 1} {each.name}", file=sys.stderr)
                await Round(each, await each.shop(), calls).go()
        _print(benches, "instructions" if counted else "µs")


def _print(benches: list[Bench], unit: str) -> None:
    heads = "".join(f"{f'{each.name}: user':>23}{'kernel':>10}{'both':>10}" for each in benches)
    print(f"{f'{unit} a call':<22}{'commands':>9}{heads}")
    for label in benches[0].best:
        costs = [each.best[label] for each in benches]
        figures = "".join(f"{cost.user:>23,.1f}{cost.kernel:>10,.1f}{cost.both:>10,.1f}" for cost in costs)
        print(f"{label:<22}{costs[0].commands:>9.1f}{figures}")
    means = [(each.best["lock"].both + each.best["redeem, full"].both) / 2 for each in benches]
    print(f"{'lock and redeem, full':<31}" + "".join(f"{mean:>43,.1f}" for mean in means))


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", action="store_true", help="instructions, by valgrind's callgrind")
    options.add_argument("--calls", type=int, help=f"of each script ({CALLS:,}; {COUNTED_CALLS} with --count)")
    options.add_argument("--rounds", type=int, help=f"({ROUNDS}; 1 with --count)")
    chosen = options.parse_args()
    if chosen.count and not shutil.which("callgrind_control"):
        options.error("--count needs valgrind.")
    calls = chosen.calls or (COUNTED_CALLS if chosen.count else CALLS)
    asyncio.run(measure(calls, chosen.rounds or (1 if chosen.count else ROUNDS), chosen.count))


if __name__ == "__main__":
    main()
