"""Cards over HTTP: what their redemptions, credits and closes answer, and what Postgres has of them."""

from typing import Any

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused

CARD: dict[str, Any] = {"type": "balance", "value": "50.00"}


def redeem(service: Service, code: str, value: str, **more: Any) -> dict[str, Any]:
    body = {"userId": "ann", "orderId": new_id("order"), "orderValue": value} | more
    return ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)


def balance(service: Service, code: str) -> dict[str, str]:
    return ok(service.manage.get(f"/v1/coupons/{code}"))["balance"]


def test_the_ledger_has_every_change(service: Service) -> None:
    """Issue, redemption, rollback, credit and close, newest first, page by page; a rollback without restore is none."""
    code = new_code()
    service.book(code, discount=CARD)
    first = redeem(service, code, "20.00")
    assert (first["discountAmount"], first["finalAmount"], first["balanceAfter"]) == ("20.00", "0.00", "30.00")
    kept = redeem(service, code, "5", amount="2.50")
    ok(service.manage.post(f"/v1/redemptions/{kept['redemptionId']}/rollback", json={"restore": False}))
    path, reason = f"/v1/coupons/{code}", {"reason": "a \\ reason"}
    ok(service.manage.post(f"/v1/redemptions/{first['redemptionId']}/rollback", json=reason))
    credited = ok(service.manage.post(f"{path}/credit", json={"amount": "1.5"} | reason))
    assert (credited["balance"]["available"], credited["durability"]) == ("49.00", "fsynced")
    closed = ok(service.manage.post(f"{path}/close", json={}, headers={"Prefer": "durability=recorded"}))
    assert (closed["status"], closed["balance"]["closed"], closed["durability"]) == ("exhausted", "49.00", "recorded")
    entries: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = ok(service.manage.get(f"{path}/ledger", params={"limit": 2} | ({"cursor": cursor} if cursor else {})))
        entries += page["items"]
        cursor = page["nextCursor"]
    told = [(one["kind"], one["amount"], one["available"], one["reason"]) for one in entries]
    assert told == [
        ("closed", "49.00", "0.00", None),
        ("credited", "1.50", "49.00", reason["reason"]),
        ("returned", "20.00", "47.50", reason["reason"]),
        ("spent", "2.50", "27.50", None),
        ("spent", "20.00", "30.00", None),
        ("issued", "50.00", "50.00", None),
    ]
    assert [one["redemptionId"] for one in entries[2:5]] == [
        first["redemptionId"], kept["redemptionId"], first["redemptionId"],
    ]  # fmt: skip
    assert [one["actor"] is None for one in entries] == [False, False, True, True, True, True]
    assert entries[4]["orderId"] == first["orderId"]
    assert service.stats(service.book(new_code()))["balance"] is None
    recorded = ok(service.manage.get(f"/v1/redemptions/{kept['redemptionId']}"))
    assert (recorded["balanceAfter"], recorded["discountAmount"]) == ("27.50", "2.50")


def test_a_books_stats_have_the_sums_of_its_cards(service: Service) -> None:
    codes = [new_code() for _ in range(3)]
    book = service.book(*codes, discount=CARD)
    redeem(service, codes[0], "20")
    lock = {"userId": "ann", "orderValue": "70"}
    held = ok(service.checkout.post(f"/v1/coupons/lock/{codes[1]}", json=lock), 201)
    assert (held["amount"], held["discountAmount"], held["finalAmount"]) == ("50.00", "50.00", "20.00")
    ok(service.manage.post(f"/v1/coupons/{codes[2]}/close", json={}))
    ok(service.manage.post(f"/v1/coupons/{codes[2]}/credit", json={"amount": 5}))
    assert service.stats(book)["balance"] == {
        "issued": "150.00", "credited": "5.00", "spent": "20.00", "held": "50.00", "closed": "50.00",
        "available": "35.00",
    }  # fmt: skip
    assert refused(service.manage.post(f"/v1/coupons/{codes[1]}/close", json={}), 409, "coupon_locked")
    plain = ok(service.manage.get(f"/v1/coupons/{new_plain(service)}"))
    assert plain["balance"] is None
    assert ok(service.manage.get(f"/v1/coupons/{plain['code']}/ledger"))["items"] == []
    answer = service.manage.post(f"/v1/coupons/{plain['code']}/credit", json={"amount": 5})
    assert refused(answer, 422, "invalid", "amount")


def new_plain(service: Service) -> str:
    code = new_code()
    service.book(code)
    return code
