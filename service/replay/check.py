"""What Redis and Postgres hold of a book, read without the service; and the rows that compare it."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
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
    """What one store holds of the book: its redemptions, None where it can't say, and counts by a row's name."""

    facts: list[Fact] | None
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
    for column, store in held.items():
        if store.facts is not None:
            same = (Counter(expected) & Counter(store.facts)).total()
            found[column] |= totals(store.facts) | {"exactly as expected": same}
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
    return Held(None, counts | {"discount standing": Decimal(said["discountTotal"])})


async def read_redis(url: str, book_id: str, codes: list[str]) -> Held:
    """What the directory, the codes' records and the users' counts say of the book; no counter of its own. What a
    redemption came to is in Postgres alone, once it is recorded."""
    redis: Any  # its types allow bytes, which decode_responses rules out
    async with Redis.from_url(url, decode_responses=True) as redis:
        w, book = await _place(redis, book_id)
        if book is None:
            return Held(None)
        records = [text.split(" ") for text in await redis.mget([f"{w}c:{code}" for code in codes]) if text]
        async with redis.pipeline(transaction=False) as pipe:
            for code in codes:
                pipe.hget(f"{w}d:{crc32(code.encode()) & _LAST_BUCKET}", code)
            entries = await pipe.execute()
        users = await _users(redis, w, book)
    used_up = sum(bool((entry or "").partition("!")[2]) for entry in entries)  # by the redemption that it names
    counts: dict[str, int | Decimal] = {
        "standing": used_up + sum(fields[7] != "-" for fields in records),
        "users": users,
        "codes spent": used_up + sum(fields[3] == "1" for fields in records),
        "codes locked": sum(fields[8] != "-" for fields in records),
        "codes free": entries.count(book),  # one that isn't free has a mark after its book
    }
    return Held(None, counts)


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


async def _users(redis: Any, w: str, book: str) -> int:
    """How many users have redemptions of the book that stand."""
    found: set[str] = set()
    async for key in redis.scan_iter(match=f"{w}o:*", count=_SCAN_COUNT):
        for name, count in (await redis.hgetall(key)).items():
            of, named, user = name.partition("/")
            if named and of == book and not count.endswith(" 0"):
                found.add(user)
    return len(found)
