"""What configuration looks like on its way from Postgres to Redis.

`record` reads and returns these rows, `hot` writes them. Times are milliseconds since 1970, money is in 10⁻⁴ units.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from service.domain.limits import BookLimits, WorkspaceLimits


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
    """How far a test workspace's clock is from the server's."""
    limits: WorkspaceLimits | None = None


class TierRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a discount is from this order value on."""

    from_e4: int
    type: Literal["percentage", "fixed"]
    value_e4: int


class DiscountRow(msgspec.Struct, frozen=True, kw_only=True):
    """A book's discount. A percentage is in 10⁻⁴ too: 20 % is 200,000."""

    type: Literal["percentage", "fixed", "tiered", "buyXGetY"]
    value_e4: int = 0
    """Of `percentage` and `fixed`."""
    tiers: tuple[TierRow, ...] = ()
    """Of `tiered`, ascending."""
    buy: int = 0
    get: int = 0
    """Of `buyXGetY`, as `buy`."""
    max_amount_e4: int | None
    min_order_value_e4: int | None
    currency: str | None
    """The discount's own; None is the workspace's, whatever that is when an order comes."""
    digits: int | None


class BookRow(msgspec.Struct, frozen=True, kw_only=True):
    """A book with all of its rules."""

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
    """None is no limit."""
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
    """For answers; a discount without a currency of its own is in this one."""
    limits: BookLimits | None = None


class CodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A code, with what it says differently from its book."""

    workspace: int
    partition: int
    book: int
    version: int
    code: str
    owner_id: str | None
    max_redemptions: int | None
    """None is the book's."""
    expires_ms: int | None
    active: bool
    created_ms: int
    """Since when it is its owner's, too."""


class UserRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user that was created, with its own cap (None is the workspace's)."""

    workspace: int
    partition: int
    version: int
    user_id: str
    max_coupons: int | None
    metadata: dict[str, Any]
    created_ms: int


class Projector(Protocol):
    """Writes configuration into Redis. Every row carries its version, and only a newer one is applied."""

    async def workspace(self, row: WorkspaceRow) -> None:
        """A workspace is new or changed."""
        ...

    async def book(self, row: BookRow) -> None:
        """A book is new or changed."""
        ...

    async def codes(self, workspace: int, partition: int, version: int, rows: Sequence[CodeRow]) -> None:
        """At most 5,000 codes of one version. While catching up, some may be there already, switched off or expired."""
        ...

    async def coupon(self, row: CodeRow) -> None:
        """One code's switch or expiry changed."""
        ...

    async def user(self, row: UserRow) -> None:
        """A user is new or changed."""
        ...

    async def seen(self, partition: int, version: int) -> None:
        """All rows of this version are projected."""
        ...
