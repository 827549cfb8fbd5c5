"""What bulk work costs, and what shoppers notice of it: `python -m loadtests.bulk`.

It starts a service of its own and lets it generate, take in and export codes, a million each, and run batches, while
one shopper redeems at a steady rate. It prints a table: how long each took, CPU by process, the most memory by process,
and the latencies of the redeems meanwhile, each counted from when it was due. It fails where a count is not what it
should be."""

import argparse
import asyncio
import json
import multiprocessing
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from loadtests.ground import Ground, new_codes, new_id
from loadtests.own import cpu_s, own_service
from loadtests.watch import of_processes
from loadtests.wire import Ask, Barrage
from tests.running import Run

KEY = "demo_admin"
PARTS = ("api", "worker", "redis", "postgres")
WEIGHED = ("api", "worker", "redis")
"""Whose memory is shown: Postgres's processes share most of theirs."""
SAMPLE_S = 0.1
POLL_S = 0.1
PATIENCE_S = 900.0
PIECE_BYTES = 1 << 16
AT_ONCE = 50
CONNECTIONS = 10
SINGLES = 10_000
BATCHES = 20
BATCH = 1_000


class Step(NamedTuple):
    """What one piece of bulk work took."""

    name: str
    took_s: float
    rows: int
    cpu_s: dict[str, float]
    first_mib: dict[str, float]
    most_mib: dict[str, float]
    latencies_ms: list[float]
    load: float


@dataclass
class Steady:
    """A shopper who redeems so many codes a second, in a process of its own."""

    url: str
    codes: list[str]
    rate: float
    _told: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> Self:
        ours, theirs = multiprocessing.Pipe()
        self._pipe: Connection = ours
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_redeem_steadily, args=(self.url, self.codes, self.rate, theirs))
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._collect_until("ended")
        self._process.join()

    def latencies_ms(self, began: float, ended: float) -> list[float]:
        """Of those that were due between two moments of time.monotonic()."""
        self._pipe.send("told")
        self._collect_until("told")
        return sorted(ms for due, ms in self._told if began <= due < ended)

    def _collect_until(self, word: str) -> None:
        while (said := self._pipe.recv()) != word:
            self._told += said


def _redeem_steadily(url: str, codes: list[str], rate: float, pipe: Connection) -> None:
    asyncio.run(_Shopper(url, codes, rate).redeem_until_ended(pipe))


