"""Every request with a body: its address, a good body, and the values that each of its fields refuses."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from uuid_utils.compat import uuid7

from tests.service_fixture import Service, new_code, new_id, ok

Place = dict[str, str]
_TYPES: tuple[Any, ...] = (1, 1.5, True, "x", [], {})


@dataclass(frozen=True)
class Kind:
    """Values that a field refuses as malformed (400) and as invalid (422); bytes are put into the body as they are."""

    malformed: tuple[Any, ...] = ()
    invalid: tuple[Any, ...] = ()
    not_found: tuple[Any, ...] = ()
    """Values that no id of the service has."""


def _but(*fitting: type, also: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """A value of each JSON type except these, and others."""
    return tuple(value for value in _TYPES if type(value) not in fitting) + also


def _text(shortest: int, longest: int) -> Kind:
    controls = ("a\nb", "a\0", "a\x7f", "a\x85", "a\u2028b", "a\u200bb")
    return Kind(_but(str), (*([""] if shortest else []), "x" * (longest + 1), *controls))


def _number(largest: int, least: int = 1) -> Kind:
    return Kind(_but(int, also=(b"1.0", b"1e3")), (least - 1, -1, largest + 1, 2**31, 10**30, -(10**30)))


def _metadata(most_bytes: int) -> Kind:
    invalid = ({"a": "x" * most_bytes}, {"a": "\0"}, {"\x1f": 1}, {"a": {"b": ["\n"]}})
    return Kind(_but(dict), invalid)


ID = Kind(_but(str), ("", "x" * 101, "a b", "a/b", "a?b", "a%b", "..", "é", "a\n", "a\0", "\u212a"))
OWN_ID = Kind(
    _but(str), (), ("", "x", "0" * 36, "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11", "019aa0b26f0c7b528a0e5d1f3d1f9c11")
)
COUNT = _number(2**31 - 1)
MANY = _number(10_000_000)
SWITCH = Kind(_but(bool))
TOKEN = Kind(_but(str), ("", "x" * 65, "a b", "é", "a\n"))
CURRENCY = Kind(_but(str), ("", "usd", "US", "USDX", "XXX", "€"))
_NO_AMOUNTS = ("", "NaN", "-Infinity", "1_000", "1e3")
"""tests/unit/test_decoding.py has more of them."""
MONEY = Kind(
    _but(int, float, also=_NO_AMOUNTS),
    (-1, "-0.01", 10**11, "100000000000.00", b"1e999", b"0.00001", "1.00001", "1" * 400, "1." + "1" * 400, "0" * 101),
)
TIME = Kind(
    _but(str, also=("x", "", "2027-01-01", "2027-01-01T00:00:00", "2027-13-01T00:00:00Z", "2027-02-30T00:00:00Z")),
    ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
)
CLOCK = Kind(TIME.malformed, (*TIME.invalid, "9900-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"))
BOOK_STATUS = Kind(_but(str), ("", "ACTIVE", "purple"))
COUPON_STATUS = Kind(_but(str), ("", "ACTIVE", "archived"))
DISCOUNT_TYPE = Kind(_but(str), ("", "Percentage", "free"))
PERCENTAGE = Kind(_but(int, float, also=_NO_AMOUNTS), (0, -1, "100.0001", 101, "0.00001", b"1e999", "33.33333"))
PATTERN = Kind(_but(str), ("", "###", "#" * 65, "#### ####", "é###", "LOCK", "####\n"))
CHARSET = Kind(_but(str), ("", "A", "AA", "aA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", "A B", "AÉ", "AB#"))
TAGS = Kind(_but(list, also=([1], [None])), ([""], ["x" * 101], ["a\n"], ["x"] * 21))
CODES = Kind(_but(list, also=([1], ["GOOD-1", None], [["GOOD-1"]])))
NAMED_CODES = Kind(CODES.malformed, ([], ["a b"], ["LOCK"], ["GOOD-1"] * 1001))
NAMED_USERS = Kind(CODES.malformed, ([], ["a b"], ["é"], [""], ["u"] * 1001))
STATUSES = Kind(_but(list, also=([1], [None])), ([], ["locked"], [""]))
PREFIX = Kind(_but(str), ("", "x" * 65, "a b", "é", "a\n"))
CHANGE = Kind(_but(str), ("", "delete"))
ITEMS = Kind(_but(list, also=([1], [None])), ([{"sku": "a", "quantity": 1, "unitPrice": 1}] * 1001,))
EVENTS = Kind(_but(list, also=([1], [None])), ([], ["coupon.sold"], ["coupon.redeemed"] * 2, [""]))
CHOICE = Kind(_but(str), ("", "drop"))
HOOK_STATUS = Kind(_but(str), ("", "ACTIVE", "deleted"))
HOOK_URL = Kind(
    _but(str),
    ("", "x", "http://shop.example/", "https://user@shop.example/", "https://10.0.0.1/", "https://shop/",
     "https://shop.example/" + "x" * 2048),
)  # fmt: skip
SCOPES = Kind(_but(list, also=([1], [None])), ([], ["root"], ["manage", "manage"], [""]))
OPERATIONS = Kind(_but(list), ([], [{}] * 1001))
"""A problem within one operation is in that operation's own result."""
ANY_CODE = Kind(_but(str))
GIFT_BOOK = Kind(_but(str))
OBJECT = Kind(_but(dict))

