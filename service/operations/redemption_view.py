"""A redemption as clients see it, from its record: its event, and what that says (lua/includes/facts.lua)."""

from typing import Any

import msgspec

from service.domain.field_types import Answer, decode_field, decode_id, quote_json
from service.domain.money import from_e4
from service.domain.times import from_ms
from service.formats.events import shown_redemption_id
from service.operations.base import encode, read_kept
from service.operations.coupon_view import Durability, Time


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


def redemption_json(record: str, book_id: str, rolled_at_ms: int | None, durability: str | None = None) -> bytes:
    """A record as a Redemption, or with `durability` as a DurableRedemption; put together, which takes half of a
    struct's time. An answer to a redeem never shows a later rollback."""
    (
        event, _, _, _, code, user, order, own_id, value, currency, digits_text, discount, at, _, _, _, _, _, kept_json,
    ) = record.split(" ", 18)  # fmt: skip
    redemption_id = shown_redemption_id(event if own_id == "-" else own_id, at)
    kept, digits = read_kept(kept_json), int(digits_text)
    discount_e4 = int(discount)
    order_value = None if value == "-" else from_e4(int(value), digits)
    final_amount = _final_amount(value, discount_e4, digits)
    rolled_back_at = None if rolled_at_ms is None else from_ms(rolled_at_ms)
    head = (
        f'{{"redemptionId":"{redemption_id}","code":"{code}","bookId":"{book_id}","userId":{quote_json(decode_id(user))},'
        f'"orderId":{quote_json(decode_field(order))},"orderValue":{quote_json(order_value)},"currency":"{currency}",'
        f'"discountAmount":"{from_e4(discount_e4, digits)}","finalAmount":{quote_json(final_amount)},'
        f'"redeemedAt":"{from_ms(int(at))}","rolledBackAt":{quote_json(rolled_back_at)}'
    )
    tail = "}" if durability is None else f',"durability":"{durability}"}}'
    return b'%b,"ipAddress":%b,"userAgent":%b,"metadata":%b%b' % (
        head.encode(), encode(kept.ip), encode(kept.ua), kept.metadata, tail.encode(),
    )  # fmt: skip


def final_amount_of(record: str) -> str | None:
    """What is left to pay; None where the order's value wasn't told."""
    value, _, digits, discount = record.split(" ", 12)[8:12]
    return _final_amount(value, int(discount), int(digits))


def _final_amount(value: str, discount_e4: int, digits: int) -> str | None:
    return None if value == "-" else from_e4(int(value) - discount_e4, digits)
