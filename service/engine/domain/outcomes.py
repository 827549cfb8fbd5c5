"""All outcomes that reject a request: code, status, whose turn it is, sentence and remedy, and the operations that list
it; also a number if a script returns the outcome, and the sentence with the figures that it returns.

A row is all there is of a reason in Python, unless its figures need more than a sentence (figures.py). From it come the
OpenAPI document, the addresses `/problems/{code}`, the client's exceptions and docs/reference/refusals.md.
errors.py makes a Refusal of a row. Lua uses the same codes, `OUT.coupon_locked`; scripts.py inserts the numbers when it
composes a script. Redis keeps numbers and codes of answers, and clients compare codes: neither may change.
"""

from typing import Final, Literal, NamedTuple

For = Literal["shopper", "caller", "retry"]
SHOPPER: Final = "shopper"
"""The shop tells its customer: the coupon can't be used so."""
CALLER: Final = "caller"
"""The calling program, or its configuration, is wrong: the customer can't change that."""
RETRY: Final = "retry"
"""The same request may succeed later."""

OK, REPEATED, RECALL = 0, 1, 2
"""Outcomes of a script that are no rejection: it ran; the same user had done the same for the same order before; it
changed nothing and needs facts that only Postgres stores (service/engine/deciding/recall.py)."""


class Outcome(NamedTuple):
    """A row of the table. `number` is None if no script returns the outcome."""

    number: int | None
    code: str
    status: int
    for_: For
    """Whose turn it is. As the code, it never changes."""

    sentence: str
    remedy: str
    """What the client, or an operator, can do: at `/problems/{code}`."""

    says: str
    """The detail with what a script returns, in its order, as `{valid_from:time}` or `{max_coupons}`: figures.py."""

    of: str
    """The ids of the hot operations (operations/table.py) that list it. Controllers have lists of their own."""

    detail: str
    """What a problem says if nothing of its request adds to it: sentence and remedy; for the shopper, who can't follow
    the remedy, the sentence."""


def _row(
    number: int | None, code: str, status: int, for_: For, sentence: str, remedy: str, *, says: str = "", of: str = ""
) -> Outcome:
    detail = sentence if for_ == SHOPPER else f"{sentence} {remedy}"
    return Outcome(number, code, status, for_, sentence, remedy, says, of, detail)


_SALES = "redeemCoupon checkout"
_USES = f"lockCoupon {_SALES}"
"""What lua/includes/judging.lua judges."""
_ASSIGNS = "assignAny assignCode giveGift"
_ROLLBACKS = "rollbackRedemption rollbackOrder"
_ADDITIONS = f"{_USES} {_ASSIGNS} extendLock"
"""They add something to the workspace."""
_CHANGES = f"{_ADDITIONS} {_ROLLBACKS} unassignCoupon creditCard closeCard"
_COUPONS = f"{_USES} assignCode unassignCoupon extendLock unlockCoupon creditCard closeCard getCoupon"

