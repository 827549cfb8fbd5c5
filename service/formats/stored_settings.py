"""Settings of workspaces, books and codes, each as one string. Redis stores those of workspaces and books after their
version (lua/includes/book.lua); of a code's, lua/put_codes.lua makes its record."""

from typing import Any
from uuid import UUID

from service.domain.configuration import BookRow, CodeRow, DiscountRow, WorkspaceRow
from service.domain.field_types import encode_field
from service.domain.limits import encode_book_limits


def setting(value: Any) -> str:
    """A value as a encode_field; '-' for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "1" if value else "0"
    return encode_field(str(value))


def _joined(*values: Any) -> str:
    return " ".join(map(setting, values))


def code_settings(row: CodeRow) -> str:
    """What the code says differently from its book; nothing for an idle one."""
    if row.owner_id is None and row.max_redemptions is None and row.expires_ms is None and row.active:
        return ""
    return _joined(row.owner_id, row.created_ms, row.max_redemptions, row.expires_ms, row.active)


def _terms(discount: DiscountRow) -> str:
    """lua/includes/money.lua reads these."""
    match discount.type:
        case "tiered":
            return ",".join(f"{tier.from_e4}:{tier.type}:{tier.value_e4}" for tier in discount.tiers)
        case "buyXGetY":
            return f"{discount.buy}:{discount.get}"
        case _:
            return str(discount.value_e4)


def workspace_settings(row: WorkspaceRow) -> str:
    """lua/includes/book.lua reads these, in this order."""
    keep_ms = row.idempotency_hours * 3_600_000
    limits = (row.coupons_per_order, row.currency, row.digits, row.max_coupons)
    settings = _joined(*limits, keep_ms, row.gift_book_id, row.clock_offset_ms)
    books = encode_book_limits(row.limits and row.limits.books)
    return f"{settings} {books}" if books else settings


def book_settings(row: BookRow) -> str:
    """As workspace_settings."""
    discount = row.discount
    money: tuple[Any, ...] = (None,) * 6
    if discount:
        least = discount.min_order_value_e4
        if discount.tiers:
            least = max(least or 0, discount.tiers[0].from_e4)
        money = (discount.type, _terms(discount), discount.max_amount_e4, least, discount.currency, discount.digits)
    return _joined(
        row.book_id,
        "a" if row.status == "active" else row.status,
        row.valid_from_ms,
        row.valid_until_ms,
        row.max_redemptions_per_code,
        row.max_redemptions_per_user,
        row.max_redemptions,
        row.max_codes_per_user,
        row.require_assignment,
        row.require_lock,
        row.lock_seconds * 1000,
        row.max_lock_seconds * 1000,
        encode_book_limits(row.limits),
        row.low_stock_threshold,
        row.gift_book_id,
        *money,
    )


def closed_book_settings(book_id: UUID) -> str:
    """Of a book that can't be projected: inactive, so that nobody can use its codes."""
    nothing = (None,) * 9
    return _joined(book_id, "inactive", None, None, 1, None, None, None, False, False, 1, 1, *nothing)
