"""All outcomes that reject a request: code, status and sentence; also a number if a script returns the outcome.

Lua uses the same codes, `OUT.coupon_locked`; hot/scripts.py inserts the numbers when it composes a script.
"""

from typing import NamedTuple

OK, REPEATED, RECALL = 0, 1, 2
"""Outcomes of a script that are no rejection: it ran; the same user had done the same for the same order before; it
changed nothing and needs facts that only Postgres stores (service/api/recall.py)."""


class Outcome(NamedTuple):
    """A row of the table. `number` is None if no script returns the outcome."""

    number: int | None
    code: str
    status: int
    sentence: str


_ROWS = (
    Outcome(10, "coupon_not_found", 404, "The coupon does not exist."),
    Outcome(11, "coupon_inactive", 409, "The coupon is not active."),
    Outcome(12, "book_inactive", 409, "The coupon's book is not active."),
    Outcome(13, "not_started", 409, "The coupon is not valid yet."),
    Outcome(14, "expired", 409, "The coupon has expired."),
    Outcome(15, "coupon_not_assigned", 409, "The coupon is not assigned to a user."),
    Outcome(16, "coupon_assigned_to_other", 409, "The coupon belongs to another user."),
    Outcome(17, "coupon_locked", 409, "Another checkout has locked the last use of this coupon."),
    Outcome(18, "lock_lost", 409, "The lock has expired, or the token is of another lock."),
    Outcome(19, "lock_required", 409, "Lock this coupon before you redeem it."),
    Outcome(20, "coupon_redeemed", 409, "The coupon has already been used."),
    Outcome(21, "coupon_exhausted", 409, "The coupon has no uses left."),
    Outcome(22, "user_redemption_limit", 422, "The user has reached the book's limit of redemptions per user."),
    Outcome(23, "out_of_stock", 409, "The book has no coupons left."),
    Outcome(24, "order_already_used", 409, "The order has already used another coupon."),
    Outcome(25, "order_value_required", 422, "This coupon gives a discount: send the order's value."),
    Outcome(26, "currency_mismatch", 422, "The order and the discount have different currencies."),
    Outcome(27, "order_value_too_low", 422, "The order's value is below the discount's minimum."),
    Outcome(28, "user_code_limit", 422, "The user has reached the book's limit of codes per user."),
    Outcome(29, "user_coupon_limit", 422, "The user has reached the limit of coupons per user."),
    Outcome(30, "lock_ceiling", 422, "The lock has reached its maximum duration."),
    Outcome(31, "already_rolled_back", 409, "The redemption has already been rolled back."),
    Outcome(32, "redemption_not_found", 404, "The redemption does not exist."),
    Outcome(33, "order_not_found", 404, "No coupon has been redeemed for this order."),
    Outcome(34, "book_not_found", 404, "The book does not exist."),
    Outcome(35, "idempotency_key_reused", 422, "The Idempotency-Key was used with a different request."),
    Outcome(36, "request_in_progress", 409, "A request with this Idempotency-Key is still in progress."),
    Outcome(38, "rate_limited", 429, "Too many requests; wait before the next one."),
    Outcome(39, "too_many_misses", 429, "Too many requests for unknown coupons or coupons of other users."),
    Outcome(40, "lock_quota", 429, "The limit of live locks is reached."),
    Outcome(41, "key_quota", 429, "Stored responses have reached their size limit: wait, or send no Idempotency-Key."),
    Outcome(90, "recovering", 503, "Redis is being verified or rebuilt; try again shortly."),
    Outcome(91, "behind", 503, "Postgres is too far behind Redis; try again shortly."),
    Outcome(None, "malformed", 400, "The request can't be decoded."),
    Outcome(None, "unauthenticated", 401, "Send a valid API key or token as `Authorization: Bearer …`."),
    Outcome(None, "forbidden", 403, "This key or token may not run this operation."),
    Outcome(None, "job_not_found", 404, "The job does not exist."),
    Outcome(None, "not_found", 404, "This address does not exist."),
    Outcome(None, "method_not_allowed", 405, "This address does not accept this method."),
    Outcome(None, "request_timeout", 408, "The request did not arrive in time."),
    Outcome(None, "reconcile_running", 409, "A comparison of Redis with Postgres is already running."),
    Outcome(None, "job_ended", 409, "The job has ended, or is of a kind that can't be paused or cancelled."),
    Outcome(None, "too_many_jobs", 409, "The limit of unfinished jobs is reached: wait for one to end, or cancel one."),
    Outcome(None, "book_archived", 409, "Facts of the coupon's book are in files, and are needed for this."),
    Outcome(None, "code_exists", 409, "This code already exists in the workspace."),
    Outcome(None, "too_large", 413, "The body is too large for this address."),
    Outcome(None, "unsupported_media_type", 415, "This address does not accept this media type."),
    Outcome(37, "invalid", 422, "A value is out of range, or contradicts another value."),
    Outcome(None, "pattern_too_small", 422, "The pattern has too few possible codes for this number of codes."),
    Outcome(None, "headers_too_large", 431, "The request's headers are too large."),
    Outcome(None, "internal", 500, "An unexpected error occurred; it has been logged."),
    Outcome(None, "outcome_unknown", 503, "The result is unknown, the connection broke; repeat with the same key."),
    Outcome(None, "keys_outdated", 503, "API keys have not been read from Postgres for too long; try again shortly."),
    Outcome(92, "unavailable", 503, "A part of the service is unreachable; try again shortly."),
)

BY_CODE = {row.code: row for row in _ROWS}
BY_NUMBER = {row.number: row for row in _ROWS if row.number is not None}
if len(BY_CODE) != len(_ROWS) or len(BY_NUMBER) != sum(row.number is not None for row in _ROWS):
    raise AssertionError("two outcomes have the same code or number")
