"""Scrip's figures in one table.

Each part starts a service of its own, with servers of its own, and loads it by a generator in C:

- pairs: lock and redeem single-use codes, by connections and by how many codes there are, plain and with all that a
  shop asks for (order, value, Idempotency-Key; a book with a discount and a limit for each user);
- sustained: as many pairs as go for a minute, then whether each is in Postgres, and how far that was behind;
- opening: 20,000 buyers within a second for 1,000 codes, and for 1,000 uses of one code;
- bulk: a million codes generated, uploaded and exported, and batches, while a shopper redeems.

The table and all figures as JSON are kept in `loadtests/results/<time>-bench/`. It ends with 1 where an
answer was not what it should be, or a count differs."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.figures import BenchRow, keep, row, say
from loadtests.generator import STRIDE, GeneratorError, build
from loadtests.load import RESULTS, bounded
from loadtests.own import own_service
from loadtests.parts import bulk
from loadtests.subject import Spent, Subject, compute_growth, opened
from tests.harness.running import Run

FULL_LOAD = 96
"""Connections."""
WARM_PAIRS = 2_000
SPARE = 2
"""Codes for the minute at full load, by the rate of the pairs that it is warmed up with."""
OPENING_CODES, OPENING_CONNECTIONS = 1_000, 1_000
LAG_S = 1.0
"""The record should never be further behind."""
SHOPPER_RATE = 50.0
"""Redeems a second beside bulk work."""


class Plan(NamedTuple):
    """How much of what."""

    parts: Sequence[str]
    shapes: Sequence[bool]
    """Of pairs: plain (False), and full."""
    codes: Sequence[int]
    connections: Sequence[int]
    pairs: int
    pairs_s: int
    """A measurement ends after so many pairs, or so many seconds."""
    sustained_s: int
    buyers: int
    bulk: Sequence[str]
    bulk_codes: int


PARTS = ("pairs", "sustained", "opening", "bulk")
WHOLE = Plan(
    parts=PARTS,
    shapes=(False, True),
    codes=(10_000, 1_000_000),
    connections=(1, 8, 64, 256),
    pairs=20_000,
    pairs_s=10,
    sustained_s=60,
    buyers=20_000,
    bulk=("generate", "upload", "export", "batch"),
    bulk_codes=1_000_000,
)
QUICK = WHOLE._replace(
    codes=(10_000,), connections=(1, 64), pairs=5_000, pairs_s=3, sustained_s=10, bulk=("upload",), bulk_codes=50_000
)


class Wrong(Exception):
    """Something is not as it should be; what."""


class Bench:
    """The parts, one after the other, and the rows so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rows = plan, list[BenchRow]()

    def run(self) -> None:
        """All that is planned. Raises Wrong."""
        for part in self.plan.parts:
            match part:
                case "pairs":
                    for codes in self.plan.codes:
                        for full in self.plan.shapes:
                            _on_own_service(self._pairs_of, codes, full)
                case "sustained":
                    for full in self.plan.shapes:
                        _on_own_service(self._sustained_of, full)
                case "opening":
                    _on_own_service(self._openings)
                case "bulk":
                    self.rows += bulk.measure(self.plan.bulk_codes, SHOPPER_RATE, self.plan.bulk)

    async def _pairs_of(self, subject: Subject, codes: int, full: bool) -> None:
        before, done = await subject.sizes(), Counter[str]()
        stock = await subject.stock(codes, full)
        code_bytes = compute_growth(before, await subject.sizes(), codes)
        await self._warm(subject, full)
        for connections in self.plan.connections:
            if stock.left < min(codes, self.plan.pairs):
                stock = await subject.stock(codes, full)
            spent = await subject.pairs(stock, connections, self.plan.pairs, self.plan.pairs_s, full)
            done[stock.book_id] += _good(spent)
            more = {"codes": codes, "connections": connections, "code_bytes": code_bytes}
            self._add(row("pairs", _shape(full), "pairs", spent, spent.load.finished, **more))
        for book_id, redeemed in done.items():
            await _check_redeemed(subject, book_id, redeemed)

    async def _sustained_of(self, subject: Subject, full: bool) -> None:
        a_second = await self._warm(subject, full)
        seconds = self.plan.sustained_s
        codes = ceil(a_second * seconds * SPARE)
        stock = await subject.stock(codes + (codes % STRIDE == 0), full)
        say(f"{seconds} s at full load, {_shape(full)}")
        spent = await subject.pairs(stock, FULL_LOAD, stock.codes, seconds, full)
        await _check_redeemed(subject, stock.book_id, _good(spent))
        note = f"all {spent.load.finished:,} pairs in Postgres, never more than {LAG_S:g} s behind"
        if spent.lag_s > LAG_S:
            note = f"all {spent.load.finished:,} pairs in Postgres, up to {spent.lag_s:.1f} s later"
        if not stock.left:
            note += f"; its codes were gone after {spent.load.seconds:.0f} s"
        more = {"codes": stock.codes, "connections": FULL_LOAD, "note": note}
        what = f"{seconds} s, {_shape(full)}"
        self._add(row("sustained", what, "pairs", spent, spent.load.finished, **more))

    async def _openings(self, subject: Subject) -> None:
        buyers = self.plan.buyers
        await self._warm(subject, full=False)
        stock = await subject.stock(OPENING_CODES, full=False)
        spent = await subject.opening(buyers, OPENING_CONNECTIONS, "out_of_stock", book=stock.book_id)
        self._add_opening(f"{buyers:,} buyers, a book", spent, "assign", "out_of_stock")
        seen = (*await subject.assigned(stock.book_id), (await subject.target.stats(stock.book_id))["assigned"])
        _same("assignments recorded, their codes, their users, and those in Redis", seen, OPENING_CODES)

        uses = {"maxRedemptionsPerCode": OPENING_CODES}
        code = f"OPEN-{stock.prefix[:-1]}"
        book_id = await subject.target.book([code], **uses)
        spent = await subject.opening(buyers, OPENING_CONNECTIONS, "coupon_exhausted", code=code)
        self._add_opening(f"{buyers:,} buyers, one code", spent, "redeem", "coupon_exhausted")
        recorded, _, distinct = await subject.redeemed(book_id)
        seen = (recorded, distinct, (await subject.target.stats(book_id))["redemptions"])
        _same("redemptions recorded, their ids, and those in Redis", seen, OPENING_CODES)

    def _add_opening(self, what: str, spent: Spent, step: str, refusal: str) -> None:
        _good(spent)
        answers = spent.load.answers
        sold, refused = answers.get(f"{step} 201", 0), answers.get(f"{step} 409 {refusal}", 0)
        _same("sold", (sold,), OPENING_CODES)
        note = f"{sold:,} sold, {refused:,} refused as {refusal}, the last after {spent.load.seconds:.2f} s"
        more = {"codes": OPENING_CODES, "connections": OPENING_CONNECTIONS, "note": note}
        self._add(row("opening", what, "buyers", spent, sold, **more))

    async def _warm(self, subject: Subject, full: bool) -> float:
        """Pairs before those that count; how many a second."""
        stock = await subject.stock(WARM_PAIRS, full)
        spent = await subject.pairs(stock, FULL_LOAD, WARM_PAIRS, self.plan.pairs_s, full)
        _good(spent)
        return spent.load.finished / spent.load.seconds

    def _add(self, one: BenchRow) -> None:
        self.rows.append(one)
        figures = f"{one.what}, {one.codes:,} codes, {one.connections} connections: {one.a_second:,.0f} a second"
        say(f"{figures}; {one.note}" if one.note else figures)


