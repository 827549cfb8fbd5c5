"""Every request with a body: its address, a good body, and the values that each of its fields refuses.

The hot ones come from their descriptions.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
from uuid_utils.compat import uuid7

from tests.cases import Place, filled
from tests.described import Asked, descriptions
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
    metadata,
    number,
    text,
)
from tests.service_fixture import Service, new_code, new_id, ok

_DISCOUNT = {"type": "percentage", "value": 20}
_TIERED = {"type": "tiered", "tiers": [{"from": 10, "type": "percentage", "value": 20}]}
_BUY_GET = {"type": "buyXGetY", "buy": 2, "get": 1}


def _asked(method: str, path: str, scope: str, good: dict[str, Any], required: str = "", **more: Any) -> Asked:
    return Asked(method, path, scope, good, required=frozenset(required.split()), **more)


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

_WINDOW = {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z", "maxUsesPerUser": 1}
_FLAT_DISCOUNT = {"discountType": "percentage", "discountValue": 20}
_SINGLE = {
    "userId": ID, "code": NEW_CODE, "validFrom": TIME, "validUntil": TIME, "maxUsesPerUser": COUNT,
    "maxTotalUses": COUNT, "discountType": DISCOUNT_TYPE, "discountValue": PERCENTAGE, "maxDiscountAmount": MONEY,
    "minOrderValue": MONEY, "currency": CURRENCY, "description": text(0, 2000), "createdBy": text(1, 255),
}  # fmt: skip

_KEY_LIMITS = {
    f"keys.{name}": COUNT for name in ("requestsPerMinute", "missesPerMinute", "addressMissesPerMinute", "liveLocks")
}
_BOOK_LIMITS = {"missesPerMinute": COUNT, "locksPerUser": COUNT, "lockedPercent": number(100)}

REQUESTS = (
    *(asked for description in descriptions() for asked in description.asked),
    _asked("POST", "/v1/batch", "checkout", {"operations": [{"op": "validate", "code": "ABCD"}]}, "operations",
           fields={"operations": OPERATIONS}),
    _asked("POST", "/v1/books", "manage", {"name": "n"}, "name",
           fields={"name": text(1, 255), "totalCodes": MANY} | _BOOK),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _DISCOUNT}, "discount.type discount.value",
           fields=_BOOKS_DISCOUNT),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _TIERED}, " ".join(_TIERS), fields=_TIERS),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _BUY_GET}, "discount.buy discount.get",
           fields=_UNITS),
    _asked("POST", "/v1/coupons", "manage", {"name": "n"}, "name", fields={"name": text(1, 255)}),
    _asked("PATCH", "/v1/books/{book}", "manage", {}, fields={"name": text(1, 255)} | _BOOK,
           never_null=frozenset({"name"})),
    _asked("PATCH", "/v1/books/{book}", "manage", {"discount": _DISCOUNT}, "discount.type discount.value",
           fields=_BOOKS_DISCOUNT),
    _asked("PATCH", "/v1/books/{book}", "manage", {"discount": _TIERED}, " ".join(_TIERS), fields=_TIERS),
    _asked("PATCH", "/v1/books/{book}", "manage", {"discount": _BUY_GET}, "discount.buy discount.get", fields=_UNITS),
    _asked("POST", "/v1/books/{book}/codes", "manage", {"codes": ["GOOD-1"]}, "codes", fields={"codes": CODES}),
    _asked("POST", "/v1/books/{book}/codes/rejected.csv", "manage", {"codes": ["x"]}, "codes", fields={"codes": CODES}),
    _asked("POST", "/v1/coupons/codes", "manage", {"bookId": "{book}", "codes": ["GOOD-1"]}, "bookId codes",
           fields={"bookId": OWN_ID, "codes": CODES}),
    _asked("POST", "/v1/books/{book}/codes/generate", "manage", {"count": 1}, "count",
           fields={"count": MANY, "codePattern": PATTERN, "charset": CHARSET}),
    _asked("POST", "/v1/books/{book}/codes/change", "manage", {"action": "switchOff", "filter": {"codes": ["NONE"]}},
           "action", fields={"action": CHANGE, "filter.codes": NAMED_CODES}),
    _asked("POST", "/v1/books/{book}/codes/change", "manage", {"action": "setExpiry", "expiresAt": None, "filter": {}},
           "action", fields={"expiresAt": TIME, "filter.status": STATUSES, "filter.prefix": PREFIX,
                             "filter.createdFrom": TIME, "filter.createdUntil": TIME}),
    _asked("POST", "/v1/books/{book}/codes/change", "manage",
           {"action": "assign", "users": ["u"], "filter": {"codes": ["NONE"]}}, "action", fields={"users": NAMED_USERS},
           never_null=frozenset({"users"})),
    *(_asked("POST", f"/v1/jobs/{{job}}/{verb}", "manage", {}, fields={}) for verb in ("pause", "resume", "cancel")),
    _asked("POST", "/v1/coupons/user-specific", "manage", {"userId": "u"} | _FLAT_DISCOUNT, "userId", fields=_SINGLE),
    _asked("POST", "/v1/coupons/time-specific", "manage", _WINDOW | _FLAT_DISCOUNT, " ".join(_WINDOW), fields=_SINGLE),
    _asked("POST", "/v1/coupons/generate", "manage", _FLAT_DISCOUNT, fields=_SINGLE),
    _asked("PATCH", "/v1/coupons/{code}", "manage", {}, fields={"status": COUPON_STATUS, "expiresAt": TIME}),
    _asked("POST", "/v1/users", "manage", {"userId": "u"}, "userId",
           fields={"userId": ID, "maxCoupons": COUNT, "metadata": metadata(4 << 10)}),
    _asked("PATCH", "/v1/users/{user}", "manage", {}, fields={"maxCoupons": COUNT, "metadata": metadata(4 << 10)}),
    _asked("POST", "/v1/ops/reconcile", "operate", {}, fields={"repair": SWITCH}),
    _asked("POST", "/v1/ops/quarantine/{event}", "operate", {"choice": "settle"}, "choice", fields={"choice": CHOICE}),
    _asked("POST", "/v1/keys", "operate", {"name": "k", "scopes": ["public"]}, "name scopes",
           fields={"name": text(1, 255), "scopes": SCOPES, "expiresAt": TIME, "limits": OBJECT}),
    _asked("PATCH", "/v1/keys/{key}", "operate", {"limits": None}, fields={"limits": OBJECT}),
    _asked("POST", "/v1/keys/{key}/rotate", "operate", {"overlapSeconds": 0},
           fields={"overlapSeconds": number(30 * 86_400, least=0)}),
    _asked("POST", "/v1/webhooks", "operate", {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]},
           "url events", fields={"url": HOOK_URL, "events": EVENTS, "description": text(0, 2000)}),
    _asked("PATCH", "/v1/webhooks/{webhook}", "operate", {}, never_null=frozenset(("url", "events", "status")),
           fields={"url": HOOK_URL, "events": EVENTS, "description": text(0, 2000), "status": HOOK_STATUS}),
    _asked("POST", "/v1/webhooks/{webhook}/rotate", "operate", {"overlapSeconds": 0},
           fields={"overlapSeconds": number(30 * 86_400, least=0)}),
    _asked("POST", "/v1/webhooks/{webhook}/test", "operate", {}, fields={}),
    _asked("POST", "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", "operate", {}, fields={}),
    _asked("PATCH", "/v1/workspace", "operate", {},
           fields={"currency": CURRENCY, "couponsPerOrder": number(100), "orderDays": number(4000),
                   "maxCoupons": COUNT, "giftBookId": GIFT_BOOK, "idempotencyHours": number(8760), "limits": OBJECT,
                   "lockHistory": SWITCH}),
    _asked("PATCH", "/v1/workspace", "operate", {"limits": {"keys": {}, "books": {}}},
           fields={f"limits.{name}": kind for name, kind in _KEY_LIMITS.items()}
           | {f"limits.books.{name}": kind for name, kind in _BOOK_LIMITS.items()}),
    _asked("PATCH", "/v1/books/{book}", "manage", {"limits": {}},
           fields={f"limits.{name}": kind for name, kind in _BOOK_LIMITS.items()}),
    _asked("POST", "/v1/test/clock", "admin", {"now": None}, fields={"now": CLOCK}),
)  # fmt: skip


def send(
    service: Service, asked: Asked, place: Place, content: bytes | Iterable[bytes], query: str = "", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client: httpx.Client = getattr(service, asked.scope)
    path = filled(asked.path, place) + query
    return client.request(asked.method, path, content=content, headers={"Content-Type": "application/json"} | named)


@contextmanager
def unchanged(service: Service) -> Iterator[None]:
    """Check that all that both stores hold of its workspace is as before."""
    before = service.held()
    yield
    assert service.held() == before


PAUSED_CHANGE = """
INSERT INTO jobs (job_id, workspace, kind, book, parameters, status, requested, before)
SELECT $2, workspace, 'change', book, '{"action": "switchOff", "filter": {"codes": ["NONE"]}}', 'paused', 1, 1
FROM books WHERE book_id = $1"""


def make_paused_change(service: Service, book: str) -> str:
    """A job that changes codes of a book, and is paused."""
    job = str(uuid7())
    asyncio.run(service.fetch(PAUSED_CHANGE, book, job))
    return job


QUARANTINED = """
INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r) VALUES ($1, 1, $2, 'unrecorded', '', $3, '{}')
ON CONFLICT DO NOTHING"""


def make_quarantined(service: Service) -> str:
    """An event in quarantine of which too little is known to record it, so that it stays; return its id."""
    decided = f"R {service.number} 1 {new_code()}".encode()
    asyncio.run(service.fetch(QUARANTINED, service.partition, service.number, decided))
    return f"1-{service.number}"


def make_place(service: Service) -> Place:
    """A book with a free code, one that was redeemed, and its order."""
    code, used, order, user = new_code(), new_code(), new_id("order"), new_id()
    book = service.book(code, used)
    redeemed = service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": user, "orderId": order})
    redemption = ok(redeemed, 201)["redemptionId"]
    unknown = {name: str(uuid4()) for name in ("key", "webhook", "delivery", "job", "event")}
    return {"book": book, "code": code, "user": user, "order": order, "redemption": redemption} | unknown
