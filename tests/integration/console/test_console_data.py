"""The console's own routes: the overview, searching, timelines, a flash sale, a dry run of an upload."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.waiting import until

DATA = "/console/data"


def timeline(client: httpx.Client, kind: str, name: str) -> dict[str, Any]:
    """Read a timeline, in which everything is recorded."""
    answer = ok(client.get(f"{DATA}/timeline", params={"kind": kind, "name": name}))
    assert answer["recorded"]
    return answer


def list_kinds(answer: dict[str, Any]) -> list[str]:
    """List the kinds of a timeline's events, the oldest first."""
    return [event["what"] for event in reversed(answer["events"])]


def search(client: httpx.Client, text: str) -> list[tuple[str, str]]:
    """Search; return kind and name of each match."""
    return [(match["kind"], match["name"]) for match in ok(client.get(f"{DATA}/search", params={"q": text}))["matches"]]


def redeem(service: Service, code: str, user: str, order: str) -> str:
    body = {"userId": user, "orderId": order, "orderValue": "10.00"}
    return ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]


def test_the_overview(service: Service) -> None:
    """The overview has the state of Redis, Postgres and each book."""
    book = service.book(new_code(), code := new_code(), name="Seen at a glance")
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "ann"}), 201)
    now = ok(service.operate.get(f"{DATA}/overview"))
    state = {"connected": True, "gate": "open", "fsynced": True}
    assert state.items() <= now["redis"].items()
    assert now["redis"]["server"].startswith("Valkey ")
    assert 0 < now["redis"]["usedBytes"] < now["redis"]["maxBytes"]
    assert now["postgres"]["version"]
    assert now["postgres"]["databaseBytes"] > 0
    own = now["workers"]["shown"][0]
    assert (own["id"], own["state"], own["hasWorker"]) == (service.partition, "open", True)
    assert own["since"]
    assert 0 < now["workers"]["open"] <= now["workers"]["partitions"]
    assert ok(service.manage.get(f"{DATA}/overview"))["workers"] is None
    (row,) = [row for row in now["books"] if row["bookId"] == book]
    assert (row["name"], row["counts"]["available"], row["counts"]["locked"]) == ("Seen at a glance", 1, 1)
    assert row["counts"] == service.stats(book) | {"expired": 0}


def test_a_book_has_one_state(service: Service) -> None:
    """Overview, list and page have the same state, by the workspace's clock, and the same counts; a limit is also
    reached by redemptions that gave no use back."""
    name = new_id("Stock")
    book = service.book(code := new_code(), new_code(), name=f"{name} 1", maxRedemptions=1)
    made = redeem(service, code, new_id(), new_id("order"))
    ok(service.manage.post(f"/v1/redemptions/{made}/rollback", json={"restore": False}))
    first = ok(service.manage.get(f"{DATA}/books/{book}"))
    assert (first["state"], first["counts"]["available"], first["counts"]["redemptions"]) == ("sold out", 1, 0)
    assert first["counts"] == service.stats(book) | {"expired": 0}
    paused = service.book(name=f"{name} 2", status="inactive")
    listed = list(pages(service.manage, f"{DATA}/books", limit=1, q=name.lower()))
    assert [(item["bookId"], item["state"]) for page in listed for item in page] == [
        (paused, "paused"), (book, "sold out"),
    ]  # fmt: skip
    assert listed[1] == [first]
    assert first in ok(service.manage.get(f"{DATA}/overview"))["books"]
    refused(service.rival_manage.get(f"{DATA}/books/{book}"), 404, "book_not_found")
    refused(service.manage.get(f"{DATA}/books", params={"limit": 51}), 422, "invalid")

    test = service.make_workspace(new_id("clocked"), "test")
    path = f"{DATA}/books/{test.book(validUntil='2126-01-01T00:00:00Z')}"
    assert ok(test.manage.get(path))["state"] == "no codes"
    ok(test.operate.post("/v1/test/clock", json={"now": "2126-01-01T00:00:01Z"}))
    assert ok(test.manage.get(path))["state"] == "ended"


