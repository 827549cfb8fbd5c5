"""What an opening must know of the server of the last open epoch (docs/decisions/0047)."""

import time

import asyncpg

from service.access.keyring import MAX_AGE_S
from service.hot.fencing import Nonce, Setting, choose_nonce, parse_nonce
from service.hot.fitness import Replication
from service.record.partitions.openings import rebuild_order
from service.record.partitions.partition_rows import close_for_wait, read_partition

CUT_OFF_S = MAX_AGE_S + 30
"""A process that does not reach Postgres refuses all keys after MAX_AGE_S; the rest is for requests under way."""

STEADY_S = 10.0
"""Replicas must come or go for so long before an epoch is opened anew with another fencing."""


class OldServerMayRun(Exception):
    """Nothing proves that the replica of the last open epoch's server no longer confirms that epoch."""

    def __init__(self, last: Nonce, wait_s: float) -> None:
        super().__init__(
            f"the last Redis may still serve processes without Postgres: its replica {last.replica} neither follows "
            f"this server nor is it. The partition opens when it does, in {wait_s:.0f} s, or by "
            "`scrip rebuild --old-redis-is-off`"
        )


async def check_old_server(pool: asyncpg.Pool, partition: int, fence: int, server: Replication) -> bool:
    """Whether an opening of this server must wait until a replica's confirmations are too old. Raises OldServerMayRun
    and LeaseLost."""
    last = parse_nonce((await read_partition(pool, partition)).opened_nonce)
    if last.fencing != "lag" or last.history == server.history:  # the fence ends the epoch on its own server
        return False
    if has_lost_replica(last, server):
        return True
    order = await rebuild_order(pool, partition)
    if order is None or not order.old_is_off:
        left_s = await close_for_wait(pool, partition, fence, CUT_OFF_S)
        if left_s > 0:
            raise OldServerMayRun(last, left_s)
    return True


def has_lost_replica(last: Nonce, server: Replication) -> bool:
    """Whether the replica of the last open epoch's server is this server, or follows it. From then on it confirms that
    epoch to nobody."""
    return last.history == server.former or last.replica in server.addresses


class FencingWatch:
    """Notices that an open epoch no longer fits its server, or should get another fencing."""

    def __init__(self, nonce: str, setting: Setting) -> None:
        self._nonce = parse_nonce(nonce)
        self._setting: Setting = setting
        self._other: Nonce | None = None
        self._since = 0.0

    def find_change(self, server: Replication) -> str:
        """Why the partition must be opened anew; '' if it need not."""
        if not self._nonce.fits(server):
            return "this server's replication has changed since it was verified"
        wanted = choose_nonce(self._nonce.random, self._setting, server)
        if wanted == self._nonce:
            self._other = None
        elif wanted != self._other:
            self._other, self._since = wanted, time.monotonic()
        elif time.monotonic() - self._since >= STEADY_S:
            return f"the fencing changes from {self._nonce.fencing or 'none'} to {wanted.fencing or 'none'}"
        return ""
