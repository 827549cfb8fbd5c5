"""What bulk work costs, and what shoppers notice of it.

A service of its own generates, takes in, changes and exports codes, a million each, and runs batches, while one shopper
redeems at a steady rate. Of each: how long it took, CPU for each code and in all, the first and the most memory by
process, and the latencies of the shopper's redeems meanwhile, each counted from when it was due. It fails where a count
is not what it should be.

With --kill the worker and the API are killed once each while the codes are switched on again, and several times while
jobs assign codes to users. The shopper repeats what was not answered. In the end each code must be as the jobs left it,
in both stores and once in their results, each user must have one code, and each redemption must be recorded once;
otherwise the exit code is 1."""

import argparse
import asyncio
import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Collection, Iterable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self
from uuid import uuid4

from loadtests.changed import find_assignment_faults, find_faults, find_lost_redemptions
from loadtests.figures import Row, percentiles, say, table
from loadtests.ground import new_codes, new_id
from loadtests.own import Meter, own_service
from loadtests.subject import ground_of, redeem, sent, upload
from loadtests.watch import Watch, of_processes
from loadtests.wire import ERRORS, Answer, Ask, Barrage
from tests.harness.running import Run

WORKS = ("generate", "upload", "change", "export", "batch")
WEIGHED = ("api", "worker", "redis")
"""Whose memory is shown: Postgres's processes share most of theirs."""
POLL_S = 0.1
PATIENCE_S = 900.0
KILLED_S = 60.0
"""How long a killed process may be away."""
QUIET_S, QUIET_BEFORE_KILLS_S = 5.0, 20.0
PIECE_BYTES = 1 << 16
AT_ONCE = 50
CONNECTIONS = 10
SINGLES = 10_000
BATCHES = 20
BATCH = 1_000
USERS, ASSIGN_JOBS = 1_000, 12
"""Users of a job that assigns codes, and how many such jobs are ordered at once."""
KILLED_ASSIGNING = ("worker", "api", "worker", "worker")
ASSIGNING_POLL_S = 0.01
"""A job assigns its codes in some tenths of a second."""


class Step(NamedTuple):
    """What one piece of bulk work took, and when it was (time.monotonic)."""

    name: str
    rows: int
    began: float
    ended: float
    cpu_s: dict[str, float]
    memory: str
    machine_load: float

    def row(self, latencies: Iterable[tuple[float, float]]) -> Row:
        """With the shopper's latencies (when it was due, ms) of its time."""
        took_s, each = self.ended - self.began, sorted(ms for due, ms in latencies if self.began <= due < self.ended)
        latency_ms = percentiles(each)
        redeems = f"{len(each):,} redeems, the longest {latency_ms.get('max', 0):.0f} ms"
        cpu = ", ".join(f"{part} {spent:.2f} s" for part, spent in self.cpu_s.items())
        return Row(
            part="bulk",
            what=f"bulk: {self.name}",
            unit="codes",
            a_second=self.rows / took_s,
            codes=self.rows,
            latency_ms=latency_ms,
            request_us={part: spent / self.rows * 1e6 for part, spent in self.cpu_s.items()} if self.rows else {},
            machine_load=self.machine_load,
            note=f"{took_s:.1f} s; CPU {cpu}; {self.memory}; {redeems}",
        )


class Steady:
    """A shopper who redeems so many codes a second, in a process of its own, within a `with`. With `repeats` each
    redeem is repeated until it is answered."""

    def __init__(self, url: str, codes: list[str], rate: float, repeats: bool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_redeem_steadily, args=(url, codes, rate, repeats, theirs))
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


def _redeem_steadily(url: str, codes: list[str], rate: float, repeats: bool, pipe: Connection) -> None:
    pipe.send(asyncio.run(_until_ended(url, codes, rate, repeats, pipe)))


async def _until_ended(
    url: str, codes: list[str], rate: float, repeats: bool, pipe: Connection
) -> tuple[list[tuple[float, float]], list[str]]:
    """Redeem on some connections in turn, so that a slow one doesn't make the next late."""
    began, latencies, redeemed = time.monotonic(), list[tuple[float, float]](), list[str]()

    async def redeem_each(place: int) -> None:
        barrage = ground_of(url).barrage
        for number in range(place, len(codes), CONNECTIONS):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if repeats:
                answer = await _until_answered(barrage, redeem(codes[number], uuid4().hex))
            else:
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


async def _until_answered(barrage: Barrage, ask: Ask) -> Answer:
    """Repeat a request while connections break or the service is unavailable, as a client with a key does."""
    deadline = time.monotonic() + KILLED_S
    while True:
        try:
            answer = await barrage.ask(ask)
            if answer.status != 503 or time.monotonic() > deadline:
                return answer
        except ERRORS:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_S)


