"""A redemption as clients see it, from its record."""

from typing import Any

import msgspec

from service.domain.field_types import Answer, decode_field, decode_id, quote_json
from service.domain.money import from_e4
from service.domain.times import from_ms
from service.formats.events import parse_shown_request, resolve_redemption_id
from service.formats.redemption_record import RedemptionRecord, parse_record
from service.operations.coupon_view import Durability, Time


class Redemption(Answer):
    """One spent use of a coupon; `rolledBackAt` if it was rolled back."""

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
    """A redemption, and the durability of the change."""

    durability: Durability


def redemption_json(record: str, book_id: str, rolled_at_ms: int | None, durability: str | None = None) -> bytes:
    """A record as JSON of Redemption or, with `durability`, DurableRedemption. A struct would take twice the time."""
    r = parse_record(record)
    redemption_id = resolve_redemption_id(r.name, r.at_ms)
    request, digits = parse_shown_request(r.request), int(r.digits)
    rolled_back_at = "null" if rolled_at_ms is None else f'"{from_ms(rolled_at_ms)}"'
    if r.value_e4 == "-":
        order_value = final_amount = "null"
    else:
        order_value, final_amount = f'"{from_e4(int(r.value_e4), digits)}"', f'"{compute_final_amount(r)}"'
    head = (
        f'{{"redemptionId":"{redemption_id}","code":"{r.code}","bookId":"{book_id}","userId":{quote_json(decode_id(r.user))},'
        f'"orderId":{quote_json(decode_field(r.order))},"orderValue":{order_value},"currency":"{r.currency}",'
        f'"discountAmount":"{from_e4(int(r.discount_e4), digits)}","finalAmount":{final_amount},'
        f'"redeemedAt":"{from_ms(int(r.at_ms))}","rolledBackAt":{rolled_back_at}'
    )
    tail = "}" if durability is None else f',"durability":"{durability}"}}'
    return b'%b,"ipAddress":%b,"userAgent":%b,"metadata":%b%b' % (
        head.encode(), request.ip, request.ua, request.metadata, tail.encode(),
    )  # fmt: skip


def compute_final_amount(r: RedemptionRecord) -> str | None:
    """The amount to pay; None without an order value."""
    return None if r.value_e4 == "-" else from_e4(int(r.value_e4) - int(r.discount_e4), int(r.digits))
