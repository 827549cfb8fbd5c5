"""Reads a book from the API, Redis and Postgres, and makes the rows that compare them with the expectation. command.py
calls this. The names of keys, fields and columns are written here a second time, on purpose: they change with
service/formats/ and the tables."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple
from zlib import crc32

from service.hot.discovery import locate, open_client, read_nodes
from service.record.pool import UNNAMED, connect_once
from service.replay.expectation import Redemption
from service.replay.progress import ReportProgress, ignore_progress
from service.replay.retrying_client import Client, UnexpectedResponse

STALL_TIMEOUT_S = 60.0
"""Limit on the time in which the lag does not shrink."""
REPLY_TIMEOUT_S = 5.0
"""Limit on each reply of Redis."""
RECORD_TIMEOUT_S = 1_800.0
"""Limit on the whole wait: other traffic may prevent a lag of 0."""
COLUMNS = ("API", "stats", "Redis", "Postgres")

_SCAN_COUNT = 1_000
_CODES_PER_READ = 1_000
_ROWS_PER_READ = 5_000
_LAST_BUCKET = 131_071
_IN_REDIS = ("standing", "codes spent", "codes locked", "codes free", "users")
"""The rows of which Redis has a count."""

_is_books_key = re.compile(r"\{p\d+\}:w\d+:x", re.ASCII).fullmatch
_is_order_bucket = re.compile(r"\{p\d+\}:w\d+:o:\d+", re.ASCII).fullmatch
"""SCAN's patterns match more: `w1:l:5:x` is not a workspace's books, and names may end in text from clients."""

_REDEMPTIONS = """
SELECT r.code, r.user_id, r.order_id, r.order_value, r.discount_amount, r.final_amount, b.redemption_id IS NOT NULL
FROM books k JOIN redemptions r USING (workspace, book) LEFT JOIN rollbacks b USING (redemption_id) WHERE k.book_id = $1
"""
_SPENT = """
SELECT count(*) FROM books k JOIN codes c USING (workspace, book) JOIN single_uses s USING (workspace, code)
WHERE k.book_id = $1
"""


class Row(NamedTuple):
    """One compared value: its name, the expected value, and the actual values by column. A column may be missing."""

    name: str
    expected: int | Decimal
    actual: Mapping[str, int | Decimal]

    @property
    def differs(self) -> bool:
        return any(value != self.expected for value in self.actual.values())


@dataclass
class StoreContents:
    """The book in one store. `redemptions` is None if the store lacks their amounts; counts are by row name."""

    redemptions: list[Redemption] | None
    counts: dict[str, int | Decimal] = field(default_factory=dict)


def make_outcome_rows(expected: Counter[str], actual: Counter[str]) -> list[Row]:
    """Make a row for each outcome, in the sequence of an order's operations."""
    operations = ("lock", "redeem", "unlock", "rollback", "nothing")
    labels = sorted(expected | actual, key=lambda label: (operations.index(label.split()[0]), label))
    return [Row(label, expected[label], {"API": actual[label]}) for label in labels]


def make_store_rows(expected: list[Redemption], codes: int, stores: Mapping[str, StoreContents]) -> list[Row]:
    """Make a row for each total and count of the book. `codes` is the number of codes in the book."""
    expected_values = compute_totals(expected)
    expected_values |= {"exactly as expected": len(expected), "codes spent": expected_values["standing"]}
    expected_values |= {"codes locked": 0, "codes free": codes - expected_values["codes spent"]}
    actual = {column: dict(store.counts) for column, store in stores.items()}
    for column, store in stores.items():
        if store.redemptions is not None:
            same = (Counter(expected) & Counter(store.redemptions)).total()
            actual[column] |= compute_totals(store.redemptions) | {"exactly as expected": same}
    return [
        Row(name, value, {column: values[name] for column, values in actual.items() if name in values})
        for name, value in expected_values.items()
    ]


def compute_totals(redemptions: Iterable[Redemption]) -> dict[str, int | Decimal]:
    """Compute counts and sums over redemptions, by row name."""
    every = list(redemptions)
    standing = [one for one in every if not one.rolled_back]
    return {
        "standing": len(standing),
        "rolled back": len(every) - len(standing),
        "users": len({one.user for one in standing}),
        "discount of all": sum((one.discount for one in every), Decimal("0.00")),
        "discount standing": sum((one.discount for one in standing), Decimal("0.00")),
    }


async def wait_until_recorded(client: Client, token: str, report: ReportProgress = ignore_progress) -> bool:
    """Wait until the worker has recorded all events. Returns False if it stalls or takes too long.

    Raises UnexpectedResponse, Unreachable.
    """
    end = time.monotonic() + RECORD_TIMEOUT_S
    min_lag: int | None = None
    max_lag, stall_deadline = 0, 0.0
    while (now := time.monotonic()) < end:
        response = await client.request("GET", "/v1/ops/consistency", token)
        if response.status != 200:
            raise UnexpectedResponse(f"The lag of the record can't be read: {response.outcome}")
        lag = int(response.json["lagEvents"])
        max_lag = max(max_lag, lag)
        report("Recording", max_lag - lag, max_lag)
        if lag == 0:
            return True
        if min_lag is None or lag < min_lag:
            min_lag, stall_deadline = lag, now + STALL_TIMEOUT_S
        elif now > stall_deadline:
            return False
        await asyncio.sleep(0.2)
    return False


async def check_stores(redis_url: str, database_url: str) -> None:
    """Connect to Redis and Postgres once. Raises the errors of their clients."""
    redis: Any  # as in read_redis
    for node in await read_nodes(redis_url):
        async with open_client(node, await locate(node), socket_timeout=REPLY_TIMEOUT_S) as redis:
            await redis.ping()
    connection = await connect_once(database_url)
    await connection.close()


