"""Encode the settings of workspaces, books and codes as strings for scripts. projection.py sends them; comparisons
expect the same text.

Redis stores a workspace's and a book's after their version (lua/includes/book.lua, which names the other readers);
lua/put_codes.lua makes a code's record from its settings. Scripts read most fields by position. The first word of a
workspace's and a book's settings says which texts of lua/fast/ know all of the settings: the others leave each request
to the general text. A setting that no row of `_SPECIAL` gives to a text is not known to it.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from service.engine.domain.configuration import BookRow, CodeRow, DiscountRow, WorkspaceRow
from service.engine.domain.field_types import encode_field
from service.engine.domain.limits import encode_book_limits
from service.engine.domain.times import to_datetime
from service.engine.formats.bounds import encode_bounds, encode_zone

_mark = re.compile(r"^((?:\S+ ){8}-?\d+)!\d")

USUAL = "lrxs"
"""The usual texts (lua/fast/usual_*.lua): lock, redeem, refusal of a code that is used up, of a book that is sold out."""


class _Special(NamedTuple):
    """A setting of a book that is stored, by name, where it isn't as usual."""

    name: str
    """In Lua, a field of the book."""
    value: Callable[[BookRow], Any]
    usual: Any = None
    known_to: str = ""
    """The usual texts that decide the same whatever its value is: of USUAL. Others don't run where it isn't as usual."""


_SPECIAL = (
    _Special("status", lambda row: row.status, "active"),
    _Special("per_code", lambda row: row.max_redemptions_per_code, 1, "xs"),
    _Special("total", lambda row: row.max_redemptions, None, "xs"),
    _Special("bounds", lambda row: _encode_bounds(row), None, "xs"),
    _Special("require_assignment", lambda row: row.require_assignment, False, "s"),
    _Special("limits", lambda row: encode_book_limits(row.limits), None, "rxs"),
    _Special("gift_book", lambda row: row.gift_book_id, None, USUAL),
    _Special("public_reasons", lambda row: row.public_reasons, False, USUAL),
)


def _usual_word(special: list[_Special]) -> str:
    """Which usual texts know all of these settings: a letter each, '-' in the place of one that doesn't."""
    return "".join(text if all(text in one.known_to for one in special) else "-" for text in USUAL)


def _named(name: str, value: Any) -> str:
    """' <name>#<number>', '-' for none, or ' <name>=<text>'."""
    is_number = value is None or (isinstance(value, int) and not isinstance(value, bool))
    return f" {name}{'#' if is_number else '='}{setting(value)}"


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
    return f"-rxs {settings} limits={books}" if books else f"{USUAL} {settings}"


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
    special = {one: value for one in _SPECIAL if (value := one.value(row)) != one.usual}
    settings = _joined(
        _usual_word([*special]),
        row.book_id,
        row.valid_from_ms,
        row.valid_until_ms,
        row.max_redemptions_per_user,
        row.max_codes_per_user,
        row.require_lock,
        row.lock_seconds * 1000,
        row.max_lock_seconds * 1000,
        row.locks_ended or None,
        row.low_stock_threshold,
        *money,
    )
    return settings + "".join(_named(one.name, value) for one, value in special.items())


def _encode_bounds(row: BookRow) -> str | None:
    if not row.bounds:
        return None
    return encode_bounds(row.bounds, row.counted_from, is_counted=row.is_counted, zone=zone_of(row))


def zone_of(row: BookRow) -> str:
    """The zone of its periods, as its settings have it."""
    return encode_zone(row.time_zone, to_datetime(row.updated_ms).year - 1)


def closed_book_settings(book_id: UUID) -> str:
    """The settings of a book that can't be projected, which permits nothing.
    lua/put_book.lua knows its status."""
    nothing = (None,) * 8
    return f"{_joined('-' * len(USUAL), book_id, None, None, None, None, False, 1, 1, *nothing)} status=unreadable"
