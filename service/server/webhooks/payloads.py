"""The bodies of webhook deliveries, read from the facts: sender.py sends them, and the API shows them. Receivers
rely on all names; `Job` and redemptions are those of the API."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from service.engine.domain.budgets import PERIODS
from service.engine.domain.money import CURRENCY_DIGITS, from_e4
from service.engine.domain.times import from_ms, to_ms
from service.engine.formats.event_id import EventId
from service.engine.operations.base import encode
from service.server.answers.views import Job, redemption_of
from service.server.in_postgres import delivery_rows
from service.server.in_postgres.delivery_rows import AssignmentChange, Due, NoticeRow
from service.server.in_postgres.job_rows import jobs_by_id

_REDEMPTIONS = frozenset(("coupon.redeemed", "redemption.rolled_back"))
_ASSIGNMENTS = frozenset(("coupon.assigned", "coupon.unassigned"))
_NOTICES = frozenset(("book.low_stock", "book.exhausted", "book.budget_low"))


async def render_bodies(pool: asyncpg.Pool, partition: int, dues: Sequence[Due]) -> dict[int, bytes]:
    """Each delivery's body by its position; none if its redemption, job, assignment or notice no longer exists."""
    data = await _read_data(pool, partition, dues)
    return {
        due.position: encode(
            {"type": due.event, "timestamp": from_ms(to_ms(due.happened_at)), "data": data[due.position]}
        )
        for due in dues
        if due.position in data
    }


async def _read_data(pool: asyncpg.Pool, partition: int, dues: Sequence[Due]) -> dict[int, Any]:
    data: dict[int, Any] = {due.position: msgspec.Raw(due.data.encode()) for due in dues if due.data is not None}
    if matching := [(due, due.about) for due in dues if due.about and due.event in _REDEMPTIONS]:
        redemptions = await delivery_rows.redemptions_by_id(pool, [about for _, about in matching])
        for due, about in matching:
            if (past := redemptions.get(about)) is not None:
                data[due.position] = view = redemption_of(past)
                if due.event == "coupon.redeemed":  # as it was at that time
                    view.rolled_back_at = None
    if matching := [(due, due.about) for due in dues if due.about and due.event == "job.finished"]:
        jobs = await jobs_by_id(pool, [about for _, about in matching])
        data |= {due.position: Job.from_row(jobs[about]) for due, about in matching if about in jobs}
    if matching := [due for due in dues if due.event in _ASSIGNMENTS]:
        changes = await delivery_rows.assignments_by_event(pool, partition, [_event(due) for due in matching])
        for due in matching:
            if (row := changes.get((_event(due), due.event))) is not None:
                data[due.position] = _render_assignment(due.event, row)
    if matching := [due for due in dues if due.event in _NOTICES]:
        notices = await delivery_rows.notices_by_event(pool, partition, [_event(due) for due in matching])
        data |= {due.position: _render_notice(notices[_event(due)]) for due in matching if _event(due) in notices}
    return data


def _event(due: Due) -> EventId:
    return EventId(due.epoch or 0, due.seq or 0)


def _render_assignment(event: str, row: AssignmentChange) -> dict[str, Any]:
    fields = {"code": row.code, "bookId": row.book_id, "userId": row.user_id}
    at = from_ms(to_ms(row.at))
    if event == "coupon.unassigned":
        return fields | {"unassignedAt": at}
    return fields | {"orderId": row.order_id, "assignedAt": at}


def _render_notice(row: NoticeRow) -> dict[str, Any]:
    if row.what.startswith("budget:"):
        _, period, most, renews = row.what.split(":")
        digits = CURRENCY_DIGITS[row.currency]
        budget = {"amount": from_e4(int(most), digits), "per": "book", "period": PERIODS[period]}
        return {
            "bookId": row.book_id,
            "percent": 80 if row.notice == "low" else 100,
            "budget": budget,
            "left": from_e4(row.remaining, digits),
            "currency": row.currency,
            "renewsAt": None if renews == "-" else from_ms(int(renews)),
            "at": from_ms(to_ms(row.at)),
        }
    return {"bookId": row.book_id, "of": row.what, "left": row.remaining, "at": from_ms(to_ms(row.at))}
