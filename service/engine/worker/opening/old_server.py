"""Whether the server of the last open epoch may still answer: an opening (partition_opening.py) asks, and waits
(docs/internals/decisions/0047). While an epoch is open, partition_worker.py asks whether it still fits its server."""

import asyncio
import time
from collections.abc import Iterable

import asyncpg

from service.common.redis_address import parse_redis_address
from service.engine.hot.cluster import Claim, Report, slot_of
from service.engine.hot.discovery import ask_reports
from service.engine.hot.fencing import Nonce, choose_nonce, parse_nonce
from service.engine.hot.fitness import Replication
from service.engine.record.partitions.openings import rebuild_order
from service.engine.record.partitions.partition_rows import close_for_wait, read_partition
from service.engine.record.processes import MAX_AGE_S

CUT_OFF_S = MAX_AGE_S + 30
"""A process that does not reach Postgres refuses all keys after MAX_AGE_S; the rest is for requests under way."""

STEADY_S = 10.0
"""Another fencing must be better for so long before the partition is opened again with it: nodes come and go."""

SPREAD_S, PAUSE_S = 1.0, 0.1
"""Time for a committee to learn of a failover, and between two readings of its reports."""


class OldServerMayRun(Exception):
    """Nothing proves that the server of the last open epoch no longer answers in it."""

    def __init__(self, last: Nonce, wait_s: float) -> None:
        super().__init__(
            f"the last Redis may still serve processes without Postgres: no majority of the nodes "
            f"{' '.join(last.committee)} reports this server as the slot's owner. The partition opens when that has "
            f"changed, in {wait_s:.0f} s, or by `scrip rebuild --old-redis-is-off`"
        )


async def must_outlast_committee(
    pool: asyncpg.Pool, partition: int, fence: int, redis_url: str, server: Replication, report: Report | None
) -> bool:
    """Whether an opening of this server must wait until confirmations of the last epoch are too old. `report` is the
    server's of its cluster. Raises OldServerMayRun and LeaseLost."""
    last = parse_nonce((await read_partition(pool, partition)).opened_nonce)
    is_same = last.history == server.history or (report is not None and last.node == report.reporter)
    if last.fencing != "cluster" or is_same:  # the fence ends the epoch on its own server
        return False
    if report is not None and await _has_left(last, report, partition, redis_url):
        return True
    order = await rebuild_order(pool, partition)
    if order is None or not order.old_is_off:
        left_s = await close_for_wait(pool, partition, fence, CUT_OFF_S)
        if left_s > 0:
            raise OldServerMayRun(last, left_s)
    return True


async def _has_left(last: Nonce, report: Report, partition: int, redis_url: str) -> bool:
    """Ask the last committee, until SPREAD_S are over, whether the slot has left that server for this one."""
    server_claim = claim_of(report, partition)
    places = [node.host for node in report.nodes if node.id in last.committee and node.is_there]
    deadline = time.monotonic() + SPREAD_S
    while True:
        reports = await ask_reports(parse_redis_address(redis_url), places)
        if has_lost_slot(last, server_claim, [claim_of(one, partition) for one in reports]):
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(PAUSE_S)


def claim_of(report: Report | None, partition: int) -> Claim:
    """The owner of the partition's slot; none if the server doesn't report it."""
    return report.claim(slot_of(partition)) if report else Claim("", "", 0)


def has_lost_slot(last: Nonce, own: Claim, reports: Iterable[Claim]) -> bool:
    """Whether a majority of the committee of the last open epoch has seen the claim of the server that is to be opened,
    `own`, to the slot: then no majority of it confirms that epoch any more."""
    is_other = own.owner == own.reporter != last.node
    return is_other and last.is_majority(one.reporter for one in reports if one[1:] == own[1:])


class FencingWatch:
    """Notices that an open epoch no longer fits its server, or should get another fencing."""

    def __init__(self, nonce: str, *, has_log: bool) -> None:
        """`has_log` is as in choose_nonce."""
        self._nonce, self._has_log = parse_nonce(nonce), has_log
        self._other: Nonce | None = None
        self._since = 0.0

    def find_change(self, server: Replication, report: Report | None) -> str:
        """Why the partition must be opened again; '' if it need not. `report` is as in choose_nonce."""
        if not self._nonce.fits(server):
            return "this server's replication has changed since it was verified"
        wanted = choose_nonce(self._nonce.random, server, report, self._nonce, has_log=self._has_log)
        if wanted == self._nonce:
            self._other = None
        elif wanted != self._other:
            self._other, self._since = wanted, time.monotonic()
        elif time.monotonic() - self._since >= STEADY_S:
            return f"the fencing changes from {_describe(self._nonce)} to {_describe(wanted)}"
        return ""


def _describe(nonce: Nonce) -> str:
    return " ".join((nonce.fencing or "none", *nonce.committee))
