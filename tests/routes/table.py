"""Every route: its scopes, a request that works, and the values that each field of its body refuses.

The hot ones come from their descriptions. tests/integration/access/test_matrix.py sends the requests in this order.
"""

from dataclasses import replace

from tests.described import Good, Route, descriptions
from tests.kinds import (
    BOOK_STATUS,
    CHANGE,
    CHARSET,
    CHOICE,
    CLOCK,
    CODES,
    COUNT,
    COUPON_STATUS,
    CURRENCY,
    DISCOUNT_TYPE,
    EVENTS,
    GIFT_BOOK,
    HOOK_STATUS,
    HOOK_URL,
    ID,
    MANY,
    MONEY,
    NAMED_CODES,
    NAMED_USERS,
    NEW_CODE,
    OBJECT,
    OPERATIONS,
    OWN_ID,
    PATTERN,
    PERCENTAGE,
    PREFIX,
    SCOPES,
    STATUSES,
    SWITCH,
    TAGS,
    TIERS,
    TIME,
    Kind,
    metadata,
    number,
    text,
)

ANYONE = ""

_BOOK = {
    "description": text(0, 2000), "status": BOOK_STATUS, "validFrom": TIME, "validUntil": TIME,
    "maxRedemptionsPerCode": COUNT, "maxRedemptionsPerUser": COUNT, "maxRedemptions": COUNT, "maxCodesPerUser": COUNT,
    "requireAssignment": SWITCH, "requireLock": SWITCH, "lockSeconds": COUNT, "maxLockSeconds": COUNT,
    "discount": OBJECT, "codePattern": PATTERN, "charset": CHARSET, "lowStockThreshold": COUNT, "keepFree": MANY,
    "giftBookId": GIFT_BOOK, "tags": TAGS, "metadata": metadata(4 << 10), "createdBy": text(1, 255),
    "limits": OBJECT,
}  # fmt: skip
_BOOKS_DISCOUNT = {
    "discount.type": DISCOUNT_TYPE, "discount.value": PERCENTAGE, "discount.maxAmount": MONEY,
    "discount.minOrderValue": MONEY, "discount.currency": CURRENCY,
}  # fmt: skip
_TIERS = {
    "discount.tiers": TIERS, "discount.tiers.0.from": MONEY, "discount.tiers.0.type": DISCOUNT_TYPE,
    "discount.tiers.0.value": PERCENTAGE,
}  # fmt: skip
_UNITS = {"discount.buy": COUNT, "discount.get": COUNT, "discount.maxAmount": MONEY}


def _discounts(**more: str) -> tuple[Good, ...]:
    """Bodies of a book with a discount of each shape."""
    tier = {"from": 10, "type": "percentage", "value": 20}
    return (
        Good(more | {"discount": {"type": "percentage", "value": 20}}, _BOOKS_DISCOUNT, "discount.type discount.value"),
        Good(more | {"discount": {"type": "tiered", "tiers": [tier]}}, _TIERS, " ".join(_TIERS)),
        Good(more | {"discount": {"type": "buyXGetY", "buy": 2, "get": 1}}, _UNITS, "discount.buy discount.get"),
    )


_WINDOW = {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z", "maxUsesPerUser": 1}
_FLAT_DISCOUNT = {"discountType": "percentage", "discountValue": 20}
_SINGLE = {
    "userId": ID, "code": NEW_CODE, "validFrom": TIME, "validUntil": TIME, "maxUsesPerUser": COUNT,
    "maxTotalUses": COUNT, "discountType": DISCOUNT_TYPE, "discountValue": PERCENTAGE, "maxDiscountAmount": MONEY,
    "minOrderValue": MONEY, "currency": CURRENCY, "description": text(0, 2000), "createdBy": text(1, 255),
}  # fmt: skip

_LIMITS = {
    f"limits.keys.{name}": COUNT
    for name in ("requestsPerMinute", "missesPerMinute", "addressMissesPerMinute", "liveLocks")
}
_BOOK_LIMITS = {"missesPerMinute": COUNT, "locksPerUser": COUNT, "lockedPercent": number(100)}
_OVERLAP = Good({"overlapSeconds": 60}, {"overlapSeconds": number(30 * 86_400, least=0)})
_HOOK = {"url": HOOK_URL, "events": EVENTS, "description": text(0, 2000)}
LISTENS = {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]}
_CHANGES = (
    Good({"action": "switchOff", "filter": {"codes": ["NONE"]}},
         {"action": CHANGE, "filter.codes": NAMED_CODES}, "action"),
    Good({"action": "setExpiry", "expiresAt": None, "filter": {}},
         {"expiresAt": TIME, "filter.status": STATUSES, "filter.prefix": PREFIX, "filter.createdFrom": TIME,
          "filter.createdUntil": TIME}, "action"),
    Good({"action": "assign", "users": ["u"], "filter": {"codes": ["NONE"]}}, {"users": NAMED_USERS}, "action",
         "users"),
)  # fmt: skip
_BATCH = [
    {"op": "lock", "code": "{free1}", "userId": "{ann}"},
    {"op": "redeem", "code": "{free1}", "userId": "{ann}"},
    {"op": "validate", "code": "{free1}", "userId": "{ann}"},
    {"op": "assign", "bookId": "{book}", "userId": "{ann}"},
]


