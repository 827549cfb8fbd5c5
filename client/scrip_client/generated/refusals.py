"""An exception for each refusal of the service. `Refused` is the base of those that changed nothing."""

# Made by client/generate.py: change that, and run it.
from datetime import datetime
from decimal import Decimal

from scrip_client.errors import OutcomeUnknown, Refused, ScripError


class CouponNotFound(Refused):
    """404, for `shopper`. The coupon does not exist. Check the spelling (upper or lower case makes no difference),
    and that the key is of the code's workspace.
    """

    code = "coupon_not_found"
    for_ = "shopper"


class CouponInactive(Refused):
    """409, for `shopper`. The coupon is not active. An operator can switch it on: `PATCH /v1/coupons/{code}` with
    the status `active`. If it stays inactive, an event in quarantine blocks it.
    """

    code = "coupon_inactive"
    for_ = "shopper"


class BookInactive(Refused):
    """409, for `shopper`. The coupon's book is not active. An operator can resume the book: `PATCH
    /v1/books/{bookId}` with the status `active`.
    """

    code = "book_inactive"
    for_ = "shopper"


class NotStarted(Refused):
    """409, for `shopper`. The coupon is not valid yet. Repeat the request after the `validFrom` of its book."""

    code = "not_started"
    for_ = "shopper"
    figures = ("valid_from",)
    valid_from: datetime | None


class Expired(Refused):
    """409, for `shopper`. The coupon has expired. Its `expiresAt` or the `validUntil` of its book has passed; an
    operator can move both.
    """

    code = "expired"
    for_ = "shopper"
    figures = ("expires_at",)
    expires_at: datetime | None


class CouponNotAssigned(Refused):
    """409, for `shopper`. The coupon is not assigned to a user. `POST /v1/coupons/assign/{code}` assigns it."""

    code = "coupon_not_assigned"
    for_ = "shopper"


class CouponAssignedToOther(Refused):
    """409, for `shopper`. The coupon belongs to another user. Use a coupon of this user, or one that is not
    assigned.
    """

    code = "coupon_assigned_to_other"
    for_ = "shopper"


class CouponLocked(Refused):
    """409, for `shopper`. Another checkout has locked the last use of this coupon. Repeat the request after `Retry-
    After` seconds, or use another coupon.
    """

    code = "coupon_locked"
    for_ = "shopper"


class LockLost(Refused):
    """409, for `shopper`. The lock has expired, or the token is of another lock. Lock the coupon again, and send the
    new `lockToken`.
    """

    code = "lock_lost"
    for_ = "shopper"


class LockRequired(Refused):
    """409, for `caller`. Lock this coupon before you redeem it. `POST /v1/coupons/lock/{code}` returns the
    `lockToken` to send.
    """

    code = "lock_required"
    for_ = "caller"


class CouponRedeemed(Refused):
    """409, for `shopper`. The coupon has already been used. Use another coupon; a rollback with `restore` gives the
    use back.
    """

    code = "coupon_redeemed"
    for_ = "shopper"


class CouponExhausted(Refused):
    """409, for `shopper`. The coupon has no uses left. Use another coupon; a rollback with `restore` gives a use
    back.
    """

    code = "coupon_exhausted"
    for_ = "shopper"


class UserRedemptionLimit(Refused):
    """422, for `shopper`. The user has reached the book's limit of redemptions per user. It is the book's
    `maxRedemptionsPerUser`, and counts the user's live locks too.
    """

    code = "user_redemption_limit"
    for_ = "shopper"
    figures = ("max_redemptions_per_user",)
    max_redemptions_per_user: int | None


class OutOfStock(Refused):
    """409, for `shopper`. The book has no coupons left. Add codes to the book or raise its `maxRedemptions`; uses
    that are locked may become available again.
    """

    code = "out_of_stock"
    for_ = "shopper"
    figures = ("max_redemptions",)
    max_redemptions: int | None


class OrderAlreadyUsed(Refused):
    """409, for `shopper`. The order has already used another coupon. `GET /v1/users/{userId}/redemptions` has its
    redemption: roll that back, or send another `orderId`.
    """

    code = "order_already_used"
    for_ = "shopper"


class OrderValueRequired(Refused):
    """422, for `caller`. This coupon gives a discount: send the order's value. Send `orderValue`, the value of the
    order before the discount, such as 25.00.
    """

    code = "order_value_required"
    for_ = "caller"
    figures = ("currency",)
    currency: str | None


class CurrencyMismatch(Refused):
    """422, for `caller`. The order and the discount have different currencies. Send the order's value in the
    currency of the book's discount; a book without one takes the workspace's.
    """

    code = "currency_mismatch"
    for_ = "caller"
    figures = ("currency",)
    currency: str | None


