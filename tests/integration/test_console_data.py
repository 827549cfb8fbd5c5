"""What the console asks for and no other client: the overview, searching, timelines, a flash sale, a tried upload."""

import json
from itertools import islice
from typing import Any

import httpx
import pytest

from tests.service_fixture import Service, new_code, new_id, ok, pages, refused, until

DATA = "/console/data"


def timeline(client: httpx.Client, kind: str, name: str) -> dict[str, Any]:
    """A timeline with everything in it."""
    found = ok(client.get(f"{DATA}/timeline", params={"kind": kind, "name": name}))
    assert found["recorded"]
    return found


def what(found: dict[str, Any]) -> list[str]:
    """What happened, in its order."""
    return [event["what"] for event in reversed(found["events"])]


def search(client: httpx.Client, text: str) -> list[tuple[str, str]]:
    """Kind and name of all that has the name."""
    return [(match["kind"], match["name"]) for match in ok(client.get(f"{DATA}/search", params={"q": text}))["matches"]]


def redeemed(service: Service, code: str, user: str, order: str, **headers: str) -> str:
    """The id of a new redemption."""
    body = {"userId": user, "orderId": order, "orderValue": "10.00"}
    return ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body, headers=headers), 201)["redemptionId"]


def test_the_overview(service: Service) -> None:
    """It tells of Redis, Postgres and each book, and counts what all processes did and refused."""

    def look() -> dict[str, Any]:
        return ok(service.operate.get(f"{DATA}/overview"))

    before = look()["totals"]
    book = service.book(new_code(), code := new_code(), name="Seen at a glance")
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "ann"}), 201)
    refused(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "bob"}), 409, "coupon_locked")
    now = until(lambda: (seen := look())["totals"].get("coupon_locked", 0) > before.get("coupon_locked", 0) and seen)
    assert now["totals"]["locked"] > before.get("locked", 0)
    assert now["redis"] | {"usedBytes": 0} == now["redis"] | {
        "connected": True, "gate": "open", "usedBytes": 0, "maxBytes": 0, "replicas": 0, "fsynced": True,
    }  # fmt: skip
    assert now["redis"]["server"].startswith("Valkey ")
    assert now["redis"]["usedBytes"] > 0
    assert now["postgres"]["version"]
    assert now["postgres"]["bytes"] > 0
    (seen,) = [found for found in now["books"] if found["bookId"] == book]
    assert (seen["name"], seen["counts"]["available"], seen["counts"]["locked"]) == ("Seen at a glance", 1, 1)
    assert seen["counts"] == service.stats(book)


def test_a_code_s_timeline(service: Service) -> None:
    """Everything that was decided of a code, in its order, beside what Postgres says of it."""
    code, user, order = new_code(), new_id(), new_id("order")
    service.book(code, discount={"type": "fixed", "value": 3})
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    ok(service.manage.post(f"/v1/coupons/unassign/{code}", json={}))
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    made = redeemed(service, code, user, order)
    found = timeline(service.manage, "code", code.lower())
    assert what(found) == ["assigned", "unassigned", "assigned", "redeemed"]
    (last, *_) = found["events"]
    assert (last["redemptionId"], last["orderValue"], last["discountAmount"]) == (made, "10.00", "3.00")
    assert (last["userId"], last["orderId"], last["code"], last["currency"]) == (user, order, code, "USD")
    assert (found["postgres"]["status"], found["postgres"]["userId"]) == ("redeemed", user)
    back = {"reason": "sent back", "restore": False}
    ok(service.manage.post(f"/v1/redemptions/{made}/rollback", json=back))
    found = timeline(service.manage, "code", code)
    assert what(found)[-1] == "rolledBack"
    assert (found["events"][0]["reason"], found["events"][0]["restore"]) == ("sent back", False)
    assert what(timeline(service.manage, "user", user)) == what(found)
    assert what(timeline(service.manage, "order", order)) == ["redeemed", "rolledBack"]


def test_an_order_s_timeline(service: Service) -> None:
    """An order's redemptions are there after a rollback that freed its place, too; and its gift while it stands."""
    gifts = service.book(new_code())
    code, again, user, order = new_code(), new_code(), new_id(), new_id("order")
    service.book(code, again, giftBookId=gifts)
    body = {"userId": user, "orderId": order, "orderValue": 9, "code": code}
    ok(service.checkout.post("/v1/checkout", json=body), 201)
    assert sorted(what(timeline(service.manage, "order", order))) == ["assigned", "redeemed"]
    ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))
    redeemed(service, again, user, order)
    found = [name for name in what(timeline(service.manage, "order", order)) if name.startswith("r")]
    assert found == ["redeemed", "rolledBack", "redeemed"]


