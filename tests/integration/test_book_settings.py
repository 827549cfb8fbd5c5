"""What a book says about gifts: which books are taken, by POST and by PATCH."""

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