def test_the_charts(service: Service) -> None:
    """Successes, refusals and response times of a workspace are in its charts after a step, and not in another's; the
    backlog needs the scope `operate`."""
    service, rival = (service.make_workspace(new_id("charted"), "live") for _ in range(2))

    def read(client: Any, span: str = "hour") -> dict[str, Any]:
        return ok(client.get(f"{DATA}/charts", params={"span": span}))

    def count(charts: dict[str, Any], reason: str) -> int:
        return sum(row["count"] for row in charts["reasons"] if row["code"] == reason)

    service.book(code := new_code())
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "ann"}), 201)
    refused(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "bob"}), 409, "coupon_locked")
    now = until(lambda: count(new := read(service.operate), "coupon_locked") and new)  # a step of ten seconds has ended
    assert [sum(filter(None, values)) for values in (now["done"]["locked"], now["refused"])] == [1, 1]
    p50_ms, p99_ms = ([value for value in now[name] if value is not None][-1] for name in ("p50Ms", "p99Ms"))
    assert p99_ms >= p50_ms > 0
    until(lambda: read(service.operate)["backlog"][-1] is not None)
    assert count(read(rival.manage), "coupon_locked") == 0
    assert read(service.manage)["backlog"] is None
    day = read(service.operate, "day")
    assert (len(now["refused"]), now["step"]) == (360, 10_000)
    assert (len(day["refused"]), day["step"]) == (288, 300_000)


def test_a_code_s_timeline(service: Service) -> None:
    """A code's timeline has all its events in order, and its state in Postgres."""
    code, user, order = new_code(), new_id(), new_id("order")
    service.book(code, discount={"type": "fixed", "value": 3})
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    ok(service.manage.post(f"/v1/coupons/unassign/{code}", json={}))
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    made = redeem(service, code, user, order)
    answer = timeline(service.manage, "code", code.lower())
    assert list_kinds(answer) == ["assigned", "unassigned", "assigned", "redeemed"]
    (last, *_) = answer["events"]
    assert (last["redemptionId"], last["orderValue"], last["discountAmount"]) == (made, "10.00", "3.00")
    assert (last["userId"], last["orderId"], last["code"], last["currency"]) == (user, order, code, "USD")
    assert (answer["postgres"]["status"], answer["postgres"]["userId"]) == ("redeemed", user)
    back = {"reason": "sent back", "restore": False}
    ok(service.manage.post(f"/v1/redemptions/{made}/rollback", json=back))
    answer = timeline(service.manage, "code", code)
    assert list_kinds(answer)[-1] == "rolledBack"
    assert back.items() <= answer["events"][0].items()
    assert list_kinds(timeline(service.manage, "user", user)) == list_kinds(answer)
    assert list_kinds(timeline(service.manage, "order", order)) == ["redeemed", "rolledBack"]


def test_a_card_s_timeline(service: Service) -> None:
    """A card's timeline has what each redemption took and each rollback gave back, credits and closes, who ordered
    them, and what was available afterwards; a search for the credit's Idempotency-Key finds it."""
    code, key = new_code(), new_id("once")
    service.book(code, discount={"type": "balance", "value": 50, "currency": "JPY"})
    body = {"userId": "ann", "orderId": new_id("order"), "orderValue": 20, "currency": "JPY"}
    made = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]
    ok(service.manage.post(f"/v1/redemptions/{made}/rollback", json={}))
    path = f"/v1/coupons/{code}"
    ok(service.manage.post(f"{path}/credit", json={"amount": 5, "reason": "lost"}, headers={"Idempotency-Key": key}))
    ok(service.admin.post(f"{path}/close", json={}))
    events = timeline(service.manage, "code", code)["events"]
    names = "what discountAmount balanceAfter currency keyName".split()
    assert [tuple(event[name] for name in names) for event in events] == [
        ("closed", "55", "0", "JPY", "admin"), ("credited", "5", "55", "JPY", "manage"),
        ("rolledBack", "20", "50", "JPY", None), ("redeemed", "20", "30", "JPY", None),
    ]  # fmt: skip
    assert (events[1]["reason"], events[1]["actor"], events[1]["userId"]) == ("lost", "key", None)
    assert search(service.manage, key) == [("key", key)]
    assert timeline(service.manage, "key", key)["events"] == [events[1]]
    assert timeline(service.rival_manage, "code", code)["events"] == []


