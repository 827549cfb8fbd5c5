"""Begin a new epoch in an open partition, without closing it (docs/decisions/0055). partition_worker.py calls this.
Redis begins the epoch before Postgres knows it."""

import contextlib

import asyncpg
import structlog

from service.formats import key_names
from service.formats.gate_text import parse_gate
from service.hot.redis_server import Server
from service.hot.scripts import Scripts
from service.record import pool as postgres
from service.record.partitions.partition_rows import draw_turn
from service.worker.lease_keeper import Lease
from service.worker.script_versions import own_scripts
from service.worker.write_behind import Flusher

TURN_MS = 5000
"""After a turn, requests may name the epoch before it for so long. Processes learn the new one within half a second."""

log = structlog.get_logger()


class Unverified(Exception):
    """Something of the partition is not as it was verified: verify it again, and open it anew unless it is right."""


async def turn_if_wanted(pool: asyncpg.Pool, server: Server, scripts: Scripts, flusher: Flusher) -> Scripts:
    """Return the scripts of the partition's epoch: a new one, if a workspace waits to move here from a partition with a
    newer epoch than this one's. So a workspace's later facts are always of a later epoch.

    Redis begins the epoch; the cursor enters it with the entry, and Postgres then says that it is open. If this fails
    halfway, the partition is opened anew.
    """
    partition = server.partition
    if parse_gate(await server.read_gate()).state != "open":
        return scripts
    epoch = await draw_turn(pool, partition)
    if epoch is None:
        return scripts
    turning = Scripts(partition, scripts.epoch, scripts.nonce, ["turn"])
    await server.load(turning)
    flusher.turns_to = epoch
    names = (server.gate, server.outbox, key_names.turned(partition))
    await server.run(turning, "turn", names, (epoch, TURN_MS))
    while flusher.cursor.epoch < epoch:
        await flusher.step()
    log.info("epoch_turned", partition=partition, epoch=epoch)
    return own_scripts(partition, epoch, scripts.nonce)


async def watch_turns(pool: asyncpg.Pool, lease: Lease, server: Server) -> None:
    """Raises Unverified if a workspace waits for a newer epoch: the next look at the partition begins one."""
    while True:
        await lease.until_due("turning")
        with contextlib.suppress(*postgres.ERRORS):
            is_open = parse_gate(await server.read_gate()).state == "open"
            if is_open and await draw_turn(pool, server.partition) is not None:
                raise Unverified("a workspace waits to move here, for a newer epoch")
