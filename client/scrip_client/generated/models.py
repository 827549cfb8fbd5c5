"""What requests and answers are made of. An answer may have more fields than these, and other values of
its texts."""

# Made by client/generate.py: change that, and run it.
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")
Amount: TypeAlias = Decimal | int | str
"""Money that is sent; an answer has a Decimal."""


class Model(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """The base of all structs."""


class Page(Model, Generic[T], kw_only=True):
    """A page of a list. `next_cursor` is None on the last one."""

    items: list[T]
    next_cursor: str | None


class Attempt(Model, kw_only=True):
    """An attempt to send a delivery: its beginning and length, and the receiver's status, or why there is none."""

    at: datetime
    """When it happened."""
    milliseconds: int
    """How long the attempt took, in milliseconds."""
    status: int | None
    """The status of the receiver's answer; null for none."""
    error: str | None
    """Why there is no answer; null if there is one."""
    response: str | None
    """The first 1,024 bytes of the response's body as text, with escapes such as `\\x1b` for characters that are not
    printable, and `{userId}` for the user whom the event names.
    """


class BadCode(Model, kw_only=True):
    """An invalid line of an upload."""

    line: int
    """The line's number in the file, or the code's in the JSON; the first is 1."""
    code: str
    """What is there in place of a code, at most 100 characters."""
    reason: str
    """What is wrong with it."""


class Balance(Model, kw_only=True):
    """The sums of a card, or of a book's cards: `issued` + `credited` = `spent` + `held` + `closed` + `available`."""

    issued: Decimal
    """What the card was issued with."""
    credited: Decimal
    """What was credited since."""
    spent: Decimal
    """What redemptions took, without what rollbacks gave back."""
    held: Decimal
    """What live locks hold."""
    closed: Decimal
    """What was taken by closing it."""
    available: Decimal
    """What can be taken."""


class BalanceDiscount(Model, kw_only=True, tag_field="type", tag="balance"):
    """Each code is a card, from which redemptions take what the order still has to pay, as long as it has a balance.
    `maxRedemptionsPerCode` is null. A book that has codes can't become or cease to be one of cards.
    """

    value: Amount
    """What each card is issued with, in `currency`, unless its upload says another amount. A change is for codes
    that are issued later. A JSON number or a string, above 0 and below 10¹¹.
    """
    max_amount: Amount | None = None
    """Must be null: a card takes what is left to pay. A JSON number or a string, above 0 and below 10¹¹."""
    min_order_value: Amount | None = None
    """The least order value that gets the discount, in `currency`; null for any value. A JSON number or a string, at
    least 0 and below 10¹¹.
    """
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the book's so far, else the workspace's. Fixed once
    a code was locked or redeemed.
    """


class BatchAssign(Model, kw_only=True, tag_field="op", tag="assign"):
    """Assign this coupon, or a free one of a book."""

    user_id: str
    """The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    code: str | None = None
    """The coupon's code. In upper or lower case."""
    book_id: str | None = None
    """The book's id. Without `code`."""


class BatchExtend(Model, kw_only=True, tag_field="op", tag="extend"):
    """Extend a lock."""

    lock_token: str
    """The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock has it."""
    code: str
    """The coupon's code. In upper or lower case."""
    lock_seconds: int | None = None
    """How long a lock lasts, in seconds. From now. It ends sooner where the book's `maxLockSeconds` or the coupon's
    window does: the response has the `lockSeconds` that apply.
    """


class BatchLock(Model, kw_only=True, tag_field="op", tag="lock"):
    """Lock a coupon."""

    user_id: str
    """The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    code: str
    """The coupon's code. In upper or lower case."""
    order_value: Amount | None = None
    """The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and below 10¹¹."""
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount only its
    currency is accepted.
    """
    items: Sequence[Item] | None = None
    """The order's lines, from which a discount of the type `buyXGetY` is computed."""
    amount: Amount | None = None
    """The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
    balance.
    """
    order_id: str | None = None
    """The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    lock_seconds: int | None = None
    """How long a lock lasts, in seconds. From now. It ends sooner where the book's `maxLockSeconds` or the coupon's
    window does: the response has the `lockSeconds` that apply.
    """


class BatchRedeem(Model, kw_only=True, tag_field="op", tag="redeem"):
    """Redeem a coupon."""

    user_id: str
    """The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    code: str
    """The coupon's code. In upper or lower case."""
    order_value: Amount | None = None
    """The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and below 10¹¹."""
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount only its
    currency is accepted.
    """
    items: Sequence[Item] | None = None
    """The order's lines, from which a discount of the type `buyXGetY` is computed."""
    amount: Amount | None = None
    """The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
    balance.
    """
    order_id: str | None = None
    """The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    lock_token: str | None = None
    """The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock has it."""
    metadata: dict[str, Any] | None = None
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """
    expected_final_amount: Amount | None = None
    """The final amount that the request expects. What the customer was charged: where the final amount would be
    another, the request is refused, `price_changed`.
    """


class BatchUnlock(Model, kw_only=True, tag_field="op", tag="unlock"):
    """Release a lock."""

    lock_token: str
    """The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock has it."""
    code: str
    """The coupon's code. In upper or lower case."""


class BatchValidate(Model, kw_only=True, tag_field="op", tag="validate"):
    """Validate a coupon."""

    code: str
    """The coupon's code."""
    order_value: Amount | None = None
    """The order's value before the discount, in `currency`. A JSON number or a string, at least 0 and below 10¹¹."""
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the workspace's. Of a book with a discount only its
    currency is accepted.
    """
    items: Sequence[Item] | None = None
    """The order's lines, from which a discount of the type `buyXGetY` is computed."""
    amount: Amount | None = None
    """The most that is taken of the coupon's balance, in `currency`. `invalid` where the coupon's book has no
    balance.
    """
    order_id: str | None = None
    """The order's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""
    lock_token: str | None = None
    """The secret with which the lock's holder redeems, extends or releases it. As the answer to the lock has it."""
    metadata: dict[str, Any] | None = None
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """
    user_id: str | None = None
    """The user's id. Your own: 1 to 100 printable ASCII characters without space, / \\ ? # %."""


class Book(Model, kw_only=True):
    """A book."""

    book_id: str
    """The book's id."""
    name: str
    """Its name, for people."""
    description: str
    """What it is for, for people."""
    status: str
    """`inactive`: its coupons can't be used for now; `archived`: for good; else `active`."""
    valid_from: datetime | None
    """From when the coupons can be redeemed; null for at once."""
    valid_until: datetime | None
    """Until when the coupons can be redeemed; null for ever."""
    discount: BookDiscount | None
    """What a coupon takes off the order's value; null for nothing."""
    code_pattern: str
    """The form of generated codes."""
    charset: str
    """The characters of which the random ones of a code are chosen."""
    total_codes: int | None
    """How many codes were ordered with the book; null for none."""
    gift_book_id: str | None
    """The book from which a checkout gives a coupon to the user."""
    tags: list[str]
    """Words to find the book by."""
    metadata: dict[str, Any]
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """
    created_by: str | None
    """Who created it, in your own words."""
    limits: BookLimits | None
    """Limits against guessing and hoarding; null for the workspace's."""
    budgets: list[BookBudget]
    """The most that the discounts may come to; locks count too. Needs `orderValue` at each lock."""
    use_limits: list[UseLimit]
    """How often the coupons may be used in a period; locks count too."""
    created_at: datetime
    """When it was created."""
    updated_at: datetime
    """When it was last changed."""
    max_redemptions_per_code: int | None
    """How often each code can be redeemed."""
    max_redemptions_per_user: int | None
    """How often one user can redeem coupons of the book; null for any number of times."""
    max_redemptions: int | None
    """How often all coupons of the book can be redeemed together; null for any number of times."""
    max_codes_per_user: int | None
    """How many codes of the book can ever be assigned to one user; null for any number."""
    require_assignment: bool
    """Whether a coupon must be assigned to the user who redeems it."""
    require_lock: bool
    """Whether a coupon must be locked before it is redeemed."""
    lock_seconds: int
    """How long a lock lasts, in seconds."""
    max_lock_seconds: int
    """How long a lock can last with all its extensions, in seconds."""
    low_stock_threshold: int | None
    """`book.low_stock` is sent when fewer free codes or uses than this are left; null for never."""
    keep_free: int | None
    """New codes are generated when fewer than this number are free; null for never."""
    public_reasons: bool
    """Whether a validate by a key with only the scope `public` tells `not_started`, `expired`, `order_value_too_low`
    and `order_value_required`.
    """
    job_id: str | None = None
    """The job that generates `totalCodes`; only in the answer to the request that created the book."""


class BookBudget(Model, kw_only=True):
    """A budget. The amount has the digits of the book's currency."""

    amount: Decimal
    """The amount, in the currency of the book's discount."""
    per: str
    """Whether it bounds all of the `book`, or each `user` in it."""
    period: str
    """When it begins anew: never, or each day or month of the workspace's `timeZone`."""


class BookDiscount(Model, kw_only=True):
    """A book's discount, with the fields of its type only. Amounts have the currency's digits."""

    type: str
    """The kind of discount."""
    max_amount: Decimal | None
    """The most that the discount can be, in `currency`; null for any amount."""
    min_order_value: Decimal | None
    """The least order value that gets the discount, in `currency`; null for any value."""
    currency: str
    """The currency of the amounts, as an ISO 4217 code."""
    value: Decimal | None = None
    """What is taken off: a percentage of the order's value, or an amount in `currency`, by `type`. For `percentage`,
    `fixed` and `balance`.
    """
    tiers: list[BookTier] | None = None
    """The discounts by the order's value. For `tiered`."""
    buy: int | None = None
    """Of each `buy` + `get` units, how many are paid for. For `buyXGetY`."""
    get: int | None = None
    """Of each `buy` + `get` units, how many are free. For `buyXGetY`."""


class BookLimits(Model, kw_only=True):
    """Limits of a book's coupons; null means the workspace's limit."""

    misses_per_minute: int | None = None
    """Requests with another user's code; others get no reason."""
    locks_per_user: int | None = None
    """Live locks of a user at one time."""
    locked_percent: int | None = None
    """Share of the remaining codes that may be locked; one lock is always allowed."""


class BookStats(Model, kw_only=True):
    """A book's coupons by status, regardless of validity windows; and its redemptions that were not rolled back."""

    codes: int
    """All codes of the book."""
    available: int
    """Codes that are free: neither assigned, locked, used up nor inactive."""
    assigned: int
    """Codes that have a user."""
    locked: int
    """Codes of which no use is left but by a lock."""
    redeemed: int
    """Codes for one use that are redeemed."""
    exhausted: int
    """Codes for several uses that are all spent."""
    inactive: int
    """Codes that are switched off."""
    redemptions: int
    """Redemptions that were not rolled back."""
    rolled_back: int
    """Redemptions that were rolled back."""
    discount_total: Decimal
    """The discounts of `redemptions`, or what cards paid, in the currency of the book's discount."""
    users: int
    """Users who have redeemed."""
    budgets: list[BudgetNow]
    """The book's own budgets, without those of users, in their periods of now."""
    balance: Balance | None
    """The sums of the book's cards, in its currency; null for another book."""


class BookTier(Model, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Decimal = msgspec.field(name="from")
    """The least order value of this tier, in `currency`."""
    type: str
    """The kind of discount."""
    value: Decimal
    """What is taken off: a percentage of the order's value, or an amount in `currency`, by `type`."""


class Budget(Model, kw_only=True):
    """The most that the discounts of a book, or of one user in it, may come to in a period."""

    amount: Amount
    """The amount, in the currency of the book's discount. A JSON number or a string, above 0 and below 10¹¹."""
    per: Literal["book", "user"]
    """Whether it bounds all of the `book`, or each `user` in it."""
    period: Literal["day", "lifetime", "month"]
    """When it begins anew: never, or each day or month of the workspace's `timeZone`. Days and months of the
    workspace's `timeZone`.
    """


class BudgetNow(Model, kw_only=True):
    """A budget of the whole book, and what is spent of it in the period of now."""

    amount: Decimal
    """The amount, in the currency of the book's discount."""
    per: str
    """Whether it bounds all of the `book`, or each `user` in it."""
    period: str
    """When it begins anew: never, or each day or month of the workspace's `timeZone`."""
    spent: Decimal
    """What redemptions took, without what rollbacks gave back."""
    held: Decimal
    """What live locks hold."""
    left: Decimal
    """What is left of it."""
    renews_at: datetime | None
    """When the budget or the limit begins anew; null for never."""


class BuyXGetYDiscount(Model, kw_only=True, tag_field="type", tag="buyXGetY"):
    """For every `buy` + `get` units of one `sku` in the order's items, the cheapest `get` units are free."""

    buy: int
    """Of each `buy` + `get` units, how many are paid for."""
    get: int
    """Of each `buy` + `get` units, how many are free."""
    max_amount: Amount | None = None
    """The most that the discount can be, in `currency`; null for any amount. A JSON number or a string, above 0 and
    below 10¹¹.
    """
    min_order_value: Amount | None = None
    """The least order value that gets the discount, in `currency`; null for any value. A JSON number or a string, at
    least 0 and below 10¹¹.
    """
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the book's so far, else the workspace's. Fixed once
    a code was locked or redeemed.
    """


class CardCode(Model, kw_only=True):
    """A card to add to a book with the discount `balance`."""

    code: str
    """The coupon's code."""
    amount: Amount | None = None
    """What the card is issued with, in the currency of the book's discount; null for the book's `value`. A JSON
    number or a string, above 0 and below 10¹¹.
    """


class CardsOfBook(Model, kw_only=True):
    """What happened to a book's cards in a day, each at its own time."""

    from_: datetime = msgspec.field(name="from")
    """The beginning of the day."""
    book_id: str
    """The book's id."""
    currency: str
    """The currency of the amounts, as an ISO 4217 code."""
    issued: Decimal
    """What cards were issued with."""
    credited: Decimal
    """What was credited to cards."""
    spent: Decimal
    """What redemptions took, also of those that are rolled back later."""
    returned: Decimal
    """What rollbacks gave back to cards."""
    closed: Decimal
    """What was taken by closing cards."""
    outstanding: Decimal
    """What all cards of the book had at the end of the day: what customers can spend, also under locks."""


class ChangedCoupon(Model, kw_only=True):
    """A coupon, and the durability of its change."""

    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    status: str
    """The first that applies: redeemed or exhausted, inactive, expired, locked, assigned, available."""
    user_id: str | None
    """The user to whom the coupon is assigned; null for none."""
    redemptions: int
    """How often the coupon was redeemed, without redemptions that were rolled back."""
    max_redemptions: int | None
    """How often the coupon can be redeemed; null for any number of times."""
    lock: CouponLock | None
    """The live lock that ends soonest; null for none."""
    assigned_at: datetime | None
    """When the coupon was assigned to its user; null if it has none."""
    expires_at: datetime | None
    """When the coupon ends: the earlier of its own end and its book's; null for never."""
    last_redemption: LastRedemption | None
    """The latest redemption that was not rolled back; null for none."""
    balance: Balance | None
    """What the coupon has, in its book's currency; null for a coupon without a balance."""
    durability: str
    """How safe the change is: `accepted` (in Redis), `fsynced` (on its disk), `recorded` (in Postgres)."""


class Clock(Model, kw_only=True):
    """The time in the workspace."""

    now: str
    """The time that windows and locks see."""


class CodeChangeProgress(Model, kw_only=True):
    """What a job does with which codes, and how many were changed, had been so before, or were refused."""

    action: str
    """What is done with each code."""
    filter: CodeFilter
    """Which codes; null for all of the book."""
    book_id: str
    """The book's id."""
    changed: int
    """Codes that were changed."""
    unchanged: int
    """Codes that were so before."""
    refused: int
    """Codes whose change was refused."""
    expires_at: datetime | None = None
    """The end that `setExpiry` gives them; null for none."""


class CodeFilter(Model, kw_only=True):
    """Which codes of the book: those that match all of it; without any, all."""

    prefix: str | None = None
    """Codes that begin so, in any case: 1 to 64 of A-Z a-z 0-9 - _."""
    created_from: datetime | None = None
    """Codes added at this time or later. RFC 3339, from 1970 to 9999."""
    created_until: datetime | None = None
    """Codes added before this time. RFC 3339, from 1970 to 9999."""
    status: list[str] | None = None
    """Codes of one of these statuses, as lists show it; a lock does not change it."""
    codes: list[str] | None = None
    """These codes, at most 1,000; without any other filter."""


class CodeOfBook(Model, kw_only=True):
    """A code in a list, with the latest redemption that was not rolled back."""

    code: str
    """The coupon's code."""
    status: str
    """As of a coupon, but never `locked`."""
    user_id: str | None
    """The user to whom the code is assigned; null for none."""
    assigned_at: datetime | None
    """When the coupon was assigned to its user; null if it has none."""
    redemptions: int
    """How often the coupon was redeemed, without redemptions that were rolled back."""
    max_redemptions: int | None
    """How often the code can be redeemed; null for any number of times."""
    expires_at: datetime | None
    """When the code ends; null for never."""
    redeemed_by: str | None
    """The user of the latest redemption that was not rolled back; null for none."""
    redeemed_at: datetime | None
    """When that redemption was; null for none."""
    amount: Decimal | None
    """What a card was issued with; null for codes of other books."""


class Column(Model, kw_only=True):
    """A column of a CSV file."""

    name: str | None
    """Its name in the header, at most 100 characters; null without a header."""
    field: str | None
    """What it is read as; null if it is ignored."""
    example: str | None
    """Only of a dry run: its first value that is not empty."""


class Consistency(Model, kw_only=True):
    """The lag of Postgres behind Redis, and the differences that the workspace's last comparison found."""

    state: str
    """`open`; `behind`: too many events are not recorded, so that changes are refused; `recovering`: Redis was lost
    or lacks events, so that all is refused.
    """
    lag_events: int
    """Events that Redis has, and Postgres does not."""
    lag_seconds: float
    """The age of the oldest of them, in seconds."""
    last_recorded: str
    """The last recorded event."""
    last_reconciled_at: datetime | None
    """When the last comparison ended; null if there was none."""
    reconciled_to: str | None
    """The event up to which it compared; null if there was none."""
    drift: dict[str, int]
    """The differences that it found and did not repair: how many of each kind."""
    failing: list[FailingTask]
    """Tasks of the partition's worker that fail and are started again, and things of the workspace that they have
    set aside, and try again later.
    """


class Coupon(Model, kw_only=True):
    """A coupon."""

    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    status: str
    """The first that applies: redeemed or exhausted, inactive, expired, locked, assigned, available."""
    user_id: str | None
    """The user to whom the coupon is assigned; null for none."""
    redemptions: int
    """How often the coupon was redeemed, without redemptions that were rolled back."""
    max_redemptions: int | None
    """How often the coupon can be redeemed; null for any number of times."""
    lock: CouponLock | None
    """The live lock that ends soonest; null for none."""
    assigned_at: datetime | None
    """When the coupon was assigned to its user; null if it has none."""
    expires_at: datetime | None
    """When the coupon ends: the earlier of its own end and its book's; null for never."""
    last_redemption: LastRedemption | None
    """The latest redemption that was not rolled back; null for none."""
    balance: Balance | None
    """What the coupon has, in its book's currency; null for a coupon without a balance."""


class CouponInBook(Model, kw_only=True):
    """A coupon and its own book."""

    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    status: str
    """The first that applies: redeemed or exhausted, inactive, expired, locked, assigned, available."""
    user_id: str | None
    """The user to whom the coupon is assigned; null for none."""
    redemptions: int
    """How often the coupon was redeemed, without redemptions that were rolled back."""
    max_redemptions: int | None
    """How often the coupon can be redeemed; null for any number of times."""
    lock: CouponLock | None
    """The live lock that ends soonest; null for none."""
    assigned_at: datetime | None
    """When the coupon was assigned to its user; null if it has none."""
    expires_at: datetime | None
    """When the coupon ends: the earlier of its own end and its book's; null for never."""
    last_redemption: LastRedemption | None
    """The latest redemption that was not rolled back; null for none."""
    balance: Balance | None
    """What the coupon has, in its book's currency; null for a coupon without a balance."""
    book: Book
    """The coupon's own book."""


class CouponLock(Model, kw_only=True):
    """The live lock that ends soonest."""

    user_id: str
    """The user's id."""
    order_id: str | None
    """The order's id."""
    expires_at: datetime
    """When it ends."""


class Dates(Model, kw_only=True):
    """How dates and times without an offset are read."""

    order: str | None
    """The order of day, month and year in dates. Null if `dates` is needed."""
    separators: str
    """The order is that of dates with these separators. A later date with another one is invalid."""
    time_zone: str | None
    """The time zone of times without an offset. Null if `timeZone` is needed."""
    example: str
    """The first value of the file."""
    read_as: datetime | None
    """The example, as it is read; null if it can't be read."""


class Delivery(Model, kw_only=True):
    """The delivery of an event to a webhook."""

    delivery_id: str
    """The delivery's id."""
    event_id: str
    """The event's id, which the receiver gets as `webhook-id`."""
    event: str
    """What happened."""
    status: str
    """A `pending` delivery is sent again; a `failed` one only if you order it."""
    attempts: int
    """How often it was sent."""
    last_status: int | None
    """The status of the last attempt's answer; null for none."""
    last_error: str | None
    """Why the last attempt failed; null if it did not."""
    created_at: datetime
    """When it was created."""
    last_attempt_at: datetime | None
    """When it was last sent; null if it never was."""
    next_attempt_at: datetime | None
    """When it is sent next; null if it is not."""


class DurableRedemption(Model, kw_only=True):
    """A redemption, and the durability of the change."""

    redemption_id: str
    """The redemption's id."""
    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    user_id: str
    """The user's id."""
    order_id: str | None
    """The order's id."""
    order_value: Decimal | None
    """The order's value before the discount, in `currency`."""
    currency: str
    """The currency of the amounts, as an ISO 4217 code."""
    discount_amount: Decimal
    """What the coupon takes off the order's value, or the card pays of it, in `currency`."""
    final_amount: Decimal | None
    """What is left to pay, in `currency`; null without an order's value."""
    balance_after: Decimal | None
    """What was available of the coupon's balance afterwards; null for a coupon without one."""
    redeemed_at: datetime
    """When the coupon was redeemed."""
    rolled_back_at: datetime | None
    """When the redemption was rolled back; null if it was not."""
    ip_address: str | None
    """The client's IP address; null if it is unknown or was erased."""
    user_agent: str | None
    """The client's `User-Agent`; null if it is unknown or was erased."""
    metadata: dict[str, Any]
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """
    durability: str
    """How safe the change is: `accepted` (in Redis), `fsynced` (on its disk), `recorded` (in Postgres)."""


class Entry(Model, kw_only=True):
    """An entry of the audit log. Codes are masked."""

    at: datetime
    """When it happened."""
    actor: str
    """Who did it: a `key`, a `person`, a `command` on the command line, or the `service` itself."""
    key_id: str | None
    """The id of the key that did it; null for none."""
    key_name: str | None
    """The name of the key that did it; null for none."""
    person: str | None
    """The person who did it in the console, such as `ada@shop.example`; null for none."""
    ip_address: str | None
    """The client's IP address; null if it is unknown or was erased."""
    user_agent: str | None
    """The client's `User-Agent`; null if it is unknown or was erased."""
    request_id: str | None
    """The id of the request that did it, as in `X-Request-Id`; null for none."""
    action: str
    """What was done."""
    subject: str
    """What it was done to: an id, or a masked code."""
    subject_name: str | None
    """The current name of the book or key, the webhook's address, or the name of the job's book; null for others."""
    before: dict[str, Any] | None
    """The changed fields as they were; null for what is new."""
    after: dict[str, Any] | None
    """The changed fields as they are since; null for what is gone."""


class FailingTask(Model, kw_only=True):
    """A task of the partition's worker that fails and restarts, or a thing of the workspace that it has set aside."""

    task: str
    """The task. `opening`: the state is `recovering`. `worker`: no living worker has had the partition's lease for
    ten seconds, so that nothing is recorded.
    """
    thing: str | None
    """What the task has set aside, such as `book` or `user` with an id; null for the whole task."""
    failures: int
    """How often it has failed."""
    reason: str
    """The type of the last error."""
    since: datetime
    """Since when it fails."""


class FieldProblem(Model, kw_only=True):
    """One bad field of a request."""

    field: str
    """The bad field, parameter or header."""
    reason: str
    """What is wrong with it."""


class FixedDiscount(Model, kw_only=True, tag_field="type", tag="fixed"):
    """A fixed amount, at most the order's value."""

    value: Amount
    """The amount that is taken off, in `currency`. A JSON number or a string, above 0 and below 10¹¹."""
    max_amount: Amount | None = None
    """The most that the discount can be, in `currency`; null for any amount. A JSON number or a string, above 0 and
    below 10¹¹.
    """
    min_order_value: Amount | None = None
    """The least order value that gets the discount, in `currency`; null for any value. A JSON number or a string, at
    least 0 and below 10¹¹.
    """
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the book's so far, else the workspace's. Fixed once
    a code was locked or redeemed.
    """


class FunnelReport(Model, kw_only=True):
    """The way from assigned to redeemed by interval, oldest first."""

    as_of: datetime
    """Everything up to this time is counted."""
    time_zone: str
    """The time zone in which hours, days and weeks of reports begin, by its name in the IANA database."""
    from_: datetime = msgspec.field(name="from")
    """The beginning of the first interval."""
    to: datetime
    """The end of the last interval."""
    items: list[StepsOfGroup]
    """The intervals, oldest first, each with its groups."""


class Item(Model, kw_only=True):
    """One line of an order."""

    sku: str
    """What the shop calls the product. Printable characters only."""
    quantity: int
    """How many units of it."""
    unit_price: Amount
    """The price of one unit, in `currency`. A JSON number or a string, at least 0 and below 10¹¹."""


class Job(Model, kw_only=True):
    """A job and its progress."""

    job_id: str
    """The job's id."""
    kind: str
    """`generate`: generate codes. `change`: change codes. `reconcile`: compare Redis with Postgres."""
    status: str
    """`running` and `paused` jobs go on; `done`, `cancelled` and `failed` ones have ended."""
    requested: int
    """How much there is to do: codes to generate or examine, or items to compare."""
    done: int
    """How many of them are done."""
    errors: list[str]
    """Why the job failed."""
    started_at: datetime
    """When the job began."""
    finished_at: datetime | None
    """When the job ended; null until then."""
    change: CodeChangeProgress | None
    """What a job of the kind `change` does; null for other kinds."""


class Key(Model, kw_only=True):
    """A key, without its secret."""

    key_id: str
    """The key's id."""
    name: str
    """Its name, for people."""
    scopes: list[str]
    """What the key may do."""
    prefix: str
    """The first characters of the secret, to recognize the key by."""
    created_at: datetime
    """When it was created."""
    last_used_at: datetime | None
    """When the key was last used; null if it never was."""
    expires_at: datetime | None
    """When the key ends; null for never."""
    limits: KeyLimits | None
    """Limits against guessing and hoarding; null for the workspace's."""


class KeyLimits(Model, kw_only=True):
    """Limits of a key; null means the workspace's limit."""

    requests_per_minute: int | None = None
    """Requests; each operation of a batch counts as one."""
    misses_per_minute: int | None = None
    """Requests with an unknown or another user's code; others are refused."""
    address_misses_per_minute: int | None = None
    """As `missesPerMinute`, for each client address; default for a `public` key: 100."""
    live_locks: int | None = None
    """Live locks at one time."""


class LastRedemption(Model, kw_only=True):
    """The latest redemption that was not rolled back."""

    redemption_id: str
    """The redemption's id."""
    user_id: str
    """The user's id."""
    order_id: str | None
    """The order's id."""
    redeemed_at: datetime
    """When the coupon was redeemed."""


class Layout(Model, kw_only=True):
    """How a CSV file is read."""

    encoding: str
    """That of the first bytes. Fields are ASCII, so any other 8-bit code page is read, too."""
    delimiter: str
    """What separates the cells of a line."""
    has_bom: bool
    """Whether the file begins with a byte order mark."""
    has_header: bool
    """Whether the first line has the columns' names."""
    columns: list[Column]
    """The columns, from left to right."""
    dates: Dates | None
    """How dates without an offset are read; null if there are none in the first 16 KiB."""
    problem: str | None
    """Why an upload refuses the whole file; null if it does not."""
    problem_field: str | None
    """What the problem is about: `header`, `dates` or `timeZone`."""


class LedgerEntry(Model, kw_only=True):
    """A change of a card's balance."""

    at: datetime
    """When it was changed."""
    kind: str
    """`returned`: by a rollback."""
    amount: Decimal
    """The amount of the change."""
    available: Decimal
    """What can be taken."""
    redemption_id: str | None
    """The redemption that took it, or was rolled back; null for others."""
    order_id: str | None
    """That redemption's order; null for none."""
    actor: str | None
    """The name of the key, or the person, who credited or closed the card, or rolled back in the console; null for
    others.
    """
    reason: str | None
    """Why: for people."""


class LiabilityReport(Model, kw_only=True):
    """Cards by day and book, oldest first. A day without changes has no item, unless it is the first and something
    is outstanding.
    """

    as_of: datetime
    """Everything up to this time is counted."""
    time_zone: str
    """The time zone in which hours, days and weeks of reports begin, by its name in the IANA database."""
    from_: datetime = msgspec.field(name="from")
    """The beginning of the first interval."""
    to: datetime
    """The end of the last interval."""
    items: list[CardsOfBook]
    """The order's lines, from which a discount of the type `buyXGetY` is computed."""


class Live(Model, kw_only=True):
    """Whether the process runs."""

    status: str
    """Always `live`."""


class Lock(Model, kw_only=True):
    """A live lock; its token redeems, extends or releases it. Without `orderValue` it holds a use and no price: the
    amounts are null.
    """

    lock_token: str
    """The secret with which the lock's holder redeems, extends or releases it."""
    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    user_id: str
    """The user's id."""
    order_id: str | None
    """The order's id."""
    lock_seconds: int
    """How long the lock lasts from this response on, in seconds, rounded down."""
    expires_at: datetime
    """When it ends."""
    order_value: Decimal | None
    """The order's value before the discount, in `currency`."""
    currency: str | None
    """The currency of the amounts, as an ISO 4217 code."""
    discount_amount: Decimal | None
    """What the coupon takes off the order's value, or the card pays of it, in `currency`."""
    final_amount: Decimal | None
    """What is left to pay, in `currency`; null without an order's value."""
    amount: Decimal | None
    """What the lock holds of the coupon's balance; null for a coupon without one."""


class MatchingCodes(Model, kw_only=True):
    """How many codes a change would examine and match. Counting ends after some seconds: then `isComplete` is false,
    and more codes may match. `examples` are the newest of them.
    """

    matching: int
    """Codes that match."""
    is_complete: bool
    """Whether all codes of the book were examined."""
    examples: list[str]
    """The newest codes that match."""
    users: int | None = None
    """Only with a file: how many users it has, each counted once."""


class NewKey(Model, kw_only=True):
    """A key with its secret."""

    key_id: str
    """The key's id."""
    name: str
    """Its name, for people."""
    scopes: list[str]
    """What the key may do."""
    prefix: str
    """The first characters of the secret, to recognize the key by."""
    created_at: datetime
    """When it was created."""
    last_used_at: datetime | None
    """When the key was last used; null if it never was."""
    expires_at: datetime | None
    """When the key ends; null for never."""
    limits: KeyLimits | None
    """Limits against guessing and hoarding; null for the workspace's."""
    secret: str | None
    """The secret. Only this answer has it; null in the answer to a repeated request."""


class NewWebhook(Model, kw_only=True):
    """A webhook with its secret."""

    webhook_id: str
    """The webhook's id."""
    url: str
    """Where the events are sent."""
    events: list[str]
    """The events that are sent."""
    description: str
    """What it is for, for people."""
    status: str
    """An `inactive` webhook gets no events."""
    reason: str | None
    """Why the service made it inactive: `failing`, no delivery succeeded for three days; `gone`, the receiver
    answered 410. Null if it did not.
    """
    inactive_since: datetime | None
    """Since when it is inactive; null if it is active."""
    failing_since: datetime | None
    """Since when deliveries fail; null if the last one succeeded."""
    created_at: datetime
    """When it was created."""
    updated_at: datetime
    """When it was last changed."""
    secret: str | None
    """The secret. Only this answer has it; null in the answer to a repeated request."""


class Notice(Model, kw_only=True):
    """A book ran low (fewer left than its `lowStockThreshold`) or out. `of`: free codes, or uses within its total."""

    event: str
    """`book.low_stock`: fewer are left than `lowStockThreshold`. `book.exhausted`: none is left."""
    of: str
    """What ran low: free `codes`, or `uses` of the book's `maxRedemptions`."""
    left: int
    """How many of them are left."""
    at: datetime
    """When it happened."""


class Order(Model, kw_only=True):
    """What is known of an order. Its amounts are of what stands, without locks: null without an order value, or in
    more than one currency.
    """

    order_id: str
    """The order's id."""
    user_id: str
    """The user of the first redemption, else of the first lock, else of the gift."""
    redemptions: list[Redemption]
    """Its redemptions, newest first."""
    locks: list[OrderLock]
    """Its live locks."""
    gift: Coupon | None
    """The coupon that the order was given; null for none."""
    discount_amount: Decimal | None
    """What its coupons take off and its cards pay together; null in more than one currency."""
    final_amount: Decimal | None
    """What is left to pay; null without an order's value, or in more than one currency."""


class OrderLock(Model, kw_only=True):
    """A live lock of an order, and the amounts that it holds; null where it holds a use alone."""

    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    user_id: str
    """The user's id."""
    expires_at: datetime
    """When the lock ends."""
    order_value: Decimal | None
    """The order's value before the discount, in `currency`."""
    currency: str | None
    """The currency of the amounts, as an ISO 4217 code."""
    discount_amount: Decimal | None
    """What the coupon takes off the order's value, or the card pays of it, in `currency`."""
    final_amount: Decimal | None
    """What is left to pay, in `currency`; null without an order's value."""
    amount: Decimal | None
    """What the lock holds of the coupon's balance; null for a coupon without one."""


class Payload(Model, kw_only=True):
    """What an attempt sends. The body is made of the recorded facts: null if they are deleted, or if it is larger
    than 64 KiB. Each attempt adds `webhook-timestamp` and `webhook-signature`.
    """

    headers: dict[str, str]
    """The headers that each attempt has."""
    body_bytes: int | None
    """How many bytes the body has; null if its facts are gone."""
    body: dict[str, Any] | None
    """The body of each attempt; null if its facts are gone, or it is larger than 64 KiB."""


class PercentageDiscount(Model, kw_only=True, tag_field="type", tag="percentage"):
    """A percentage of the order's value."""

    value: Amount
    """The percentage of the order's value that is taken off. A JSON number or a string, above 0 and at most 100,
    with at most 4 digits after the point.
    """
    max_amount: Amount | None = None
    """The most that the discount can be, in `currency`; null for any amount. A JSON number or a string, above 0 and
    below 10¹¹.
    """
    min_order_value: Amount | None = None
    """The least order value that gets the discount, in `currency`; null for any value. A JSON number or a string, at
    least 0 and below 10¹¹.
    """
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the book's so far, else the workspace's. Fixed once
    a code was locked or redeemed.
    """


class Problem(Model, kw_only=True):
    """A rejected request (RFC 9457). Client programs compare `code`."""

    type: str
    """The address of the documentation of this `code`."""
    title: str
    """What happened, the same for each `code`."""
    status: int
    """The HTTP status."""
    detail: str
    """What was sent, what is accepted, and what to do next; for the shopper what happened, with the figures."""
    instance: str
    """Where an operator finds this request in the console."""
    code: str
    """What refused the request, for programs: it never changes."""
    for_: str = msgspec.field(name="for")
    """Whose turn it is, the same for each `code`: `shopper` (tell the customer why), `caller` (the program or its
    configuration is wrong), `retry` (the same request may succeed later).
    """
    request_id: str
    """The request's id, as in `X-Request-Id`."""
    valid_from: datetime | None = None
    """When the coupon begins."""
    expires_at: datetime | None = None
    """When the coupon has ended, or the lock ends."""
    max_lock_seconds: int | None = None
    """How long a lock can last with all its extensions, in seconds."""
    max_redemptions_per_user: int | None = None
    """How often one user can redeem coupons of the book; null for any number of times."""
    max_redemptions: int | None = None
    """How often all coupons of the book can be redeemed together; null for any number of times."""
    max_codes_per_user: int | None = None
    """How many codes of the book can ever be assigned to one user; null for any number."""
    max_coupons: int | None = None
    """How many coupons one user can hold at a time, over all books."""
    currency: str | None = None
    """The currency of the discount."""
    min_order_value: Decimal | None = None
    """The least order value that gets the discount."""
    missing: Decimal | None = None
    """How much the order's value is below `minOrderValue`."""
    final_amount: Decimal | None = None
    """What is left to pay, in `currency`; null without an order's value."""
    expected_final_amount: Decimal | None = None
    """The final amount that the request expects."""
    renews_at: datetime | None = None
    """When the budget or the limit begins anew; null for never."""
    buy: int | None = None
    """Of each `buy` + `get` units, how many are paid for."""
    get: int | None = None
    """Of each `buy` + `get` units, how many are free."""
    redemption_id: str | None = None
    """The redemption that was rolled back; null for a gift, or a checkout without a redemption."""
    rolled_back_at: datetime | None = None
    """When it was rolled back."""
    storage_used_mib: int | None = None
    """How many MiB it has there, by an estimate a few seconds old."""
    storage_mib: int | None = None
    """How many MiB the workspace may have in Redis; the operator sets it."""
    param: str | None = None
    """The first bad field; only if a field is bad."""
    errors: list[FieldProblem] | None = None
    """Every bad field, at most 20; with status 400 and 422."""


class Purchase(Model, kw_only=True):
    """A completed purchase; `gift` is null if no gift is available or the user has reached a limit."""

    redemption: Redemption | None
    """The redemption of the order's coupon; null if the order had none."""
    gift: Coupon | None
    """The coupon that the user gets for the order; null if none is free, or the user has reached a limit."""
    final_amount: Decimal
    """What is left to pay, in `currency`; null without an order's value."""
    durability: str
    """How safe the change is: `accepted` (in Redis), `fsynced` (on its disk), `recorded` (in Postgres)."""


class QuarantinedEvent(Model, kw_only=True):
    """An event that an operator must decide about. Its code is blocked after the next rebuild of Redis."""

    event_id: str
    """The event's id: its epoch and number."""
    kind: str
    """What was decided."""
    cause: str
    """`refused`: Postgres did not take it. `not_redone`: it is recorded, and Redis could not apply it again.
    `unrecorded`: Redis was rebuilt before it was recorded.
    """
    reason: str
    """More about the cause."""
    since: datetime
    """Since when it is in quarantine."""
    text: str
    """What happened, as far as it is known."""
    code: str | None
    """The event's code; null for none."""
    user_id: str | None
    """The event's user; null for none."""
    order_id: str | None
    """The event's order; null for none."""
    recorded: str | None
    """The state of the event's code in Postgres; null if it has none."""
    ordered: str | None
    """What a worker is to do with it; null if nothing is ordered."""
    failure: str | None
    """Why the last order failed; null if it did not."""
    choices: list[str]
    """What can be ordered."""


class Ready(Model, kw_only=True):
    """Whether the process serves at least one partition."""

    status: str
    """Whether the process serves at least one partition."""
    failing: list[str]
    """What fails, also of a ready process: `redis` (of a cluster, any node), `postgres`, `partition 0`, `worker of
    partition 0` if no living worker has had its lease for ten seconds, or `partitions` if no worker has created any.
    """
    partitions: list[UnservedPartition]
    """The partitions that are not served."""


class Redemption(Model, kw_only=True):
    """One spent use of a coupon; `rolledBackAt` if it was rolled back."""

    redemption_id: str
    """The redemption's id."""
    code: str
    """The coupon's code."""
    book_id: str
    """The book's id."""
    user_id: str
    """The user's id."""
    order_id: str | None
    """The order's id."""
    order_value: Decimal | None
    """The order's value before the discount, in `currency`."""
    currency: str
    """The currency of the amounts, as an ISO 4217 code."""
    discount_amount: Decimal
    """What the coupon takes off the order's value, or the card pays of it, in `currency`."""
    final_amount: Decimal | None
    """What is left to pay, in `currency`; null without an order's value."""
    balance_after: Decimal | None
    """What was available of the coupon's balance afterwards; null for a coupon without one."""
    redeemed_at: datetime
    """When the coupon was redeemed."""
    rolled_back_at: datetime | None
    """When the redemption was rolled back; null if it was not."""
    ip_address: str | None
    """The client's IP address; null if it is unknown or was erased."""
    user_agent: str | None
    """The client's `User-Agent`; null if it is unknown or was erased."""
    metadata: dict[str, Any]
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """


class RefusedRequest(Model, kw_only=True):
    """A refusal."""

    at: datetime
    """When it happened."""
    route: str
    """The request's method and path."""
    status: int
    """The answer's HTTP status."""
    outcome: str
    """The problem's `code`."""
    took_ms: float
    """How long the answer took, in milliseconds."""
    subject: str | None
    """The code or id in the path, masked; null for none."""


class RefusedRequests(Model, kw_only=True):
    """Refusals, newest first."""

    items: list[RefusedRequest]
    """The refusals, newest first."""
    not_stored: int
    """How many refusals of the workspace in the last hour were too many to store. If it is 0 and there are no
    `items`, no request with this id was refused.
    """


class Result(Model, kw_only=True):
    """The result of one operation."""

    status: int
    """The status that the single request would have."""
    body: dict[str, Any] | None
    """The body that the single request would have; null for none."""


class Results(Model, kw_only=True):
    """The results in the order of the operations."""

    results: list[Result]
    """A result for each operation, in their order."""


class RolledBack(Model, kw_only=True):
    """The order's rolled-back redemptions, and the durability of their rollback."""

    items: list[Redemption]
    """The redemptions that were rolled back."""
    durability: str
    """How safe the change is: `accepted` (in Redis), `fsynced` (on its disk), `recorded` (in Postgres)."""


class SalesOfGroup(Model, kw_only=True):
    """Redemptions of an interval, a group and a currency; null for those without an order value."""

    from_: datetime = msgspec.field(name="from")
    """The beginning of the interval."""
    currency: str | None
    """The currency of the amounts; null for redemptions without an order's value."""
    redemptions: int
    """Redemptions that stand. The amounts are their sums."""
    order_value: Decimal
    """The sum of the orders' values before the discount."""
    discount_amount: Decimal
    """The sum of the discounts and of what gift cards paid."""
    balance_spent: Decimal
    """The part of `discountAmount` that gift cards paid."""
    rolled_back: int
    """Redemptions of the interval that were rolled back since."""
    new_users: int
    """Users who redeemed, even if it was rolled back, and had not before the interval. A user counts once, in the
    currency of the first redemption; with `bookId`, `tag` or `groupBy` once a book.
    """
    returning_users: int
    """Users who redeemed, and had in the workspace before the interval. A new user with the id of one that was just
    deleted may count here, too.
    """
    sold_out_at: datetime | None
    """When the book's last redemption was made, if the book is sold out now: its limit is reached, or all its codes
    are redeemed, used up or switched off. Only the item of that redemption has it. Null after a rollback or a new
    code; also without `bookId` and `groupBy=book`, with more than 50 books, and while Redis is unavailable.
    """
    sold_out_after_ms: int | None
    """The time from the book's first redemption to `soldOutAt`, in milliseconds; null without it."""
    book_id: str | None = None
    """The book, with `groupBy=book`."""
    tag: str | None = None
    """The tag, with `groupBy=tag`; a book counts in each of its tags."""


class SalesReport(Model, kw_only=True):
    """Redemptions by interval, oldest first."""

    as_of: datetime
    """Everything up to this time is counted."""
    time_zone: str
    """The time zone in which hours, days and weeks of reports begin, by its name in the IANA database."""
    from_: datetime = msgspec.field(name="from")
    """The beginning of the first interval."""
    to: datetime
    """The end of the last interval."""
    items: list[SalesOfGroup]
    """The intervals, oldest first, each with its groups."""


class SentDelivery(Model, kw_only=True):
    """A delivery with what is sent, and its newest attempts."""

    delivery_id: str
    """The delivery's id."""
    event_id: str
    """The event's id, which the receiver gets as `webhook-id`."""
    event: str
    """What happened."""
    status: str
    """A `pending` delivery is sent again; a `failed` one only if you order it."""
    attempts: int
    """How often it was sent."""
    last_status: int | None
    """The status of the last attempt's answer; null for none."""
    last_error: str | None
    """Why the last attempt failed; null if it did not."""
    created_at: datetime
    """When it was created."""
    last_attempt_at: datetime | None
    """When it was last sent; null if it never was."""
    next_attempt_at: datetime | None
    """When it is sent next; null if it is not."""
    payload: Payload
    """What is sent."""
    attempt_log: list[Attempt]
    """The newest 20 attempts, the first one first."""


class StepsOfGroup(Model, kw_only=True):
    """The way to redemptions in an interval. `locked`, `released` and `refused` are counted for the whole workspace
    only: null with `groupBy`, `bookId` or `tag`.
    """

    from_: datetime = msgspec.field(name="from")
    """The beginning of the interval."""
    assigned: int
    """Assignments, also those that were taken back."""
    locked: int | None
    """Successful requests to lock, repeated ones too; without batches."""
    released: int | None
    """Successful requests to unlock; without batches."""
    lock_expired: int | None
    """Null: locks expire without an event."""
    redeemed: int
    """Redemptions that stand."""
    refused: dict[str, int] | None
    """Requests that were refused with 4xx, by `code`."""
    book_id: str | None = None
    """The book, with `groupBy=book`."""
    tag: str | None = None
    """The tag, with `groupBy=tag`; a book counts in each of its tags."""


class Tier(Model, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Amount = msgspec.field(name="from")
    """The least order value of this tier, in `currency`. A JSON number or a string, at least 0 and below 10¹¹."""
    type: Literal["fixed", "percentage"]
    """The kind of discount."""
    value: Amount
    """What is taken off: a percentage of the order's value, or an amount in `currency`, by `type`. A JSON number or
    a string, above 0 and below 10¹¹.
    """


class TieredDiscount(Model, kw_only=True, tag_field="type", tag="tiered"):
    """The tier with the largest `from` that the order's value reaches; below the first tier, `order_value_too_low`."""

    tiers: Sequence[Tier]
    """The discounts by the order's value. In ascending order of `from`."""
    max_amount: Amount | None = None
    """The most that the discount can be, in `currency`; null for any amount. A JSON number or a string, above 0 and
    below 10¹¹.
    """
    min_order_value: Amount | None = None
    """The least order value that gets the discount, in `currency`; null for any value. A JSON number or a string, at
    least 0 and below 10¹¹.
    """
    currency: str | None = None
    """The currency of the amounts, as an ISO 4217 code. Default: the book's so far, else the workspace's. Fixed once
    a code was locked or redeemed.
    """


class UnservedPartition(Model, kw_only=True):
    """A partition whose requests are refused with 503, and the reason."""

    partition: int
    """The partition's number."""
    reason: str
    """Why it is not served."""


class Uploaded(Model, kw_only=True):
    """The result of an upload."""

    added: int
    """New codes."""
    duplicates: int
    """Codes that the workspace had before."""
    invalid: int
    """Lines that are no code, and were left out."""
    errors: list[BadCode]
    """The first 1,000 invalid lines."""
    amount: Decimal | None = None
    """What the added cards were issued with, all together. Only of a book of cards."""
    is_exact: bool | None = None
    """Only of a dry run: whether `added`, `duplicates` and `amount` are exact. With more than 300,000 new codes they
    are estimates within about 0.5 %.
    """
    file: Layout | None = None
    """How a CSV file was read."""


class UseLimit(Model, kw_only=True):
    """How often a book, or one user in it, may be redeemed in a period."""

    uses: int
    """How many uses."""
    per: str
    """Whether it bounds all of the `book`, or each `user` in it."""
    period: str
    """When it begins anew: never, or each day or month of the workspace's `timeZone`. Days and months of the
    workspace's `timeZone`.
    """


class User(Model, kw_only=True):
    """A user. `maxCoupons` is the user's own or the workspace's limit."""

    user_id: str
    """The user's id."""
    max_coupons: int | None
    """How many coupons the user can hold at a time, over all books; null for any number."""
    coupons: int
    """How many coupons the user holds: assigned, not used up and not past their end."""
    metadata: dict[str, Any]
    """Data of your own, which the service stores and returns: at most 1 KiB of JSON for a redemption, else 4 KiB,
    and 8 levels of objects and arrays. An object has each name once. A number that a double would round is refused:
    send it as a string.
    """
    created_at: datetime | None
    """When the user was created; null if that never happened."""


class Validation(Model, kw_only=True):
    """Whether the coupon can be redeemed, every refusal that applies, and the discount."""

    valid: bool
    """Whether the coupon can be redeemed so."""
    reasons: list[str]
    """The `code` of every refusal that applies; empty if there is none."""
    refusals: list[ValidationRefusal]
    """The reasons, in words and figures; empty for `coupon_not_available`."""
    currency: str | None
    """The currency of the amounts, as an ISO 4217 code. The order's; null with `coupon_not_available`."""
    discount_amount: Decimal | None
    """What the coupon would take off the order's value, or the card pay of it; null if it can't be computed."""
    final_amount: Decimal | None
    """What is left to pay, in `currency`; null without an order's value."""
    coupon: Coupon | None
    """The coupon; null if there is none, and for a key with only the scope `public`."""


class ValidationRefusal(Model, kw_only=True):
    """A refusal of a redeem, in words and figures."""

    code: str
    """What refused the request, for programs: it never changes."""
    for_: str = msgspec.field(name="for")
    """Whose turn it is, the same for each `code`: `shopper` (tell the customer why), `caller` (the program or its
    configuration is wrong), `retry` (the same request may succeed later).
    """
    detail: str
    """What was sent, what is accepted, and what to do next; for the shopper what happened, with the figures."""
    valid_from: datetime | None = None
    """When the coupon begins."""
    expires_at: datetime | None = None
    """When the coupon has ended, or the lock ends."""
    max_lock_seconds: int | None = None
    """How long a lock can last with all its extensions, in seconds."""
    max_redemptions_per_user: int | None = None
    """How often one user can redeem coupons of the book; null for any number of times."""
    max_redemptions: int | None = None
    """How often all coupons of the book can be redeemed together; null for any number of times."""
    max_codes_per_user: int | None = None
    """How many codes of the book can ever be assigned to one user; null for any number."""
    max_coupons: int | None = None
    """How many coupons one user can hold at a time, over all books."""
    currency: str | None = None
    """The currency of the discount."""
    min_order_value: Decimal | None = None
    """The least order value that gets the discount."""
    missing: Decimal | None = None
    """How much the order's value is below `minOrderValue`."""
    final_amount: Decimal | None = None
    """What is left to pay, in `currency`; null without an order's value."""
    expected_final_amount: Decimal | None = None
    """The final amount that the request expects."""
    renews_at: datetime | None = None
    """When the budget or the limit begins anew; null for never."""
    buy: int | None = None
    """Of each `buy` + `get` units, how many are paid for."""
    get: int | None = None
    """Of each `buy` + `get` units, how many are free."""
    redemption_id: str | None = None
    """The redemption that was rolled back; null for a gift, or a checkout without a redemption."""
    rolled_back_at: datetime | None = None
    """When it was rolled back."""
    storage_used_mib: int | None = None
    """How many MiB it has there, by an estimate a few seconds old."""
    storage_mib: int | None = None
    """How many MiB the workspace may have in Redis; the operator sets it."""


class Webhook(Model, kw_only=True):
    """A webhook, without its secret."""

    webhook_id: str
    """The webhook's id."""
    url: str
    """Where the events are sent."""
    events: list[str]
    """The events that are sent."""
    description: str
    """What it is for, for people."""
    status: str
    """An `inactive` webhook gets no events."""
    reason: str | None
    """Why the service made it inactive: `failing`, no delivery succeeded for three days; `gone`, the receiver
    answered 410. Null if it did not.
    """
    inactive_since: datetime | None
    """Since when it is inactive; null if it is active."""
    failing_since: datetime | None
    """Since when deliveries fail; null if the last one succeeded."""
    created_at: datetime
    """When it was created."""
    updated_at: datetime
    """When it was last changed."""


class Workspace(Model, kw_only=True):
    """A workspace's settings."""

    workspace_id: str
    """The workspace's id."""
    name: str
    """Its name, for people."""
    mode: str
    """`live`, or `test`: with a clock that can be set."""
    currency: str
    """The currency of books that name none, as an ISO 4217 code."""
    coupons_per_order: int
    """How many coupons one order can use."""
    max_coupons: int | None
    """How many coupons one user can hold at a time, over all books."""
    gift_book_id: str | None
    """The book from which a checkout gives a coupon to the user."""
    idempotency_hours: int
    """How many hours an Idempotency-Key is stored."""
    limits: WorkspaceLimits | None
    """Limits of keys and books that have none of their own; null for none."""
    time_zone: str
    """The time zone in which hours, days and weeks of reports begin, by its name in the IANA database."""
    storage_mib: int
    """How many MiB the workspace may have in Redis; the operator sets it."""
    storage_used_mib: int
    """How many MiB it has there, by an estimate a few seconds old."""
    operator_limits: KeyLimits | None
    """The most that the limits of its keys may be; the operator of the service sets them."""


class WorkspaceLimits(Model, kw_only=True):
    """Default limits of the workspace's keys and books."""

    keys: KeyLimits | None = None
    """Limits of each key."""
    books: BookLimits | None = None
    """Limits of each book."""