class OrderValueTooLow(Refused):
    """422, for `shopper`. The order's value is below the discount's minimum. It is the discount's `minOrderValue`,
    or the `from` of its first tier.
    """

    code = "order_value_too_low"
    for_ = "shopper"
    figures = ("min_order_value", "missing", "currency")
    min_order_value: Decimal | None
    missing: Decimal | None
    currency: str | None


class NoDiscount(Refused):
    """422, for `shopper`. The order gets no discount from this coupon; its use is not spent. Send the `items` that
    the discount is of, or a higher `orderValue`.
    """

    code = "no_discount"
    for_ = "shopper"
    figures = ("buy", "get")
    buy: int | None
    get: int | None


class PriceChanged(Refused):
    """409, for `shopper`. The order's final amount has changed; the coupon is not used yet. Show the customer the
    new price, `finalAmount`, and send it as `expectedFinalAmount`; or lock with the `orderValue` before the payment,
    which holds the price.
    """

    code = "price_changed"
    for_ = "shopper"
    figures = ("final_amount", "expected_final_amount", "currency")
    final_amount: Decimal | None
    expected_final_amount: Decimal | None
    currency: str | None


class BudgetExhausted(Refused):
    """409, for `shopper`. A budget of the coupon's book does not suffice for this discount. It is one of the book's
    `budgets`, which count live locks too. Repeat the request after `renewsAt`, or for a smaller order.
    """

    code = "budget_exhausted"
    for_ = "shopper"
    figures = ("renews_at",)
    renews_at: datetime | None


class PeriodLimit(Refused):
    """409, for `shopper`. The coupons of this book were used as often as they may be in this period. It is one of
    the book's `useLimits`, which count live locks too. Repeat the request after `renewsAt`.
    """

    code = "period_limit"
    for_ = "shopper"
    figures = ("renews_at",)
    renews_at: datetime | None


class UserCodeLimit(Refused):
    """422, for `shopper`. The user has reached the book's limit of codes per user. It is the book's
    `maxCodesPerUser`, and counts redeemed codes, but not those that were taken back.
    """

    code = "user_code_limit"
    for_ = "shopper"
    figures = ("max_codes_per_user",)
    max_codes_per_user: int | None


class UserCouponLimit(Refused):
    """422, for `shopper`. The user has reached the limit of coupons per user. Raise the user's `maxCoupons`: `PATCH
    /v1/users/{userId}`.
    """

    code = "user_coupon_limit"
    for_ = "shopper"
    figures = ("max_coupons",)
    max_coupons: int | None


class LockCeiling(Refused):
    """422, for `caller`. The lock has reached its maximum duration. Redeem it before it ends, or lock it again
    afterwards; the ceiling is the book's `maxLockSeconds`.
    """

    code = "lock_ceiling"
    for_ = "caller"
    figures = ("expires_at", "max_lock_seconds")
    expires_at: datetime | None
    max_lock_seconds: int | None


class AlreadyRolledBack(Refused):
    """409, for `caller`. The redemption has already been rolled back. After a rollback nothing remains to be done.
    To redeem again, send a new Idempotency-Key.
    """

    code = "already_rolled_back"
    for_ = "caller"
    figures = ("redemption_id", "rolled_back_at")
    redemption_id: str | None
    rolled_back_at: datetime | None


class RedemptionNotFound(Refused):
    """404, for `caller`. The redemption does not exist. Send the `redemptionId` of a redeem or of a list of
    redemptions.
    """

    code = "redemption_not_found"
    for_ = "caller"


class OrderNotFound(Refused):
    """404, for `caller`. No coupon has been redeemed for this order. Check the `orderId`. An order is remembered
    until the last of its books is archived.
    """

    code = "order_not_found"
    for_ = "caller"


class BookArchived(Refused):
    """409, for `caller`. The book ended long ago, and is archived. Nothing can be done: the book, its codes and its
    redemptions can't be changed any more.
    """

    code = "book_archived"
    for_ = "caller"


class BookNotFound(Refused):
    """404, for `caller`. The book does not exist. `GET /v1/books` lists the books of the key's workspace; live and
    test workspaces have separate books.
    """

    code = "book_not_found"
    for_ = "caller"


class IdempotencyKeyReused(Refused):
    """422, for `caller`. The Idempotency-Key was used with a different request. Send a new Idempotency-Key with this
    request, or repeat the first request unchanged.
    """

    code = "idempotency_key_reused"
    for_ = "caller"


