"""A round of one fault: load, the fault, the verdict, and a row of the table."""

import contextlib
import random
import shutil
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.histories import Look
from service.engine.record.pool import ERRORS
from tests.harness.running import HOME
from tests.harness.trees import Change, changed
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.judging import Verdict, judge, passed_limits
from tests.lab.faults.looking import CLOSED, Drill, drill
from tests.lab.faults.scenarios import Scenario

COLUMNS = """fault | server | rounds | injected | in flight, mean | replies lost | writes lost | answers kept |
    lost accepted | lost fsynced | double | wrong | quarantined | closed s, median | longest |
    recovered: tail | whole"""

_RECOVERIES = "SELECT kind FROM recoveries WHERE partition = $1 AND epoch > $2"


class NeverBack(Exception):
    """The service did not recover; `seen` lists what was wrong by then, and the reason."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__("; ".join(seen)[:1500])
        self.seen = seen


@dataclass
class Round:
    """The result of a round. `closed_s` is None if no reader was refused."""

    verdict: Verdict
    closed_s: float | None
    closed_beside_s: list[float]
    recoveries: list[str]
    injections: list[int]
    """Requests in flight at each."""
    lost_writes: int
    unanswered: Counter[str]


@asynccontextmanager
async def deployment_of(
    scenario: Scenario, binary: Path, folder: Path, changes: Sequence[Change] = ()
) -> AsyncIterator[Deployment]:
    """The servers that a fault needs; their processes run a copy of the tree with these changes."""
    copy = folder.with_name(f"{folder.name}-tree")
    tree = changed([*scenario.changes, *changes], copy)
    servers: dict[str, Any] = {"replicated": scenario.replicated, "own_disks": scenario.small_disks}
    servers |= {"sentinels": scenario.sentinels, "clustered": scenario.clustered}
    try:
        async with Deployment(binary, folder, scenario.sync, **servers, tree=tree) as deployment:
            yield deployment
    finally:
        shutil.rmtree(copy, ignore_errors=True)


async def run_round(deployment: Deployment, scenario: Scenario, seed: int, times: int = 1) -> Round:
    """Inject a fault under load and let the service recover, some times; then judge. Raises NeverBack."""
    dice = random.Random(seed)
    async with drill(deployment, seed, scenario.codes * times, scenario.recorded) as one:
        try:
            return await _inject_and_judge(one, scenario, dice, times)
        except (AssertionError, TimeoutError) as never:
            raise NeverBack(await _seen(one, never)) from never


async def _inject_and_judge(one: Drill, scenario: Scenario, dice: random.Random, times: int) -> Round:
    deployment, ledger = one.deployment, one.ledger
    one.crowd.leaves_locks = not scenario.moves_clocks
    before = (await deployment.row()).epoch
    aside = await deployment.pool.fetchval("SELECT count(*) FROM quarantine")
    async with one.going_on(scenario.buyers):
        for _ in range(times):
            await one.until_more(60)
            await scenario.inject(deployment, one, dice)
            await one.until_more(40)
            await deployment.heal()
        await one.until_more(20)
    await deployment.until_ready()
    unanswered = ledger.unanswered.copy()
    locks_end = (await deployment.row()).epoch != before or scenario.moves_clocks
    verdict = await judge(one, scenario.may_lose | one.may_lose, scenario.alarms, locks_end=locks_end)
    verdict.quarantined += await deployment.pool.fetchval("SELECT count(*) FROM quarantine") - aside
    if verdict.quarantined != one.poisoned and not scenario.quarantines:
        verdict.wrong.append(f"{verdict.quarantined} events in quarantine, not {one.poisoned}")
    recoveries = [row["kind"] for row in await deployment.pool.fetch(_RECOVERIES, HOME, before)]
    return Round(
        verdict, closed_s(one.looks), one.closed_beside_s, recoveries, one.injections, one.lost_writes, unanswered
    )


async def _seen(one: Drill, never: Exception) -> list[str]:
    """What a service that did not recover did wrong, by its responses, Postgres and the logs."""
    passed = []
    with contextlib.suppress(*ERRORS):
        passed = await passed_limits(one)
    unwanted = [
        f"{entry.op} {entry.path}: {entry.status} {entry.response}" for entry in one.ledger.entries if not entry.wanted
    ]
    never_back = f"did not recover: {type(never).__name__} {never}"
    return [*one.wrong, *unwanted, *passed, *one.alarms(), never_back]


def closed_s(looks: list[Look]) -> float | None:
    """The longest time from a refused read to the next that succeeded; None if none was refused."""
    longest, since = None, None
    for look in looks:
        if look.code in CLOSED:
            since = look.at_ms if since is None else since
        elif not look.code and since is not None:
            longest, since = max(longest or 0.0, (look.at_ms - since) / 1000), None
    return longest


def line(name: str, server: str, rounds: list[Round]) -> str:
    """A row of the table."""
    closed = [one.closed_s for one in rounds if one.closed_s is not None]
    recoveries = Counter("whole" if "whole" in one.recoveries else "tail" if one.recoveries else "" for one in rounds)
    lost = sum((one.verdict.lost for one in rounds), Counter())
    injections = [under_way for one in rounds for under_way in one.injections]
    double = sum(one.verdict.double for one in rounds)
    cells = [
        *(name, server, len(rounds), len(injections), f"{statistics.mean(injections):.1f}" if injections else ""),
        *(sum(one.unanswered["outcome_unknown"] for one in rounds), sum(one.lost_writes for one in rounds)),
        *(sum(one.verdict.kept for one in rounds), lost["accepted"], lost["fsynced"]),
        *(double, sum(len(one.verdict.wrong) for one in rounds) - double),
        sum(one.verdict.quarantined for one in rounds),
        *((f"{statistics.median(closed):.1f}", f"{max(closed):.1f}") if closed else ("never", "")),
        *(recoveries["tail"], recoveries["whole"]),
    ]
    return f"| {' | '.join(map(str, cells))} |"
