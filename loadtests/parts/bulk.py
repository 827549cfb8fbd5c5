"""What bulk work costs, and what shoppers notice of it.

A service of its own generates, takes in, changes and exports codes, a million each, and runs batches, while one shopper
redeems at a steady rate. Of each: how long it took, CPU for each code and in all, the first and the most memory by
process, and the latencies of a shopper's redeems during it, each counted from when it was due. It fails where a count
is not what it should be, or a redeem that was answered is not recorded once."""

import argparse
import asyncio
import multiprocessing
import os
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Iterable
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

from loadtests.figures import BenchRow, latency_ms, say, table
from loadtests.generator import Histogram
from loadtests.own import Meter, own_service
from loadtests.subject import redeem, sent, target_of, upload
from loadtests.target import new_codes
from loadtests.watch import Watch, of_processes
from tests.harness.running import Run

WORKS = ("generate", "upload", "change", "export", "batch")
WEIGHED = ("api", "worker", "redis")
"""Whose memory is shown: Postgres's processes share most of theirs."""
POLL_S = 0.1
PATIENCE_S = 900.0
QUIET_S = 5.0
PIECE_BYTES = 1 << 16
AT_ONCE = 50
CONNECTIONS = 10
SINGLES = 10_000
BATCHES = 20
BATCH = 1_000


class Step(NamedTuple):
    """What one piece of bulk work took, and when it was (time.monotonic)."""

    name: str
    rows: int
    began: float
    ended: float
    cpu_s: dict[str, float]
    memory: str
    machine_load: float

    def row(self, latencies: Iterable[tuple[float, float]]) -> BenchRow:
        """With the shopper's latencies (when it was due, ms) of its time."""
        took_s = self.ended - self.began
        each = Histogram.of(Counter(round(ms * 1000) for due, ms in latencies if self.began <= due < self.ended))
        redeems = f"{each.count:,} redeems, the longest {each.max / 1000:.0f} ms"
        cpu = ", ".join(f"{part} {spent:.2f} s" for part, spent in self.cpu_s.items())
        return BenchRow(
            part="bulk",
            what=f"bulk: {self.name}",
            unit="codes",
            a_second=self.rows / took_s,
            codes=self.rows,
            latency_ms=latency_ms(each) if each.count else {},
            request_us={part: spent / self.rows * 1e6 for part, spent in self.cpu_s.items()} if self.rows else {},
            machine_load=self.machine_load,
            note=f"{took_s:.1f} s; CPU {cpu}; {self.memory}; {redeems}",
        )


class Steady:
    """A shopper who redeems so many codes a second, in a process of its own, within a `with`."""

    def __init__(self, url: str, codes: list[str], rate: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_redeem_steadily, args=(url, codes, rate, theirs))
        self.latencies: list[tuple[float, float]] = []
        """In the end: when each was due, and ms."""
        self.redeemed: list[str] = []
        """In the end: the codes whose redeems were answered."""

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._process.is_alive():
            raise RuntimeError("the shopper's redeem failed, or there are no more codes")
        self._pipe.send("end")
        self.latencies, self.redeemed = self._pipe.recv()
        self._process.join()


def _redeem_steadily(url: str, codes: list[str], rate: float, pipe: Connection) -> None:
    pipe.send(asyncio.run(_until_ended(url, codes, rate, pipe)))


async def _until_ended(
    url: str, codes: list[str], rate: float, pipe: Connection
) -> tuple[list[tuple[float, float]], list[str]]:
    """Redeem on some connections in turn, so that a slow one doesn't make the next late."""
    began, latencies, redeemed = time.monotonic(), list[tuple[float, float]](), list[str]()

    async def redeem_each(place: int) -> None:
        barrage = target_of(url).barrage
        for number in range(place, len(codes), CONNECTIONS):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (answer,) = await barrage.fire([redeem(codes[number])])
            assert answer.status == 201, answer
            latencies.append((due, (time.monotonic() - due) * 1000))
            redeemed.append(codes[number])

    redeeming = [asyncio.create_task(redeem_each(place)) for place in range(CONNECTIONS)]
    while not pipe.poll():
        await asyncio.sleep(POLL_S)
        assert not any(task.done() for task in redeeming), "a redeem failed, or there are no more codes"
    for task in redeeming:
        task.cancel()
    await asyncio.gather(*redeeming, return_exceptions=True)
    return latencies, redeemed


