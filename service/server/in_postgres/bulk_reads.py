"""What the first pass of a comparison reads of the record: from the primary, or from a replica. reconcile/ calls this;
comparison.py chooses. Both return the same rows, a replica some of them twice; bucket_walk.py relies on the order of
buckets of codes and uses."""

import asyncio
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, TypeVar

import asyncpg
import msgspec
import structlog

from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.pool import (
    ERRORS,
    FRESH_PLAN,
    Connection,
    error_name,
    is_away,
    long_transaction,
    set_locally,
)
from service.engine.record.queries import query
from service.server.in_postgres import comparisons

Rows = AsyncGenerator[list[Any], None]
Counts = tuple[dict[int, dict[str, int]], int]
"""Books' counters, and the version of the configuration from which they were counted."""

USERS_A_PAGE = 500
NAMES_A_PAGE = 2000
"""Codes, orders, buyers or keys of which one transaction on a replica reads."""
BUCKETS_A_RUN = 1024
PACKED_ROWS = 20_000
WAIT_S = 60.0
"""How long a read on a replica is repeated until it succeeds."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_PAGE = FRESH_PLAN | {"jit": "off"}
# Replaying cancels what it must not wait for longer.
_CANCELLED = (asyncpg.DeadlockDetectedError, asyncpg.InFailedSQLTransactionError)

log = structlog.get_logger()
_T = TypeVar("_T")


class ReplicaBehind(Exception):
    """The replica has not applied the cut in time."""


class ReplicaAway(Exception):
    """The replica could not be read in time."""


class PrimaryReads:
    """Reads of one partition. Each pass is one statement over all of a workspace: one sort instead of many look-ups by
    index. Rows of codes and of uses are in the order of their buckets, a user's rows come in one list. Close the
    generators."""

    def __init__(self, pool: asyncpg.Pool, partition: int) -> None:
        self._pool, self._partition = pool, partition

    def codes(self, workspace: int, at: EventId) -> Rows:
        """Rows of `codes_in_order`; None: of all names."""
        return self._stream("codes_in_order", self._partition, workspace, *at, None)

    def uses(self, workspace: int, at: EventId) -> Rows:
        """Rows of `uses_in_order`; None: of all redemptions, buyers and gifts."""
        return self._stream("uses_in_order", self._partition, workspace, *at, None, None, None)

    async def users(self, workspace: int, at: EventId) -> Rows:
        """Rows of `users_in_order`."""
        streamed = self._stream("users_in_order", self._partition, workspace, *at, None, None)
        page: list[Any] = []
        async with aclosing(streamed) as rows:
            async for some in rows:
                page += some
                owners = sorted({row[0] for row in page})
                # The last user's rows may continue in the next batch. The query sorts as sorted() does, by bytes.
                while len(owners) > USERS_A_PAGE:
                    end = owners[USERS_A_PAGE]
                    at_end = next(index for index, row in enumerate(page) if row[0] == end)
                    yield page[:at_end]
                    page, owners = page[at_end:], owners[USERS_A_PAGE:]
        yield page

    def keys(self, workspace: int, at: EventId, small_bytes: int) -> Rows:
        """Rows of `keys_in_order`."""
        return self._stream("keys_in_order", workspace, *at, small_bytes, "", None)

    async def counts(self, workspace: int, at: EventId, books: Sequence[int]) -> Counts:
        async with self._pool.acquire() as connection:
            counts = await comparisons.counts(connection, self._partition, workspace, at, books)
            return counts, (await read_partition(connection, self._partition)).config_version

    async def known_users(self, workspace: int, names: Sequence[str]) -> set[str]:
        """Those of these users that were created or have a coupon, as of the last cut or later."""
        return await comparisons.known_users(self._pool, workspace, names)

    async def count_compared(self, workspaces: Sequence[int]) -> dict[int, int]:
        async with long_transaction(self._pool) as connection:
            return await comparisons.count_compared(connection, workspaces)

    async def _stream(self, name: str, *args: Any) -> Rows:
        async with self._pool.acquire() as connection, aclosing(comparisons.stream(connection, name, *args)) as rows:
            async for some in rows:
                yield some


class _Cut(NamedTuple):
    """What a replica must have: the primary's position of the WAL, and an event."""

    position: int
    epoch: int
    seq: int


