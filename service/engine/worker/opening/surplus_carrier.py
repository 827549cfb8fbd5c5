"""Carry over into Postgres what only a closed Redis knows, before it is rebuilt (decision 0077).
partition_opening.py calls this. The outbox comes first: what the survey of codes finds is counted without its events.
The reasons are stored in quarantine."""

from collections.abc import Sequence
from contextlib import aclosing
from itertools import groupby

import asyncpg
import structlog

from service.engine.formats.event_id import EventId
from service.engine.formats.events import Entry
from service.engine.hot.redis_server import Server
from service.engine.record.actor import Actor, current_actor
from service.engine.record.audit_entries import write_audit
from service.engine.record.facts.event_writer import EVENT_ERRORS, record_late, refusal_reason
from service.engine.record.facts.quarantined_events import UnrecordedEvent, quarantine_unrecorded
from service.engine.record.facts.surplus_rows import switch_off_book
from service.engine.record.partitions.partition_rows import under_lease
from service.engine.worker.opening.surplus_survey import LostSale, Recordable, SurplusReport, SurplusSurvey

UNKNOWN = "only Redis knew of it: not its amount, nor when"
UNFIT = "Postgres lacks what it refers to"

log = structlog.get_logger()


class SurplusCarrier:
    """One partition's, whose Redis is closed.

    1. Record the outbox's events, as they were decided. Those that Postgres refuses go into quarantine.
    2. Record assignments that only coupons' records have. Everything else that was sold goes into quarantine, which
       blocks its code: with the redemption's event, if that is known, else under an id of the epoch `minted`.
    3. Switch off books of which Redis has no codes.

    Each step is done once: a worker that dies continues where it was.
    """

    def __init__(self, server: Server, pool: asyncpg.Pool, fence: int) -> None:
        self._survey = SurplusSurvey(server, pool)
        self._pool, self._partition, self._fence = pool, server.partition, fence

    async def carry_over(self, before: EventId, minted: int) -> SurplusReport:
        """Keep the outbox's events before one, and what Redis has beyond them. `minted`: an epoch that no Redis had."""
        async with aclosing(self._survey.outbox(before)) as pages:
            async for page in pages:
                await self._record_outbox(page)
        number = 0
        async with aclosing(self._survey.codes(has_outbox=True)) as found:
            async for sold in found:
                number = await self._keep(sold, minted, number)
        await self._switch_off()
        return self._survey.report

    async def _record_outbox(self, page: Sequence[Recordable]) -> None:
        for epoch, some in groupby(page, key=lambda one: one.one.at.epoch):
            events = list(some)
            whole = [(one.at.seq, one.d, one.r, one.kept) for one, is_whole in events if is_whole]
            await self._record(epoch, whole)
            for one, is_whole in events:
                if not is_whole:
                    workspace = getattr(one.event, "workspace", None)
                    await self._set_aside(UNFIT, workspace, [UnrecordedEvent(one.at, one.d, one.r)])

    async def _record(self, epoch: int, entries: Sequence[Entry]) -> None:
        """Record events of an epoch, and set those aside that Postgres refuses."""
        if not entries:
            return
        try:
            async with under_lease(self._pool, self._partition, self._fence) as connection:
                await record_late(connection, self._partition, epoch, entries)
        except EVENT_ERRORS as error:
            if len(entries) > 1:
                middle = len(entries) // 2
                await self._record(epoch, entries[:middle])
                await self._record(epoch, entries[middle:])
                return
            ((seq, d, r, _),) = entries
            await self._set_aside(refusal_reason(error), None, [UnrecordedEvent(EventId(epoch, seq), d, r)])

    async def _keep(self, sold: Sequence[LostSale], minted: int, number: int) -> int:
        """Keep a page; return the last number of the minted epoch that is used."""
        whole: list[Entry] = []
        by_workspace: dict[int, list[UnrecordedEvent]] = {}
        for one in sold:
            at = one.at
            if at is None:
                number += 1
                at = EventId(minted, number)
            if one.is_whole:
                whole.append((at.seq, one.d, b"{}", None))
            else:
                by_workspace.setdefault(one.workspace, []).append(UnrecordedEvent(at, one.d, b"{}"))
        await self._record(minted, whole)
        for workspace, events in by_workspace.items():
            await self._set_aside(UNKNOWN, workspace, events)
        return number

    async def _set_aside(self, reason: str, workspace: int | None, events: Sequence[UnrecordedEvent]) -> None:
        async with under_lease(self._pool, self._partition, self._fence) as connection:
            await quarantine_unrecorded(connection, self._partition, reason, events)

    async def _switch_off(self) -> None:
        current_actor.set(Actor("service"))
        for book in self._survey.report.absent_books:
            async with under_lease(self._pool, self._partition, self._fence) as connection:
                if book_id := await switch_off_book(connection, book.workspace, book.book):
                    await write_audit(connection, book.workspace, "recovery.switched_off", book_id)
