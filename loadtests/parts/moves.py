"""What a move of a workspace to another partition costs, and for how long it closes the workspace.

A service of its own, with two partitions, has a workspace with many open assignments, and redemptions with
Idempotency-Keys. Then the workspace moves (`scrip move`), while a client locks other codes of it. A row for each number
of codes: the whole move, the time that the workspace was closed, as the worker measured it, the client's longest wait,
with repeats, and the worker's memory before the move and at most.

Then a workspace of one new service after another moves while 4,000 of its codes a second are redeemed, with an order
and a key. A row for each of these moves. Needs a C compiler."""

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loadtests import generator
from loadtests.figures import machine, markdown, say
from loadtests.ground import new_codes, new_id
from loadtests.own import Meter, own_service, scrip
from loadtests.subject import CHECKOUT, Subject, opened, redeem
from loadtests.watch import Watch, of_processes
from loadtests.wire import Ask
from tests.harness.running import Run

BATCH, BATCHES_AT_ONCE, AT_ONCE = 1_000, 4, 100
USERS = 1_000_000
LOCKED, TRIES = 1_000, 100_000
"""Codes that the client locks in turn during the move, and how often it tries each."""
_LAST_MOVE = "SELECT closed_ms, attempts, total FROM moves JOIN workspaces USING (workspace) WHERE name = 'demo'"
_REDEEMED = "SELECT count(*) FROM redemptions"
_HEADS = (
    "open assignments", "Idempotency-Keys", "keys copied", "move s", "closed ms", "a client's longest wait ms",
    "CPU s of worker, Postgres, Redis", "worker MiB before, at most", "load",
)  # fmt: skip
RATE, MOVES = 4_000, 10
"""Codes a second that are redeemed during a move, and how many such moves."""
LOAD_S, WARM_S = 120, 3.0
"""The load's longest time, and for how long it runs before the move."""
_HEADS_UNDER_LOAD = (f"redeemed a second, of {RATE:,}", "keys copied", "move s", "closed ms", "attempts", "load")


async def measure_under_load(run: Run) -> list[str]:
    """The row of one move under load."""
    async with opened(run) as subject:
        stock = await subject.stock(RATE * LOAD_S, full=True)
        options = {"seconds": LOAD_S, "connections": 64, "rate": RATE, **stock.options}
        loading = asyncio.create_task(generator.drive(run.url, CHECKOUT, "redeem", full=True, **options))
        await asyncio.sleep(WARM_S)
        before: Any = await subject.postgres.fetchval(_REDEEMED)
        took_s, (closed_ms, attempts, total) = await _move(subject)
        after: Any = await subject.postgres.fetchval(_REDEEMED)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    figures = (f"{(after - before) / took_s:,.0f}", f"{total:,}", f"{took_s:.1f}", f"{closed_ms:,}", str(attempts))
    return [*figures, f"{os.getloadavg()[0]:.1f}"]


async def _move(subject: Subject) -> tuple[float, Any]:
    """Move the workspace to the other of two partitions; the seconds that it took, and the row of the move."""
    other = await subject.postgres.fetchval("SELECT 1 - partition FROM workspaces WHERE name = 'demo'")
    began = time.monotonic()
    assert await scrip(subject.run, "move", "demo", str(other)) == 0
    return time.monotonic() - began, await subject.postgres.fetchrow(_LAST_MOVE)


