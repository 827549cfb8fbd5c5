"""How long the hot path is closed after a loss of Redis.

A service of its own with a full Postgres has two losses: everything (FLUSHALL), which is rebuilt whole, and the last
events (the server's files of some moments before), which are applied again. It fails where Redis does not hold
afterwards what it should."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.figures import markdown, say
from loadtests.own import Meter, cpu_s, running
from loadtests.parts.past import some_of_past, write_past
from loadtests.subject import Subject, opened, redeem
from loadtests.target import count, new_codes, new_id
from tests.harness.running import Run

PATIENCE_S, POLL_S = 900.0, 0.1
BOOKS = 10
AT_ONCE = 250
LOOKED_AT = 100
STEPS = ("clear", "configure", "keys", "redo")
PARTS = ("redis", "worker", "postgres")
HEADS = ("lost", "closed", *STEPS, *(f"CPU of {part}" for part in PARTS), "load")
DISCOUNT = {"type": "percentage", "value": 20}
_NUMBERS = """
SELECT workspace, array_agg(book) AS books, min(partition) AS partition FROM books JOIN workspaces USING (workspace)
WHERE book_id = ANY ($1::uuid[]) GROUP BY workspace
"""


class FilledShop(NamedTuple):
    """Books by their ids, with how many codes and redemptions all have."""

    books: list[str]
    codes: int
    redemptions: int


async def fill(on: Subject, codes: int, redemptions: int, keyed: int) -> FilledShop:
    """A past of so many codes and redemptions, in ten books."""
    began = time.monotonic()
    ids = [await on.target.book(discount=DISCOUNT) for _ in range(BOOKS)]
    workspace, books, partition = await on.postgres.fetchrow(_NUMBERS, ids)  # type: ignore[misc]
    await write_past(on.postgres, workspace, partition, books, codes, redemptions, keyed)
    say(f"{codes:,} codes and {redemptions:,} redemptions written in {time.monotonic() - began:.0f} s")
    return FilledShop(ids, codes, redemptions)


async def lose_everything(on: Subject, shop: FilledShop) -> list[str]:
    """FLUSHALL, until it is open again."""
    meter, since = Meter(on.run), datetime.now(UTC)
    await on.redis.flushall()
    lines = await _until_recovered(on.run, since)
    line = _line("everything", since, lines, meter.spent_s())
    await _check(on, shop)
    return line


async def redeem_tail(on: Subject, tail: int, shop: FilledShop) -> str:
    """So many redemptions; then the service is ended and Redis's files are those of before. Their book."""
    codes = new_codes(tail)
    book = await on.target.book(codes, discount=DISCOUNT)
    files, kept = on.run.data_dir / "valkey", on.run.data_dir.with_name("kept")
    await _at_rest(on)
    shutil.copytree(files, kept)
    for start in range(0, tail, AT_ONCE):
        asks = [redeem(code, new_id(), orderValue=100) for code in codes[start : start + AT_ONCE]]
        answers = await on.target.barrage.fire(asks)
        assert all(answer.status == 201 for answer in answers), count(answers)
    await on.caught_up()
    recorded = await on.postgres.fetchval("SELECT count(*) FROM redemptions")
    assert recorded == shop.redemptions + tail, recorded
    on.run.end(signal.SIGTERM)
    shutil.rmtree(files)
    kept.rename(files)
    return book


async def recover_tail(since: datetime, on: Subject, tail: int, shop: FilledShop, book: str) -> list[str]:
    """Until a service that was started at that moment is open."""
    lines = await _until_recovered(on.run, since)
    began = next(_moment(line) for line in lines if line["event"] == "partition_opening")
    # The processes are new: all of their CPU but what starting took.
    line = _line(f"the last {tail:,}", began, lines, cpu_s(on.run))
    stats = await on.target.stats(book)
    assert (stats["codes"], stats["redeemed"], stats["available"]) == (tail, tail, 0), stats
    await _check(on, shop)
    return line


async def _until_recovered(run: Run, since: datetime) -> list[dict[str, Any]]:
    """Wait until requests are decided again after an opening later than a moment; what the worker logged since then."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        logged = [json.loads(line) for line in run.output.read_text().splitlines() if line.startswith("{")]
        lines = [line for line in logged if line.get("process") == "worker" and _moment(line) >= since]
        if any(line["event"] == "partition_opened" for line in lines) and run.ready():
            return lines
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"not open after {PATIENCE_S:.0f} s")


def _moment(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


async def _at_rest(on: Subject) -> None:
    """Wait until Redis isn't rewriting its files: then a copy of them is a prefix of the later files."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        info = await on.redis.info("persistence")
        if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
            return
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"Redis writes its files for longer than {PATIENCE_S:.0f} s")


async def _check(on: Subject, shop: FilledShop) -> None:
    """Every book's counts, and some coupons, are what they were."""
    stats = [await on.target.stats(book) for book in shop.books]
    counted = {name: sum(each[name] for each in stats) for name in ("codes", "redeemed", "redemptions", "available")}
    left = shop.codes - shop.redemptions
    wanted = {"codes": shop.codes, "redeemed": shop.redemptions, "redemptions": shop.redemptions, "available": left}
    assert counted == wanted, (counted, wanted)
    for code, user in await some_of_past(on.postgres, LOOKED_AT):
        coupon = await on.target.coupon(code)
        assert (coupon["status"], coupon["lastRedemption"]["userId"]) == ("redeemed", user), coupon


def _line(name: str, since: datetime, lines: list[dict[str, Any]], spent_s: dict[str, float]) -> list[str]:
    """A line of the table: seconds from the beginning until Redis was open, of each step, and of CPU."""
    closed_s = (datetime.now(UTC) - since).total_seconds()
    taken = {step: [each["took_s"] for each in lines if each.get("step") == step] for step in STEPS}
    steps = [f"{sum(those):.1f} s" if those else "" for those in taken.values()]
    say(f"{name}: closed for {closed_s:.1f} s")
    cpu = [f"{spent_s[part]:.1f} s" for part in PARTS]
    return [name, f"{closed_s:.1f} s", *steps, *cpu, f"{os.getloadavg()[0]:.1f}"]


async def measure(folder: Path, chosen: argparse.Namespace) -> list[list[str]]:
    """Both losses, one after the other, on one service."""
    redemptions = chosen.codes if chosen.redemptions is None else chosen.redemptions
    with running(folder) as run:
        async with opened(run) as on:
            shop = await fill(on, chosen.codes, redemptions, chosen.keyed)
            lines = [await lose_everything(on, shop)]
            if not chosen.tail:
                return lines
            book = await redeem_tail(on, chosen.tail, shop)
    since = datetime.now(UTC)
    with running(folder) as run:
        async with opened(run) as on:
            return [*lines, await recover_tail(since, on, chosen.tail, shop, book)]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--redemptions", type=int, help="of as many codes; all where not given")
    options.add_argument("--keyed", type=int, default=1, metavar="N", help="every Nth has an Idempotency-Key")
    options.add_argument("--tail", type=int, default=10_000, help="0 for none")


def run(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="scrip-recovery-", ignore_cleanup_errors=True) as folder:
        print(markdown(HEADS, asyncio.run(measure(Path(folder) / "data", chosen))))
