"""Reports over HTTP: what was sold, rolled back and refused, by interval and group."""

import asyncio
import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.cli import report_comparison
from tests.harness.commands import scrip
from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.waiting import until

SALES, FUNNEL, LIABILITY = "/v1/reports/redemptions", "/v1/reports/funnel", "/v1/reports/liability"


class ReportedShop:
    """A workspace with two books, one with tags, that sells."""

    def __init__(self, service: Service) -> None:
        self.client = service.make_workspace(f"shop-{uuid4().hex}", "test").admin
        self.codes = [new_code() for _ in range(8)]
        discount = {"type": "percentage", "value": 10}
        euro, yen = (discount | {"currency": currency} for currency in ("EUR", "JPY"))
        self.one = service.book(*self.codes[:4], client=self.client, discount=euro, tags=["spring", "mail"])
        self.other = service.book(*self.codes[4:], client=self.client, discount=yen, tags=["spring"])

    def redeem(self, number: int, user: str) -> str:
        value = {"orderValue": "19.99", "currency": "EUR"} if number < 4 else {"orderValue": 1000, "currency": "JPY"}
        body = {"userId": user} | value
        return ok(self.client.post(f"/v1/coupons/redeem/{self.codes[number]}", json=body), 201)["redemptionId"]

    def sales(self, *names: str, **query: Any) -> list[tuple[Any, ...]]:
        """These fields of each item."""
        items = ok(self.client.get(SALES, params=query))["items"]
        return [tuple(item.get(name) for name in names) for item in items]


@pytest.fixture(scope="module")
def shop(service: Service) -> ReportedShop:
    """Three redemptions, of which one is rolled back, two users, and two refusals."""
    shop = ReportedShop(service)
    shop.redeem(0, "ann")
    shop.redeem(4, "ann")
    gone = shop.redeem(1, "bob")
    ok(shop.client.post(f"/v1/redemptions/{gone}/rollback", json={}))
    for _ in range(2):
        refused(shop.client.post(f"/v1/coupons/lock/{shop.codes[0]}", json={"userId": "eve"}), 409, "coupon_redeemed")
    token = ok(shop.client.post(f"/v1/coupons/lock/{shop.codes[2]}", json={"userId": "eve"}), 201)["lockToken"]
    assert shop.client.post(f"/v1/coupons/unlock/{shop.codes[2]}", json={"lockToken": token}).status_code == 204
    ok(shop.client.post(f"/v1/coupons/assign/{shop.codes[5]}", json={"userId": "eve"}), 201)
    return shop


def test_redemptions_are_reported(shop: ReportedShop):
    """A report has the sums of redemptions that stand, by currency with its digits, and the users of each interval."""
    report = ok(shop.client.get(SALES))
    assert report["timeZone"] == "UTC"
    assert report["from"] < report["items"][0]["from"] < report["asOf"] < report["to"]
    (euro, yen) = report["items"]
    assert euro == {
        "from": datetime.now(UTC).strftime("%Y-%m-%dT00:00:00.000Z"),
        "currency": "EUR",
        "redemptions": 1,
        "orderValue": "19.99",
        "discountAmount": "2.00",
        "balanceSpent": "0.00",
        "rolledBack": 1,
        "newUsers": 2,
        "returningUsers": 0,
        "soldOutAt": None,
        "soldOutAfterMs": None,
    }
    assert yen == euro | {"currency": "JPY", "orderValue": "1000", "discountAmount": "100", "newUsers": 0,
                          "redemptions": 1, "rolledBack": 0, "balanceSpent": "0"}  # fmt: skip


def test_groups_of_books(shop: ReportedShop):
    """A book counts in each of its tags, and users in each of their books; filters leave the other books out."""
    figures = ("redemptions", "rolledBack", "newUsers")
    books = {
        (book, currency): row for book, currency, *row in shop.sales("bookId", "currency", *figures, groupBy="book")
    }
    assert books == {(shop.one, "EUR"): [1, 1, 2], (shop.other, "JPY"): [1, 0, 1]}
    tags = shop.sales("tag", "currency", *figures, groupBy="tag")
    assert tags == [("mail", "EUR", 1, 1, 2), ("spring", "EUR", 1, 1, 2), ("spring", "JPY", 1, 0, 1)]
    assert shop.sales("currency", *figures, bookId=shop.other) == [("JPY", 1, 0, 1)]
    assert shop.sales("currency", *figures, tag="mail") == [("EUR", 1, 1, 2)]
    assert shop.sales("tag", groupBy="tag", tag="mail") == [("mail",)]
    assert shop.sales("currency", tag="autumn") == []


