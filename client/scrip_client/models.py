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


class AssignedCoupon(Model, kw_only=True):
    """A coupon, and the durability of its assignment."""

    code: str
    book_id: str
    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: datetime | None
    expires_at: datetime | None
    last_redemption: LastRedemption | None
    durability: str


class Attempt(Model, kw_only=True):
    """An attempt to send a delivery: its beginning and length, and the receiver's status, or why there is none."""

    at: datetime
    milliseconds: int
    status: int | None
    error: str | None
    response: str | None


class BadCode(Model, kw_only=True):
    """An invalid line of an upload."""

    line: int
    code: str
    reason: str


class BatchAssign(Model, kw_only=True, tag_field="op", tag="assign"):
    """Assign this coupon, or a free one of a book."""

    user_id: str
    code: str | None = None
    book_id: str | None = None


class BatchExtend(Model, kw_only=True, tag_field="op", tag="extend"):
    """Extend a lock."""

    lock_token: str
    code: str
    lock_seconds: int | None = None


class BatchLock(Model, kw_only=True, tag_field="op", tag="lock"):
    """Lock a coupon."""

    user_id: str
    code: str
    order_id: str | None = None
    lock_seconds: int | None = None


class BatchRedeem(Model, kw_only=True, tag_field="op", tag="redeem"):
    """Redeem a coupon."""

    user_id: str
    code: str
    order_value: Amount | None = None
    currency: str | None = None
    items: Sequence[Item] | None = None
    order_id: str | None = None
    lock_token: str | None = None
    metadata: dict[str, Any] | None = None


class BatchUnlock(Model, kw_only=True, tag_field="op", tag="unlock"):
    """Release a lock."""

    lock_token: str
    code: str


class BatchValidate(Model, kw_only=True, tag_field="op", tag="validate"):
    """Validate a coupon."""

    code: str
    order_value: Amount | None = None
    currency: str | None = None
    items: Sequence[Item] | None = None
    order_id: str | None = None
    lock_token: str | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = None


class Book(Model, kw_only=True):
    """A book."""

    book_id: str
    name: str
    description: str
    status: str
    valid_from: datetime | None
    valid_until: datetime | None
    max_redemptions_per_code: int | None
    max_redemptions_per_user: int | None
    max_redemptions: int | None
    max_codes_per_user: int | None
    require_assignment: bool
    require_lock: bool
    lock_seconds: int
    max_lock_seconds: int
    discount: BookDiscount | None
    code_pattern: str
    charset: str
    total_codes: int | None
    low_stock_threshold: int | None
    gift_book_id: str | None
    keep_free: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_by: str | None
    limits: BookLimits | None
    created_at: datetime
    updated_at: datetime
    job_id: str | None = None


class BookDiscount(Model, kw_only=True):
    """A book's discount, with the fields of its type only. Amounts have the currency's digits."""

    type: str
    max_amount: Decimal | None
    min_order_value: Decimal | None
    currency: str | None
    value: Decimal | None = None
    tiers: list[BookTier] | None = None
    buy: int | None = None
    get: int | None = None


class BookLimits(Model, kw_only=True):
    """Limits of a book's coupons; null means the workspace's limit."""

    misses_per_minute: int | None = None
    locks_per_user: int | None = None
    locked_percent: int | None = None


class BookStats(Model, kw_only=True):
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
    discount_total: Decimal
    users: int


