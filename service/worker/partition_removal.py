"""Remove a partition that no workspace is in, because there are to be fewer (docs/decisions/0059)."""

import asyncpg
import structlog

from service.formats import key_names
from service.formats.gate_text import parse_gate
from service.hot.redis_server import Server
from service.hot.scripts import Scripts
from service.record.partitions.partition_rows import LeaseLost
from service.record.partitions.resizes import close_for_removal, mark_removed
from service.worker.write_behind import Flusher

log = structlog.get_logger()


async def remove_partition(pool: asyncpg.Pool, server: Server, scripts: Scripts, flusher: Flusher, fence: int) -> None:
    """Remove an open partition, under its lease. `scripts` are of its epoch.

    1. Close it in Postgres, unless it is in use again: no workspace can move here from then on.
    2. Close the gate, and record the rest of the outbox.
    3. Remove its keys: first the outbox, so that what is removed in part is known as such; last the gate. A worker that
       has lost the lease can't: the gate has another epoch, or is gone.
    4. Mark it as removed in Postgres, unless it is wanted again. Its row stays, with epoch and cursor: if the partition
       is created again, its Redis lacks the anchor, so it is opened as an empty one.

    If this ends before step 4, the partition is opened anew from Postgres, and removed later. Raises LeaseLost, Fenced,
    and errors of both servers.
    """
    partition = server.partition
    if not await close_for_removal(pool, partition, fence):
        return
    text = await server.read_gate()
    await server.move_gate(text, str(parse_gate(text)._replace(state="closed")))
    await flusher.start()
    while await flusher.step():
        pass
    closed = Scripts(partition, scripts.epoch, scripts.nonce, ["clear"], "closed")
    await server.load(closed)
    await server.run(closed, "clear", (server.gate,), (server.outbox,))
    async for names in server.owned_names():
        await server.run(closed, "clear", (server.gate,), names)
    await server.run(closed, "clear", (server.gate,), (key_names.mend(partition), server.gate))
    if not await mark_removed(pool, partition, fence):
        raise LeaseLost(f"partition {partition} is wanted again")
    log.info("partition_removed", partition=partition)