TIERS = Kind(
    _but(list, also=([1], [None])),
    ([], [{"from": n, "type": "fixed", "value": 1} for n in range(21)]),
)

_DISCOUNT = {"type": "percentage", "value": 20}
_TIERED = {"type": "tiered", "tiers": [{"from": 10, "type": "percentage", "value": 20}]}
_BUY_GET = {"type": "buyXGetY", "buy": 2, "get": 1}
_ITEM = {"sku": "a", "quantity": 1, "unitPrice": "5.00"}


@dataclass(frozen=True)
class Asked:
    """A request; `{book}` and the like in its path are replaced by names of a Place."""

    method: str
    path: str
    scope: str
    good: dict[str, Any]
    fields: dict[str, Kind]
    required: frozenset[str] = field(default_factory=frozenset)
    never_null: frozenset[str] = field(default_factory=frozenset)
    """Fields that may be left out, but not be null."""
    hot: bool = False

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}"


def _asked(method: str, path: str, scope: str, good: dict[str, Any], required: str = "", **more: Any) -> Asked:
    return Asked(method, path, scope, good, required=frozenset(required.split()), **more)


NEW_CODE = Kind(_but(str), ("", "ABC", "x" * 65, "a bc", "é123", "A.BC", "ABCD\n", "LOCK", "Generate", "time-specific"))

_ORDER = {
    "orderId": ID, "orderValue": MONEY, "currency": CURRENCY, "lockToken": TOKEN, "metadata": _metadata(1 << 10),
    "items": ITEMS,
}  # fmt: skip
_LINE = {"items.0.sku": _text(1, 255), "items.0.quantity": _number(1_000_000), "items.0.unitPrice": MONEY}
_ROLLBACK = {"reason": _text(0, 500), "restore": SWITCH}
_BOOK = {
    "description": _text(0, 2000), "status": BOOK_STATUS, "validFrom": TIME, "validUntil": TIME,
    "maxRedemptionsPerCode": COUNT, "maxRedemptionsPerUser": COUNT, "maxRedemptions": COUNT, "maxCodesPerUser": COUNT,
    "requireAssignment": SWITCH, "requireLock": SWITCH, "lockSeconds": COUNT, "maxLockSeconds": COUNT,
    "discount": OBJECT, "codePattern": PATTERN, "charset": CHARSET, "lowStockThreshold": COUNT, "keepFree": MANY,
    "giftBookId": GIFT_BOOK, "tags": TAGS, "metadata": _metadata(4 << 10), "createdBy": _text(1, 255),
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
    "minOrderValue": MONEY, "currency": CURRENCY, "description": _text(0, 2000), "createdBy": _text(1, 255),
}  # fmt: skip

_KEY_LIMITS = {
    f"keys.{name}": COUNT for name in ("requestsPerMinute", "missesPerMinute", "addressMissesPerMinute", "liveLocks")
}
_BOOK_LIMITS = {"missesPerMinute": COUNT, "locksPerUser": COUNT, "lockedPercent": _number(100)}

