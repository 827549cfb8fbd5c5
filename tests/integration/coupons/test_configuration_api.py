"""Configuration over HTTP: an answered change is in Postgres and in Redis, and a refusal names its reason."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.serving import own_workspace
from tests.harness.waiting import until

service = own_workspace("live")
"""A workspace of this file's own, whose settings it changes and whose lists it reads."""


def make_book(service: Service, **fields: Any) -> dict[str, Any]:
    response = service.manage.post("/v1/books", json={"name": "Sale"} | fields)
    book = ok(response, 201)
    assert response.headers["Location"] == f"/v1/books/{book['bookId']}"
    return book


def wait_for_job(service: Service, job_id: str) -> dict[str, Any]:
    path = f"/v1/jobs/{job_id}"
    return until(lambda: (job := ok(service.manage.get(path)))["status"] != "running" and job)


def test_books_are_made_read_changed_and_listed(service: Service) -> None:
    """All routes return the same book; a PATCH changes only the named fields; `/v1/coupons` is an alias."""
    tag, gifts = uuid4().hex, service.book()
    made = [make_book(service, name=f"Book {number}", tags=[tag], giftBookId=gifts) for number in range(5)]
    ok(service.manage.post("/v1/coupons", json={"name": "Book 5", "tags": [tag]}), 201)
    path = f"/v1/books/{made[0]['bookId']}"
    assert ok(service.manage.get(path)) == made[0]
    assert made[0]["giftBookId"] == gifts

    for listed in ("/v1/books", "/v1/coupons"):
        names = [item["name"] for page in pages(service.manage, listed, tag=tag, limit=4) for item in page]
        assert names == [f"Book {number}" for number in (5, 4, 3, 2, 1, 0)]

    changes = {"status": "archived", "description": "Ä", "giftBookId": None}
    changed = ok(service.manage.patch(path, json=changes))
    assert changed == made[0] | changes | {"updatedAt": changed["updatedAt"]}
    assert ok(service.manage.get("/v1/books", params={"tag": tag, "q": "ä", "status": "archived"}))["items"] == [
        changed
    ]


def test_an_upload_is_usable_at_once(service: Service) -> None:
    """When an upload is answered, Redis has its codes with owners, limits and ends; no later upload changes them."""
    book, mark = service.book(), uuid4().hex[:12].upper()
    data = (
        "\ufeffCoupon code;userId;colour;Valid until;maxRedemptions\r\n"
        f"{mark}-A;;red;;\r\n{mark.lower()}-b;alice;;;\r\n{mark}-C;;;2026-01-01T00:00:00Z;\r\n{mark}-D;;;;7\r\n"
        f'{mark}-A;;;;\r\n"{mark}-\r\n";;;;\r\nNO;;;;\r\n'
    )
    headers, rule = {"Content-Type": "text/csv; charset=UTF-8"}, "code: must have 4 to 64 of A-Z a-z 0-9 - _, but has "
    path = f"/v1/books/{book}/codes"
    problem = refused(service.manage.post(path, content=data.encode(), headers=headers), 400, "malformed", "header")
    assert 'unknown columns: "colour"' in problem["detail"]
    result = ok(service.manage.post(f"{path}?unknownColumns=ignore", content=data.encode(), headers=headers))
    file = result.pop("file")
    assert (file["delimiter"], file["hasBom"], file["hasHeader"], file["problem"]) == ("semicolon", True, True, None)
    assert [(column["name"], column["field"], column["example"]) for column in file["columns"]] == [
        ("Coupon code", "code", None), ("userId", "userId", None), ("colour", None, None),
        ("Valid until", "expiresAt", None), ("maxRedemptions", "maxRedemptions", None),
    ]  # fmt: skip
    assert result == {
        "added": 4,
        "duplicates": 1,
        "invalid": 2,
        "errors": [
            {"line": 7, "code": f"{mark}-\n", "reason": f"{rule}a line break at position {len(mark) + 2}"},
            {"line": 9, "code": "NO", "reason": f"{rule}2 characters"},
        ],
    }
    coupons = [ok(service.checkout.get(f"/v1/coupons/{mark}-{name}")) for name in "ABCD"]
    assert [(coupon["status"], coupon["userId"], coupon["maxRedemptions"]) for coupon in coupons] == [
        ("available", None, 1), ("assigned", "alice", 1), ("expired", None, 1), ("available", None, 7),
    ]  # fmt: skip
    body = {"bookId": service.book(), "codes": [f"{mark}-B", f"{mark}-E"]}
    counts = ok(service.manage.post("/v1/coupons/codes", json=body))
    assert counts == {"added": 1, "duplicates": 1, "invalid": 0, "errors": []}
    changed = ok(service.manage.patch(f"/v1/coupons/{mark}-B", json={"status": "inactive"}))
    assert changed == coupons[1] | {"status": "inactive"}


