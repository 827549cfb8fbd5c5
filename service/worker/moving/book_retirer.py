"""Move books out of Redis that ended long ago, and back (docs/decisions/0048). partition_worker.py runs it. A crash may
come after any write, so the order of the steps must stay: places leave Postgres before Redis and return to it first,
and the step's number is in Redis before Postgres. An opening rebuilds a Redis whose number does not fit."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import structlog

from service.formats import key_names
from service.formats.coupon_state import RecordedCode, Write
from service.formats.event_id import END, START, EventId
from service.hot.inspection import Item
from service.record.config import retirements
from service.record.config.retirements import MovingBook, PastUse
from service.record.partitions import comparisons
from service.record.pool import wait_out_outage
from service.worker.lease_keeper import Lease
from service.worker.moving.book_moves import (
    Codes,
    Uses,
    additions_of_codes,
    own_fields,
    removals_of_codes,
    standing_score,
)
from service.worker.moving.guarded_changes import GuardedChanges, NotYet, RedisDiffers

ENDED_POLL_S = 600.0
"""Books that are to return, or that a worker left half-way, are noticed at once."""
CODES_A_RUN = 100
"""Two reads of less than a millisecond, and one write of at most 4 ms."""
USES_A_RUN = 200
STANDING_A_RUN = 400

log = structlog.get_logger()


class BookRetirer:
    """One for each open partition. One book moves at a time; no comparison counts meanwhile.

    Out of Redis, if a live workspace's book ended `days` ago:

    1. In Postgres, set the book's `retirement` to `leaving`. From here on no code of it is added or changed without
       ordering its return first. Wait until Redis has the earlier changes; then mark the workspace (`W r`), so that
       scripts ask Postgres for codes that they miss.
    2. By pages of codes, read what Redis has, wait until it is recorded, compare it with Postgres, and remove it in one
       script if it is still the same.
    3. Remove the redemptions' places in orders, first in Postgres, and their users' counts.
    4. Remove the book's sets and its pool, and write the step's number in Redis. Then store the number, the book's
       counters and `retired` in Postgres.

    Back, if its `retirement` is `returning` (its end was moved, or a code must change): put back the counts and places,
    then the codes. Trade in a code is possible as soon as it is there.

    Each run skips what is done, so a worker that died is followed by one that starts over.
    """

    def __init__(self, changes: GuardedChanges, days: int) -> None:
        """`days` 0: no book leaves."""
        self._changes, self._days = changes, days
        self._pool, self._partition, self._fence = changes.pool, changes.partition, changes.fence
        self._inspector = changes.inspector

    async def run(self, lease: Lease) -> None:
        await self._inspector.start()
        while True:
            is_idle = True
            try:
                with wait_out_outage(log):
                    is_idle = not await self.move_next()
            except NotYet as reason:
                log.info("retiring_waits", partition=self._partition, reason=str(reason))
            if is_idle:
                await lease.until_due("retiring", ENDED_POLL_S)

    async def move_next(self) -> bool:
        """Move a book to its end; return False if none is to move, or a comparison is running."""
        moved = await retirements.next_moving_book(self._pool, self._partition, self._days)
        if moved is None:
            return False
        about = {"partition": self._partition, "workspace": moved.workspace, "book": moved.book}
        async with self._changes.turn() as is_ours:
            if not is_ours:
                return False
            try:
                await (self._retire(moved) if moved.retirement == "leaving" else self._return(moved))
                log.info("book_moved", retirement=moved.retirement, **about)
            except RedisDiffers as reason:
                log.warning("book_not_retired", reason=str(reason), **about)
                await retirements.order_return(self._pool, moved.workspace, moved.book)
                return False
        return True

    async def _retire(self, moved: MovingBook) -> None:
        w = self._prefix(moved)
        await self._changes.wait_until_projected()
        await self._changes.write(Item("s", key_names.has_retired(w)), "1")
        async for codes in self._pages_of_codes(moved):
            await self._check_leaving(moved)
            if await retirements.has_gifts(self._pool, moved.workspace, codes):
                raise RedisDiffers("a code is an order's gift")
            await self._changes.retry_on_change(self._remove_codes, moved, codes)
        async for uses in self._pages_of_uses(moved):
            await self._check_leaving(moved)
            await retirements.forget_orders(self._pool, self._partition, self._fence, moved, uses)
            some = Uses(w, moved.book, uses)
            await self._changes.change(some.fields, some.removals)
        step, counts = await self._changes.retry_on_change(self._drop_book, moved)
        await retirements.finish_step(self._pool, self._partition, self._fence, step, moved, counts)

    async def _check_leaving(self, moved: MovingBook) -> None:
        if not await retirements.is_leaving(self._pool, moved):
            raise NotYet("the book is to return")

    async def _return(self, moved: MovingBook) -> None:
        await self._changes.wait_until_projected()
        await self._changes.wait_until_recorded((await self._inspector.read_values([])).at)
        async for uses in self._pages_of_uses(moved):
            await retirements.remember_orders(self._pool, self._partition, self._fence, uses)
            await self._changes.retry_on_change(self._add_uses, moved, uses)
        async for codes in self._pages_of_codes(moved):
            await self._changes.retry_on_change(self._add_codes, moved, codes)
        step = (await retirements.read_step(self._pool, self._partition))[0] + 1
        await self._changes.write(Item("s", key_names.retired(self._partition)), str(step))
        await retirements.finish_step(self._pool, self._partition, self._fence, step, moved, None)

    async def _remove_codes(self, moved: MovingBook, names: Sequence[str]) -> None:
        w = self._prefix(moved)
        at, seen = await self._changes.look([field for name in names for field in own_fields(w, name)])
        here = [name for name in names if seen[own_fields(w, name)[0]] is not None]
        if not here:
            return
        await self._changes.wait_until_recorded(at)
        recorded = await self._recorded(moved, here, at)
        codes = Codes(w, recorded)
        _, more = await self._changes.look(codes.fields)
        await self._changes.repair([*removals_of_codes(w, recorded, seen), *codes.removals(more)])

    async def _add_codes(self, moved: MovingBook, names: Sequence[str]) -> None:
        w = self._prefix(moved)
        _, seen = await self._changes.look([field for name in names for field in own_fields(w, name)[:1]])
        missing = [name for name in names if seen[own_fields(w, name)[0]] is None]
        recorded = await self._recorded(moved, missing, END)
        for code in recorded:
            if code.max != 1 and code.stand:
                await self._add_standing(moved, code)
        codes = Codes(w, recorded)
        _, more = await self._changes.look(codes.fields)
        await self._changes.repair([*additions_of_codes(w, recorded), *codes.additions(more)])

    async def _add_standing(self, moved: MovingBook, code: RecordedCode) -> None:
        key, after = key_names.standing(self._prefix(moved), code.code), START
        about = (self._pool, self._partition, moved.workspace, code.code)
        while events := await retirements.page_standing(*about, after, STANDING_A_RUN):
            fields = {Item("z", key, str(event)): standing_score(event) for event in events}
            _, seen = await self._changes.look(list(fields))
            await self._changes.repair(
                [Write("z", key, f.member, None, to) for f, to in fields.items() if seen[f] is None]
            )
            after = events[-1]

    async def _add_uses(self, moved: MovingBook, uses: Sequence[PastUse]) -> None:
        w = self._prefix(moved)
        some = Uses(w, moved.book, uses)
        _, seen = await self._changes.look(some.fields)
        ids = [use.redemption_id for use in uses]
        recorded = await comparisons.uses_of_redemptions(self._pool, self._partition, moved.workspace, ids, some.users)
        await self._changes.repair(some.additions(w, recorded, seen))

    async def _drop_book(self, moved: MovingBook) -> tuple[int, dict[str, str]]:
        """Remove the sets of a book without codes and write the step's number; return it and the book's counters."""
        w, book = self._prefix(moved), moved.book
        keys = {key_names.set_of_codes(w, book, one): "zset" for one in key_names.SETS_OF_CODES}
        keys |= {key_names.locks_of_book(w, book): "zset", key_names.pool(w, book): "hash"}
        step_key = key_names.retired(self._partition)
        items = [*(Item("t", key) for key in keys), Item("s", step_key), Item("H", key_names.counters(w, book))]
        look = await self._inspector.read_values(items)
        *types, step_seen, flat = look.values
        await self._changes.wait_until_recorded(look.at)
        counts = dict(zip(flat[::2], flat[1::2], strict=True))
        step = (await retirements.read_step(self._pool, self._partition))[0] + 1
        removals = [Write("t", key, "", seen, None) for key, seen in zip(keys, types, strict=True) if seen != "none"]
        await self._changes.repair([*removals, Write("s", step_key, "", step_seen, str(step))])
        return step, counts

    async def _recorded(self, moved: MovingBook, names: Sequence[str], at: EventId) -> list[RecordedCode]:
        """Codes as Postgres records them after an event."""
        if not names:
            return []
        about = (self._pool, self._partition, moved.workspace, at, names)
        return list((await comparisons.codes(*about, retired=True)).values())

    async def _pages_of_codes(self, moved: MovingBook) -> AsyncIterator[list[str]]:
        after = -1
        while True:
            after, codes = await retirements.page_codes(self._pool, moved, after, CODES_A_RUN)
            if not codes:
                return
            yield codes

    async def _pages_of_uses(self, moved: MovingBook) -> AsyncIterator[list[PastUse]]:
        after = UUID(int=0)
        while uses := await retirements.page_uses(self._pool, moved, after, USES_A_RUN):
            yield uses
            after = uses[-1].redemption_id

    def _prefix(self, moved: MovingBook) -> str:
        return key_names.prefix(self._partition, moved.workspace)
