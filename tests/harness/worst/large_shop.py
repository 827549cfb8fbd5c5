"""A shop that is as large as the contract lets it become, written into Redis quickly, and runs of scripts on it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import sha1
from typing import Any, NamedTuple

import msgspec

from service.engine.domain.configuration import BookRow
from service.engine.formats import key_names
from service.engine.formats.bounds import encode_zone, spans_at
from service.engine.formats.coupon_record import UNLOCKED
from service.engine.hot.scripts import COUNTING, ERASING, MENDING, RECONCILING, RETAINING, SERVING, STORING, Scripts
from service.engine.operations.base import Call, Operation
from tests.harness.script_runner import EPOCH
from tests.harness.shop import Shop

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
KEYED = 120
WORKERS = ["drop_wrong", "fence", "set_gate"]
CLOSED = [
    "apply_events",
    "block_codes",
    "complete_recovery",
    "fill_pool",
    "record_progress",
    "remove_keys",
    "restore_keys",
]
"""What runs while the gate is closed."""


class Run(NamedTuple):
    script: str
    names: Sequence[str]
    args: Sequence[Any]


Prepare = Callable[["LargeShop", int], Awaitable[Run]]


class Case(NamedTuple):
    """The worst that a script can be asked for; `prepare` takes how much there is of what nothing bounds."""

    script: str
    bound: str
    prepare: Prepare
    replies: tuple[int, ...]
    """The outcomes that it may return."""


CASES: list[Case] = []


def case(script: str, bound: str, replies: tuple[int, ...] = (0,)) -> Callable[[Prepare], Prepare]:
    def add(prepare: Prepare) -> Prepare:
        CASES.append(Case(script, bound, prepare, replies))
        return prepare

    return add


_METER = """local server = redis
local function bytes_of(value)
  if type(value) ~= 'table' then return type(value) == 'string' and #value or 8 end
  local bytes = 0
  for _, one in pairs(value) do bytes = bytes + bytes_of(one) end
  return bytes
end
local function metered(call)
  return function(...)
    local reply = call(...)
    server.pcall('HINCRBY', '{meter}', 'commands', 1)
    server.pcall('HINCRBY', '{meter}', 'bytes', bytes_of(reply))
    return reply
  end
