"""Every operation, the scopes that authorize it, and a request that does it, with names of `make_place`.

A route that isn't here fails tests/integration/access/test_matrix.py.
"""

from typing import Any, NamedTuple

from tests.cases import Place
from tests.described import descriptions
from tests.integration.requests.requests_table import make_paused_change, make_quarantined
from tests.service_fixture import Service, new_code, new_id, ok
from tests.waiting import until

ANYONE = ""


class Row(NamedTuple):
    """An operation; `{book}` and the like are replaced by names of a place."""

    route: str
    """Its name in the OpenAPI document."""
    scopes: str
    """A key needs one of these; `user` is for users' tokens."""
    path: str = ""
    """The request's path; by default the route."""
    body: dict[str, Any] | None = None
    another: str | None = None
    """The refusal of another workspace's key with the scope; '' for an answer about that workspace."""
    other: int = 403
    """The status for another user's token."""

    @property
    def method(self) -> str:
        return self.route.split(" ")[0]

    @property
    def address(self) -> str:
        return self.path or self.route.split(" ")[1]


_BOOK, _COUPON = "book_not_found", "coupon_not_found"
_WINDOW = {"validFrom": "2026-01-01T00:00:00Z", "validUntil": "2036-01-01T00:00:00Z", "maxUsesPerUser": 1}
_BATCH = [
    {"op": "lock", "code": "{free1}", "userId": "{ann}"},
    {"op": "redeem", "code": "{free1}", "userId": "{ann}"},
    {"op": "validate", "code": "{free1}", "userId": "{ann}"},
    {"op": "assign", "bookId": "{book}", "userId": "{ann}"},
]
_DISCOUNTS = (
    {"type": "percentage", "value": 10},
    {"type": "fixed", "value": "5.00", "currency": "EUR"},
    {"type": "tiered", "tiers": [{"from": 0, "type": "fixed", "value": 1}], "maxAmount": 5},
    {"type": "buyXGetY", "buy": 2, "get": 1},
)
_SWITCH_OFF = {"action": "switchOff", "filter": {"codes": ["NO-SUCH-CODE"]}}
_LISTENS = {"url": "https://nobody.invalid/", "events": ["reconcile.drift"]}

