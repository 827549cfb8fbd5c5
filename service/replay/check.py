"""What Redis and Postgres hold of a book, read without the service; and the rows that compare it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from zlib import crc32

import asyncpg
from redis.asyncio import Redis

from service.replay.client import Client, Refused
from service.replay.expect import Fact

DRAIN_DEADLINE_S = 60.0
COLUMNS = ("API", "stats", "Redis", "Postgres")

_SCAN_COUNT = 1_000
_LAST_BUCKET = 131_071
_E4 = Decimal(10_000)

_REDEMPTIONS = """
SELECT r.code, r.user_id, r.order_id, r.order_value, r.discount_amount, r.final_amount, b.redemption_id IS NOT NULL
FROM books k JOIN redemptions r USING (workspace, book) LEFT JOIN rollbacks b USING (redemption_id) WHERE k.book_id = $1
"""
_SPENT = """
SELECT count(*) FROM books k JOIN codes c USING (workspace, book) JOIN single_uses s USING (workspace, code)
WHERE k.book_id = $1
"""


class Row(NamedTuple):
    """A fact, what it must be, and what each column says of it; a column that knows nothing of it is left out."""

    name: str
    expected: int | Decimal
    found: Mapping[str, int | Decimal]

    @property
    def differs(self) -> bool:
        """Whether any column says otherwise."""
        return any(value != self.expected for value in self.found.values())


@dataclass
class Held:
    """What one store holds of the book: its redemptions, and counts by a row's name."""

    facts: list[Fact] = field(default_factory=list)
    counts: dict[str, int | Decimal] = field(default_factory=dict)


def outcome_rows(expected: Counter[str], answered: Counter[str]) -> list[Row]:
    """For each outcome how often it came; operations in the order in which an order meets them."""
    operations = ("lock", "redeem", "unlock", "rollback", "nothing")
    labels = sorted(expected | answered, key=lambda label: (operations.index(label.split()[0]), label))
    return [Row(label, expected[label], {"API": answered[label]}) for label in labels]


def fact_rows(expected: list[Fact], codes: int, held: Mapping[str, Held]) -> list[Row]:
    """For each fact of the book what it must be, and what each column says."""
    wanted = totals(expected)
    wanted |= {"exactly as expected": len(expected), "codes spent": wanted["standing"]}
    wanted |= {"codes locked": 0, "codes free": codes - wanted["codes spent"]}
    found = {column: dict(held[column].counts) for column in held}
    for column in found:
        if column != "stats":
            same = (Counter(expected) & Counter(held[column].facts)).total()
            found[column] |= totals(held[column].facts) | {"exactly as expected": same}
    return [
        Row(name, value, {column: found[column][name] for column in found if name in found[column]})
        for name, value in wanted.items()
    ]


def totals(facts: Iterable[Fact]) -> dict[str, int | Decimal]:
    """What redemptions add up to."""
    every = list(facts)
    standing = [fact for fact in every if not fact.rolled_back]
    return {
        "standing": len(standing),
        "rolled back": len(every) - len(standing),
        "users": len({fact.user for fact in standing}),
        "discount of all": sum((fact.discount for fact in every), Decimal("0.00")),
        "discount standing": sum((fact.discount for fact in standing), Decimal("0.00")),
    }


async def drained(client: Client, token: str) -> bool:
    """Wait until the worker has recorded all; False where it hasn't within a minute. Raises Refused."""
    deadline = time.monotonic() + DRAIN_DEADLINE_S
    while time.monotonic() < deadline:
        answer = await client.ask("GET", "/v1/ops/consistency", token)
        if answer.status != 200:
            raise Refused(f"How far the record is can't be read: {answer.outcome}")
        if answer.json["lagEvents"] == 0:
            return True
        await asyncio.sleep(0.2)
    return False


async def read_stats(client: Client, token: str, book_id: str) -> Held:
    """What the service says of the book. Raises Refused."""
    answer = await client.ask("GET", f"/v1/books/{book_id}/stats", token)
    if answer.status != 200:
        raise Refused(f"The book's statistics can't be read: {answer.outcome}")
    names = {
        "redemptions": "standing",
        "rolledBack": "rolled back",
        "users": "users",
        "redeemed": "codes spent",
        "locked": "codes locked",
        "available": "codes free",
    }
    said = answer.json
    counts = {row: said[name] for name, row in names.items()}
    return Held(counts=counts | {"discount standing": Decimal(said["discountTotal"])})


async def read_redis(url: str, book_id: str, codes: list[str]) -> Held:
    """The records of the book's redemptions and codes, and the directory; no counter."""
    redis: Any  # its types allow bytes, which decode_responses rules out
    async with Redis.from_url(url, decode_responses=True) as redis:
        w, book = await _place(redis, book_id)
        if book is None:
            return Held()
        facts = {key: _fact(fields) async for key, fields in _redemptions(redis, w) if fields[5] == book}
        coupons = [record.split(" ") for record in await redis.mget([f"{w}c:{code}" for code in codes]) if record]
        async with redis.pipeline(transaction=False) as pipe:
            for code in codes:
                pipe.hget(f"{w}d:{crc32(code.encode()) & _LAST_BUCKET}", code)
            free = (await pipe.execute()).count(book)  # one that isn't free has a mark after its book
    counts: dict[str, int | Decimal] = {
        "codes spent": sum(fields[3] == "1" for fields in coupons),
        "codes locked": sum(fields[8] != "-" for fields in coupons),
        "codes free": free,
    }
    return Held(list(facts.values()), counts)


async def read_postgres(url: str, book_id: str) -> Held:
    """The book's rows."""
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(_REDEMPTIONS, book_id)
        spent = await connection.fetchval(_SPENT, book_id)
    finally:
        await connection.close()
    return Held([Fact(*row) for row in rows], {"codes spent": spent})


async def _place(redis: Any, book_id: str) -> tuple[str, str | None]:
    """What the keys of the book's workspace begin with, and the book's number there; None where it is nowhere."""
    async for key in redis.scan_iter(match="{p*}:w*:x", count=_SCAN_COUNT):
        if (number := await redis.hget(key, book_id)) is not None:
            return key.removesuffix("x"), number
    return "", None


async def _redemptions(redis: Any, w: str) -> AsyncIterator[tuple[str, list[str]]]:
    """The workspace's redemptions by key, as records' fields; one may come twice, as with every scan."""
    cursor = -1
    while cursor != 0:
        cursor, names = await redis.scan(max(cursor, 0), match=f"{w}r:*", count=_SCAN_COUNT)
        records = await redis.mget(names) if names else []
        for name, record in zip(names, records, strict=True):
            if record is not None:
                yield name, record.split(" ", 19)


def _fact(fields: list[str]) -> Fact:
    """A record: event, rolled_at, restored, R, w, book, code, user, order, id, value, currency, digits, discount, …"""
    rolled_at, code, user, order = fields[1], fields[6], fields[7], fields[8]
    value, discount = (Decimal(0 if text == "-" else text) / _E4 for text in (fields[10], fields[13]))
    return Fact(code, user, None if order == "-" else order, value, discount, value - discount, rolled_at != "-")