def _on_own_service(work: Callable[..., Awaitable[None]], *args: Any) -> None:
    async def on(run: Run) -> None:
        async with opened(run) as subject:
            await work(subject, *args)

    with own_service() as run:
        asyncio.run(on(run))


def _shape(full: bool) -> str:
    return "full pairs" if full else "plain pairs"


def _good(spent: Spent) -> int:
    """How many pairs or buyers came to their end. Wrong where an answer was not what it should be."""
    if spent.load.wrong:
        raise Wrong(spent.load.wrong)
    return spent.load.finished


async def _check_redeemed(subject: Subject, book_id: str, pairs: int) -> None:
    _same("redemptions recorded, their codes, their ids", await subject.redeemed(book_id), pairs)
    stats = await subject.target.stats(book_id)
    _same("redemptions and redeemed codes in Redis", (stats["redemptions"], stats["redeemed"]), pairs)


def _same(what: str, seen: tuple[int, ...], each: int) -> None:
    if any(number != each for number in seen):
        raise Wrong(f"{what}: {seen}, and each should be {each}")


def plan_of(chosen: argparse.Namespace) -> Plan:
    """What the command's options ask for."""
    plan = QUICK if chosen.quick else WHOLE
    shapes = (True,) if chosen.full else (False,) if chosen.plain else plan.shapes
    given = {"codes": chosen.codes, "connections": chosen.connections, "parts": chosen.only}
    given |= {"sustained_s": chosen.seconds, "buyers": chosen.buyers}
    return plan._replace(shapes=shapes, **{name: value for name, value in given.items() if value})


def run(chosen: argparse.Namespace) -> bool:
    """Print and keep the table; whether something is wrong."""
    folder = chosen.results / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-bench"
    bench = Bench(plan_of(chosen))
    failed = _failed(bench, chosen, folder)
    if bench.rows:
        written = keep(folder, bench.rows)
        print(written, f"Kept in {folder}", sep="\n\n")
    if failed:
        say(failed)
    return bool(failed)


def _failed(bench: Bench, chosen: argparse.Namespace, folder: Path) -> str:
    """Run it; why it ended early, where it did."""
    try:
        build()
        folder.mkdir(parents=True)
        bench.run()
    except (GeneratorError, Wrong, OSError, RuntimeError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    except KeyboardInterrupt:
        return "Ended early."
    return ""


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--quick", action="store_true", help="less of everything, within two minutes")
    options.add_argument("--only", nargs="+", choices=PARTS, help="these parts")
    shapes = options.add_mutually_exclusive_group()
    shapes.add_argument("--full", action="store_true", help="full pairs alone")
    shapes.add_argument("--plain", action="store_true", help="plain pairs alone")
    options.add_argument(
        "--codes", nargs="+", type=_codes, metavar="N", help="10000 1000000; 10000000 takes minutes more"
    )
    options.add_argument("--connections", nargs="+", type=bounded(int, 1, 9_000), metavar="N", help="1 8 64 256")
    options.add_argument("--seconds", type=bounded(int, 1, 3_000), help="60, at full load")
    options.add_argument("--buyers", type=bounded(int, OPENING_CODES, 1_000_000), help="20000, at an opening")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the folder is made")


def _codes(text: str) -> int:
    value = bounded(int, OPENING_CODES, 100_000_000)(text)
    if value % STRIDE == 0:
        raise ValueError(text)
    return value