class Bulk:
    """A service, and the steps so far."""

    def __init__(self, run: Run) -> None:
        self._run, self.target = run, target_of(run.url, AT_ONCE)
        self.steps: list[Step] = []

    async def step(self, name: str, rows: int, work: Awaitable[object]) -> None:
        """Measure one piece of work."""
        pids = self._run.facts["pids"]
        meter, began = Meter(self._run), time.monotonic()
        with Watch(of_processes({part: pids[part] for part in WEIGHED})) as memory:
            await work
        ended = time.monotonic()
        weighed = ", ".join(f"{part} {memory.first(part):.0f} to {memory.most(part):.0f} MiB" for part in WEIGHED)
        self.steps.append(Step(name, rows, began, ended, meter.spent_s(), weighed, os.getloadavg()[0]))
        say(f"{name}: {ended - began:.1f} s")

    async def generate(self, book: str, codes: int) -> None:
        """Have codes made, until the job is done and Redis has them."""
        job = await self.target.run_job(f"/v1/books/{book}/codes/generate", {"count": codes})
        stats = await self.target.stats(book)
        assert (job["status"], stats["available"]) == ("done", codes), (job, stats)

    async def change(self, book: str, codes: int, action: str) -> None:
        """Have all codes of a book changed by one job, until it is done and Redis has the changes."""
        job = await self.target.run_job(f"/v1/books/{book}/codes/change", {"action": action})
        assert (job["status"], job["done"], job["change"]["changed"]) == ("done", codes, codes), job
        stats = await self.target.stats(book)
        assert stats[("available", "inactive")[action == "switchOff"]] == codes, stats

    def export(self, book: str, rows: int) -> None:
        """Read all of a book's codes."""
        lines = 0
        with sent(self._run.url, f"/v1/books/{book}/codes.csv") as answer:
            while piece := answer.read(PIECE_BYTES):
                lines += piece.count(b"\n")
        assert lines == rows + 1, (lines, rows)

    async def singles(self, codes: list[str], mark: str) -> None:
        """Redeem one by one, on some connections at once."""
        for some in _parts(codes, AT_ONCE):
            answers = await self.target.barrage.fire([redeem(code, mark=mark) for code in some])
            assert all(answer.status == 201 for answer in answers), answers

    async def batches(self, codes: list[str]) -> None:
        for some in _parts(codes, BATCH):
            operations = [{"op": "redeem", "code": code, **(redeem(code).body or {})} for code in some]
            answer = await self.target.barrage.one("POST", "/v1/batch", {"operations": operations})
            assert all(result["status"] == 201 for result in answer.body["results"]), answer.body

    async def go(self, codes: int, works: Collection[str]) -> None:
        """Each piece of work, one after the other."""
        await self.step("nothing", 0, asyncio.sleep(QUIET_S))
        generated, uploaded = await self.target.book(), await self.target.book()
        if "generate" in works:
            await self.step("generate", codes, self.generate(generated, codes))
        mark = secrets.token_hex(3).upper()
        lines = [f"{mark}-{number:07}-{number * 7919 % 1_000_003:06}" for number in range(codes)]
        if "upload" in works:
            await self.step("upload", codes, asyncio.to_thread(upload, self._run.url, uploaded, lines))
        if "change" in works and "upload" in works:
            for action in ("switchOff", "switchOn"):
                await self.step(f"change, {action}", codes, self.change(uploaded, codes, action))
        if "export" in works and "upload" in works:
            await self.step("export", codes, asyncio.to_thread(self.export, uploaded, codes))
        if "batch" in works:
            rest = new_codes(SINGLES * 2 + BATCHES * BATCH)
            await self.target.book(rest)
            await self.step("redeem", SINGLES, self.singles(rest[:SINGLES], ""))
            # An empty query is nothing that the fast lane takes.
            await self.step("redeem through Litestar", SINGLES, self.singles(rest[SINGLES : SINGLES * 2], "?"))
            await self.step("redeem in batches", BATCHES * BATCH, self.batches(rest[SINGLES * 2 :]))
        self.target.barrage.close()


def _parts(codes: list[str], size: int) -> Iterable[list[str]]:
    return (codes[start : start + size] for start in range(0, len(codes), size))


def measure(codes: int, rate: float, works: Collection[str]) -> list[BenchRow]:
    """A row for each piece of work, on a service of its own with a shopper of this rate."""
    with own_service() as service:
        bulk, shopped = Bulk(service), new_codes(int(rate * PATIENCE_S))
        book = asyncio.run(target_of(service.url).book(shopped))
        with Steady(service.url, shopped, rate) as steady:
            asyncio.run(bulk.go(codes, works))
        listed = asyncio.run(target_of(service.url).listed(f"/v1/books/{book}/redemptions"))
        recorded = Counter(item["code"] for item in listed)
        assert all(recorded[code] == 1 for code in steady.redeemed), "a redeem is not recorded, or twice"
        return [step.row(steady.latencies) for step in bulk.steps]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--rate", type=float, default=50.0, help="redeems a second meanwhile")
    options.add_argument("--only", nargs="+", choices=WORKS, default=WORKS, help="default: all")


def run(chosen: argparse.Namespace) -> None:
    print(table(measure(chosen.codes, chosen.rate, chosen.only)))