def test_the_funnel(shop: ReportedShop):
    """The funnel has what is recorded by book, and locks and refusals of the workspace."""

    def counted() -> bool:
        (item,) = ok(shop.client.get(FUNNEL))["items"]
        del item["from"]
        refusals = item.pop("refused")
        return item == {"assigned": 1, "locked": 1, "released": 1, "lockExpired": None, "redeemed": 2} and refusals == {
            "coupon_redeemed": 2
        }

    until(counted)
    items = ok(shop.client.get(FUNNEL, params={"groupBy": "book"}))["items"]
    assert {item["bookId"]: (item["assigned"], item["redeemed"]) for item in items} == {
        shop.one: (0, 1),
        shop.other: (1, 1),
    }
    assert {item[name] for item in items for name in ("locked", "released", "refused", "lockExpired")} == {None}


def test_files(shop: ReportedShop):
    """The CSV files have the rows of the reports."""
    head, *rows = csv.reader(shop.client.get(f"{SALES}.csv", params={"groupBy": "book"}).text.splitlines())
    items = ok(shop.client.get(SALES, params={"groupBy": "book"}))["items"]
    names = {book: ok(shop.client.get(f"/v1/books/{book}"))["name"] for book in (shop.one, shop.other)}
    named = [item | {"bookName": names[item["bookId"]]} for item in items]
    assert [dict(zip(head, row, strict=True)) for row in rows] == [
        {name: "" if item.get(name) is None else str(item[name]) for name in head} for item in named
    ]
    excel = shop.client.get(f"{SALES}.csv", params={"groupBy": "book", "excel": "semicolon"}).text.splitlines()
    amounts = slice(head.index("orderValue"), head.index("rolledBack"))
    assert excel[1].split(";")[amounts] == [amount.replace(".", ",") for amount in rows[0][amounts]]
    assert excel[1].startswith(f"{items[0]['from'][:10]} 00:00:00;")
    funnel = shop.client.get(f"{FUNNEL}.csv")
    assert funnel.headers["content-type"].startswith("text/csv")
    until(lambda: "\r\nrefused,coupon_redeemed,2," in shop.client.get(f"{FUNNEL}.csv").text)


def test_days_are_those_of_the_time_zone(shop: ReportedShop):
    """A day begins in the workspace's time zone, and a user who redeemed on an earlier day is a returning one."""
    ok(shop.client.patch("/v1/workspace", json={"timeZone": "Asia/Kolkata"}))
    later = datetime.now(UTC).replace(hour=20, minute=0, second=0, microsecond=0) + timedelta(days=2)
    for number, at in ((6, later), (7, later + timedelta(hours=23))):
        ok(shop.client.post("/v1/test/clock", json={"now": at.strftime("%Y-%m-%dT%H:%M:%SZ")}))
        shop.redeem(number, "ann")
    day = {
        "from": later.isoformat().replace("+00:00", "Z"),
        "to": (later + timedelta(days=1)).isoformat().replace("+00:00", "Z"),
    }
    starts = [(later - timedelta(hours=1.5) + timedelta(days=n)).strftime("%Y-%m-%dT%H:%M:%S.000Z") for n in (0, 1)]
    assert shop.sales("from", "redemptions", "returningUsers", **day) == [(starts[0], 1, 1), (starts[1], 1, 1)]
    hours = shop.sales("from", "orderValue", interval="hour", **day)
    assert [Decimal(value) for _, value in hours] == [Decimal(1000)] * 2
    assert {start[14:16] for start, _ in hours} == {"30"}
    excel = shop.client.get(f"{SALES}.csv", params=day | {"excel": "comma"}).text.splitlines()
    assert [row[:19] for row in excel[1:]] == [f"{later + timedelta(days=n):%Y-%m-%d} 00:00:00" for n in (1, 2)]
    days = [(at + timedelta(hours=5.5)).date() for at in (datetime.now(UTC), later, later + timedelta(hours=23))]
    weeks = {at.isocalendar()[:2] for at in days}
    span = {"from": f"{datetime.now(UTC) - timedelta(days=8):%Y-%m-%dT00:00:00Z}", "to": day["to"], "interval": "week"}
    assert sum(map(sum, shop.sales("newUsers", "returningUsers", **span))) == len(weeks) + 1  # ann's, and bob
    ok(shop.client.post("/v1/test/clock", json={"now": None}))


