"""Move workspaces to other partitions while requests go on (docs/decisions/0055). partition_worker.py of the source
runs it, when `scrip move` (cli/moving.py) has ordered a move. Each step relies on those before it; only the commit of
step 5 decides where the workspace is."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TypeVar

import asyncpg
import hiredis
import structlog

from service.domain.configuration import WorkspaceRow
from service.domain.errors import Refusal
from service.formats.event_id import EventId
from service.hot.connection import Broken, connect
from service.hot.key_copies import ChangedKeys, ChangesLost, Copies, NotVerified, follow_changes
from service.hot.projection import RedisProjector
from service.hot.redis_server import Fenced
from service.hot.scripts import version
from service.record import pool as postgres
from service.record.config.workspace_rows import read_workspace
from service.record.facts.forgotten_orders import read_orders_since
from service.record.partitions import moves
from service.record.partitions.comparisons import books_numbers
from service.record.partitions.moves import CannotMove, InChange, Move, Switch
from service.record.partitions.openings import order_rebuild
from service.record.partitions.partition_rows import Partition, read_partition
from service.record.partitions.standby_rows import read_flushed
from service.record.pool import wait_out_outage
from service.worker.lease_keeper import Lease
from service.worker.moving.guarded_changes import GuardedChanges
from service.worker.moving.key_copier import KeyCopier
from service.worker.task_supervisor import reason_of
from service.worker.waiting import has_recorded, wait_until

PAUSE_S, BUSY_S, UNDO_S = 1.0, 0.5, 0.02
"""Pauses: if a move waits, or undoing or clearing fails; after a step; and after an interrupted attempt, which is soon
undone: it may have closed the workspace."""
MOST_ATTEMPTS = 10
LOCK_TRIES, LOCK_PAUSE_S = 20, 0.2
CLOSED_S = 15.0
"""The longest wait while a workspace is closed or about to be, for a record that lags; then the attempt is undone."""
LOCKED_S = 5.0
"""The same for Redis, while other changes of configuration wait."""
LAST_COPY_S = 1.0
"""For so long changed keys are copied while other changes of configuration wait, before the workspace is closed."""
PROBES, PROMPT_S, PROBE_PAUSE_S = 10, 0.4, 0.1
"""How often at most _until_prompt measures recording and copying, what is short enough, and the pause in between."""
CHANGE_TRIES, YIELDS = 10, 5
"""Rows are moved again if a user is to be deleted meanwhile, at most so often; the first times at once."""
CHANGE_S = 30.0
"""The longest wait for deletions of users, and for books that leave Redis or return."""
CHASE_PAUSE_S = 0.1
STANDBYS_S = 10.0
POLL_S = 0.01
PROGRESS_S, KEEP_S = 0.5, 1.0
INTERRUPTED = "interrupted: "
_MARK = frozenset("m")
"""The kind of the mark of the leaving (service/formats/key_names.py), which `clear` keeps."""

_FAILED = (Fenced, Broken, OSError, hiredis.ReplyError, NotVerified, ChangesLost, CannotMove, Refusal)
"""What ends an attempt, besides Postgres's errors. If the source itself is no longer ours, its other tasks notice."""

_T = TypeVar("_T")

log = structlog.get_logger()


class Waiting(Exception):
    """The move can't begin yet. The text says why."""


