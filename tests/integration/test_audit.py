"""The audit: who changed what, from where; nothing takes a word of it back."""

import asyncio
import csv
import io
import json
import re
from typing import Any

import asyncpg
import httpx
import pytest

from service.access.actor import mask
from tests.service_fixture import Service, new_code, new_id, ok, pages, refused, until


@pytest.fixture(scope="module")
def name() -> str:
    """A test workspace of this module's own."""
    return new_id("audited")


@pytest.fixture(scope="module")
def admin(service: Service, name: str) -> httpx.Client:
    """Its client."""
    client = service.make_workspace(name, "test")
    client.headers["User-Agent"] = "audit-test/1"
    return client


def _entries(admin: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    return ok(admin.get("/v1/audit", params={"limit": 1000} | asked))["items"]


def _change(
    admin: httpx.Client, method: str, path: str, body: Any = None, status: int = 200
) -> tuple[Any, dict[str, Any]]:
    """Make a change; its answer, and the entry that it left, with its request's id."""
    mark = new_id("request")
    answer = admin.request(method, path, json=body, headers={"X-Request-Id": mark})
    assert answer.status_code == status, answer.text
    found = [entry for entry in _entries(admin) if entry["requestId"] == mark]
    assert found, path
    for entry in found:
        assert (entry["actor"], entry["keyName"], entry["ipAddress"], entry["userAgent"]) == (
            "key", "admin", "127.0.0.1", "audit-test/1",
        )  # fmt: skip
    return (answer.json() if answer.content else None), found[-1]


def test_what_is_told(admin: httpx.Client) -> None:
    """Every change of the configuration says who made it, from where, and what it was before and after."""
    said = {"name": "Audited", "maxRedemptions": 5}
    book, entry = _change(admin, "POST", "/v1/books", said, 201)
    book_id = book["bookId"]
    assert (entry["action"], entry["subject"], entry["before"]) == ("book.created", book_id, None)
    assert said.items() <= entry["after"].items()
    _, entry = _change(admin, "PATCH", f"/v1/books/{book_id}", {"maxRedemptions": 7, "name": "Audited"})
    assert (entry["action"], entry["before"], entry["after"]) == (
        "book.changed", {"maxRedemptions": 5}, {"maxRedemptions": 7},
    )  # fmt: skip
    codes = [new_code() for _ in range(3)]
    _, entry = _change(admin, "POST", f"/v1/books/{book_id}/codes", {"codes": codes})
    assert (entry["action"], entry["subject"], entry["after"]) == ("codes.added", book_id, {"count": 3})
    job, entry = _change(admin, "POST", f"/v1/books/{book_id}/codes/generate", {"count": 2}, 202)
    assert (entry["action"], entry["after"]["jobId"], entry["after"]["count"]) == ("codes.ordered", job["jobId"], 2)
    _, entry = _change(admin, "PATCH", f"/v1/coupons/{codes[0]}", {"status": "inactive"})
    assert (entry["action"], entry["subject"]) == ("coupon.changed", f"{book_id} {mask(codes[0])}")
    assert (entry["before"], entry["after"]) == ({"status": "active"}, {"status": "inactive"})
    single, entry = _change(admin, "POST", "/v1/coupons/generate", {}, 201)
    assert entry["action"] == "book.created"
    _change(admin, "PATCH", f"/v1/books/{single['bookId']}", {"name": "Named"})
    user = new_id()
    _, entry = _change(admin, "POST", "/v1/users", {"userId": user, "maxCoupons": 3}, 201)
    assert (entry["action"], entry["subject"], entry["after"]["maxCoupons"]) == ("user.created", user, 3)
    _, entry = _change(admin, "PATCH", f"/v1/users/{user}", {"maxCoupons": None})
    assert (entry["action"], entry["before"], entry["after"]) == (
        "user.changed",
        {"maxCoupons": 3},
        {"maxCoupons": None},
    )
    _, entry = _change(admin, "PATCH", "/v1/workspace", {"couponsPerOrder": 2})
    assert (entry["action"], entry["before"]) == ("workspace.changed", {"couponsPerOrder": 1})
    _, entry = _change(admin, "POST", "/v1/test/clock", {"now": None})
    assert entry["action"] == "workspace.changed"
    key, entry = _change(admin, "POST", "/v1/keys", {"name": "k", "scopes": ["public"]}, 201)
    assert (entry["action"], entry["subject"], entry["after"]["scopes"]) == ("key.created", key["keyId"], ["public"])
    turned, entry = _change(admin, "POST", f"/v1/keys/{key['keyId']}/rotate", {}, 201)
    assert (entry["action"], entry["subject"]) == ("key.rotated", key["keyId"])
    _, entry = _change(admin, "DELETE", f"/v1/keys/{turned['keyId']}", status=204)
    assert (entry["action"], entry["subject"]) == ("key.revoked", turned["keyId"])
    secrets = _change_webhooks(admin)
    everything = str(_entries(admin))
    for hidden in (*codes, single["code"], key["secret"], turned["secret"], key["prefix"], *secrets):
        assert hidden not in everything
    assert _entries(admin)[-1]["action"] in {"workspace.created", "key.created"}


def _change_webhooks(admin: httpx.Client) -> list[str]:
    """Each change of a webhook, and what it leaves; the webhook's secrets."""
    said = {"url": "https://shop.example/hook", "events": ["coupon.redeemed"]}
    hook, entry = _change(admin, "POST", "/v1/webhooks", said, 201)
    path, whole = f"/v1/webhooks/{hook['webhookId']}", said | {"description": "", "status": "active"}
    assert (entry["action"], entry["subject"], entry["after"]) == ("webhook.created", hook["webhookId"], whole)
    _, entry = _change(admin, "PATCH", path, {"status": "inactive", "events": said["events"]})
    assert (entry["action"], entry["before"], entry["after"]) == (
        "webhook.changed", {"status": "active"}, {"status": "inactive"},
    )  # fmt: skip
    turned, entry = _change(admin, "POST", f"{path}/rotate", {"overlapSeconds": 60})
    assert (entry["action"], entry["after"]) == ("webhook.rotated", {"overlapSeconds": 60})
    _, entry = _change(admin, "DELETE", path, status=204)
    assert (entry["action"], entry["subject"]) == ("webhook.deleted", hook["webhookId"])
    refused(admin.delete(path), 404, "not_found")
    return [hook["secret"], turned["secret"]]


def test_what_is_refused_leaves_nothing(admin: httpx.Client) -> None:
    """The entry is written with its change or not at all."""
    before = len(_entries(admin))
    book = ok(admin.post("/v1/books", json={"name": "Once"}), 201)["bookId"]
    assert len(_entries(admin)) == before + 1
    for bad in ({"lockSeconds": 9000}, {"giftBookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"}):
        refused(admin.patch(f"/v1/books/{book}", json=bad), 422, "invalid")
    refused(admin.patch("/v1/workspace", json={"giftBookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"}), 422, "invalid")
    assert len(_entries(admin)) == before + 1


def test_lists_and_files(service: Service, admin: httpx.Client) -> None:
    """Pages, one kind alone, and a file have the same entries; nobody sees another workspace's."""
    for number in range(3):
        ok(admin.post("/v1/books", json={"name": f"=Listed {number}"}), 201)
    whole = _entries(admin)
    paged = [entry for page in pages(admin, "/v1/audit", limit=2) for entry in page]
    assert [entry for entry in paged if entry in whole] == whole
    created = _entries(admin, action="book.created")
    assert created == [entry for entry in whole if entry["action"] == "book.created"]
    middle = whole[len(whole) // 2]["at"]
    assert _entries(admin, since=middle) == [entry for entry in whole if entry["at"] >= middle]
    assert _entries(admin, until=middle) == [entry for entry in whole if entry["at"] < middle]
    key_id = created[0]["keyId"]
    assert _entries(admin, keyId=key_id) == [entry for entry in whole if entry["keyId"] == key_id] != []
    assert _entries(admin, actor="key") == [entry for entry in whole if entry["actor"] == "key"] != whole
    assert _entries(admin, actor="command", action="book.created") == []
    for name, value in (("until", "1969-01-01T00:00:00Z"), ("since", "10000-01-01T00:00:00Z"), ("keyId", "x"),
                        ("since", "197"), ("until", "1e3"), ("actor", "somebody")):  # fmt: skip
        assert admin.get("/v1/audit", params={name: value}).status_code in {400, 422}
    rows = list(csv.DictReader(io.StringIO(admin.get("/v1/audit.csv").text)))
    assert [row["subject"] for row in rows if row["action"] == "book.created"] == [one["subject"] for one in created]
    told = next(row["after"] for row in rows if row["action"] == "book.created")
    assert json.loads(told)["name"] == "=Listed 2"
    assert not {entry["subject"] for entry in _entries(service.operate)} & {entry["subject"] for entry in created}
    refused(service.manage.get("/v1/audit"), 403, "forbidden")


async def test_nothing_takes_it_back(service: Service) -> None:
    """Postgres itself refuses to change, delete or empty it, whoever asks."""
    for sql in (
        "DELETE FROM audit", "TRUNCATE audit", "UPDATE audit SET ip = NULL", "UPDATE audit SET after = NULL",
        "UPDATE audit SET subject = 'x', before = NULL, after = NULL", "UPDATE audit SET action = 'x'",
    ):  # fmt: skip
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await service.fetch(sql)


def test_a_deleted_user(service: Service, admin: httpx.Client, name: str) -> None:
    """A pseudonym takes a deleted user's place here too, and what was said of the user goes; nothing else changes."""
    user = new_id()
    _change(admin, "POST", "/v1/users", {"userId": user, "metadata": {"note": user}}, 201)
    _change(admin, "PATCH", f"/v1/users/{user}", {"maxCoupons": 4})
    _, entry = _change(admin, "DELETE", f"/v1/users/{user}", status=204)
    pseudonym = entry["subject"]
    assert (entry["action"], pseudonym[:8]) == ("user.deleted", "deleted-")
    assert user not in str(_entries(admin))
    theirs = [one for one in _entries(admin) if one["subject"] == pseudonym]
    assert [one["action"] for one in theirs] == ["user.deleted", "user.changed", "user.created"]
    assert all(one["before"] is one["after"] is None for one in theirs)
    assert [(one["ipAddress"], one["userAgent"]) for one in theirs[1:]] == [(None, None)] * 2
    rows = asyncio.run(service.fetch("SELECT to_jsonb(audit)::text AS told FROM audit"))
    assert not any(user in row["told"] for row in rows)


def test_attempts_are_counted(service: Service, admin: httpx.Client) -> None:
    """How often a key was refused is told, one that was revoked too; of what is nobody's only that it was tried."""
    weak, gone = (
        ok(admin.post("/v1/keys", json={"name": kind, "scopes": ["public"]}), 201) for kind in ("weak", "gone")
    )
    assert admin.delete(f"/v1/keys/{gone['keyId']}").status_code == 204
    for _ in range(7):
        refused(service.client(weak["secret"]).get("/v1/books"), 403, "forbidden")
        refused(service.client(weak["secret"]).post("/v1/coupons/assign", json={}), 403, "forbidden")
    for _ in range(5):
        refused(service.client(gone["secret"]).get("/v1/books"), 401, "unauthenticated")
        refused(service.client("nobodys").get("/v1/books"), 401, "unauthenticated")

    def counted(key: dict[str, Any], code: str) -> int:
        told = [one["after"] for one in _entries(admin, action="attempts.refused") if one["subject"] == key["keyId"]]
        return sum(one["count"] for one in told if one["code"] == code)

    until(lambda: counted(weak, "forbidden") == 14 and counted(gone, "unauthenticated") == 5)
    nobodys = "SELECT count(*) AS number FROM audit WHERE workspace IS NULL AND action = 'attempts.refused'"
    assert asyncio.run(service.fetch(nobodys))[0]["number"] > 0


def test_what_is_shown_of_a_code() -> None:
    """At most its last quarter, and no more than four characters."""
    assert [mask(code) for code in ("ABC", "ABCD", "ABCDEFG", "ABCDEFGH", "SUMMER-7QX2", "A" * 64)] == [
        "…", "…D", "…G", "…GH", "…X2", "…AAAA",
    ]  # fmt: skip
    assert not re.search("ABC", mask("ABCD"))
