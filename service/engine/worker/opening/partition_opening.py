"""Open a partition: make an unverified Redis hold everything that Postgres holds. opening_turns.py calls this for
partition_worker.py. The order of the steps is what makes an opening safe (architecture.md, Opening): change none
without the tests in tests/lab/faults. Reasons of rebuilds are stored and shown; no program reads these. The anchor is
the outbox's entry at the record's cursor, the committee the nodes of a cluster that confirm an epoch, and the mark a
key of the partition (recovery_progress.py): '' for a whole Redis, `whole` during a rebuild, else the last event applied
again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from logging import INFO, WARNING
from typing import NamedTuple

import asyncpg
import structlog

from service.engine.formats.event_id import NO_EVENT, START, EventId
from service.engine.formats.events import Fact, Opened, encode_event, entry_digest, parse_entry
from service.engine.formats.recovery_progress import WHOLE, parse_recovery_progress
from service.engine.hot.cluster import Report
from service.engine.hot.fencing import Nonce
from service.engine.hot.fitness import UnfitRedis
from service.engine.hot.redis_server import Fenced, ScriptFailed, Server
from service.engine.hot.scripts import MENDING, Scripts
from service.engine.record.archived_books import archive_again
from service.engine.record.facts.event_writer import record
from service.engine.record.facts.fact_reader import decided_at
from service.engine.record.facts.quarantined_events import UnrecordedEvent, quarantine_unrecorded
from service.engine.record.facts.surplus_rows import draw_epoch
from service.engine.record.partitions.openings import (
    RebuildOrder,
    SurplusChoice,
    begin_recovery,
    finish_recovery,
    has_deletions_after,
    order_rebuild,
    rebuild_order,
    was_recovered,
)
from service.engine.record.partitions.partition_rows import (
    LeaseLost,
    Partition,
    begin_epoch,
    close_partition,
    confirm_open,
    enter_epoch,
    read_partition,
)
from service.engine.worker import metrics
from service.engine.worker.opening.old_server import claim_of, must_outlast_committee
from service.engine.worker.opening.older_postgres import PostgresOlder, find_surplus
from service.engine.worker.opening.restorer import Restorer
from service.engine.worker.opening.surplus_carrier import SurplusCarrier
from service.engine.worker.opening.unappliable_events import UnappliableEvents
from service.engine.worker.opening.unrecorded_events import first_event, unrecorded_events
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.write_behind import AnchorLost, Flusher, OutboxGap

SETTLE_S, COMMITTEE_SETTLE_S = 0.6, 1.6
"""Processes learn within SETTLE_S that the partition is closed; then none uses its last epoch, on any server. If a
committee may have confirmed that epoch, it takes COMMITTEE_SETTLE_S from when it ceased to. FRESH_S
(service/engine/hot/fencing.py) is shorter."""

WRONG_TYPE = "a key holds another type than its kind's"
FIRST_START = "the first start: Redis and the record have no event"

log = structlog.get_logger()


class Begun(NamedTuple):
    """A new epoch."""

    epoch: int
    nonce: Nonce
    may_be_torn: bool
    """As in Fitness, when the server was checked."""
    report: Report | None
    """The server's of its cluster, if it is of one."""
    settled_at: float
    """From then on (time.monotonic) no process uses an earlier epoch, on any server."""

    async def wait_until_settled(self) -> None:
        began_s = time.monotonic()
        await asyncio.sleep(self.settled_at - began_s)
        metrics.time_opening("settle", began_s)


class Restored(NamedTuple):
    """A server that has the record, but not what was configured after it was restored."""

    begun: Begun
    restorer: Restorer
    incarnation: str
    """The Postgres from which it was restored."""


