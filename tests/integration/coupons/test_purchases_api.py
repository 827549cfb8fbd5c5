"""Checkout and notices over HTTP, as Postgres records them."""

from tests.harness.service_fixture import Service, new_code, new_id, ok, pages


async def test_a_purchase_is_recorded_as_one_change(service: Service) -> None:
    """Redemption and gift have the same event; the gift's assignment names the order."""
    code, given, user, order = new_code(), new_code(), new_id(), new_id("order")
    service.book(code, discount={"type": "percentage", "value": 10}, giftBookId=service.book(given))
    purchase = {"code": code, "userId": user, "orderId": order, "orderValue": "40.00"}
    headers = {"Prefer": "durability=recorded, wait=10"}
    body = ok(service.checkout.post("/v1/checkout", json=purchase, headers=headers), 201)
    assert list(body) == ["redemption", "gift", "finalAmount", "durability"]
    assert body["redemption"]["discountAmount"] == "4.00"
    assert (body["finalAmount"], body["durability"]) == ("36.00", "recorded")
    assert {"code": given, "userId": user, "status": "assigned"}.items() <= body["gift"].items()
    assert ok(service.checkout.post("/v1/checkout", json=purchase, headers=headers), 200) == body
    (row,) = await service.fetch(
        "SELECT a.code, a.order_id, a.user_id, a.assigned_at = r.redeemed_at AS together FROM assignments a"
        " JOIN redemptions r USING (partition, epoch, seq) WHERE r.redemption_id = $1",
        body["redemption"]["redemptionId"],
    )
    assert tuple(row) == (given, order, user, True)
    held = ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]
    assert [coupon["code"] for coupon in held] == [given]


def test_notices_are_listed(service: Service) -> None:
    """GET notices returns each crossing of a threshold, newest first, page by page."""
    codes = [new_code() for _ in range(3)]
    book = service.book(*codes, lowStockThreshold=2)
    assert ok(service.manage.get(f"/v1/books/{book}/notices")) == {"items": [], "nextCursor": None}
    for code in codes:
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
    ok(service.manage.post(f"/v1/books/{book}/codes", json={"codes": [new_code(), new_code()]}))
    ok(service.checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": new_id()}), 201)
    notices = [item for page in pages(service.manage, f"/v1/books/{book}/notices", limit=2) for item in page]
    low, out = ("book.low_stock", "codes", 1), ("book.exhausted", "codes", 0)
    assert [(item["event"], item["of"], item["left"]) for item in notices] == [low, out, low]
    assert list(notices[0]) == ["event", "of", "left", "at"]
