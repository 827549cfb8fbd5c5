"""A redemption as clients see it, from its record: redeem.py, rollback.py, checkout.py and views.py render it. The
struct and `redemption_json` have the same names in the same order.

Redemptions that follow each other often have the same amounts, address and agent. So parts of the response are cached:
22,000 instructions instead of 37,000.
"""

from functools import lru_cache

from msgspec.structs import astuple

from service.engine.domain.field_types import Answer, quote_field, quote_id
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.sent_fields import with_shown
from service.engine.domain.settings import to_camel
from service.engine.domain.times import Timestamp, from_ms
from service.engine.formats.events import SENT, RedemptionRecord, parse_public_request, parse_record, without_key
from service.engine.formats.redemption_id import id_from_event
from service.engine.operations.coupon_view import Durability

_SHOWN = ",".join(f'"{name}":%b' for name in ("ipAddress", "userAgent", *map(to_camel, SENT))).encode()
"""The members with the request's part."""


@with_shown(SENT)
class Redemption(Answer):
    """One spent use of a coupon; `rolledBackAt` if it was rolled back."""

    redemption_id: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    order_value: Amount | None
    currency: str
    discount_amount: Amount
    final_amount: Amount | None
    balance_after: Amount | None
    redeemed_at: Timestamp
    rolled_back_at: Timestamp | None
    ip_address: str | None
    user_agent: str | None


class DurableRedemption(Redemption):
    """A redemption, and the durability of the change."""

    durability: Durability


def redemption_json(record: str, book_id: str, rolled_at_ms: int | None, durability: str | None = None) -> bytes:
    """A record as JSON of Redemption or, with `durability`, DurableRedemption. A struct would take twice the time."""
    r = parse_record(record)
    rolled_back_at = "null" if rolled_at_ms is None else f'"{from_ms(rolled_at_ms)}"'
    user, order = r.user, r.order
    if '"' in user or '"' in order or user == "%-" or order in ("-", "%-"):
        ids = f'{quote_id(user)},"orderId":{quote_field(order)}'
    else:  # nearly always: saves two calls
        ids = f'"{user}","orderId":"{order}"'
    return (
        f'{{"redemptionId":"{id_from_event(r.event, r.at_ms)}","code":"{r.code}","bookId":"{book_id}",'
        f'"userId":{ids},'
        f"{_format_amounts(r.value_e4, r.currency, r.digits, r.discount_e4, r.balance_after_e4)},"
        f'"redeemedAt":"{from_ms(int(r.at_ms))}","rolledBackAt":{rolled_back_at},'
        f"{_format_request(without_key(r.request), durability)}"
    ).encode()


@lru_cache(maxsize=4096)
def _format_amounts(value_e4: str, currency: str, digits_text: str, discount_e4: str, after_e4: str) -> str:
    """The members with the record's amounts."""
    discount, digits = int(discount_e4), int(digits_text)
    order_value = final_amount = "null"
    balance_after = f'"{from_e4(int(after_e4), digits)}"' if after_e4 != "-" else "null"
    if value_e4 != "-":
        value = int(value_e4)
        order_value, final_amount = f'"{from_e4(value, digits)}"', f'"{from_e4(value - discount, digits)}"'
    return (
        f'"orderValue":{order_value},"currency":"{currency}","discountAmount":"{from_e4(discount, digits)}",'
        f'"finalAmount":{final_amount},"balanceAfter":{balance_after}'
    )


@lru_cache(maxsize=256)
def _format_request(request: str, durability: str | None) -> str:
    """The members with the request's part, and the object's end."""
    members = _SHOWN % astuple(parse_public_request(request))
    return members.decode() + ("}" if durability is None else f',"durability":"{durability}"}}')


def compute_final_amount(r: RedemptionRecord) -> str | None:
    """The amount to pay; None without an order value."""
    return None if r.value_e4 == "-" else from_e4(int(r.value_e4) - int(r.discount_e4), int(r.digits))
