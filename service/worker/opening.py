"""Opening a partition: from a Redis that nobody has verified to one that holds all that Postgres holds."""

import asyncio
import secrets
from contextlib import aclosing

import asyncpg
import structlog

from service.formats.event_id import START, EventId, parse_event_id
from service.formats.events import Fact, MalformedEvent, Opened, decided, entry_digest, parse
from service.formats.mending_mark import WHOLE, parse_mending_mark
from service.formats.quarantined_event import is_same_but_user
from service.hot.redis_server import Fenced, ScriptFailed, Server
from service.hot.scripts import MENDING, PROJECTION, SERVING, Scripts, follows, nonce_of
from service.record.facts.event_writer import record
from service.record.facts.fact_reader import decided_at, events_in_order
from service.record.facts.quarantine import set_aside
from service.record.partitions.openings import (
    begin_recovery,
    erased_after,
    finish_recovery,
    mended_in,
    order_rebuild,
    rebuild_order,
)
from service.record.partitions.partition_rows import (
    LeaseLost,
    Partition,
    begin_epoch,
    confirm_open,
    enter_epoch,
    read_partition,
)
from service.worker.restorer import Mending
from service.worker.unappliable_events import SettingAside
from service.worker.write_behind import AnchorLost, Flusher, OutboxGap

SETTLE_S = 0.5
"""As long as processes may take to learn of an epoch; then none uses an older one, on whatever server."""

WRONG_TYPE = "a key holds another type than its kind's"

_MARKS, _FACTS = ("O", "M"), ("A", "U", "R", "B")

log = structlog.get_logger()