class Bulk:
    """A service, and the steps so far."""

    def __init__(self, run: Run) -> None:
        self._run, self.ground = run, ground_of(run.url, AT_ONCE)
        self.steps: list[Step] = []

    async def step(self, name: str, rows: int, work: Awaitable[object], killed: Collection[str] = ()) -> None:
        """Measure one piece of work, without the CPU and memory of the processes that it has `killed`."""
        pids, parts = self._run.facts["pids"], [part for part in WEIGHED if part not in killed]
        meter, began = Meter(self._run), time.monotonic()
        with Watch(of_processes({part: pids[part] for part in parts})) as memory:
            await work
        ended = time.monotonic()
        spent_s = {part: spent for part, spent in meter.spent_s().items() if part not in killed}
        weighed = ", ".join(f"{part} {memory.first(part):.0f} to {memory.most(part):.0f} MiB" for part in parts)
        self.steps.append(Step(name, rows, began, ended, spent_s, weighed, os.getloadavg()[0]))
        say(f"{name}: {ended - began:.1f} s")

    async def generate(self, book: str, codes: int) -> None:
        """Have codes made, until the job is done and Redis has them."""
        await self._end_of(f"/v1/books/{book}/codes/generate", {"count": codes})
        stats = await self.ground.stats(book)
        assert stats["available"] == codes, stats

    async def change(self, book: str, codes: int, action: str, killed: Collection[str] = ()) -> str:
        """Have all codes of a book changed by one job, until it is done and Redis has the changes; return its id. Each
        of the `killed` parts is killed once, after equal shares of the codes."""
        job = await self._end_of(f"/v1/books/{book}/codes/change", {"action": action}, killed)
        assert (job["done"], job["change"]["changed"]) == (codes, codes), job
        counted, deadline = ("available", "inactive")[action == "switchOff"], time.monotonic() + KILLED_S
        while (stats := await self.ground.stats(book))[counted] != codes:
            assert killed, stats  # otherwise the job ends only after Redis has everything
            assert time.monotonic() < deadline, stats
            await asyncio.sleep(POLL_S)
        return job["jobId"]

    async def _end_of(self, path: str, order: dict[str, Any], killed: Collection[str] = ()) -> dict[str, Any]:
        """Order a job, and return it when it is done."""
        job = (await self.ground.barrage.one("POST", path, order)).body
        deadline, left = time.monotonic() + PATIENCE_S, list(killed)
        while job["status"] == "running":
            assert time.monotonic() < deadline, job
            await asyncio.sleep(POLL_S)
            if left and job["done"] >= job["requested"] * (1 - len(left) / (len(killed) + 1)):
                self._kill(left.pop(0), job["done"])
            job = await self._read(f"/v1/jobs/{job['jobId']}")
        assert (job["status"], left) == ("done", []), (job, left)
        return job

    async def assign(self, book: str, jobs: Collection[Collection[str]]) -> list[str]:
        """Order a job for each of these lists of users; return their ids when all are done. Parts are killed after
        equal shares of the users, each in the middle of a list."""
        path, ids = f"/v1/books/{book}/codes/change", list[str]()
        for users in jobs:
            answer = await self.ground.barrage.one("POST", path, {"action": "assign", "users": list(users)})
            ids.append(answer.body["jobId"])
        total, deadline = sum(map(len, jobs)), time.monotonic() + PATIENCE_S
        for place, part in enumerate(KILLED_ASSIGNING, 1):
            due, assigned = total * place // (len(KILLED_ASSIGNING) + 1), 0
            while assigned < due or assigned % USERS == 0:
                assert time.monotonic() < deadline, assigned
                await asyncio.sleep(ASSIGNING_POLL_S)
                assigned = (await self._read(f"/v1/books/{book}/stats"))["assigned"]
            self._kill(part, assigned)
        for job_id in ids:
            while (job := await self._read(f"/v1/jobs/{job_id}"))["status"] == "running":
                assert time.monotonic() < deadline, job
                await asyncio.sleep(POLL_S)
            assert (job["status"], job["done"]) == ("done", USERS), job
        return ids

    def _kill(self, part: str, done: int) -> None:
        (pid,) = self._run.facts["pids"][part]
        os.kill(pid, signal.SIGKILL)
        say(f"killed the {part} at {done:,} codes")

    async def _read(self, path: str) -> dict[str, Any]:
        answer = await _until_answered(self.ground.barrage, Ask("GET", path))
        assert answer.status == 200, answer
        return answer.body

    async def _assign_and_judge(self) -> list[str]:
        """Assign while parts are killed, with codes left for users who would get a second one; return the faults."""
        name, total = "assign, worker and API killed", USERS * ASSIGN_JOBS
        jobs = [[new_id() for _ in range(USERS)] for _ in range(ASSIGN_JOBS)]
        codes = new_codes(total + USERS)
        book = await self.ground.book(codes)
        assigning = asyncio.ensure_future(self.assign(book, jobs))
        await self.step(name, total, assigning, KILLED_ASSIGNING)
        users = {user for job in jobs for user in job}
        found = await find_assignment_faults(self._run, self.ground, book, set(codes), users, assigning.result())
        return [f"{name}: {fault}" for fault in found]

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
            answers = await self.ground.barrage.fire([redeem(code, mark=mark) for code in some])
            assert all(answer.status == 201 for answer in answers), answers

    async def batches(self, codes: list[str]) -> None:
        """Redeem in batches."""
        for some in _parts(codes, BATCH):
            operations = [{"op": "redeem", "code": code, **(redeem(code).body or {})} for code in some]
            answer = await self.ground.barrage.one("POST", "/v1/batch", {"operations": operations})
            assert all(result["status"] == 201 for result in answer.body["results"]), answer.body

    async def go(self, codes: int, works: Collection[str], kills: bool) -> list[str]:
        """Each piece of work, one after the other; return what jobs lost or did twice."""
        faults = list[str]()
        await self.step("nothing", 0, asyncio.sleep(QUIET_BEFORE_KILLS_S if kills else QUIET_S))
        generated, uploaded = await self.ground.book(), await self.ground.book()
        if "generate" in works:
            await self.step("generate", codes, self.generate(generated, codes))
        mark = secrets.token_hex(3).upper()
        lines = [f"{mark}-{number:07}-{number * 7919 % 1_000_003:06}" for number in range(codes)]
        if "upload" in works:
            await self.step("upload", codes, asyncio.to_thread(upload, self._run.url, uploaded, lines))
        if "change" in works and "upload" in works:
            for action, killed in (("switchOff", ()), ("switchOn", ("worker", "api") if kills else ())):
                name = f"change, {action}" + (", worker and API killed" if killed else "")
                changing = asyncio.ensure_future(self.change(uploaded, codes, action, killed))
                await self.step(name, codes, changing, killed)
                if kills:
                    judged = (self._run, self.ground, uploaded, set(lines), changing.result(), action == "switchOn")
                    faults += [f"{name}: {fault}" for fault in await find_faults(*judged)]
        if "change" in works and kills:
            faults += await self._assign_and_judge()
        if "export" in works and "upload" in works:
            await self.step("export", codes, asyncio.to_thread(self.export, uploaded, codes))
        if "batch" in works:
            rest = new_codes(SINGLES * 2 + BATCHES * BATCH)
            await self.ground.book(rest)
            await self.step("redeem", SINGLES, self.singles(rest[:SINGLES], ""))
            # An empty query is nothing that the fast lane takes.
            await self.step("redeem through Litestar", SINGLES, self.singles(rest[SINGLES : SINGLES * 2], "?"))
            await self.step("redeem in batches", BATCHES * BATCH, self.batches(rest[SINGLES * 2 :]))
        self.ground.barrage.close()
        return faults


