"""What a load is: how many come and when, the books that they buy from, and who was meant to get how much of them."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from loadtests.ground import Ground, new_id

Shape = Literal["steady", "opening", "soak"]
Kind = Literal["sale", "stocked", "gifts", "held", "shared", "greedy", "stock", "total"]

CODE_USES, USER_USES, BOOK_USES, STOCK = 3, 2, 3, 3
"""The limits that are fought for."""
HOLD_S = 2
"""A lock's life in the book of those who go away."""
ROUNDS = 40
"""How many books are fought for one after another, at most."""
BUYERS_A_CODE = 5
"""At an opening, how many want each that there is."""
SALE_CODES, UPLOAD_CODES = 50_000, 20_000
"""How many codes the sale has at most, and how many are uploaded at once."""
VISIT_S = 0.05
"""What a visit takes at least."""
FOLDER, TOKEN = "SCRIP_LOAD_FOLDER", "SCRIP_LOAD_TOKEN"
"""Where locust finds, in its environment, the load's folder and the key."""
_FILE = "plan.json"


class Book(msgspec.Struct, frozen=True, rename="camel"):
    """A book of the load; its codes are numbered from 0. A limit that is None doesn't exist."""

    book_id: str
    kind: Kind
    stem: str
    codes: int
    per_code: int | None = 1
    per_user: int | None = None
    total: int | None = None

    def code(self, number: int) -> str:
        """One of its codes; numbers past the last begin anew."""
        return f"{self.stem}-{number % self.codes}"


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """One load. It ends after so many seconds or requests, whichever comes first."""

    shape: Shape
    url: str
    users: int
    rate: float
    """Users who come each second."""
    seconds: int
    requests: int
    pay_s: float
    """How long a buyer pays, on average; also how long one waits between two visits."""
    processes: int
    mark: str
    """What all ids of this load begin with."""
    books: tuple[Book, ...] = ()

    def of(self, kind: Kind) -> list[Book]:
        """Its books of a kind."""
        return [book for book in self.books if book.kind == kind]

    def save(self, folder: Path) -> None:
        """Write it into a load's folder."""
        (folder / _FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def read_plan(folder: Path) -> Plan:
    """The plan of a load's folder. OSError or msgspec.ValidationError where there is none."""
    return msgspec.json.decode((folder / _FILE).read_bytes(), type=Plan)


async def make_books(on: Ground, plan: Plan) -> Plan:
    """The plan with its books, which are made for it."""
    stem = f"L-{plan.mark[:10].upper()}"
    opening = plan.shape == "opening"
    visits = plan.users if opening else round(plan.users * plan.seconds / max(plan.pay_s, VISIT_S))
    sale = max(200, min(SALE_CODES, visits))
    stock = max(1, plan.users // BUYERS_A_CODE) if opening else None
    free = max(500, plan.users * 10)
    rounds = 1 if opening else max(5, min(ROUNDS, plan.seconds))
    books: list[Book] = []

    async def make(kind: Kind, name: str, codes: int, spare: int = 0, **said: int | None) -> Book:
        book = Book(
            "", kind, f"{stem}-{name.upper()}", codes, said.get("perCode", 1), said.get("perUser"), said.get("total")
        )
        rules = {"maxRedemptionsPerCode": book.per_code, "maxRedemptionsPerUser": book.per_user}
        more = {"lockSeconds": HOLD_S} if kind == "held" else {}
        more |= {"keepFree": spare} if spare else {}
        discount = {"type": "percentage", "value": 10} if kind in ("sale", "stocked") else None
        gift = books[0].book_id if discount else None
        name = f"Load {plan.mark[:10]} {name}"
        rules |= {"name": name, "maxRedemptions": book.total, "discount": discount, "giftBookId": gift, **more}
        book_id = await on.book((book.code(number) for number in range(min(codes, UPLOAD_CODES))), **rules)
        for start in range(UPLOAD_CODES, codes, UPLOAD_CODES):
            await on.add(book_id, [book.code(number) for number in range(start, min(codes, start + UPLOAD_CODES))])
        books.append(msgspec.structs.replace(book, book_id=book_id))
        return books[-1]

    await make("gifts", "gifts", 0, free)
    await make("stocked", "stocked", 0, free)
    await make("sale", "sale", sale, total=stock)
    await make("held", "held", max(2, plan.users // 10))
    await make("shared", "shared", rounds, perCode=CODE_USES)
    await make("greedy", "greedy", rounds * USER_USES * 3, perUser=USER_USES)
    for number in range(rounds):
        await make("stock", f"stock{number}", STOCK)
        await make("total", f"total{number}", BOOK_USES * 2, total=BOOK_USES)
    await until_stocked(on, [book.book_id for book in books if book.kind in ("gifts", "stocked")], free)
    return msgspec.structs.replace(plan, books=tuple(books))


async def until_stocked(on: Ground, book_ids: Iterable[str], free: int, patience_s: float = 60.0) -> None:
    """Wait until these books have so many free codes. TimeoutError."""
    async with asyncio.timeout(patience_s):
        for book_id in book_ids:
            while (await on.stats(book_id))["available"] < free:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def new_mark() -> str:
    """A mark that no other load has."""
    return new_id()[:12]
