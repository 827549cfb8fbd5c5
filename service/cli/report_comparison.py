"""`scrip reports`: compare the roll-ups of reports with the facts. main.py loads it."""

import asyncio
import sys

import asyncpg
import click

from service.cli.partitions import PARTITION
from service.cli.rebuild import find_partitions
from service.common import config
from service.common.running_service import Unusable, find_service
from service.engine.record.archived_books import read_facts_from
from service.engine.record.partitions.partition_rows import check_partitions
from service.engine.record.pool import error_name
from service.server.in_postgres import comparisons
from service.server.in_postgres.report_rollups import EVENTS_AT_ONCE, compare_rollups


@click.command(epilog="Example: scrip reports --repair")
@click.option("--repair", is_flag=True, help="Correct the figures from the facts.")
@click.option("--partition", type=PARTITION, help="Only this partition; default: all.")
def reports(repair: bool, partition: int | None) -> None:
    """Compare the figures of reports with the facts in Postgres.

    All facts are counted again, while requests go on. Use --repair after a change of a workspace's time zone: earlier
    hours, days and weeks then become those of the new zone. Exits with 0 if nothing differs any more, 1 if figures
    differ, 2 if the comparison, or that of a partition, is not possible.
    """
    sys.exit(asyncio.run(_compare(repair, partition)))


async def _compare(repair: bool, only: int | None) -> int:
    database_url = find_service(config.load(), "DATABASE_URL").database_url
    left, failed = 0, list[str]()
    async with await comparisons.connect(database_url) as pool:
        await check_partitions(pool)
        if first := await read_facts_from(pool):
            raise Unusable(
                f"facts_dropped: facts before {first:%Y-%m} were dropped (SCRIP_FACT_DAYS): the figures can't be "
                "compared, and stay as they are."
            )
        for row in await find_partitions(pool, only):

            def show(pages: int, partition: int = row.id) -> None:
                if sys.stderr.isatty():
                    click.echo(f"\rPartition {partition}: {pages * EVENTS_AT_ONCE:,} events", nl=False, err=True)

            try:
                differing = await compare_rollups(pool, row.id, repair, show)
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:  # of a tenant's facts
                failed.append(f"not_compared: partition {row.id}: {error_name(error)}.")
                continue
            done = "corrected" if repair and differing else "differ" if differing else "nothing differs"
            click.echo(f"Partition {row.id}: {f'{differing} figures {done}' if differing else done}.")
            left += 0 if repair else differing
    if failed:
        raise Unusable("\n".join(failed))
    return 1 if left else 0