async def read_stats(client: Client, token: str, book_id: str) -> StoreContents:
    """Read the book's statistics from the API. Raises UnexpectedResponse, Unreachable."""
    response = await client.request("GET", f"/v1/books/{book_id}/stats", token)
    if response.status != 200:
        raise UnexpectedResponse(f"The book's statistics can't be read: {response.outcome}")
    names = {
        "redemptions": "standing",
        "rolledBack": "rolled back",
        "users": "users",
        "redeemed": "codes spent",
        "locked": "codes locked",
        "available": "codes free",
    }
    stats = response.json
    counts = {row: stats[name] for name, row in names.items()}
    return StoreContents(None, counts | {"discount standing": Decimal(stats["discountTotal"])})


async def read_redis(
    url: str, book_id: str, codes: Sequence[str], report: ReportProgress = ignore_progress
) -> StoreContents:
    """Read the directory, the records of codes and the counts of users from Redis, but not the book's counters.

    Redis does not store the amounts of recorded redemptions; Postgres does. Codes and keys are read in chunks, however
    many other keys the server holds. All counts are 0 if no server has the book.
    """
    redis: Any  # redis-py's types allow bytes, which decode_responses excludes
    options = {"encoding_errors": "surrogateescape", "socket_timeout": REPLY_TIMEOUT_S}
    for node in await read_nodes(url):
        async with open_client(node, await locate(node), **options) as redis:
            w, book = await _find_book(redis, book_id, report)
            if book is not None:
                return await _read_book(redis, w, book, codes, report)
    return StoreContents(None, dict.fromkeys(_IN_REDIS, 0))


async def _read_book(redis: Any, w: str, book: str, codes: Sequence[str], report: ReportProgress) -> StoreContents:
    counts = Counter(dict.fromkeys(_IN_REDIS, 0))
    for start in range(0, len(codes), _CODES_PER_READ):
        report("Reading codes in Redis", start, len(codes))
        counts.update(await _read_codes(redis, w, book, codes[start : start + _CODES_PER_READ]))
    report("Reading codes in Redis", len(codes), len(codes))
    counts["users"] = await _count_users(redis, w, book, report)
    return StoreContents(None, dict(counts))


async def read_postgres(url: str, book_id: str, codes: int, report: ReportProgress) -> StoreContents:
    """Read the book's redemptions, whether each is rolled back, and the number of spent codes."""
    connection = await connect_once(url)
    redemptions: list[Redemption] = []
    try:
        async with connection.transaction(readonly=True):
            statement = await connection.prepare(_REDEMPTIONS, name=UNNAMED)
            async for row in statement.cursor(book_id, prefetch=_ROWS_PER_READ):
                redemptions.append(Redemption(*row))
                if len(redemptions) % _ROWS_PER_READ == 0:
                    report("Reading Postgres", len(redemptions), codes)
            spent: int = await connection.fetchval(_SPENT, book_id)  # type: ignore[assignment]
    finally:
        await connection.close()
    report("Reading Postgres", codes, codes)
    return StoreContents(redemptions, {"codes spent": spent})


async def _find_book(redis: Any, book_id: str, report: ReportProgress) -> tuple[str, str | None]:
    """Return the key prefix of the book's workspace and the book's number; None if no workspace has the book."""
    async for keys in _scan(redis, "{p*}:w*:x", _is_books_key, "Finding the book in Redis", report):
        for key in keys:
            if (number := await redis.hget(key, book_id)) is not None:
                return key.removesuffix("x"), number
    return "", None


async def _read_codes(redis: Any, w: str, book: str, codes: Sequence[str]) -> dict[str, int]:
    """Count the states of some codes of the book, by row name."""
    records = [text.split(" ") for text in await redis.mget([f"{w}c:{code}" for code in codes]) if text]
    async with redis.pipeline(transaction=False) as pipe:
        for code in codes:
            pipe.hget(f"{w}d:{crc32(code.encode()) & _LAST_BUCKET}", code)
        entries = await pipe.execute()
    rests = [(entry or "").partition("!")[2] for entry in entries]  # a redemption, or a lock, which has spaces
    locked = sum(" " in rest for rest in rests)
    used_up = sum(map(bool, rests)) - locked
    return {
        "standing": used_up + sum(fields[7] != "-" for fields in records),
        "codes spent": used_up + sum(fields[3] == "1" for fields in records),
        "codes locked": locked + sum(fields[8] != "-" for fields in records),
        "codes free": entries.count(book) + entries.count(f"{book}+"),  # one that is not free has a `!`
    }


async def _count_users(redis: Any, w: str, book: str, report: ReportProgress) -> int:
    users: set[str] = set()
    async for keys in _scan(redis, f"{w}o:*", _is_order_bucket, "Reading users in Redis", report):
        async with redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            for bucket in await pipe.execute():
                for name, count in bucket.items():
                    number, slash, user = name.partition("/")
                    if slash and number == book and not count.endswith(" 0"):
                        users.add(user)
    return len(users)


async def _scan(
    redis: Any, pattern: str, is_wanted: Callable[[str], Any], stage: str, report: ReportProgress
) -> AsyncIterator[list[str]]:
    """Yield pages of the names of hashes that match `pattern` and `is_wanted`. A name may appear twice."""
    keys, done, cursor = await redis.dbsize(), 0, -1
    while cursor != 0:
        cursor, page = await redis.scan(max(cursor, 0), match=pattern, count=_SCAN_COUNT, _type="HASH")
        done = min(done + _SCAN_COUNT, keys)
        report(stage, done, keys)
        if wanted := [key for key in page if is_wanted(key)]:
            yield wanted
    report(stage, keys, keys)