def test_a_large_upload_to_the_book_in_the_body(service: Service) -> None:
    """JSON of up to 16 MiB is accepted with the book before the codes, and its repeat is replayed; above 1 MiB with the
    book after them, and above 16 MiB, it is refused. Another book under the same key is another request."""
    path, mark, key = "/v1/coupons/codes", new_code(), {"Idempotency-Key": new_id()}
    book, codes = service.book(), [f"{mark}-{number}" for number in range(3)]
    fill = ["-" * 1000] * 2000
    large = {"bookId": book, "codes": [*codes, *fill]}
    counts = ok(service.manage.post(path, json=large, headers=key))
    assert (counts["added"], counts["invalid"]) == (3, 2000)
    again = service.manage.post(path, json=large, headers=key)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (counts, "true")
    other = service.manage.post(path, json=large | {"bookId": service.book()}, headers=key)
    refused(other, 422, "idempotency_key_reused")
    refused(service.manage.post(path, json={"codes": fill, "bookId": book}), 400, "malformed", "bookId")
    refused(service.manage.post(path, json={"bookId": book, "codes": fill * 9}), 413, "too_large")
    for body in ({"codes": codes, "bookId": book}, {"bookId": book, "codes": codes}):
        assert ok(service.manage.post(path, json=body)) == {"added": 0, "duplicates": 3, "invalid": 0, "errors": []}
    refused(service.manage.post(path, json={"bookId": new_id(), "codes": codes}), 404, "book_not_found")
    refused(service.manage.post(path, json={"bookId": 5, "codes": codes}), 400, "malformed", "bookId")
    refused(service.manage.post(path, json={"bookId": book, "codes": [*codes, 5]}), 400, "malformed", "codes[3]")
    refused(service.manage.post(path, json={"bookId": book, "codes": codes, "x": 1}), 400, "malformed", "x")


def test_dates_of_a_spreadsheet(service: Service) -> None:
    """A file whose dates are open is refused, and its dry run says what to send; then coupons end as it was meant."""
    path, code = f"/v1/books/{service.book()}/codes", new_code()
    headers = {"Content-Type": "text/csv"}
    data = f"Code;Preis;Gültig bis\r{code};1,50 €;01.02.2030\r".encode("cp1252")
    query = {"columns": "code,-,expiresAt", "header": "true"}
    refused(service.manage.post(path, params=query, content=data, headers=headers), 400, "malformed", "dates")
    query |= {"dates": "dmy"}
    checked = service.manage.post(path, params=query | {"dryRun": "true"}, content=data, headers=headers)
    file = ok(checked)["file"]
    assert (file["encoding"], file["problemField"]) == ("windows-1252", "timeZone")
    query |= {"timeZone": "Europe/Nowhere"}
    refused(service.manage.post(path, params=query, content=data, headers=headers), 422, "invalid", "timeZone")
    query |= {"timeZone": "Europe/Berlin"}
    result = ok(service.manage.post(path, params=query, content=data, headers=headers))
    time = "2030-02-01T22:59:59.999Z"
    dates = {"order": "dmy", "separators": "-./", "timeZone": "Europe/Berlin", "example": "01.02.2030", "readAs": time}
    assert (result["added"], result["file"]["dates"]) == (1, dates)
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["expiresAt"] == time


