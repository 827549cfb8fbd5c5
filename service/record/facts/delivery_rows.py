"""What the sender of webhooks reads and writes: who listens, what is to be sent, and how that went."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.domain.webhook_protocol import GIVE_UP_S
from service.formats.event_id import EventId
from service.record.config.audit_log import note
from service.record.config.job_rows import JobRow, job_of
from service.record.facts.history_pages import PastRedemption
from service.record.pool import Database
from service.record.queries import query

_SLACK_S = 3600
"""Between a webhook's first failure and its oldest delivery's last attempt."""


class Listener(msgspec.Struct, frozen=True):
    """A webhook that is switched on: what signs, how far it has come, how far the record is, and what waits for it."""

    webhook: int
    webhook_id: UUID
    url: str
    secret: bytes
    old_secret: bytes | None
    epoch: int
    seq: int
    cursor_epoch: int
    cursor_seq: int
    pending: int
    due: int
    oldest_s: float


class Due(msgspec.Struct, frozen=True):
    """A delivery to be sent now; `attempts` have failed, the first of them `age_s` ago."""

    position: int
    webhook: int
    event_id: str
    event: str
    happened_at: datetime
    epoch: int | None
    seq: int | None
    about: UUID | None
    data: str | None
    attempts: int
    age_s: float


class Ended(NamedTuple):
    """How an attempt ended: delivered, failed for good, or pending until after a pause."""

    position: int
    state: str
    pause_ms: int
    status: int | None
    error: str | None


class Passed(NamedTuple):
    """How far some webhooks have come, and how many deliveries that made."""

    at: EventId
    made: int
    webhooks: list[int]


class TicketRow(NamedTuple):
    """What an assignment, or its end, says."""

    code: str
    book_id: UUID | None
    user_id: str
    order_id: str | None
    at: datetime


class NoticeRow(NamedTuple):
    """What a notice of a book's stock says."""

    book_id: UUID | None
    what: str
    remaining: int
    at: datetime


async def listeners(database: Database, partition: int, fence: int, count_to: int) -> list[Listener]:
    """Those of a partition; none where the fence is another's. What waits is counted up to a bound."""
    records = await database.fetch(query("listening_webhooks"), partition, fence, count_to)
    return [Listener(**dict(record)) for record in records]


async def tell_facts(
    database: Database, partition: int, fence: int, webhooks: Sequence[int], after: EventId, upto: EventId, limit: int
) -> Passed:
    """Make deliveries of the facts after an event, of at most about so many facts up to another."""
    asked = (partition, fence, webhooks, *after, *upto, limit)
    record = cast("Record", await database.fetchrow(query("tell_facts"), *asked))
    return Passed(EventId(record["epoch"], record["seq"]), record["made"], record["webhooks"] or [])


async def claim(
    database: Database, partition: int, fence: int, rooms: dict[int, int], token: UUID, seconds: int
) -> list[Due]:
    """What is due, at most so many of each webhook; ours alone for so long."""
    asked = (list(rooms), list(rooms.values()), token, seconds, partition, fence)
    found = [Due(**dict(record)) for record in await database.fetch(query("claim_deliveries"), *asked)]
    return sorted(found, key=lambda due: due.position)


async def release(database: Database, token: UUID, positions: Sequence[int]) -> None:
    """Let others send these."""
    await database.execute(query("release_deliveries"), token, positions)


async def settle(
    pool: Pool, token: UUID, ended: Sequence[Ended], working: Sequence[int], failing: Sequence[int]
) -> None:
    """Keep how attempts ended, and which webhooks something got through to, or nothing."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("settle_deliveries"), token, *map(list, zip(*ended, strict=True)))
        if working:
            await connection.execute(query("note_working"), working)
        if failing:
            await connection.execute(query("note_failing"), failing)


async def switch_off(pool: Pool, webhook: int, gone: bool) -> bool:
    """Whether the webhook is switched off now: its receiver said that it is gone, or heard nothing for three days."""
    reason = "gone" if gone else "failing"
    async with pool.acquire() as connection, connection.transaction():
        off = await connection.fetchrow(query("switch_off_failing"), webhook, reason, GIVE_UP_S - _SLACK_S)
        if off is None:
            return False
        told = {"status": "inactive", "reason": reason}
        await note(connection, off["workspace"], "webhook.switchedOff", off["webhook_id"], after=told)
    return True


async def told_redemptions(database: Database, ids: Sequence[UUID]) -> dict[UUID, PastRedemption]:
    """Redemptions by their ids."""
    found = [PastRedemption(*row) for row in await database.fetch(query("told_redemptions"), ids)]
    return {past.redemption_id: past for past in found}


async def told_jobs(database: Database, ids: Sequence[UUID]) -> dict[UUID, JobRow]:
    """Jobs by their ids."""
    found = [job_of(record) for record in await database.fetch(query("told_jobs"), ids)]
    return {job.job_id: job for job in found}


async def told_assignments(
    database: Database, partition: int, events: Sequence[EventId]
) -> dict[tuple[EventId, str], TicketRow]:
    """What became a user's, or ceased to be, by event and kind."""
    epochs, seqs = [epoch for epoch, _ in events], [seq for _, seq in events]
    rows = await database.fetch(query("told_assignments"), partition, epochs, seqs)
    return {(EventId(row["epoch"], row["seq"]), row["event"]): TicketRow(*list(row)[3:]) for row in rows}


async def told_notices(database: Database, partition: int, events: Sequence[EventId]) -> dict[EventId, NoticeRow]:
    """Notices of stock, by event."""
    epochs, seqs = [epoch for epoch, _ in events], [seq for _, seq in events]
    rows = await database.fetch(query("told_notices"), partition, epochs, seqs)
    return {EventId(row["epoch"], row["seq"]): NoticeRow(*list(row)[2:]) for row in rows}
