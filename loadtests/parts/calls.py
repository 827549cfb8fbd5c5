"""What a request costs Redis alone and in a call of many: refusals of what is sold out, and sales beside them.

Calls are those that an API process makes of a turn's requests (service/hot/turns.py), of 16 and of 64. Refused
requests come to a process that knows that nothing is left. As `scripts` does, it counts instructions with --count, and
takes the cheapest of several rounds without."""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

from loadtests.callgrind import require_callgrind
from loadtests.figures import markdown, say
from loadtests.hot import Hot, metered_valkey
from service.domain.outcomes import BY_CODE
from service.formats.script_replies import expand_reply
from service.hot.scripts import SERVING, Scripts
from service.hot.sold_out import SoldOut
from service.hot.turns import Turn
from service.operations import assign, lock, redeem
from service.operations.base import Call, Command
from service.operations.call_headers import fingerprint
from tests.harness.premises import EPOCH, CallingLink
from tests.harness.shop import Shop

SIZES = (1, 16, 64)
REQUESTS, COUNTED_REQUESTS, ROUNDS = 25_600, 512, 3
CODE, SOLD = "D00000-SHOP-2345", 2
FULL = {"discount": {"type": "percentage", "value_e4": 100_000}, "max_redemptions_per_user": 1}
OUT_OF_STOCK, EXHAUSTED = ([BY_CODE[code].number] for code in ("out_of_stock", "coupon_exhausted"))

_DIGESTS = Scripts(0, EPOCH, "nonce", SERVING).digests


