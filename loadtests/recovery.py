"""How long the hot path is closed after a loss of Redis: `python -m loadtests.recovery`.

It starts a service of its own, fills its Postgres, and prints a table of two losses: everything (FLUSHALL), which is
rebuilt whole, and the last events (the server's files of some moments before), which are applied again. It fails where
Redis does not hold afterwards what it should."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import redis

from loadtests.ground import Ground, count, new_codes, new_id
from loadtests.heavy import measure_heavy, table
from loadtests.own import cpu_s
from loadtests.past import some_of_past, write_past
from loadtests.wire import Ask, Barrage
from tests.running import Run
from tests.servers import free_port

PATIENCE_S = 900.0
POLL_S = 0.1
BOOKS = 10
AT_ONCE = 250
LOOKED_AT = 100
KEY = "demo_admin"
PARTS = ("redis", "worker", "postgres")
STEPS = ("clear", "configure", "keys", "redo")
DISCOUNT = {"type": "percentage", "value": 20}


class Loss(NamedTuple):
    """What a recovery took: seconds from its beginning until Redis was open, of each step, and of CPU."""

    name: str
    closed_s: float
    steps_s: dict[str, float]
    cpu_s: dict[str, float]
    load: float


class Service:
    """A `scrip run` on a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.run = Run(data_dir, free_port())
        try:
            self.run.until_ready()
        except BaseException:
            self.run.process.terminate()
            raise
        self.ground = Ground(Barrage(self.run.url, KEY), AT_ONCE)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each part so far, with its children."""
        return {part: sum(cpu_s(pid) for pid in self.run.facts["pids"][part]) for part in PARTS}

    def said(self) -> list[dict[str, Any]]:
        """What its worker logged."""
        lines = (line for line in self.run.output.read_text().splitlines() if line.startswith("{"))
        return [line for line in map(json.loads, lines) if line.get("process") == "worker"]

    async def sql(self, text: str, *args: Any) -> Any:
        """One value of its Postgres."""
        connection = await asyncpg.connect(self.run.facts["databaseUrl"])
        try:
            return await connection.fetchval(text, *args)
        finally:
            await connection.close()

    async def until_recovered(self, since: datetime) -> list[dict[str, Any]]:
        """Wait until requests are decided again after an opening that began after a moment; what its worker logged."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            lines = [line for line in self.said() if _moment(line) >= since]
            if any(line["event"] == "open" for line in lines) and self.run.ready():
                return lines
            await asyncio.sleep(POLL_S)
        raise TimeoutError(f"not open after {PATIENCE_S:.0f} s")

    async def until_recorded(self, redemptions: int) -> None:
        """Wait until Postgres has so many redemptions."""
        deadline = time.monotonic() + PATIENCE_S
        while await self.sql("SELECT count(*) FROM redemptions") != redemptions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not recorded after {PATIENCE_S:.0f} s")
            await asyncio.sleep(POLL_S)

    def end(self) -> None:
        """End it in order."""
        self.ground.barrage.close()
        if self.run.process.poll() is None:
            self.run.end(signal.SIGTERM)


class Shop(NamedTuple):
    """Books by their ids, with how many codes and redemptions each has."""

    books: list[str]
    codes: int
    redemptions: int


async def fill(service: Service, codes: int, redemptions: int, keyed: int) -> Shop:
    """A past of so many codes and redemptions, in ten books."""
    began = time.monotonic()
    books = [await service.ground.book(discount=DISCOUNT) for _ in range(BOOKS)]
    told = "SELECT array_agg({}) FROM books WHERE book_id = ANY ($1::uuid[])"
    workspace = (await service.sql(told.format("workspace"), books))[0]
    numbers = await service.sql(told.format("book"), books)
    partition = await service.sql("SELECT partition FROM workspaces WHERE workspace = $1", workspace)
    url = service.run.facts["databaseUrl"]
    await write_past(url, workspace, partition, numbers, codes, redemptions, keyed)
    _say(f"{codes:,} codes and {redemptions:,} redemptions written in {time.monotonic() - began:.0f} s")
    return Shop(books, codes, redemptions)


async def lose_everything(service: Service, shop: Shop) -> Loss:
    """FLUSHALL, until it is open again."""
    cpu, since = service.cpu_s(), datetime.now(UTC)
    with redis.Redis.from_url(service.run.facts["redisUrl"]) as client:
        client.flushall()
    lines = await service.until_recovered(since)
    loss = _loss("everything", since, lines, cpu, service.cpu_s())
    await _check(service, shop)
    return loss


