"""An exception for each refusal of the service. `Refused` is the base of those that changed nothing."""

# Made by client/generate.py: change that, and run it.
from datetime import datetime
from decimal import Decimal

from scrip_client.errors import OutcomeUnknown, Refused, ScripError


class CouponNotFound(Refused):
    """404. The coupon does not exist. Check the spelling (upper or lower case makes no difference), and that the key
    is of the code's workspace.
    """

    code = "coupon_not_found"


class CouponInactive(Refused):
    """409. The coupon is not active. An operator can switch it on: `PATCH /v1/coupons/{code}` with the status
    `active`. If it stays inactive, an event in quarantine blocks it.
    """

    code = "coupon_inactive"


class BookInactive(Refused):
    """409. The coupon's book is not active. An operator can resume the book: `PATCH /v1/books/{bookId}` with the
    status `active`.
    """

    code = "book_inactive"


class NotStarted(Refused):
    """409. The coupon is not valid yet. Repeat the request after the `validFrom` of its book."""

    code = "not_started"
    figures = ("valid_from",)
    valid_from: datetime | None


class Expired(Refused):
    """409. The coupon has expired. Its `expiresAt` or the `validUntil` of its book has passed; an operator can move
    both.
    """

    code = "expired"
    figures = ("expires_at",)
    expires_at: datetime | None


class CouponNotAssigned(Refused):
    """409. The coupon is not assigned to a user. `POST /v1/coupons/assign/{code}` assigns it."""

    code = "coupon_not_assigned"


class CouponAssignedToOther(Refused):
    """409. The coupon belongs to another user. Use a coupon of this user, or one that is not assigned."""

    code = "coupon_assigned_to_other"


class CouponLocked(Refused):
    """409. Another checkout has locked the last use of this coupon. Repeat the request after `Retry-After` seconds,
    or use another coupon.
    """

    code = "coupon_locked"


class LockLost(Refused):
    """409. The lock has expired, or the token is of another lock. Lock the coupon again, and send the new
    `lockToken`.
    """

    code = "lock_lost"


class LockRequired(Refused):
    """409. Lock this coupon before you redeem it. `POST /v1/coupons/lock/{code}` returns the `lockToken` to send."""

    code = "lock_required"


class CouponRedeemed(Refused):
    """409. The coupon has already been used. Use another coupon; a rollback with `restore` gives the use back."""

    code = "coupon_redeemed"


class CouponExhausted(Refused):
    """409. The coupon has no uses left. Use another coupon; a rollback with `restore` gives a use back."""

    code = "coupon_exhausted"


class UserRedemptionLimit(Refused):
    """422. The user has reached the book's limit of redemptions per user. It is the book's `maxRedemptionsPerUser`,
    and counts the user's live locks too.
    """

    code = "user_redemption_limit"
    figures = ("max_redemptions_per_user",)
    max_redemptions_per_user: int | None


class OutOfStock(Refused):
    """409. The book has no coupons left. Add codes to the book or raise its `maxRedemptions`; uses that are locked
    may become available again.
    """

    code = "out_of_stock"
    figures = ("max_redemptions",)
    max_redemptions: int | None


class OrderAlreadyUsed(Refused):
    """409. The order has already used another coupon. `GET /v1/users/{userId}/redemptions` has its redemption: roll
    that back, or send another `orderId`.
    """

    code = "order_already_used"


class OrderValueRequired(Refused):
    """422. This coupon gives a discount: send the order's value. Send `orderValue`, the value of the order before
    the discount, such as 25.00.
    """

    code = "order_value_required"
    figures = ("currency",)
    currency: str | None


class CurrencyMismatch(Refused):
    """422. The order and the discount have different currencies. Send the order's value in the currency of the
    book's discount, else of the workspace.
    """

    code = "currency_mismatch"
    figures = ("currency",)
    currency: str | None


class OrderValueTooLow(Refused):
    """422. The order's value is below the discount's minimum. It is the discount's `minOrderValue`, or the `from` of
    its first tier.
    """

    code = "order_value_too_low"
    figures = ("min_order_value", "missing", "currency")
    min_order_value: Decimal | None
    missing: Decimal | None
    currency: str | None


