"""Judges what a job has made of a book's codes: in its results, in Postgres and in Redis, each code once and alike."""

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import asyncpg
from redis.asyncio import Redis

from loadtests.ground import Ground
from loadtests.harness.running import Run
from loadtests.subject import sent
from service.formats import key_names
from service.formats.coupon_record import parse_coupon_record

PAGE = 10_000
POLL_S = 0.2
PATIENCE_S = 600.0
RECORDED_S = 60.0
_BOOK = "SELECT workspace, book, partition FROM books JOIN workspaces USING (workspace) WHERE book_id = $1"
_CODES = "SELECT code, active FROM codes WHERE workspace = $1 AND book = $2"
_REDEEMED = "SELECT code, count(*) FROM redemptions WHERE workspace = $1 AND book = $2 GROUP BY code"


async def find_faults(
    run: Run, ground: Ground, book_id: str, codes: AbstractSet[str], job_id: str, is_active: bool
) -> list[str]:
    """What is wrong after a job that has switched all of these codes: a sentence for each kind of fault."""
    seen = Counter(await asyncio.to_thread(lambda: list(_changed(run.url, job_id))))
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
        faults.append(_describe("in Redis", "not changed", await _wrong_in_redis(redis, prefix, codes, is_active)))
    finally:
        await postgres.close()
        await redis.aclose()
    stats = await ground.stats(book_id)
    counted = stats["available" if is_active else "inactive"]
    faults.append(f"Redis counts {counted:,} of {len(codes):,} codes." if counted != len(codes) else "")
    faults.append(await find_drift(ground))
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


def _changed(url: str, job_id: str) -> Iterator[str]:
    """The changed codes of a job's results."""
    with sent(url, f"/v1/jobs/{job_id}/results.csv") as answer:
        for row in csv.DictReader(io.TextIOWrapper(answer, "utf-8", newline="")):
            if row["result"] == "changed":
                yield row["code"]


async def _wrong_in_redis(redis: Redis, prefix: str, codes: Collection[str], is_active: bool) -> list[str]:
    """Codes whose record says that they are switched otherwise; a code without a record is active."""
    wrong, ordered = [], list(codes)
    for start in range(0, len(ordered), PAGE):
        page = ordered[start : start + PAGE]
        records: list[Any] = await redis.mget([f"{prefix}c:{code}" for code in page])
        for code, text in zip(page, records, strict=True):
            record = text and parse_coupon_record(text.decode())
            if (not record or record.off == "-") != is_active:
                wrong.append(code)
    return wrong


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


def _describe(where: str, what: str, codes: Collection[str]) -> str:
    return f"{len(codes):,} codes {where} are {what}, such as {next(iter(codes))}." if codes else ""
