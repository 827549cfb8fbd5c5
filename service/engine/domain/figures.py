"""The figures of a refusal: a script returns them with its outcome (lua/includes/judging.lua), fields between '/'.

They become the refusal's detail, bad field, and members of its problem document: by the row's `says` (outcomes.py), or
by a function here, where they need more than a sentence. Amounts are in 10⁻⁴ units, times in
milliseconds since 1970. decider.py makes refusals of replies here, redeem.py the reasons of a validation.
"""

from collections.abc import Callable
from functools import lru_cache
from string import Formatter
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.errors import FieldError, Refusal
from service.engine.domain.field_types import Answer
from service.engine.domain.money import CURRENCY_DIGITS, Amount, count_digits, from_e4
from service.engine.domain.outcomes import BY_CODE, BY_NUMBER
from service.engine.domain.settings import add_fields
from service.engine.domain.times import Timestamp, from_ms

T = TypeVar("T")


def list_figures(says: str) -> dict[str, str]:
    """The figures in a row's `says`, in their order, with `time`, or '' for a count."""
    return {name: kind or "" for _, name, kind, _ in Formatter().parse(says) if name}


_SAID = {name: kind for row in BY_CODE.values() for name, kind in list_figures(row.says).items()}


def _with_said(kind: type[T]) -> type[T]:
    """Add the figures of rows that it does not have by hand."""
    there = {field.name for field in msgspec.structs.fields(cast("Any", kind))}
    types = {name: Timestamp if of == "time" else int for name, of in _SAID.items() if name not in there}
    return add_fields(kind, [(name, one | UnsetType, UNSET) for name, one in types.items()])


@_with_said
class Figures(Answer, kw_only=True):
    """What a refusal says in figures. Only those of its `code` are there."""

    valid_from: Timestamp | UnsetType = UNSET
    expires_at: Timestamp | UnsetType = UNSET
    max_lock_seconds: int | UnsetType = UNSET
    max_redemptions_per_user: int | UnsetType = UNSET
    max_redemptions: int | UnsetType = UNSET
    max_codes_per_user: int | UnsetType = UNSET
    max_coupons: int | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    min_order_value: Amount | UnsetType = UNSET
    missing: Amount | UnsetType = UNSET
    final_amount: Amount | UnsetType = UNSET
    expected_final_amount: Amount | UnsetType = UNSET
    renews_at: Timestamp | UnsetType | None = UNSET
    buy: int | UnsetType = UNSET
    get: int | UnsetType = UNSET
    redemption_id: str | UnsetType | None = UNSET
    rolled_back_at: Timestamp | UnsetType = UNSET
    storage_used_mib: int | UnsetType = UNSET
    storage_mib: int | UnsetType = UNSET


class Description(NamedTuple):
    """A refusal in words and figures; `field` and `reason` name the bad field, '' for none."""

    detail: str
    figures: Figures
    field: str = ""
    reason: str = ""


def _lock_ceiling(end_ms: str, most_ms: str) -> Description:
    end, most = from_ms(int(end_ms)), int(most_ms) // 1000
    return Description(
        f"The lock ends at {end}, and no later: a lock lasts at most {most} seconds (the book's `maxLockSeconds`), and "
        "never beyond the coupon's window. Redeem it before, or lock it again afterwards.",
        Figures(expires_at=end, max_lock_seconds=most),
    )


def _budget_exhausted(renews_ms: str) -> Description:
    renews = _renewal(renews_ms)
    more = f" It renews at {renews}." if renews else ""
    return Description(
        f"A budget of the coupon's book does not suffice for this discount.{more}", Figures(renews_at=renews)
    )


def _renewal(renews_ms: str) -> str | None:
    return None if renews_ms == "-" else from_ms(int(renews_ms))


def _order_value_required(currency: str) -> Description:
    return Description(
        f"This coupon gives a discount: send `orderValue`, the order's value in {currency} before the discount.",
        Figures(currency=currency),
        "orderValue",
        f"is required: the value in {currency} before the discount",
    )


def _currency_mismatch(wanted: str, sent: str) -> Description:
    return Description(
        f"The order is in {sent}, the coupon for orders in {wanted}. Send the order's value in {wanted}, or another "
        "coupon.",
        Figures(currency=wanted),
        "currency",
        f"must be {wanted}, but is {sent}",
    )


def _order_value_too_low(least_e4: str, value_e4: str, currency: str, digits_text: str) -> Description:
    digits = int(digits_text)
    least, value = from_e4(int(least_e4), digits), from_e4(int(value_e4), digits)
    missing = from_e4(int(least_e4) - int(value_e4), digits)
    return Description(
        f"The coupon is for orders from {least} {currency}; this one's value is {value}, and {missing} is missing.",
        Figures(min_order_value=least, missing=missing, currency=currency),
        "orderValue",
        f"must be at least {least}, but is {value}",
    )


def _no_discount(kind: str, terms: str, items: str) -> Description:
    if kind != "buyXGetY":
        return Description(
            "The discount of this order's value comes to 0. The use is not spent.",
            Figures(),
            "orderValue",
            "gives a discount of 0",
        )
    buy, get = map(int, terms.split(":"))
    offer = f"For every {buy + get} units of one article this coupon makes {get} free"
    reason = f"must have {buy + get} units of one sku, {get} of which has a price"
    if items == "-":
        detail = f"{offer}, and the order names no items. The use is not spent."
        reason = "is required: the discount is of the order's items"
    else:
        detail = f"{offer}, and the order's items have no such units with a price. The use is not spent."
    return Description(detail, Figures(buy=buy, get=get), "items", reason)