ROWS = (
    Row("GET /health/live", ANYONE),
    Row("GET /health/ready", ANYONE),
    Row("GET /v1/ops/consistency", "operate", another=""),
    Row("POST /v1/ops/reconcile", "operate", body={}, another=""),
    Row("GET /v1/ops/quarantine", "operate", another=""),
    Row("POST /v1/ops/quarantine/{eventId}", "operate", "/v1/ops/quarantine/{event}", {"choice": "settle"},
        another="event_not_found"),
    Row("GET /v1/audit", "operate", another=""),
    Row("GET /v1/audit.csv", "operate", another=""),
    Row("GET /v1/books", "manage", another=""),
    Row("GET /v1/coupons", "manage", another=""),
    Row("POST /v1/books", "manage", body={"name": "Made"}, another=""),
    Row("POST /v1/coupons", "manage", body={"name": "Made"}, another=""),
    Row("GET /v1/books/{bookId}", "manage", "/v1/books/{book}", another=_BOOK),
    Row("PATCH /v1/books/{bookId}", "manage", "/v1/books/{book}", {"name": "Changed"}, another=_BOOK),
    Row("GET /v1/books/{bookId}/stats", "manage", "/v1/books/{book}/stats", another=_BOOK),
    Row("GET /v1/books/{bookId}/redemptions", "manage", "/v1/books/{book}/redemptions", another=_BOOK),
    Row("GET /v1/books/{bookId}/notices", "manage", "/v1/books/{book}/notices", another=_BOOK),
    Row("GET /v1/books/{bookId}/redemptions.csv", "manage", "/v1/books/{book}/redemptions.csv", another=_BOOK),
    Row("GET /v1/books/{bookId}/codes", "manage", "/v1/books/{book}/codes", another=_BOOK),
    Row("GET /v1/books/{bookId}/codes.csv", "manage", "/v1/books/{book}/codes.csv", another=_BOOK),
    Row("POST /v1/books/{bookId}/codes", "manage", "/v1/books/{book}/codes", {"codes": ["{new1}"]}, another=_BOOK),
    Row("POST /v1/books/{bookId}/codes/rejected.csv", "manage", "/v1/books/{book}/codes/rejected.csv",
        {"codes": ["bad code"]}, another=_BOOK),
    Row("POST /v1/books/{bookId}/codes/generate", "manage", "/v1/books/{book}/codes/generate", {"count": 1},
        another=_BOOK),
    Row("POST /v1/books/{bookId}/codes/change", "manage", "/v1/books/{book}/codes/change", _SWITCH_OFF, another=_BOOK),
    Row("POST /v1/coupons/codes", "manage", body={"bookId": "{book}", "codes": ["{new2}"]}, another=_BOOK),
    Row("POST /v1/coupons/user-specific", "manage", body={"userId": "{ann}"}, another=""),
    Row("POST /v1/coupons/time-specific", "manage", body=_WINDOW, another=""),
    Row("POST /v1/coupons/generate", "manage", body={}, another=""),
    Row("GET /v1/coupons/active/time-specific", "checkout manage", another=""),
    *(Row(one.row.route, one.scopes, one.path, one.body, one.another, one.other) for one in descriptions()),
    Row("POST /v1/batch", "checkout user", body={"operations": _BATCH}, another="", other=200),
    Row("GET /v1/coupons/{code}/validate", "public checkout user", "/v1/coupons/{free5}/validate?userId={ann}",
        another=""),
    Row("PATCH /v1/coupons/{code}", "manage", "/v1/coupons/{free7}", {"status": "inactive"}, another=_COUPON),
    Row("GET /v1/coupons/{code}/redemptions", "manage", "/v1/coupons/{used}/redemptions", another=_COUPON),
    Row("GET /v1/users", "checkout manage", another=""),
    Row("POST /v1/users", "manage", body={"userId": "{nobody}"}, another=""),
    Row("GET /v1/users/{userId}", "checkout manage user", "/v1/users/{ann}", another=""),
    Row("PATCH /v1/users/{userId}", "manage", "/v1/users/{ann}", {"maxCoupons": 99}, another=""),
    Row("GET /v1/users/{userId}/coupons", "checkout manage user", "/v1/users/{ann}/coupons", another=""),
    Row("GET /v1/users/{userId}/redemptions", "checkout manage user", "/v1/users/{ann}/redemptions", another=""),
    Row("GET /v1/jobs/{jobId}", "manage operate", "/v1/jobs/{job}", another="job_not_found"),
    Row("GET /v1/jobs/{jobId}/results.csv", "manage", "/v1/jobs/{change1}/results.csv", another="job_not_found"),
    Row("POST /v1/jobs/{jobId}/pause", "manage", "/v1/jobs/{change1}/pause", {}, another="job_not_found"),
    Row("POST /v1/jobs/{jobId}/cancel", "manage", "/v1/jobs/{change1}/cancel", {}, another="job_not_found"),
    Row("POST /v1/jobs/{jobId}/resume", "manage", "/v1/jobs/{change2}/resume", {}, another="job_not_found"),
    Row("GET /v1/keys", "operate", another=""),
    Row("POST /v1/keys", "operate", body={"name": "made", "scopes": ["public"]}, another=""),
    Row("POST /v1/keys/{keyId}/rotate", "operate", "/v1/keys/{key1}/rotate", {}, another="not_found"),
    Row("PATCH /v1/keys/{keyId}", "operate", "/v1/keys/{key1}", {"limits": None}, another="not_found"),
    Row("DELETE /v1/keys/{keyId}", "operate", "/v1/keys/{key2}", another="not_found"),
    Row("GET /v1/webhooks", "operate", another=""),
    Row("POST /v1/webhooks", "operate", body=_LISTENS, another=""),
    Row("GET /v1/webhooks/{webhookId}", "operate", "/v1/webhooks/{webhook1}", another="not_found"),
    Row("PATCH /v1/webhooks/{webhookId}", "operate", "/v1/webhooks/{webhook1}", {"description": "changed"},
        another="not_found"),
    Row("POST /v1/webhooks/{webhookId}/rotate", "operate", "/v1/webhooks/{webhook1}/rotate", {}, another="not_found"),
    Row("POST /v1/webhooks/{webhookId}/test", "operate", "/v1/webhooks/{webhook1}/test", {}, another="not_found"),
    Row("GET /v1/webhooks/{webhookId}/deliveries", "operate", "/v1/webhooks/{webhook1}/deliveries",
        another="not_found"),
    Row("GET /v1/webhooks/{webhookId}/deliveries/{deliveryId}", "operate",
        "/v1/webhooks/{webhook1}/deliveries/{delivery}", another="not_found"),
    Row("POST /v1/webhooks/{webhookId}/deliveries/{deliveryId}/redeliver", "operate",
        "/v1/webhooks/{webhook1}/deliveries/{delivery}/redeliver", {}, another="not_found"),
    Row("DELETE /v1/webhooks/{webhookId}", "operate", "/v1/webhooks/{webhook2}", another="not_found"),
    Row("GET /v1/workspace", "operate", another=""),
    Row("PATCH /v1/workspace", "operate", body={"maxCoupons": 77}, another=""),
    Row("POST /v1/test/clock", "operate", body={"now": None}, another=""),
    Row("DELETE /v1/users/{userId}", "manage", "/v1/users/{zed}", another=""),
)  # fmt: skip


