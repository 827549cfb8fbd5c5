"""The most likely mistakes of a developer who begins with the API, and what each answer must tell them."""

from typing import Any, NamedTuple

from tests.cases import Place
from tests.service_fixture import Service, new_code, new_id, ok
from tests.tokens import hmac_token

_EXPIRED = hmac_token(
    {"alg": "HS256", "kid": "1"}, {"iss": "https://id.example/", "aud": "scrip", "sub": "ann", "exp": 1}, b"secret"
)


class Mistake(NamedTuple):
    """A request with one mistake, and its refusal; `{code}` and the like are replaced by names of make_place."""

    what: str
    request: str
    """Method and address."""
    status: int
    code: str
    says: str
    """Words of the title, the detail or a reason, from which the developer knows what to change."""
    body: dict[str, Any] | str | None = None
    headers: dict[str, str] = {}  # noqa: RUF012, never changed
    key: str | None = "{own}_admin"
    """Sent as `Authorization: Bearer`; None is without."""


def make_place(service: Service) -> Place:
    """A book with free codes, a redeemed one and its order, a locked one, a discount, and a cursor of another list."""
    free, second, used, held, priced = (new_code() for _ in range(5))
    user, order, key = new_id(), new_id("order"), new_id("key")
    book = service.book(free, second, used, held)
    service.book(priced, discount={"type": "fixed", "value": 5})
    ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": user, "orderId": order}), 201)
    ok(service.checkout.post(f"/v1/coupons/lock/{held}", json={"userId": user, "orderId": new_id("order")}), 201)
    first = {"Idempotency-Key": key}
    ok(service.checkout.post(f"/v1/coupons/lock/{second}", json={"userId": user}, headers=first), 201)
    cursor = ok(service.manage.get("/v1/books?limit=1"))["nextCursor"]
    return {
        "book": book, "code": free, "second": second, "used": used, "held": held, "priced": priced, "user": user,
        "order": order, "key": key, "cursor": cursor, "own": service.workspace,
    }  # fmt: skip


_REDEEM, _USER = "POST /v1/coupons/redeem/{code}", {"userId": "ann"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

MISTAKES = (
    Mistake("A wrong key", _REDEEM, 401, "unauthenticated", "create a key with", _USER, key="sk_live_nothing"),
    Mistake(
        "The key in another header", _REDEEM, 401, "unauthenticated", "Authorization: Bearer", _USER,
        {"X-Api-Key": "demo_checkout"}, key=None,
    ),
    Mistake(
        "The key without `Bearer`", _REDEEM, 401, "unauthenticated", "Authorization: Bearer", _USER,
        {"Authorization": "demo_checkout"}, key=None,
    ),
    Mistake(
        "An expired user token", _REDEEM, 401, "unauthenticated", "has expired. Get a new token", _USER,
        key=_EXPIRED,
    ),
    Mistake(
        "A key without the scope", _REDEEM, 403, "forbidden", "an API key with the scope checkout", _USER,
        key="{own}_public",
    ),
    Mistake(
        "A test workspace's key for a live book", "GET /v1/books/{book}", 404, "book_not_found", "test workspaces",
        key="trial_admin",
    ),
    Mistake(
        "The verb after the code", "POST /v1/coupons/{code}/redeem", 404, "not_found",
        "perhaps `POST /v1/coupons/redeem/{code}`", _USER,
    ),
    Mistake("An address without /v1", "GET /books", 404, "not_found", "perhaps `GET /v1/books`"),
    Mistake("GET instead of POST", "GET /v1/coupons/redeem/{code}", 405, "method_not_allowed", "accepts POST, not GET"),
    Mistake(
        "A code that is too long", "POST /v1/coupons/redeem/" + "A" * 65, 404, "coupon_not_found",
        "65 characters", _USER,
    ),
    Mistake(
        "A form instead of JSON", _REDEEM, 415, "unsupported_media_type", "Send the body in that format",
        "userId=ann", _FORM,
    ),
    Mistake("A trailing comma", _REDEEM, 400, "malformed", "valid JSON in UTF-8: trailing comma", '{"userId": "ann",}'),
    Mistake("A required field is missing", _REDEEM, 400, "malformed", "userId: is required", {"orderId": "A-1"}),
    Mistake("A field in snake_case", _REDEEM, 400, "malformed", "user_id: is not a field", {"user_id": "ann"}),
    Mistake("A user id with a space", _REDEEM, 422, "invalid", "without space", {"userId": "Ann Lee"}),
    Mistake(
        "An amount with its currency", _REDEEM, 400, "malformed", "such as 25.00", _USER | {"orderValue": "25.00 USD"}
    ),
    Mistake(
        "A float of too many digits", "POST /v1/coupons/redeem/{priced}", 422, "invalid",
        "at most 4 digits after the point, but is 0.3",
        _USER | {"orderValue": 0.1 + 0.2},
    ),
    Mistake("A negative amount", _REDEEM, 422, "invalid", "0 or more, but is -1", _USER | {"orderValue": -1}),
    Mistake(
        "No amount for a discount", "POST /v1/coupons/redeem/{priced}", 422, "order_value_required",
        "send the order's value", _USER,
    ),
    Mistake(
        "A time without an offset", "POST /v1/books", 400, "malformed", "must have an offset",
        {"name": "Sale", "validUntil": "2036-12-01T00:00:00"},
    ),
    Mistake("A limit of 100,000", "GET /v1/books?limit=100000", 422, "invalid", "at most 1000"),
    Mistake(
        "The cursor of another list", "GET /v1/users?cursor={cursor}", 400, "malformed",
        "`nextCursor` of this list",
    ),
    Mistake(
        "An Idempotency-Key with another body", "POST /v1/coupons/lock/{second}", 422, "idempotency_key_reused",
        "new Idempotency-Key", {"userId": "bob"}, {"Idempotency-Key": "{key}"},
    ),
    Mistake(
        "An order that has used a coupon", _REDEEM, 409, "order_already_used", "order",
        {"userId": "{user}", "orderId": "{order}"},
    ),
    Mistake("A used coupon", "POST /v1/coupons/redeem/{used}", 409, "coupon_redeemed", "already been used", _USER),
    Mistake("Another checkout's coupon", "POST /v1/coupons/redeem/{held}", 409, "coupon_locked", "locked", _USER),
    Mistake(
        "A body above 64 KiB", _REDEEM, 413, "too_large", "at most 65,536",
        _USER | {"metadata": {"note": "x" * (64 << 10)}}
    ),
    Mistake("The id of something else", "GET /v1/webhooks/{book}", 404, "not_found", "`GET /v1/webhooks` lists them"),
)  # fmt: skip
