"""Books: request and response bodies, and the checks across a book's fields. books.py decodes and renders with it,
book_rows.py makes rows. Field names are in the API's JSON, and are copied from and to BookRow by name."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from service.engine.domain.budgets import (
    BookBudget,
    BudgetNow,
    Budgets,
    UseLimit,
    UseLimits,
    check_budget_digits,
    make_budget_rows,
    names_users,
    render_budgets,
)
from service.engine.domain.configuration import BookRow
from service.engine.domain.discounts import (
    BookDiscount,
    Discount,
    check_discount_digits,
    make_discount_row,
    render_discount,
)
from service.engine.domain.errors import BadField, invalid
from service.engine.domain.field_types import (
    MAX_CODES,
    Answer,
    Count,
    Request,
    check_text,
    encode_metadata,
    text_schema,
)
from service.engine.domain.limits import BookLimits
from service.engine.domain.money import CURRENCY_DIGITS, Amount
from service.engine.domain.settings import defaults_of, with_settings
from service.engine.domain.times import Time, Timestamp, check_times, from_ms, to_ms
from service.engine.operations.coupon_view import Balance
from service.server.requests.code_patterns import (
    CHARSETS,
    DEFAULT_CHARSET,
    DEFAULT_PATTERN,
    PATTERNS,
    SPARSITY,
    check_pattern,
    count_possible_codes,
    normalize_charset,
    refuse_pattern,
)

_MAX_TAGS, _TAG_LENGTH = 20, 100

Status = Literal["active", "inactive", "archived"]
Tags = Annotated[
    list[Annotated[str, text_schema(1, _TAG_LENGTH)]], msgspec.Meta(extra_json_schema={"maxItems": _MAX_TAGS})
]


@with_settings(BookRow)
class _Fields(Request, kw_only=True):
    """Fields of a book that can be changed later; UNSET is absent."""

    description: Annotated[str, text_schema(0, 2000)] | UnsetType | None = UNSET
    status: Status | UnsetType | None = UNSET
    valid_from: Time | UnsetType | None = UNSET
    valid_until: Time | UnsetType | None = UNSET
    max_redemptions_per_code: Annotated[
        Count | UnsetType | None,
        msgspec.Meta(description="Default: 1, for cards null; null means no limit."),
    ] = UNSET
    max_redemptions_per_user: Count | UnsetType | None = UNSET
    discount: Discount | UnsetType | None = UNSET
    code_pattern: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=PATTERNS)] | UnsetType | None,
        msgspec.Meta(examples=[DEFAULT_PATTERN]),
    ] = UNSET
    charset: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CHARSETS)] | UnsetType | None,
        msgspec.Meta(examples=[DEFAULT_CHARSET]),
    ] = UNSET
    gift_book_id: UUID | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    created_by: Annotated[str, text_schema(1, 255)] | UnsetType | None = UNSET
    limits: Annotated[BookLimits | UnsetType | None, msgspec.Meta(description="They replace all earlier ones.")] = UNSET
    budgets: Budgets | UnsetType | None = UNSET
    use_limits: UseLimits | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        check_text("description", self.description, 0, 2000)
        check_text("createdBy", self.created_by, 1, 255)
        check_times(self)
        if self.discount:
            make_discount_row(self.discount, "USD")  # any currency: its digits are checked with the book's
        make_budget_rows(self.budgets or ())
        if isinstance(self.code_pattern, str):
            check_pattern(self.code_pattern)
        if isinstance(self.charset, str):
            self.charset = normalize_charset(self.charset)
        tags = self.tags or []
        if len(tags) > _MAX_TAGS:
            raise BadField("tags", f"must have at most {_MAX_TAGS} items")
        for number, tag in enumerate(tags):
            check_text(f"tags[{number}]", tag, 1, _TAG_LENGTH)
        encode_metadata(self.metadata or None)


class CreateBook(_Fields, kw_only=True):
    """A new book."""

    name: Annotated[str, text_schema(1, 255, examples=["Summer sale"])]
    total_codes: Annotated[int, msgspec.Meta(ge=1, le=MAX_CODES)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("name", self.name, 1, 255)


class PatchBook(_Fields, kw_only=True):
    """Changes of a book: absent fields stay as they are, null resets a field."""

    name: Annotated[str, text_schema(1, 255)] | UnsetType = UNSET
    end_locks: bool | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("name", self.name, 1, 255)


@with_settings(BookRow)
class Book(Answer, kw_only=True):
    """A book."""

    book_id: UUID
    name: str
    description: str
    status: Status
    valid_from: Timestamp | None
    valid_until: Timestamp | None
    discount: BookDiscount | None
    code_pattern: str
    charset: str
    total_codes: int | None
    gift_book_id: UUID | None
    tags: list[str]
    metadata: dict[str, Any]
    created_by: str | None
    limits: BookLimits | None
    budgets: list[BookBudget]
    use_limits: list[UseLimit]
    created_at: Timestamp
    updated_at: Timestamp
    job_id: UUID | UnsetType = UNSET


class BookStats(Answer):
    """A book's coupons by status, regardless of validity windows; and its redemptions that were not rolled back."""

    codes: int
    available: int
    assigned: int
    locked: int
    redeemed: int
    exhausted: int
    inactive: int
    redemptions: int
    rolled_back: int
    discount_total: Amount
    users: int
    budgets: list[BudgetNow]
    balance: Balance | None