def test_large_uploads_are_streamed(service: Service) -> None:
    """A chunked upload without a length is counted whole; the response lists the first thousand errors."""
    book, mark = service.book(), uuid4().hex[:8].upper()

    def lines() -> Iterator[bytes]:
        for start in range(0, 12_000, 100):
            yield b"".join(b"%s-%06d\nbad code\n" % (mark.encode(), number) for number in range(start, start + 100))
        yield b"\xff\n" + f"{mark}-000000".encode()

    headers = {"Content-Type": "text/plain"}
    counts = ok(service.manage.post(f"/v1/books/{book}/codes", content=lines(), headers=headers))
    assert [error["line"] for error in counts.pop("errors")] == list(range(2, 2002, 2))
    assert counts == {"added": 12_000, "duplicates": 1, "invalid": 12_001}
    stats = service.stats(book)
    assert (stats["codes"], stats["available"]) == (12_000, 12_000)


def test_codes_are_generated(service: Service) -> None:
    """A job makes exactly the requested number of codes, and Redis has them when the job is done."""
    book = make_book(service, totalCodes=6_000)
    assert wait_for_job(service, book["jobId"])["done"] == 6_000
    path = f"/v1/books/{book['bookId']}/codes/generate"
    response = service.manage.post(path, json={"count": 10, "codePattern": f"{uuid4().hex[:8]}-######"})
    job = wait_for_job(service, ok(response, 202)["jobId"])
    assert response.headers["Location"] == f"/v1/jobs/{job['jobId']}"
    expected = {"kind": "generate", "status": "done", "requested": 10, "done": 10, "errors": []}
    assert expected.items() <= job.items()
    assert service.stats(book["bookId"])["available"] == 6_010


def test_a_codes_uses_are_fixed_once_one_was_locked(service: Service) -> None:
    """`maxRedemptionsPerCode` can be changed until a code of the book was locked."""
    code = new_code()
    path = f"/v1/books/{service.book(code)}"
    assert ok(service.manage.patch(path, json={"maxRedemptionsPerCode": 3}))["maxRedemptionsPerCode"] == 3
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["maxRedemptions"] == 3
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}), 201)
    refused(service.manage.patch(path, json={"maxRedemptionsPerCode": 4}), 422, "invalid", "maxRedemptionsPerCode")
    assert ok(service.manage.patch(path, json={"maxRedemptionsPerCode": 3, "name": "New"}))["name"] == "New"


def test_a_books_currency_is_fixed_once_one_was_locked(service: Service) -> None:
    """It outlives the discount: one that is set later has it, and no other."""
    code, euros = new_code(), {"type": "fixed", "value": 1, "currency": "EUR"}
    path = f"/v1/books/{service.book(code, discount=euros | {'currency': 'JPY'})}"
    ok(service.manage.patch(path, json={"discount": euros}))
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}), 201)
    ok(service.manage.patch(path, json={"discount": None}))
    dollars = {"discount": euros | {"currency": "USD"}}
    refused(service.manage.patch(path, json=dollars), 422, "invalid", "discount.currency")
    again = ok(service.manage.patch(path, json={"discount": {"type": "fixed", "value": 2}}))
    assert again["discount"]["currency"] == "EUR"


def test_all_locks_of_a_book_end_with_its_change(service: Service) -> None:
    """`endLocks` ends them in the same step: 250 tokens are lost, and their codes free. The audit has it."""
    book = make_book(service, totalCodes=250, maxRedemptionsPerUser=250, maxRedemptions=250)
    wait_for_job(service, book["jobId"])
    path = f"/v1/books/{book['bookId']}"
    codes = [item["code"] for page in pages(service.manage, f"{path}/codes", limit=250) for item in page]
    asked = [{"op": "lock", "code": code, "userId": "ann", "orderId": code} for code in codes]
    locks = ok(service.checkout.post("/v1/batch", json={"operations": asked}))["results"]
    assert {lock["status"] for lock in locks} == {201}
    ok(service.manage.patch(path, json={"status": "active", "endLocks": False}))
    assert ok(service.manage.get(f"{path}/stats"))["locked"] == 250
    changed = ok(service.manage.patch(path, json={"endLocks": True, "description": "Wrong price"}))
    assert "endLocks" not in changed
    stats = ok(service.manage.get(f"{path}/stats"))
    assert (stats["locked"], stats["available"]) == (0, 250)
    for code, lock in list(zip(codes, locks, strict=True))[:3]:
        body = {"userId": "ann", "orderId": code, "lockToken": lock["body"]["lockToken"]}
        refused(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 409, "lock_lost")
        ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "bob"}), 201)
    (entry,) = ok(service.operate.get("/v1/audit", params={"action": "book.changed", "limit": 1}))["items"]
    assert (entry["before"]["endLocks"], entry["after"]["endLocks"]) == (False, True)