class RequestInProgress(OutcomeUnknown):
    """409, for `retry`. A request with this Idempotency-Key is still in progress. Repeat the request shortly: it
    then gets the response of the first one.
    """

    code = "request_in_progress"
    for_ = "retry"


class RateLimited(Refused):
    """429, for `retry`. Too many requests; wait before the next one. Repeat the request after `Retry-After` seconds;
    the headers `RateLimit` have what remains.
    """

    code = "rate_limited"
    for_ = "retry"


class TooManyMisses(Refused):
    """429, for `retry`. Too many requests for unknown coupons or coupons of other users. Repeat the request after
    `Retry-After` seconds, and check the codes before.
    """

    code = "too_many_misses"
    for_ = "retry"


class LockQuota(Refused):
    """429, for `retry`. The limit of live locks is reached. Repeat the request after `Retry-After` seconds, or
    release a lock.
    """

    code = "lock_quota"
    for_ = "retry"


class KeyQuota(Refused):
    """429, for `retry`. Stored responses have reached their size limit: wait, or send no Idempotency-Key. Repeat the
    request after `Retry-After` seconds.
    """

    code = "key_quota"
    for_ = "retry"


class StorageFull(Refused):
    """409, for `caller`. The workspace has reached its bound of storage in Redis. Archive old books, or ask the
    operator to raise the bound: `scrip workspaces storage`.
    """

    code = "storage_full"
    for_ = "caller"
    figures = ("storage_used_mib", "storage_mib")
    storage_used_mib: int | None
    storage_mib: int | None


class Recovering(Refused):
    """503, for `retry`. Redis is being verified or rebuilt; try again shortly. Nothing was changed; repeat the
    request after `Retry-After` seconds.
    """

    code = "recovering"
    for_ = "retry"


class Behind(Refused):
    """503, for `retry`. Postgres is too far behind Redis; try again shortly. Nothing was changed; repeat the request
    after `Retry-After` seconds.
    """

    code = "behind"
    for_ = "retry"


class Malformed(Refused):
    """400, for `caller`. The request can't be decoded. Compare it with `/schema`."""

    code = "malformed"
    for_ = "caller"


class Unauthenticated(Refused):
    """401, for `caller`. Send a valid API key or token as `Authorization: Bearer …`. `POST /v1/keys` and `scrip keys
    create` make keys; a key may have expired or been revoked.
    """

    code = "unauthenticated"
    for_ = "caller"


class Forbidden(Refused):
    """403, for `caller`. This key or token may not run this operation. Use a key with the scope that `/schema` names
    for the operation.
    """

    code = "forbidden"
    for_ = "caller"


class WorkspaceSuspended(Refused):
    """403, for `caller`. This workspace is suspended: all its requests are refused. Ask who operates this service."""

    code = "workspace_suspended"
    for_ = "caller"


class JobNotFound(Refused):
    """404, for `caller`. The job does not exist. Send the `jobId` of the response that started the job."""

    code = "job_not_found"
    for_ = "caller"


class EventNotFound(Refused):
    """404, for `caller`. The event is not in quarantine. `GET /v1/ops/quarantine` lists the events that wait for a
    decision.
    """

    code = "event_not_found"
    for_ = "caller"


class NotFound(Refused):
    """404, for `caller`. This address does not exist. `/schema` lists all addresses and methods."""

    code = "not_found"
    for_ = "caller"


class MethodNotAllowed(Refused):
    """405, for `caller`. This address does not accept this method. The header `Allow` has the methods."""

    code = "method_not_allowed"
    for_ = "caller"


class RequestTimeout(Refused):
    """408, for `retry`. The request did not arrive in time. Send the whole request at once, on a new connection."""

    code = "request_timeout"
    for_ = "retry"


class ReconcileRunning(Refused):
    """409, for `caller`. A comparison of Redis with Postgres is already running. `GET /v1/jobs/{jobId}` shows when
    it is done; then repeat the request.
    """

    code = "reconcile_running"
    for_ = "caller"


class ChoiceNotPossible(Refused):
    """409, for `caller`. This choice is not possible for the event. Send one of the event's `choices`: `GET
    /v1/ops/quarantine` lists them.
    """

    code = "choice_not_possible"
    for_ = "caller"


class JobEnded(Refused):
    """409, for `caller`. The job has ended, or is of a kind that can't be paused or cancelled. `GET
    /v1/jobs/{jobId}` shows its state.
    """

    code = "job_ended"
    for_ = "caller"


class TooManyJobs(Refused):
    """409, for `caller`. The limit of unfinished jobs is reached. Wait until one ends, or cancel one: `POST
    /v1/jobs/{jobId}/cancel`.
    """

    code = "too_many_jobs"
    for_ = "caller"