class NoDiscount(Refused):
    """422. The order gets no discount from this coupon; its use is not spent. Send the `items` that the discount is
    of, or a higher `orderValue`.
    """

    code = "no_discount"
    figures = ("buy", "get")
    buy: int | None
    get: int | None


class UserCodeLimit(Refused):
    """422. The user has reached the book's limit of codes per user. It is the book's `maxCodesPerUser`, and counts
    redeemed codes, but not those that were taken back.
    """

    code = "user_code_limit"
    figures = ("max_codes_per_user",)
    max_codes_per_user: int | None


class UserCouponLimit(Refused):
    """422. The user has reached the limit of coupons per user. Raise the user's `maxCoupons`: `PATCH
    /v1/users/{userId}`.
    """

    code = "user_coupon_limit"
    figures = ("max_coupons",)
    max_coupons: int | None


class LockCeiling(Refused):
    """422. The lock has reached its maximum duration. Redeem it before it ends, or lock it again afterwards; the
    ceiling is the book's `maxLockSeconds`.
    """

    code = "lock_ceiling"
    figures = ("expires_at", "max_lock_seconds")
    expires_at: datetime | None
    max_lock_seconds: int | None


class AlreadyRolledBack(Refused):
    """409. The redemption has already been rolled back. After a rollback nothing remains to be done. To redeem
    again, send a new Idempotency-Key.
    """

    code = "already_rolled_back"
    figures = ("redemption_id", "rolled_back_at")
    redemption_id: str | None
    rolled_back_at: datetime | None


class RedemptionNotFound(Refused):
    """404. The redemption does not exist. Send the `redemptionId` of a redeem or of a list of redemptions."""

    code = "redemption_not_found"


class OrderNotFound(Refused):
    """404. No coupon has been redeemed for this order. Check the `orderId`. An order is remembered until the last of
    its books is archived.
    """

    code = "order_not_found"


class BookArchived(Refused):
    """409. The book ended long ago, and is archived. Nothing can be done: the book, its codes and its redemptions
    can't be changed any more.
    """

    code = "book_archived"


class BookNotFound(Refused):
    """404. The book does not exist. `GET /v1/books` lists the books of the key's workspace; live and test workspaces
    have separate books.
    """

    code = "book_not_found"


class IdempotencyKeyReused(Refused):
    """422. The Idempotency-Key was used with a different request. Send a new Idempotency-Key with this request, or
    repeat the first request unchanged.
    """

    code = "idempotency_key_reused"


class RequestInProgress(OutcomeUnknown):
    """409. A request with this Idempotency-Key is still in progress. Repeat the request shortly: it then gets the
    response of the first one.
    """

    code = "request_in_progress"


class RateLimited(Refused):
    """429. Too many requests; wait before the next one. Repeat the request after `Retry-After` seconds; the headers
    `RateLimit` have what remains.
    """

    code = "rate_limited"


class TooManyMisses(Refused):
    """429. Too many requests for unknown coupons or coupons of other users. Repeat the request after `Retry-After`
    seconds, and check the codes before.
    """

    code = "too_many_misses"


class LockQuota(Refused):
    """429. The limit of live locks is reached. Repeat the request after `Retry-After` seconds, or release a lock."""

    code = "lock_quota"


class KeyQuota(Refused):
    """429. Stored responses have reached their size limit: wait, or send no Idempotency-Key. Repeat the request
    after `Retry-After` seconds.
    """

    code = "key_quota"


class StorageFull(Refused):
    """409. The workspace has reached its bound of storage in Redis. Archive old books, or ask the operator to raise
    the bound: `scrip workspaces storage`.
    """

    code = "storage_full"
    figures = ("storage_used_mib", "storage_mib")
    storage_used_mib: int | None
    storage_mib: int | None


