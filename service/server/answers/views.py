"""Jobs and recorded redemptions as clients see them, in the JSON of responses and webhooks: controllers and payloads.py
call this. Job copies JobRow's fields by name."""

from typing import Literal
from uuid import UUID

from service.engine.domain.field_types import Answer
from service.engine.domain.money import from_e4
from service.engine.domain.times import Timestamp, from_ms
from service.engine.formats.events import SENT
from service.engine.operations.redemption_view import Redemption
from service.server.in_postgres.history_pages import PastRedemption
from service.server.requests.code_change_requests import CodeChangeProgress


class Job(Answer, kw_only=True):
    """A job and its progress."""

    job_id: UUID
    kind: Literal["generate", "reconcile", "change"]
    status: Literal["running", "paused", "done", "cancelled", "failed"]
    requested: int
    done: int
    errors: list[str]
    started_at: Timestamp
    finished_at: Timestamp | None
    change: CodeChangeProgress | None


def redemption_of(past: PastRedemption) -> Redemption:
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
        balance_after=None if past.balance_after_e4 is None else from_e4(past.balance_after_e4, digits),
        redeemed_at=from_ms(past.redeemed_at_ms),
        rolled_back_at=None if past.rolled_back_at_ms is None else from_ms(past.rolled_back_at_ms),
        ip_address=past.ip,
        user_agent=past.user_agent,
        **{name: field.show_text(getattr(past, name)) for name, field in SENT.items()},
    )
