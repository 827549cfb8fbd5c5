"""What a book says about gifts and its stock: which books and patterns are taken, by POST and by PATCH."""

from typing import Any
from uuid import uuid4

from tests.service_fixture import Service, ok, refused


def test_a_gift_book_is_of_this_workspace(service: Service) -> None:
    """giftBookId names another book of the workspace; one of another workspace, or none, is invalid; null clears."""
    gifts, book = service.book(), service.book()
    theirs = ok(service.rival_manage.post("/v1/books", json={"name": "Theirs"}), 201)["bookId"]
    made = ok(service.manage.post("/v1/books", json={"name": "Sale", "giftBookId": gifts}), 201)
    assert made["giftBookId"] == gifts
    path = f"/v1/books/{book}"
    assert ok(service.manage.patch(path, json={"giftBookId": gifts}))["giftBookId"] == gifts
    for wrong in (theirs, str(uuid4())):
        refused(
            service.manage.post("/v1/books", json={"name": "Sale", "giftBookId": wrong}), 422, "invalid", "giftBookId"
        )
        refused(service.manage.patch(path, json={"giftBookId": wrong}), 422, "invalid", "giftBookId")
    refused(service.manage.patch(path, json={"giftBookId": book}), 422, "invalid", "giftBookId")
    assert ok(service.manage.get(path))["giftBookId"] == gifts
    assert ok(service.manage.patch(path, json={"giftBookId": None}))["giftBookId"] is None
    assert ok(service.manage.get(path))["giftBookId"] is None


def test_a_pattern_has_room_for_what_is_kept_free(service: Service) -> None:
    """A pattern that is too small for keepFree is refused, whichever of them is said last, and nothing is changed."""
    small: dict[str, Any] = {"codePattern": "R-######", "charset": "0123456789"}
    said = {"name": "Sale", "keepFree": 101, **small}
    refused(service.manage.post("/v1/books", json=said), 422, "pattern_too_small", "keepFree")
    # Inactive books are restocked too; an archived one makes no codes here.
    path = f"/v1/books/{service.book(keepFree=100, status='archived', **small)}"
    before = ok(service.manage.get(path))
    assert before["keepFree"] == 100
    for wrong in ({"keepFree": 101}, {"codePattern": "R-#####"}, {"charset": "012345678"}):
        refused(service.manage.patch(path, json=wrong), 422, "pattern_too_small", "keepFree")
    for wrong in ({"keepFree": 0}, {"keepFree": 10_000_001}):
        refused(service.manage.patch(path, json=wrong), 422, "invalid", "keepFree")
    assert ok(service.manage.get(path)) == before
    assert ok(service.manage.patch(path, json={"keepFree": None}))["keepFree"] is None
    assert ok(service.manage.patch(path, json={"charset": "012345678"}))["charset"] == "012345678"