def test_a_code_s_holds_and_changes(service: Service) -> None:
    """A code's timeline has its live locks from their begin; its changes are its own, its book's, and those by jobs,
    each with who ordered it."""
    code, other, user = new_code(), new_code(), new_id()
    book = service.book(code, other)
    assert timeline(service.manage, "code", code)["holds"] == {"total": 0, "first": []}
    lock = ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": user, "orderId": "A-1"}), 201)
    holds = timeline(service.manage, "code", code)["holds"]
    (held,) = holds["first"]
    assert (holds["total"], held["userId"], held["orderId"]) == (1, user, "A-1")
    assert held["since"] < held["until"] == lock["expiresAt"]
    released = {"lockToken": lock["lockToken"]}
    assert service.checkout.post(f"/v1/coupons/unlock/{code}", json=released).status_code == 204
    assert timeline(service.manage, "code", code)["holds"]["total"] == 0

    ok(service.manage.patch(f"/v1/coupons/{code}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/books/{book}", json={"status": "inactive"}))
    end = "2126-01-01T00:00:00.000Z"
    for body in ({"action": "switchOn"}, {"action": "setExpiry", "expiresAt": end, "filter": {"codes": [code]}}):
        job = ok(service.manage.post(f"/v1/books/{book}/codes/change", json=body), 202)["jobId"]
        until(lambda job=job: ok(service.manage.get(f"/v1/jobs/{job}"))["status"] == "done")
    items = ok(service.manage.get(f"{DATA}/changes", params={"code": code.lower()}))["items"]
    assert [(item["scope"], item["before"], item["after"]) for item in items] == [
        ("job", {"expiresAt": None}, {"expiresAt": end}),
        ("job", {"status": "inactive"}, {"status": "active"}),
        ("book", {"status": "active"}, {"status": "inactive"}),
        ("code", {"status": "active"}, {"status": "inactive"}),
    ]
    assert {(item["actor"], item["keyName"]) for item in items} == {("key", "manage")}
    assert [bool(item["jobId"]) for item in items] == [True, True, False, False]
    scopes = [item["scope"] for item in ok(service.manage.get(f"{DATA}/changes", params={"code": other}))["items"]]
    assert scopes.count("job") == 0
    refused(service.rival_manage.get(f"{DATA}/changes", params={"code": code}), 404, "coupon_not_found")


def test_an_order_s_timeline(service: Service) -> None:
    """An order's timeline keeps redemptions whose rollback freed its place, and has its gift while that stands."""
    gifts = service.book(new_code())
    code, again, user, order = new_code(), new_code(), new_id(), new_id("order")
    service.book(code, again, giftBookId=gifts)
    body = {"userId": user, "orderId": order, "orderValue": 9, "code": code}
    ok(service.checkout.post("/v1/checkout", json=body), 201)
    assert sorted(list_kinds(timeline(service.manage, "order", order))) == ["assigned", "redeemed"]
    ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))
    redeem(service, again, user, order)
    kinds = [kind for kind in list_kinds(timeline(service.manage, "order", order)) if kind.startswith("r")]
    assert kinds == ["redeemed", "rolledBack", "redeemed"]


