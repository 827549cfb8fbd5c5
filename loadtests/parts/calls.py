"""What a hot request costs Redis, alone and in a call of many: a coupon's life, and refusals of what is sold out.

Calls are those that an API process makes of a turn's requests (service/engine/hot/turns.py), of 16 and of 64. Refused
requests come to a process that knows that nothing is left. The server is the embedded Valkey without the append-only
file; of several rounds the cheapest counts, since what else the machine does only adds. With --count it prints
instructions, counted by callgrind, in place of CPU: those repeat within a few in a thousand and so tell a small gain
from noise, but leave out what the kernel does."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

from loadtests.callgrind import require_callgrind
from loadtests.figures import markdown, say
from loadtests.hot import NONCE, Hot, metered_valkey
from service.engine.domain.outcomes import BY_CODE
from service.engine.formats.events import parse_record
from service.engine.formats.redemption_id import id_from_event
from service.engine.formats.script_replies import expand_reply
from service.engine.hot.scripts import SERVING, Scripts
from service.engine.hot.sold_out import SoldOut
from service.engine.hot.turns import Calls, Turn
from service.engine.operations import assign, lock, redeem, rollback
from service.engine.operations.base import Call, Command
from service.engine.operations.call_headers import fingerprint
from tests.harness.script_runner import EPOCH, CallingLink
from tests.harness.shop import Shop
from tests.harness.worst.measuring import count_commands

SIZES = (1, 16, 64)
REQUESTS, COUNTED_REQUESTS, ROUNDS = 25_600, 512, 3
CODE, SOLD = "D00000-SHOP-2345", 2
VALUE = Decimal("59.90")
FULL = {"discount": {"type": "percentage", "value_e4": 100_000}, "max_redemptions_per_user": 1}
OUT_OF_STOCK, EXHAUSTED = ([BY_CODE[code].number] for code in ("out_of_stock", "coupon_exhausted"))

_DIGESTS = Scripts(0, EPOCH, NONCE, SERVING).digests


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
        turn = Turn(Calls(link, EPOCH, _DIGESTS, sold_out))  # type: ignore[arg-type]
        for command in commands[start : start + size]:
            turn.add(print, command.script, command.keys, command.args)
        turn.send()
    return link.commands


class Round:
    """A shop, and what each kind of request costs in it."""

    def __init__(self, hot: Hot, shop: Shop, read: Callable[[], Awaitable[float]], requests: int) -> None:
        self._hot, self._shop, self._read, self._requests = hot, shop, read, requests
        self.costs: dict[tuple[str, int], float] = {}
        self.commands: dict[tuple[str, int], float] = {}
        """How many commands of Redis a request runs."""

    async def go(self) -> None:
        """A coupon's life in calls of each size, with coupons of their own; then refusals."""
        for size in SIZES:
            await self._sell("simple", size, {})
            await self._take_back(size, *await self._sell("full", size, FULL))
            await self._sell("priced", size, FULL, {"order_value": VALUE})
            free = await self._shop.book(*self._codes("A", size))
            assigned = [self._assign(str(free.book_id), f"user-{n}", False) for n in range(self._requests)]
            await self._measure("assign any", size, assigned)
        await self._several()
        await self._refusals()

    async def _sell(
        self, name: str, size: int, rules: dict[str, Any], price: dict[str, Any] | None = None
    ) -> tuple[list[str], list[str]]:
        """Lock and redeem each code of a new book, with the price at the lock, or else at the redemption; return the
        codes, and the redemptions' ids."""
        is_full, codes = bool(rules), self._codes(name[0].upper(), size)
        await self._shop.book(*codes, **rules)
        orders = [str(uuid4()) for _ in codes]
        locks = [self._lock(f"user-{n}", is_full, code, orders[n], **price or {}) for n, code in enumerate(codes)]
        await self._measure(f"lock, {name}", size, locks)
        details: dict[str, Any] = {"order_value": VALUE} if is_full and not price else {}
        sales = [
            self._redeem(f"user-{n}", is_full, code, orders[n], lock_token=locks[n].args[7], **details)
            for n, code in enumerate(codes)
        ]
        records = [parse_record(reply[1]) for reply in await self._measure(f"redeem, {name}", size, sales)]
        return codes, [id_from_event(record.event, record.at_ms) for record in records]

    async def _take_back(self, size: int, codes: list[str], redemption_ids: list[str]) -> None:
        """Roll the redemptions back; then lock, extend, unlock and validate the codes."""
        request = rollback.RollbackRequest()
        rollbacks = [rollback.ROLLBACK.prepare(self._call(), one, request) for one in redemption_ids]
        await self._measure("rollback", size, rollbacks)
        locks = [self._lock(f"user-{n}", False, code) for n, code in enumerate(codes)]
        await self._ask(locks, size, SoldOut())
        held = [(code, lock_.args[7]) for code, lock_ in zip(codes, locks, strict=True)]
        extended = [lock.EXTEND.prepare(self._call(), code, lock.ExtendRequest(at, 600)) for code, at in held]
        await self._measure("extend", size, extended)
        unlocked = [lock.UNLOCK.prepare(self._call(), code, lock.UnlockRequest(at)) for code, at in held]
        await self._measure("unlock", size, unlocked)
        asked = [
            redeem.ValidateRequest(user_id=f"user-{n}", order_value=VALUE, code=code) for n, code in enumerate(codes)
        ]
        await self._measure("validate", size, [redeem.VALIDATE.prepare(self._call(), None, one) for one in asked])

    async def _several(self) -> None:
        """Sales of a code with many uses."""
        code = "E00000-SHOP-2345"
        await self._shop.book(code, max_redemptions_per_code=10**6)
        for size in SIZES:
            sales = [self._redeem(f"several-{size}-{n}", False, code) for n in range(self._requests)]
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

    def _codes(self, first: str, size: int) -> list[str]:
        return [f"{first}{size:02d}{n:05d}-SHOP-2345" for n in range(self._requests)]

    def _call(self, keyed: bool = False) -> Call:
        key = str(uuid4()) if keyed else ""
        print_of = fingerprint(b"POST", b"/", b"", key.encode()) if keyed else "-"
        return Call(self._shop.caller, key, print_of, "192.0.2.1", "shopper/1.0")

    def _assign(self, book: str, user: str, keyed: bool) -> Command:
        return assign.ASSIGN_ANY.prepare(self._call(keyed), None, assign.AssignAny(book, user))

    def _redeem(self, user: str, keyed: bool, code: str = CODE, order: str | None = None, **more: Any) -> Command:
        request = redeem.RedeemRequest(user_id=user, order_id=order, **more)
        return redeem.REDEEM.prepare(self._call(keyed), code, request)

    def _lock(self, user: str, keyed: bool, code: str = CODE, order: str | None = None, **more: Any) -> Command:
        request = lock.LockRequest(user_id=user, order_id=order, **more)
        return lock.LOCK.prepare(self._call(keyed), code, request)

    async def _measure(
        self, name: str, size: int, commands: list[Command], outcome: Sequence[int | None] = (0,)
    ) -> list[Any]:
        """Run them, and keep what one costs; their replies, which have this outcome."""
        sold_out, one, connection = SoldOut(), commands[0], self._hot.connection
        sold_out.learn(one.script, one.keys, one.args, list(outcome))
        ran, before = await count_commands(connection), await self._read()
        replies = await self._ask(commands, size, sold_out)
        self.costs[name, size] = (await self._read() - before) / len(commands)
        self.commands[name, size] = (await count_commands(connection) - ran) / len(commands)
        if wrong := [reply for reply in replies if not isinstance(reply, list) or reply[0] not in outcome]:
            raise RuntimeError(f"{name}: {len(wrong)} of {len(commands)} replies have another outcome: {wrong[0]!r}")
        return replies

    async def _ask(self, commands: list[Command], size: int, sold_out: SoldOut) -> list[Any]:
        joined = join(commands, size, sold_out)
        replies = [await self._hot.connection.call(*command) for command in joined]
        if size > 1:
            replies = [one for reply in replies for one in reply]
        return [expand_reply(reply) for reply in replies]


