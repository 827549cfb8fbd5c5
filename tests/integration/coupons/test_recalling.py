"""Redis keeps references to recorded facts: requests about them get the same answers, from Postgres."""

import os
import signal
from typing import Any
from uuid import uuid4

import pytest

from service.engine.formats import key_names
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until


def forget(service: Service) -> None:
    """Wait until everything is recorded, and trim the outbox as the worker does after two minutes."""
    service.recorded()
    with service.redis() as client:
        outbox = key_names.outbox(service.partition)
        ((last, _),) = client.xrevrange(outbox, count=1)
        client.xtrim(outbox, minid=last, approximate=False)


def assert_same(again: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that two redemptions are equal but for their durability."""
    assert again | {"durability": None} == expected | {"durability": None}


@pytest.mark.parametrize("uses", [1, 5])
def test_what_is_recorded_is_answered_as_before(service: Service, uses: int) -> None:
    """With a trimmed outbox a repeat, a replay, a batch, the coupon and a rollback answer as before. A redemption is
    rolled back once, also after its code was used again."""
    code, user, order = new_code(), new_id(), new_id()
    service.book(code, maxRedemptionsPerCode=uses)
    path, body = f"/v1/coupons/redeem/{code}", {"userId": user, "orderId": order, "orderValue": "12.50"}
    key = {"Idempotency-Key": new_id()}
    first = ok(service.checkout.post(path, json=body, headers=key), 201)
    forget(service)
    assert_same(ok(service.checkout.post(path, json=body)), first)
    assert_same(ok(service.checkout.post(path, json=body, headers=key), 201), first)
    tried_out = {"op": "validate", "code": code, "userId": user}
    batch = {"operations": [{"op": "redeem", "code": code, **body}, tried_out]}
    repeated, tried = ok(service.checkout.post("/v1/batch", json=batch))["results"]
    assert_same(repeated["body"], first)
    last = ok(service.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]
    assert tried["body"]["coupon"]["lastRedemption"] == last
    assert (last["redemptionId"], last["userId"], last["orderId"]) == (first["redemptionId"], user, order)
    refused(
        service.checkout.post(path, json=body | {"userId": new_id()}),
        409,
        "coupon_redeemed" if uses == 1 else "order_already_used",
    )
    back = f"/v1/redemptions/{first['redemptionId']}/rollback"
    rolled = ok(service.manage.post(back, json={}, headers={"Idempotency-Key": new_id()}))
    assert rolled["rolledBackAt"]
    assert rolled["redemptionId"] == first["redemptionId"]
    assert ok(service.checkout.post(path, json=body), 201)["redemptionId"] != first["redemptionId"]
    forget(service)
    refused(service.manage.post(back, json={}), 409, "already_rolled_back")
    assert len(ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))["items"]) == 1
    refused(service.manage.post(f"/v1/redemptions/{uuid4()}/rollback", json={}), 404, "redemption_not_found")


def test_without_postgres_it_is_unavailable_and_nothing_changes(patient: Service) -> None:
    """Without Postgres a request that needs its facts is 503 with Retry-After; facts in the outbox are enough."""
    old, fresh, user = new_code(), new_code(), new_id()
    patient.book(old, fresh)
    body = {"userId": user, "orderId": new_id()}
    first = ok(patient.checkout.post(f"/v1/coupons/redeem/{old}", json=body), 201)
    forget(patient)
    postmaster = patient.run.facts["pids"]["postgres"][0]
    os.kill(postmaster, signal.SIGKILL)
    asked = patient.checkout.post(f"/v1/coupons/redeem/{old}", json=body)
    other = body | {"orderId": new_id()}
    second = ok(patient.checkout.post(f"/v1/coupons/redeem/{fresh}", json=other), 201)
    assert_same(ok(patient.checkout.post(f"/v1/coupons/redeem/{fresh}", json=other)), second)
    if asked.status_code != 200:  # Postgres may be back already
        refused(asked, 503, "unavailable")
        assert int(asked.headers["Retry-After"]) >= 1
    until(lambda: patient.checkout.post(f"/v1/coupons/redeem/{old}", json=body).status_code == 200)
    assert_same(ok(patient.checkout.post(f"/v1/coupons/redeem/{old}", json=body)), first)


def test_a_checkout_whose_gift_was_used_is_answered_as_before(service: Service) -> None:
    """The repeat of a checkout with a used gift fetches two redemptions, the second after the first."""
    code, one, two, user, order = new_code(), new_code(), new_code(), new_id(), new_id()
    gifts = service.book(one, two)
    service.book(code, giftBookId=gifts)
    body = {"userId": user, "orderId": order, "orderValue": "12.50", "code": code}
    first = ok(service.checkout.post("/v1/checkout", json=body), 201)
    prize = first["gift"]["code"]
    later = two if prize == one else one
    used = ok(service.checkout.post(f"/v1/coupons/redeem/{prize}", json={"userId": user, "orderId": new_id()}), 201)
    ok(service.checkout.post(f"/v1/coupons/redeem/{later}", json={"userId": new_id()}), 201)  # forget leaves the last
    forget(service)
    again = ok(service.checkout.post("/v1/checkout", json=body))
    assert_same(again["redemption"], first["redemption"])
    assert again["gift"]["lastRedemption"]["redemptionId"] == used["redemptionId"]


def test_an_order_that_was_rolled_back_is_known_for_good(patient: Service) -> None:
    """An order whose places are all free again is in Postgres alone: its rollback is `already_rolled_back`, that of an
    unused order `order_not_found`. While the record is behind, the first is 503."""
    code, order = new_code(), new_id()
    patient.book(code, maxRedemptionsPerCode=None)
    back = f"/v1/orders/{order}/rollback"
    ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id(), "orderId": order}), 201)
    assert len(ok(patient.manage.post(back, json={}))["items"]) == 1
    refused(patient.manage.post(back, json={}), 409, "already_rolled_back")  # before it is recorded, too
    forget(patient)
    with patient.redis() as client:
        assert [name for name in client.scan_iter(match="*:o:*", _type="HASH") if client.hexists(name, order)] == []
    refused(patient.manage.post(back, json={}), 409, "already_rolled_back")
    refused(patient.manage.post(f"/v1/orders/{new_id()}/rollback", json={}), 404, "order_not_found")
    with patient.run.asleep("worker"):
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id(), "orderId": order}), 201)
        assert len(ok(patient.manage.post(back, json={}))["items"]) == 1
        asked = patient.manage.post(back, json={})
        refused(asked, 503, "unavailable")
        assert int(asked.headers["Retry-After"]) >= 1
    until(lambda: patient.manage.post(back, json={}).status_code == 409)
    refused(patient.manage.post(back, json={}), 409, "already_rolled_back")
