"""Rows of configuration, read from Postgres and projected to Redis. record/ reads and returns these rows,
projection.py writes them. Times are milliseconds since 1970, money is in 10⁻⁴ units.

Fields are copied by name from and to columns, requests and responses.
"""

from typing import Any, Literal
from uuid import UUID

import msgspec

from service.engine.domain.budgets import Bound, BudgetRow, UseLimit
from service.engine.domain.limits import BookLimits, KeyLimits, WorkspaceLimits


class WorkspaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace and its settings."""

    workspace: int
    workspace_id: UUID
    partition: int
    version: int
    name: str
    mode: Literal["live", "test"]
    currency: str
    digits: int
    coupons_per_order: int
    max_coupons: int | None
    gift_book_id: UUID | None
    idempotency_hours: int
    clock_offset_ms: int = 0
    """Offset of a test workspace's clock from the server's."""
    limits: WorkspaceLimits | None = None
    time_zone: str = "UTC"
    """An IANA name: of the hours, days and weeks of reports. Redis does not store it."""
    storage_mib: int = 4096
    """The bound of what it has in Redis."""
    storage_used_mib: int = 0
    operator_limits: KeyLimits | None = None
    """The most that the limits of its keys may be. An operator sets it, as `is_suspended`; Redis stores neither."""
    is_suspended: bool = False
    """Whether all its requests are refused."""


class TierRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tier of a discount: applies from this order value up to the next tier."""

    from_e4: int
    type: Literal["percentage", "fixed"]
    value_e4: int


class DiscountRow(msgspec.Struct, frozen=True, kw_only=True):
    """A book's discount. A percentage is in 10⁻⁴ too: 20 % is 200,000."""

    type: Literal["percentage", "fixed", "tiered", "buyXGetY", "balance"]
    value_e4: int = 0
    """Of `percentage`, `fixed` and `balance`."""
    tiers: tuple[TierRow, ...] = ()
    """Of `tiered`, ascending."""
    buy: int = 0
    get: int = 0
    """Of `buyXGetY`, as `buy`."""
    max_amount_e4: int | None
    min_order_value_e4: int | None
    currency: str
    digits: int


class BookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A book with its rules."""

    workspace: int
    partition: int
    book: int
    book_id: UUID
    version: int
    name: str
    description: str
    status: Literal["active", "inactive", "archived"]
    valid_from_ms: int | None
    valid_until_ms: int | None
    max_redemptions_per_code: int | None
    """None means no limit."""
    max_redemptions_per_user: int | None
    max_redemptions: int | None
    max_codes_per_user: int | None
    require_assignment: bool
    require_lock: bool
    lock_seconds: int
    max_lock_seconds: int
    discount: DiscountRow | None
    code_pattern: str
    charset: str
    total_codes: int | None
    low_stock_threshold: int | None
    gift_book_id: UUID | None
    keep_free: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_by: str | None
    created_ms: int
    updated_ms: int
    workspace_currency: str
    """For responses: the currency of a discount that has none of its own."""
    limits: BookLimits | None = None
    public_reasons: bool = False
    """Whether a caller without reasons learns when, or with which order, its coupons can be used."""
    locks_ended: int = 0
    """The version of the change that last ended all its locks."""
    own_currency: str | None = None
    """Of its discount, also of one that was taken away."""
    budgets: tuple[BudgetRow, ...] = ()
    use_limits: tuple[UseLimit, ...] = ()
    counted_from: int = 0
    """The version of the change from which on what is spent under them is counted: their generation."""
    is_counted: bool = True
    """Whether Redis has counted under this generation what was redeemed before."""
    time_zone: str = "UTC"
    """The workspace's, of days and months."""

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Its budgets and limits of uses."""
        return (*self.budgets, *self.use_limits)

    @property
    def card(self) -> DiscountRow | None:
        """The discount, if its codes are cards with a balance."""
        return self.discount if self.discount and self.discount.type == "balance" else None


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A code, and the fields in which it differs from its book."""

    workspace: int
    partition: int
    book: int
    version: int
    code: str
    owner_id: str | None
    max_redemptions: int | None
    """None means the book's limit."""
    expires_ms: int | None
    active: bool
    created_ms: int
    """Also the time since when its owner has it."""
    amount_e4: int | None = None
    """What a card was issued with; None for codes of other books."""


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """A created user. `max_coupons` None means the workspace's limit."""

    workspace: int
    partition: int
    version: int
    user_id: str
    max_coupons: int | None
    metadata: dict[str, Any]
    created_ms: int