# fmt: off
_ROWS = (
    _row(10, "coupon_not_found", 404, SHOPPER, "The coupon does not exist.",
         "Check the spelling (upper or lower case makes no difference), and that the key is of the code's workspace.",
         of=_COUPONS),
    _row(11, "coupon_inactive", 409, SHOPPER, "The coupon is not active.",
         "An operator can switch it on: `PATCH /v1/coupons/{code}` with the status `active`. If it stays inactive, an "
         "event in quarantine blocks it.", of=f"{_USES} assignCode extendLock"),
    _row(12, "book_inactive", 409, SHOPPER, "The coupon's book is not active.",
         "An operator can resume the book: `PATCH /v1/books/{bookId}` with the status `active`.",
         of=f"{_USES} {_ASSIGNS} extendLock"),
    _row(13, "not_started", 409, SHOPPER, "The coupon is not valid yet.",
         "Repeat the request after the `validFrom` of its book.",
         says="The coupon is valid from {valid_from:time}.", of=_USES),
    _row(14, "expired", 409, SHOPPER, "The coupon has expired.",
         "Its `expiresAt` or the `validUntil` of its book has passed; an operator can move both.",
         says="The coupon was valid until {expires_at:time}.", of=f"{_USES} {_ASSIGNS}"),
    _row(15, "coupon_not_assigned", 409, SHOPPER, "The coupon is not assigned to a user.",
         "`POST /v1/coupons/assign/{code}` assigns it.", of=f"{_USES} unassignCoupon"),
    _row(16, "coupon_assigned_to_other", 409, SHOPPER, "The coupon belongs to another user.",
         "Use a coupon of this user, or one that is not assigned.", of=f"{_USES} assignCode"),
    _row(17, "coupon_locked", 409, SHOPPER, "Another checkout has locked the last use of this coupon.",
         "Repeat the request after `Retry-After` seconds, or use another coupon.",
         of=f"{_USES} assignCode unassignCoupon closeCard"),
    _row(18, "lock_lost", 409, SHOPPER, "The lock has expired, or the token is of another lock.",
         "Lock the coupon again, and send the new `lockToken`.", of=f"{_SALES} extendLock"),
    _row(19, "lock_required", 409, CALLER, "Lock this coupon before you redeem it.",
         "`POST /v1/coupons/lock/{code}` returns the `lockToken` to send.", of=_SALES),
    _row(20, "coupon_redeemed", 409, SHOPPER, "The coupon has already been used.",
         "Use another coupon; a rollback with `restore` gives the use back.", of=f"{_USES} assignCode unassignCoupon"),
    _row(21, "coupon_exhausted", 409, SHOPPER, "The coupon has no uses left.",
         "Use another coupon; a rollback with `restore` gives a use back.", of=f"{_USES} assignCode unassignCoupon"),
    _row(22, "user_redemption_limit", 422, SHOPPER, "The user has reached the book's limit of redemptions per user.",
         "It is the book's `maxRedemptionsPerUser`, and counts the user's live locks too.",
         says="The user has reached the book's limit of redemptions per user: {max_redemptions_per_user}. "
         "Live locks count too.", of=_USES),
    _row(23, "out_of_stock", 409, SHOPPER, "The book has no coupons left.",
         "Add codes to the book or raise its `maxRedemptions`; uses that are locked may become available again.",
         says="The book's {max_redemptions} uses are spent or locked. Locked ones may become available again.",
         of=f"{_USES} assignAny giveGift"),
    _row(24, "order_already_used", 409, SHOPPER, "The order has already used another coupon.",
         "`GET /v1/users/{userId}/redemptions` has its redemption: roll that back, or send another `orderId`.",
         of=f"{_USES} giveGift"),
    _row(25, "order_value_required", 422, CALLER, "This coupon gives a discount: send the order's value.",
         "Send `orderValue`, the value of the order before the discount, such as 25.00.", of="redeemCoupon"),
    _row(26, "currency_mismatch", 422, CALLER, "The order and the discount have different currencies.",
         "Send the order's value in the currency of the book's discount; a book without one takes the workspace's.",
         of=_USES),
    _row(27, "order_value_too_low", 422, SHOPPER, "The order's value is below the discount's minimum.",
         "It is the discount's `minOrderValue`, or the `from` of its first tier.", of=_USES),
    _row(42, "no_discount", 422, SHOPPER, "The order gets no discount from this coupon; its use is not spent.",
         "Send the `items` that the discount is of, or a higher `orderValue`.", of=_USES),
    _row(45, "price_changed", 409, SHOPPER, "The order's final amount has changed; the coupon is not used yet.",
         "Show the customer the new price, `finalAmount`, and send it as `expectedFinalAmount`; or lock with the "
         "`orderValue` before the payment, which holds the price.", of=_SALES),
    _row(46, "budget_exhausted", 409, SHOPPER, "A budget of the coupon's book does not suffice for this discount.",
         "It is one of the book's `budgets`, which count live locks too. Repeat the request after `renewsAt`, or for a "
         "smaller order.", of=_USES),
    _row(47, "period_limit", 409, SHOPPER, "The coupons of this book were used as often as they may be in this period.",
         "It is one of the book's `useLimits`, which count live locks too. Repeat the request after `renewsAt`.",
         says="The coupons of this book were used as often as they may be until {renews_at:time}.", of=_USES),
    _row(28, "user_code_limit", 422, SHOPPER, "The user has reached the book's limit of codes per user.",
         "It is the book's `maxCodesPerUser`, and counts redeemed codes, but not those that were taken back.",
         says="The user has reached the book's limit of codes per user: {max_codes_per_user}, with redeemed ones.",
         of=_ASSIGNS),
    _row(29, "user_coupon_limit", 422, SHOPPER, "The user has reached the limit of coupons per user.",
         "Raise the user's `maxCoupons`: `PATCH /v1/users/{userId}`.",
         says="The user has reached the limit of coupons: {max_coupons}.", of=_ASSIGNS),
    _row(30, "lock_ceiling", 422, CALLER, "The lock has reached its maximum duration.",
         "Redeem it before it ends, or lock it again afterwards; the ceiling is the book's `maxLockSeconds`.",
         of="extendLock"),
    _row(31, "already_rolled_back", 409, CALLER, "The redemption has already been rolled back.",
         "After a rollback nothing remains to be done. To redeem again, send a new Idempotency-Key.",
         of=f"{_SALES} {_ROLLBACKS} giveGift"),
    _row(32, "redemption_not_found", 404, CALLER, "The redemption does not exist.",
         "Send the `redemptionId` of a redeem or of a list of redemptions.", of="rollbackRedemption"),
    _row(33, "order_not_found", 404, CALLER, "No coupon has been redeemed for this order.",
         "Check the `orderId`. An order is remembered until the last of its books is archived.", of="rollbackOrder"),
    _row(43, "book_archived", 409, CALLER, "The book ended long ago, and is archived.",
         "Nothing can be done: the book, its codes and its redemptions can't be changed any more.", of=_ROLLBACKS),
    _row(34, "book_not_found", 404, CALLER, "The book does not exist.",
         "`GET /v1/books` lists the books of the key's workspace; live and test workspaces have separate books.",
         of="assignAny giveGift checkout"),
    _row(35, "idempotency_key_reused", 422, CALLER, "The Idempotency-Key was used with a different request.",
         "Send a new Idempotency-Key with this request, or repeat the first request unchanged."),
    _row(36, "request_in_progress", 409, RETRY, "A request with this Idempotency-Key is still in progress.",
         "Repeat the request shortly: it then gets the response of the first one."),
    _row(38, "rate_limited", 429, RETRY, "Too many requests; wait before the next one.",
         "Repeat the request after `Retry-After` seconds; the headers `RateLimit` have what remains."),
    _row(39, "too_many_misses", 429, RETRY, "Too many requests for unknown coupons or coupons of other users.",
         "Repeat the request after `Retry-After` seconds, and check the codes before."),
    _row(40, "lock_quota", 429, RETRY, "The limit of live locks is reached.",
         "Repeat the request after `Retry-After` seconds, or release a lock.", of="lockCoupon"),
    _row(41, "key_quota", 429, RETRY,
         "Stored responses have reached their size limit: wait, or send no Idempotency-Key.",
         "Repeat the request after `Retry-After` seconds."),
    _row(44, "storage_full", 409, CALLER, "The workspace has reached its bound of storage in Redis.",
         "Archive old books, or ask the operator to raise the bound: `scrip workspaces storage`.",
         says="The workspace uses {storage_used_mib} of the {storage_mib} MiB that it may have in Redis "
         "(`storageMib`). Archive old books, or ask the operator to raise the bound: `scrip workspaces storage`.",
         of=_ADDITIONS),
    _row(90, "recovering", 503, RETRY, "Redis is being verified or rebuilt; try again shortly.",
         "Nothing was changed; repeat the request after `Retry-After` seconds."),
    _row(91, "behind", 503, RETRY, "Postgres is too far behind Redis; try again shortly.",
         "Nothing was changed; repeat the request after `Retry-After` seconds.", of=_CHANGES),
    _row(None, "malformed", 400, CALLER, "The request can't be decoded.",
         "Compare it with `/schema`."),
    _row(None, "unauthenticated", 401, CALLER, "Send a valid API key or token as `Authorization: Bearer …`.",
         "`POST /v1/keys` and `scrip keys create` make keys; a key may have expired or been revoked."),
    _row(None, "forbidden", 403, CALLER, "This key or token may not run this operation.",
         "Use a key with the scope that `/schema` names for the operation."),
    _row(None, "workspace_suspended", 403, CALLER, "This workspace is suspended: all its requests are refused.",
         "Ask who operates this service."),
    _row(None, "job_not_found", 404, CALLER, "The job does not exist.",
         "Send the `jobId` of the response that started the job."),
    _row(None, "event_not_found", 404, CALLER, "The event is not in quarantine.",
         "`GET /v1/ops/quarantine` lists the events that wait for a decision."),
    _row(None, "not_found", 404, CALLER, "This address does not exist.",
         "`/schema` lists all addresses and methods.", of="giveGift"),
    _row(None, "method_not_allowed", 405, CALLER, "This address does not accept this method.",
         "The header `Allow` has the methods."),
    _row(None, "request_timeout", 408, RETRY, "The request did not arrive in time.",
         "Send the whole request at once, on a new connection."),
    _row(None, "reconcile_running", 409, CALLER, "A comparison of Redis with Postgres is already running.",
         "`GET /v1/jobs/{jobId}` shows when it is done; then repeat the request."),
    _row(None, "choice_not_possible", 409, CALLER, "This choice is not possible for the event.",
         "Send one of the event's `choices`: `GET /v1/ops/quarantine` lists them."),
    _row(None, "job_ended", 409, CALLER, "The job has ended, or is of a kind that can't be paused or cancelled.",
         "`GET /v1/jobs/{jobId}` shows its state."),
    _row(None, "too_many_jobs", 409, CALLER, "The limit of unfinished jobs is reached.",
         "Wait until one ends, or cancel one: `POST /v1/jobs/{jobId}/cancel`."),
    _row(None, "code_exists", 409, CALLER, "This code already exists in the workspace.",
         "Choose another code."),
    _row(None, "too_large", 413, CALLER, "The body is too large for this address.",
         "Send less at once."),
    _row(None, "unsupported_media_type", 415, CALLER, "This address does not accept this media type.",
         "`/schema` names the media types."),
    _row(37, "invalid", 422, CALLER, "A value is out of range, or contradicts another value.",
         "Compare it with `/schema`."),
    _row(None, "pattern_too_small", 422, CALLER, "The pattern has too few possible codes for this number of codes.",
         "Use more `#` in the pattern, or a larger `charset`."),
    _row(None, "headers_too_large", 431, CALLER, "The request's headers are too large.",
         "Send at most 16 KiB in at most 100 headers."),
    _row(None, "internal", 500, CALLER, "An unexpected error occurred; it has been logged.",
         "Report the `requestId`. Whether the change was made is unknown; the same `Idempotency-Key` tells."),
    _row(None, "outcome_unknown", 503, RETRY,
         "The result is unknown, the connection broke; repeat with the same key.",
         "The same `Idempotency-Key` or `orderId` tells whether the change was made.", of=f"{_CHANGES} unlockCoupon"),
    _row(None, "keys_outdated", 503, RETRY,
         "API keys have not been read from Postgres for too long; try again shortly.",
         "Nothing was changed; repeat the request after `Retry-After` seconds."),
    _row(92, "unavailable", 503, RETRY, "A part of the service is unreachable; try again shortly.",
         "Nothing was changed; repeat the request after `Retry-After` seconds."),
)
# fmt: on

BY_CODE = {row.code: row for row in _ROWS}
BY_NUMBER = {row.number: row for row in _ROWS if row.number is not None}
if len(BY_CODE) != len(_ROWS) or len(BY_NUMBER) != sum(row.number is not None for row in _ROWS):
    raise AssertionError("two outcomes have the same code or number")


def list_codes(operation_id: str) -> str:
    """The codes that the operation lists."""
    return " ".join(row.code for row in _ROWS if operation_id in row.of.split())


def find_status(code: str) -> int:
    """A refusal's status; 400 for a code of another version, which may have stored it."""
    return BY_CODE[code].status if code in BY_CODE else 400