class _Shopper:
    """Redeems on some connections in turn, so that a slow one doesn't make the next late."""

    def __init__(self, url: str, codes: list[str], rate: float) -> None:
        self._url, self._codes, self._rate = url, codes, rate
        self._told: list[tuple[float, float]] = []
        self._began = 0.0

    async def redeem_until_ended(self, pipe: Connection) -> None:
        """Redeem; say what was seen whenever that is asked."""
        self._began = time.monotonic()
        redeeming = [asyncio.create_task(self._redeem_each(place)) for place in range(CONNECTIONS)]
        word = ""
        while word != "end":
            await asyncio.sleep(POLL_S)
            assert not any(task.done() for task in redeeming), "a redeem failed, or there are no more codes"
            if pipe.poll():
                word = pipe.recv()
                pipe.send(self._told)
                self._told = []
                pipe.send("ended" if word == "end" else word)
        for task in redeeming:
            task.cancel()
        await asyncio.gather(*redeeming, return_exceptions=True)

    async def _redeem_each(self, place: int) -> None:
        barrage = Barrage(self._url, KEY)
        for number in range(place, len(self._codes), CONNECTIONS):
            due = self._began + number / self._rate
            if (early_s := due - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            (answer,) = await barrage.fire([_redeem(self._codes[number])])
            assert answer.status == 201, answer
            self._told.append((due, (time.monotonic() - due) * 1000))


class Memory(threading.Thread):
    """The first and the most memory of each process, until it is stopped."""

    def __init__(self, pids: dict[str, list[int]]) -> None:
        super().__init__(daemon=True)
        self._read, self._ended = of_processes({part: pids[part] for part in WEIGHED}), threading.Event()
        self.first = self._read()
        self.most = dict(self.first)

    def run(self) -> None:
        """Sample."""
        while not self._ended.wait(SAMPLE_S):
            for part, mib in self._read().items():
                self.most[part] = max(self.most[part], mib)

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self.join()


class Bench:
    """A service, its steady shopper, and the steps so far."""

    def __init__(self, run: Run, steady: Steady) -> None:
        self._run, self._steady = run, steady
        self.ground = Ground(Barrage(run.url, KEY), AT_ONCE)
        self.steps: list[Step] = []

    async def step(self, name: str, rows: int, work: Awaitable[None]) -> None:
        """Measure one piece of work."""
        pids = self._run.facts["pids"]
        memory, before, began = Memory(pids), _cpu_s(pids), time.monotonic()
        memory.start()
        try:
            await work
        finally:
            memory.stop()
        ended, after = time.monotonic(), _cpu_s(pids)
        spent = {part: after[part] - before[part] for part in PARTS}
        latencies_ms = self._steady.latencies_ms(began, ended)
        shown = Step(name, ended - began, rows, spent, memory.first, memory.most, latencies_ms, os.getloadavg()[0])
        self.steps.append(shown)
        print(_line(shown), file=sys.stderr, flush=True)

    async def generate(self, book: str, codes: int) -> None:
        """Have codes made, until the job is done and Redis has them."""
        made = await self.ground.barrage.one("POST", f"/v1/books/{book}/codes/generate", {"count": codes})
        deadline = time.monotonic() + PATIENCE_S
        job = made.body
        while job["status"] == "running":
            assert time.monotonic() < deadline, job
            await asyncio.sleep(POLL_S)
            job = (await self.ground.barrage.one("GET", f"/v1/jobs/{job['jobId']}")).body
        stats = await self.ground.stats(book)
        assert (job["status"], stats["available"]) == ("done", codes), (job, stats)

    async def upload(self, book: str, codes: list[str]) -> None:
        """Send codes as CSV."""
        body = "".join(["code\r\n", *(f"{code}\r\n" for code in codes)]).encode()
        answer = await _sent(self._run.url, f"/v1/books/{book}/codes", body)
        told = json.loads(answer)
        assert (told["added"], told["duplicates"], told["invalid"]) == (len(codes), 0, 0), told

    async def export(self, book: str, rows: int) -> None:
        """Read all of a book's codes."""
        lines = 0
        async for piece in _received(self._run.url, f"/v1/books/{book}/codes.csv"):
            lines += piece.count(b"\r\n")
        assert lines == rows + 1, (lines, rows)

    async def singles(self, codes: list[str], mark: str) -> None:
        """Redeem one by one, on some connections at once."""
        for some in _parts(codes, AT_ONCE):
            answers = await self.ground.barrage.fire([_redeem(code, mark) for code in some])
            assert all(answer.status == 201 for answer in answers), answers

    async def batches(self, codes: list[str]) -> None:
        """Redeem in batches."""
        for some in _parts(codes, BATCH):
            operations = [{"op": "redeem", "code": code, **_redeem(code).body} for code in some]  # type: ignore[dict-item]
            answer = await self.ground.barrage.one("POST", "/v1/batch", {"operations": operations})
            assert all(result["status"] == 201 for result in answer.body["results"]), answer.body


def _redeem(code: str, mark: str = "") -> Ask:
    return Ask("POST", f"/v1/coupons/redeem/{code}{mark}", {"userId": new_id(), "orderId": new_id()})


def _parts(codes: list[str], size: int) -> Iterable[list[str]]:
    return (codes[start : start + size] for start in range(0, len(codes), size))


def _cpu_s(pids: dict[str, list[int]]) -> dict[str, float]:
    return {part: sum(map(cpu_s, pids[part])) for part in PARTS}


async def _asked(url: str, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=PIECE_BYTES * 4)
    common = f"Host: {where.hostname}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    writer.write(f"{head}\r\n{common}".encode())
    return reader, writer


async def _sent(url: str, path: str, body: bytes) -> bytes:
    """The answer's body to an upload, sent as fast as it is taken."""
    reader, writer = await _asked(url, f"POST {path} HTTP/1.1")
    writer.write(f"Content-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    for start in range(0, len(body), PIECE_BYTES):
        writer.write(body[start : start + PIECE_BYTES])
        await writer.drain()
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head + answer
    writer.close()
    return answer


async def _received(url: str, path: str) -> AsyncIterator[bytes]:
    """An answer's body in pieces that are lines of its rows, and of its framing, which end alike."""
    reader, writer = await _asked(url, f"GET {path} HTTP/1.1")
    writer.write(b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert b"chunked" in head.lower(), head
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    writer.close()


def _quantile(latencies_ms: list[float], share: float) -> str:
    return f"{latencies_ms[min(int(len(latencies_ms) * share), len(latencies_ms) - 1)]:.0f}" if latencies_ms else "-"


_HEADS = (
    "work", "rows", "s", *(f"CPU {part} s" for part in PARTS), *(f"MiB {part}" for part in WEIGHED), "redeems",
    "p50 ms", "p99 ms", "max ms", "load",
)  # fmt: skip


def _line(step: Step) -> str:
    cells = [step.name, f"{step.rows:,}", f"{step.took_s:.1f}", *(f"{step.cpu_s[part]:.2f}" for part in PARTS)]
    cells += [f"{step.first_mib[part]:.0f}→{step.most_mib[part]:.0f}" for part in WEIGHED]
    cells += [f"{len(step.latencies_ms):,}", *(_quantile(step.latencies_ms, share) for share in (0.5, 0.99, 1))]
    return f"| {' | '.join([*cells, f'{step.load:.1f}'])} |"


def _table(steps: list[Step]) -> str:
    return "\n".join([f"| {' | '.join(_HEADS)} |", f"|{' --- |' * len(_HEADS)}", *map(_line, steps)])


def _a_redeem(steps: list[Step]) -> Iterator[str]:
    """API CPU of a redeem by each way there is."""
    for step in steps:
        if step.name.startswith("redeem"):
            yield f"{step.name}: {step.cpu_s['api'] / step.rows * 1e6:.1f} µs of the API's CPU each"


@contextmanager
def bench(rate: float) -> Iterator[Bench]:
    """A service and its steady shopper, for as long as it takes."""
    with own_service() as run:
        barrage = Barrage(run.url, KEY)
        codes = new_codes(int(rate * PATIENCE_S))

        async def stock() -> None:
            ground = Ground(barrage, AT_ONCE)
            book = await ground.book()
            for some in _parts(codes, 20_000):
                await ground.add(book, some)
            barrage.close()

        asyncio.run(stock())
        with Steady(run.url, codes, rate) as steady:
            yield Bench(run, steady)


async def measure(on: Bench, codes: int, only: set[str]) -> None:
    """Each piece of work, one after the other."""
    ground = on.ground
    await on.step("nothing", 0, asyncio.sleep(5))
    generated, uploaded = await ground.book(), await ground.book()
    mark = secrets.token_hex(3).upper()
    lines = [f"{mark}-{number:07}-{number * 7919 % 1_000_003:06}" for number in range(codes)]
    if "generate" in only:
        await on.step("generate", codes, on.generate(generated, codes))
    if "upload" in only:
        await on.step("upload", codes, on.upload(uploaded, lines))
    if "export" in only and "upload" in only:
        await on.step("export", codes, on.export(uploaded, codes))
    if "batch" in only:
        rest = new_codes(SINGLES * 2 + BATCHES * BATCH)
        for some in _parts(rest, 20_000):
            await ground.add(await ground.book(), some)
        await on.step("redeem", SINGLES, on.singles(rest[:SINGLES], ""))
        # An empty query is nothing that the fast lane takes.
        await on.step("redeem through Litestar", SINGLES, on.singles(rest[SINGLES : SINGLES * 2], "?"))
        await on.step("redeem in batches", BATCHES * BATCH, on.batches(rest[SINGLES * 2 :]))
    ground.barrage.close()


def main() -> None:
    """The command."""
    works = ("generate", "upload", "export", "batch")
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--rate", type=float, default=50.0, help="redeems a second meanwhile")
    options.add_argument("--only", nargs="+", choices=works, default=works)
    chosen = options.parse_args()
    with bench(chosen.rate) as on:
        asyncio.run(measure(on, chosen.codes, set(chosen.only)))
    print(_table(on.steps), *_a_redeem(on.steps), sep="\n")


if __name__ == "__main__":
    main()
