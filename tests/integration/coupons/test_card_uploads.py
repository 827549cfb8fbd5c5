"""Books of cards over HTTP: what uploads accept, and what lists, files and dry runs show of the amounts."""

from typing import Any

import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until

CARD: dict[str, Any] = {"type": "balance", "value": "50.00"}


def amounts(service: Service, book: str) -> dict[str, str | None]:
    return {item["code"]: item["amount"] for item in ok(service.manage.get(f"/v1/books/{book}/codes"))["items"]}


def test_each_kind_of_upload_issues_cards(service: Service) -> None:
    """JSON, CSV and text issue cards with their own amounts or the book's value, and the answers have the sum; the same
    in the book's list and file, there also as Excel needs it. Codes of other books have no amount."""
    book, mark = service.book(discount=CARD), new_code()
    path = f"/v1/books/{book}/codes"
    codes = [f"{mark}-1", {"code": f"{mark}-2", "amount": "12.5"}, {"code": f"{mark}-3", "amount": 0.05}]
    assert ok(service.manage.post(path, json={"codes": codes})) == {
        "added": 3, "duplicates": 0, "invalid": 0, "errors": [], "amount": "62.55",
    }  # fmt: skip
    counts = ok(
        service.manage.post("/v1/coupons/codes", json={"bookId": book, "codes": [{"code": f"{mark}-4"}, codes[1]]})
    )
    assert counts == {"added": 1, "duplicates": 1, "invalid": 0, "errors": [], "amount": "50.00"}
    data = f'Voucher;Gift card value\n{mark}-5;"1.234,50"\n{mark}-6;\n{mark}-6;99\n{mark}-7;1.000\n{mark}-8;-5\n'
    headers = {"Content-Type": "text/csv"}
    for query in ({"dryRun": "true"}, {}):
        counts = ok(service.manage.post(path, params=query, content=data.encode(), headers=headers))
        assert (counts["added"], counts["duplicates"], counts["amount"]) == (2, 1, "1284.50")
        assert [column["field"] for column in counts["file"]["columns"]] == ["code", "amount"]
        assert [(error["line"], error["reason"]) for error in counts["errors"]] == [
            (5, "amount: can be read in two ways: write 1000, or 1.00"),
            (6, "amount: must be an amount such as 25.00, without a currency"),
        ]
    text = f"{mark}-9\n".encode()
    counts = ok(service.manage.post(path, content=text, headers={"Content-Type": "text/plain"}))
    assert (counts["added"], counts["amount"]) == (1, "50.00")
    issued = {
        "1": "50.00", "2": "12.50", "3": "0.05", "4": "50.00", "5": "1234.50", "6": "50.00", "9": "50.00",
    }  # fmt: skip
    assert amounts(service, book) == {f"{mark}-{number}": amount for number, amount in issued.items()}
    rows = service.manage.get(f"{path}.csv").text.splitlines()
    assert rows[0].endswith(",redeemedAt,amount")
    assert {row.split(",")[0]: row.split(",")[-1] for row in rows[1:]} == amounts(service, book)
    assert service.manage.get(f"{path}.csv?excel=semicolon").text.splitlines()[3].endswith(";1234,50")
    assert service.stats(book)["codes"] == service.stats(book)["available"] == 7
    assert list(amounts(service, service.book(new_code())).values()) == [None]


