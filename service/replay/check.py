"""What Redis and Postgres hold of a book, read without the service; and the rows that compare it."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from zlib import crc32

import asyncpg
from redis.asyncio import Redis

from service.replay.expectation import Fact
from service.replay.http_client import Client, Refused
from service.replay.progress import Report, silent

STALL_S = 60.0
"""How long the record may be behind without getting nearer."""
DRAIN_S = 1_800.0
"""How long it may be behind at all: other traffic may keep it so."""
COLUMNS = ("API", "stats", "Redis", "Postgres")

_SCAN_COUNT = 1_000
_CODES_AT_A_TIME = 1_000
_ROWS_AT_A_TIME = 5_000
_LAST_BUCKET = 131_071

_is_books_key = re.compile(r"\{p\d+\}:w\d+:x", re.ASCII).fullmatch
_is_order_bucket = re.compile(r"\{p\d+\}:w\d+:o:\d+", re.ASCII).fullmatch
"""Patterns of SCAN match more: `w1:l:5:x` is no workspace's books, and names may end in a client's text."""

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


async def drained(client: Client, token: str, report: Report = silent) -> bool:
    """Wait until the worker has recorded all; False where it makes no progress, or takes too long. Raises Refused."""
    end = time.monotonic() + DRAIN_S
    least: int | None = None
    most, stalled_at = 0, 0.0
    while (now := time.monotonic()) < end:
        answer = await client.ask("GET", "/v1/ops/consistency", token)
        if answer.status != 200:
            raise Refused(f"How far the record is can't be read: {answer.outcome}")
        lag = int(answer.json["lagEvents"])
        most = max(most, lag)
        report("Recording", most - lag, most)
        if lag == 0:
            return True
        if least is None or lag < least:
            least, stalled_at = lag, now + STALL_S
        elif now > stalled_at:
            return False
        await asyncio.sleep(0.2)
    return False


async def reach_stores(redis_url: str, database_url: str) -> None:
    """Ask both once, before anything is sent. Raises what they or their clients raise."""
    redis: Any  # as in read_redis
    async with Redis.from_url(redis_url) as redis:
        await redis.ping()
    connection = await asyncpg.connect(database_url)
    await connection.close()


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


async def read_redis(url: str, book_id: str, codes: Sequence[str], report: Report = silent) -> Held:
    """What the directory, the codes' records and the users' counts say of the book; no counter of its own. What a
    redemption came to is in Postgres alone, once it is recorded. Codes and keys are read in chunks, whatever else the
    server holds."""
    redis: Any  # its types allow bytes, which decode_responses rules out
    async with Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape") as redis:
        w, book = await _place(redis, book_id, report)
        if book is None:
            return Held(None)
        counts = Counter({"standing": 0, "codes spent": 0, "codes locked": 0, "codes free": 0})
        for start in range(0, len(codes), _CODES_AT_A_TIME):
            report("Reading codes in Redis", start, len(codes))
            counts.update(await _read_codes(redis, w, book, codes[start : start + _CODES_AT_A_TIME]))
        report("Reading codes in Redis", len(codes), len(codes))
        counts["users"] = await _count_users(redis, w, book, report)
    return Held(None, dict(counts))


async def read_postgres(url: str, book_id: str, codes: int, report: Report = silent) -> Held:
    """The book's rows, of which there are at most as many as codes, and what was rolled back."""
    connection = await asyncpg.connect(url)
    facts: list[Fact] = []
    try:
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_REDEMPTIONS, book_id, prefetch=_ROWS_AT_A_TIME):
                facts.append(Fact(*row))
                if len(facts) % _ROWS_AT_A_TIME == 0:
                    report("Reading Postgres", len(facts), codes)
            spent = await connection.fetchval(_SPENT, book_id)
    finally:
        await connection.close()
    report("Reading Postgres", codes, codes)
    return Held(facts, {"codes spent": spent})


async def _place(redis: Any, book_id: str, report: Report) -> tuple[str, str | None]:
    """What the keys of the book's workspace begin with, and the book's number there; None where it is nowhere."""
    async for keys in _scan(redis, "{p*}:w*:x", _is_books_key, "Finding the book in Redis", report):
        for key in keys:
            if (number := await redis.hget(key, book_id)) is not None:
                return key.removesuffix("x"), number
    return "", None


async def _read_codes(redis: Any, w: str, book: str, codes: Sequence[str]) -> dict[str, int]:
    """What is true of some codes of the book."""
    records = [text.split(" ") for text in await redis.mget([f"{w}c:{code}" for code in codes]) if text]
    async with redis.pipeline(transaction=False) as pipe:
        for code in codes:
            pipe.hget(f"{w}d:{crc32(code.encode()) & _LAST_BUCKET}", code)
        entries = await pipe.execute()
    used_up = sum(bool((entry or "").partition("!")[2]) for entry in entries)  # by the redemption that it names
    return {
        "standing": used_up + sum(fields[7] != "-" for fields in records),
        "codes spent": used_up + sum(fields[3] == "1" for fields in records),
        "codes locked": sum(fields[8] != "-" for fields in records),
        "codes free": entries.count(book),  # one that isn't free has a mark after its book
    }


async def _count_users(redis: Any, w: str, book: str, report: Report) -> int:
    """How many users have redemptions of the book that stand."""
    found: set[str] = set()
    async for keys in _scan(redis, f"{w}o:*", _is_order_bucket, "Reading users in Redis", report):
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            for bucket in await pipe.execute():
                for name, count in bucket.items():
                    of, named, user = name.partition("/")
                    if named and of == book and not count.endswith(" 0"):
                        found.add(user)
    return len(found)


async def _scan(
    redis: Any, pattern: str, is_wanted: Callable[[str], Any], stage: str, report: Report
) -> AsyncIterator[list[str]]:
    """The hashes of these names, some at a time; a key may come twice."""
    keys, done, cursor = await redis.dbsize(), 0, -1
    while cursor != 0:
        cursor, page = await redis.scan(max(cursor, 0), match=pattern, count=_SCAN_COUNT, _type="HASH")
        done = min(done + _SCAN_COUNT, keys)
        report(stage, done, keys)
        if wanted := [key for key in page if is_wanted(key)]:
            yield wanted
    report(stage, keys, keys)
