"""Times of fifteen digits, and what was decided last: the same in Redis, in the record and in a Redis made again."""

from tests.drifts.comparing import compare
from tests.service_fixture import Service, new_code, new_id, ok, until

LAST = "9999-12-31T23:59:59.999Z"


def lose_redis(service: Service) -> None:
    """FLUSHALL, until all is rebuilt."""
    with service.redis() as client:
        client.flushall()
    until(lambda: service.checkout.get("/v1/coupons/NO-SUCH-CODE").status_code == 404)


def test_an_owned_coupon_that_ends_with_the_year_9999(patient: Service) -> None:
    """Redis holds its end to the millisecond: nothing differs, neither at once nor in a Redis that was made again."""
    code, user = new_code(), new_id()
    book = patient.book(validUntil=LAST)
    lines = f"code,userId,expiresAt\n{code},{user},{LAST}\n".encode()
    added = patient.manage.post(f"/v1/books/{book}/codes", content=lines, headers={"Content-Type": "text/csv"})
    assert ok(added)["added"] == 1
    for _ in range(2):
        assert ok(patient.checkout.get(f"/v1/coupons/{code}"))["expiresAt"] == LAST
        assert compare(patient)[0].found == {}
        lose_redis(patient)


def test_the_last_redemption_that_stands(patient: Service) -> None:
    """Of a code with several uses it is the one decided last, also once the last of all was rolled back, and in a Redis
    that was made again."""
    code, orders = new_code(), [new_id("order") for _ in range(12)]
    patient.book(code, maxRedemptionsPerCode=None)
    for order in orders:
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann", "orderId": order}), 201)
    ok(patient.manage.post(f"/v1/orders/{orders[-1]}/rollback", json={}))
    for _ in range(2):
        assert ok(patient.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]["orderId"] == orders[-2]
        assert compare(patient)[0].found == {}
        lose_redis(patient)
