"""Settings that make no sense, alone or together with what stands: for new books, changed ones, and all the others."""

from typing import Any

from tests.integration.refusals_table import NOBODYS, Case

_EARLY, _LATE = "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"
_SMALL = {"codePattern": "R-######", "charset": "0123456789"}


def _tiers(*froms: Any) -> dict[str, Any]:
    tiers = [{"from": from_, "type": "fixed", "value": 1} for from_ in froms]
    return {"discount": {"type": "tiered", "tiers": tiers}}


def _discount(**said: Any) -> dict[str, Any]:
    return {"discount": said}


BOOK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("validUntil", {"validFrom": _LATE, "validUntil": _EARLY}),
    ("validUntil", {"validFrom": _EARLY, "validUntil": _EARLY}),
    ("validUntil", {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-01-01T01:00:00+01:00"}),
    ("validFrom", {"validFrom": "1969-12-31T23:59:59Z"}),
    *((field, {field: value})
      for field in ("maxRedemptionsPerCode", "maxRedemptionsPerUser", "maxRedemptions", "maxCodesPerUser",
                    "lowStockThreshold", "keepFree", "lockSeconds", "maxLockSeconds")
      for value in (0, -1, -(2**31))),
    ("lockSeconds", {"lockSeconds": 3601}),
    ("lockSeconds", {"lockSeconds": 61, "maxLockSeconds": 60}),
    ("lockSeconds", {"maxLockSeconds": 299}),
    ("codePattern", {"codePattern": "###"}),
    ("codePattern", {"codePattern": "####  ####"}),
    ("codePattern", {"codePattern": "REDEEM"}),
    ("charset", {"charset": "A"}),
    ("charset", {"charset": "aA"}),
    ("giftBookId", {"giftBookId": NOBODYS}),
    ("giftBookId", {"giftBookId": "{rivals}"}),
    ("status", {"status": "open"}),
    ("tags[0]", {"tags": [""]}),
    ("metadata", {"metadata": {"a": "x" * 4096}}),
    ("discount.tiers", _tiers()),
    ("discount.tiers[1].from", _tiers(20, 10)),
    ("discount.tiers[1].from", _tiers(20, "20.00")),
    ("discount.tiers[2].from", _tiers(10, 30, 20)),
    ("discount.tiers[0].from", _tiers(-1)),
    ("discount.value", _discount(type="percentage", value=100.5)),
    ("discount.value", _discount(type="percentage", value=0)),
    ("discount.value", _discount(type="fixed", value=-5)),
    ("discount.value", _discount(type="fixed", value="5.001")),
    ("discount.value", _discount(type="fixed", value="0.5", currency="JPY")),
    ("discount.maxAmount", _discount(type="percentage", value=5, maxAmount=-1)),
    ("discount.minOrderValue", _discount(type="percentage", value=5, minOrderValue="1.001")),
    ("discount.currency", _discount(type="percentage", value=5, currency="XXX")),
    ("discount.buy", _discount(type="buyXGetY", buy=0, get=1)),
    ("discount.get", _discount(type="buyXGetY", buy=1, get=-1)),
)  # fmt: skip
"""Field and what is said, at POST and at PATCH alike."""

_SINGLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("validUntil", {"validFrom": _LATE, "validUntil": _EARLY}),
    ("maxUsesPerUser", {"maxUsesPerUser": 0}),
    ("maxTotalUses", {"maxTotalUses": -1}),
    ("discountValue", {"discountType": "percentage", "discountValue": 101}),
    ("discountValue", {"discountType": "fixed", "discountValue": "0.001"}),
    ("discountValue", {"discountType": "fixed"}),
    ("discountType", {"discountValue": 5}),
    ("maxDiscountAmount", {"maxDiscountAmount": 5}),
    ("minOrderValue", {"minOrderValue": 5}),
    ("currency", {"currency": "USD"}),
    ("code", {"code": "ACTIVE"}),
)
_WORKSPACE: tuple[tuple[str, Any], ...] = (
    ("couponsPerOrder", 0), ("couponsPerOrder", 101), ("maxCoupons", 0), ("maxCoupons", -1), ("currency", "XXX"),
    ("giftBookId", NOBODYS), ("giftBookId", "{rivals}"), ("idempotencyHours", 0), ("idempotencyHours", 8761),
)  # fmt: skip

