"""Gifts, checkout and notices over HTTP, as they are recorded in Postgres."""

from typing import Any

import httpx

from tests.service_fixture import Service, new_code, new_id, ok, pages, refused

RECORDED = {"Prefer": "durability=recorded, wait=10"}
TENTH = {"type": "percentage", "value": 10}


def _buy(service: Service, *, key: str = "", **said: Any) -> httpx.Response:
    headers = RECORDED | ({"Idempotency-Key": key} if key else {})
    return service.checkout.post("/v1/checkout", json=said, headers=headers)


def _order(value: str = "40.00") -> dict[str, str]:
    return {"userId": new_id(), "orderId": new_id("order"), "orderValue": value}


async def test_a_purchase_is_recorded_as_one_change(service: Service) -> None:
    """Redemption and gift have the same event; the gift's assignment names the order."""
    code, given = new_code(), new_code()
    gifts = service.book(given)
    service.book(code, discount=TENTH, giftBookId=gifts)
    order = _order()
    body = ok(_buy(service, code=code, **order), 201)
    assert list(body) == ["redemption", "gift", "finalAmount", "durability"]
    assert (body["redemption"]["discountAmount"], body["finalAmount"], body["durability"]) == (
        "4.00",
        "36.00",
        "recorded",
    )
    assert (body["gift"]["code"], body["gift"]["userId"], body["gift"]["status"]) == (
        given,
        order["userId"],
        "assigned",
    )
    assert ok(_buy(service, code=code, **order), 200) == body
    (row,) = await service.fetch(
        "SELECT a.code, a.order_id, a.user_id, a.assigned_at = r.redeemed_at AS together FROM assignments a"
        " JOIN redemptions r USING (partition, epoch, seq) WHERE r.redemption_id = $1",
        body["redemption"]["redemptionId"],
    )
    assert tuple(row) == (given, order["orderId"], order["userId"], True)
    held = ok(service.checkout.get(f"/v1/users/{order['userId']}/coupons"))["items"]
    assert [coupon["code"] for coupon in held] == [given]


def test_an_orders_rollback_takes_the_gift(service: Service) -> None:
    """Both are free again and in no list; an order with nothing but a gift is rolled back too, once."""
    code, given = new_code(), new_code()
    gifts = service.book(given)
    service.book(code, giftBookId=gifts)
    order = _order()
    ok(_buy(service, code=code, **order), 201)
    for left in (1, 0):
        rolled = service.manage.post(f"/v1/orders/{order['orderId']}/rollback", json={}, headers=RECORDED)
        assert [item["code"] for item in ok(rolled)["items"]] == [code][:left]
        refused(service.manage.post(f"/v1/orders/{order['orderId']}/rollback", json={}), 409, "already_rolled_back")
        assert ok(service.checkout.get(f"/v1/users/{order['userId']}/coupons"))["items"] == []
        assert service.stats(gifts)["available"] == 1
        path = f"/v1/users/{order['userId']}/gifts"
        ok(service.checkout.post(path, json={"bookId": gifts, "orderId": order["orderId"]}), 201)
    refused(service.manage.post("/v1/orders/no-such-order/rollback", json={}), 404, "order_not_found")


def test_a_gift_may_be_bought_with(service: Service) -> None:
    """The gift of one order is the coupon of the next, and of nobody else's."""
    gifts = service.book(totalCodes=3, discount={"type": "fixed", "value": 5})
    order = _order()
    path = f"/v1/users/{order['userId']}/gifts"
    asked = {"bookId": gifts, "orderId": order["orderId"]}
    first = service.checkout.post(path, json=asked)
    while first.status_code == 409:  # the codes are being made
        first = service.checkout.post(path, json=asked)
    code = ok(first, 201)["code"]
    assert ok(service.checkout.post(path, json=asked, headers=RECORDED), 200)["durability"] == "recorded"
    refused(service.checkout.post(f"/v1/users/{new_id()}/gifts", json=asked), 409, "order_already_used")
    refused(_buy(service, code=code, **_order()), 409, "coupon_assigned_to_other")
    bought = ok(_buy(service, code=code, **_order() | {"userId": order["userId"]}), 201)
    assert (bought["finalAmount"], bought["gift"]) == ("35.00", None)


def test_a_key_answers_as_before(service: Service) -> None:
    """Status and body of the first success, marked as replayed, whatever became of gift and redemption."""
    code = new_code()
    service.book(code, giftBookId=service.book(new_code()))
    order, key = _order(), new_id()
    first = _buy(service, key=key, code=code, **order)
    ok(service.manage.post(f"/v1/orders/{order['orderId']}/rollback", json={}))
    again = _buy(service, key=key, code=code, **order)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    refused(_buy(service, key=key, code=code, **order | {"orderValue": "1"}), 422, "idempotency_key_reused")


def test_notices_are_listed(service: Service) -> None:
    """Low and out, newest first, page by page; another crossing is another notice."""
    codes = [new_code() for _ in range(3)]
    book = service.book(*codes, lowStockThreshold=2)
    assert ok(service.manage.get(f"/v1/books/{book}/notices")) == {"items": [], "nextCursor": None}
    for code in codes:
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
    ok(service.manage.post(f"/v1/books/{book}/codes", json={"codes": [new_code(), new_code()]}))
    ok(service.checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": new_id()}), 201)
    found = [item for page in pages(service.manage, f"/v1/books/{book}/notices", limit=2) for item in page]
    told = [(item["event"], item["of"], item["left"]) for item in found]
    low, out = ("book.low_stock", "codes", 1), ("book.exhausted", "codes", 0)
    assert told == [low, out, low]
    assert list(found[0]) == ["event", "of", "left", "at"]
    refused(service.manage.get(f"/v1/books/{book}/notices", params={"cursor": "x"}), 400, "malformed", "cursor")
    refused(service.rival_manage.get(f"/v1/books/{book}/notices"), 404, "book_not_found")
