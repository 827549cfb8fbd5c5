"""Requests that are refused: every refusal that can be reached, at every address that may answer it.

tests/unit/test_books.py and test_single.py have the rules of one request; test_bad_requests.py the bounds of fields.
"""

import gzip
from typing import Any

from tests.harness.cases import NOBODYS, Case
from tests.harness.described import descriptions
from tests.harness.tokens import hmac_token

_EXPIRED = hmac_token(
    {"alg": "HS256", "kid": "1"}, {"iss": "https://id.example/", "aud": "scrip", "sub": "ann", "exp": 1}, b"secret"
)

HOT = tuple(case for description in descriptions() for case in description.refusals)

_BOOK = f"/v1/books/{NOBODYS}"
_CODES = {"codes": ["GOOD-1"]}
_FIXED = {"discountType": "fixed", "discountValue": 5}

OTHERS = (
    *(Case("book_not_found", "GET", f"{_BOOK}{rest}")
      for rest in ("", "/stats", "/redemptions", "/redemptions.csv", "/codes", "/codes.csv", "/notices")),
    *(Case("book_not_found", "GET", f"/v1/reports/{name}?bookId={NOBODYS}")
      for name in ("redemptions", "redemptions.csv", "funnel", "funnel.csv", "liability", "liability.csv")),
    Case("book_not_found", "PATCH", _BOOK, {"name": "x"}),
    Case("book_not_found", "PATCH", _BOOK, {"maxRedemptionsPerCode": 2}),
    Case("book_not_found", "POST", f"{_BOOK}/codes", _CODES),
    Case("book_not_found", "POST", f"{_BOOK}/codes", b"code\nGOOD-1\n", kind="text/csv"),
    Case("book_not_found", "POST", f"{_BOOK}/codes/rejected.csv", b"code\nGOOD-1\n", kind="text/csv"),
    Case("book_not_found", "POST", f"{_BOOK}/codes/generate", {"count": 1}),
    Case("book_not_found", "POST", f"{_BOOK}/codes/change", {"action": "release"}),
    Case("book_not_found", "POST", "/v1/coupons/codes", {"bookId": NOBODYS} | _CODES),
    *(Case("coupon_not_found", "GET", f"/v1/coupons/{name}/{rest}") for name in ("NO-SUCH-CODE", "a.b")
      for rest in ("redemptions", "ledger")),
    Case("coupon_not_found", "PATCH", "/v1/coupons/NO-SUCH-CODE", {"status": "inactive"}),
    *(Case("redemption_not_found", "GET", f"/v1/redemptions/{name}") for name in (NOBODYS, "x")),
    Case("order_not_found", "GET", "/v1/orders/never-was"),
    *(Case("job_not_found", "GET", f"/v1/jobs/{name}") for name in (NOBODYS, "x", "{free_book}")),
    Case("job_not_found", "GET", f"/v1/jobs/{NOBODYS}/results.csv"),
    *(Case("event_not_found", "POST", f"/v1/ops/quarantine/{at}", {"choice": "retry"})
      for at in ("1-1", "x", NOBODYS, f"{2**64}-1", f"1-{2**63 - 1}")),
    *(Case("job_not_found", "POST", f"/v1/jobs/{NOBODYS}/{verb}", {}) for verb in ("pause", "resume", "cancel")),
    *(Case("not_found", "DELETE", f"/v1/keys/{name}") for name in (NOBODYS, "x")),
    *(Case("not_found", method, f"/v1/webhooks/{NOBODYS}{rest}", body) for method, rest, body in (
        ("GET", "", None), ("PATCH", "", {"status": "inactive"}), ("DELETE", "", None), ("POST", "/rotate", {}),
        ("POST", "/test", {}), ("GET", "/deliveries", None),
        ("GET", f"/deliveries/{NOBODYS}", None), ("POST", f"/deliveries/{NOBODYS}/redeliver", {}))),
    *(Case("not_found", "POST", f"/v1/keys/{name}/rotate", {}) for name in (NOBODYS, "x")),
    *(Case("not_found", "PATCH", f"/v1/keys/{name}", {"limits": None}) for name in (NOBODYS, "x")),
    *(Case("not_found", method, f"/v1/users/a%20b{rest}", body) for method, rest, body in (
        ("GET", "", None), ("GET", "/coupons", None), ("GET", "/redemptions", None), ("PATCH", "", {"maxCoupons": 1}),
        ("DELETE", "", None))),
    *(Case("not_found", method, "/v1/nothing/here", {}, says="`/schema` lists all addresses and methods.")
      for method in ("GET", "POST", "PATCH", "DELETE")),
    *(Case("method_not_allowed", method, path, {}) for method, path in (
        ("DELETE", "/v1/books"), ("PUT", "/v1/checkout"), ("GET", "/v1/checkout"),
        ("DELETE", "/v1/coupons/{free}"), ("PATCH", "/v1/users"))),
    *(Case("code_exists", "POST", f"/v1/coupons/{kind}", {"code": "{used}"} | _FIXED | more) for kind, more in (
        ("user-specific", {"userId": "{ann}"}), ("generate", {}), ("time-specific", {
            "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2036-01-01T00:00:00Z", "maxUsesPerUser": 1}))),
    Case("forbidden", "POST", "/v1/test/clock", {"now": "2030-01-01T00:00:00Z"}),
    Case("forbidden", "POST", "/v1/checkout", {"userId": "{ann}"}, key="{own}_public"),
    Case("forbidden", "PATCH", "/v1/workspace", {"couponsPerOrder": 2}, key="{own}_manage"),
    Case("unauthenticated", "POST", "/v1/checkout", {"userId": "{ann}"}, key="nobodys"),
    Case("unauthenticated", "PATCH", "/v1/workspace", {"couponsPerOrder": 2}, key="nobodys"),
    Case("too_large", "POST", "/v1/checkout", b" " * 65_537),
    Case("too_large", "POST", "/v1/batch", b" " * ((1 << 20) + 1)),
    *(Case("unsupported_media_type", "POST", path, b"userId=u", kind="application/x-www-form-urlencoded") for path in (
        "/v1/checkout", "/v1/books", "/v1/books/{free_book}/codes", "/v1/batch")),
    *(Case("malformed", "POST", path, b"{", "body") for path in (
        "/v1/checkout", "/v1/books", "/v1/books/{free_book}/codes", "/v1/batch")),
    Case("malformed", "POST", "/v1/books/{free_book}/codes", b"colour\nred\n", "header", kind="text/csv"),
)  # fmt: skip

