"""What a webhook's deliveries say: the facts as the API shows them."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from service.domain.times import from_ms, to_ms
from service.formats.event_id import EventId
from service.operations.views import redemption_of, shown_job
from service.record.facts import delivery_rows
from service.record.facts.delivery_rows import Due, NoticeRow, TicketRow

_REDEMPTIONS = frozenset(("coupon.redeemed", "redemption.rolled_back"))
_TICKETS = frozenset(("coupon.assigned", "coupon.unassigned"))
_NOTICES = frozenset(("book.low_stock", "book.exhausted"))
_encode = msgspec.json.Encoder().encode


async def bodies(pool: asyncpg.Pool, partition: int, dues: Sequence[Due]) -> dict[int, bytes]:
    """The body of each delivery, by its position; none where what it tells of is gone."""
    data = await _told(pool, partition, dues)
    return {
        due.position: _encode({"type": due.event, "timestamp": from_ms(to_ms(due.happened_at)), "data": told})
        for due in dues
        if (told := data.get(due.position)) is not None
    }


async def _told(pool: asyncpg.Pool, partition: int, dues: Sequence[Due]) -> dict[int, Any]:
    told: dict[int, Any] = {due.position: msgspec.Raw(due.data.encode()) for due in dues if due.data is not None}
    if wanted := [(due, due.about) for due in dues if due.about and due.event in _REDEMPTIONS]:
        redemptions = await delivery_rows.told_redemptions(pool, [about for _, about in wanted])
        for due, about in wanted:
            if (past := redemptions.get(about)) is not None:
                told[due.position] = shown = redemption_of(past)
                if due.event == "coupon.redeemed":  # as it was then
                    shown.rolled_back_at = None
    if wanted := [(due, due.about) for due in dues if due.about and due.event == "job.finished"]:
        jobs = await delivery_rows.told_jobs(pool, [about for _, about in wanted])
        told |= {due.position: shown_job(jobs[about]) for due, about in wanted if about in jobs}
    if wanted := [due for due in dues if due.event in _TICKETS]:
        tickets = await delivery_rows.told_assignments(pool, partition, [_event(due) for due in wanted])
        for due in wanted:
            if (row := tickets.get((_event(due), due.event))) is not None:
                told[due.position] = _ticket(due.event, row)
    if wanted := [due for due in dues if due.event in _NOTICES]:
        notices = await delivery_rows.told_notices(pool, partition, [_event(due) for due in wanted])
        told |= {due.position: _notice(notices[_event(due)]) for due in wanted if _event(due) in notices}
    return told


def _event(due: Due) -> EventId:
    return EventId(due.epoch or 0, due.seq or 0)


def _ticket(event: str, row: TicketRow) -> dict[str, Any]:
    said = {"code": row.code, "bookId": row.book_id, "userId": row.user_id}
    at = from_ms(to_ms(row.at))
    if event == "coupon.unassigned":
        return said | {"unassignedAt": at}
    return said | {"orderId": row.order_id, "assignedAt": at}


def _notice(row: NoticeRow) -> dict[str, Any]:
    return {"bookId": row.book_id, "of": row.what, "left": row.remaining, "at": from_ms(to_ms(row.at))}