class Recovering(Refused):
    """503. Redis is being verified or rebuilt; try again shortly. Nothing was changed; repeat the request after
    `Retry-After` seconds.
    """

    code = "recovering"


class Behind(Refused):
    """503. Postgres is too far behind Redis; try again shortly. Nothing was changed; repeat the request after
    `Retry-After` seconds.
    """

    code = "behind"


class Malformed(Refused):
    """400. The request can't be decoded. Compare it with `/schema`."""

    code = "malformed"


class Unauthenticated(Refused):
    """401. Send a valid API key or token as `Authorization: Bearer …`. `POST /v1/keys` and `scrip keys create` make
    keys; a key may have expired or been revoked.
    """

    code = "unauthenticated"


class Forbidden(Refused):
    """403. This key or token may not run this operation. Use a key with the scope that `/schema` names for the
    operation.
    """

    code = "forbidden"


class WorkspaceSuspended(Refused):
    """403. This workspace is suspended: all its requests are refused. Ask who operates this service."""

    code = "workspace_suspended"


class JobNotFound(Refused):
    """404. The job does not exist. Send the `jobId` of the response that started the job."""

    code = "job_not_found"


class EventNotFound(Refused):
    """404. The event is not in quarantine. `GET /v1/ops/quarantine` lists the events that wait for a decision."""

    code = "event_not_found"


class NotFound(Refused):
    """404. This address does not exist. `/schema` lists all addresses and methods."""

    code = "not_found"


class MethodNotAllowed(Refused):
    """405. This address does not accept this method. The header `Allow` has the methods."""

    code = "method_not_allowed"


class RequestTimeout(Refused):
    """408. The request did not arrive in time. Send the whole request at once, on a new connection."""

    code = "request_timeout"


class ReconcileRunning(Refused):
    """409. A comparison of Redis with Postgres is already running. `GET /v1/jobs/{jobId}` shows when it is done;
    then repeat the request.
    """

    code = "reconcile_running"


class ChoiceNotPossible(Refused):
    """409. This choice is not possible for the event. Send one of the event's `choices`: `GET /v1/ops/quarantine`
    lists them.
    """

    code = "choice_not_possible"


class JobEnded(Refused):
    """409. The job has ended, or is of a kind that can't be paused or cancelled. `GET /v1/jobs/{jobId}` shows its
    state.
    """

    code = "job_ended"


class TooManyJobs(Refused):
    """409. The limit of unfinished jobs is reached. Wait until one ends, or cancel one: `POST
    /v1/jobs/{jobId}/cancel`.
    """

    code = "too_many_jobs"


class CodeExists(Refused):
    """409. This code already exists in the workspace. Choose another code."""

    code = "code_exists"


class TooLarge(Refused):
    """413. The body is too large for this address. Send less at once."""

    code = "too_large"


class UnsupportedMediaType(Refused):
    """415. This address does not accept this media type. `/schema` names the media types."""

    code = "unsupported_media_type"


class Invalid(Refused):
    """422. A value is out of range, or contradicts another value. Compare it with `/schema`."""

    code = "invalid"
    figures = ("currency",)
    currency: str | None


class PatternTooSmall(Refused):
    """422. The pattern has too few possible codes for this number of codes. Use more `#` in the pattern, or a larger
    `charset`.
    """

    code = "pattern_too_small"


class HeadersTooLarge(Refused):
    """431. The request's headers are too large. Send at most 16 KiB in at most 100 headers."""

    code = "headers_too_large"


class Internal(OutcomeUnknown):
    """500. An unexpected error occurred; it has been logged. Report the `requestId`. Whether the change was made is
    unknown; the same `Idempotency-Key` tells.
    """

    code = "internal"


class KeysOutdated(Refused):
    """503. API keys have not been read from Postgres for too long; try again shortly. Nothing was changed; repeat
    the request after `Retry-After` seconds.
    """

    code = "keys_outdated"


class Unavailable(Refused):
    """503. A part of the service is unreachable; try again shortly. Nothing was changed; repeat the request after
    `Retry-After` seconds.
    """

    code = "unavailable"


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