def _already_rolled_back(redemption_id: str, at_ms: str) -> Description:
    at, is_gift = from_ms(int(at_ms)), redemption_id == "-"
    return Description(
        f"This Idempotency-Key is of a {'gift' if is_gift else 'redemption'} that was rolled back at {at}: "
        f"{'nothing is given' if is_gift else 'no use is spent'}. Send a new Idempotency-Key to "
        f"{'give one' if is_gift else 'redeem'} again.",
        Figures(redemption_id=None if is_gift else redemption_id, rolled_back_at=at),
    )


def _price_changed(final_e4: str, expected_e4: str, currency: str, digits_text: str) -> Description:
    digits = CURRENCY_DIGITS[currency] if digits_text == "-" else int(digits_text)
    final = from_e4(int(final_e4), digits)
    expected = from_e4(int(expected_e4), max(digits, count_digits(int(expected_e4))))
    return Description(
        f"The order's final amount is {final} {currency} now, not {expected}. No coupon is used yet.",
        Figures(final_amount=final, expected_final_amount=expected, currency=currency),
    )


_NO_BALANCE = "the coupon's book has no balance"


def _invalid_amount(currency: str = "", digits_text: str = "", amount_e4: str = "") -> Description:
    """The `amount` of a card: no figures where the coupon is none, the amount alone where the card would have had more
    than a card may."""
    figures = Figures()
    if not currency:
        reason = f"can't be sent: {_NO_BALANCE}"
    elif not digits_text:
        reason = "is too much: all that a card is issued and credited with is below 100000000000"
    else:
        most = f"at most {digits_text} digits after the point, as {currency} has"
        reason, figures = (
            f"must have {most}, but is {from_e4(int(amount_e4), 4).rstrip('0')}",
            Figures(currency=currency),
        )
    return Description(f"amount {reason}.", figures, "amount", reason)


def _invalid(currency: str, *others: str) -> Description:
    if currency == "amount":
        return _invalid_amount(*others)
    if currency == "card":
        return Description(f"This is no card: {_NO_BALANCE}.", Figures(), "code", f"is no card: {_NO_BALANCE}")
    return _invalid_order(currency, *others)


def _invalid_order(currency: str, digits_text: str, value_e4: str, worth_e4: str = "") -> Description:
    digits = int(digits_text)
    if worth_e4:
        worth, value = from_e4(int(worth_e4), digits), from_e4(int(value_e4), digits)
        reason = (
            f"are worth {worth} {currency} together, more than the orderValue of {value}: send both before any discount"
        )
        return Description(f"items {reason}.", Figures(currency=currency), "items", reason)
    most = f"{digits} digits after the point, as {currency} has"
    if value_e4 != "-" and count_digits(int(value_e4)) > digits:
        field, reason = "orderValue", f"must have at most {most}, but is {from_e4(int(value_e4), 4).rstrip('0')}"
    else:
        field, reason = "items", f"must have a unitPrice of at most {most}"
    return Description(f"{field} {reason}.", Figures(currency=currency), field, reason)


def _describe_by(says: str) -> tuple[Callable[..., Description], str]:
    figures, sentence = list_figures(says), says.replace(":time}", "}")

    @lru_cache(maxsize=256)  # a book that is sold out says the same to all
    def describe(*texts: str) -> Description:
        pairs = zip(figures.items(), texts, strict=True)
        values: dict[str, Any] = {name: from_ms(int(text)) if kind else int(text) for (name, kind), text in pairs}
        return Description(sentence.format(**values), Figures(**values))

    return describe, " ".join(figures)


FIGURES: dict[str, tuple[Callable[..., Description], str]] = {
    **{code: _describe_by(row.says) for code, row in BY_CODE.items() if row.says},
    "lock_ceiling": (_lock_ceiling, "expires_at max_lock_seconds"),
    "budget_exhausted": (_budget_exhausted, "renews_at"),
    "order_value_required": (_order_value_required, "currency"),
    "currency_mismatch": (_currency_mismatch, "currency"),
    "order_value_too_low": (_order_value_too_low, "min_order_value missing currency"),
    "no_discount": (_no_discount, "buy get"),
    "invalid": (_invalid, "currency"),
    "already_rolled_back": (_already_rolled_back, "redemption_id rolled_back_at"),
    "price_changed": (_price_changed, "final_amount expected_final_amount currency"),
}
"""By code, what describes its refusal, and the names of the figures that it may have."""


def refuse_outcome(number: int, more: int | str | None) -> Refusal:
    """The Refusal of a script's outcome. `more` is what the script replies with it: after how many milliseconds a later
    attempt may succeed, or figures."""
    code = BY_NUMBER[number].code
    if isinstance(more, str):
        detail, figures, *bad = FIGURES[code][0](*more.split("/"))
        refusal = Refusal(code, detail, [FieldError(*bad)] if bad[0] else ())
        refusal.figures = msgspec.to_builtins(figures)
        return refusal
    if more is None and BY_NUMBER[number].status == 503:
        return Refusal.temporary(code)
    return Refusal(code, retry_after_ms=more)