class CodeExists(Refused):
    """409, for `caller`. This code already exists in the workspace. Choose another code."""

    code = "code_exists"
    for_ = "caller"


class TooLarge(Refused):
    """413, for `caller`. The body is too large for this address. Send less at once."""

    code = "too_large"
    for_ = "caller"


class UnsupportedMediaType(Refused):
    """415, for `caller`. This address does not accept this media type. `/schema` names the media types."""

    code = "unsupported_media_type"
    for_ = "caller"


class Invalid(Refused):
    """422, for `caller`. A value is out of range, or contradicts another value. Compare it with `/schema`."""

    code = "invalid"
    for_ = "caller"
    figures = ("currency",)
    currency: str | None


class PatternTooSmall(Refused):
    """422, for `caller`. The pattern has too few possible codes for this number of codes. Use more `#` in the
    pattern, or a larger `charset`.
    """

    code = "pattern_too_small"
    for_ = "caller"


class HeadersTooLarge(Refused):
    """431, for `caller`. The request's headers are too large. Send at most 16 KiB in at most 100 headers."""

    code = "headers_too_large"
    for_ = "caller"


class Internal(OutcomeUnknown):
    """500, for `caller`. An unexpected error occurred; it has been logged. Report the `requestId`. Whether the
    change was made is unknown; the same `Idempotency-Key` tells.
    """

    code = "internal"
    for_ = "caller"


class KeysOutdated(Refused):
    """503, for `retry`. API keys have not been read from Postgres for too long; try again shortly. Nothing was
    changed; repeat the request after `Retry-After` seconds.
    """

    code = "keys_outdated"
    for_ = "retry"


class Unavailable(Refused):
    """503, for `retry`. A part of the service is unreachable; try again shortly. Nothing was changed; repeat the
    request after `Retry-After` seconds.
    """

    code = "unavailable"
    for_ = "retry"


BY_CODE: dict[str, type[ScripError]] = {
    "outcome_unknown": OutcomeUnknown,
    "coupon_not_found": CouponNotFound,
    "coupon_inactive": CouponInactive,
    "book_inactive": BookInactive,
    "not_started": NotStarted,
    "expired": Expired,
    "coupon_not_assigned": CouponNotAssigned,
    "coupon_assigned_to_other": CouponAssignedToOther,
    "coupon_locked": CouponLocked,
    "lock_lost": LockLost,
    "lock_required": LockRequired,
    "coupon_redeemed": CouponRedeemed,
    "coupon_exhausted": CouponExhausted,
    "user_redemption_limit": UserRedemptionLimit,
    "out_of_stock": OutOfStock,
    "order_already_used": OrderAlreadyUsed,
    "order_value_required": OrderValueRequired,
    "currency_mismatch": CurrencyMismatch,
    "order_value_too_low": OrderValueTooLow,
    "no_discount": NoDiscount,
    "price_changed": PriceChanged,
    "budget_exhausted": BudgetExhausted,
    "period_limit": PeriodLimit,
    "user_code_limit": UserCodeLimit,
    "user_coupon_limit": UserCouponLimit,
    "lock_ceiling": LockCeiling,
    "already_rolled_back": AlreadyRolledBack,
    "redemption_not_found": RedemptionNotFound,
    "order_not_found": OrderNotFound,
    "book_archived": BookArchived,
    "book_not_found": BookNotFound,
    "idempotency_key_reused": IdempotencyKeyReused,
    "request_in_progress": RequestInProgress,
    "rate_limited": RateLimited,
    "too_many_misses": TooManyMisses,
    "lock_quota": LockQuota,
    "key_quota": KeyQuota,
    "storage_full": StorageFull,
    "recovering": Recovering,
    "behind": Behind,
    "malformed": Malformed,
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    "workspace_suspended": WorkspaceSuspended,
    "job_not_found": JobNotFound,
    "event_not_found": EventNotFound,
    "not_found": NotFound,
    "method_not_allowed": MethodNotAllowed,
    "request_timeout": RequestTimeout,
    "reconcile_running": ReconcileRunning,
    "choice_not_possible": ChoiceNotPossible,
    "job_ended": JobEnded,
    "too_many_jobs": TooManyJobs,
    "code_exists": CodeExists,
    "too_large": TooLarge,
    "unsupported_media_type": UnsupportedMediaType,
    "invalid": Invalid,
    "pattern_too_small": PatternTooSmall,
    "headers_too_large": HeadersTooLarge,
    "internal": Internal,
    "keys_outdated": KeysOutdated,
    "unavailable": Unavailable,
}