NONSENSE = (
    *(Case("invalid", "POST", "/v1/books", {"name": "n"} | said, field) for field, said in BOOK),
    *(Case("invalid", "POST", "/v1/coupons", {"name": "n"} | said, field) for field, said in BOOK[:3]),
    *(Case("invalid", "PATCH", "/v1/books/{free_book}", said, field) for field, said in BOOK),
    Case("invalid", "POST", "/v1/books", {"name": ""}, "name"),
    Case("invalid", "POST", "/v1/books", {"name": "n", "totalCodes": 0}, "totalCodes"),
    Case("invalid", "PATCH", "/v1/books/{free_book}", {"giftBookId": "{free_book}"}, "giftBookId"),
    Case("invalid", "PATCH", "/v1/books/{windowed_book}", {"validUntil": "2026-12-31T00:00:00Z"}, "validUntil"),
    Case("invalid", "PATCH", "/v1/books/{windowed_book}", {"validFrom": "2027-02-01T00:00:00Z"}, "validUntil"),
    Case("invalid", "PATCH", "/v1/books/{spent_book}", {"maxRedemptionsPerCode": 3}, "maxRedemptionsPerCode"),
    Case("invalid", "PATCH", "/v1/books/{held_book}", {"maxRedemptionsPerCode": None}, "maxRedemptionsPerCode"),
    *(Case("pattern_too_small", "POST", path, {"name": "n", "keepFree": 101} | _SMALL, "keepFree")
      for path in ("/v1/books", "/v1/coupons")),
    *(Case("pattern_too_small", "POST", path, {"name": "n", "totalCodes": 101} | _SMALL, "codePattern")
      for path in ("/v1/books", "/v1/coupons")),
    Case("pattern_too_small", "POST", "/v1/books", {"name": "n", "totalCodes": 1, "codePattern": "SUMMER"},
         "codePattern"),
    *(Case("pattern_too_small", "PATCH", "/v1/books/{small_book}", said, "keepFree")
      for said in ({"keepFree": 101}, {"codePattern": "R-#####"}, {"charset": "012345678"})),
    Case("pattern_too_small", "POST", "/v1/books/{small_book}/codes/generate", {"count": 101}, "codePattern"),
    Case("pattern_too_small", "POST", "/v1/books/{free_book}/codes/generate",
         {"count": 1, "codePattern": "AB##"}, "codePattern"),
    Case("invalid", "POST", "/v1/books/{free_book}/codes/generate", {"count": 0}, "count"),
    Case("invalid", "POST", "/v1/books/{free_book}/codes/generate", {"count": 10_000_001}, "count"),
    *(Case("invalid", "POST", "/v1/coupons/generate", said, field) for field, said in _SINGLE),
    *(Case("invalid", "POST", "/v1/coupons/user-specific", {"userId": "{ann}"} | said, field)
      for field, said in _SINGLE),
    *(Case("invalid", "POST", "/v1/coupons/time-specific",
           {"validFrom": _EARLY, "validUntil": _LATE, "maxUsesPerUser": 1} | said, field) for field, said in _SINGLE),
    *(Case("invalid", "PATCH", "/v1/workspace", {field: value}, field) for field, value in _WORKSPACE),
    *(Case("invalid", "POST", "/v1/users", {"userId": "{fresh}", "maxCoupons": value}, "maxCoupons")
      for value in (0, -1)),
    *(Case("invalid", "PATCH", "/v1/users/{fresh}", {"maxCoupons": value}, "maxCoupons") for value in (0, -1)),
    Case("invalid", "PATCH", "/v1/coupons/{free}", {"expiresAt": "1969-12-31T23:59:59Z"}, "expiresAt"),
    Case("invalid", "PATCH", "/v1/coupons/{free}", {"status": "archived"}, "status"),
    Case("invalid", "POST", "/v1/keys", {"name": "k", "scopes": []}, "scopes"),
    *(Case("invalid", "POST", "/v1/webhooks", {"url": url, "events": ["coupon.redeemed"]}, "url")
      for url in ("http://shop.example/", "https://10.0.0.1/", "https://shop/", "https://a@shop.example/")),
    Case("invalid", "POST", "/v1/webhooks", {"url": "https://shop.example/", "events": []}, "events"),
    Case("invalid", "POST", "/v1/keys", {"name": "k", "scopes": ["public"], "expiresAt": "2026-01-01T00:00:00Z"},
         "expiresAt"),
)  # fmt: skip
