"""`scrip rebuild`: order a worker to rebuild Redis from Postgres. main.py loads it; partition_opening.py does it.
recover.py and cli/reconcile.py use its helpers."""

import asyncio
import contextlib
import time

import asyncpg
import click

from service.cli import worker_orders
from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.common.running_service import Unusable
from service.engine.record.partitions.openings import cancel_rebuild, order_rebuild, read_recovery, rebuild_order
from service.engine.record.partitions.partition_rows import Partition, read_partition, read_partitions
from service.engine.record.pool import Database


@click.command(epilog="Example: scrip rebuild --partition 3")
@click.option("--partition", type=PARTITION, help="Only this partition; default: all.")
@click.option("--old-redis-is-off", is_flag=True, help="Do not wait: the Redis that was used last no longer runs.")
@click.option("--cancel", is_flag=True, help="Withdraw an order that no worker has started.")
@with_record
async def rebuild(connection: asyncpg.Connection, partition: int | None, old_redis_is_off: bool, cancel: bool) -> None:
    """Rebuild Redis completely from Postgres.

    The command orders the rebuild and shows its progress; a worker runs it. Until it is done, requests of the partition
    are answered 503 `recovering`. Events that are not recorded yet are recorded first. Locks are lost. If Redis has
    more than that, `scrip recover` decides what becomes of it.
    """
    rows = await find_partitions(connection, partition)
    for row in rows:
        if cancel:
            was_ordered = await cancel_rebuild(connection, row.id)
            click.echo(f"Partition {row.id}: {'the order is withdrawn' if was_ordered else 'no order waits'}.")
        else:
            await order_rebuild(connection, row.id, "an operator ordered it", None, old_redis_is_off)
            click.echo(f"Partition {row.id}: the rebuild is ordered. A worker begins it.")
    if not cancel:
        for row in rows:
            await show_progress(connection, row)


async def find_partitions(database: Database, only: int | None) -> list[Partition]:
    """This partition, or all. Raises Unusable."""
    rows = [row for row in await read_partitions(database) if only in (None, row.id)]
    if not rows:
        raise Unusable(f"unknown_partition: there is no partition {only}. `scrip partitions` lists all.")
    return rows


async def show_progress(connection: asyncpg.Connection, before: Partition) -> None:
    """Show a progress bar until the partition is open again. Raises ClickException if no worker starts in time."""
    deadline, bar = time.monotonic() + worker_orders.WORKER_S, None
    with contextlib.ExitStack() as stack:
        while True:
            row = await read_partition(connection, before.id)
            newest = await read_recovery(connection, before.id)
            recovery = newest if newest and newest.epoch > before.epoch else None
            if recovery and bar is None:
                label = f"Partition {before.id}"
                bar = stack.enter_context(click.progressbar(length=max(recovery.total, 1), label=label))
            if bar is not None and recovery:
                bar.update(min(recovery.done, bar.length or 0) - bar.pos)
            if await rebuild_order(connection, before.id) is None and row.state == "open" and row.epoch > before.epoch:
                break
            if not recovery and time.monotonic() > deadline:
                raise click.ClickException(_explain_no_start(row))
            await asyncio.sleep(worker_orders.POLL_S)
    facts = f"{recovery.total} facts and codes" if recovery else "nothing"
    click.echo(f"Partition {before.id} is open again, in epoch {row.epoch}: {facts} written.")


def _explain_no_start(row: Partition) -> str:
    hint = "The order stays; --cancel withdraws it."
    if not row.lease_live:
        return f"No worker holds partition {row.id}. Start one (`scrip worker`). {hint}"
    return (
        f"The worker has not started on partition {row.id}. Its log and `scrip doctor` name the reason. If Redis has "
        f"more than Postgres, `scrip recover` shows it. {hint}"
    )