def test_searching_a_request(service: Service) -> None:
    """An Idempotency-Key leads to its redemption, a generated request id to redemptions within a second of it."""
    code, user, order, key = new_code(), new_id(), new_id("order"), new_id("key")
    service.book(code)
    body = {"userId": user, "orderId": order}
    answer = service.checkout.post(f"/v1/coupons/redeem/{code}", json=body, headers={"Idempotency-Key": key})
    made = ok(answer, 201)["redemptionId"]
    assert search(service.manage, key) == [("key", key)]
    assert [event["redemptionId"] for event in timeline(service.manage, "key", key)["events"]] == [made]
    request = answer.headers["X-Request-Id"]
    assert search(service.manage, request) == [("request", request)]
    assert made in [event["redemptionId"] for event in timeline(service.manage, "request", request)["events"]]


def test_searching(service: Service) -> None:
    """A search matches codes and their beginnings in any case, users, orders, redemptions, books by a part of their
    name, and jobs, all of its own workspace."""
    code, name = new_code(), new_id()
    book = service.book(code)
    made = redeem(service, code, name, name)
    job = ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)["jobId"]
    matches = {text: search(service.manage, text) for text in (code.lower(), name, made, book, job, "no such thing")}
    assert matches[code.lower()] == [("code", code)]
    assert matches[name] == [("user", name), ("order", name)]
    assert matches[made] == [("redemption", made)]
    titled, begins = new_id("Summer"), code[:-2].lower()
    assert code in [name for kind, name in search(service.manage, begins) if kind == "code"]
    named = service.book(name=f"{titled} 2026")
    assert search(service.manage, titled.upper()) == [("book", named)]
    assert search(service.rival_manage, titled) == search(service.rival_manage, begins) == []
    assert (matches[book], matches[job], matches["no such thing"]) == ([("book", book)], [("job", job)], [])
    for text in (code, name):
        assert search(service.rival_manage, text) == []
    for text in (made, book, job):
        assert {kind for kind, _ in search(service.rival_manage, text)} <= {"request"}
    assert timeline(service.rival_manage, "code", code) == {
        "events": [], "recorded": True, "postgres": None, "holds": {"total": 0, "first": []},
    }  # fmt: skip
    assert timeline(service.rival_manage, "user", name)["events"] == []
    assert made not in [event["redemptionId"] for event in timeline(service.rival_manage, "request", made)["events"]]


