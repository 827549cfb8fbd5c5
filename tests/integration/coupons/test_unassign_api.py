"""Unassign over HTTP: the response, and the reads after it."""

from tests.service_fixture import Service, new_code, new_id, ok, refused

_NAMES = "code bookId status userId redemptions maxRedemptions lock assignedAt expiresAt lastRedemption".split()


def _list_codes(service: Service, user: str) -> list[str]:
    return [item["code"] for item in ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]]


def test_an_assignment_is_taken_back(service: Service) -> None:
    """An unassign answers 200 with the whole free coupon; counts and lists of its user no longer have it."""
    code, other, user = new_code(), new_code(), new_id()
    book = service.book(code, other)
    for each in (code, other):
        ok(service.checkout.post(f"/v1/coupons/assign/{each}", json={"userId": user}), 201)
    assert _list_codes(service, user) == [other, code]
    coupon = ok(service.manage.post(f"/v1/coupons/unassign/{code.lower()}", json={}), 200)
    assert list(coupon) == [*_NAMES, "durability"]
    assert coupon == dict.fromkeys(_NAMES) | {
        "code": code, "bookId": book, "status": "available", "redemptions": 0, "maxRedemptions": 1,
        "durability": "fsynced",
    }  # fmt: skip
    refused(service.manage.post(f"/v1/coupons/unassign/{code}", json={}), 409, "coupon_not_assigned")
    assert _list_codes(service, user) == [other]
    assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
    assert service.stats(book)["assigned"] == 1