class Opening:
    """Opens one partition under its lease, on one connection.

    1. Draw a new epoch; whoever held the lease before can't commit from here on.
    2. Fence Redis: the gate says closed, and nothing of an older epoch can write. Wait until all processes know.
    3. Record what the outbox holds up to the fence. With the anchor in it, this Redis has all that is recorded.
    4. Where it isn't (docs/decisions/0013): a Redis that is a true prefix of the record gets the configuration and the
       facts that it lacks. Of any other, what the record doesn't have is set aside; it is cleared and rebuilt whole. So
       is one of which a mending died while everything was cleared, whose keys are of another layout, whose
       configuration is ahead of Postgres's, of which a key is of another type than its kind's, or that an operator
       wants rebuilt. What can't be applied again is set aside (docs/decisions/0030), and the codes of all that is in
       quarantine become unusable.
    5. Apply the configuration that this Redis has not seen.
    6. Load the scripts, check the server once more, say in Postgres that the epoch is open, then open the gate.

    Killed anywhere, the gate is closed or the job is done.
    """

    def __init__(self, server: Server, pool: asyncpg.Pool, flusher: Flusher, fence: int) -> None:
        self._server, self._pool, self._flusher, self._fence = server, pool, flusher, fence
        self._partition = server.partition
        self._log = log.bind(partition=server.partition)
        self._is_old = False
        """Whether what Redis holds was written by a version of another layout of the keys."""
        self._was_wrong = False
        """Whether one of the partition's own keys was of another type than its kind's."""

    async def run(self) -> Scripts:
        """Open; the scripts of the new epoch. Raises LeaseLost, Fenced, UnfitRedis, Broken, OutboxGap. Where a
        key holds another type than its kind's, a rebuild is ordered, and Fenced: the next opening removes all keys."""
        try:
            return await self._open()
        except ScriptFailed as failed:
            if not failed.is_wrong_type:
                raise
            if await rebuild_order(self._pool, self._partition) is None:
                await order_rebuild(self._pool, self._partition, WRONG_TYPE)
            raise Fenced(f"{WRONG_TYPE}: {failed.script} can't read it") from None

    async def _open(self) -> Scripts:
        server = self._server
        found = await server.check()
        nonce = nonce_of(secrets.token_hex(8), found.history, found.followed)
        newest = await server.newest_epoch()
        self._is_old = newest > 0 and not await server.is_of_this_layout()
        epoch = await begin_epoch(self._pool, self._partition, self._fence, nonce, newest)
        self._log.info("opening", epoch=epoch)
        if wrong := await server.wrong_types():
            self._log.error("wrong_types", keys=[key.kind for key in wrong])
            self._was_wrong = True
            await server.drop_wrong(epoch, wrong)
        await server.fence(epoch)
        await asyncio.sleep(SETTLE_S)
        closed = Scripts(self._partition, epoch, nonce, MENDING, "closed")
        mending = Mending(server, self._pool, closed, SettingAside(self._pool, self._partition))
        await server.load(mending.scripts)
        row = await read_partition(self._pool, self._partition)
        if found.may_be_torn:
            await self._rewrite_torn_file(mending)
        await self._mend(mending, epoch, row)
        await mending.configure(await mending.projector.last_seen(self._partition))
        await mending.mark("")
        scripts = Scripts(self._partition, epoch, nonce, [*SERVING, *PROJECTION])
        await server.load(scripts)
        found = await server.check()
        if not follows(nonce, found.history, found.followed):
            raise Fenced("this server follows, or is followed, otherwise than when it was verified")
        if not await confirm_open(self._pool, self._partition, self._fence, epoch, row.incarnation):
            raise LeaseLost(f"partition {self._partition}: epoch {epoch} is not ours to open")
        await server.move_gate(f"{epoch} closed", f"{epoch} open")
        await finish_recovery(self._pool, self._partition, epoch)
        self._log.info("open", epoch=epoch)
        return scripts

    async def _rewrite_torn_file(self, mending: Mending) -> None:
        """Some servers cut their file where it ends within a transaction, and run that half at the start after next.
        Where it comes to that before a new file is there, the mark says that all must be rebuilt."""
        mark = await self._server.read_mark()
        await mending.mark(WHOLE)
        await self._server.rewrite_file()
        await mending.mark(mark)

    async def _mend(self, mending: Mending, epoch: int, row: Partition) -> None:
        """Steps 3 and 4. `row` was read before: what follows is of that Postgres, or is not entered."""
        mark, (seen, newest) = await self._server.read_mark(), await mending.projector.versions(self._partition)
        ordered = await rebuild_order(self._pool, self._partition)
        whole = (
            (mark == WHOLE and "a rebuild was not finished")
            or (self._is_old and "its keys are of another layout")
            or (self._was_wrong and WRONG_TYPE)
            or (ordered and ordered.reason)
            or (newest > row.config_version and "Postgres is older")
        )
        lost = ""
        try:
            await self._flusher.drain(epoch)
        except AnchorLost as anchor:
            lost = str(anchor)
        except OutboxGap as gap:
            if not (ordered and ordered.accept_loss):
                raise
            lost = str(gap)
        if not whole and not lost:
            return
        reached, left_out = parse_mending_mark(mark)
        after = None if whole else reached if mark else await self._prefix()
        if after is None or await erased_after(self._pool, self._partition, after):
            await self._rebuild(mending, epoch, whole or lost)
        else:
            await SettingAside(self._pool, self._partition).take_named(left_out)  # by a worker that died before it did
            await self._redo(mending, epoch, lost, after, seen)
        await mending.mended()
        await self._enter(epoch, mending.scripts.nonce, row.incarnation)

    async def _prefix(self) -> EventId | None:
        """The last event of a Redis of which everything is recorded; None where that can't be said."""
        cursor = (await read_partition(self._pool, self._partition)).cursor
        async for entry_id, fields in self._server.entries_backwards():
            at = parse_event_id(entry_id)
            if (told := fields.get("d", "")).startswith("M "):  # whole, when it was written
                known = await mended_in(self._pool, self._partition, at[0], told[2:])
                return at if known else None
            try:
                event = parse(*at, told.encode(), fields["r"].encode())
            except (MalformedEvent, KeyError):
                return None
            if isinstance(event, Opened):
                continue  # our own, one of a worker that died, or of one that had nothing to mend
            if at > cursor:
                return None
            if isinstance(event, Fact):
                return at if await decided_at(self._pool, self._partition, *at) == decided(event) else None
        return None

    async def _redo(self, mending: Mending, epoch: int, reason: str, after: EventId, seen: int) -> None:
        """What the record has after an event. Configuration first: what was decided is about books and codes."""
        self._log.warning("redoing", reason=reason, after=str(after))
        await begin_recovery(self._pool, self._partition, epoch, mending.scripts.nonce, "tail", reason, after, seen)
        await mending.configure(seen)
        await mending.restore_keys(after)
        self._log.info("redone", events=await mending.redo(after, keep_mark=False))
        await mending.block_codes(whole=False)

    async def _rebuild(self, mending: Mending, epoch: int, reason: str) -> None:
        """Everything. The mark is there before anything is removed, and until the gate is about to open; the
        append-only file gets all of it at once, at the end."""
        self._log.warning("rebuilding", reason=reason)
        await self._set_aside(epoch)
        await begin_recovery(self._pool, self._partition, epoch, mending.scripts.nonce, "whole", reason, START, 0)
        await mending.mark(WHOLE)
        await self._server.trim(epoch)  # what it says may be another history's, and scripts read redemptions there
        await mending.clear()
        await mending.configure(0, whole=True)
        events = await mending.redo(START, keep_mark=True)
        await mending.block_codes(whole=True)
        await mending.fill_pools()
        rewriting = asyncio.create_task(self._server.rewrite_file())
        try:
            await mending.restore_keys(START)  # these are logged
            await rewriting
        finally:
            rewriting.cancel()
            await asyncio.gather(rewriting, return_exceptions=True)
        self._log.info("rebuilt", events=events)

    async def _set_aside(self, epoch: int) -> None:
        """Keep the events apart that the record doesn't have and now can't follow."""
        cursor, aside = (await read_partition(self._pool, self._partition)).cursor, 0
        first = await self._first_event(epoch)
        before = EventId(first.epoch, first.seq - 1)
        async with (
            self._pool.acquire() as connection,
            aclosing(events_in_order(connection, self._partition, after=before)) as recorded,
        ):
            fact = await anext(recorded, None)
            async for entry_id, fields in self._server.entries():
                at, told = parse_event_id(entry_id), fields.get("d", "")
                if at >= (epoch, 0) or told[:1] in _MARKS or (at <= cursor and told[:1] not in _FACTS):
                    continue
                while fact and fact.id < at:
                    fact = await anext(recorded, None)
                if not fact or fact.id != at or not is_same_but_user(decided(fact), _as_decided(at, fields, told)):
                    request = fields.get("r", "").encode()
                    aside += await set_aside(self._pool, self._partition, at, told.encode(), request)
        if aside:
            self._log.error("events_set_aside", events=aside)

    async def _first_event(self, epoch: int) -> EventId:
        """The first in the outbox that is no mark; the epoch's own where there is none before."""
        async for entry_id, fields in self._server.entries():
            if fields.get("d", "")[:1] not in _MARKS:
                return parse_event_id(entry_id)
        return EventId(epoch, 0)

    async def _enter(self, epoch: int, nonce: str, incarnation: str) -> None:
        """Let the cursor go to the entry that says that all was mended. Only a Redis that is whole may be followed:
        before this, a worker that takes over finds the anchor lost still, or the mark, and mends again. So does this
        one where Postgres was started meanwhile: if it was restored, it may lack what was mended from it."""
        digest = entry_digest(f"{epoch}-1".encode(), f"M {nonce}".encode(), b"")
        async with self._pool.acquire() as connection, connection.transaction():
            row = await read_partition(connection, self._partition)
            if row.incarnation != incarnation:
                raise LeaseLost(f"partition {self._partition}: Postgres was started while Redis was mended from it")
            if row.cursor == (epoch, 0):  # all was recorded, and was rebuilt all the same
                entered = await record(connection, self._partition, epoch, 0, 1, self._fence, (), digest)
            else:
                entered = await enter_epoch(connection, self._partition, self._fence, row.cursor, epoch, digest, 1)
        if not entered:
            raise LeaseLost(f"partition {self._partition}: the cursor is no longer at {row.cursor}")


def _as_decided(at: EventId, fields: dict[str, str], told: str) -> str:
    """What an entry says, in the words of now: an older version wrote others."""
    try:
        return decided(parse(*at, told.encode(), fields.get("r", "").encode()))
    except MalformedEvent:
        return told
