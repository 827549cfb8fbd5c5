"""Encode the settings of workspaces, books and codes as strings for scripts. projection.py sends them; comparisons
expect the same text.

Redis stores a workspace's and a book's after their version (lua/includes/book.lua, which names the other readers);
lua/put_codes.lua makes a code's record from its settings. Scripts read the fields by position.
"""

import re
from typing import Any, NamedTuple
from uuid import UUID

from service.engine.domain.configuration import BookRow, CodeRow, DiscountRow, WorkspaceRow
from service.engine.domain.field_types import encode_field
from service.engine.domain.limits import encode_book_limits
from service.engine.domain.times import to_datetime
from service.engine.formats.bounds import encode_bounds, encode_zone

_mark = re.compile(r"^((?:\S+ ){7}-?\d+)!\d")


class ConfigVersions(NamedTuple):
    """How far a partition's Redis has the configuration."""

    last: int
    """It has every change up to this one."""
    newest: int
    """It has some of this change; at least `last`."""


def parse_versions(config: str | int | None, newest: str | int | None) -> ConfigVersions:
    """The values of the keys `config` and `newest`, which may be missing. A change without rows, as an upload of known
    codes, raises `config` alone."""
    last = int(config or 0)
    return ConfigVersions(last, max(last, int(newest or 0)))


def setting(value: Any) -> str:
    """A value as a field; '-' for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "1" if value else "0"
    return encode_field(str(value))


def _joined(*values: Any) -> str:
    return " ".join(map(setting, values))


def code_settings(row: CodeRow) -> str:
    """A code's settings; '' if it has none of its own."""
    own = (row.owner_id, row.max_redemptions, row.expires_ms, row.amount_e4)
    if row.active and own == (None,) * len(own):
        return ""
    return _joined(row.owner_id, row.created_ms, row.max_redemptions, row.expires_ms, row.active, row.amount_e4)


def _terms(discount: DiscountRow) -> str:
    """A discount's terms for lua/includes/discounts.lua."""
    match discount.type:
        case "tiered":
            return ",".join(f"{tier.from_e4}:{tier.type}:{tier.value_e4}" for tier in discount.tiers)
        case "buyXGetY":
            return f"{discount.buy}:{discount.get}"
        case _:
            return str(discount.value_e4)


def workspace_settings(row: WorkspaceRow) -> str:
    """A workspace's settings for lua/includes/book.lua."""
    keep_ms = row.idempotency_hours * 3_600_000
    limits = (row.coupons_per_order, row.currency, row.digits, row.max_coupons)
    settings = _joined(*limits, keep_ms, row.gift_book_id, row.clock_offset_ms)
    books = encode_book_limits(row.limits.books if row.limits else None)
    return f"{settings} {books}" if books else settings


def without_mark(settings: str) -> str:
    """A workspace's settings as Redis has them, with their version and without the mark of a full workspace, which
    lua/put_storage.lua writes: Postgres has none."""
    return _mark.sub(r"\1", settings, count=1)


def book_settings(row: BookRow) -> str:
    """A book's settings for lua/includes/book.lua."""
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
        _total(row),
        row.max_codes_per_user,
        row.require_assignment,
        row.require_lock,
        row.lock_seconds * 1000,
        row.max_lock_seconds * 1000,
        row.locks_ended or None,
        encode_book_limits(row.limits),
        row.low_stock_threshold,
        row.gift_book_id,
        *money,
        row.public_reasons,
    )


def _total(row: BookRow) -> int | str | None:
    """The book's total; after it, if there are any, its budgets and limits of uses."""
    if not row.bounds:
        return row.max_redemptions
    bounds = encode_bounds(row.bounds, row.counted_from, is_counted=row.is_counted, zone=zone_of(row))
    return f"{setting(row.max_redemptions)}/{bounds}"


def zone_of(row: BookRow) -> str:
    """The zone of its periods, as its settings have it."""
    return encode_zone(row.time_zone, to_datetime(row.updated_ms).year - 1)


def closed_book_settings(book_id: UUID) -> str:
    """The settings of a book that can't be projected: not active, so that its codes can't be used.
    lua/put_book.lua knows its status."""
    nothing = (None,) * 11
    return _joined(book_id, "unreadable", None, None, 1, None, None, None, False, False, 1, 1, *nothing)
