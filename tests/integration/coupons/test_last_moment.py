"""Times of fifteen digits and last redemptions: the same in Redis, in the record and in a rebuilt Redis."""

from tests.harness.comparing import compare
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import until

LAST = "9999-12-31T23:59:59.999Z"


def test_a_rebuilt_redis_shows_the_same(patient: Service) -> None:
    """A coupon that ends with the year 9999 has its end to the millisecond, and the last redemption of a code with
    several uses is the standing one decided last, in Redis and in a rebuilt Redis alike."""
    owned, code, user = new_code(), new_code(), new_id()
    book = patient.book(validUntil=LAST)
    lines = f"code,userId,expiresAt\n{owned},{user},{LAST}\n".encode()
    added = patient.manage.post(f"/v1/books/{book}/codes", content=lines, headers={"Content-Type": "text/csv"})
    assert ok(added)["added"] == 1
    patient.book(code, maxRedemptionsPerCode=None)
    orders = [new_id("order") for _ in range(12)]
    for order in orders:
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann", "orderId": order}), 201)
    ok(patient.manage.post(f"/v1/orders/{orders[-1]}/rollback", json={}))
    for _ in range(2):
        assert ok(patient.checkout.get(f"/v1/coupons/{owned}"))["expiresAt"] == LAST
        assert ok(patient.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]["orderId"] == orders[-2]
        assert compare(patient)[0].differing == {}
        with patient.redis() as client:
            client.flushall()
        until(lambda: patient.checkout.get("/v1/coupons/NO-SUCH-CODE").status_code == 404)