class _Collected(CallingLink):
    """A link that collects the commands of a turn."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []

    def send(self, on_reply: Callable[[Any], None], command: tuple[Any, ...], requests: int = 1) -> None:
        self.commands.append(command)


def join(commands: Sequence[Command], size: int, sold_out: SoldOut) -> list[tuple[Any, ...]]:
    """The commands that a process sends for these requests, so many in a turn."""
    link = _Collected()
    for start in range(0, len(commands), size):
        turn = Turn(link, EPOCH, _DIGESTS, sold_out)  # type: ignore[arg-type]
        for command in commands[start : start + size]:
            turn.add(print, command.script, command.keys, command.args)
        turn.send()
    return link.commands


class Round:
    """A shop, and what each kind of request costs in it."""

    def __init__(self, hot: Hot, shop: Shop, read: Callable[[], Any], requests: int) -> None:
        self._hot, self._shop, self._read, self._requests = hot, shop, read, requests
        self.costs: dict[tuple[str, int], float] = {}

    async def go(self) -> None:
        """Sales of each size with coupons of their own, then refusals."""
        for size in SIZES:
            for name, rules in (("simple", {}), ("full", FULL)):
                codes = [f"{name[0]}{size:02d}{n:05d}-SHOP-2345".upper() for n in range(self._requests)]
                await self._shop.book(*codes, **rules)
                orders = [str(uuid4()) for _ in codes]
                is_full = name == "full"
                locks = [
                    lock.LOCK.prepare(self._call(is_full), code, lock.LockRequest(f"user-{n}", orders[n]))
                    for n, code in enumerate(codes)
                ]
                await self._measure(f"lock, {name}", size, locks)
                sales = [self._sell(is_full, code, n, orders[n], locks[n].args[6]) for n, code in enumerate(codes)]
                await self._measure(f"redeem, {name}", size, sales)
        await self._several()
        await self._refusals()

    async def _several(self) -> None:
        """Sales of a code with many uses."""
        await self._shop.book("E00000-SHOP-2345", max_redemptions_per_code=10**6)
        for size in SIZES:
            sales = [self._redeem(f"several-{size}-{n}", False, "E00000-SHOP-2345") for n in range(self._requests)]
            await self._measure("redeem, one of many uses", size, sales)

    async def _refusals(self) -> None:
        await self._shop.book(CODE, max_redemptions_per_code=SOLD)
        for n in range(SOLD):
            await self._ask([self._redeem(f"first-{n}", False)], 1, SoldOut())
        book = str((await self._shop.book(max_codes_per_user=1)).book_id)
        users = [f"late-{n}" for n in range(self._requests)]
        for keyed in (False, True):
            key = "with a key" if keyed else "without a key"
            kinds: list[tuple[str, list[Command], Sequence[int | None]]] = [
                (f"assign, {key}", [self._assign(book, user, keyed) for user in users], OUT_OF_STOCK),
                (f"redeem, {key}", [self._redeem(user, keyed) for user in users], EXHAUSTED),
                (f"redeem, {key} and order", [self._redeem(user, keyed, order=user) for user in users], EXHAUSTED),
                (f"lock, {key}", [self._lock(user, keyed) for user in users], EXHAUSTED),
            ]
            for name, commands, outcome in kinds:
                for size in SIZES:
                    await self._measure(f"refused {name}", size, commands, outcome)

    def _call(self, keyed: bool) -> Call:
        key = str(uuid4()) if keyed else ""
        print_of = fingerprint(b"POST", b"/", b"", key.encode()) if keyed else "-"
        return Call(self._shop.caller, key, print_of, "192.0.2.1", "shopper/1.0")

    def _assign(self, book: str, user: str, keyed: bool) -> Command:
        return assign.ASSIGN_ANY.prepare(self._call(keyed), None, assign.AssignAny(book, user))

    def _sell(self, is_full: bool, code: str, n: int, order: str, token: str) -> Command:
        value = Decimal("59.90") if is_full else None
        asked = redeem.RedeemRequest(user_id=f"user-{n}", order_id=order, lock_token=token, order_value=value)
        return redeem.REDEEM.prepare(self._call(is_full), code, asked)

    def _redeem(self, user: str, keyed: bool, code: str = CODE, order: str | None = None) -> Command:
        return redeem.REDEEM.prepare(self._call(keyed), code, redeem.RedeemRequest(user_id=user, order_id=order))

    def _lock(self, user: str, keyed: bool) -> Command:
        return lock.LOCK.prepare(self._call(keyed), CODE, lock.LockRequest(user))

    async def _measure(
        self, name: str, size: int, commands: list[Command], outcome: Sequence[int | None] = (0,)
    ) -> None:
        sold_out, one = SoldOut(), commands[0]
        sold_out.learn(one.script, one.keys, one.args, list(outcome))
        before = sum(await self._read())
        replies = await self._ask(commands, size, sold_out)
        cost = (sum(await self._read()) - before) / len(commands)
        if wrong := [reply for reply in replies if not _has_outcome(reply, outcome)]:
            raise RuntimeError(f"{name}: {len(wrong)} of {len(commands)} replies have another outcome: {wrong[0]!r}")
        self.costs[name, size] = cost

    async def _ask(self, commands: list[Command], size: int, sold_out: SoldOut) -> list[Any]:
        joined = join(commands, size, sold_out)
        replies = [await self._hot.connection.call(*command) for command in joined]
        if size == 1:
            return replies
        return [one for reply in replies for one in reply]


def _has_outcome(reply: Any, outcomes: Sequence[int | None]) -> bool:
    if isinstance(reply, str | int):
        reply = expand_reply(reply)
    return isinstance(reply, list) and reply[0] in outcomes


async def measure(requests: int, rounds: int, counted: bool) -> dict[tuple[str, int], float]:
    """The cheapest of the rounds: for each kind of request and size of a call, what one request costs."""
    best: dict[tuple[str, int], float] = {}
    async with metered_valkey(counted) as (hot, read):
        for number in range(rounds):
            say(f"round {number + 1}")
            one = Round(hot, await hot.shop(), read, requests)
            await one.go()
            best = {label: min(cost, best.get(label, cost)) for label, cost in one.costs.items()}
    return best


def add_options(options: argparse.ArgumentParser) -> None:
    """How much, and in what."""
    options.add_argument("--count", action="store_true", help="instructions, by valgrind's callgrind")
    options.add_argument("--requests", type=int, help=f"of each kind ({REQUESTS:,}; {COUNTED_REQUESTS} with --count)")
    options.add_argument("--rounds", type=int, help=f"({ROUNDS}; 1 with --count)")


def run(chosen: argparse.Namespace) -> int:
    """Print the table."""
    if chosen.count:
        require_callgrind()
    requests = chosen.requests or (COUNTED_REQUESTS if chosen.count else REQUESTS)
    costs = asyncio.run(measure(requests, chosen.rounds or (1 if chosen.count else ROUNDS), chosen.count))
    digits = 0 if chosen.count else 1
    names = list(dict.fromkeys(name for name, _ in costs))
    lines = [[name, *(f"{costs[name, size]:,.{digits}f}" for size in SIZES)] for name in names]
    print(markdown([f"{'instructions' if chosen.count else 'µs'} a request", "alone", "16 in a call", "64"], lines))
    return 0