def _parts(codes: list[str], size: int) -> Iterable[list[str]]:
    return (codes[start : start + size] for start in range(0, len(codes), size))


def measure(codes: int, rate: float, works: Collection[str], kills: bool) -> tuple[list[Row], list[str]]:
    """A row for each piece of work, on a service of its own with a shopper of this rate; and what was lost or twice."""
    with own_service() as service:
        bulk, shopped = Bulk(service), new_codes(int(rate * PATIENCE_S * (2 if kills else 1)))
        book = asyncio.run(ground_of(service.url).book(shopped))
        with Steady(service.url, shopped, rate, kills) as steady:
            faults = asyncio.run(bulk.go(codes, works, kills))
        faults += asyncio.run(find_lost_redemptions(service, book, set(steady.redeemed)))
        return [step.row(steady.latencies) for step in bulk.steps], faults


def add_options(options: argparse.ArgumentParser) -> None:
    """How much of what."""
    options.add_argument("--codes", type=int, default=1_000_000)
    options.add_argument("--rate", type=float, default=50.0, help="redeems a second meanwhile")
    options.add_argument("--only", nargs="+", choices=WORKS, help="default: all; with --kill upload and change")
    options.add_argument("--kill", action="store_true", help="kill the worker and the API, and judge what the jobs did")


def run(chosen: argparse.Namespace) -> int:
    """Print the table; return 1 if anything was lost or done twice."""
    works = chosen.only or (("upload", "change") if chosen.kill else WORKS)
    rows, faults = measure(chosen.codes, chosen.rate, works, chosen.kill)
    print(table(rows))
    if chosen.kill and not faults:
        say("nothing is lost or twice")
    for fault in faults:
        say(f"FAULT: {fault}")
    return 1 if faults else 0
