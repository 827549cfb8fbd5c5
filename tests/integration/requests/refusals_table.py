"""Requests that are refused: every refusal that can be reached, at every address that may answer it."""

from typing import Any

from tests.cases import NOBODYS, Case, Place
from tests.described import descriptions
from tests.service_fixture import Service, new_code, new_id, ok


def make_place(service: Service, rival: Service) -> Place:
    """Make what each refusal needs, for the users ann and bob; and a book of another workspace."""
    place = {name: new_id() for name in ("ann", "bob", "full", "fresh")}
    place |= {name: new_id("order") for name in ("taken", "undone", "given", "new")}
    place |= {"rivals": rival.book(), "own": service.workspace}
    _make_books(service, place)
    _use(service, place)
    _lock(service, place)
    aliases = {"book": "free_book", "code": "free", "user": "ann", "order": "taken", "redemption": "rolled"}
    return place | {name: place[of] for name, of in aliases.items()} | {"event": "1-1"}


def _make_books(service: Service, place: Place) -> None:
    past, future = "2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"
    discount = {"type": "fixed", "value": 5, "minOrderValue": 10}
    books: dict[str, tuple[int, dict[str, Any]]] = {
        "free": (3, {}),
        "off": (1, {}),
        "dark": (1, {"status": "inactive"}),
        "early": (1, {"validFrom": future}),
        "late": (1, {"validUntil": past}),
        "ended": (1, {}),
        "unowned": (1, {"requireAssignment": True}),
        "bobs": (1, {}),
        "held": (1, {}),
        "must": (1, {"requireLock": True}),
        "used": (1, {}),
        "spent": (1, {"maxRedemptionsPerCode": 2}),
        "capped": (2, {"maxRedemptionsPerUser": 1}),
        "sold": (2, {"maxRedemptions": 1}),
        "priced": (1, {"discount": discount}),
        "one": (2, {"maxCodesPerUser": 1}),
        "empty": (0, {}),
        "many": (2, {"maxCodesPerUser": None}),
        "ceiling": (1, {"lockSeconds": 3600}),
        "held_off": (1, {}),
        "held_dark": (1, {}),
        "owned_held": (1, {}),
        "owned_used": (1, {}),
        "owned_spent": (1, {"maxRedemptionsPerCode": 2}),
        "undone_code": (1, {}),
        "gifts": (2, {}),
        "small": (0, {"codePattern": "R-######", "charset": "0123456789", "keepFree": 100, "status": "archived"}),
        "windowed": (0, {"validFrom": "2027-01-01T00:00:00Z", "validUntil": "2027-02-01T00:00:00Z"}),
    }
    for name, (codes, fields) in books.items():
        made = [new_code() for _ in range(codes)]
        place[f"{name}_book"] = service.book(*made, **fields)
        place |= {name + suffix: code for suffix, code in zip(("", "_2", "_3"), made, strict=False)}
    ok(service.manage.patch(f"/v1/coupons/{place['off']}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/coupons/{place['ended']}", json={"expiresAt": past}))
    ok(service.manage.post("/v1/users", json={"userId": place["full"], "maxCoupons": 1}), 201)


def _use(service: Service, place: Place) -> None:
    ann, bob = place["ann"], place["bob"]

    def assign(name: str, user: str) -> None:
        ok(service.checkout.post(f"/v1/coupons/assign/{place[name]}", json={"userId": user}), 201)

    def redeem(name: str, user: str, order: str | None = None) -> str:
        body = {"userId": user, "orderId": order}
        return ok(service.checkout.post(f"/v1/coupons/redeem/{place[name]}", json=body), 201)["redemptionId"]

    for name, user in (("bobs", bob), ("one_2", ann), ("many_2", place["full"]), ("owned_held", ann),
                       ("owned_used", ann), ("owned_spent", ann)):  # fmt: skip
        assign(name, user)
    redeem("used", ann, place["taken"])
    for name, user in (("spent", bob), ("spent", bob), ("capped_2", ann), ("sold_2", bob), ("owned_used", ann),
                       ("owned_spent", ann), ("owned_spent", ann)):  # fmt: skip
        redeem(name, user)
    place["rolled"] = redeem("undone_code", ann, place["undone"])
    ok(service.manage.post(f"/v1/orders/{place['undone']}/rollback", json={}))
    gift = {"bookId": place["gifts_book"], "orderId": place["given"]}
    ok(service.checkout.post(f"/v1/users/{ann}/gifts", json=gift), 201)
    place["key"] = new_id("key")
    place |= {"webhook": NOBODYS, "delivery": NOBODYS, "job": NOBODYS}
    ok(service.manage.post("/v1/users", json={"userId": ann}, headers={"Idempotency-Key": place["key"]}), 201)