class Opening:
    """Opens one partition under its lease, on one connection. `begin` does steps 1 and 2, `restore` 3 and 4.

    1. Close the partition, and stop if Postgres lacks what Redis has (older_postgres.py), or if the last
       epoch may still be used elsewhere (old_server.py). Find or load the texts of scripts, and draw a
       new epoch. The lease's earlier owner can't commit from here on.
    2. Fence Redis: the gate is closed, and older epochs can't write.
    3. Record the outbox up to the fence. If the anchor is in the outbox, Redis has everything that is recorded.
    4. If the anchor is missing (docs/internals/decisions/0013): give a Redis that is a true prefix of the record the
       configuration and facts that it lacks. Clear and rebuild any other, after its unrecorded events went into
       quarantine. Rebuild it also after an interrupted rebuild, with another layout or a key of a wrong type, or if an
       operator orders it. Quarantine the events that can't be applied again (decision 0030), and block the codes
       of quarantined events.
    5. Wait until all processes know that the partition is closed: until then they may use its last epoch, and project
       configuration, on another server. Then project the configuration that Redis lacks.
    6. Check that the server still has the scripts, and load those of other versions that run. Check the server again,
       mark the epoch as open in Postgres, and open the gate.

    If the worker dies, either the gate is closed or the partition is open.
    """

    def __init__(
        self,
        server: Server,
        pool: asyncpg.Pool,
        flusher: Flusher,
        fence: int,
        loaded: LoadedScripts,
        redis_url: str = "",
        *,
        has_log: bool = False,
    ) -> None:
        """`has_log` is as in choose_nonce."""
        self._redis_url, self._has_log = redis_url, has_log
        self._server, self._pool, self._flusher, self._fence = server, pool, flusher, fence
        self._loaded = loaded
        self._partition = server.partition
        self._log = log.bind(partition=server.partition)
        self._is_old = False
        """Whether the keys in Redis have another layout."""
        self._had_wrong_type = False
        """Whether one of the partition's own keys had a wrong type."""
        self._way: metrics.Way = "verified"
        self._minted = 0
        """An epoch for events that only Redis's state tells of; 0 if none are to be recorded."""

    async def run(self) -> Scripts:
        """Open, and return the new epoch's scripts. Raises LeaseLost, PostgresOlder, OldServerMayRun, Fenced,
        UnfitRedis, Broken, OutboxGap, CursorMoved, TooManyFailed. If a key has a wrong type, order a rebuild and raise
        Fenced: the next opening removes all keys."""
        begun = await self.begin()
        restored = await self.restore(begun)
        await begun.wait_until_settled()
        return await self.finish(restored)

    async def is_rebuild(self) -> bool:
        """Whether Redis will be rebuilt whole, as far as that is known before the beginning."""
        ordered = await rebuild_order(self._pool, self._partition)
        return ordered is not None or await self._has_other_layout(await self._server.newest_epoch())

    @asynccontextmanager
    async def _rebuilding_wrong_types(self) -> AsyncIterator[None]:
        """Order a rebuild if a script can't read a key in the block."""
        try:
            yield
        except ScriptFailed as failed:
            if not failed.is_wrong_type:
                raise
            if await rebuild_order(self._pool, self._partition) is None:
                await order_rebuild(self._pool, self._partition, WRONG_TYPE)
            raise Fenced(f"{WRONG_TYPE}: {failed.script} can't read it") from None

    async def begin(self) -> Begun:
        """Close the partition for a new epoch. Uses Postgres for single statements only. Raises as run."""
        began_s = time.monotonic()
        server = self._server
        fitness = await server.check()
        report = await server.report() if fitness.replication.is_clustered else None
        ordered = await self._reject_older_postgres()
        about = self._pool, self._partition, self._fence, self._redis_url
        must_outlast = await must_outlast_committee(*about, fitness.replication, report)
        await close_partition(self._pool, self._partition, self._fence)
        settled_at = time.monotonic() + (COMMITTEE_SETTLE_S if must_outlast else SETTLE_S)
        chosen = await self._loaded.begin(server, fitness, report, has_log=self._has_log)
        newest = await server.newest_epoch()
        if ordered and ordered.surplus == "apply":
            self._minted = await draw_epoch(self._pool)
        self._is_old = await self._has_other_layout(newest)
        epoch = await begin_epoch(self._pool, self._partition, self._fence, str(chosen), newest)
        self._log.info("partition_opening", epoch=epoch, fencing=chosen.fencing)
        if wrong := await server.wrong_types():
            self._log.error("wrong_types", keys=[key.kind for key in wrong])
            self._had_wrong_type = True
            await server.delete_wrong_types(epoch, wrong)
        await server.fence(epoch)
        metrics.time_opening("begin", began_s)
        return Begun(epoch, chosen, fitness.may_be_torn, report, settled_at)

    async def _reject_older_postgres(self) -> RebuildOrder | None:
        """Close and raise PostgresOlder, unless an operator chose what becomes of what Redis has; return the order."""
        surplus = await find_surplus(self._server, self._pool)
        ordered = await rebuild_order(self._pool, self._partition)
        if surplus and not (ordered and ordered.surplus):
            await close_partition(self._pool, self._partition, self._fence, str(surplus))
            raise PostgresOlder(str(surplus))
        return ordered

    async def _has_other_layout(self, newest_epoch: int) -> bool:
        return newest_epoch > 0 and not await self._server.is_of_this_layout()

    async def restore(self, begun: Begun) -> Restored:
        """Raises as run."""
        began_s = time.monotonic()
        closed = Scripts(self._partition, begun.epoch, str(begun.nonce), MENDING, "closed")
        restorer = Restorer(self._server, self._pool, closed, UnappliableEvents(self._pool, self._partition))
        await self._server.load(restorer.scripts)
        row = await read_partition(self._pool, self._partition)
        async with self._rebuilding_wrong_types():
            if begun.may_be_torn:
                await self._rewrite_torn_file(restorer)
            await self._restore(restorer, begun.epoch, row)
        metrics.time_opening("restore", began_s)
        return Restored(begun, restorer, row.incarnation)

    async def finish(self, restored: Restored) -> Scripts:
        """Call it once the epoch is settled. Raises as run."""
        began_s = time.monotonic()
        (begun, restorer, incarnation), server = restored, self._server
        epoch, nonce = begun.epoch, str(begun.nonce)
        async with self._rebuilding_wrong_types():
            await restorer.configure(await restorer.projector.read_last_version(self._partition))
            await restorer.record_progress("")
        scripts = await self._loaded.finish(server, epoch, nonce)
        if not begun.nonce.fits((await server.check()).replication):
            raise Fenced("this server's replication has changed since it was verified")
        if begun.report and claim_of(await server.report(), self._partition) != claim_of(begun.report, self._partition):
            raise Fenced("this server has lost the slot since the opening began, or got it again")
        if not await confirm_open(self._pool, self._partition, self._fence, epoch, incarnation):
            raise LeaseLost(f"partition {self._partition}: epoch {epoch} is not ours to open")
        await server.move_gate(f"{epoch} closed", f"{epoch} open")
        await finish_recovery(self._pool, self._partition, epoch)
        self._log.info("partition_opened", epoch=epoch)
        metrics.time_opening("finish", began_s)
        metrics.count_opening(self._partition, self._way)
        return scripts

    async def _rewrite_torn_file(self, restorer: Restorer) -> None:
        """Some servers cut a file that ends within a transaction, and run that half at the start after next. If that
        happens before the file is rewritten, the mark demands a rebuild. It also does if the server refuses to rewrite
        the file: a logged rebuild follows that half in the file. One rewrite serves all partitions that wait for it."""
        mark = await self._server.read_mark()
        await restorer.record_progress(WHOLE)
        if await self._server.rewrite_file(joins=True):
            await restorer.record_progress(mark)

    async def _restore(self, restorer: Restorer, epoch: int, row: Partition) -> None:
        """Steps 3 and 4. `row` was read before the drain: if Postgres restarts after that, the epoch is not entered."""
        mark = await self._server.read_mark()
        projected, newest = await restorer.projector.read_versions(self._partition)
        ordered = await rebuild_order(self._pool, self._partition)
        whole = (
            (mark == WHOLE and "a rebuild was not finished")
            or (self._is_old and "its keys are of another layout")
            or (self._had_wrong_type and WRONG_TYPE)
            or (ordered.reason if ordered else "")
            or (newest > row.config_version and "Postgres is older")
        )
        lost = ""
        try:
            await self._flusher.drain(epoch)
        except AnchorLost as anchor:
            lost = FIRST_START if await self._is_first_start(row) else str(anchor)
        except OutboxGap as gap:
            if not (ordered and ordered.surplus):
                raise
            lost = str(gap)
        if not whole and not lost:
            await archive_again(self._pool, self._partition, projected)
            return
        await self._reject_older_postgres()  # again, as Redis decided until it was fenced
        reached, skipped = parse_recovery_progress(mark)
        after = None if whole else reached if mark else await self._prefix()
        if after is None or await has_deletions_after(self._pool, self._partition, after):
            # Once a rebuild has begun, nothing is left to choose.
            choice = ordered.surplus if ordered and mark != WHOLE else None
            await self._rebuild(restorer, epoch, whole or lost, choice)
        else:
            await UnappliableEvents(self._pool, self._partition).quarantine_named(skipped)  # by a worker that died
            await self._redo_tail(restorer, epoch, lost, after, projected)
        await restorer.append_recovery_entry()
        await self._enter(epoch, restorer.scripts.nonce, row.incarnation)

    async def _is_first_start(self, row: Partition) -> bool:
        return row.cursor == NO_EVENT and await first_event(self._server) is None

    async def _prefix(self) -> EventId | None:
        """The last event of a Redis that is a true prefix of the record; None if that can't be shown."""
        cursor = (await read_partition(self._pool, self._partition)).cursor
        async for at, (d, r, _) in self._server.entries(newest_first=True):
            if d.startswith(b"M "):  # Redis was whole when it was appended
                is_ours = await was_recovered(self._pool, self._partition, at[0], d[2:].decode())
                return at if is_ours else None
            event = parse_entry(at, d, r)
            if event is None:
                return None
            if isinstance(event, Opened):
                continue  # this opening's, or that of one which restored nothing
            if at > cursor:
                return None
            if isinstance(event, Fact):
                return at if await decided_at(self._pool, self._partition, *at) == encode_event(event) else None
        return None

    async def _redo_tail(self, restorer: Restorer, epoch: int, reason: str, after: EventId, projected: int) -> None:
        """Apply what the record has after an event. Configuration first: facts refer to books and codes."""
        self._way = "redone"
        self._log.warning("redoing", reason=reason, after=str(after))
        await begin_recovery(
            self._pool, self._partition, epoch, restorer.scripts.nonce, "tail", reason, after, projected
        )
        await archive_again(self._pool, self._partition, projected)
        await restorer.configure(projected)
        await restorer.restore_keys(after)
        self._log.info("redone", events=await restorer.apply_events(after, whole=False))
        await restorer.block_codes(whole=False)

    async def _rebuild(self, restorer: Restorer, epoch: int, reason: str, choice: SurplusChoice | None) -> None:
        """Rebuild everything. The mark stands from before the first removal until the gate is about to open. The
        append-only file is rewritten once, at the end; if the server refuses that, everything is logged instead."""
        self._way = "rebuilt"
        self._log.log(INFO if reason == FIRST_START else WARNING, "rebuilding", reason=reason)
        await begin_recovery(self._pool, self._partition, epoch, restorer.scripts.nonce, "whole", reason, START, 0)
        if choice == "apply":
            await self._carry_over(epoch)
        else:
            await self._quarantine_unrecorded(epoch, reason, is_dropped=choice == "discard")
        await restorer.record_progress(WHOLE)
        await self._server.trim(epoch)  # entries may be of another history, and scripts read redemptions there
        await restorer.clear()
        is_logged = await self._server.must_log()
        if is_logged:
            nonce = restorer.scripts.nonce
            restorer.scripts = Scripts(self._partition, epoch, nonce, MENDING, "closed", logged=True)
            await self._server.load(restorer.scripts)
        await restorer.configure(0, whole=True)
        events = await restorer.apply_events(START, whole=True)
        await restorer.block_codes(whole=True)
        await restorer.fill_pools()
        if is_logged:
            await restorer.restore_keys(START)
        else:
            await self._restore_keys_and_rewrite(restorer)
        self._log.info("rebuilt", events=events, logged=is_logged)

    async def _restore_keys_and_rewrite(self, restorer: Restorer) -> None:
        """Restore the keys, whose writes are logged, while Redis rewrites its file. Raises UnfitRedis."""
        rewriting = asyncio.create_task(self._server.rewrite_file())
        try:
            await restorer.restore_keys(START)
            if not await rewriting:
                raise UnfitRedis("Redis no longer allows BGREWRITEAOF: the next opening rebuilds it.")
        finally:
            rewriting.cancel()
            await asyncio.gather(rewriting, return_exceptions=True)

    async def _carry_over(self, epoch: int) -> None:
        if not self._minted:
            raise Fenced("a recovery was ordered while the partition was opened")
        kept = await SurplusCarrier(self._server, self._pool, self._fence).carry_over(EventId(epoch, 0), self._minted)
        self._log.warning("surplus_kept", counts=kept.counts())

    async def _quarantine_unrecorded(self, epoch: int, reason: str, *, is_dropped: bool) -> None:
        """Quarantine the outbox's events that the record lacks and now can't take. `reason`: of the rebuild. With
        `is_dropped`, an operator has decided that they never happened."""
        quarantined = 0
        async with aclosing(unrecorded_events(self._server, self._pool, EventId(epoch, 0))) as pages:
            async for page in pages:
                events = [UnrecordedEvent(one.at, one.d, one.r) for one in page]
                quarantined += await quarantine_unrecorded(self._pool, self._partition, reason, events, is_dropped)
        if quarantined:
            self._log.error("events_dropped" if is_dropped else "events_set_aside", events=quarantined)

    async def _enter(self, epoch: int, nonce: str, incarnation: str) -> None:
        """Move the cursor to the entry that ends the recovery. Only a whole Redis may be recorded from: until here,
        another worker still finds the anchor lost, or the mark, and restores again. So does this one if Postgres
        restarted: restored to an earlier time, it may lack what Redis was restored from."""
        digest = entry_digest(f"{epoch}-1".encode(), f"M {nonce}".encode())
        async with self._pool.acquire() as connection, connection.transaction():
            row = await read_partition(connection, self._partition)
            if row.incarnation != incarnation:
                raise LeaseLost(f"partition {self._partition}: Postgres restarted while Redis was restored from it")
            if row.cursor == (epoch, 0):  # everything was recorded, and a rebuild was ordered
                entered = await record(connection, self._partition, epoch, 0, 1, self._fence, (), digest)
            else:
                entered = await enter_epoch(connection, self._partition, self._fence, row.cursor, epoch, digest, 1)
        if not entered:
            raise LeaseLost(f"partition {self._partition}: the cursor is no longer at {row.cursor}")