def test_listed_cards_are_as_their_coupons(service: Service) -> None:
    """A list has a card's status: used up once nothing is left of it, by redemptions or a closing, until something is
    given back or credited. A rollback without `restore` gives nothing back."""
    names = ("part", "spent", "returned", "kept", "closed", "credited", "held")
    codes = {name: new_code() for name in names}
    book, client = service.book(*codes.values(), discount=CARD), service.admin

    def post(path: str, status: int = 200, **body: Any) -> Any:
        return ok(client.post(f"/v1/{path}", json=body), status)

    for name in ("part", "spent", "returned", "kept"):
        body = {"userId": "ann", "orderId": new_id("order"), "orderValue": "20.00" if name == "part" else "70.00"}
        made = post(f"coupons/redeem/{codes[name]}", 201, **body)
        if name in ("returned", "kept"):
            post(f"redemptions/{made['redemptionId']}/rollback", restore=name == "returned")
    for name in ("closed", "credited"):
        post(f"coupons/{codes[name]}/close")
    post(f"coupons/{codes['credited']}/credit", amount="0.01")
    post(f"coupons/lock/{codes['held']}", 201, userId="ann", orderId=new_id("order"), orderValue="50.00")
    coupons = {name: ok(client.get(f"/v1/coupons/{code}"))["status"] for name, code in codes.items()}
    used_up = ("spent", "kept", "closed")
    assert coupons == {name: "exhausted" if name in used_up else "available" for name in names} | {"held": "locked"}
    listed = {item["code"]: item["status"] for item in ok(client.get(f"/v1/books/{book}/codes"))["items"]}
    assert listed == {codes[name]: status for name, status in (coupons | {"held": "available"}).items()}
    query = {"status": "exhausted"}
    items = ok(client.get(f"/v1/books/{book}/codes", params=query))["items"]
    assert {item["code"] for item in items} == {codes[name] for name in used_up}


def test_a_book_without_cards_takes_no_amounts(service: Service) -> None:
    """An amount in a book of other codes, and a limit of a card, is an invalid line, in a dry run too."""
    path, code = f"/v1/books/{service.book()}/codes", new_code()
    reason = "amount: must be empty: the codes of this book are no cards with a balance"
    for query in ({"dryRun": "true"}, {}):
        counts = ok(service.manage.post(path, params=query, json={"codes": [{"code": code, "amount": 5}]}))
        assert (counts["added"], counts["invalid"], counts["errors"][0]["reason"]) == (0, 1, reason)
        assert "amount" not in counts
    rejected = service.manage.post(f"{path}/rejected.csv", json={"codes": [{"code": code, "amount": 5}]}).text
    assert rejected.splitlines()[1].startswith("1,amount: must be empty")
    headers = {"Content-Type": "text/csv"}
    limited = f"code,maxRedemptions\n{code},1\n".encode()
    path = f"/v1/books/{service.book(discount=CARD)}/codes"
    counts = ok(service.manage.post(path, content=limited, headers=headers))
    assert counts["errors"][0]["reason"] == "maxRedemptions: must be empty: a card can be used while it has a balance"
    refused(service.manage.post(path, json={"codes": [{"code": code, "amount": []}]}), 400, "malformed")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"maxRedemptionsPerCode": 3}, "maxRedemptionsPerCode"),
        ({"discount": CARD | {"maxAmount": 5}}, "discount.maxAmount"),
        ({"discount": CARD | {"value": "0.001"}}, "discount.value"),
        ({"discount": {"type": "fixed", "value": 5}}, "discount.type"),
        ({"discount": CARD | {"currency": "EUR"}}, "discount.currency"),
    ],
)
def test_a_book_of_cards_is_not_changed_so(service: Service, fields: dict[str, Any], field: str) -> None:
    """A book of cards has no limit for each code and no maxAmount; with codes it keeps its kind and currency."""
    book = service.book(new_code(), discount=CARD)
    refused(service.manage.patch(f"/v1/books/{book}", json=fields), 422, "invalid", field)
    assert ok(service.manage.get(f"/v1/books/{book}"))["discount"]["value"] == "50.00"


def test_generated_cards_have_the_value(service: Service) -> None:
    """Generated cards have the book's value, those of a later job the value of then."""
    book = service.book(discount=CARD, totalCodes=2)
    until(lambda: service.stats(book)["codes"] == 2)
    ok(service.manage.patch(f"/v1/books/{book}", json={"discount": CARD | {"value": 80}}))
    ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)
    until(lambda: service.stats(book)["codes"] == 3)
    assert sorted(map(str, amounts(service, book).values())) == ["50.00", "50.00", "80.00"]
