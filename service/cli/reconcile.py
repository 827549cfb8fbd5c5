"""`scrip reconcile`: compare Redis with Postgres. main.py loads it, and comparison_runner.py starts it as a process, by
the options `--job` and `--turn` and the exit code."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import click
import hiredis

from service.cli.failures import explain
from service.cli.partitions import PARTITION
from service.cli.rebuild import find_partitions
from service.common import config, logs
from service.common.config import Settings
from service.common.running_service import Unusable, find_service
from service.engine.formats.coupon_state import Difference
from service.engine.hot.connection import Broken
from service.engine.hot.redis_server import Fenced
from service.engine.record.partitions.partition_rows import check_partitions
from service.engine.record.pool import ERRORS
from service.server.in_postgres import comparisons
from service.server.in_postgres.bulk_reads import ReplicaAway, ReplicaBehind
from service.server.reconcile import comparison
from service.server.reconcile.comparison import Busy, NotOpen, Outcome
from service.server.reconcile.comparison_job import run_job
from service.server.reconcile.examination import NotRecorded

MAX_LISTED = 20
"""Differences that are printed one by one; the log has more."""
NICENESS = 10
"""Process niceness of scheduled comparisons and of jobs, so that requests get the CPU first."""


@click.command(epilog="Example: scrip reconcile --repair")
@click.option("--repair", is_flag=True, help="Repair differences in Redis from Postgres.")
@click.option("--partition", type=PARTITION, help="Only this partition; default: all.")
@click.option("--job", metavar="FENCE", type=int, hidden=True, help="Run the partition's job, under this fence.")
@click.option("--turn", is_flag=True, hidden=True, help="Run as the worker's scheduled comparison.")
@click.option("--retry", is_flag=True, hidden=True, help="Compare the workspaces that failed before, as the worker.")
def reconcile(repair: bool, partition: int | None, job: int | None, turn: bool, retry: bool) -> None:
    """Compare Redis with Postgres, while requests go on.

    Events in the outbox that are not recorded yet are never changed. Exits with 0 if nothing differs any more, 1 if
    differences are left, 2 if the comparison, or that of a workspace, is not possible.
    """
    settings = config.load()
    logs.configure(settings.log_level, "reconcile")
    is_quiet = turn or retry
    if is_quiet or job is not None:
        os.nice(NICENESS)
    if job is not None:
        work = _run_job(settings, partition or 0, job)
    else:
        work = _compare_all(settings, partition, repair, is_quiet, retry)
    sys.exit(asyncio.run(work))


async def _compare_all(settings: Settings, only: int | None, repair: bool, is_quiet: bool, is_retry: bool) -> int:
    """Return the exit code. A worker's comparison is quiet, and ends with 0 also if differences are left, or workspaces
    were set aside. A partition that can't be compared keeps no other from it."""
    differences_left, failed = 0, 0
    not_possible: dict[str, list[int]] = {}
    async with _connect(settings) as (redis_url, pool), _connect_replica(settings) as replica:
        partitions = await find_partitions(pool, only)
        for row in partitions:
            compare = partial(_compare, redis_url, pool, row.id, repair=repair, is_retry=is_retry, replica=replica)
            try:
                outcome = await (compare() if is_quiet else _compare_and_print(row.id, compare))
            except Unusable as unusable:
                not_possible.setdefault(unusable.message, []).append(row.id)
                continue
            differences_left, failed = differences_left + outcome.left.total(), failed + len(outcome.failed)
    if not_possible:
        partitions_by_message = {
            message: "" if len(numbers) == len(partitions) else f" Partitions: {', '.join(map(str, numbers))}."
            for message, numbers in not_possible.items()
        }
        raise Unusable("\n".join(message + partitions_of for message, partitions_of in partitions_by_message.items()))
    if is_quiet:
        return 0
    return 2 if failed else 1 if differences_left else 0