def test_a_book_that_is_sold_out(service: Service):
    """The item of a sold out book's last redemption has its time, and the time since the first one; not after a
    rollback or a restock."""
    shop, fields = ReportedShop(service), ("soldOutAt", "soldOutAfterMs")
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=2)
    span = {name: f"{noon + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for name, hours in (("from", -1), ("to", 4))}

    def set_clock(hours: int) -> None:
        ok(shop.client.post("/v1/test/clock", json={"now": f"{noon + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"}))

    def end() -> tuple[str, int]:
        items = ok(shop.client.get(f"/v1/books/{shop.one}/redemptions"))["items"]
        newest, *_, oldest = (datetime.fromisoformat(item["redeemedAt"]) for item in items)
        return items[0]["redeemedAt"], round((newest - oldest).total_seconds() * 1000)

    set_clock(0)
    for number in (4, 0, 1, 2):
        shop.redeem(number, "ann")
    assert shop.sales(*fields, bookId=shop.one, **span) == [(None, None)]
    set_clock(2)
    last = shop.redeem(3, "bob")
    sold_out = end()
    assert shop.sales(*fields, bookId=shop.one, **span) == [sold_out]
    assert shop.sales(*fields, bookId=shop.one, interval="hour", **span) == [(None, None), sold_out]
    books = shop.sales("bookId", *fields, groupBy="book", **span)
    assert sorted(books) == sorted([(shop.one, *sold_out), (shop.other, None, None)])
    rows = shop.client.get(f"{SALES}.csv", params={"bookId": shop.one} | span).text.splitlines()
    assert rows[1].endswith(f",{sold_out[0]},{sold_out[1]},")
    for query in ({}, {"groupBy": "tag"}, {"bookId": shop.one, "groupBy": "tag"}, {"tag": "mail"}):
        assert {*shop.sales(*fields, **query, **span)} == {(None, None)}

    ok(shop.client.post(f"/v1/redemptions/{last}/rollback", json={}))
    assert shop.sales(*fields, bookId=shop.one, **span) == [(None, None)]
    set_clock(3)
    shop.redeem(3, "eve")
    assert shop.sales(*fields, bookId=shop.one, **span) == [end()] != [sold_out]
    ok(shop.client.post(f"/v1/books/{shop.one}/codes", json={"codes": [new_code()]}))
    assert shop.sales(*fields, bookId=shop.one, **span) == [(None, None)]
    ok(shop.client.patch(f"/v1/books/{shop.one}", json={"maxRedemptions": 4}))
    assert shop.sales(*fields, bookId=shop.one, **span) == [end()]


def test_many_books_that_are_sold_out(service: Service):
    """A report of more than 50 books does not look which of them are sold out; one of 50 does."""
    client, codes = service.make_workspace(f"shop-{uuid4().hex}", "live").admin, [new_code() for _ in range(51)]
    for number, code in enumerate(codes):
        service.book(code, client=client, tags=["late"] if number else [])
        ok(client.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}), 201)

    def find(**query: str) -> list[bool]:
        items = ok(client.get(SALES, params={"groupBy": "book"} | query))["items"]
        return [item["soldOutAfterMs"] == 0 for item in items]

    assert find() == [False] * 51
    assert find(tag="late") == [True] * 50