class BookTier(Model, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Decimal = msgspec.field(name="from")
    type: str
    value: Decimal


class BuyXGetYDiscount(Model, kw_only=True, tag_field="type", tag="buyXGetY"):
    """For every `buy` + `get` units of one `sku` in the order's items, the cheapest `get` units are free."""

    buy: int
    get: int
    max_amount: Amount | None = None
    min_order_value: Amount | None = None
    currency: str | None = None


class Clock(Model, kw_only=True):
    """The time in the workspace."""

    now: str


class CodeChangeProgress(Model, kw_only=True):
    """What a job does with which codes, and how many were changed, had been so before, or were refused."""

    action: str
    filter: CodeFilter
    book_id: str
    changed: int
    unchanged: int
    refused: int
    expires_at: datetime | None = None


class CodeFilter(Model, kw_only=True):
    """Which codes of the book: those that match all of it; without any, all."""

    status: list[str] | None = None
    prefix: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    codes: list[str] | None = None


class CodeOfBook(Model, kw_only=True):
    """A code in a list, with the latest redemption that was not rolled back."""

    code: str
    status: str
    user_id: str | None
    assigned_at: datetime | None
    redemptions: int
    max_redemptions: int | None
    expires_at: datetime | None
    redeemed_by: str | None
    redeemed_at: datetime | None


class Column(Model, kw_only=True):
    """A column of a CSV file."""

    name: str | None
    field: str | None
    example: str | None


class Consistency(Model, kw_only=True):
    """The lag of Postgres behind Redis, and the differences that the workspace's last comparison found and did not
    repair. `lagSeconds` is the age of the oldest event that is not recorded. The comparison covers all events up to
    `reconciledTo`.
    """

    state: str
    lag_events: int
    lag_seconds: float
    last_recorded: str
    last_reconciled_at: datetime | None
    reconciled_to: str | None
    drift: dict[str, int]
    failing: list[FailingTask]


class Coupon(Model, kw_only=True):
    """A coupon. `status` is the first of: redeemed or exhausted, inactive, expired, locked, assigned, available."""

    code: str
    book_id: str
    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: datetime | None
    expires_at: datetime | None
    last_redemption: LastRedemption | None


class CouponInBook(Model, kw_only=True):
    """A coupon and its own book."""

    code: str
    book_id: str
    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: datetime | None
    expires_at: datetime | None
    last_redemption: LastRedemption | None
    book: Book


class CouponLock(Model, kw_only=True):
    """The live lock that ends soonest."""

    user_id: str
    order_id: str | None
    expires_at: datetime


class Dates(Model, kw_only=True):
    """How dates and times without an offset are read."""

    order: str | None
    time_zone: str | None
    example: str
    read_as: datetime | None


class Delivery(Model, kw_only=True):
    """The delivery of an event to a webhook. The receiver gets `eventId` as `webhook-id`."""

    delivery_id: str
    event_id: str
    event: str
    status: str
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None


class DurableRedemption(Model, kw_only=True):
    """A redemption, and the durability of the change."""

    redemption_id: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    order_value: Decimal | None
    currency: str
    discount_amount: Decimal
    final_amount: Decimal | None
    redeemed_at: datetime
    rolled_back_at: datetime | None
    ip_address: str | None
    user_agent: str | None
    metadata: dict[str, Any]
    durability: str


class Entry(Model, kw_only=True):
    """An entry of the audit log. `before` and `after` have the fields that changed. Codes are masked. `subjectName`
    is the current name of the book or key, the webhook's address, or the name of the job's book; null for the
    others.
    """

    at: datetime
    actor: str
    key_id: str | None
    key_name: str | None
    ip_address: str | None
    user_agent: str | None
    request_id: str | None
    action: str
    subject: str
    subject_name: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class FailingTask(Model, kw_only=True):
    """A task of the partition's worker that fails and restarts: `opening` (then the state is `recovering`), or a
    background task. `reason` is the type of the last error. `worker`: no living worker has had the partition's lease
    for ten seconds, so that nothing is recorded.
    """

    task: str
    failures: int
    reason: str
    since: datetime


class FieldProblem(Model, kw_only=True):
    """One bad field of a request."""

    field: str
    reason: str


class FixedDiscount(Model, kw_only=True, tag_field="type", tag="fixed"):
    """A fixed amount, at most the order's value."""

    value: Amount
    max_amount: Amount | None = None
    min_order_value: Amount | None = None
    currency: str | None = None


class Item(Model, kw_only=True):
    """One line of an order."""

    sku: str
    quantity: int
    unit_price: Amount


class Job(Model, kw_only=True):
    """A job and its progress. `change` is what a job of the kind `change` does; null for other kinds."""

    job_id: str
    kind: str
    status: str
    requested: int
    done: int
    errors: list[str]
    started_at: datetime
    finished_at: datetime | None
    change: CodeChangeProgress | None


class Key(Model, kw_only=True):
    """A key, without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    limits: KeyLimits | None


class KeyLimits(Model, kw_only=True):
    """Limits of a key; null means the workspace's limit."""

    requests_per_minute: int | None = None
    misses_per_minute: int | None = None
    address_misses_per_minute: int | None = None
    live_locks: int | None = None


class LastRedemption(Model, kw_only=True):
    """The latest redemption that was not rolled back."""

    redemption_id: str
    user_id: str
    order_id: str | None
    redeemed_at: datetime


class Layout(Model, kw_only=True):
    """How a CSV file is read."""

    encoding: str
    delimiter: str
    has_bom: bool
    has_header: bool
    columns: list[Column]
    dates: Dates | None
    problem: str | None
    problem_field: str | None


class Live(Model, kw_only=True):
    """Whether the process runs."""

    status: str


class Lock(Model, kw_only=True):
    """A live lock; its token redeems, extends or releases it."""

    lock_token: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    lock_seconds: int
    expires_at: datetime


class MatchingCodes(Model, kw_only=True):
    """How many codes a change would examine and match. Counting ends after some seconds: then `isComplete` is false,
    and more codes may match. `examples` are the newest of them.
    """

    matching: int
    is_complete: bool
    examples: list[str]


class NewKey(Model, kw_only=True):
    """A key with its secret. Only this response contains the secret; in a repeated request it is null."""

    key_id: str
    name: str
    scopes: list[str]
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    limits: KeyLimits | None
    secret: str | None


class NewWebhook(Model, kw_only=True):
    """A webhook with its secret. Only this response contains the secret; in a repeated request it is null."""

    webhook_id: str
    url: str
    events: list[str]
    description: str
    status: str
    reason: str | None
    inactive_since: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    secret: str | None


class Notice(Model, kw_only=True):
    """A book ran low (fewer left than its `lowStockThreshold`) or out. `of`: free codes, or uses within its total."""

    event: str
    of: str
    left: int
    at: datetime


class Payload(Model, kw_only=True):
    """What an attempt sends. The body is made of the recorded facts: null if they are deleted or detached, or if it
    is larger than 64 KiB. Each attempt adds `webhook-timestamp` and `webhook-signature`.
    """

    headers: dict[str, str]
    body_bytes: int | None
    body: dict[str, Any] | None


class PercentageDiscount(Model, kw_only=True, tag_field="type", tag="percentage"):
    """A percentage of the order's value."""

    value: Amount
    max_amount: Amount | None = None
    min_order_value: Amount | None = None
    currency: str | None = None


class Problem(Model, kw_only=True):
    """A rejected request (RFC 9457). Client programs compare `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    valid_from: datetime | None = None
    expires_at: datetime | None = None
    max_lock_seconds: int | None = None
    max_redemptions_per_user: int | None = None
    max_redemptions: int | None = None
    currency: str | None = None
    min_order_value: Decimal | None = None
    missing: Decimal | None = None
    buy: int | None = None
    get: int | None = None
    param: str | None = None
    errors: list[FieldProblem] | None = None


class Purchase(Model, kw_only=True):
    """A completed purchase; `gift` is null if no gift is available or the user has reached a limit."""

    redemption: Redemption | None
    gift: Coupon | None
    final_amount: Decimal
    durability: str


class QuarantinedEvent(Model, kw_only=True):
    """An event that an operator must decide about. Its code is blocked after the next rebuild of Redis. `cause`:
    `refused`, Postgres did not take it; `not_redone`, it is recorded, and Redis could not apply it again;
    `unrecorded`, Redis was rebuilt before it was recorded. `reason` says more. `text` says what happened, as far as
    it is known. `recorded` is the code's state in Postgres. `ordered` is what a worker is to do, and `failure` why
    the last order failed. `choices` are what can be ordered.
    """

    event_id: str
    kind: str
    cause: str
    reason: str
    since: datetime
    text: str
    code: str | None
    user_id: str | None
    order_id: str | None
    recorded: str | None
    ordered: str | None
    failure: str | None
    choices: list[str]


class Ready(Model, kw_only=True):
    """Whether the process serves at least one partition. `failing` names the failing parts, also of a ready process:
    `redis` (of a cluster, any node), `postgres`, `partition 0`, `worker of partition 0` if no living worker has its
    lease for ten seconds, or `partitions` if no worker has created any. `partitions` has the reason for each
    partition that is not served.
    """

    status: str
    failing: list[str]
    partitions: list[UnservedPartition]


class Redemption(Model, kw_only=True):
    """One spent use of a coupon; `rolledBackAt` if it was rolled back."""

    redemption_id: str
    code: str
    book_id: str
    user_id: str
    order_id: str | None
    order_value: Decimal | None
    currency: str
    discount_amount: Decimal
    final_amount: Decimal | None
    redeemed_at: datetime
    rolled_back_at: datetime | None
    ip_address: str | None
    user_agent: str | None
    metadata: dict[str, Any]


class RefusedRequest(Model, kw_only=True):
    """A refusal. `outcome` is the problem's `code`; `subject` is the code or id in the path, masked."""

    at: datetime
    route: str
    status: int
    outcome: str
    took_ms: float
    subject: str | None


class RefusedRequests(Model, kw_only=True):
    """Refusals, newest first. `notStored`: how many refusals of the last hour, of all workspaces, were too many to
    store; if it is 0, and there are no items, no request with this id was refused.
    """

    items: list[RefusedRequest]
    not_stored: int


class Result(Model, kw_only=True):
    """The result of one operation."""

    status: int
    body: dict[str, Any] | None


class Results(Model, kw_only=True):
    """The results in the order of the operations."""

    results: list[Result]


class RolledBack(Model, kw_only=True):
    """The order's rolled-back redemptions, and the durability of their rollback."""

    items: list[Redemption]
    durability: str


class SentDelivery(Model, kw_only=True):
    """A delivery with what is sent, and its newest 20 attempts, the first one first."""

    delivery_id: str
    event_id: str
    event: str
    status: str
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    payload: Payload
    attempt_log: list[Attempt]


class Tier(Model, kw_only=True):
    """A tier: the discount from the order value `from` up to the next tier."""

    from_: Amount = msgspec.field(name="from")
    type: Literal["fixed", "percentage"]
    value: Amount


class TieredDiscount(Model, kw_only=True, tag_field="type", tag="tiered"):
    """The tier with the largest `from` that the order's value reaches; below the first tier, `order_value_too_low`."""

    tiers: Sequence[Tier]
    max_amount: Amount | None = None
    min_order_value: Amount | None = None
    currency: str | None = None


class UnassignedCoupon(Model, kw_only=True):
    """An unassigned coupon, and the durability of the change."""

    code: str
    book_id: str
    status: str
    user_id: str | None
    redemptions: int
    max_redemptions: int | None
    lock: CouponLock | None
    assigned_at: datetime | None
    expires_at: datetime | None
    last_redemption: LastRedemption | None
    durability: str


class UnservedPartition(Model, kw_only=True):
    """A partition whose requests are refused with 503, and the reason."""

    partition: int
    reason: str


class Uploaded(Model, kw_only=True):
    """The result of an upload; `errors` has the first 1,000 invalid lines, `file` how a CSV file was read."""

    added: int
    duplicates: int
    invalid: int
    errors: list[BadCode]
    is_exact: bool | None = None
    file: Layout | None = None


class User(Model, kw_only=True):
    """A user. `maxCoupons` is the user's own or the workspace's limit. `createdAt` is null if never created."""

    user_id: str
    max_coupons: int | None
    coupons: int
    metadata: dict[str, Any]
    created_at: datetime | None


class Validation(Model, kw_only=True):
    """Whether the coupon can be redeemed, every refusal that applies, and the discount."""

    valid: bool
    reasons: list[str]
    refusals: list[ValidationRefusal]
    discount_amount: Decimal | None
    final_amount: Decimal | None
    coupon: Coupon | None


class ValidationRefusal(Model, kw_only=True):
    """A refusal of a redeem, in words and figures."""

    code: str
    detail: str
    valid_from: datetime | None = None
    expires_at: datetime | None = None
    max_lock_seconds: int | None = None
    max_redemptions_per_user: int | None = None
    max_redemptions: int | None = None
    currency: str | None = None
    min_order_value: Decimal | None = None
    missing: Decimal | None = None
    buy: int | None = None
    get: int | None = None


class Webhook(Model, kw_only=True):
    """A webhook, without its secret. `reason` is set if the service deactivated it: no delivery succeeded for three
    days (`failing`), or its receiver returned 410 (`gone`).
    """

    webhook_id: str
    url: str
    events: list[str]
    description: str
    status: str
    reason: str | None
    inactive_since: datetime | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class Workspace(Model, kw_only=True):
    """A workspace's settings."""

    workspace_id: str
    name: str
    mode: str
    currency: str
    coupons_per_order: int
    order_days: int
    max_coupons: int | None
    gift_book_id: str | None
    idempotency_hours: int
    limits: WorkspaceLimits | None
    lock_history: bool


class WorkspaceLimits(Model, kw_only=True):
    """Default limits of the workspace's keys and books."""

    keys: KeyLimits | None = None
    books: BookLimits | None = None
