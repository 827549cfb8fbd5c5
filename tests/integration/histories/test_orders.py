"""An order as shops read it: its redemptions, its gift, and what its live locks hold."""

from typing import Any

import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.serving import own_workspace
from tests.harness.waiting import until

service = own_workspace("live")

TENTH = {"type": "percentage", "value": 10}
CARD = {"type": "balance", "value": "30.00", "currency": "USD"}


def _order(service: Service, order: str) -> dict[str, Any]:
    service.recorded()
    return ok(service.checkout.get(f"/v1/orders/{order}"))


def test_what_is_known_of_an_order(service: Service) -> None:
    """A coupon and a card are held, then redeemed, and one is rolled back: each is listed with its amounts."""
    order, user, coupon, card = new_id("order"), new_id("user"), new_code(), new_code()
    ok(service.operate.patch("/v1/workspace", json={"couponsPerOrder": 2}))
    book = service.book(coupon, discount=TENTH)
    cards = service.book(card, discount=CARD, maxRedemptionsPerCode=None)
    path, body = f"/v1/orders/{order}", {"userId": user, "orderId": order, "orderValue": 80}
    refused(service.checkout.get(path), 404, "order_not_found")

    held = ok(service.checkout.post(f"/v1/coupons/lock/{coupon}", json=body), 201)
    part = ok(service.checkout.post(f"/v1/coupons/lock/{card}", json=body | {"amount": 12}), 201)
    known = _order(service, order)
    assert (known["userId"], known["redemptions"], known["gift"]) == (user, [], None)
    assert (known["discountAmount"], known["finalAmount"]) == ("0.00", None)
    amounts = {"orderValue": "80.00", "currency": "USD", "userId": user}
    assert known["locks"] == [
        amounts
        | {"code": coupon, "bookId": str(book), "expiresAt": held["expiresAt"]}
        | {"discountAmount": "8.00", "finalAmount": "72.00", "amount": None},
        amounts
        | {"code": card, "bookId": str(cards), "expiresAt": part["expiresAt"]}
        | {"discountAmount": "12.00", "finalAmount": "68.00", "amount": "12.00"},
    ]
    assert held["lockToken"] not in service.checkout.get(path).text

    again = ok(service.checkout.post(f"/v1/coupons/lock/{card}", json=body | {"amount": 9}))
    assert again["lockToken"] == part["lockToken"]
    assert _order(service, order)["locks"][1]["amount"] == "9.00"

    paid = [ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201) for code in (coupon, card)]
    for one in paid:
        del one["durability"]
    known = _order(service, order)
    assert known["redemptions"] == paid[::-1]
    assert (known["locks"], known["discountAmount"], known["finalAmount"]) == ([], "17.00", "63.00")

    ok(service.manage.post(f"/v1/redemptions/{paid[1]['redemptionId']}/rollback", json={}))
    known = _order(service, order)
    assert [one["rolledBackAt"] is None for one in known["redemptions"]] == [False, True]
    assert (known["discountAmount"], known["finalAmount"]) == ("8.00", "72.00")


@pytest.mark.parametrize("uses", [1, 5])
def test_an_order_of_which_the_last_lock_ended(service: Service, uses: int) -> None:
    """It is unknown, whether the lock was released or expired; a lock without an order's value is listed."""
    order, user, code = new_id("order"), new_id("user"), new_code()
    service.book(code, maxRedemptionsPerCode=uses)
    path, body = f"/v1/orders/{order}", {"userId": user, "orderId": order}
    held = ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)
    (lock,) = _order(service, order)["locks"]
    assert (lock["code"], lock["orderValue"], lock["discountAmount"]) == (code, None, None)
    released = service.checkout.post(f"/v1/coupons/unlock/{code}", json={"lockToken": held["lockToken"]})
    assert released.status_code == 204
    refused(service.checkout.get(path), 404, "order_not_found")
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body | {"lockSeconds": 1}), 201)
    assert len(_order(service, order)["locks"]) == 1
    until(lambda: service.checkout.get(path).status_code == 404, "the lock's end")


def test_an_order_that_has_a_gift_alone(service: Service) -> None:
    order, user = new_id("order"), new_id("user")
    code = new_code()
    book = service.book(code)
    ok(service.checkout.post(f"/v1/users/{user}/gifts", json={"bookId": str(book), "orderId": order}), 201)
    known = _order(service, order)
    assert (known["userId"], known["gift"]["code"], known["gift"]["status"]) == (user, code, "assigned")
    assert (known["redemptions"], known["locks"]) == ([], [])
