"""Judges what jobs made of a book's codes: in their results, in Postgres and in Redis, each code once and alike."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import asyncpg
from redis.asyncio import Redis

from loadtests.ground import Ground
from loadtests.subject import sent
from service.formats import key_names
from service.formats.coupon_record import IDLE, CouponRecord, parse_coupon_record
from tests.harness.running import Run

PAGE = 10_000
POLL_S = 0.2
PATIENCE_S = 600.0
RECORDED_S = 60.0
_BOOK = "SELECT workspace, book, partition FROM books JOIN workspaces USING (workspace) WHERE book_id = $1"
_CODES = "SELECT code, active FROM codes WHERE workspace = $1 AND book = $2"
_ASSIGNED = "SELECT user_id, code FROM assignments WHERE workspace = $1 AND book = $2"
_REDEEMED = "SELECT code, count(*) FROM redemptions WHERE workspace = $1 AND book = $2 GROUP BY code"


async def find_faults(
    run: Run, ground: Ground, book_id: str, codes: AbstractSet[str], job_id: str, is_active: bool
) -> list[str]:
    """What is wrong after a job that has switched all of these codes: a sentence for each kind of fault."""
    seen = Counter(await asyncio.to_thread(lambda: [code for _, code in _changed(run.url, job_id)]))
    faults = [
        _describe("in the results", "missing", codes - seen.keys()),
        _describe("in the results", "unknown", seen.keys() - codes),
        _describe("in the results", "there more than once", [code for code, times in seen.items() if times > 1]),
    ]
    postgres, redis = await asyncpg.connect(run.facts["databaseUrl"]), Redis.from_url(run.facts["redisUrl"])
    try:
        workspace, book, partition = await postgres.fetchrow(_BOOK, book_id)
        stored = dict(await postgres.fetch(_CODES, workspace, book))
        faults.append(_describe("in Postgres", "missing or unknown", codes ^ stored.keys()))
        wrong = [code for code, active in stored.items() if active != is_active]
        faults.append(_describe("in Postgres", "not changed", wrong))
        prefix = key_names.prefix(partition, workspace)
        records = _records(redis, prefix, codes)
        wrong = [code async for code, record in records if (record.off == IDLE.off) != is_active]
        faults.append(_describe("in Redis", "not changed", wrong))
    finally:
        await postgres.close()
        await redis.aclose()
    stats = await ground.stats(book_id)
    counted = stats["available" if is_active else "inactive"]
    faults.append(f"Redis counts {counted:,} of {len(codes):,} codes." if counted != len(codes) else "")
    faults.append(await find_drift(ground))
    return [fault for fault in faults if fault]


async def find_assignment_faults(
    run: Run, ground: Ground, book_id: str, codes: AbstractSet[str], users: AbstractSet[str], job_ids: Collection[str]
) -> list[str]:
    """What is wrong after jobs that have assigned one of these codes to each of these users: a sentence for each kind
    of fault. The results, Postgres and Redis must have the same pairs of user and code."""
    faults = [await find_drift(ground)]  # it waits until everything is recorded
    given = await asyncio.to_thread(lambda: [pair for job_id in job_ids for pair in _changed(run.url, job_id)])
    pairs = {"in the results": given}
    postgres, redis = await asyncpg.connect(run.facts["databaseUrl"]), Redis.from_url(run.facts["redisUrl"])
    try:
        workspace, book, partition = await postgres.fetchrow(_BOOK, book_id)
        pairs["in Postgres"] = [tuple(row) for row in await postgres.fetch(_ASSIGNED, workspace, book)]
        records = _records(redis, key_names.prefix(partition, workspace), codes)
        pairs["in Redis"] = [(record.user, code) async for code, record in records if record.user != IDLE.user]
    finally:
        await postgres.close()
        await redis.aclose()
    for where, some in pairs.items():
        of_user, of_code = Counter(user for user, _ in some), Counter(code for _, code in some)
        faults += [
            _describe(where, "without a code, or unknown", users ^ of_user.keys(), "users"),
            _describe(where, "there more than once", [user for user, times in of_user.items() if times > 1], "users"),
            _describe(where, "there more than once", [code for code, times in of_code.items() if times > 1]),
            _describe(where, "not of the book", of_code.keys() - codes),
            _describe(where, "not the user's of the results", {code for _, code in set(some) ^ set(given)}),
        ]
    return [fault for fault in faults if fault]


async def find_lost_redemptions(run: Run, book_id: str, redeemed: AbstractSet[str]) -> list[str]:
    """What is wrong with a shopper's redemptions in Postgres: each that was answered must be there, and each once."""
    postgres, waited_s = await asyncpg.connect(run.facts["databaseUrl"]), 0.0
    try:
        workspace, book, _ = await postgres.fetchrow(_BOOK, book_id)
        while (lost := redeemed - (found := dict(await postgres.fetch(_REDEEMED, workspace, book))).keys()) and (
            waited_s < RECORDED_S
        ):
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S
    finally:
        await postgres.close()
    twice = [code for code, times in found.items() if times > 1]
    faults = [_describe("redeemed", "not recorded", lost), _describe("redeemed", "recorded more than once", twice)]
    return [fault for fault in faults if fault]


def _changed(url: str, job_id: str) -> Iterator[tuple[str, str]]:
    """The changed codes of a job's results, each with its user; '' if the job assigns none."""
    with sent(url, f"/v1/jobs/{job_id}/results.csv") as answer:
        for row in csv.DictReader(io.TextIOWrapper(answer, "utf-8", newline="")):
            if row["result"] == "changed":
                yield row.get("user_id", ""), row["code"]


async def _records(redis: Redis, prefix: str, codes: Collection[str]) -> AsyncIterator[tuple[str, CouponRecord]]:
    """These codes with their records."""
    ordered = list(codes)
    for start in range(0, len(ordered), PAGE):
        page = ordered[start : start + PAGE]
        texts: list[Any] = await redis.mget([f"{prefix}c:{code}" for code in page])
        for code, text in zip(page, texts, strict=True):
            yield code, (text and parse_coupon_record(text.decode())) or IDLE


async def find_drift(ground: Ground) -> str:
    """What the service's own comparison of both stores finds, as a sentence; '' for nothing."""
    job, waited_s = (await ground.barrage.one("POST", "/v1/ops/reconcile", {})).body, 0.0
    while job["status"] == "running" and waited_s < PATIENCE_S:
        await asyncio.sleep(POLL_S)
        waited_s += POLL_S
        job = (await ground.barrage.one("GET", f"/v1/jobs/{job['jobId']}")).body
    if job["status"] != "done":
        return f"The comparison of both stores is {job['status']}: {job['errors']}."
    drift = (await ground.barrage.one("GET", "/v1/ops/consistency")).body["drift"]
    return f"Redis and Postgres differ: {drift}." if drift else ""


def _describe(where: str, what: str, names: Collection[str], of: str = "codes") -> str:
    return f"{len(names):,} {of} {where} are {what}, such as {next(iter(names))}." if names else ""