end
local redis = setmetatable({ call = metered(server.call), pcall = metered(server.pcall) }, { __index = server })
"""
METER = "tests:meter"


class LargeShop(Shop):
    """A shop whose scripts are all loaded, with more of everything than requests would make in a test's time."""

    is_metered = False
    """Whether METER counts the commands of the scripts, and the bytes of what these return."""

    async def open(self, epoch: int = EPOCH, **settings: Any) -> "LargeShop":
        """As a shop, and with the worker's scripts."""
        await super().open(epoch, **settings)
        self.digests: dict[str, str] = {}
        texts: dict[str, str] = {}
        for names, state in (
            ([*SERVING, *ERASING, *RECONCILING, *RETAINING, *STORING, *COUNTING, *WORKERS, *MENDING], "open"),
            (CLOSED, "closed"),
        ):
            scripts = Scripts(0, epoch, "nonce", names, state)
            for name, text in scripts.texts.items():
                measured = _METER.replace("{meter}", METER) + text if self.is_metered else text
                self.digests[name] = sha1(measured.encode(), usedforsecurity=False).hexdigest()
                texts[self.digests[name]] = measured
        known = await self.link.call("SCRIPT", "EXISTS", *texts)
        for text in (text for text, is_known in zip(texts.values(), known, strict=True) if not is_known):
            await self.link.call("SCRIPT", "LOAD", text)
        return self

    @property
    def w(self) -> str:
        """What the workspace's keys begin with."""
        return self.caller.prefix

    def run_of(self, operation: Operation, code: str | None, /, key: str = "", **body: Any) -> Run:
        call = Call(self.caller, key, "f" if key else "-", "192.0.2.1", "tests")
        command = operation.prepare(call, code, msgspec.convert(body, operation.request))
        return Run(command.script, command.keys, command.args)

    async def ready(self, run: Run) -> None:
        """Close the gate where the script needs that."""
        if run.script in CLOSED:
            await self.gate("closed")

    async def carry_out(self, run: Run) -> Any:
        """Its reply."""
        return await self.link.call("EVALSHA", self.digests[run.script], len(run.names), *run.names, *run.args, EPOCH)

    async def hash(self, key: str, fields: Iterable[tuple[str, Any]]) -> None:
        """Write many fields."""
        await self._many("HSET", key, fields)

    async def zset(self, key: str, members: Iterable[tuple[Any, str]]) -> None:
        """Write many members."""
        await self._many("ZADD", key, members)

    async def _many(self, verb: str, key: str, pairs: Iterable[tuple[Any, Any]]) -> None:
        flat: list[Any] = []
        for pair in pairs:
            flat += pair
            if len(flat) >= 2000:
                await self.link.call(verb, key, *flat)
                flat = []
        if flat:
            await self.link.call(verb, key, *flat)

    async def locks(self, code: str, book: int, count: int, *, user: str = "", ended: int = 0) -> None:
        """Live locks on a code with several uses, each of a user of its own or all of one, and some that ended; all
        count against the book's total and the user's limit, some against that of a key of their own."""
        now = await self.now()
        each = [
            (number, now - MINUTE_MS + number % 1000 if number < ended else now + MINUTE_MS)
            for number in range(ended + count)
        ]
        holders = [(f"{user or f'u{number}'} o{number}", f"t{code}-{number}", at) for number, at in each]
        await self.hash(
            f"{self.w}k:{code}",
            (
                pair
                for holder, token, at in holders
                for pair in ((holder, f"{token} {at} {now - 2 * MINUTE_MS} ub.{_key(token)}"), (f"={token}", holder))
            ),
        )
        for _, token, at in holders[:KEYED]:
            await self.link.call("ZADD", f"{self.w}lk:{_key(token)}", at, token)
        await self.zset(f"{self.w}kd:{code}", ((at, holder) for holder, _, at in holders))
        await self.zset(f"{self.w}lb:{book}", ((at, token) for _, token, at in holders))
        if user:
            await self.zset(f"{self.w}lu:{book}:{user}", ((at, token) for _, token, at in holders))

    async def budgeted(self, code: str) -> BookRow:
        """A book with as many budgets and limits of uses as it may have, a code of it, and what locks hold: 1,000
        shares that have expired, which are in the way of the last budget, and 990 of a user that live."""
        kinds = [("book", "lifetime"), ("book", "month"), ("user", "day"), ("book", "day")]
        book = await self.book(
            code,
            discount={"type": "percentage", "value_e4": 1_000_000},
            budgets=[(10**10, *kind) for kind in kinds],
            use_limits=[(10**9, per, period) for per in ("book", "user") for period in ("day", "month")],
            max_redemptions_per_code=None,
            max_lock_seconds=86_400,
        )
        now, (_, day, month) = await self.now(), spans_at(encode_zone("UTC", 1969), await self.now())
        generation, w = book.counted_from, self.w
        most = 10**14  # what the last of them holds, in the way of the last budget
        past = [f"{generation} t-{n} 1 d{n % 40} m{n % 40}" for n in range(999)]
        past.append(f"{generation} t-999 {most} {day.name} {month.name}")
        live = [f"{generation} u-{n} 1 {day.name} {month.name}" for n in range(990)]
        await self.zset(key_names.shares(w, book.book), ((now - MINUTE_MS, share) for share in past))
        await self.zset(key_names.shares_of_user(w, book.book, "ann"), ((now + HOUR_MS, share) for share in live))
        sums = {f"{generation}:{day.name}High": 10**5, f"{generation}:l": 10**6, f"{generation}:lUses": 1000}
        await self.hash(key_names.held_sums(w, book.book), sums.items())
        return book

    async def place(self, code: str, book: int, of: str, at: int, words: str) -> None:
        """Put a coupon with this record into one of its book's sets."""
        bucket = key_names.bucket(code)
        await self.link.call("HSET", f"{self.w}d:{bucket}", code, f"{book}!")
        await self.link.call("SET", f"{self.w}c:{code}", f"{words} {UNLOCKED}")
        await self.link.call("ZADD", f"{self.w}l:{book}:{of}", at, f"{bucket} {code}")

    async def holding(self, user: str, books: int) -> None:
        """A user who has a coupon of each of many books, all with an end of their own, which is over."""
        now = await self.now()
        made = [10_000 + number for number in range(books)]
        settings = (await self.link.call("GET", f"{self.w}b:1")).split(" ")
        settings[4] = str(now + 1000 * MINUTE_MS)
        text = " ".join(settings)
        for start in range(0, books, 500):
            some = made[start : start + 500]
            await self.link.call("MSET", *(part for book in some for part in (f"{self.w}b:{book}", text)))
        fields = (pair for book in made for pair in ((f"a{book}", 1), (f"h{book}", 1), (f"x{book}", 1)))
        await self.hash(f"{self.w}u:{user}", fields)
        for book in made:
            await self.link.call("ZADD", f"{self.w}ue:{book}:{user}", now - MINUTE_MS, f"CODE-{book}")


def _key(token: str) -> str:
    """The id of the key that took one of the first locks."""
    number = int(token.rpartition("-")[2])
    return f"{number:X}" if number < KEYED else ""
