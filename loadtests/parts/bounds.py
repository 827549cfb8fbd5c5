"""How long each script holds Redis at the contract's bounds.

On the embedded Valkey without the append-only file: a shop as large as the contract lets it become, and one run of a
script on it (tests/harness/worst). The server says how long that took and how many commands it ran. Each case is
repeated, on an emptied server; and run once more with a crowd in each of its buckets, hashes and sets, whose locks are
over, and once with one whose locks are live. With --alone these are crowded one at a time, and nothing else is done."""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median_high
from typing import NamedTuple

from loadtests.figures import markdown, say
from loadtests.hot import Hot, own_valkey
from tests.harness.worst import CASES, Case
from tests.harness.worst.crowds import crowd, keys_to_crowd
from tests.harness.worst.large_shop import LargeShop
from tests.harness.worst.measuring import count_commands, cpu_ms, script_ms

SIZE, ROUNDS = 100_000, 3
HEADS = ("script", "bound", "commands", "CPU ms", "ms", "longest", "crowded CPU ms")
ALONE_HEADS = ("script", "crowded", "commands", "CPU ms", "ms")
LOCKS = ("past", "later")


class Cost(NamedTuple):
    """Of one run."""

    commands: int
    cpu: float
    ms: float


async def measure(cases: list[Case], size: int, rounds: int, *, alone: bool) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        async with own_valkey(Path(folder)) as hot:
            if alone:
                return [line for case in cases for line in await _lines_alone(hot, case, size)]
            return [await _line(hot, case, size, rounds) for case in cases]


async def _run(hot: Hot, case: Case, size: int, locks: str = "", kinds: Sequence[str] | None = None) -> Cost:
    """One run; `locks`: with a crowd, in the keys of these kinds or of all, whose locks are `past` or `later`."""
    target = await hot.shop(LargeShop)
    run = await case.prepare(target, size)
    await target.ready(run)
    if locks:
        keys = await keys_to_crowd(target, run)
        await crowd(target, [key for kind, key in keys.items() if kinds is None or kind in kinds], size, locks=locks)
    before = await count_commands(hot.connection), await script_ms(hot.connection), await cpu_ms(hot.connection)
    reply = await target.carry_out(run)
    if not isinstance(reply, list) or (reply[0] not in case.replies and not locks):
        raise RuntimeError(f"{case.script}: {reply!r}")
    cpu = await cpu_ms(hot.connection) - before[2]
    ran = await count_commands(hot.connection) - before[0]
    cost = Cost(ran, cpu, await script_ms(hot.connection) - before[1])
    say(f"{case.script} {locks}: {cost.ms:.1f} ms")
    return cost


async def _line(hot: Hot, case: Case, size: int, rounds: int) -> list[str]:
    costs = [await _run(hot, case, size) for _ in range(rounds)]
    crowded = max([(await _run(hot, case, size, locks)).cpu for locks in LOCKS])
    figures = (median_high([cost.cpu for cost in costs]), median_high([cost.ms for cost in costs]))
    times = (*figures, max(cost.ms for cost in costs), crowded)
    bound = case.bound.format(size=f"{size:,}")
    return [case.script, bound, f"{costs[-1].commands:,}", *(f"{figure:.1f}" for figure in times)]


async def _lines_alone(hot: Hot, case: Case, size: int) -> list[list[str]]:
    """The base, and each kind of key crowded alone."""
    target = await hot.shop(LargeShop)
    kinds = list(await keys_to_crowd(target, await case.prepare(target, size)))
    costs = {"nothing": await _run(hot, case, size)}
    for kind in kinds:
        costs |= {f"{kind}, {locks}": await _run(hot, case, size, locks, [kind]) for locks in LOCKS}
    return [
        [case.script, name, f"{cost.commands:,}", f"{cost.cpu:.1f}", f"{cost.ms:.1f}"] for name, cost in costs.items()
    ]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--size", type=int, default=SIZE, help=f"of what nothing bounds ({SIZE:,})")
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"({ROUNDS})")
    options.add_argument("--alone", action="store_true", help="crowd one bucket, hash or set at a time")
    options.add_argument("--only", default="", help="scripts, by their names")


def run(chosen: argparse.Namespace) -> None:
    cases = [case for case in CASES if not chosen.only or case.script in chosen.only.split(",")]
    lines = asyncio.run(measure(cases, chosen.size, chosen.rounds, alone=chosen.alone))
    print(markdown(ALONE_HEADS if chosen.alone else HEADS, lines))