def _lock(service: Service, place: Place) -> None:
    for name, user in (("held", "bob"), ("ceiling", "ann"), ("held_off", "ann"), ("held_dark", "ann"),
                       ("owned_held", "ann")):  # fmt: skip
        made = service.checkout.post(f"/v1/coupons/lock/{place[name]}", json={"userId": place[user]})
        place[f"{name}_token"] = ok(made, 201)["lockToken"]
    ok(service.manage.patch(f"/v1/coupons/{place['held_off']}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/books/{place['held_dark_book']}", json={"status": "inactive"}))


HOT = tuple(case for description in descriptions() for case in description.refusals)

_BOOK = f"/v1/books/{NOBODYS}"
_CODES = {"codes": ["GOOD-1"]}
_FIXED = {"discountType": "fixed", "discountValue": 5}

OTHERS = (
    *(Case("book_not_found", "GET", f"{_BOOK}{rest}")
      for rest in ("", "/stats", "/redemptions", "/redemptions.csv", "/codes", "/codes.csv", "/notices")),
    Case("book_not_found", "PATCH", _BOOK, {"name": "x"}),
    Case("book_not_found", "PATCH", _BOOK, {"maxRedemptionsPerCode": 2}),
    Case("book_not_found", "POST", f"{_BOOK}/codes", _CODES),
    Case("book_not_found", "POST", f"{_BOOK}/codes", b"code\nGOOD-1\n", kind="text/csv"),
    Case("book_not_found", "POST", f"{_BOOK}/codes/rejected.csv", b"code\nGOOD-1\n", kind="text/csv"),
    Case("book_not_found", "POST", f"{_BOOK}/codes/generate", {"count": 1}),
    Case("book_not_found", "POST", f"{_BOOK}/codes/change", {"action": "release"}),
    Case("book_not_found", "POST", "/v1/coupons/codes", {"bookId": NOBODYS} | _CODES),
    *(Case("coupon_not_found", "GET", f"/v1/coupons/{name}/redemptions") for name in ("NO-SUCH-CODE", "a.b")),
    Case("coupon_not_found", "PATCH", "/v1/coupons/NO-SUCH-CODE", {"status": "inactive"}),
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
    *(Case("not_found", method, "/v1/nothing/here", {}) for method in ("GET", "POST", "PATCH", "DELETE")),
    *(Case("method_not_allowed", method, path, {}) for method, path in (
        ("DELETE", "/v1/books"), ("PUT", "/v1/books/{free_book}"), ("PUT", "/v1/checkout"), ("GET", "/v1/checkout"),
        ("DELETE", "/v1/coupons/{free}"), ("PATCH", "/v1/users"), ("GET", "/v1/coupons/redeem/{free}"))),
    *(Case("code_exists", "POST", f"/v1/coupons/{kind}", {"code": "{used}"} | _FIXED | more) for kind, more in (
        ("user-specific", {"userId": "{ann}"}), ("generate", {}), ("time-specific", {
            "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2036-01-01T00:00:00Z", "maxUsesPerUser": 1}))),
    Case("forbidden", "POST", "/v1/test/clock", {"now": "2030-01-01T00:00:00Z"}),
    Case("forbidden", "POST", "/v1/checkout", {"userId": "{ann}"}, key="{own}_public"),
    Case("forbidden", "PATCH", "/v1/workspace", {"couponsPerOrder": 2}, key="{own}_manage"),
    Case("unauthenticated", "POST", "/v1/checkout", {"userId": "{ann}"}, key="nobodys"),
    Case("unauthenticated", "PATCH", "/v1/workspace", {"couponsPerOrder": 2}, key="nobodys"),
    Case("too_large", "POST", "/v1/coupons/redeem/{free}", b" " * 65_537),
    Case("too_large", "POST", "/v1/checkout", b" " * 65_537),
    Case("too_large", "POST", "/v1/batch", b" " * ((1 << 20) + 1)),
    *(Case("unsupported_media_type", "POST", path, b"userId=u", kind="application/x-www-form-urlencoded") for path in (
        "/v1/coupons/redeem/{free}", "/v1/checkout", "/v1/books", "/v1/books/{free_book}/codes", "/v1/batch")),
    *(Case("malformed", "POST", path, b"{", "body") for path in (
        "/v1/coupons/redeem/{free}", "/v1/checkout", "/v1/books", "/v1/books/{free_book}/codes", "/v1/batch")),
    Case("malformed", "POST", "/v1/books/{free_book}/codes", b"colour\nred\n", "header", kind="text/csv"),
)  # fmt: skip

CASES = HOT + OTHERS
