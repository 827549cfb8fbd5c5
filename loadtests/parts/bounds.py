"""How long each script holds Redis at the contract's bounds.

On the embedded Valkey without the append-only file: a shop as large as the contract lets it become, and one run of a
script on it (tests/harness/worst). The server says how long that took and how many commands it ran. Each case is
repeated, on an emptied server."""

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import median_high

from loadtests.figures import markdown, say
from loadtests.hot import Hot, own_valkey
from tests.harness.worst import CASES, Case
from tests.harness.worst.large_shop import LargeShop
from tests.harness.worst.measuring import count_commands, cpu_ms, script_ms

SIZE, ROUNDS = 100_000, 3
HEADS = ("script", "bound", "commands", "CPU ms", "ms", "longest")


async def measure(cases: list[Case], size: int, rounds: int) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        async with own_valkey(Path(folder)) as hot:
            return [await _line(hot, case, size, rounds) for case in cases]


async def _line(hot: Hot, case: Case, size: int, rounds: int) -> list[str]:
    times, cpus = list[float](), list[float]()
    ran = 0
    for number in range(rounds):
        target = await hot.shop(LargeShop)
        run = await case.prepare(target, size)
        await target.ready(run)
        before = await count_commands(hot.connection), await script_ms(hot.connection), await cpu_ms(hot.connection)
        reply = await target.carry_out(run)
        if not isinstance(reply, list) or reply[0] not in case.replies:
            raise RuntimeError(f"{case.script}: {reply!r}")
        cpus.append(await cpu_ms(hot.connection) - before[2])
        ran = await count_commands(hot.connection) - before[0]
        times.append(await script_ms(hot.connection) - before[1])
        say(f"{case.script} {number + 1}: {times[-1]:.1f} ms")
    figures = (median_high(cpus), median_high(times), max(times))
    return [case.script, case.bound.format(size=f"{size:,}"), f"{ran:,}", *(f"{figure:.1f}" for figure in figures)]


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--size", type=int, default=SIZE, help=f"of what nothing bounds ({SIZE:,})")
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"({ROUNDS})")
    options.add_argument("--only", default="", help="scripts, by their names")


def run(chosen: argparse.Namespace) -> None:
    cases = [case for case in CASES if not chosen.only or case.script in chosen.only.split(",")]
    print(markdown(HEADS, asyncio.run(measure(cases, chosen.size, chosen.rounds))))