def test_a_request_is_found(service: Service) -> None:
    """By its Idempotency-Key exactly; by an id that the service made, what was redeemed within a second of it."""
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
    """One box finds codes in any case, users, orders, redemptions, books and jobs, and nothing of another workspace."""
    code, name = new_code(), new_id()
    book = service.book(code)
    made = redeemed(service, code, name, name)
    job = ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)["jobId"]
    found = {text: search(service.manage, text) for text in (code.lower(), name, made, book, job, "no such thing")}
    assert found[code.lower()] == [("code", code)]
    assert found[name] == [("user", name), ("order", name)]
    assert found[made] == [("redemption", made)]
    assert (found[book], found[job], found["no such thing"]) == ([("book", book)], [("job", job)], [])
    for text in (code, name):
        assert search(service.rival_manage, text) == []
    for text in (made, book, job):
        assert {kind for kind, _ in search(service.rival_manage, text)} <= {"request"}
    assert timeline(service.rival_manage, "code", code) == {"events": [], "recorded": True, "postgres": None}
    assert timeline(service.rival_manage, "user", name)["events"] == []
    assert made not in [event["redemptionId"] for event in timeline(service.rival_manage, "request", made)["events"]]


def test_lists_over_all_books(service: Service) -> None:
    """Redemptions and jobs of the workspace come page by page, newest first, and none of another's."""
    codes = [new_code() for _ in range(3)]
    made = [redeemed(service, code, "ann", new_id("order")) for code in codes if service.book(code)]
    listed = islice(pages(service.manage, f"{DATA}/redemptions", limit=1), 3)
    assert [item["redemptionId"] for page in listed for item in page] == made[::-1]
    theirs = ok(service.rival_manage.get(f"{DATA}/redemptions"))["items"]
    assert not {item["redemptionId"] for item in theirs} & set(made)
    book = service.book()
    jobs = [ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)["jobId"] for _ in "ab"]
    seen = (job["jobId"] for page in pages(service.operate, f"{DATA}/jobs", limit=1) for job in page)
    ours = (job for job in seen if job in jobs)  # others may come meanwhile, of books that are kept in stock
    assert [next(ours) for _ in jobs] == jobs[::-1]
    assert not {job["jobId"] for job in ok(service.rival_manage.get(f"{DATA}/jobs"))["items"]} & set(jobs)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("overview", {"manage", "operate"}),
        ("jobs", {"manage", "operate"}),
        ("redemptions", {"manage"}),
        ("search?q=x", {"manage"}),
        ("timeline?kind=user&name=x", {"manage"}),
    ],
)
def test_who_may_look(service: Service, path: str, keys: set[str]) -> None:
    """Each takes a scope of operators, and nothing is told without."""
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
        ("timeline?kind=request&name=6ba7b810-9dad-11d1-80b4-00c04fd430c8", 404, "not_found"),
        ("timeline?kind=code&name=a%20b", 404, "coupon_not_found"),
        ("jobs?cursor=x", 400, "malformed"),
        ("redemptions?cursor=!", 400, "malformed"),
        ("overview?more=1", 400, "malformed"),
    ],
)
def test_what_cannot_be_asked(service: Service, path: str, status: int, code: str) -> None:
    """Nonsense is refused in the contract's words."""
    refused(service.manage.get(f"{DATA}/{path}"), status, code)


def test_a_flash_sale(service: Service) -> None:
    """Of many buyers exactly as many get one as there are; answers, Redis and Postgres say so; a second one waits."""

    said = {"buyers": 200, "coupons": 7}
    with service.admin.stream("POST", f"{DATA}/sale", json=said, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert json.loads(next(lines))["buyers"] == 200
        refused(service.admin.post(f"{DATA}/sale", json=said), 409, "request_in_progress")
        *_, last = map(json.loads, lines)
    assert last["proof"] == {
        "coupons": 7, "answered": 7, "redis": 7, "postgres": 7, "users": 7, "orders": 7, "neverMore": True,
    }  # fmt: skip
    assert (last["sold"], last["held"], last["gone"]) == (7, 0, 200)
    assert last["refused"]["coupon_exhausted"] > 0
    events = timeline(service.manage, "code", last["code"])["events"]
    assert len(events) == 7


@pytest.mark.parametrize(
    ("key", "said", "status", "code"),
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
def test_no_flash_sale(service: Service, key: str, said: dict[str, int], status: int, code: str) -> None:
    """It is run in the demo's workspace alone, and within bounds."""
    refused(service.client(key).post(f"{DATA}/sale", json=said), status, code)


def test_an_upload_is_tried(service: Service) -> None:
    """A dry run answers what the upload then does, in each form, and adds nothing."""
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
        told = ok(service.manage.post(f"{path}?dryRun=true", **form))
        assert (told["added"], told["duplicates"], told["invalid"]) == (3, 2, 1)
        assert [(error["code"], error["reason"].split(":")[0]) for error in told["errors"]] == [("no code", "code")]
    assert service.stats(book)["codes"] == 1
    tried = ok(service.manage.post(f"{path}?dryRun=true", **forms[1]))
    assert ok(service.manage.post(f"{path}?dryRun=false", **forms[1])) == tried
    assert service.stats(book)["codes"] == 4
    large = {"content": "A" * (5 << 20), "headers": {"Content-Type": "text/plain"}}
    refused(service.manage.post(f"{path}?dryRun=true", **large), 413, "too_large")
    refused(service.manage.post(f"{path}?dryRun=maybe", **forms[1]), 400, "malformed")
    other = {"content": text, "headers": {"Content-Type": "text/html"}}
    refused(service.manage.post(f"{path}?dryRun=true", **other), 415, "unsupported_media_type")