async def measure(requests: int, rounds: int, counted: bool) -> list[list[str]]:
    """A line for each kind of request: the cheapest of the rounds by sizes of calls, and the commands of each."""
    costs: dict[tuple[str, int], float] = {}
    ran: dict[tuple[str, int], float] = {}
    async with metered_valkey(counted) as (hot, read):
        for number in range(rounds):
            say(f"round {number + 1}")
            one = Round(hot, await hot.shop(Shop), read, requests)
            await one.go()
            costs = {label: min(cost, costs.get(label, cost)) for label, cost in one.costs.items()}
            ran |= one.commands
    digits = 0 if counted else 1
    return [
        [
            name,
            *(f"{costs[name, size]:,.{digits}f}" for size in SIZES),
            ", ".join(f"{ran[name, size]:.1f}" for size in SIZES),
        ]
        for name in dict.fromkeys(name for name, _ in costs)
    ]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--count", action="store_true", help="instructions, by valgrind's callgrind")
    options.add_argument("--requests", type=int, help=f"of each kind ({REQUESTS:,}; {COUNTED_REQUESTS} with --count)")
    options.add_argument("--rounds", type=int, help=f"({ROUNDS}; 1 with --count)")


def run(chosen: argparse.Namespace) -> None:
    if chosen.count:
        require_callgrind()
    requests = chosen.requests or (COUNTED_REQUESTS if chosen.count else REQUESTS)
    lines = asyncio.run(measure(requests, chosen.rounds or (1 if chosen.count else ROUNDS), chosen.count))
    unit = "instructions" if chosen.count else "µs"
    print(markdown([f"{unit} a request", "alone", "16 in a call", "64", "commands of each"], lines))