def _route(name: str, scopes: str, *goods: Good, **more: str) -> Route:
    """A route of configuration; another workspace's key is refused if its path names a book, a job or the like."""
    refusals = {"{bookId}": "book_not_found", "{jobId}": "job_not_found", "{eventId}": "event_not_found",
                "{keyId}": "not_found", "{webhookId}": "not_found"}  # fmt: skip
    another = next((refusal for part, refusal in refusals.items() if part in name), "")
    return Route(name=name, scopes=scopes, goods=goods, another=another, path=more.get("path", ""))


def _good(required: str = "", body: "dict[str, object] | None" = None, **fields: Kind) -> Good:
    return Good(body or {}, fields, required)


_BOOKS, _COUPONS = "/v1/books/{bookId}", "/v1/coupons/{code}"

ROUTES = (
    _route("GET /health/live", ANYONE),
    _route("GET /health/ready", ANYONE),
    _route("GET /v1/ops/consistency", "operate"),
    _route("POST /v1/ops/reconcile", "operate", _good(repair=SWITCH)),
    _route("GET /v1/ops/quarantine", "operate"),
    _route("GET /v1/ops/requests", "operate", path="/v1/ops/requests?requestId=4f1c"),
    _route("POST /v1/ops/quarantine/{eventId}", "operate", _good("choice", {"choice": "settle"}, choice=CHOICE)),
    _route("GET /v1/audit", "operate"),
    _route("GET /v1/audit.csv", "operate"),
    _route("GET /v1/books", "manage"),
    _route("GET /v1/coupons", "manage"),
    _route("POST /v1/books", "manage", Good({"name": "n"}, {"name": text(1, 255), "totalCodes": MANY} | _BOOK, "name"),
           *_discounts(name="n")),
    _route("POST /v1/coupons", "manage", _good("name", {"name": "n"}, name=text(1, 255))),
    _route(f"GET {_BOOKS}", "manage"),
    _route(f"PATCH {_BOOKS}", "manage", Good({"name": "n"}, {"name": text(1, 255)} | _BOOK, never_null="name"),
           *_discounts(),
           Good({"limits": {}}, {f"limits.{name}": kind for name, kind in _BOOK_LIMITS.items()})),
    *(_route(f"GET {_BOOKS}/{name}", "manage")
      for name in ("stats", "redemptions", "notices", "redemptions.csv", "codes", "codes.csv")),
    _route(f"POST {_BOOKS}/codes", "manage", _good("codes", {"codes": ["GOOD-1"]}, codes=CODES)),
    _route(f"POST {_BOOKS}/codes/rejected.csv", "manage", _good("codes", {"codes": ["x"]}, codes=CODES)),
    _route(f"POST {_BOOKS}/codes/generate", "manage",
           _good("count", {"count": 1}, count=MANY, codePattern=PATTERN, charset=CHARSET)),
    _route(f"POST {_BOOKS}/codes/change", "manage", *_CHANGES),
    Route(name="POST /v1/coupons/codes", scopes="manage", another="book_not_found",
          goods=(_good("bookId codes", {"bookId": "{book}", "codes": ["GOOD-1"]}, bookId=OWN_ID, codes=CODES),)),
    _route("POST /v1/coupons/user-specific", "manage", Good({"userId": "u"} | _FLAT_DISCOUNT, _SINGLE, "userId")),
    _route("POST /v1/coupons/time-specific", "manage", Good(_WINDOW | _FLAT_DISCOUNT, _SINGLE, " ".join(_WINDOW))),
    _route("POST /v1/coupons/generate", "manage", Good(_FLAT_DISCOUNT, _SINGLE)),
    _route("GET /v1/coupons/active/time-specific", "checkout manage"),
    *descriptions(),
    Route(name="POST /v1/batch", scopes="checkout user", other=200, body={"operations": _BATCH},
          goods=(_good("operations", {"operations": [{"op": "validate", "code": "ABCD"}]}, operations=OPERATIONS),)),
    _route(f"GET {_COUPONS}/validate", "public checkout user", path="/v1/coupons/{free5}/validate?userId={ann}"),
    Route(name=f"PATCH {_COUPONS}", scopes="manage", another="coupon_not_found",
          goods=(_good("", {"status": "inactive"}, status=COUPON_STATUS, expiresAt=TIME),)),
    Route(name=f"GET {_COUPONS}/redemptions", scopes="manage", path="/v1/coupons/{used}/redemptions",
          another="coupon_not_found"),
    _route("GET /v1/users", "checkout manage"),
    _route("POST /v1/users", "manage",
           _good("userId", {"userId": "u"}, userId=ID, maxCoupons=COUNT, metadata=metadata(4 << 10))),
    _route("GET /v1/users/{userId}", "checkout manage user"),
    _route("PATCH /v1/users/{userId}", "manage",
           _good("", {"maxCoupons": 99}, maxCoupons=COUNT, metadata=metadata(4 << 10))),
    _route("GET /v1/users/{userId}/coupons", "checkout manage user"),
    _route("GET /v1/users/{userId}/redemptions", "checkout manage user"),
    _route("GET /v1/jobs/{jobId}", "manage operate"),
    _route("GET /v1/jobs/{jobId}/results.csv", "manage"),
    _route("POST /v1/jobs/{jobId}/pause", "manage", Good({})),
    _route("POST /v1/jobs/{jobId}/cancel", "manage", Good({})),
    _route("POST /v1/jobs/{jobId}/resume", "manage", Good({}), path="/v1/jobs/{job2}/resume"),
    _route("GET /v1/keys", "operate"),
    _route("POST /v1/keys", "operate",
           _good("name scopes", {"name": "k", "scopes": ["public"]}, name=text(1, 255), scopes=SCOPES, expiresAt=TIME,
                 limits=OBJECT)),
    _route("POST /v1/keys/{keyId}/rotate", "operate", _OVERLAP),
    _route("PATCH /v1/keys/{keyId}", "operate", _good("", {"limits": None}, limits=OBJECT)),
    _route("DELETE /v1/keys/{keyId}", "operate", path="/v1/keys/{key2}"),
    _route("GET /v1/webhooks", "operate"),
    _route("POST /v1/webhooks", "operate", Good(LISTENS, _HOOK, "url events")),
    _route("GET /v1/webhooks/{webhookId}", "operate"),
    _route("PATCH /v1/webhooks/{webhookId}", "operate",
           Good({"description": "changed"}, _HOOK | {"status": HOOK_STATUS}, never_null="url events status")),
    _route("POST /v1/webhooks/{webhookId}/rotate", "operate", _OVERLAP),
    _route("POST /v1/webhooks/{webhookId}/test", "operate", Good({})),
    _route("GET /v1/webhooks/{webhookId}/deliveries", "operate"),
    _route("GET /v1/webhooks/{webhookId}/deliveries/{deliveryId}", "operate"),
    _route("POST /v1/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver", "operate", Good({})),
    _route("DELETE /v1/webhooks/{webhookId}", "operate", path="/v1/webhooks/{webhook2}"),
    _route("GET /v1/workspace", "operate"),
    _route("PATCH /v1/workspace", "operate",
           _good("", {"maxCoupons": 77}, currency=CURRENCY, couponsPerOrder=number(100), orderDays=number(4000),
                 maxCoupons=COUNT, giftBookId=GIFT_BOOK, idempotencyHours=number(8760), limits=OBJECT,
                 lockHistory=SWITCH),
           Good({"limits": {"keys": {}, "books": {}}},
                _LIMITS | {f"limits.books.{name}": kind for name, kind in _BOOK_LIMITS.items()})),
    _route("POST /v1/test/clock", "operate", _good("", {"now": None}, now=CLOCK)),
    _route("DELETE /v1/users/{userId}", "manage", path="/v1/users/{zed}"),
)  # fmt: skip

REQUESTS = tuple(replace(route, goods=(good,)) for route in ROUTES for good in route.goods)
"""Every request with a body: its route, with this one good body."""