def test_what_cards_paid(service: Service):
    """`balanceSpent` is the part of the discounts that cards paid, of redemptions that stand, also of one that a lock
    held; equal to the facts."""
    scrip("reports", "--repair", **service.urls)  # time zones changed before
    client, card, code = service.make_workspace(f"shop-{uuid4().hex}", "live").admin, new_code(), new_code()
    service.book(card, client=client, discount={"type": "balance", "value": "50.00"}, tags=["cards"])
    service.book(code, client=client, discount={"type": "fixed", "value": 5})
    orders = iter(range(9))

    def redeem(code: str, value: str) -> str:
        body = {"userId": "ann", "orderId": f"A-{next(orders)}", "orderValue": value}
        return ok(client.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]

    redeem(card, "19.99")
    redeem(code, "20.00")
    gone = redeem(card, "12.00")
    redeem(card, "100.00")
    names = ("redemptions", "orderValue", "discountAmount", "balanceSpent", "rolledBack")

    def sales(**query: str) -> list[tuple[Any, ...]]:
        items = ok(client.get(SALES, params=query))["items"]
        return [tuple(item[name] for name in names) for item in items]

    assert sales() == [(4, "151.99", "55.00", "50.00", 0)]
    ok(client.post(f"/v1/redemptions/{gone}/rollback", json={}))
    assert sales() == [(3, "139.99", "43.00", "38.00", 1)]
    assert sales(groupBy="tag") == [(2, "119.99", "38.00", "38.00", 1)]
    assert scrip("reports", **service.urls).exit_code == 0


def test_what_cards_are_worth(service: Service):
    """The report of cards has what happened each day, each at its own time, and what is outstanding at the day's end. A
    day without changes is left out, but for the first; earlier days are carried over. The file has the same rows;
    `scrip reports` finds and corrects what differs from the facts."""
    scrip("reports", "--repair", **service.urls)
    client, cards = service.make_workspace(f"shop-{uuid4().hex}", "test").admin, [new_code() for _ in range(3)]
    now = datetime.now(UTC)
    lines = [cards[0], {"code": cards[1], "amount": "20.50"}]
    book = service.book(client=client, name="Cards", discount={"type": "balance", "value": "50.00"})
    ok(client.post(f"/v1/books/{book}/codes", json={"codes": lines}))
    names = ("issued", "credited", "spent", "returned", "closed", "outstanding")

    def day(days: int) -> str:
        return (now + timedelta(days=days)).strftime("%Y-%m-%dT00:00:00.000Z")

    def advance(days: int) -> None:
        ok(client.post("/v1/test/clock", json={"now": (now + timedelta(days=days)).isoformat()}))

    def redeem(code: str, order: str, value: str) -> str:
        body = {"userId": "ann", "orderId": order, "orderValue": value}
        return ok(client.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]

    def report(**query: str) -> dict[str, tuple[str, ...]]:
        items = ok(client.get(LIABILITY, params={"to": day(9)} | query))["items"]
        assert {(item["bookId"], item["currency"]) for item in items} <= {(book, "USD")}
        return {item["from"]: tuple(item[name] for name in names) for item in items}

    gone, kept = redeem(cards[0], "A-1", "12.00"), redeem(cards[1], "A-2", "8.00")
    advance(2)
    ok(client.post(f"/v1/redemptions/{gone}/rollback", json={}))
    ok(client.post(f"/v1/redemptions/{kept}/rollback", json={"restore": False}))
    ok(client.post(f"/v1/coupons/{cards[0]}/credit", json={"amount": "5.00"}))
    redeem(cards[0], "A-3", "55.00")
    advance(5)
    ok(client.post(f"/v1/coupons/{cards[1]}/close", json={}))
    later = {
        day(2): ("0.00", "5.00", "55.00", "12.00", "0.00", "12.50"),
        day(5): ("0.00", "0.00", "0.00", "0.00", "12.50", "0.00"),
    }
    days = {day(0): ("70.50", "0.00", "20.00", "0.00", "0.00", "50.50")} | later
    assert report() == report(bookId=book) == days
    assert report(bookId=service.book(client=client)) == {}
    assert report(**{"from": day(1)}) == {day(1): ("0.00",) * 5 + ("50.50",)} | later
    assert report(**{"from": day(6)}) == {}
    stats = ok(client.get(f"/v1/books/{book}/stats"))["balance"]
    assert (stats["available"], stats["held"]) == ("0.00", "0.00")

    head, *rows = csv.reader(client.get(f"{LIABILITY}.csv", params={"to": day(9)}).text.splitlines())
    assert head == ["from", "bookId", "currency", *names, "bookName"]
    assert [tuple(row) for row in rows] == [(at, book, "USD", *amounts, "Cards") for at, amounts in days.items()]
    excel = client.get(f"{LIABILITY}.csv", params={"to": day(9), "excel": "semicolon"}).text.splitlines()
    assert ";USD;70,50;" in excel[1]
    assert scrip("reports", **service.urls).exit_code == 0
    number = "(SELECT book FROM books WHERE book_id = $2)"
    damage = f"UPDATE card_sums SET amount = amount + 1 WHERE kind = $1 AND book = {number}"
    for kind in ("issued", "credited", "spent", "returned", "closed"):
        asyncio.run(service.fetch(damage, kind, book))
        repaired = scrip("reports", "--repair", **service.urls)
        assert repaired.exit_code == 0, repaired.output
        assert report() == days


