"""Every route: its scopes, a request that works, and the values that each field of its body refuses.

The hot ones come from their descriptions. tests/integration/access/test_matrix.py sends the requests in this order.
"""

from dataclasses import replace

from service.engine.domain.configuration import BookRow
from service.engine.domain.field_types import MAX_INT
from service.engine.domain.settings import described, to_camel
from tests.harness import kinds
from tests.harness.described import Good, Route, descriptions

ANYONE = ""

_BOOK = {
    "description": kinds.text(0, 2000), "status": kinds.BOOK_STATUS, "validFrom": kinds.TIME, "validUntil": kinds.TIME,
    "discount": kinds.OBJECT, "codePattern": kinds.PATTERN, "charset": kinds.CHARSET, "giftBookId": kinds.GIFT_BOOK,
    "tags": kinds.TAGS, "metadata": kinds.metadata(4 << 10), "createdBy": kinds.text(1, 255), "limits": kinds.OBJECT,
    "budgets": kinds.BUDGETS, "useLimits": kinds.LIMITS,
} | {
    to_camel(name): kinds.SWITCH if kind is bool else kinds.number(int(limits.le or 0) if limits else MAX_INT)
    for name, (kind, limits, _) in described(BookRow).items()
}  # fmt: skip
_BOOKS_DISCOUNT = {
    "discount.type": kinds.DISCOUNT_TYPE, "discount.value": kinds.PERCENTAGE, "discount.maxAmount": kinds.MONEY,
    "discount.minOrderValue": kinds.MONEY, "discount.currency": kinds.CURRENCY,
}  # fmt: skip
_TIERS = {
    "discount.tiers": kinds.TIERS, "discount.tiers.0.from": kinds.MONEY, "discount.tiers.0.type": kinds.DISCOUNT_TYPE,
    "discount.tiers.0.value": kinds.PERCENTAGE,
}  # fmt: skip
_UNITS = {"discount.buy": kinds.COUNT, "discount.get": kinds.COUNT, "discount.maxAmount": kinds.MONEY}


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
    "userId": kinds.ID, "code": kinds.NEW_CODE, "validFrom": kinds.TIME, "validUntil": kinds.TIME,
    "maxUsesPerUser": kinds.COUNT, "maxTotalUses": kinds.COUNT, "discountType": kinds.DISCOUNT_TYPE,
    "discountValue": kinds.PERCENTAGE, "maxDiscountAmount": kinds.MONEY, "minOrderValue": kinds.MONEY,
    "currency": kinds.CURRENCY, "description": kinds.text(0, 2000), "createdBy": kinds.text(1, 255),
}  # fmt: skip

_USER = {"maxCoupons": kinds.COUNT, "metadata": kinds.metadata(4 << 10)}
_LIMITS = {
    f"limits.keys.{name}": kinds.COUNT
    for name in ("requestsPerMinute", "missesPerMinute", "addressMissesPerMinute", "liveLocks")
}
_BOOK_LIMITS = {"missesPerMinute": kinds.COUNT, "locksPerUser": kinds.COUNT, "lockedPercent": kinds.number(100)}
_OVERLAP = Good({"overlapSeconds": 60}, {"overlapSeconds": kinds.number(30 * 86_400, least=0)})
_HOOK = {"url": kinds.HOOK_URL, "events": kinds.EVENTS, "description": kinds.text(0, 2000)}
LISTENS = {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]}
_CHANGES = (
    Good({"action": "switchOff", "filter": {"codes": ["NONE"]}},
         {"action": kinds.CHANGE, "filter.codes": kinds.NAMED_CODES}, "action"),
    Good({"action": "setExpiry", "expiresAt": None, "filter": {}},
         {"expiresAt": kinds.TIME, "filter.status": kinds.STATUSES, "filter.prefix": kinds.TOKEN,
          "filter.createdFrom": kinds.TIME, "filter.createdUntil": kinds.TIME}, "action"),
    Good({"action": "assign", "users": ["u"], "filter": {"codes": ["NONE"]}}, {"users": kinds.NAMED_USERS}, "action",
         "users"),
)  # fmt: skip
_BATCH = [
    {"op": "lock", "code": "{free1}", "userId": "{ann}"},
    {"op": "redeem", "code": "{free1}", "userId": "{ann}"},
    {"op": "validate", "code": "{free1}", "userId": "{ann}"},
    {"op": "assign", "bookId": "{book}", "userId": "{ann}"},
]