class ReplicaReads:
    """What PrimaryReads reads, in short pages, each in a transaction of its own, because replaying cancels long ones.
    What seems to differ is only suspected: the primary decides. A row of `uses` may be repeated.

    1. The primary has the cut. Its position of the WAL is read once for each pass.
    2. A page's transaction first checks that this server has applied that position and the cut's event; an address may
       lead to several replicas. Then it lists the next names by key, and reads their state at the cut.
    3. A page that is cancelled, behind, or without a server is read again for at most WAIT_S.
    """

    def __init__(self, primary: asyncpg.Pool, replica: asyncpg.Pool, partition: int) -> None:
        self._primary, self._replica, self._partition = primary, replica, partition
        self._last_cut: _Cut | None = None

    async def codes(self, workspace: int, at: EventId) -> Rows:
        about = (self._partition, workspace, *at)

        async def read(connection: Connection, names: list[str]) -> list[Any]:
            return await connection.fetch(query("codes_in_order"), *about, names)

        async for rows in _sort([self._named("codes_after", workspace, at, read)]):
            yield rows

    async def uses(self, workspace: int, at: EventId) -> Rows:
        about = (self._partition, workspace, *at)

        async def of_orders(connection: Connection, names: list[str]) -> list[Any]:
            rows = await connection.fetch(query("redemptions_of_orders"), *about, names, [], [])
            return await connection.fetch(query("uses_in_order"), *about, [row[0] for row in rows], [], [])

        async def of_users(connection: Connection, names: list[str]) -> list[Any]:
            rows = await connection.fetch(query("unplaced_redemptions"), *about, names)
            return await connection.fetch(query("uses_in_order"), *about, [row[0] for row in rows], names, [])

        async def of_gifts(connection: Connection, names: list[str]) -> list[Any]:
            return await connection.fetch(query("uses_in_order"), *about, [], [], names)

        kinds = (("orders_after", of_orders), ("buyers_after", of_users), ("gifts_after", of_gifts))
        async for rows in _sort([self._named(listing, workspace, at, read) for listing, read in kinds]):
            yield rows

    async def users(self, workspace: int, at: EventId) -> Rows:
        async def read(connection: Connection, names: list[str]) -> list[Any]:
            return await comparisons.users(connection, self._partition, workspace, at, names)

        for listing in ("users_after", "owners_after"):
            async with aclosing(self._named(listing, workspace, at, read, USERS_A_PAGE)) as pages:
                async for rows in pages:
                    yield rows

    def keys(self, workspace: int, at: EventId, small_bytes: int) -> Rows:
        async def read(after: str, connection: Connection) -> tuple[list[Any], str | None]:
            rows = await connection.fetch(query("keys_in_order"), workspace, *at, small_bytes, after, NAMES_A_PAGE)
            return rows, rows[-1][0] if len(rows) == NAMES_A_PAGE else None

        return self._pages(at, read)

    async def counts(self, workspace: int, at: EventId, books: Sequence[int]) -> Counts:
        """One statement for each book: its codes and redemptions have indexes by book."""
        cut, counts, versions = await self._cut(at), dict[int, dict[str, int]](), list[int]()
        for book in books:

            async def read(connection: Connection, book: int = book) -> Counts:
                rows = await connection.fetch(query("counts_of_books"), self._partition, workspace, *at, [book])
                version = (await read_partition(connection, self._partition)).config_version
                return comparisons.group_counts(rows), version

            some, version = await self._read(cut, comparisons.PASS, read)
            counts |= some
            versions.append(version)
        return counts, max(versions, default=0)

    async def known_users(self, workspace: int, names: Sequence[str]) -> set[str]:
        cut = self._last_cut or await self._cut(NO_EVENT)
        return await self._read(cut, _PAGE, lambda one: comparisons.known_users(one, workspace, names))

    async def count_compared(self, workspaces: Sequence[int]) -> dict[int, int]:
        cut = await self._cut(NO_EVENT)
        return await self._read(cut, comparisons.PASS, lambda one: comparisons.count_compared(one, workspaces))

    def _named(
        self,
        listing: str,
        workspace: int,
        at: EventId,
        read: Callable[[Connection, list[str]], Awaitable[list[Any]]],
        most: int | None = None,
    ) -> Rows:
        """Pages of what `read` returns for names, which the query `listing` lists."""
        most = most or NAMES_A_PAGE

        async def read_page(after: str, connection: Connection) -> tuple[list[Any], str | None]:
            names = [row[0] for row in await connection.fetch(query(listing), workspace, after, most)]
            return await read(connection, names) if names else [], names[-1] if len(names) == most else None

        return self._pages(at, read_page)

    async def _pages(
        self, at: EventId, read: Callable[[str, Connection], Awaitable[tuple[list[Any], str | None]]]
    ) -> Rows:
        """`read` returns the page after a name, and the last name of a page that others follow."""
        cut, after = await self._cut(at), ""
        while after is not None:
            rows, after = await self._read(cut, _PAGE, partial(read, after))
            yield rows

    async def _cut(self, at: EventId) -> _Cut:
        self._last_cut = _Cut(await self._primary.fetchval(query("written_position")), *at)
        return self._last_cut

    async def _read(self, cut: _Cut, settings: dict[str, str], read: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Read in one transaction of a replica that has the cut. Raises ReplicaBehind, ReplicaAway."""
        deadline, pause_s = time.monotonic() + WAIT_S, _FIRST_PAUSE_S
        while True:
            try:
                async with self._replica.acquire() as connection, connection.transaction(readonly=True):
                    await set_locally(connection, settings)
                    if await connection.fetchval(query("has_applied"), self._partition, *cut):
                        return await read(connection)
                problem: Exception = ReplicaBehind(
                    f"the replica at DATABASE_READ_URL has not applied what the primary has, after {WAIT_S:.0f} s"
                )
            except ERRORS as error:
                if not is_away(error) and not isinstance(error, _CANCELLED):
                    raise
                log.warning("replica_read_again", partition=self._partition, error=error_name(error))
                problem = ReplicaAway(
                    f"the replica at DATABASE_READ_URL can't be read for {WAIT_S:.0f} s ({error_name(error)})"
                )
            if time.monotonic() > deadline:
                raise problem
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


BulkReads = PrimaryReads | ReplicaReads


class PackedRuns:
    """Rows that come in any order, and are read again run by run. They are compressed in memory by their runs: some
    20 bytes for a row of 60. The first field is a number, and `width` of these numbers make a run."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._fresh: list[tuple[Any, ...]] = []
        self._packed: dict[int, list[bytes]] = defaultdict(list)
        self._encoder = msgspec.msgpack.Encoder()

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        self._fresh += map(tuple, rows)
        if len(self._fresh) >= PACKED_ROWS:
            for run, some in self._split().items():
                self._packed[run].append(zlib.compress(self._encoder.encode(some), 1))
            self._fresh = []

    def read(self) -> Iterator[list[list[Any] | tuple[Any, ...]]]:
        """Yield the rows of each run, in order of their numbers, and drop them."""
        fresh = self._split()
        self._fresh = []
        for run in sorted(self._packed.keys() | fresh.keys()):
            rows = list[Any](fresh.get(run, ()))
            for packed in self._packed.pop(run, ()):
                rows += msgspec.msgpack.decode(zlib.decompress(packed))
            rows.sort(key=lambda row: row[0])
            yield rows

    def _split(self) -> dict[int, list[tuple[Any, ...]]]:
        runs: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self._fresh:
            runs[row[0] // self._width].append(row)
        return runs


async def _sort(sources: Sequence[Rows]) -> Rows:
    """All rows of these, in the order of their buckets."""
    runs = PackedRuns(BUCKETS_A_RUN)
    for source in sources:
        async with aclosing(source) as pages:
            async for rows in pages:
                runs.add(rows)
    for run in runs.read():
        yield run