def make_place(service: Service) -> Place:
    """Make what the requests need."""
    admin = service.admin
    place = {name: new_id() for name in ("ann", "zed", "nobody")}
    place |= {name: new_id("order") for name in ("order", "order2", "order3", "used_order")}
    names = [*(f"free{number}" for number in range(1, 8)), "assigned", "locked", "used", "undone"]
    place |= {name: new_code() for name in (*names, "new1", "new2")}
    spare = [new_code() for _ in range(5)]
    place["book"] = service.book(*(place[name] for name in names), *spare)
    for discount in _DISCOUNTS:
        service.book(discount=discount, tags=["x"], metadata={"a": [1]}, limits={"lockedPercent": 50})
    ok(admin.post("/v1/users", json={"userId": place["ann"], "metadata": {"note": "anns"}}), 201)
    ok(admin.post("/v1/users", json={"userId": place["zed"]}), 201)
    ok(admin.post(f"/v1/coupons/assign/{place['assigned']}", json={"userId": place["ann"]}), 201)
    lock = ok(admin.post(f"/v1/coupons/lock/{place['locked']}", json={"userId": place["ann"]}), 201)
    place["token"] = lock["lockToken"]
    body = {"userId": place["ann"], "orderId": place["used_order"]}
    ok(admin.post(f"/v1/coupons/redeem/{place['used']}", json=body), 201)
    undone = ok(admin.post(f"/v1/coupons/redeem/{place['undone']}", json={"userId": place["ann"]}), 201)
    place["redemption"] = undone["redemptionId"]
    place["job"] = ok(admin.post(f"/v1/books/{place['book']}/codes/generate", json={"count": 1}), 202)["jobId"]
    until(lambda: ok(admin.get(f"/v1/jobs/{place['job']}"))["status"] == "done")
    for name in ("change1", "change2"):
        place[name] = make_paused_change(service, place["book"])
    for name in ("key1", "key2"):
        place[name] = ok(admin.post("/v1/keys", json={"name": name, "scopes": ["public"]}), 201)["keyId"]
    for name in ("webhook1", "webhook2"):
        place[name] = ok(admin.post("/v1/webhooks", json=_LISTENS), 201)["webhookId"]
        ok(admin.patch(f"/v1/webhooks/{place[name]}", json={"status": "inactive"}))  # or failures would change it
    place["delivery"] = ok(admin.post(f"/v1/webhooks/{place['webhook1']}/test", json={}), 202)["deliveryId"]
    place["event"] = make_quarantined(service)
    return place