def _route(name: str, scopes: str, *goods: Good, path: str = "") -> Route:
    """A route of configuration; another workspace's key is refused if its path names a book, a job or the like."""
    refusals = {"{bookId}": "book_not_found", "{jobId}": "job_not_found", "{eventId}": "event_not_found",
                "{redemptionId}": "redemption_not_found", "{orderId}": "order_not_found",
                "{keyId}": "not_found", "{webhookId}": "not_found"}  # fmt: skip
    another = next((refusal for part, refusal in refusals.items() if part in name), "")
    return Route(name=name, scopes=scopes, goods=goods, another=another, path=path)


_BOOKS, _COUPONS = "/v1/books/{bookId}", "/v1/coupons/{code}"

ROUTES = (
    _route("GET /health/live", ANYONE),
    _route("GET /health/ready", ANYONE),
    _route("GET /v1/ops/consistency", "operate"),
    _route("POST /v1/ops/reconcile", "operate", Good({}, {"repair": kinds.SWITCH})),
    _route("GET /v1/ops/quarantine", "operate"),
    _route("GET /v1/ops/requests", "operate", path="/v1/ops/requests?requestId=4f1c"),
    _route("POST /v1/ops/quarantine/{eventId}", "operate",
           Good({"choice": "settle"}, {"choice": kinds.CHOICE}, "choice")),
    _route("GET /v1/audit", "operate"),
    _route("GET /v1/audit.csv", "operate"),
    *(_route(f"GET /v1/reports/{name}", "manage")
      for name in ("redemptions", "redemptions.csv", "funnel", "funnel.csv", "liability", "liability.csv")),
    _route("GET /v1/books", "manage"),
    _route("GET /v1/coupons", "manage"),
    _route("POST /v1/books", "manage",
           Good({"name": "n"}, {"name": kinds.text(1, 255), "totalCodes": kinds.MANY} | _BOOK, "name"),
           *_discounts(name="n")),
    _route("POST /v1/coupons", "manage", Good({"name": "n"}, {"name": kinds.text(1, 255)}, "name")),
    _route(f"GET {_BOOKS}", "manage"),
    _route(f"PATCH {_BOOKS}", "manage",
           Good({"name": "n"}, {"name": kinds.text(1, 255), "endLocks": kinds.SWITCH} | _BOOK, never_null="name"),
           *_discounts(),
           Good({"limits": {}}, {f"limits.{name}": kind for name, kind in _BOOK_LIMITS.items()})),
    *(_route(f"GET {_BOOKS}/{name}", "manage")
      for name in ("stats", "redemptions", "notices", "redemptions.csv", "codes", "codes.csv")),
    _route(f"POST {_BOOKS}/codes", "manage", Good({"codes": ["GOOD-1"]}, {"codes": kinds.CODES}, "codes")),
    _route(f"POST {_BOOKS}/codes/rejected.csv", "manage", Good({"codes": ["x"]}, {"codes": kinds.CODES}, "codes")),
    _route(f"POST {_BOOKS}/codes/generate", "manage",
           Good({"count": 1}, {"count": kinds.MANY, "codePattern": kinds.PATTERN, "charset": kinds.CHARSET}, "count")),
    _route(f"POST {_BOOKS}/codes/change", "manage", *_CHANGES),
    Route(name="POST /v1/coupons/codes", scopes="manage", another="book_not_found",
          goods=(Good({"bookId": "{book}", "codes": ["GOOD-1"]}, {"bookId": kinds.OWN_ID, "codes": kinds.CODES},
                      "bookId codes"),)),
    _route("POST /v1/coupons/user-specific", "manage", Good({"userId": "u"} | _FLAT_DISCOUNT, _SINGLE, "userId")),
    _route("POST /v1/coupons/time-specific", "manage", Good(_WINDOW | _FLAT_DISCOUNT, _SINGLE, " ".join(_WINDOW))),
    _route("POST /v1/coupons/generate", "manage", Good(_FLAT_DISCOUNT, _SINGLE)),
    _route("GET /v1/coupons/active/time-specific", "checkout manage"),
    *descriptions(),
    Route(name="POST /v1/batch", scopes="checkout user", other=200, body={"operations": _BATCH},
          goods=(Good({"operations": [{"op": "validate", "code": "ABCD"}]}, {"operations": kinds.OPERATIONS},
                      "operations"),)),
    _route(f"GET {_COUPONS}/validate", "public checkout user", path="/v1/coupons/{free5}/validate?userId={ann}"),
    Route(name=f"PATCH {_COUPONS}", scopes="manage", another="coupon_not_found",
          goods=(Good({"status": "inactive"}, {"status": kinds.COUPON_STATUS, "expiresAt": kinds.TIME}),)),
    Route(name=f"GET {_COUPONS}/redemptions", scopes="manage", path="/v1/coupons/{used}/redemptions",
          another="coupon_not_found"),
    Route(name=f"GET {_COUPONS}/ledger", scopes="manage", path="/v1/coupons/{card}/ledger", another="coupon_not_found"),
    _route("GET /v1/users", "checkout manage"),
    _route("POST /v1/users", "manage", Good({"userId": "u"}, {"userId": kinds.ID} | _USER, "userId")),
    _route("GET /v1/users/{userId}", "checkout manage user"),
    _route("PATCH /v1/users/{userId}", "manage", Good({"maxCoupons": 99}, _USER)),
    _route("GET /v1/users/{userId}/coupons", "checkout manage user"),
    _route("GET /v1/users/{userId}/redemptions", "checkout manage user"),
    _route("GET /v1/redemptions/{redemptionId}", "checkout manage user", path="/v1/redemptions/{redemption}"),
    _route("GET /v1/orders/{orderId}", "checkout manage user", path="/v1/orders/{used_order}"),
    _route("GET /v1/jobs/{jobId}", "manage operate"),
    _route("GET /v1/jobs/{jobId}/results.csv", "manage"),
    _route("POST /v1/jobs/{jobId}/pause", "manage", Good({})),
    _route("POST /v1/jobs/{jobId}/cancel", "manage", Good({})),
    _route("POST /v1/jobs/{jobId}/resume", "manage", Good({}), path="/v1/jobs/{job2}/resume"),
    _route("GET /v1/keys", "operate"),
    _route("POST /v1/keys", "operate",
           Good({"name": "k", "scopes": ["public"]},
                {"name": kinds.text(1, 255), "scopes": kinds.SCOPES, "expiresAt": kinds.TIME, "limits": kinds.OBJECT},
                "name scopes")),
    _route("POST /v1/keys/{keyId}/rotate", "operate", _OVERLAP),
    _route("PATCH /v1/keys/{keyId}", "operate", Good({"limits": None}, {"limits": kinds.OBJECT})),
    _route("DELETE /v1/keys/{keyId}", "operate", path="/v1/keys/{key2}"),
    _route("GET /v1/webhooks", "operate"),
    _route("POST /v1/webhooks", "operate", Good(LISTENS, _HOOK, "url events")),
    _route("GET /v1/webhooks/{webhookId}", "operate"),
    _route("PATCH /v1/webhooks/{webhookId}", "operate",
           Good({"description": "changed"}, _HOOK | {"status": kinds.HOOK_STATUS}, never_null="url events status")),
    _route("POST /v1/webhooks/{webhookId}/rotate", "operate", _OVERLAP),
    _route("POST /v1/webhooks/{webhookId}/test", "operate", Good({})),
    _route("GET /v1/webhooks/{webhookId}/deliveries", "operate"),
    _route("GET /v1/webhooks/{webhookId}/deliveries/{deliveryId}", "operate"),
    _route("POST /v1/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver", "operate", Good({})),
    _route("DELETE /v1/webhooks/{webhookId}", "operate", path="/v1/webhooks/{webhook2}"),
    _route("GET /v1/workspace", "operate"),
    _route("PATCH /v1/workspace", "operate",
           Good({"maxCoupons": 77},
                {"currency": kinds.CURRENCY, "couponsPerOrder": kinds.number(100),
                 "maxCoupons": kinds.COUNT, "giftBookId": kinds.GIFT_BOOK, "idempotencyHours": kinds.number(8760),
                 "limits": kinds.OBJECT, "timeZone": kinds.ZONE}),
           Good({"limits": {"keys": {}, "books": {}}},
                _LIMITS | {f"limits.books.{name}": kind for name, kind in _BOOK_LIMITS.items()})),
    _route("POST /v1/test/clock", "operate", Good({"now": None}, {"now": kinds.CLOCK})),
    _route("DELETE /v1/users/{userId}", "manage", path="/v1/users/{zed}"),
)  # fmt: skip

REQUESTS = tuple(replace(route, goods=(good,)) for route in ROUTES for good in route.goods)
"""Every request with a body: its route, with this one good body."""
