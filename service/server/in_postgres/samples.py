"""Samples of traffic and backlog for the console's history of an hour and a day. wiring.py (traffic) and process.py
(backlog) run a Sampler, which also stores notes of locks and refused requests; charts.py reads, and report_rows.py the
hours. Names of counts are stored in JSON. The steps in KEEP_S are also in samples.sql, charts.py and the tables'
CHECKs."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import asyncpg
import msgspec
import structlog

from service.common.left_out import leave_out
from service.engine.domain.outcomes import find_status
from service.engine.hot.unrecorded import Backlog
from service.engine.operations.table import DONE
from service.engine.record.pool import ERRORS, Connection, Database, count_changed, error_name
from service.engine.record.queries import query

STEP_S = 10
REPORT_DAYS = 400
KEEP_S = {STEP_S: 3600, 300: 86400, 3600: REPORT_DAYS * 86400}
"""How long samples are kept, by their step. Each sample is stored in every step; of hours only counts, for reports."""
MAX_WAITING = 60
"""Samples that a process keeps while Postgres is away: of ten minutes, after which it refuses all requests."""
MAX_WORKSPACES = 1000
"""In one statement."""
WRITE_TIMEOUT_S = 5.0

_OF_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)
"""Errors of a sample itself: it would never be written, and others would wait behind it."""

Sample = TypeVar("Sample")
Counts = dict[str, int]
Times = dict[int, int]

log = structlog.get_logger()


class Endings(NamedTuple):
    """How many requests were done, refused with 4xx, and failed with 5xx."""

    done: int
    refused: int
    failed: int


class StoredTraffic(NamedTuple):
    """Counts by name, and response times by bound in µs, of the step that begins at this time."""

    at_s: int
    counts: Counts
    times: Times


class StoredBacklog(NamedTuple):
    """The highest values of the step that begins at this time."""

    at_s: int
    events: int
    oldest_ms: int


def count_endings(counts: Counts) -> Endings:
    done = sum(count for name, count in counts.items() if name in DONE)
    failed = sum(count for name, count in counts.items() if name not in DONE and find_status(name) >= 500)
    return Endings(done, sum(counts.values()) - done - failed, failed)


class Sampler(Generic[Sample]):
    """Stores a process's samples.

    1. At the end of each step, take a sample.
    2. Write it, after those that wait. While Postgres is away they wait, the last `max_waiting` of them. One that can't
       be written is left out.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        take: Callable[[], Sample],
        write: Callable[[asyncpg.Pool, int, Sample], Awaitable[None]],
        step_s: int = STEP_S,
        max_waiting: int = MAX_WAITING,
        drop: Callable[[Sample], None] | None = None,
    ) -> None:
        """`take` returns what was counted since its last call, or the state now; `write` gets it with the step's
        beginning; `drop` gets the oldest of too many."""
        self._pool, self._take, self._write, self._drop = pool, take, write, drop
        self._step_s, self._max_waiting = step_s, max_waiting
        self._waiting: deque[tuple[int, Sample]] = deque()
        self._is_failing = False

    async def run(self) -> None:
        while True:
            now_s = time.time()
            at_s = int(now_s) // self._step_s * self._step_s
            await asyncio.sleep(at_s + self._step_s - now_s)
            await self.sample(at_s)

    async def sample(self, at_s: int) -> None:
        """Take and write the sample of a step."""
        self._waiting.append((at_s, self._take()))
        if len(self._waiting) > self._max_waiting:
            _, oldest = self._waiting.popleft()
            if self._drop:
                self._drop(oldest)
        try:
            while self._waiting:
                try:
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._write(self._pool, *self._waiting[0])
                except _OF_DATA as error:
                    leave_out("sampling", error)
                self._waiting.popleft()
            self._is_failing = False
        except ERRORS as error:
            if not self._is_failing:
                log.warning("history_waits", error=error_name(error))
            self._is_failing = True

    async def end(self) -> None:
        """Write what was counted since the last step ended."""
        await self.sample(int(time.time()) // self._step_s * self._step_s)


async def add_traffic(pool: asyncpg.Pool, at_s: int, traffic: Mapping[int, tuple[Counts, Times]]) -> None:
    """Add counts by workspace to the step that begins at this time, and store that the step was sampled. Counts of a
    workspace that can't be added are left out."""
    rows = sorted(traffic.items())
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("add_sampled_steps"), at_s)
        for start in range(0, len(rows), MAX_WORKSPACES):
            some = rows[start : start + MAX_WORKSPACES]
            try:
                await _add_traffic(connection, at_s, some)
            except _OF_DATA:
                for row in some:
                    try:
                        await _add_traffic(connection, at_s, [row])
                    except _OF_DATA as error:
                        leave_out("sampling", error, row[0])


async def _add_traffic(connection: Connection, at_s: int, rows: Sequence[tuple[int, tuple[Counts, Times]]]) -> None:
    counts, times = ([msgspec.json.encode(both[part]).decode() for _, both in rows] for part in (0, 1))
    async with connection.transaction():
        await connection.execute(query("add_traffic"), at_s, [workspace for workspace, _ in rows], counts, times)


class NewestTraffic(NamedTuple):
    """Counts by name, and response times by bound in µs, of the newest ten seconds; the workspace's name, `-` for
    requests without one, None for all together."""

    name: str | None
    counts: Counts
    times: Times


async def newest_traffic(database: Database, limit: int) -> list[NewestTraffic]:
    """Of all workspaces together, then of the busiest ones."""
    rows = await database.fetch(query("newest_traffic"), limit)
    return [
        NewestTraffic(
            name,
            msgspec.json.decode(counts or "{}", type=Counts),
            msgspec.json.decode(times or "{}", type=Times),
        )
        for name, counts, times in rows
    ]


async def newest_backlog(database: Database) -> dict[int, tuple[int, int]]:
    """By partition: unrecorded events, and the age of the oldest in ms, of the last minute."""
    return {row[0]: (row[1], row[2]) for row in await database.fetch(query("newest_backlog"))}


async def add_backlog(pool: asyncpg.Pool, at_s: int, backlog: Sequence[Backlog]) -> None:
    """Store the backlog of partitions at the end of the step that begins at this time."""
    if backlog:
        await pool.execute(query("add_backlog"), at_s, *map(list, zip(*backlog, strict=True)))


async def read_traffic(
    database: Database, workspace: int, step_s: int, since_s: int, until_s: int
) -> list[StoredTraffic]:
    """The workspace's traffic in each sampled step."""
    rows = await database.fetch(query("read_traffic_samples"), workspace, step_s, since_s, until_s)
    decode = msgspec.json.decode
    return [StoredTraffic(at, decode(counts, type=Counts), decode(times, type=Times)) for at, counts, times in rows]


async def read_backlog(
    database: Database, partition: int, step_s: int, since_s: int, until_s: int
) -> list[StoredBacklog]:
    rows = await database.fetch(query("read_backlog_samples"), partition, step_s, since_s, until_s)
    return [StoredBacklog(*row) for row in rows]


async def prune_samples(database: Database, limit: int) -> int:
    """Delete at most so many expired samples of each table and step; return the largest number of one."""
    pruned = 0
    for step_s, keep_s in KEEP_S.items():
        for name in ("prune_traffic_samples", "prune_backlog_samples", "prune_sampled_steps"):
            pruned = max(pruned, await count_changed(database, query(name), step_s, keep_s, limit))
    return pruned
