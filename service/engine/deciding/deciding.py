"""What a process needs to decide requests: connections to Redis, and the epochs that Postgres has as open. A
composition root (serving/wiring.py) opens a Deciding, and calls `take_over` with what it polls. An opening waits
as long as every process needs to read its epoch: POLL_S may not grow (partition_opening.py, SETTLE_S)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import asyncpg
import structlog

from service.engine.domain.errors import Refusal
from service.engine.hot.cluster_links import ClusterLinks, make_links
from service.engine.hot.committee_poll import CommitteePoll
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link
from service.engine.hot.scripts import version
from service.engine.record.facts.recorded_wait import Recorded
from service.engine.record.partitions.partition_rows import Partition, read_partitions

if TYPE_CHECKING:
    from service.common.spans import Traces

POLL_S = 0.2
"""Must stay well below 0.5 s: a recovery waits that long for all processes to learn its epoch."""

log = structlog.get_logger()


class Deciding:
    """The engine's half of a process that answers requests."""

    def __init__(self, decider: Decider, recorded: Recorded, redis_url: str) -> None:
        self.decider, self.recorded = decider, recorded
        self.background = {"scripts": self.watch_scripts, "committees": CommitteePoll(redis_url, decider).run}
        """What runs from the first `poll` on."""
        self.partitions = range(0)
        """All partitions in Postgres; none until a worker has created them."""
        self.open: frozenset[int] = frozenset()
        """The partitions whose Redis is verified, by the table of partitions in Postgres."""
        self.loaded: frozenset[int] = frozenset()
        """Those whose Redis has this version's scripts."""
        self.kept_closed: Mapping[int, Literal["waiting_for_old_redis", "postgres_older"]] = {}
        """Those that a worker may not open yet, and why (old_server.py, older_postgres.py)."""

    async def poll(self, pool: asyncpg.Pool, polled_at: float, made: int) -> Sequence[Partition]:
        """Use the epochs of all partitions. `made` is Link.made before anything was read of Postgres, `polled_at` the
        time then. Raises the pool's errors."""
        rows = await read_partitions(pool)
        for row in rows:
            if row.state == "open":
                self.decider.learn(row.id, row.epoch, row.nonce, made, polled_at)
            else:
                self.decider.forget(row.id)
        self.partitions = range(len(rows))
        self.open = frozenset(row.id for row in rows if row.state == "open")
        self.kept_closed = {
            row.id: "postgres_older" if row.lacks else "waiting_for_old_redis"
            for row in rows
            if row.lacks or row.waits_until
        }
        return rows

    async def watch_scripts(self) -> None:
        """Five times a second, find the partitions whose Redis has this version's scripts. Redis has them in an epoch
        until it restarts, so each connection asks until it finds them, once for each epoch."""
        loaded_at: dict[int, tuple[int, int]] = {}
        lacking: list[int] = []
        while True:
            for partition in self.open:
                moment = self.decider.moment(partition)
                with contextlib.suppress(Refusal):
                    if loaded_at.get(partition) != moment and await self.decider.has_scripts(partition):
                        loaded_at[partition] = moment
            now = self.open
            self.loaded = frozenset(p for p in now if loaded_at.get(p) == self.decider.moment(p))
            was, lacking = lacking, sorted(p for p in now - self.loaded if self.decider.link(p).connected)
            if lacking and lacking != was:
                log.warning("scripts_not_loaded", partitions=lacking, version=version())
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def open_deciding(
    redis_url: str, pool: asyncpg.Pool, durability: str | None, traces: "Traces | None" = None
) -> AsyncIterator[Deciding]:
    """Connect to Redis, and close everything at the end."""
    links = make_links(redis_url, "scrip-api", durability)
    await links.start()
    deciding = Deciding(_make_decider(links, traces), Recorded(pool), redis_url)
    try:
        yield deciding
    finally:
        await deciding.recorded.close()
        await links.stop()


def _make_decider(links: Link | ClusterLinks, traces: "Traces | None") -> Decider:
    if traces is None:
        return Decider(links)
    from service.engine.hot.traced_decider import TracedDecider

    return TracedDecider(links, traces)