def test_dropped_months_are_not_compared(service: Service) -> None:
    """`scrip reports` compares nothing once facts were dropped, which the figures still count."""
    asyncio.run(service.fetch("UPDATE settings SET facts_from = '2026-08-01Z'"))
    try:
        result = scrip("reports", "--repair", **service.urls)
    finally:
        asyncio.run(service.fetch("UPDATE settings SET facts_from = NULL"))
    assert (result.exit_code, "facts before 2026-08 were dropped" in result.output) == (2, True)


def test_a_partition_that_cannot_be_compared(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """`scrip reports` compares the others, and exits with 2."""
    compare, compared = report_comparison.compare_rollups, list[int]()

    async def fail_for_the_first(pool: Any, partition: int, *more: Any) -> int:
        if partition == 0:
            raise asyncpg.NumericValueOutOfRangeError
        compared.append(partition)
        return await compare(pool, partition, *more)

    monkeypatch.setattr(report_comparison, "compare_rollups", fail_for_the_first)
    result = scrip("reports", **service.urls)
    assert (result.exit_code, compared) == (2, list(range(1, service.partitions)))
    assert "not_compared: partition 0: NumericValueOutOfRangeError" in result.output


def test_the_time_zone_of_earlier_hours(service: Service, shop: ReportedShop):
    """`scrip reports` finds the hours that are not those of the time zone, and corrects them."""
    ok(shop.client.patch("/v1/workspace", json={"timeZone": "Asia/Kathmandu"}))
    assert {start[14:16] for (start,) in shop.sales("from", interval="hour")} <= {"15", "45"}
    found = scrip("reports", **service.urls)
    assert (found.exit_code, "figures differ" in found.output) == (1, True)
    assert scrip("reports", "--repair", **service.urls).exit_code == 0
    starts = shop.sales("from", "currency", "redemptions", "rolledBack", "newUsers", interval="hour")
    assert {start[14:16] for start, *_ in starts} == {"15"}
    assert sorted(row[1:] for row in starts) == [("EUR", 1, 1, 2), ("JPY", 1, 0, 0)]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
        ({"from": "2999-01-01T00:00:00Z"}, "from"),
        ({"interval": "hour", "from": "2026-01-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}, "to"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2027-02-06T00:00:00Z"}, "to"),
        ({"tag": "x" * 256}, "tag"),
    ],
)
def test_refused_times(shop: ReportedShop, query: dict[str, str], param: str):
    """A time without a beginning before its end, or of too many intervals, is refused."""
    assert refused(shop.client.get(SALES, params=query), 422, "invalid", param)["param"] == param
    refused(shop.client.get(f"{FUNNEL}.csv", params=query), 422, "invalid", param)


def test_times_at_both_ends(shop: ReportedShop) -> None:
    """A report at the first and at the last time has no items, and its times are ones that a client can read."""
    for at in ("1970-01-01T00:00:00.001Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999+14:00"):
        for interval in ("hour", "day", "week"):
            for path in (SALES, FUNNEL):
                report = ok(shop.client.get(path, params={"to": at, "interval": interval}))
                assert report["items"] == []
                assert report["from"] < report["to"] <= "9999-12-31T23:59:59.999Z"


def test_an_unknown_book(service: Service, shop: ReportedShop):
    """An unknown book, and one of another workspace, is refused."""
    for book in (str(uuid4()), service.book()):
        refused(shop.client.get(SALES, params={"bookId": book}), 404, "book_not_found")
