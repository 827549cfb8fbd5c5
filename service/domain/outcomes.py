"""Every refusal the service knows: its stable code, status and sentence; for those that scripts decide, their number.

Lua names them by the same words, `OUT.coupon_locked`; hot/scripts.py puts the numbers in when it composes a script.
"""

from typing import NamedTuple

OK, REPEATED, RECALL = 0, 1, 2
"""A script did what was asked; or finds it done already by the same user for the same order; or did nothing, since it
has to be told facts first that Redis no longer has (service/api/recall.py)."""


class Outcome(NamedTuple):
    """One row: `number` is None where no script decides it."""

    number: int | None
    code: str
    status: int
    sentence: str


_ROWS = (
    Outcome(10, "coupon_not_found", 404, "There is no such coupon."),
    Outcome(11, "coupon_inactive", 409, "The coupon is switched off."),
    Outcome(12, "book_inactive", 409, "The coupon's book is not active."),
    Outcome(13, "not_started", 409, "The coupon can't be used yet."),
    Outcome(14, "expired", 409, "The coupon's time is over."),
    Outcome(15, "coupon_not_assigned", 409, "The coupon is not assigned to anyone."),
    Outcome(16, "coupon_assigned_to_other", 409, "The coupon belongs to another user."),
    Outcome(17, "coupon_locked", 409, "Another checkout holds the last use of this coupon."),
    Outcome(18, "lock_lost", 409, "The lock token is not the live lock's."),
    Outcome(19, "lock_required", 409, "This coupon must be locked before it is redeemed."),
    Outcome(20, "coupon_redeemed", 409, "The coupon was used already."),
    Outcome(21, "coupon_exhausted", 409, "All uses of this coupon are spent."),
    Outcome(22, "user_redemption_limit", 422, "The user has redeemed as many coupons of this book as it allows."),
    Outcome(23, "out_of_stock", 409, "Nothing of this book is left."),
    Outcome(24, "order_already_used", 409, "The order has used its coupon already."),
    Outcome(25, "order_value_required", 422, "This coupon gives a discount, so the order's value is needed."),
    Outcome(26, "currency_mismatch", 422, "The order's currency is not the discount's."),
    Outcome(27, "order_value_too_low", 422, "The order's value is below the discount's minimum."),
    Outcome(28, "user_code_limit", 422, "The user has had as many codes of this book as it allows."),
    Outcome(29, "user_coupon_limit", 422, "The user holds as many coupons as allowed."),
    Outcome(30, "lock_ceiling", 422, "The lock can't be held any longer."),
    Outcome(31, "already_rolled_back", 409, "It was rolled back before."),
    Outcome(32, "redemption_not_found", 404, "There is no such redemption."),
    Outcome(33, "order_not_found", 404, "No coupon was used for such an order."),
    Outcome(34, "book_not_found", 404, "There is no such book."),
    Outcome(35, "idempotency_key_reused", 422, "The Idempotency-Key was used for another request."),
    Outcome(36, "request_in_progress", 409, "A request with this Idempotency-Key is still running."),
    Outcome(38, "rate_limited", 429, "Too many requests."),
    Outcome(39, "too_many_misses", 429, "Too many coupons were asked for that aren't there, or are another's."),
    Outcome(40, "lock_quota", 429, "As many locks as allowed are live already."),
    Outcome(
        41, "key_quota", 429, "As many bytes of answers as allowed are kept under Idempotency-Keys: wait, or send none."
    ),
    Outcome(90, "recovering", 503, "Redis is being verified or rebuilt; try again shortly."),
    Outcome(91, "behind", 503, "The record in Postgres is too far behind; try again shortly."),
    Outcome(None, "malformed", 400, "The request can't be read."),
    Outcome(None, "unauthenticated", 401, "Send a valid API key or token as `Authorization: Bearer …`."),
    Outcome(None, "forbidden", 403, "This key or token may not do that."),
    Outcome(None, "job_not_found", 404, "There is no such job."),
    Outcome(None, "not_found", 404, "There is nothing at this address."),
    Outcome(None, "method_not_allowed", 405, "This address doesn't take that method."),
    Outcome(None, "request_timeout", 408, "The request didn't arrive in time."),
    Outcome(None, "reconcile_running", 409, "Redis is being compared with the record already."),
    Outcome(None, "code_exists", 409, "The workspace has this code already."),
    Outcome(None, "too_large", 413, "The body is larger than allowed here."),
    Outcome(None, "unsupported_media_type", 415, "This address doesn't take that media type."),
    Outcome(37, "invalid", 422, "A value is out of range or makes no sense here."),
    Outcome(None, "pattern_too_small", 422, "The pattern has too few possibilities for so many codes."),
    Outcome(None, "headers_too_large", 431, "The request's headers are too large."),
    Outcome(None, "internal", 500, "Something failed that should not have; it has been logged."),
    Outcome(None, "outcome_unknown", 503, "The connection broke meanwhile; repeat the request with the same key."),
    Outcome(92, "unavailable", 503, "A part of the service is not reachable; try again shortly."),
)

BY_CODE = {row.code: row for row in _ROWS}
BY_NUMBER = {row.number: row for row in _ROWS if row.number is not None}
if len(BY_CODE) != len(_ROWS) or len(BY_NUMBER) != sum(row.number is not None for row in _ROWS):
    raise AssertionError("an outcome's code or number is there twice")
