"""Count what each workspace has in Redis, and mark those that have reached their bound of storage; sweep the locks
that this finds in the way of others. partition_tasks.py lists it;
docs/internals/decisions/0101-storage-of-a-workspace.md."""

import asyncio

import asyncpg
import structlog

from service.engine.domain.storage import MIB, Mark, Stored, mark_of
from service.engine.formats import key_names
from service.engine.hot.expired_locks import sweep_book
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import STORING, Scripts
from service.engine.record.pool import wait_out_outage
from service.engine.worker import metrics
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.metrics import WorkspaceStorage
from service.engine.worker.projection_catchup import runner_of
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres.storage_rows import StorageBound, note_storage_use, read_storage_bounds

TURN_S = 2.0
PAGES_A_TURN = 100
"""Of some 100 books each, or of a workspace with fewer."""

log = structlog.get_logger()


class StorageWatch:
    """One for each open partition.

    1. Every two seconds, read the bounds of its workspaces, if the configuration has changed.
    2. Count the next 100 pages of books in Redis, one workspace after the other.
    3. Sweep the expired locks of books that the count names: more of a card, or of a budget, than a request reads.
    4. When a workspace is counted to its end, store its use in Postgres, if that has changed; and mark its settings in
       Redis, or remove the mark, if what Redis has differs.
    """

    def __init__(self, pool: asyncpg.Pool, server: Server, scripts: Scripts) -> None:
        self._pool, self._server = pool, server
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, STORING)
        self._run = runner_of(server, self._scripts)
        self._aside = SetAside(pool, server.partition, "measuring")
        self._bounds: list[StorageBound] = []
        self._next = 0
        self._page = "0", Stored()
        self._noted: dict[int, tuple[int, int]] = {}
        """The last use and bound of each workspace, in MiB."""
        self._uses: dict[int, WorkspaceStorage] = {}

    async def run(self, lease: Lease) -> None:
        await self._server.load(self._scripts)
        version: int | None = None
        while True:
            if version != lease.config_version:
                with wait_out_outage(log):
                    version, self._bounds = (
                        lease.config_version,
                        await read_storage_bounds(self._pool, self._server.partition),
                    )
            with wait_out_outage(log):
                await self.count_next()
            metrics.storage.show(self._server.partition, list(self._uses.values()))
            await asyncio.sleep(TURN_S)

    async def count_next(self) -> None:
        """Count the next pages; each workspace at most once."""
        ended = 0
        resting = await self._aside.read_resting() if await self._aside.read_stored() else set[str]()
        for _ in range(PAGES_A_TURN):
            if ended >= len(self._bounds):
                return
            bound = self._bounds[self._next % len(self._bounds)]
            thing, is_last = Thing(f"workspace {bound.workspace}", bound.workspace), True
            if thing.name not in resting:
                async with self._aside.contain(thing, is_last=False):
                    is_last = await self._count_page(bound, resting)
                    if is_last:
                        await self._aside.forget(thing)
            if is_last:
                self._next, self._page, ended = (self._next + 1) % len(self._bounds), ("0", Stored()), ended + 1

    async def _count_page(self, bound: StorageBound, resting: set[str]) -> bool:
        """Count some of the workspace's books; whether these were the last. Books that rest are not swept."""
        cursor, counted = self._page
        w = key_names.prefix(self._server.partition, bound.workspace)
        names = (self._server.gate, key_names.settings(w), key_names.books(w), key_names.kept_bytes(w))
        _, cursor, mark, *more = await self._run(self._server.partition, "count_storage", names, (cursor,))
        fields = len(Stored._fields)
        counted += tuple(map(int, more[:fields]))
        self._page = cursor, counted
        for book in more[fields:]:
            locks = Thing(f"locks {bound.workspace}/{book}", bound.workspace)
            if locks.name not in resting:
                async with self._aside.contain(locks):
                    await sweep_book(self._server, self._run, bound.workspace, book)
        if cursor != "0":
            return False
        await self._conclude(bound, counted.used_bytes, mark)
        return True

    async def _conclude(self, bound: StorageBound, used_bytes: int, was: Mark) -> None:
        mark, used_mib = mark_of(used_bytes, bound.limit_mib), used_bytes // MIB
        self._uses[bound.workspace] = WorkspaceStorage(bound.name, used_bytes / (bound.limit_mib * MIB))
        noted = self._noted.get(bound.workspace, (bound.used_mib, bound.limit_mib))
        self._noted[bound.workspace] = used_mib, bound.limit_mib
        if used_mib != noted[0]:
            await note_storage_use(self._pool, bound.workspace, used_mib)
        if mark != was or (mark and (used_mib, bound.limit_mib) != noted):
            w = key_names.prefix(self._server.partition, bound.workspace)
            names = (self._server.gate, key_names.settings(w), key_names.kept_bytes(w))
            await self._run(self._server.partition, "put_storage", names, (mark, used_mib, bound.limit_mib))
            if mark > was:
                log.warning("storage_full", workspace=bound.workspace, used_mib=used_mib, limit_mib=bound.limit_mib)