async def measure(run: Run, codes: int, keys: int) -> list[str]:
    """The row for so many open assignments, and so many more codes that are redeemed with a key."""
    async with opened(run) as subject:
        await _sell(subject, codes, keys)
        locked = new_codes(LOCKED)
        await subject.ground.book(locked)
        await subject.caught_up()
        meter = Meter(run)
        with Watch(of_processes({"worker": run.facts["pids"]["worker"]}), pause_s=0.02) as memory:
            locking = asyncio.create_task(_lock_until_cancelled(subject, locked))
            took_s, (closed_ms, attempts, total) = await _move(subject)
            cpu_s = meter.spent_s()
            locking.cancel()
            longest_s = await locking
        assert attempts == 1, f"{attempts} attempts"
    spent = ", ".join(f"{cpu_s[part]:.1f}" for part in ("worker", "postgres", "redis"))
    weighed = f"{memory.first('worker'):.0f}, {memory.most('worker'):.0f}"
    figures = (f"{codes:,}", f"{keys:,}", f"{total:,}", f"{took_s:.1f}", f"{closed_ms:,}", f"{longest_s * 1000:,.0f}")
    return [*figures, spent, weighed, f"{os.getloadavg()[0]:.1f}"]


async def _sell(subject: Subject, codes: int, keys: int) -> None:
    """Assign all codes of a book; redeem all of another with orders and Idempotency-Keys."""
    began = time.monotonic()
    stock, redeemed = await subject.stock(codes, full=False), new_codes(keys)
    await subject.ground.book(redeemed)

    async def assign(start: int) -> None:
        numbers = range(start, min(start + BATCH, codes))
        made = [{"op": "assign", "code": f"{stock.prefix}{n}", "userId": f"user-{n % USERS}"} for n in numbers]
        answer = await subject.ground.barrage.one("POST", "/v1/batch", {"operations": made})
        assert all(result["status"] == 201 for result in answer.body["results"]), answer.body["results"][:3]

    async def use(start: int) -> None:
        asks = [redeem(code, key=new_id()) for code in redeemed[start : start + AT_ONCE]]
        answers = await subject.ground.barrage.fire(asks)
        assert all(answer.status == 201 for answer in answers), answers

    await _run_all([*range(0, codes, BATCH)], assign, BATCHES_AT_ONCE)
    await _run_all([*range(0, keys, AT_ONCE)], use, 1)
    await subject.caught_up()
    say(f"{codes:,} assigned, {keys:,} redeemed in {time.monotonic() - began:.0f} s")


async def _run_all(starts: list[int], work: Callable[[int], Awaitable[None]], at_once: int) -> None:
    async def take() -> None:
        while starts:
            await work(starts.pop())

    await asyncio.gather(*(take() for _ in range(at_once)))


async def _lock_until_cancelled(subject: Subject, codes: Sequence[str]) -> float:
    """Lock one code after the other, each until it is locked; return the longest wait in seconds."""
    longest_s, began = 0.0, time.monotonic()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            for code in codes:
                began = time.monotonic()
                ask = Ask("POST", f"/v1/coupons/lock/{code}", {"userId": "locker", "lockSeconds": 1})
                for _ in range(TRIES):
                    answer = await subject.ground.barrage.ask(ask)
                    await asyncio.sleep(0.005)
                    if answer.status != 503:
                        break
                longest_s = max(longest_s, time.monotonic() - began)
    return max(longest_s, time.monotonic() - began)


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--codes", type=int, nargs="*", default=[100_000, 1_000_000], help="open assignments")
    options.add_argument("--keys", type=float, default=0.1, help="redemptions with a key, as a part of the codes")
    options.add_argument("--moves", type=int, default=MOVES, help=f"at {RATE:,} redemptions a second (%(default)s)")


def run(chosen: argparse.Namespace) -> None:
    where, rows, rows_under_load = machine(), list[list[str]](), list[list[str]]()
    for codes in chosen.codes:
        with own_service(partitions=2) as service:
            rows.append(asyncio.run(measure(service, codes, int(codes * chosen.keys))))
    for _ in range(chosen.moves):
        with own_service(partitions=2) as service:
            rows_under_load.append(asyncio.run(measure_under_load(service)))
    print(f"{where['taken']}, {where['cores']} × {where['cpu']}:")
    for heads, lines in ((_HEADS, rows), (_HEADS_UNDER_LOAD, rows_under_load)):
        if lines:
            print("", markdown(heads, lines), sep="\n")