async def _compare_and_print(partition: int, compare: Callable[..., Awaitable[Outcome]]) -> Outcome:
    """Compare one partition, show a progress bar and print a table of differences."""
    listed: list[str] = []
    unlisted = 0

    def list_difference(difference: Difference, state: str) -> None:
        nonlocal unlisted
        if len(listed) == MAX_LISTED:
            unlisted += 1
        else:
            classes = ", ".join(difference.classes)
            listed.append(f"  {classes}: {difference.thing}, {difference.unsafe or state}")

    with click.progressbar(length=1, label=f"Partition {partition}") as bar:

        def show_progress(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        outcome = await compare(report=list_difference, progress=show_progress)
    click.echo(_render_table(outcome, listed, unlisted))
    return outcome


async def _compare(redis_url: str, pool: asyncpg.Pool, partition: int, **options: Any) -> Outcome:
    """Compare one partition; `options` are keywords of comparison.reconcile. Raises Unusable, also if the one workspace
    can't be compared."""
    try:
        outcome = await comparison.reconcile(redis_url, pool, partition, **options)
    except Busy as busy:
        raise Unusable(f"reconcile_running: {busy}.") from None
    except (NotOpen, Fenced) as closed:
        raise Unusable(f"recovering: {closed}.") from None
    except NotRecorded as behind:
        raise Unusable(f"behind: {behind}. Check that a worker runs, and retry.") from None
    except ReplicaBehind as behind:
        raise Unusable(f"behind: {behind}. Nothing was compared with its older state.") from None
    except ReplicaAway as away:
        raise Unusable(f"unavailable: {away}. If DATABASE_READ_URL is unset, the primary is read.") from None
    except (*ERRORS, Broken, hiredis.ReplyError) as error:  # a job's error is that of a ClickException
        message = explain(error) or f"unavailable: {type(error).__name__}. `scrip doctor` names the server."
        raise Unusable(message) from error
    if outcome.failed and options.get("workspace") is not None:
        raise Unusable("not_compared: the comparison failed, and is tried again. `scrip doctor` has the reason.")
    return outcome


@asynccontextmanager
async def _connect(settings: Settings) -> AsyncIterator[tuple[str, asyncpg.Pool]]:
    """Yield Redis's URL and a pool of Postgres. Raises UnusableRecord if the version does not fit."""
    service = find_service(settings, "REDIS_URL", "DATABASE_URL")
    async with await comparisons.connect(service.database_url) as pool:
        await check_partitions(pool)
        yield service.redis_url, pool


@asynccontextmanager
async def _connect_replica(settings: Settings) -> AsyncIterator[asyncpg.Pool | None]:
    """Yield a pool of connections to DATABASE_READ_URL, which may be away; None if it is not set."""
    if settings.database_read_url is None:
        yield None
        return
    async with await comparisons.connect_replica(settings.database_read_url) as pool:
        yield pool


async def _run_job(settings: Settings, partition: int, fence: int) -> int:
    """Run the partition's waiting job and return the exit code, which is 0 also if there is none."""
    async with _connect(settings) as (redis_url, pool), _connect_replica(settings) as replica:
        compare = partial(_compare, redis_url, pool, partition, replica=replica)
        return await run_job(pool, partition, fence, compare)


def _render_table(outcome: Outcome, listed: list[str], unlisted: int) -> str:
    if not outcome.differing:
        lines = [f"Nothing differs, up to event {outcome.at}."]
    else:
        lines = [f"{'differs':<20}{'found':>8}{'left':>8}"]
        differing, left = outcome.differing, outcome.left
        lines += [f"{name:<20}{differing[name]:>8}{left[name]:>8}" for name in sorted(differing)]
        lines += listed
        if unlisted:
            lines.append(f"  and {unlisted} more, in the log.")
    if outcome.failed:
        numbers = ", ".join(map(str, outcome.failed))
        lines.append(
            f"Not compared, and tried again by the worker: workspace {numbers}. `scrip doctor` has the reason."
        )
    if outcome.unsettled:
        lines.append(f"{outcome.unsettled} items changed at every read; the next comparison reads them again.")
    return "\n".join(lines)