REQUESTS = (
    _asked("POST", "/v1/coupons/assign", "checkout", {"bookId": "{book}", "userId": "u"}, "bookId userId",
           fields={"bookId": OWN_ID, "userId": ID}, hot=True),
    _asked("POST", "/v1/coupons/assign/{code}", "checkout", {"userId": "u"}, "userId", fields={"userId": ID}, hot=True),
    _asked("POST", "/v1/coupons/unassign/{code}", "manage", {}, fields={}, hot=True),
    _asked("POST", "/v1/coupons/lock/{code}", "checkout", {"userId": "u"}, "userId", hot=True,
           fields={"userId": ID, "orderId": ID, "lockSeconds": COUNT}),
    _asked("POST", "/v1/coupons/extend/{code}", "checkout", {"lockToken": "t"}, "lockToken", hot=True,
           fields={"lockToken": TOKEN, "lockSeconds": COUNT}),
    _asked("POST", "/v1/coupons/unlock/{code}", "checkout", {"lockToken": "t"}, "lockToken", hot=True,
           fields={"lockToken": TOKEN}),
    _asked("POST", "/v1/coupons/redeem/{code}", "checkout", {"userId": "u"}, "userId", hot=True,
           fields={"userId": ID} | _ORDER),
    _asked("POST", "/v1/coupons/redeem/{code}", "checkout", {"userId": "u", "items": [_ITEM]}, hot=True, fields=_LINE,
           required="items.0.sku items.0.quantity items.0.unitPrice"),
    _asked("POST", "/v1/coupons/validate", "public", {"code": "{code}"}, "code", hot=True,
           fields={"code": ANY_CODE, "userId": ID} | _ORDER),
    _asked("POST", "/v1/users/{user}/gifts", "checkout", {"bookId": "{book}", "orderId": "gift"}, "bookId orderId",
           fields={"bookId": OWN_ID, "orderId": ID}, hot=True),
    _asked("POST", "/v1/checkout", "checkout", {"userId": "u", "orderId": "o", "orderValue": 1},
           "userId orderId orderValue", hot=True,
           fields={name: kind for name, kind in _ORDER.items() if name != "metadata"}
           | {"userId": ID, "code": ANY_CODE, "giftBookId": OWN_ID}),
    _asked("POST", "/v1/checkout", "checkout",
           {"userId": "u", "orderId": "o", "orderValue": 1, "items": [_ITEM]}, hot=True, fields=_LINE,
           required="items.0.sku items.0.quantity items.0.unitPrice"),
    _asked("POST", "/v1/batch", "checkout", {"operations": [{"op": "validate", "code": "ABCD"}]}, "operations",
           fields={"operations": OPERATIONS}),
    _asked("POST", "/v1/redemptions/{redemption}/rollback", "manage", {}, fields=_ROLLBACK, hot=True),
    _asked("POST", "/v1/orders/{order}/rollback", "manage", {}, fields=_ROLLBACK, hot=True),
    _asked("POST", "/v1/books", "manage", {"name": "n"}, "name",
           fields={"name": _text(1, 255), "totalCodes": MANY} | _BOOK),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _DISCOUNT}, "discount.type discount.value",
           fields=_BOOKS_DISCOUNT),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _TIERED}, " ".join(_TIERS), fields=_TIERS),
    _asked("POST", "/v1/books", "manage", {"name": "n", "discount": _BUY_GET}, "discount.buy discount.get",
           fields=_UNITS),
    _asked("POST", "/v1/coupons", "manage", {"name": "n"}, "name", fields={"name": _text(1, 255)}),
    _asked("PATCH", "/v1/books/{book}", "manage", {}, fields={"name": _text(1, 255)} | _BOOK,
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
           fields={"userId": ID, "maxCoupons": COUNT, "metadata": _metadata(4 << 10)}),
    _asked("PATCH", "/v1/users/{user}", "manage", {}, fields={"maxCoupons": COUNT, "metadata": _metadata(4 << 10)}),
    _asked("POST", "/v1/ops/reconcile", "operate", {}, fields={"repair": SWITCH}),
    _asked("POST", "/v1/ops/quarantine/{event}", "operate", {"choice": "settle"}, "choice", fields={"choice": CHOICE}),
    _asked("POST", "/v1/keys", "operate", {"name": "k", "scopes": ["public"]}, "name scopes",
           fields={"name": _text(1, 255), "scopes": SCOPES, "expiresAt": TIME, "limits": OBJECT}),
    _asked("PATCH", "/v1/keys/{key}", "operate", {"limits": None}, fields={"limits": OBJECT}),
    _asked("POST", "/v1/keys/{key}/rotate", "operate", {"overlapSeconds": 0},
           fields={"overlapSeconds": _number(30 * 86_400, least=0)}),
    _asked("POST", "/v1/webhooks", "operate", {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]},
           "url events", fields={"url": HOOK_URL, "events": EVENTS, "description": _text(0, 2000)}),
    _asked("PATCH", "/v1/webhooks/{webhook}", "operate", {}, never_null=frozenset(("url", "events", "status")),
           fields={"url": HOOK_URL, "events": EVENTS, "description": _text(0, 2000), "status": HOOK_STATUS}),
    _asked("POST", "/v1/webhooks/{webhook}/rotate", "operate", {"overlapSeconds": 0},
           fields={"overlapSeconds": _number(30 * 86_400, least=0)}),
    _asked("POST", "/v1/webhooks/{webhook}/test", "operate", {}, fields={}),
    _asked("POST", "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", "operate", {}, fields={}),
    _asked("PATCH", "/v1/workspace", "operate", {},
           fields={"currency": CURRENCY, "couponsPerOrder": _number(100), "orderDays": _number(4000),
                   "maxCoupons": COUNT, "giftBookId": GIFT_BOOK, "idempotencyHours": _number(8760), "limits": OBJECT,
                   "lockHistory": SWITCH}),
    _asked("PATCH", "/v1/workspace", "operate", {"limits": {"keys": {}, "books": {}}},
           fields={f"limits.{name}": kind for name, kind in _KEY_LIMITS.items()}
           | {f"limits.books.{name}": kind for name, kind in _BOOK_LIMITS.items()}),
    _asked("PATCH", "/v1/books/{book}", "manage", {"limits": {}},
           fields={f"limits.{name}": kind for name, kind in _BOOK_LIMITS.items()}),
    _asked("POST", "/v1/test/clock", "admin", {"now": None}, fields={"now": CLOCK}),
)  # fmt: skip


def filled(template: Any, place: Place) -> Any:
    """The template with the place's names in it."""
    if isinstance(template, str):
        return template.format_map(place) if "{" in template else template
    if isinstance(template, dict):
        return {name: filled(value, place) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, place) for value in template]
    return template


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
INSERT INTO code_changes (job_id, workspace, book, parameters, status, requested, before)
SELECT $2, workspace, book, '{"action": "switchOff", "filter": {"codes": ["NONE"]}}', 'paused', 1, 1
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