_EARLY, _LATE = "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"
_SMALL = {"codePattern": "R-######", "charset": "0123456789"}
_TIERS = [{"from": from_, "type": "fixed", "value": 1} for from_ in (20, 10)]

_RULES: tuple[tuple[str, dict[str, Any]], ...] = (
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
    *(Case("invalid", "POST", "/v1/books", {"name": "n"} | fields, field) for field, fields in _RULES),
    *(Case("invalid", "POST", "/v1/coupons", {"name": "n"} | fields, field) for field, fields in _RULES[:1]),
    *(Case("invalid", "PATCH", "/v1/books/{free_book}", fields, field) for field, fields in _RULES),
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
"""Settings that contradict each other or what is stored: for new books, changed ones, and all the others."""

_REDEEM, _USER = "/v1/coupons/redeem/{free}", {"userId": "ann"}
_UPLOAD = "/v1/books/{free_book}/codes"
_FORM = "application/x-www-form-urlencoded"
_KEY = "Authorization: Bearer"


def _said(code: str, request: str, says: str, body: dict[str, Any] | bytes | None = None, **more: Any) -> Case:
    method, _, path = request.partition(" ")
    return Case(code, method, path, body, says=says, **more)


MISTAKES = (
    _said("unauthenticated", f"POST {_REDEEM}", "create a key with", _USER, key="sk_live_nothing"),
    _said("unauthenticated", f"POST {_REDEEM}", _KEY, _USER, key=None, headers={"X-Api-Key": "demo_checkout"}),
    _said("unauthenticated", f"POST {_REDEEM}", _KEY, _USER, key=None, headers={"Authorization": "demo_checkout"}),
    _said("unauthenticated", f"POST {_REDEEM}", "has expired. Get a new token", _USER, key=_EXPIRED),
    _said("unauthenticated", "GET /v1/books/{free_book}", "The header `Authorization` is missing.", key=None),
    _said("unauthenticated", "GET /v1/books/{free_book}", "The API key in `Authorization` does not exist", key="wrong"),
    _said("forbidden", f"POST {_REDEEM}", "an API key with the scope checkout", _USER, key="{own}_public"),
    _said("book_not_found", "GET /v1/books/{free_book}", "test workspaces", key="trial_admin"),
    _said("not_found", "POST /v1/coupons/{free}/redeem", "perhaps `POST /v1/coupons/redeem/{code}`", _USER),
    *(_said("not_found", f"POST /v1{sent}", f"perhaps `POST /v1/coupons{meant}`", _USER) for sent, meant in (
        ("/coupons/redeem", "/redeem/{code}"), ("/redeem", "/redeem/{code}"), ("/validate", "/validate"))),
    _said("not_found", "GET /books", "perhaps `GET /v1/books`"),
    _said("not_found", "GET /v1/book", "perhaps `GET /v1/books` is meant."),
    _said("not_found", "GET /v1/webhooks/{free_book}", "`GET /v1/webhooks` lists them"),
    _said("method_not_allowed", f"GET {_REDEEM}", "accepts POST, not GET. Repeat the request with that method."),
    _said("method_not_allowed", "DELETE /v1/books/{free_book}", "GET, PATCH, not DELETE. `/schema` says", {}),
    _said("method_not_allowed", "PUT /v1/audit", "This address accepts GET, not PUT.", {}),
    _said("coupon_not_found", "POST /v1/coupons/redeem/" + "A" * 65, "65 characters", _USER),
    _said("unsupported_media_type", f"POST {_REDEEM}", "Send the body in that format", b"userId=ann", kind=_FORM),
    _said("unsupported_media_type", f"POST {_REDEEM}",
          "the `Content-Type` text/xml; this address accepts application/json.", b"{}", kind="text/xml"),
    _said("unsupported_media_type", f"POST {_UPLOAD}", "save it as CSV in UTF-8, and send it as text/csv.", b"x",
          kind="application/vnd.ms-excel"),
    _said("unsupported_media_type", f"POST {_UPLOAD}", "has the `Content-Encoding` gzip. Decompress the body,", b"x",
          headers={"Content-Encoding": "gzip"}),
    _said("malformed", f"POST {_UPLOAD}", "the file is an Excel workbook or a ZIP archive; save it as CSV in UTF-8.",
          b"PK\x03\x04x", kind="text/csv"),
    _said("malformed", f"POST {_UPLOAD}", "is not valid JSON in UTF-8: the body is compressed with gzip.",
          gzip.compress(b"code\n", mtime=0)),
    *(_said("malformed", f"POST {_REDEEM}", f"valid JSON in UTF-8: {says}", body) for says, body in (
        ("trailing comma", b'{"userId": "ann",}'), ("object keys must be strings in double quotes", b"{'userId': 'a'}"),
        ("it begins with a byte order mark", b'\xef\xbb\xbf{"userId": "ann"}'),
        ("the byte 0xe4 is of another encoding", b'{"userId": "\xe4"}'))),
    _said("malformed", f"POST {_REDEEM}", "userId: is required", {"orderId": "A-1"}),
    _said("malformed", f"POST {_REDEEM}", "user_id: is not a field", {"user_id": "ann"}),
    _said("malformed", f"POST {_REDEEM}", "such as 25.00", _USER | {"orderValue": "25.00 USD"}),
    _said("malformed", "POST /v1/books", "must have an offset", {"name": "Sale", "validUntil": "2036-12-01T00:00:00"}),
    _said("malformed", "GET /v1/users?cursor={cursor}", "`nextCursor` of this list"),
    _said("malformed", "GET /v1/books?Limit=3", "Limit is not a field of this request; perhaps limit"),
    _said("invalid", f"POST {_REDEEM}", "without space", {"userId": "Ann Lee"}),
    _said("invalid", "POST /v1/coupons/redeem/{priced}", "at most 4 digits after the point, but is 0.3",
          _USER | {"orderValue": 0.1 + 0.2}),
    _said("invalid", f"POST {_REDEEM}", "0 or more, but is -1", _USER | {"orderValue": -1}),
    _said("invalid", f"POST {_REDEEM}", "at most 8 levels", _USER | {"metadata": {"m": [[[[[[[[]]]]]]]]}}),
    _said("invalid", f"POST {_REDEEM}", "1024 bytes as JSON, but has 1206", _USER | {"metadata": {"m": "x" * 1198}}),
    _said("user_redemption_limit", "POST /v1/coupons/redeem/{capped}", "per user: 1. Live locks count too.",
          {"userId": "{ann}"}),
    _said("pattern_too_small", "POST /v1/books", "has 1 possible code; 2 codes need",
          {"name": "n", "codePattern": "AB-CD", "totalCodes": 2}),
    _said("invalid", "GET /v1/books?limit=100000", "at most 1000"),
    _said("order_value_required", "POST /v1/coupons/redeem/{priced}", "send the order's value", _USER),
    _said("order_already_used", f"POST {_REDEEM}", "order", {"userId": "{ann}", "orderId": "{taken}"}),
    _said("coupon_redeemed", "POST /v1/coupons/redeem/{used}", "already been used", _USER),
    _said("coupon_locked", "POST /v1/coupons/redeem/{held}", "locked", _USER),
    _said("too_large", f"POST {_REDEEM}", "The body has 65,537 bytes; this address accepts at most 65,536.",
          b" " * 65_537),
)  # fmt: skip
"""The most likely mistakes of a developer who begins with the API, and what each answer must tell them."""

CASES = HOT + OTHERS + NONSENSE + MISTAKES
