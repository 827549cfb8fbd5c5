"""A redemption as clients see it, from the record that Redis keeps."""

from typing import Any

import msgspec

from service.domain.money import from_e4
from service.domain.times import from_ms
from service.domain.words import Answer, shown, unword
from service.operations.base import read_kept
from service.operations.coupon import Durability, Time


class Redemption(Answer):
    """One use of a coupon that was spent; `rolledBackAt` where it was taken back."""

    redemption_id: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    order_value: str | None
    currency: str
    discount_amount: str
    final_amount: str | None
    redeemed_at: Time
    rolled_back_at: Time | None
    ip_address: str | None
    user_agent: str | None
    metadata: dict[str, Any] | msgspec.Raw


class DurableRedemption(Redemption):
    """A redemption, and how safe what was asked is."""

    durability: Durability


def fields_of(record: str, book_id: str, with_rollback: bool) -> dict[str, Any]:
    """A record of Redis's as the fields of Redemption. An answer to a redeem never shows a later rollback."""
    (
        _, rolled_at, _, _, _, _, code, user, order, redemption_id, value, currency, digits_text, discount, at,
        _, _, _, _, kept_json,
    ) = record.split(" ", 19)  # fmt: skip
    kept, digits = read_kept(kept_json), int(digits_text)
    discount_e4 = int(discount)
    return {
        "redemption_id": redemption_id,
        "code": code,
        "book_id": book_id,
        "user_id": shown(user),
        "order_id": unword(order),
        "order_value": None if value == "-" else from_e4(int(value), digits),
        "currency": currency,
        "discount_amount": from_e4(discount_e4, digits),
        "final_amount": None if value == "-" else from_e4(int(value) - discount_e4, digits),
        "redeemed_at": from_ms(int(at)),
        "rolled_back_at": from_ms(int(rolled_at)) if with_rollback and rolled_at != "-" else None,
        "ip_address": kept.ip,
        "user_agent": kept.ua,
        "metadata": kept.metadata,
    }