class WorkspaceMover:
    """One for each open partition, for the workspaces that are to leave it. It moves one at a time:

    1. Wait until the target's epoch is newer than the source's (service/worker/partition_worker.py turns it), and have
       the source's turn: no comparison counts, and no book retires meanwhile. Give the settings a new version, project
       them, and remove what an earlier attempt has left in the target.
    2. Copy all keys, except the settings, without which no script decides. Redis names the keys that change meanwhile;
       copy these again until that takes a moment (service/worker/moving/key_copier.py).
    3. In one transaction of Postgres, move the facts, then codes and users, then what came since, and copy changed keys
       meanwhile. If a user is to be deleted, roll back, let that go first, and repeat this step. Wait until events of
       both partitions are recorded soon. Then let changes of configuration in both wait, until all earlier ones are in
       Redis.
    4. Remove the settings from the source: the workspace is closed. Copy the last changed keys. Append an event after
       them in the target. Wait until the last events of both partitions are recorded.
    5. Move the last facts and the workspace's own row, if both partitions are still in the same epochs, and commit.
       From here on the workspace is in the target.
    6. Project the settings there: the workspace is open. Remove its keys from the source.

    If an attempt fails before the commit, the transaction is rolled back, the settings return to the source with a new
    version, and the next attempt starts over. After the commit, projecting and removing are repeated until done. So the
    row of the workspace alone says where it is, whatever dies and when.
    """

    def __init__(
        self,
        redis_url: str,
        projector: RedisProjector,
        changes: GuardedChanges,
        moving: asyncio.Semaphore,
        standbys: int,
    ) -> None:
        """`moving` admits one move of the process at a time, as it holds a connection to Postgres."""
        self._url, self._projector, self._changes = redis_url, projector, changes
        self._pool, self._partition, self._fence = changes.pool, changes.partition, changes.fence
        self._erasing, self._moving, self._standbys = changes.erasing, moving, standbys
        self._log = log.bind(source=changes.partition)
        self._stage, self._has_erasing = "", False
        self._tried: list[int] = []
        """The workspaces whose moves wait, or have failed, since a step was done; first the one tried longest ago."""

    async def run(self, lease: Lease) -> None:
        while True:
            pause_s: float | None = BUSY_S
            with wait_out_outage(self._log):
                pause_s = await self.move_next()
            if pause_s is None:
                await lease.until_due("moving")
            else:
                await asyncio.sleep(pause_s)

    async def move_next(self) -> float | None:
        """Take the next step of the next move: others go before one that waits. Return the pause until the next call;
        None if there is no move."""
        move = await moves.next_move(self._pool, self._partition, self._tried)
        if move is None:
            return None
        self._tried = [*(one for one in self._tried if one != move.workspace), move.workspace]
        try:
            if move.state == "clearing":
                await self._clear_source(move)
            elif move.state == "running":
                await self._undo(move)
            else:
                await self._start(move)
        except Waiting as waiting:
            self._log.info("move_waits", workspace=move.workspace, target=move.target, reason=str(waiting))
            await moves.note_reason(self._pool, move.workspace, f"waits: {waiting}")
            return PAUSE_S
        except (*_FAILED, *postgres.ERRORS) as error:
            # Rolling back on a lost connection raises another error than the first one.
            cause = error.__context__ if isinstance(error.__context__, CannotMove) else error
            reason = str(cause) if isinstance(cause, CannotMove | NotVerified | ChangesLost) else reason_of(error)
            self._log.warning("move_interrupted", workspace=move.workspace, target=move.target, reason=reason)
            with wait_out_outage(self._log):
                await moves.note_reason(self._pool, move.workspace, f"{INTERRUPTED}{reason}")
            return UNDO_S if move.state == "ordered" else PAUSE_S
        self._tried.clear()
        return BUSY_S

    async def _start(self, move: Move) -> None:
        here = await read_partition(self._pool, move.source)
        target = await read_partition(self._pool, move.target)
        if others := await moves.other_versions(self._pool, version()):
            raise Waiting(f"processes of other versions run: {', '.join(others)}")
        if target.state != "open" or target.epoch <= here.epoch:
            raise Waiting(f"partition {move.target} is not open yet in a newer epoch than {here.epoch}")
        if not target.lease_live:
            raise Waiting(f"no worker has partition {move.target}")
        if await moves.is_in_change(self._pool, move.workspace):
            raise Waiting("a user of the workspace is being deleted, or a book leaves Redis or returns")
        async with self._moving, self._changes.turn() as is_ours:
            if not is_ours:
                raise Waiting("a comparison runs, or books or orders leave Redis")
            await self._attempt(move, here, target)

    async def _attempt(self, move: Move, here: Partition, target: Partition) -> None:
        """Steps 1 to 6. Raises Waiting if it can't begin."""
        try:
            await moves.begin_move(self._pool, move, self._fence)
        except Refusal as refusal:
            raise Waiting(f"partition {move.source} is closed, or Postgres has restarted") from refusal
        self._log.info("moving", workspace=move.workspace, target=move.target)
        await self._project_here(move)
        async with (
            self._copies(move, here) as old,
            self._copies(move, target) as new,
            follow_changes(self._url, move.source, move.workspace) as changed,
        ):
            copier = KeyCopier(old, new, changed, partial(self._paused, move, old, changed))
            self._stage = "copies keys"
            async with _beside(self._report(move, copier)):
                await new.clear(_MARK)
                await copier.copy_all(await moves.estimate_keys(self._pool, move.workspace))
                await copier.settle()
                self._stage = moves.SWITCHING
                await self._store_progress(move, copier)
                closed_at = await self._switch(move, copier, here, target)
            await self._open(move, new)
            closed_ms = round((time.monotonic() - closed_at) * 1000)
        self._log.info("moved", workspace=move.workspace, target=move.target, closed_ms=closed_ms)
        await self._clear_source(move)

    async def _switch(self, move: Move, copier: KeyCopier, here: Partition, target: Partition) -> float:
        """Steps 3 to 5; return when the workspace was closed. A deletion of a user goes first."""
        for number in range(CHANGE_TRIES):
            copier.allow_pauses()
            await self._until_unchanged(move, copier)
            try:
                async with self._without_erasing(), self._pool.acquire() as connection, connection.transaction():
                    switch = Switch(connection, move)
                    work = self._move_rows(connection, switch, copier)
                    versions = await self._copy_during(work, switch, copier, move if number < YIELDS else None)
                    await self._while_kept(self._prepare(move, copier, versions), switch)
                    await switch.move_new_facts()
                    await self._while_kept(copier.settle(LAST_COPY_S), switch)
                    closed_at = time.monotonic()
                    async with asyncio.timeout(CLOSED_S):
                        arrived = await self._close(copier, versions, switch)
                    closed_ms = round((time.monotonic() - closed_at) * 1000)
                    await switch.move_workspace(self._fence, here.epoch, target.epoch, arrived, closed_ms)
                return closed_at
            except InChange:
                self._log.info("move_yields", workspace=move.workspace, target=move.target)
        raise CannotMove("users are deleted, or books leave Redis or return, again and again")

    @asynccontextmanager
    async def _without_erasing(self) -> AsyncIterator[None]:
        async with self._erasing:
            self._has_erasing = True
            try:
                yield
            finally:
                self._has_erasing = False

    async def _prepare(self, move: Move, copier: KeyCopier, versions: dict[int, int]) -> None:
        """Wait until all changes of configuration are in Redis."""
        projected = RedisProjector(copier.new.project)
        await self._wait(lambda: _has_seen(self._projector, move.source, versions), LOCKED_S)
        await self._wait(lambda: _has_seen(projected, move.target, versions), LOCKED_S)

    async def _until_unchanged(self, move: Move, copier: KeyCopier) -> None:
        """Let deletions of users end, and books leave Redis or return. Raises CannotMove."""
        deadline = time.monotonic() + CHANGE_S
        while await moves.is_in_change(self._pool, move.workspace):
            if time.monotonic() > deadline:
                raise CannotMove("a user of the workspace is being deleted, or a book leaves Redis or returns")
            await copier.copy_changed()
            await asyncio.sleep(CHASE_PAUSE_S)

    async def _report(self, move: Move, copier: KeyCopier) -> None:
        while True:
            await self._store_progress(move, copier)
            await asyncio.sleep(PROGRESS_S)

    async def _store_progress(self, move: Move, copier: KeyCopier) -> None:
        done = copier.copied
        await moves.advance_move(self._pool, move.workspace, done, done + copier.left, self._stage)

    @asynccontextmanager
    async def _paused(self, move: Move, old: Copies, changed: ChangedKeys) -> AsyncIterator[None]:
        """Close the workspace in the source, and open it again with settings that are newer than the mark. No user is
        deleted meanwhile: that would fail as if the partition were closed."""
        async with contextlib.nullcontext() if self._has_erasing else self._erasing:
            await moves.reopen(self._pool, move, self._fence)
            row = await read_workspace(self._pool, move.workspace)
            self._log.info("move_pauses_requests", workspace=move.workspace, target=move.target)
            changed.forget(*old.left_names)
            try:
                await old.leave(row.version - 1)
                async with asyncio.timeout(PAUSE_S):
                    await changed.until(*old.left_names)  # so that no later wait finds this mark
                changed.forget(*old.left_names)
                yield
            finally:
                await self._project(row)

    async def _project_here(self, move: Move) -> None:
        await self._project(await read_workspace(self._pool, move.workspace))

    async def _project(self, row: WorkspaceRow) -> None:
        await self._projector.workspace(row)
        await self._projector.seen(self._partition, row.version)

    async def _copy_during(self, work: Awaitable[_T], switch: Switch, copier: KeyCopier, yielding: Move | None) -> _T:
        """Copy changed keys while Postgres works, which may take minutes. Raises InChange, if it is to yield."""
        async with _beside(work) as working:
            while not working.done():
                switch.check()
                await copier.copy_changed()
                if yielding and await moves.is_in_change(self._pool, yielding.workspace):
                    raise InChange
                await asyncio.wait([working], timeout=CHASE_PAUSE_S)
            return working.result()

    async def _while_kept(self, work: Awaitable[_T], switch: Switch) -> _T:
        """Do something else than the switch's statements; Postgres must not end its transaction as idle meanwhile."""
        async with _beside(work) as working:
            while not working.done():
                if not (await asyncio.wait([working], timeout=KEEP_S))[0]:
                    await switch.keep()
            return working.result()

    async def _move_rows(self, connection: postgres.Connection, switch: Switch, copier: KeyCopier) -> dict[int, int]:
        """Move facts, then codes and users, and lock the versions. A change that has a version may wait for a code's
        row: then it goes first. A pause is a change, too, so none begins after this."""
        await switch.move_facts()
        for _ in range(LOCK_TRIES):
            try:
                async with connection.transaction():
                    await switch.move_codes()
                    await self._until_prompt(switch, copier)
                    await copier.forbid_pauses()
                    return await switch.lock()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                copier.allow_pauses()
                await asyncio.sleep(LOCK_PAUSE_S)
        raise CannotMove("other changes of configuration never end")

    async def _until_prompt(self, switch: Switch, copier: KeyCopier) -> None:
        """Wait until new events of both partitions are recorded soon, and the last keys copied. Events are not while a
        partition has no worker, or its worker waits after an outage: the workspace would be closed as long. A record
        that always lags is accepted.
        """
        for _ in range(PROBES):
            await switch.catch_up()
            began = time.monotonic()
            events = [(each.partition, await each.arrive()) for each in (copier.old, copier.new)]
            for partition, event in events:
                await self._wait(partial(has_recorded, self._pool, partition, event), CLOSED_S)
            if time.monotonic() - began + copier.round_s < PROMPT_S:
                return
            await asyncio.sleep(PROBE_PAUSE_S)

    async def _close(self, copier: KeyCopier, versions: dict[int, int], switch: Switch) -> EventId:
        """Close the workspace, complete the copies, and meanwhile move the last facts; return the event after the
        copies. Everything is recorded then."""
        old = copier.old
        copier.changed.forget(*old.left_names)
        last = await old.leave(versions[old.partition])
        async with _beside(self._complete(copier)) as completing:
            await self._while_kept(self._wait(lambda: has_recorded(self._pool, old.partition, last), CLOSED_S), switch)
            await switch.move_rest()
            return await self._while_kept(completing, switch)

    async def _complete(self, copier: KeyCopier) -> EventId:
        """Copy the last changed keys of a closed workspace, and wait until the event after them is recorded."""
        old, new = copier.old, copier.new
        await copier.changed.until(*old.left_names)
        await new.copy_from(old, copier.changed.take())
        arrived = await new.arrive()
        await self._wait(lambda: has_recorded(self._pool, new.partition, arrived), CLOSED_S)
        return arrived

    async def _open(self, move: Move, new: Copies) -> None:
        """Project the settings in the target. If this fails, its own worker does, as for any change."""
        await self._wait_for_standbys(move)
        row = await read_workspace(self._pool, move.workspace)
        projector = RedisProjector(new.project)
        if since_ms := (await read_orders_since(self._pool, move.target)).get(move.workspace):
            await new.remember_orders(since_ms)
        await projector.workspace(row)
        await projector.seen_all(move.target, row.version)

    async def _wait_for_standbys(self, move: Move) -> None:
        """Wait until the standbys have the commit, so that a promoted one doesn't undo it."""
        if not self._standbys:
            return
        written = (await read_flushed(self._pool, move.source, self._standbys)).written

        async def have_it() -> bool:
            flushed = (await read_flushed(self._pool, move.source, self._standbys)).flushed
            return flushed is not None and flushed >= written

        try:
            await self._wait(have_it, STANDBYS_S)
        except CannotMove:
            self._log.error("standbys_lag", workspace=move.workspace)

    async def _clear_source(self, move: Move) -> None:
        """Remove the keys from the source, except the mark of the leaving."""
        async with self._copies(move, await read_partition(self._pool, move.source)) as old:
            await old.clear_books()
            await old.clear(_MARK)
        await moves.end_move(self._pool, move.workspace, "done")

    async def _undo(self, move: Move) -> None:
        """After a failed attempt: open the workspace in the source, and remove its copies from the target."""
        await moves.reopen(self._pool, move, self._fence)
        await self._project_here(move)
        async with self._copies(move, await read_partition(self._pool, move.source)) as old:
            if not await old.has_books() and await books_numbers(self._pool, move.workspace):
                # Its keys were removed after a commit that Postgres has lost.
                await order_rebuild(self._pool, move.source, "Postgres was restored to a time before a move")
        async with self._copies(move, await read_partition(self._pool, move.target)) as new:
            await new.clear(_MARK)
        # Without that text its worker has ended, or lost Postgres.
        reason = move.reason if move.reason.startswith(INTERRUPTED) else f"{INTERRUPTED}its worker or Postgres was lost"
        if move.attempts < MOST_ATTEMPTS:
            await moves.end_move(self._pool, move.workspace, "ordered", reason)
        else:
            reason = f"{move.attempts} attempts ended early, the last one was {reason}"
            await moves.end_move(self._pool, move.workspace, "failed", reason)
        self._log.warning("move_undone", workspace=move.workspace, target=move.target, attempts=move.attempts)

    @asynccontextmanager
    async def _copies(self, move: Move, row: Partition) -> AsyncIterator[Copies]:
        """The workspace's keys in a partition, on a connection of their own."""
        with closing(await connect(self._url, "scrip-moves", encoding=None, partition=row.id)) as connection:
            copies = Copies(connection, row.id, row.epoch, row.nonce, move.workspace)
            await copies.start()
            yield copies

    async def _wait(self, is_reached: Callable[[], Awaitable[bool]], at_most_s: float) -> None:
        """Raises CannotMove."""
        await wait_until(is_reached, at_most_s, CannotMove("Redis or Postgres lags"), POLL_S)


async def _has_seen(projector: RedisProjector, partition: int, versions: dict[int, int]) -> bool:
    return await projector.last_seen(partition) >= versions[partition]


@asynccontextmanager
async def _beside(work: Awaitable[_T]) -> AsyncIterator["asyncio.Future[_T]"]:
    """Run something meanwhile; cancel it at the end."""
    working = asyncio.ensure_future(work)
    try:
        yield working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
