"""Taking an assignment back over HTTP: answers, counts, lists, and what is known of it after."""

import httpx

from tests.service_fixture import Service, new_code, new_id, ok, refused

_NAMES = "code bookId status userId redemptions maxRedemptions lock assignedAt expiresAt lastRedemption".split()


def _unassign(service: Service, code: str, key: str = "", **headers: str) -> httpx.Response:
    headers |= {"Idempotency-Key": key} if key else {}
    return service.manage.post(f"/v1/coupons/unassign/{code}", json={}, headers=headers)


def _assign(service: Service, code: str, user: str) -> None:
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)


def _list(service: Service, user: str) -> list[str]:
    return [item["code"] for item in ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]]


def test_an_assignment_is_taken_back(service: Service) -> None:
    """200 and the whole coupon, free again; then coupon_not_assigned; it is in no count and no list of the user's."""
    code, other, user = new_code(), new_code(), new_id()
    book = service.book(code, other)
    for each in (code, other):
        _assign(service, each, user)
    assert _list(service, user) == [other, code]
    coupon = ok(_unassign(service, code.lower()), 200)
    assert list(coupon) == [*_NAMES, "durability"]
    assert coupon == dict.fromkeys(_NAMES) | {
        "code": code, "bookId": book, "status": "available", "redemptions": 0, "maxRedemptions": 1,
        "durability": "fsynced",
    }  # fmt: skip
    refused(_unassign(service, code), 409, "coupon_not_assigned")
    refused(_unassign(service, new_code()), 404, "coupon_not_found")
    assert _list(service, user) == [other]
    assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
    stats = service.stats(book)
    assert (stats["codes"], stats["available"], stats["assigned"]) == (2, 1, 1)
    _assign(service, code, another := new_id())
    assert (_list(service, another), _list(service, user)) == ([code], [other])


def test_an_owner_given_at_upload(service: Service) -> None:
    """It is taken back too, and neither the list nor a later change of the coupon brings it back."""
    code, user = new_code(), new_id()
    book = service.book()
    upload = service.manage.post(
        f"/v1/books/{book}/codes", content=f"code,userId\n{code},{user}\n", headers={"Content-Type": "text/csv"}
    )
    assert ok(upload)["added"] == 1
    assert _list(service, user) == [code]
    assert ok(_unassign(service, code))["status"] == "available"
    ok(service.manage.patch(f"/v1/coupons/{code}", json={"expiresAt": "2036-01-01T00:00:00Z"}))
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["userId"] is None
    assert (_list(service, user), ok(service.checkout.get(f"/v1/users/{user}"))["coupons"]) == ([], 0)


def test_a_repeat_under_its_key(service: Service) -> None:
    """The first answer again, though the coupon is another's by now, who keeps it."""
    code, user = service.coupon(), new_id()
    _assign(service, code, user)
    first = _unassign(service, code, "unassign-" + code)
    _assign(service, code, another := new_id())
    again = _unassign(service, code, "unassign-" + code)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["userId"] == another


def test_it_is_recorded_where_that_is_asked_for(service: Service) -> None:
    """With `Prefer: durability=recorded` the answer says so."""
    code = service.coupon()
    _assign(service, code, new_id())
    answer = _unassign(service, code, Prefer="durability=recorded, wait=5")
    assert ok(answer)["durability"] == "recorded"
    assert answer.headers["Preference-Applied"] == "durability=recorded"