def test_lists_over_all_books(service: Service) -> None:
    """Redemptions and jobs of the workspace are paged, newest first, without another workspace's."""
    service = service.make_workspace(new_id("listed"), "live")
    codes = [new_code() for _ in range(3)]
    made = [redeem(service, code, "ann", new_id("order")) for code in codes if service.book(code)]
    listed = pages(service.manage, f"{DATA}/redemptions", limit=1)
    assert [item["redemptionId"] for page in listed for item in page] == made[::-1]
    book, user = service.book(code := new_code()), new_id()
    last = redeem(service, code, user, new_id("order"))
    (filtered,) = ok(
        service.manage.get(f"{DATA}/redemptions", params={"bookId": book, "since": "2020-01-01T00:00:00Z"})
    )["items"]
    at = filtered["redeemedAt"]
    for params, found in (
        ({"bookId": book, "userId": user, "since": at}, [last]), ({"userId": user}, [last]),
        ({"bookId": book, "until": at}, []), ({"userId": user, "until": at}, []),
        ({"userId": user, "bookId": str(UUID(int=0))}, []), ({"userId": new_id()}, []),
    ):  # fmt: skip
        items = ok(service.manage.get(f"{DATA}/redemptions", params=params))["items"]
        assert [item["redemptionId"] for item in items] == found, params
    theirs = ok(service.rival_manage.get(f"{DATA}/redemptions"))["items"]
    assert not {item["redemptionId"] for item in theirs} & set(made)
    book = service.book()
    jobs = [ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)["jobId"] for _ in "ab"]
    jobs.append(ok(service.admin.post(f"/v1/books/{book}/codes/change", json={"action": "switchOn"}), 202)["jobId"])
    orders = {job["jobId"]: (job["actor"], job["keyName"]) for job in ok(service.operate.get(f"{DATA}/jobs"))["items"]}
    assert [orders[job] for job in jobs] == [("key", "manage"), ("key", "manage"), ("key", "admin")]
    listed = pages(service.operate, f"{DATA}/jobs", limit=1)
    assert [job["jobId"] for page in listed for job in page] == jobs[::-1]
    assert not {job["jobId"] for job in ok(service.rival_manage.get(f"{DATA}/jobs"))["items"]} & set(jobs)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("overview", {"manage", "operate"}),
        ("charts", {"manage", "operate"}),
        ("jobs", {"manage", "operate"}),
        ("books", {"manage"}),
        ("redemptions", {"manage"}),
        ("search?q=x", {"manage"}),
        ("timeline?kind=user&name=x", {"manage"}),
        ("changes?code=SUMMER-A", {"manage"}),
    ],
)
def test_the_scopes_of_the_data(service: Service, path: str, keys: set[str]) -> None:
    """Each route needs a scope of operators."""
    refused(service.anonymous.get(f"{DATA}/{path}"), 401, "unauthenticated")
    for key in ("public", "checkout", "manage", "operate"):
        answer = service.client(f"demo_{key}").get(f"{DATA}/{path}")
        if key in keys:
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "no-store"
        else:
            refused(answer, 403, "forbidden")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("search", 400, "malformed"),
        ("search?q=", 422, "invalid"),
        (f"search?q={'x' * 256}", 422, "invalid"),
        ("search?q=a%00b", 422, "invalid"),
        *((f"timeline?kind={kind}&name=a%00b", 422, "invalid") for kind in ("code", "user", "order", "key", "request")),
        ("timeline?kind=book&name=x", 422, "invalid"),
        ("timeline?kind=request&name=x", 404, "not_found"),
        ("timeline?kind=request&name=e677d21f-dc00-7000-8000-000000000001", 404, "not_found"),
        ("timeline?kind=request&name=ffffffff-ffff-7000-8000-000000000001", 404, "not_found"),
        ("timeline?kind=request&name=6ba7b810-9dad-11d1-80b4-00c04fd430c8", 404, "not_found"),
        ("timeline?kind=code&name=a%20b", 404, "coupon_not_found"),
        ("changes", 400, "malformed"),
        ("changes?code=a%00b", 422, "invalid"),
        ("changes?code=NEVER-WAS", 404, "coupon_not_found"),
        ("jobs?cursor=x", 400, "malformed"),
        ("redemptions?cursor=!", 400, "malformed"),
        ("redemptions?bookId=x", 400, "malformed"),
        ("redemptions?since=1969-01-01T00:00:00Z", 422, "invalid"),
        ("overview?more=1", 400, "malformed"),
        ("charts?span=week", 422, "invalid"),
    ],
)
def test_bad_requests(service: Service, path: str, status: int, code: str) -> None:
    """Bad requests are refused with the contract's codes."""
    refused(service.manage.get(f"{DATA}/{path}"), status, code)