def test_the_same_key_does_it_once(service: Service) -> None:
    """The repeat of a creation or of an upload under its key gets the first answer; a refusal is not stored."""
    headers = {"Idempotency-Key": uuid4().hex}
    refused(service.manage.post("/v1/books", json={"name": ""}, headers=headers), 422, "invalid")
    first, again = (service.manage.post("/v1/books", json={"name": "Once"}, headers=headers) for _ in range(2))
    assert ok(first, 201) == ok(again, 201)
    assert again.headers["Location"] == first.headers["Location"]
    assert (again.headers["Idempotency-Replayed"], "Idempotency-Replayed" in first.headers) == ("true", False)
    refused(service.manage.post("/v1/coupons", json={"name": "Once"}, headers=headers), 422, "idempotency_key_reused")

    path = f"/v1/books/{first.json()['bookId']}/codes"
    headers, code = {"Idempotency-Key": uuid4().hex, "Content-Type": "text/plain"}, new_code().encode()
    first, again = (service.manage.post(path, content=code, headers=headers) for _ in range(2))
    assert ok(first)["added"] == ok(again)["added"] == 1
    assert again.headers["Idempotency-Replayed"] == "true"
    refused(service.manage.post(path, content=b"OTHER", headers=headers), 422, "idempotency_key_reused")


def test_users(service: Service) -> None:
    """A user is created once, can be read before that, and has the workspace's cap unless it has one of its own."""
    user, code = new_id(), new_code()
    path = f"/v1/users/{user}"
    unknown = {"userId": user, "maxCoupons": None, "coupons": 0, "metadata": {}, "createdAt": None}
    assert ok(service.checkout.get(path)) == unknown
    body = {"userId": user, "maxCoupons": 5, "metadata": {"a": 1}}
    first = ok(service.manage.post("/v1/users", json=body), 201)
    assert (first["maxCoupons"], first["metadata"]) == (5, {"a": 1})
    assert ok(service.manage.post("/v1/users", json=body | {"maxCoupons": 6})) == first
    assert ok(service.manage.get("/v1/users", params={"limit": 1}))["items"] == [first]

    ok(service.operate.patch("/v1/workspace", json={"maxCoupons": 9}))
    assert ok(service.manage.patch(path, json={"maxCoupons": None}))["maxCoupons"] == 9
    ok(service.operate.patch("/v1/workspace", json={"maxCoupons": None}))
    service.book(code)
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    assert ok(service.checkout.get(path))["coupons"] == 1


def test_keys(service: Service) -> None:
    """A key works as soon as it is answered, shows its secret once, and is refused once its revocation is answered."""
    headers, body = {"Idempotency-Key": uuid4().hex}, {"name": "shop", "scopes": ["manage"]}
    key = ok(service.operate.post("/v1/keys", json=body, headers=headers), 201)
    secret = key.pop("secret")
    assert secret.startswith(key["prefix"])
    assert key["prefix"].startswith("scrip_live_")
    assert ok(service.operate.post("/v1/keys", json=body, headers=headers), 201) == key | {"secret": None}
    ok(service.client(secret).get("/v1/books"))
    listed = [item for item in ok(service.operate.get("/v1/keys"))["items"] if item["keyId"] == key["keyId"]]
    assert [item | {"lastUsedAt": None} for item in listed] == [key]
    assert service.operate.delete(f"/v1/keys/{key['keyId']}").status_code == 204
    refused(service.client(secret).get("/v1/books"), 401, "unauthenticated")
    refused(service.operate.delete(f"/v1/keys/{key['keyId']}"), 404, "not_found")
