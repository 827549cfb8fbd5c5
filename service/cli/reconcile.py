"""`scrip reconcile`: compare Redis with the record; and `scrip rebuild --into`: with another built from it."""

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from service.cli.failures import Unusable

if TYPE_CHECKING:
    import asyncpg

    from service.common.config import Settings
    from service.formats.coupon_state import Difference
    from service.reconcile.comparison import Outcome

TOLD = 20
"""Differences that are shown one by one; the log has more of them."""
NICE = 10
"""A comparison for a job, or by the clock, leaves the processor to requests."""


class Uncompared(Unusable):
    """It can't be done just now, or came to no end; the message begins with a stable code."""


@click.command()
@click.option("--repair", is_flag=True, help="Set right in Redis what differs, as the record has it.")
@click.option("--partition", type=click.IntRange(0), help="Only this one; all of them where left out.")
@click.option("--job", is_flag=True, hidden=True, help="Do the job that waits for the partition.")
@click.option("--turn", is_flag=True, hidden=True, help="As the worker starts it by the clock.")
def reconcile(repair: bool, partition: int | None, job: bool, turn: bool) -> None:
    """Compare all that Redis holds with what Postgres has recorded, while requests go on.

    What is in the outbox and not recorded yet is never touched. Ends with 0 where nothing differs any more, 1 where
    something does, 2 where it can't be compared.
    """
    from service.common import config, logs

    settings = config.load()
    redis_url, database_url = settings.servers()
    if redis_url is None or database_url is None:
        raise Uncompared("REDIS_URL and DATABASE_URL are not set, and no `scrip run` is running here.")
    logs.configure(settings, "reconcile")
    if job or turn:
        os.nice(NICE)
    urls = (redis_url, database_url, settings.partitions)
    sys.exit(asyncio.run(_job(*urls, partition or 0) if job else _all(*urls, partition, repair, turn)))


async def _all(
    redis_url: str, database_url: str, partitions_wanted: int, only: int | None, repair: bool, quiet: bool
) -> int:
    from service.record.partitions.partition_rows import read_partitions

    left = 0
    pool = await _connected(database_url, partitions_wanted)
    try:
        partitions = [row.id for row in await read_partitions(pool) if only in (None, row.id)]
        if not partitions:
            raise Uncompared("There is no such partition.")
        for partition in partitions:
            outcome = await _shown(redis_url, pool, partition, repair, quiet)
            left += outcome.left.total()
    finally:
        await pool.close()
    return 0 if quiet or not left else 1


async def _shown(redis_url: str, pool: "asyncpg.Pool", partition: int, repair: bool, quiet: bool) -> "Outcome":
    """Compare one, with a bar while it goes on and a table after it."""
    told: list[str] = []

    def tell(found: "Difference", state: str) -> None:
        if len(told) < TOLD:
            told.append(f"  {', '.join(found.classes)}: {found.thing}, {found.unsafe or state}")

    if quiet:
        return await _compared(redis_url, pool, partition, repair=repair)
    with click.progressbar(length=1, label=f"Partition {partition}") as bar:

        def progress(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        outcome = await _compared(redis_url, pool, partition, repair=repair, tell=tell, progress=progress)
    click.echo(_table(outcome, told))
    return outcome


async def _compared(redis_url: str, pool: "asyncpg.Pool", partition: int, **options: Any) -> "Outcome":
    """Raises Uncompared."""
    import hiredis

    from service.hot.connection import Broken
    from service.hot.redis_server import Fenced
    from service.reconcile.comparison import Busy, NotOpen, reconcile
    from service.reconcile.examination import NotRecorded
    from service.record.partitions.comparisons import LostTurn
    from service.record.pool import ERRORS

    try:
        return await reconcile(redis_url, pool, partition, **options)
    except Busy as busy:
        raise Uncompared(f"reconcile_running: {busy}.") from None
    except (NotOpen, Fenced, LostTurn) as closed:
        raise Uncompared(f"recovering: {closed}.") from None
    except NotRecorded as behind:
        raise Uncompared(f"behind: {behind}. Is a worker running?") from None
    except (*ERRORS, Broken, hiredis.ReplyError) as error:
        raise Uncompared(f"unavailable: {type(error).__name__}.") from error


async def _connected(database_url: str, partitions: int) -> "asyncpg.Pool":
    """Raises Uncompared, and UnusableRecord where the settings don't fit the database."""
    from service.record.partitions import comparisons
    from service.record.partitions.partition_rows import check_partitions
    from service.record.pool import ERRORS

    try:
        pool = await comparisons.connect(database_url)
    except ERRORS as error:
        raise Uncompared(f"unavailable: the database can't be used ({type(error).__name__}).") from error
    try:
        await check_partitions(pool, partitions)
    except BaseException:
        await pool.close()
        raise
    return pool


async def _job(redis_url: str, database_url: str, partitions: int, partition: int) -> int:
    """Do the job that waits; 0 also where another does it."""
    from service.reconcile.comparison_job import run_job

    pool = await _connected(database_url, partitions)
    try:
        return await run_job(pool, partition, lambda **options: _compared(redis_url, pool, partition, **options))
    finally:
        await pool.close()


def _table(outcome: "Outcome", told: list[str]) -> str:
    if not outcome.found:
        lines = [f"Nothing differs, up to event {outcome.at}."]
    else:
        lines = [f"{'differs':<20}{'found':>8}{'left':>8}"]
        lines += [f"{name:<20}{outcome.found[name]:>8}{outcome.left[name]:>8}" for name in sorted(outcome.found)]
        lines += told
        if (more := outcome.found.total() - len(told)) > 0:
            lines.append(f"  and {more} more; the log has them.")
    if outcome.unsettled:
        lines.append(
            f"{outcome.unsettled} things changed whenever they were looked at; the next comparison looks again."
        )
    return "\n".join(lines)


def built(settings: "Settings", target_url: str) -> int:
    """Build another Redis from the record, and show both beside each other; the exit code."""
    from service.common import logs

    urls = settings.servers()
    if None in urls:
        raise Uncompared("REDIS_URL and DATABASE_URL are not set, and no `scrip run` is running here.")
    logs.configure(settings, "rebuild")
    return asyncio.run(_built(target_url, str(urls[0]), str(urls[1]), settings.partitions))


async def _built(target_url: str, redis_url: str, database_url: str, partitions: int) -> int:
    import hiredis

    from service.hot.connection import Broken
    from service.hot.redis_server import Fenced
    from service.worker.twin import Refused, build

    pool = await _connected(database_url, partitions)
    try:
        found = await build(target_url, redis_url, pool)
    except Refused as refused:
        raise Uncompared(str(refused)) from None
    except (OSError, Broken, Fenced, hiredis.ReplyError) as error:
        raise Uncompared(f"unavailable: {type(error).__name__}.") from error
    finally:
        await pool.close()
    for partition, one in enumerate(found):
        click.echo(f"Partition {partition}\n{'kind':<28}{'live':>10}{'built':>10}  {'digests'}")
        for kind, live in one.live.items():
            there = one.built[kind]
            alike = "the same" if live == there else f"{live.digest:016x} {there.digest:016x}"
            unlike = f", unlike: {one.unlike[kind]}" if kind in one.unlike else ""
            click.echo(f"{kind:<28}{live.keys:>10}{there.keys:>10}  {alike}{unlike}")
        if one.moved:
            click.echo(f"{one.moved} keys changed whenever they were looked at.")
    return 1 if any(one.unlike for one in found) else 0