def test_a_flash_sale(service: Service) -> None:
    """200 buyers get exactly 7 coupons, by answers, Redis and Postgres; a second sale at the same time is refused."""
    body = {"buyers": 200, "coupons": 7}
    with service.admin.stream("POST", f"{DATA}/sale", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert json.loads(next(lines))["buyers"] == 200
        refused(service.admin.post(f"{DATA}/sale", json=body), 409, "request_in_progress")
        *_, last = map(json.loads, lines)
    assert last["proof"] == {
        "coupons": 7, "answered": 7, "redis": 7, "postgres": 7, "users": 7, "orders": 7, "neverMore": True,
    }  # fmt: skip
    assert (last["sold"], last["held"], last["gone"]) == (7, 0, 200)
    assert last["refused"]["coupon_exhausted"] > 0
    events = timeline(service.manage, "code", last["code"])["events"]
    assert len(events) == 7


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("rival_checkout", {"buyers": 1, "coupons": 1}, 403, "forbidden"),
        ("trial_admin", {"buyers": 1, "coupons": 1}, 403, "forbidden"),
        ("demo_manage", {"buyers": 1, "coupons": 1}, 403, "forbidden"),
        ("demo_admin", {"buyers": 2001, "coupons": 1}, 422, "invalid"),
        ("demo_admin", {"buyers": 1, "coupons": 1001}, 422, "invalid"),
        ("demo_admin", {"buyers": 0, "coupons": 1}, 422, "invalid"),
        ("demo_admin", {"buyers": 1}, 400, "malformed"),
    ],
)
def test_a_flash_sale_is_refused(service: Service, key: str, body: dict[str, int], status: int, code: str) -> None:
    """A flash sale runs in the demo's workspace alone, and within bounds."""
    refused(service.client(key).post(f"{DATA}/sale", json=body), status, code)


def test_a_dry_run_of_an_upload(service: Service) -> None:
    """A dry run answers as the upload does, in each media type, and adds nothing."""
    there = new_code()
    book = service.book(there)
    new = [new_code() for _ in range(3)]
    path = f"/v1/books/{book}/codes"
    lines = [new[0], there, "no code", new[1].lower(), new[0], new[2]]
    text = "\n".join(lines)
    forms: list[dict[str, Any]] = [
        {"json": {"codes": lines}},
        {"content": text, "headers": {"Content-Type": "text/plain"}},
        {"content": f"code\n{text}\n", "headers": {"Content-Type": "text/csv"}},
    ]
    for form in forms:
        counts = ok(service.manage.post(f"{path}?dryRun=true", **form))
        assert (counts["added"], counts["duplicates"], counts["invalid"]) == (3, 2, 1)
        assert [(error["code"], error["reason"].split(":")[0]) for error in counts["errors"]] == [("no code", "code")]
    assert service.stats(book)["codes"] == 1
    tried = ok(service.manage.post(f"{path}?dryRun=true", **forms[1]))
    assert ok(service.manage.post(f"{path}?dryRun=false", **forms[1])) | {"isExact": True} == tried
    assert service.stats(book)["codes"] == 4
    unmapped = {"content": "Gutschein;Kunde\nA;B\n" * 20_000, "headers": forms[2]["headers"]}
    counts = ok(service.manage.post(f"{path}?dryRun=true", **unmapped))
    assert counts["added"] == 0
    assert counts["file"]["columns"] == [
        {"name": "Gutschein", "field": None, "example": "A"}, {"name": "Kunde", "field": None, "example": "B"},
    ]  # fmt: skip
    assert counts["file"]["problem"].startswith('has no column `code` ("Gutschein", "Kunde")')
    assert "must have 4 to 64" in service.manage.post(f"{path}?dryRun=true&columns=code,-&header=true", **unmapped).text
    refused(service.manage.post(f"{path}?dryRun=maybe", **forms[1]), 400, "malformed")
    bad = 'code,userId\nGOOD-1,\n=no,"a,b"\nGOOD-2,no user\n'
    file = service.manage.post(f"{path}/rejected.csv", content=bad, headers=forms[2]["headers"])
    assert (file.status_code, file.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert file.text.splitlines() == [
        "line,reason,text",
        '3,"code: must have 4 to 64 of A-Z a-z 0-9 - _, but has `=` at position 1","\'=no,""a,b"""',
        (
            '4,"userId: must have 1 to 100 printable ASCII characters without space, / \\ ? # %, '
            'but has a space at position 3","GOOD-2,no user"'
        ),
    ]
    refused(service.manage.post(f"{path}/rejected.csv", content="x", headers=forms[2]["headers"]), 400, "malformed")
    other = {"content": text, "headers": {"Content-Type": "text/html"}}
    refused(service.manage.post(f"{path}?dryRun=true", **other), 415, "unsupported_media_type")
