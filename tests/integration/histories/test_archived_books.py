"""What clients see of a book that was archived for good: nothing on the hot path, and all in the histories."""

import asyncio
from typing import Any

import pytest

from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.waiting import until

_ARCHIVE = """
WITH next AS (UPDATE config_versions SET version = version + 1 WHERE partition = $1 RETURNING version)
UPDATE books SET status = 'archived', archived_at = now(), archiving = true, version = next.version,
  last_counts = $3::jsonb
FROM next WHERE book_id = $2::text::uuid RETURNING books.book
"""
"""As the worker does, when the book has ended long ago."""
_COUNTS = '["2", "0", 0, 0, "1", "0", "0", "1", "0", "20000", "0", "1", "1", "1", 1790000000000, "USD", "-"]'


class ArchivedShop:
    """A workspace with an archived book of two codes, one of which was redeemed, and an archived book of one card."""

    def __init__(self, service: Service) -> None:
        self.codes = [new_code(), new_code()]
        self.order = f"order-{self.codes[0]}"
        self.book = service.book(*self.codes, discount={"type": "fixed", "value": 2})
        order = {"userId": "ann", "orderId": self.order, "orderValue": 10}
        self.redeemed = ok(service.checkout.post(f"/v1/coupons/redeem/{self.codes[0]}", json=order), 201)
        self.card = new_code()
        self.cards = service.book(self.card, discount={"type": "balance", "value": "50"})
        paid = {"userId": "ann", "orderId": f"order-{self.card}", "orderValue": 20}
        self.spent = ok(service.checkout.post(f"/v1/coupons/redeem/{self.card}", json=paid), 201)
        ok(service.manage.post(f"/v1/coupons/{self.card}/close", json={"reason": "lost"}))
        service.recorded()
        is_done = "SELECT count(*) FROM books WHERE book_id = $1::text::uuid AND NOT archiving"
        for book in (self.book, self.cards):
            asyncio.run(service.fetch(_ARCHIVE, service.partition, book, _COUNTS))
            until(lambda book=book: asyncio.run(service.fetch(is_done, book))[0][0] == 1)


@pytest.fixture(scope="module")
def shop(service: Service) -> ArchivedShop:
    return ArchivedShop(service)


def test_the_hot_path_does_not_know_it(service: Service, shop: ArchivedShop) -> None:
    """Its codes are `coupon_not_found`, its orders `order_not_found`; the order's id may be used again."""
    user = {"userId": "ann"}
    for code in shop.codes:
        for path in ("lock", "redeem", "assign"):
            refused(service.checkout.post(f"/v1/coupons/{path}/{code}", json=user), 404, "coupon_not_found")
        refused(service.checkout.get(f"/v1/coupons/{code}"), 404, "coupon_not_found")
        assert not ok(service.checkout.get(f"/v1/coupons/{code}/validate", params=user))["valid"]
    refused(service.manage.post(f"/v1/orders/{shop.order}/rollback", json={}), 404, "order_not_found")
    code = new_code()
    service.book(code)
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=user | {"orderId": shop.order}), 201)


def test_nothing_of_it_changes(service: Service, shop: ArchivedShop) -> None:
    """Each change of the book, its codes or its redemptions is `book_archived`."""
    manage, book = service.manage, f"/v1/books/{shop.book}"
    for answer in (
        manage.patch(book, json={"status": "active"}),
        manage.patch(book, json={"validUntil": "2999-01-01T00:00:00Z"}),
        manage.post(f"{book}/codes", json={"codes": [new_code()]}),
        manage.post(f"{book}/codes/generate", json={"count": 1}),
        manage.post(f"{book}/codes/change", json={"action": "switchOff", "filter": {}}),
        manage.patch(f"/v1/coupons/{shop.codes[1]}", json={"status": "inactive"}),
        manage.post(f"/v1/redemptions/{shop.redeemed['redemptionId']}/rollback", json={}),
    ):
        refused(answer, 409, "book_archived")


def test_all_of_it_stays_readable(service: Service, shop: ArchivedShop) -> None:
    """The book, its codes, redemptions, statistics, report and export are as they were, also in the console."""
    manage, book = service.manage, f"/v1/books/{shop.book}"
    assert ok(manage.get(book))["status"] == "archived"
    listed = [item["code"] for item in ok(manage.get(f"{book}/codes"))["items"]]
    assert sorted(listed) == sorted(shop.codes)
    (redemption,) = ok(manage.get(f"{book}/redemptions"))["items"]
    assert redemption["redemptionId"] == shop.redeemed["redemptionId"]
    stats: dict[str, Any] = ok(manage.get(f"{book}/stats"))
    assert (stats["codes"], stats["redemptions"], stats["discountTotal"], stats["users"]) == (2, 1, "2.00", 1)
    (row,) = ok(manage.get("/v1/reports/redemptions", params={"bookId": shop.book, "groupBy": "book"}))["items"]
    assert (row["redemptions"], row["discountAmount"]) == (1, "2.00")
    (redemption,) = ok(manage.get(f"/v1/coupons/{shop.codes[0]}/redemptions"))["items"]
    assert redemption["redemptionId"] == shop.redeemed["redemptionId"]
    refused(manage.get(f"/v1/coupons/{new_code()}/redemptions"), 404, "coupon_not_found")
    exported = manage.get(f"{book}/codes.csv").text
    assert all(code in exported for code in shop.codes)
    assert ok(manage.get(f"/console/data/books/{shop.book}"))["counts"]["codes"] == 2


def test_the_accounts_of_its_cards_stay(service: Service, shop: ArchivedShop) -> None:
    """A card's ledger, and the report of what cards are worth, are as they were."""
    refused(service.manage.get(f"/v1/coupons/{shop.card}"), 404, "coupon_not_found")
    entries = ok(service.manage.get(f"/v1/coupons/{shop.card.lower()}/ledger"))["items"]
    assert [(one["kind"], one["amount"], one["available"], one["reason"]) for one in entries] == [
        ("closed", "30.00", "0.00", "lost"), ("spent", "20.00", "30.00", None), ("issued", "50.00", "50.00", None),
    ]  # fmt: skip
    assert entries[1]["redemptionId"] == shop.spent["redemptionId"]
    (row,) = ok(service.manage.get("/v1/reports/liability", params={"bookId": shop.cards}))["items"]
    assert (row["issued"], row["spent"], row["closed"], row["outstanding"]) == ("50.00", "20.00", "30.00", "0.00")
