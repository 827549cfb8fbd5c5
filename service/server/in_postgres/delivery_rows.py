"""The webhook sender's reads and writes: active webhooks, due deliveries, results. sender.py and payloads.py call this;
webhooks.py reads one delivery. Structs are made from rows by the names or the order of the query's columns. With an
outdated fence no webhook and no due delivery is read, and neither deliveries nor their results are written. Whether a
webhook works, fails or is switched off is stored without a fence: it is true under any lease."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

import msgspec
from asyncpg import Pool, Record

from service.engine.formats.event_id import EventId
from service.engine.record.audit_entries import write_audit
from service.engine.record.pool import Database
from service.engine.record.queries import query
from service.server.in_postgres.history_pages import PastRedemption
from service.server.requests.webhook_attempts import MAX_LOGGED
from service.server.requests.webhook_protocol import GIVE_UP_S

_SLACK_S = 3600
"""A webhook is switched off even if it began to fail so long after a given-up delivery's first attempt."""


class Listener(msgspec.Struct, frozen=True):
    """An active webhook: its secrets, its position, the record's position, its pending deliveries, how many of these
    are due, and the age of the oldest."""

    webhook: int
    workspace: int
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
    """A delivery to send now. `attempts` have failed, the first of them `age_s` ago."""

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


class EndedAttempt(NamedTuple):
    """The result of an attempt: delivered, failed for good, or pending until after a pause."""

    position: int
    state: str
    pause_ms: int
    status: int | None
    error: str | None
    attempt: str | None
    """The attempt as JSON; None if there was none."""


class NewDeliveries(NamedTuple):
    """The new position of some webhooks, and the number of deliveries that were made."""

    at: EventId
    made: int
    webhooks: list[int]


class AssignmentChange(NamedTuple):
    """An assignment or unassignment."""

    code: str
    book_id: UUID | None
    user_id: str
    order_id: str | None
    at: datetime


class NoticeRow(NamedTuple):
    book_id: UUID | None
    what: str
    remaining: int
    at: datetime
    notice: str
    currency: str


async def listeners(database: Database, partition: int, fence: int, count_to: int) -> list[Listener]:
    """The partition's active webhooks; none if the fence has changed. Pending deliveries are counted up to a bound."""
    records = await database.fetch(query("listening_webhooks"), partition, fence, count_to)
    return [Listener(**dict(record)) for record in records]


async def make_deliveries(
    database: Database, partition: int, fence: int, webhooks: Sequence[int], after: EventId, upto: EventId, limit: int
) -> NewDeliveries:
    """Make deliveries of the facts after an event up to another, of about `limit` facts."""
    args = (partition, fence, webhooks, *after, *upto, limit)
    record = cast("Record", await database.fetchrow(query("make_deliveries"), *args))
    return NewDeliveries(EventId(record["epoch"], record["seq"]), record["made"], record["webhooks"] or [])


async def due_deliveries(
    database: Database, partition: int, fence: int, rooms: dict[int, int], taken: Collection[int]
) -> list[Due]:
    """Due deliveries, at most `rooms` of each webhook, without those at the positions in `taken`."""
    args = (list(rooms), list(rooms.values()), list(taken), partition, fence)
    dues = [Due(**dict(record)) for record in await database.fetch(query("due_deliveries"), *args)]
    return sorted(dues, key=lambda due: due.position)


async def read_due(database: Database, webhook: int, delivery_id: UUID) -> Due | None:
    """A delivery as the sender has it, due or not; None if the webhook does not have it any more."""
    record = await database.fetchrow(query("read_due"), webhook, delivery_id)
    return None if record is None else Due(**dict(record))


async def store_results(
    pool: Pool,
    partition: int,
    fence: int,
    ended: Sequence[EndedAttempt],
    working: Sequence[int],
    failing: Sequence[int],
) -> None:
    """Store the results of attempts, at least one, unless the fence has changed; and which webhooks work or fail."""
    async with pool.acquire() as connection, connection.transaction():
        columns = map(list, zip(*ended, strict=True))
        await connection.execute(query("settle_deliveries"), partition, fence, *columns, MAX_LOGGED)
        if working:
            await connection.execute(query("note_working"), working)
        if failing:
            await connection.execute(query("note_failing"), failing)


async def switch_off(pool: Pool, webhook: int, gone: bool) -> bool:
    """Switch the webhook off if it replied 410 (`gone`) or has failed for GIVE_UP_S less _SLACK_S; whether it did."""
    reason = "gone" if gone else "failing"
    async with pool.acquire() as connection, connection.transaction():
        off = await connection.fetchrow(query("switch_off_failing"), webhook, reason, GIVE_UP_S - _SLACK_S)
        if off is None:
            return False
        after = {"status": "inactive", "reason": reason}
        await write_audit(connection, off["workspace"], "webhook.switchedOff", off["webhook_id"], after=after)
    return True


async def redemptions_by_id(database: Database, ids: Sequence[UUID]) -> dict[UUID, PastRedemption]:
    redemptions = [PastRedemption(*row) for row in await database.fetch(query("redemptions_by_id"), ids)]
    return {redemption.redemption_id: redemption for redemption in redemptions}


async def assignments_by_event(
    database: Database, partition: int, events: Sequence[EventId]
) -> dict[tuple[EventId, str], AssignmentChange]:
    """Assignments and unassignments, by event and kind."""
    epochs, seqs = [epoch for epoch, _ in events], [seq for _, seq in events]
    rows = await database.fetch(query("assignments_by_event"), partition, epochs, seqs)
    return {(EventId(row["epoch"], row["seq"]), row["event"]): AssignmentChange(*list(row)[3:]) for row in rows}


async def notices_by_event(database: Database, partition: int, events: Sequence[EventId]) -> dict[EventId, NoticeRow]:
    epochs, seqs = [epoch for epoch, _ in events], [seq for _, seq in events]
    rows = await database.fetch(query("notices_by_event"), partition, epochs, seqs)
    return {EventId(row["epoch"], row["seq"]): NoticeRow(*list(row)[2:]) for row in rows}
