"""What Postgres holds, as clients see it: the API shows it, and webhooks tell it."""

from typing import Literal
from uuid import UUID

import msgspec

from service.domain.field_types import Answer
from service.domain.money import from_e4
from service.domain.times import Timestamp, from_ms, to_ms
from service.operations.redemption_view import Redemption
from service.record.config.job_rows import JobRow
from service.record.facts.history_pages import PastRedemption


class Job(Answer, kw_only=True):
    """A job, and how far it is."""

    job_id: UUID
    kind: Literal["generate", "reconcile"]
    status: Literal["running", "done", "failed"]
    requested: int
    done: int
    errors: list[str]
    started_at: Timestamp
    finished_at: Timestamp | None


def redemption_of(past: PastRedemption) -> Redemption:
    """A recorded redemption as clients see it, the same as when it was made."""
    value, digits = past.value_e4, past.digits
    return Redemption(
        redemption_id=str(past.redemption_id),
        code=past.code,
        book_id=str(past.book_id),
        user_id=past.user_id,
        order_id=past.order_id,
        order_value=None if value is None else from_e4(value, digits),
        currency=past.currency or "",
        discount_amount=from_e4(past.discount_e4, digits),
        final_amount=None if value is None else from_e4(value - past.discount_e4, digits),
        redeemed_at=from_ms(past.redeemed_at_ms),
        rolled_back_at=None if past.rolled_back_at_ms is None else from_ms(past.rolled_back_at_ms),
        ip_address=past.ip,
        user_agent=past.user_agent,
        metadata=msgspec.Raw((past.metadata or "{}").encode()),
    )


def shown_job(row: JobRow) -> Job:
    """The job as a client sees it."""
    return Job(
        job_id=row.job_id,
        kind=row.kind,
        status=row.status,
        requested=row.requested,
        done=row.done,
        errors=row.errors,
        started_at=from_ms(to_ms(row.started_at)),
        finished_at=None if row.finished_at is None else from_ms(to_ms(row.finished_at)),
    )