async def lose_tail(service: Service, tail: int, shop: Shop) -> tuple[Loss, Service]:
    """So many redemptions, and then the Redis of before them; the service that was started on it."""
    codes = new_codes(tail)
    book = await service.ground.book(codes, discount=DISCOUNT)
    files, kept = service.run.data_dir / "valkey", service.run.data_dir.with_name("kept")
    await _at_rest(service)
    shutil.copytree(files, kept)
    for start in range(0, tail, AT_ONCE):
        answers = await service.ground.barrage.fire([_redeem(code) for code in codes[start : start + AT_ONCE]])
        assert all(answer.status == 201 for answer in answers), count(answers)
    await service.until_recorded(shop.redemptions + tail)
    service.end()
    shutil.rmtree(files)
    kept.rename(files)
    since = datetime.now(UTC)
    service = Service(service.run.data_dir)
    lines = await service.until_recovered(since)
    began = next(_moment(line) for line in lines if line["event"] == "opening")
    # The processes are new: all of their CPU but what starting took.
    loss = _loss(f"the last {tail:,}", began, lines, {}, service.cpu_s())
    stats = await service.ground.stats(book)
    assert (stats["codes"], stats["redeemed"], stats["available"]) == (tail, tail, 0), stats
    await _check(service, shop)
    return loss, service


async def _at_rest(service: Service) -> None:
    """Wait until Redis isn't writing its files anew: a copy of them then is a prefix of what they will be."""
    with redis.Redis.from_url(service.run.facts["redisUrl"]) as client:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            info: dict[str, Any] = client.info("persistence")  # type: ignore[assignment]
            if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(POLL_S)
    raise TimeoutError(f"Redis writes its files for longer than {PATIENCE_S:.0f} s")


def _redeem(code: str) -> Ask:
    body = {"userId": new_id(), "orderId": new_id(), "orderValue": 100}
    return Ask("POST", f"/v1/coupons/redeem/{code}", body, new_id())


async def _check(service: Service, shop: Shop) -> None:
    """Every book's counts, and some coupons, are what they were."""
    stats = [await service.ground.stats(book) for book in shop.books]
    counted = {name: sum(each[name] for each in stats) for name in ("codes", "redeemed", "redemptions", "available")}
    left = shop.codes - shop.redemptions
    wanted = {"codes": shop.codes, "redeemed": shop.redemptions, "redemptions": shop.redemptions, "available": left}
    assert counted == wanted, (counted, wanted)
    for code, user in await some_of_past(service.run.facts["databaseUrl"], LOOKED_AT):
        coupon = await service.ground.coupon(code)
        assert (coupon["status"], coupon["lastRedemption"]["userId"]) == ("redeemed", user), coupon


def _loss(
    name: str,
    since: datetime,
    lines: list[dict[str, Any]],
    before: dict[str, float],
    after: dict[str, float],
) -> Loss:
    steps: dict[str, float] = {}
    for line in lines:
        if line["event"] == "mended":
            steps[line["step"]] = steps.get(line["step"], 0.0) + line["took_s"]
    spent = {part: after[part] - before.get(part, 0.0) for part in PARTS}
    return Loss(name, (datetime.now(UTC) - since).total_seconds(), steps, spent, os.getloadavg()[0])


def _moment(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


def _table(losses: list[Loss]) -> str:
    heads = ["lost", "closed", *STEPS, *(f"CPU of {part}" for part in PARTS), "load"]
    lines = [heads, ["---"] * len(heads)]
    for loss in losses:
        steps = [f"{loss.steps_s[step]:.1f} s" if step in loss.steps_s else "" for step in STEPS]
        cpu = [f"{loss.cpu_s[part]:.1f} s" for part in PARTS]
        lines.append([loss.name, f"{loss.closed_s:.1f} s", *steps, *cpu, f"{loss.load:.1f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(folder: Path, codes: int, redemptions: int, keyed: int, tail: int) -> list[Loss]:
    """Both losses, one after the other, on one service."""
    service = Service(folder / "data")
    try:
        shop = await fill(service, codes, redemptions, keyed)
        losses = [await lose_everything(service, shop)]
        _say(_table(losses))
        if tail:
            loss, service = await lose_tail(service, tail, shop)
            losses.append(loss)
        return losses
    finally:
        service.end()


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--redemptions", type=int, help="of as many codes; all where not given")
    options.add_argument("--keyed", type=int, default=1, metavar="N", help="every Nth has an Idempotency-Key")
    options.add_argument("--tail", type=int, default=10_000, help="0 for none")
    options.add_argument("--heavy", action="store_true", help="of what is large, one after the other, instead")
    chosen = options.parse_args()
    redemptions = chosen.codes if chosen.redemptions is None else chosen.redemptions
    os.environ["SCRIP_LOG_FORMAT"] = "json"
    with tempfile.TemporaryDirectory(prefix="scrip-recovery-", ignore_cleanup_errors=True) as folder:
        if chosen.heavy:
            print(table(asyncio.run(measure_heavy(Service, Path(folder) / "data"))))
            return
        losses = asyncio.run(measure(Path(folder), chosen.codes, redemptions, chosen.keyed, chosen.tail))
    print(_table(losses))


if __name__ == "__main__":
    main()
