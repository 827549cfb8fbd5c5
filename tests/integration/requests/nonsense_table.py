"""Settings that contradict each other or what is stored: for new books, changed ones, and all the others.

tests/unit/test_books.py and test_single.py have the rules of one request; test_bad_requests.py the bounds of fields.
"""

from typing import Any

from tests.cases import NOBODYS, Case

_EARLY, _LATE = "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"
_SMALL = {"codePattern": "R-######", "charset": "0123456789"}
_TIERS = [{"from": from_, "type": "fixed", "value": 1} for from_ in (20, 10)]

_BOOK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("validUntil", {"validFrom": _LATE, "validUntil": _EARLY}),
    ("lockSeconds", {"maxLockSeconds": 299}),
    ("giftBookId", {"giftBookId": NOBODYS}),
    ("giftBookId", {"giftBookId": "{rivals}"}),
    ("discount.tiers[1].from", {"discount": {"type": "tiered", "tiers": _TIERS}}),
    ("discount.value", {"discount": {"type": "fixed", "value": "0.5", "currency": "JPY"}}),
)
"""Field and settings, for POST and PATCH alike."""

_SINGLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("validUntil", {"validFrom": _LATE, "validUntil": _EARLY}),
    ("discountValue", {"discountType": "fixed", "discountValue": "0.001"}),
)

NONSENSE = (
    *(Case("invalid", "POST", "/v1/books", {"name": "n"} | fields, field) for field, fields in _BOOK),
    *(Case("invalid", "POST", "/v1/coupons", {"name": "n"} | fields, field) for field, fields in _BOOK[:1]),
    *(Case("invalid", "PATCH", "/v1/books/{free_book}", fields, field) for field, fields in _BOOK),
    Case("invalid", "PATCH", "/v1/books/{free_book}", {"giftBookId": "{free_book}"}, "giftBookId"),
    Case("invalid", "PATCH", "/v1/books/{windowed_book}", {"validUntil": "2026-12-31T00:00:00Z"}, "validUntil"),
    Case("invalid", "PATCH", "/v1/books/{windowed_book}", {"validFrom": "2027-02-01T00:00:00Z"}, "validUntil"),
    Case("invalid", "PATCH", "/v1/books/{spent_book}", {"maxRedemptionsPerCode": 3}, "maxRedemptionsPerCode"),
    Case("invalid", "PATCH", "/v1/books/{held_book}", {"maxRedemptionsPerCode": None}, "maxRedemptionsPerCode"),
    Case("pattern_too_small", "POST", "/v1/books", {"name": "n", "keepFree": 101} | _SMALL, "keepFree"),
    *(Case("pattern_too_small", "POST", path, {"name": "n", "totalCodes": 101} | _SMALL, "codePattern")
      for path in ("/v1/books", "/v1/coupons")),
    Case("pattern_too_small", "PATCH", "/v1/books/{small_book}", {"keepFree": 101}, "keepFree"),
    Case("pattern_too_small", "POST", "/v1/books/{small_book}/codes/generate", {"count": 101}, "codePattern"),
    Case("pattern_too_small", "POST", "/v1/books/{free_book}/codes/generate",
         {"count": 1, "codePattern": "AB##"}, "codePattern"),
    *(Case("invalid", "POST", f"/v1/coupons/{kind}", more | fields, field) for field, fields in _SINGLE
      for kind, more in (("generate", {}), ("user-specific", {"userId": "{ann}"}),
                         ("time-specific", {"validFrom": _EARLY, "validUntil": _LATE, "maxUsesPerUser": 1}))),
    *(Case("invalid", "PATCH", "/v1/workspace", {"giftBookId": book}, "giftBookId") for book in (NOBODYS, "{rivals}")),
    Case("invalid", "POST", "/v1/keys", {"name": "k", "scopes": ["public"], "expiresAt": "2026-01-01T00:00:00Z"},
         "expiresAt"),
)  # fmt: skip
