"""What a load is: how many come and when, the books that they buy from, and who was meant to get how much of them."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from loadtests.ledger import Ledger
from loadtests.target import UPLOAD_CODES, Target, new_id
from loadtests.wire import ERRORS, Ask, Barrage

Shape = Literal["steady", "opening", "soak"]
Kind = Literal[
    "sale", "stocked", "gifts", "held", "shared", "greedy", "stock", "total", "reserved", "left", "assigned", "cards",
    "budget", "merchant",
]  # fmt: skip

CODE_USES, USER_USES, BOOK_USES, STOCK, USER_CODES = 5, 2, 10, 5, 2
"""The limits that are fought for."""
HOLD_S = 2
"""A lock's life in the books of those who go away."""
ROUNDS = 40
"""How many books are fought for one after another, at most."""
BUYERS_A_CODE = 5
"""At an opening, how many want each that there is."""
SALE_CODES = 50_000
"""How many codes the sale has at most."""
VISIT_S = 0.05
"""What a visit takes at least."""
TOTALS = ("total", "reserved", "left", "budget")
"""The kinds of books with a total of BOOK_USES, or of `budget` with a budget of BUDGET_USES discounts."""
BUDGET_USES = 4
CARD, CARDS = 60, 4
"""What a card is worth, and how many there are."""
DISCOUNT = {"type": "percentage", "value": 10}
BUDGETS = [
    {"amount": 2 * BUDGET_USES, "per": "book", "period": "lifetime"},
    {"amount": 2 * BUDGET_USES, "per": "user", "period": "month"},
]
"""Of discounts of 2: of orders of 20."""
SPARE_CODES = BOOK_USES + 2
"""Codes of each book with a total that only the judge requests."""
LOCK_S = 300
"""A lock's life in all other books."""
TOKEN = "SCRIP_LOAD_TOKEN"
"""The variable of the environment that has the key."""
FILE = "plan.json"
NEW_S = 5
"""How long a 503 is asked again: a worker puts a new workspace into Redis within two seconds."""
_SCOPES = "the scopes checkout, manage and operate"


class Book(msgspec.Struct, frozen=True, rename="camel"):
    """A book of the load; its codes are numbered from 0. A limit that is None doesn't exist."""

    book_id: str
    kind: Kind
    stem: str
    codes: int
    per_code: int | None = 1
    """None of cards."""
    per_user: int | None = None
    total: int | None = None

    @property
    def used_up(self) -> tuple[str, ...]:
        """The refusals of what was shared and is used up, or held."""
        if self.kind == "cards":
            return "coupon_exhausted", "coupon_locked"
        return ("budget_exhausted" if self.kind == "budget" else "out_of_stock",)

    def code(self, number: int) -> str:
        """One of its codes; numbers past the last begin again."""
        return f"{self.stem}-{number % self.codes}"

    @property
    def lock_s(self) -> int:
        """The life of its locks."""
        return HOLD_S if self.kind in ("held", "left") else LOCK_S

    @property
    def spare(self) -> list[str]:
        """Codes that only the judge asks for."""
        return [self.code(-1 - number) for number in range(SPARE_CODES)] if self.kind in TOTALS else []