_NULL: dict[str, Any] = {
    "description": "",
    "status": "active",
    "code_pattern": DEFAULT_PATTERN,
    "charset": DEFAULT_CHARSET,
    "tags": [],
    "metadata": {},
    "budgets": (),
    "use_limits": (),
    **defaults_of(BookRow),
}
"""The value of a field that is null, or absent in a new book, where that is not None."""


def create_book_row(
    request: CreateBook,
    *,
    workspace: int,
    partition: int,
    book: int,
    book_id: UUID,
    version: int,
    workspace_currency: str,
    now_ms: int,
) -> BookRow:
    """The row of a new book. Raises Refusal `invalid` or `pattern_too_small`."""
    unset: dict[str, Any] = dict.fromkeys(
        "valid_from_ms valid_until_ms discount gift_book_id created_by limits total_codes".split()
    )
    row = BookRow(
        workspace=workspace,
        partition=partition,
        book=book,
        book_id=book_id,
        version=version,
        name=request.name,
        created_ms=now_ms,
        updated_ms=now_ms,
        workspace_currency=workspace_currency,
        **_NULL | {"max_redemptions_per_code": 1},
        **unset,
    )
    return update_book_row(row, request, version, now_ms)


def update_book_row(row: BookRow, request: CreateBook | PatchBook, version: int, now_ms: int) -> BookRow:
    """The row with the request's changes. Raises Refusal `invalid` or `pattern_too_small`."""
    changes: dict[str, Any] = {"version": version, "updated_ms": now_ms}
    for name, value in request.list_changes(_NULL).items():
        if name in ("valid_from", "valid_until"):
            changes[f"{name}_ms"] = None if value is None else to_ms(value)
        elif name == "discount":
            changes[name] = value and make_discount_row(value, row.own_currency or row.workspace_currency)
            if value is not None:
                changes["own_currency"] = changes[name].currency
        elif name == "end_locks":
            changes |= {"locks_ended": version} if value else {}
        elif name == "budgets":
            changes[name] = make_budget_rows(value)
        else:
            changes[name] = tuple(value) if name == "use_limits" else value
    updated = _count_anew(row, msgspec.structs.replace(row, **changes))
    if updated.card and request.max_redemptions_per_code is UNSET:
        updated = msgspec.structs.replace(updated, max_redemptions_per_code=None)
    _check_consistency(updated)
    return updated


def _count_anew(before: BookRow, row: BookRow) -> BookRow:
    """The row with a new generation if what is spent was not counted so far, of the book or of its users. Of a new book
    nothing was redeemed before."""
    if not row.bounds:
        return msgspec.structs.replace(row, counted_from=0, is_counted=True)
    if before.bounds and names_users(before.bounds) >= names_users(row.bounds):
        return row
    return msgspec.structs.replace(row, counted_from=row.version, is_counted=before.version == row.version)


def render_book(row: BookRow, job_id: UUID | UnsetType = UNSET) -> Book:
    discount = None if row.discount is None else render_discount(row.discount)
    created_at, updated_at = from_ms(row.created_ms), from_ms(row.updated_ms)
    more: dict[str, Any] = {"budgets": render_budgets(row.budgets, digits_of(row)), "use_limits": list(row.use_limits)}
    return Book.from_row(row, discount=discount, job_id=job_id, created_at=created_at, updated_at=updated_at, **more)


def digits_of(row: BookRow) -> int:
    """The digits of the book's currency."""
    return CURRENCY_DIGITS[row.own_currency or row.workspace_currency]


def _check_consistency(row: BookRow) -> None:
    """Checks across fields. Raises Refusal `invalid` or `pattern_too_small`."""
    if row.valid_from_ms is not None and row.valid_until_ms is not None and row.valid_until_ms <= row.valid_from_ms:
        start, end = from_ms(row.valid_from_ms), from_ms(row.valid_until_ms)
        raise invalid("validUntil", f"must be after validFrom, {start}, but is {end}")
    if row.lock_seconds > row.max_lock_seconds:
        raise invalid(
            "lockSeconds", f"must be at most maxLockSeconds, {row.max_lock_seconds}, but is {row.lock_seconds}"
        )
    if row.gift_book_id == row.book_id:
        raise invalid("giftBookId", "must be another book")
    if row.keep_free is not None and count_possible_codes(row.code_pattern, row.charset) < SPARSITY * row.keep_free:
        raise refuse_pattern("keepFree", row.code_pattern, row.charset, row.keep_free)
    if row.discount is not None:
        check_discount_digits(row.discount)
    check_budget_digits(row.budgets, row.own_currency or row.workspace_currency, digits_of(row))
    if row.card and row.max_redemptions_per_code is not None:
        raise invalid("maxRedemptionsPerCode", "must be null: a card can be used while it has a balance")
