"""This worker's leases: renewed together, and spread evenly over the living workers. process.py runs a LeaseKeeper;
partition_worker.py and its tasks wait for events of a Lease. All workers must compute the same shares, also those of
another version: `share_out` and `choose_handover` may not depend on anything but the rows."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import asyncpg
import structlog

from service.engine.hot.scripts import version
from service.engine.record import pool as postgres
from service.engine.record.partitions import partition_rows
from service.engine.record.partitions.partition_rows import LeaseRow, Leases
from service.engine.record.processes import end_process

LEASE_S = 2.0
RENEW_S = 0.5
EXPIRED_S = 0.02
"""So long after another worker's row has expired, the leases are read."""
SETTLED_S = 5.0
"""A worker that has lived so long without interruption gets others' leases, and free ones before younger ones."""
UNTAKEN_S = 1.0
"""A lease that stays free for so long may be taken by any worker."""
RELEASE_S = 3.0
"""A worker releases the leases of partitions whose Redis it has not reached for so long: a restart takes less."""

log = structlog.get_logger()


class Lease:
    """One partition's lease, as this worker sees it."""

    def __init__(self) -> None:
        self.is_due = asyncio.Event()
        """This worker is to take it."""
        self.is_named = asyncio.Event()
        """This worker is its holder, and does not work on the partition."""
        self.is_lost = asyncio.Event()
        """Another worker has taken it."""
        self.is_leaving = asyncio.Event()
        """This worker is to hand it over, to `successor`."""
        self.successor: str | None = None
        self.is_steady = False
        """Whether the partition is open: an opening is not interrupted for a handover."""
        self.fence: int | None = None
        """The fence of this worker's current work on the partition."""
        self.known_from = 0
        """Earlier readings may be older than the last change of the lease."""
        self.lives_until = 0.0
        """Until then, by the monotonic clock, this worker has the lease, unless its session has ended."""
        self.free_since: float | None = None
        self.config_version = 0
        """Postgres's newest version of the partition's configuration."""
        self.is_confirmed = True
        """As `confirmed` in Partition."""
        self.due: frozenset[str] = frozenset()
        """The tasks for which Postgres has work."""
        self._next = asyncio.Event()

    async def wait_until_due(self, task: str, at_most_s: float | None = None) -> None:
        """Wait for the next reading of the leases in which there is work for this task, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._next.wait()
                while task not in self.due:
                    await self._next.wait()

    async def wait_until_configured(self, version: int) -> None:
        """Wait until Postgres has another version of the configuration, or was not compared with Redis."""
        while self.config_version == version and self.is_confirmed:
            await self._next.wait()

    def observe(self, row: LeaseRow) -> None:
        """Take over what a reading says of the partition."""
        self.config_version, self.is_confirmed, self.due = row.config_version, row.confirmed, row.due
        self._next.set()
        self._next = asyncio.Event()


class LeaseKeeper:
    """The leases of one worker process. Every half second:

    1. One statement renews this worker's row of `processes`, and with it all of its leases, for two seconds. It returns
       who has which, and which tasks have work. It ends workers whose session in Postgres has ended. If another
       worker's row expires before the next statement, that is sent at that moment.
    2. A partition with another fence than this worker's is lost: the work on it ends.
    3. Free leases go to the workers with the fewest, of those that have lived for five seconds if there are some: one
       that has just started is slow. All workers compute the same; only one of them can take a lease. A lease that
       stays free for a second may be taken by any.
    4. If no lease is free, the worker with the most leases hands one over to the worker with the fewest, if that
       has at least two fewer and has lived for five seconds. It ends its work on the partition and names its successor.
    5. The statement of 1. also releases leases of partitions whose Redis this worker has not reached for three seconds.
       It takes none whose Redis it does not reach, and counts as just started: others hand it none.

    A worker that could not renew its leases for two seconds takes none of another for two seconds: perhaps Postgres was
    away, and the other has not renewed its own yet.
    """

    def __init__(self, pool: asyncpg.Pool, holder: str, partitions: int) -> None:
        """`pool` is used for nothing else that may take long."""
        self._pool, self.holder = pool, holder
        self._leases = [Lease() for _ in range(partitions)]
        self._readings = 0
        self._careful_until = 0.0
        self._lives_until = 0.0
        self.has_others = False
        """Whether there are other workers."""
        self.read_unreached: Callable[[], Mapping[int, float]] = dict
        """Return the partitions whose Redis this worker does not reach, and for how many seconds."""
        self._pause_s = RENEW_S

    def __getitem__(self, partition: int) -> Lease:
        return self._leases[partition]

    async def run(self) -> None:
        while True:
            try:
                await self.renew()
            except postgres.ERRORS as error:
                log.warning("leases_not_renewed", error=type(error).__name__)  # the fences prevent writes
            await asyncio.sleep(self._pause_s)

    async def renew(self) -> None:
        """Renew once, and set the events of each lease."""
        self._readings += 1
        reading, self._pause_s, sent_at = self._readings, RENEW_S, time.monotonic()
        released = self.list_released()
        async with asyncio.timeout(LEASE_S):
            leases = await partition_rows.renew_leases(
                self._pool, self.holder, round(LEASE_S * 1000), version(), released
            )
        self._lives_until = sent_at + LEASE_S
        if self.holder not in leases.workers and reading > 1:
            self._careful_until = time.monotonic() + LEASE_S
        workers = {**leases.workers, self.holder: leases.workers.get(self.holder, 0.0)}
        self._pause_s = choose_pause_s(leases.left_s, self.holder)
        self._observe(reading, Leases(workers, leases.partitions, leases.left_s))

    def list_released(self) -> list[int]:
        """The partitions whose leases this worker gives up, because it does not reach their Redis."""
        return sorted(partition for partition, seconds in self.read_unreached().items() if seconds >= RELEASE_S)

    async def check_readiness(self) -> tuple[bool, bytes]:
        """Whether this worker can work on a partition: it renews its leases in Postgres, and reaches the Redis of one.
        As JSON, what fails."""
        unreached, has_leases = self.read_unreached(), time.monotonic() < self._lives_until
        is_ready = has_leases and len(unreached) < len(self._leases)
        failing = ([] if has_leases else ["leases"]) + (["redis"] if unreached else [])
        return is_ready, json.dumps({"status": "ready" if is_ready else "not_ready", "failing": failing}).encode()

    async def take(self, database: asyncpg.Pool, partition: int) -> int | None:
        """Take the lease, and return its new fence; None if another worker has it."""
        lease = self[partition]
        fence = await partition_rows.take_lease(database, partition, self.holder)
        lease.is_due.clear()
        lease.is_named.clear()
        lease.is_lost.clear()
        lease.is_leaving.clear()
        lease.successor, lease.fence, lease.known_from = None, fence, self._readings + 1
        lease.lives_until = self._lives_until
        return fence

    def pause(self, partition: int) -> None:
        """The work on the partition has ended. If this worker still has the lease, it may take it again."""
        lease = self[partition]
        if lease.fence is not None and not lease.is_lost.is_set():
            lease.is_named.set()
            lease.is_due.set()
        lease.fence = None

    async def release(self, database: asyncpg.Pool, partition: int, fence: int) -> None:
        """Release the lease, to its successor if it has one."""
        lease = self[partition]
        await partition_rows.release_lease(database, partition, fence, lease.successor)
        lease.fence, lease.known_from = None, self._readings + 1
        lease.is_named.clear()
        lease.is_due.clear()

    async def end(self) -> None:
        """This worker takes no leases any more."""
        await end_process(self._pool, self.holder)

    def _observe(self, reading: int, leases: Leases) -> None:
        now = time.monotonic()
        self.has_others = len(leases.workers) > 1
        held = Counter(dict.fromkeys(leases.workers, 0))
        held.update(row.holder for row in leases.partitions.values() if row.holder in leases.workers)
        free = [partition for partition, row in leases.partitions.items() if row.holder not in leases.workers]
        settled = {worker for worker, alive_s in leases.workers.items() if alive_s >= SETTLED_S}
        to_take = share_out(held, free, settled)
        for partition, row in leases.partitions.items():
            lease = self[partition]
            if reading < lease.known_from:
                continue
            lease.observe(row)
            fence, holder = row.fence, row.holder
            is_free = holder not in leases.workers
            lease.free_since = (lease.free_since or now) if is_free else None
            may_take = is_free and not (holder and now < self._careful_until)
            is_untaken = lease.free_since is not None and now - lease.free_since > UNTAKEN_S
            is_named = holder == self.holder and lease.fence is None
            _set(lease.is_named, is_named)
            _set(lease.is_due, is_named or (may_take and (to_take.get(partition) == self.holder or is_untaken)))
            if lease.fence == fence and holder == self.holder:
                lease.lives_until = self._lives_until
            elif lease.fence is not None:
                lease.is_lost.set()
        is_moving = any(lease.is_leaving.is_set() and lease.fence is not None for lease in self._leases)
        if not free and not is_moving:
            self._hand_over(held, settled)

    def _hand_over(self, held: Mapping[str, int], settled: set[str]) -> None:
        giver, receiver = choose_handover(held, settled)
        steady = [partition for partition, lease in enumerate(self._leases) if lease.is_steady]
        if giver == self.holder and steady:
            lease = self[steady[-1]]
            lease.successor = receiver
            lease.is_leaving.set()
            log.info("lease_handed_over", partition=steady[-1], successor=receiver)


def choose_pause_s(left_s: Mapping[str, float], holder: str) -> float:
    """The pause until this holder reads the leases again: until another worker's row has expired, if that is sooner.
    `left_s` is as in Leases; a worker that lives renews its row before."""
    return min([RENEW_S, *(seconds + EXPIRED_S for worker, seconds in left_s.items() if worker != holder)])


def share_out(held: Mapping[str, int], free: Iterable[int], settled: set[str]) -> dict[int, str]:
    """Which worker takes which free lease: each goes to the settled worker with the fewest, the first of the same
    number. If no worker is settled, to any."""
    counts, shares = {worker: held[worker] for worker in settled or held}, {}
    for partition in sorted(free):
        worker = min(counts, key=lambda one: (counts[one], one))
        shares[partition] = worker
        counts[worker] += 1
    return shares


def choose_handover(held: Mapping[str, int], settled: set[str]) -> tuple[str | None, str | None]:
    """The worker that hands a lease over, and its successor; None if the leases are even."""
    giver = min(held, key=lambda one: (-held[one], one))
    receiver = min(settled, key=lambda one: (held[one], one), default=giver)
    return (giver, receiver) if held[giver] - held[receiver] >= 2 else (None, None)


def _set(event: asyncio.Event, is_set: bool) -> None:
    event.set() if is_set else event.clear()