class Plan(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One load. It ends after so many seconds or requests, whichever comes first."""

    shape: Shape
    url: str
    users: Annotated[int, msgspec.Meta(ge=1, le=20_000)]
    seconds: Annotated[int, msgspec.Meta(ge=1, le=7 * 86_400)]
    requests: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
    pay_s: Annotated[float, msgspec.Meta(ge=0, le=60)]
    """How long a buyer pays, on average; also how long one waits between two visits."""
    mix: dict[str, float]
    """The share of each kind of buyer."""
    max_p99_ms: float
    """What fails the load if it is exceeded; 0 if nothing does."""
    max_errors: float
    """The percentage of requests that may be errors."""
    mark: str
    """What all ids of this load begin with."""
    books: tuple[Book, ...] = ()
    workers: tuple[str, ...] = ("",)
    """Locust's names of the processes that have users."""

    def save(self, folder: Path) -> None:
        """Write it into a load's folder."""
        (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def read_plan(folder: Path) -> Plan:
    """The plan of a load's folder. OSError or msgspec.ValidationError where there is none."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=Plan)


async def check_key(url: str, key: str) -> None:
    """RuntimeError, with what to do, unless a Scrip is ready there and the key has the scopes of a load."""
    lock = Ask("POST", f"/v1/coupons/lock/{new_id()}", {"userId": new_id()}, new_id())
    asks = {"checkout": lock, "manage": Ask("GET", "/v1/books?limit=1"), "operate": Ask("GET", "/v1/ops/consistency")}
    missing: list[str] = []
    end = time.monotonic() + NEW_S
    for scope, ask in asks.items():
        try:
            with Barrage(url, key) as barrage:
                while (answer := await barrage.ask(ask)).status == 503 and time.monotonic() < end:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        except ERRORS as error:
            raise RuntimeError(f"No answer from the service: {error or type(error).__name__}. Check its URL.") from None
        if answer.status == 403:
            missing.append(scope)
        elif answer.status == 401:
            raise RuntimeError(f"The service does not accept the key: set {TOKEN} to one with {_SCOPES}.")
        elif answer.status != (404 if ask is lock else 200):
            raise RuntimeError(f"{answer.status} to {ask.method} {ask.path}: is this the URL of a Scrip that is ready?")
    if missing:
        raise RuntimeError(
            f"The key lacks the scope {' and the scope '.join(missing)}. A load needs a key with {_SCOPES}."
        )


async def make_books(ledger: Ledger, on: Target, plan: Plan) -> Plan:
    """The plan with its books, made for it: those that stay stocked, the sale, and those fought for in turn."""
    opening = plan.shape == "opening"
    visits = plan.users if opening else round(plan.users * plan.seconds / max(plan.pay_s, VISIT_S))
    stock = max(1, plan.users // BUYERS_A_CODE) if opening else None
    rounds = 1 if opening else max(5, min(ROUNDS, plan.seconds))
    free = max(500, plan.users * 10)
    make = Maker(ledger, plan.mark)
    gifts = await make.book("gifts", 0, keepFree=free)
    await make.book("stocked", 0, giftBookId=gifts.book_id, discount=DISCOUNT, keepFree=free)
    await make.sale(max(200, min(SALE_CODES, visits)), gifts, stock)
    await make.fights(rounds, max(2, plan.users // 10))
    async with asyncio.timeout(60):
        for book in make.books[:2]:
            while (await on.stats(book.book_id))["available"] < free:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    return msgspec.structs.replace(plan, books=tuple(make.books))


async def make_few_books(ledger: Ledger, mark: str, codes: int) -> tuple[Book, ...]:
    """One book of each kind, with so many codes on sale, and none that the service keeps stocked."""
    make = Maker(ledger, mark)
    await make.sale(codes, await make.book("gifts", codes // 4))
    await make.fights(1, 2)
    return tuple(make.books)


class Maker:
    """Makes the books of a load."""

    def __init__(self, ledger: Ledger, mark: str) -> None:
        self._ask, self._mark = ledger.ask, mark[:10]
        self.books: list[Book] = []

    async def book(
        self,
        kind: Kind,
        codes: int,
        *,
        per_code: int | None = 1,
        per_user: int | None = None,
        total: int | None = None,
        **rules: Any,
    ) -> Book:
        stem = f"L-{self._mark.upper()}-{kind.upper()}{len(self.books)}"
        book = Book("", kind, stem, codes, per_code, per_user, total)
        rules |= {"name": f"Load {self._mark} {kind}", "maxRedemptions": None if kind == "budget" else total}
        rules |= {"maxRedemptionsPerCode": per_code, "maxRedemptionsPerUser": per_user}
        book_id = (await self._made("make", "/v1/books", rules, 201))["bookId"]
        for start in range(0, codes, UPLOAD_CODES):
            page = [book.code(number) for number in range(start, min(codes, start + UPLOAD_CODES))]
            added = await self._made("fill", f"/v1/books/{book_id}/codes", {"codes": page}, 200)
            # An upload that is sent again finds codes of its first attempt.
            if added["added"] + added["duplicates"] != len(page):
                raise RuntimeError(f"{len(page)} codes uploaded: {added}")
        self.books.append(msgspec.structs.replace(book, book_id=book_id))
        return self.books[-1]

    async def _made(self, op: str, path: str, body: dict[str, Any], status: int) -> dict[str, Any]:
        made = await self._ask(op, path, body, wanted={status})
        if made.status != status:
            raise RuntimeError(f"{path}: {made.status} {made.refusal} {str(made.response)[:500]}")
        return made.response

    async def sale(self, codes: int, gifts: Book, total: int | None = None) -> None:
        """The book that is sold; each checkout has a gift."""
        await self.book("sale", codes, total=total, discount=DISCOUNT, giftBookId=gifts.book_id)

    async def fights(self, rounds: int, held: int) -> None:
        """The books that are fought for."""
        await self.book("held", held, lockSeconds=HOLD_S)
        await self.book("shared", max(6, rounds), per_code=CODE_USES)
        await self.book("greedy", max(200, rounds * USER_USES * 3), per_user=USER_USES)
        await self.book("assigned", 200, maxCodesPerUser=USER_CODES)
        await self.book("left", 60, total=BOOK_USES, lockSeconds=HOLD_S, maxLockSeconds=HOLD_S)
        await self.book("reserved", 120, total=BOOK_USES)
        uses: dict[str, Any] = {"uses": 1000, "per": "book", "period": "day"}
        await self.book("budget", 120, total=BUDGET_USES, discount=DISCOUNT, budgets=BUDGETS, useLimits=[uses])
        await self.book("cards", CARDS, per_code=None, discount={"type": "balance", "value": CARD})
        for _ in range(rounds):
            await self.book("stock", STOCK)
            await self.book("total", 60, total=BOOK_USES)


def new_mark() -> str:
    """A mark that no other load has."""
    return new_id()[:12]
