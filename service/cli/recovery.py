"""`scrip rebuild`: have a worker build Redis again from Postgres."""

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

import click

from service.cli.failures import record_of

if TYPE_CHECKING:
    import asyncpg

    from service.common.config import Settings
    from service.record.partitions.partition_rows import Partition

BEGIN_S = 20.0
"""How long a worker may take to begin: it looks every 2.5 s, and a dead one's lease lasts 10."""
LOOK_S = 0.2


@click.command()
@click.option("--partition", type=click.IntRange(0), help="Only this one; all of them where left out.")
@click.option("--accept-loss", is_flag=True, help="Also where events are missing that were never recorded.")
@click.option("--cancel", is_flag=True, help="Take back an order that no worker has begun.")
@click.option("--into", metavar="REDIS_URL", help="Build another, empty Redis instead, and compare it with this one.")
def rebuild(partition: int | None, accept_loss: bool, cancel: bool, into: str | None) -> None:
    """Build Redis again from Postgres, whole, whatever is in it.

    A worker does it; this orders it and shows how far it is. Until it is done the partition answers 503 `recovering`.
    What Redis holds and Postgres has not recorded yet is recorded first. Locks are lost.

    With --into nothing happens to this Redis, and requests go on. The other one is built by the same code, up to a cut;
    then both are compared by kind of key. Ends with 0 where they hold the same, 1 where they don't, 2 where that can't
    be said.
    """
    from service.common import config

    settings = config.load()
    if into is not None:
        from service.cli.reconcile import built

        if partition is not None or accept_loss or cancel:
            raise click.UsageError("--into goes with no other option.")
        sys.exit(built(settings, into))
    asyncio.run(_rebuild(settings, partition, accept_loss, cancel))


async def _rebuild(settings: "Settings", only: int | None, accept_loss: bool, cancel: bool) -> None:
    from service.record.partitions.openings import cancel_rebuild, order_rebuild
    from service.record.partitions.partition_rows import read_partitions

    async with record_of(settings) as connection:
        rows = [row for row in await read_partitions(connection) if only in (None, row.id)]
        if not rows:
            raise click.ClickException("There is no such partition.")
        for row in rows:
            if cancel:
                await cancel_rebuild(connection, row.id)
            else:
                await order_rebuild(connection, row.id, "an operator ordered it", accept_loss)
        if not cancel:
            for row in rows:
                await _follow(connection, row)


async def _follow(connection: "asyncpg.Connection", before: "Partition") -> None:
    """Show the progress until the partition is open again."""
    from service.record.partitions.openings import read_recoveries, rebuild_order
    from service.record.partitions.partition_rows import read_partition

    deadline, bar = time.monotonic() + BEGIN_S, None
    with contextlib.ExitStack() as shown:
        while True:
            row = await read_partition(connection, before.id)
            found = [one for one in await read_recoveries(connection, before.id, 1) if one.epoch > before.epoch]
            if found and bar is None:
                label = f"Partition {before.id}"
                bar = shown.enter_context(click.progressbar(length=max(found[0].total, 1), label=label))
            if bar is not None and found:
                bar.update(min(found[0].done, bar.length or 0) - bar.pos)
            if await rebuild_order(connection, before.id) is None and row.state == "open" and row.epoch > before.epoch:
                break
            if not found and time.monotonic() > deadline:
                raise click.ClickException(_not_begun(row))
            await asyncio.sleep(LOOK_S)
    facts = f"{found[0].total} facts and codes" if found else "nothing"
    click.echo(f"Partition {before.id} is open again, in epoch {row.epoch}: {facts} written.")


def _not_begun(row: "Partition") -> str:
    stands = "The order stands; --cancel takes it back."
    if not row.lease_live:
        return f"No worker has partition {row.id}: start one (`scrip worker`). {stands}"
    return (
        f"The worker has not begun with partition {row.id}; its log and `scrip doctor` say why. Where events are "
        f"missing that were answered and never recorded, --accept-loss goes on without them. {stands}"
    )
