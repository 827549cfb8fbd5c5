"""Rows of configuration, read from Postgres and projected to Redis. record/ reads and returns these rows,
projection.py writes them. Times are milliseconds since 1970, money is in 10⁻⁴ units.

Fields are copied by name from and to columns, requests and responses.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from service.engine.domain.budgets import Bound, BudgetRow, UseLimit
from service.engine.domain.field_types import MAX_CODES
from service.engine.domain.limits import BookLimits, KeyLimits, WorkspaceLimits
from service.engine.domain.settings import Setting


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
    """A book with its rules. A `Setting` at a field is its row in the table of settings (settings.py)."""

    workspace: int
    partition: int
    book: int
    book_id: UUID
    version: int
    name: str
    description: str
    status: Annotated[Literal["active", "inactive", "archived"], Setting(lua="status", usual="active")]
    valid_from_ms: int | None
    valid_until_ms: int | None
    max_redemptions_per_code: Annotated[
        int | None,
        Setting(
            "How often each code can be redeemed.",
            asked="Default: 1, for cards null; null means no limit.",
            label="Redemptions per code",
            hint="Empty: no limit.",
            lua="per_code",
            usual=1,
            unaffected="xs",
        ),
    ]
    max_redemptions_per_user: Annotated[
        int | None,
        Setting(
            "How often one user can redeem coupons of the book; null for any number of times.",
            label="Redemptions per user",
            hint="Empty: no limit.",
        ),
    ]
    max_redemptions: Annotated[
        int | None,
        Setting(
            "How often all coupons of the book can be redeemed together; null for any number of times.",
            label="Redemptions in total",
            hint="Empty: no limit.",
            lua="total",
            unaffected="xs",
        ),
    ]
    max_codes_per_user: Annotated[
        int | None,
        Setting(
            "How many codes of the book can ever be assigned to one user; null for any number.",
            label="Codes per user",
            hint="Empty: no limit.",
        ),
    ]
    require_assignment: Annotated[
        bool,
        Setting(
            "Whether a coupon must be assigned to the user who redeems it.",
            label="Only for the user it is assigned to",
            lua="require_assignment",
            unaffected="s",
        ),
    ]
    require_lock: Annotated[
        bool, Setting("Whether a coupon must be locked before it is redeemed.", label="Lock before redeeming")
    ]
    lock_seconds: Annotated[
        int,
        Setting(
            "How long a lock lasts, in seconds.",
            asked="Default: 300.",
            label="Lock (s)",
            hint="How long a lock holds a code.",
            default=300,
        ),
    ]
    max_lock_seconds: Annotated[
        int,
        Setting(
            "How long a lock can last with all its extensions, in seconds.",
            asked="Default: 3600.",
            label="Longest lock (s)",
            hint="With all its renewals.",
            default=3600,
        ),
    ]
    discount: DiscountRow | None
    code_pattern: str
    charset: str
    total_codes: int | None
    low_stock_threshold: Annotated[
        int | None,
        Setting(
            "`book.low_stock` is sent when fewer free codes or uses than this are left; null for never.",
            label="Low stock below",
            hint="Available codes. Empty: no notice.",
        ),
    ]
    gift_book_id: Annotated[UUID | None, Setting(lua="gift_book", unaffected="lrxs")]
    keep_free: Annotated[
        int | None,
        msgspec.Meta(ge=1, le=MAX_CODES),
        Setting(
            "New codes are generated when fewer than this number are free; null for never.",
            label="Refill below",
            hint="Available codes. Empty: no refill.",
        ),
    ]
    tags: list[str]
    metadata: dict[str, Any]
    created_by: str | None
    created_ms: int
    updated_ms: int
    workspace_currency: str
    """For responses: the currency of a discount that has none of its own."""
    limits: Annotated[BookLimits | None, Setting(lua="limits", unaffected="rxs")] = None
    public_reasons: Annotated[
        bool,
        Setting(
            "Whether a validate by a key with only the scope `public` tells `not_started`, `expired`, "
            "`order_value_too_low` and `order_value_required`.",
            label="Public keys learn some reasons",
            hint="A page that only validates can say: not valid yet, expired, order too small, order value missing.",
            lua="public_reasons",
            unaffected="lrxs",
        ),
    ] = False
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
