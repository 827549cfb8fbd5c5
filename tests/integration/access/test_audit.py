"""The audit: each change with its actor, address, before and after; Postgres takes no change of it."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.engine.record.actor import mask
from service.server.api.bulk import Bulk
from service.server.requests.code_requests import UPLOADED
from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.serving import Served
from tests.harness.waiting import until


@pytest.fixture(scope="module")
def admin(service: Service) -> httpx.Client:
    """The client of a test workspace of this module's own."""
    client = service.make_workspace(new_id("audited"), "test").admin
    client.headers["User-Agent"] = "audit-test/1"
    return client


def _entries(admin: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    return ok(admin.get("/v1/audit", params={"limit": 1000} | asked))["items"]


class Changes:
    """Makes changes of the configuration and checks the audit's entry of each."""

    def __init__(self, admin: httpx.Client) -> None:
        self.admin = admin
        self.entry: dict[str, Any] = {}
        """The last change's."""

    def send(self, method: str, path: str, body: Any = None, **expected: Any) -> Any:
        """Make a change whose entry has these fields; return the response's body."""
        request_id = new_id("request")
        response = self.admin.request(method, path, json=body, headers={"X-Request-Id": request_id})
        assert response.is_success, response.text
        entries = [entry for entry in _entries(self.admin) if entry["requestId"] == request_id]
        assert entries, path
        source = {"actor": "key", "keyName": "admin", "ipAddress": "127.0.0.1", "userAgent": "audit-test/1"}
        assert all(source.items() <= entry.items() for entry in entries)
        self.entry = entries[-1]
        assert {name: self.entry[name] for name in expected} == expected
        return response.json() if response.content else None

    def change(self, path: str, action: str, before: dict[str, Any], after: dict[str, Any], **same: Any) -> None:
        """PATCH what is not the same; the entry has that alone."""
        self.send("PATCH", path, after | same, action=action, before=before, after=after)


def test_the_audit_has_every_change(admin: httpx.Client) -> None:
    """The audit has an entry for each change of the configuration: by whom, from where, before and after."""
    changes = Changes(admin)
    send, change = changes.send, changes.change
    fields = {"name": "Audited", "maxRedemptions": 5}
    book = send("POST", "/v1/books", fields, action="book.created", before=None)["bookId"]
    assert changes.entry["subject"] == book
    assert fields.items() <= changes.entry["after"].items()
    path = f"/v1/books/{book}"
    change(path, "book.changed", {"maxRedemptions": 5}, {"maxRedemptions": 7}, name="Audited")
    codes = [new_code() for _ in range(3)]
    send("POST", f"{path}/codes", {"codes": codes}, action="codes.added", subject=book, after={"count": 3})
    job = send("POST", f"{path}/codes/generate", {"count": 2}, action="codes.ordered")
    assert {"jobId": job["jobId"], "count": 2}.items() <= changes.entry["after"].items()
    change(f"/v1/coupons/{codes[0]}", "coupon.changed", {"status": "active"}, {"status": "inactive"})
    assert changes.entry["subject"] == f"{book} {mask(codes[0])}"
    assert changes.entry["subjectName"] == "Audited"
    single = send("POST", "/v1/coupons/generate", {}, action="book.created")
    user = new_id()
    send("POST", "/v1/users", {"userId": user, "maxCoupons": 3}, action="user.created", subject=user)
    assert changes.entry["after"]["maxCoupons"] == 3
    change(f"/v1/users/{user}", "user.changed", {"maxCoupons": 3}, {"maxCoupons": None})
    change("/v1/workspace", "workspace.changed", {"couponsPerOrder": 1}, {"couponsPerOrder": 2})
    send("POST", "/v1/test/clock", {"now": None}, action="workspace.changed")
    key = send("POST", "/v1/keys", {"name": "k", "scopes": ["public"]}, action="key.created")
    assert (changes.entry["subject"], changes.entry["after"]["scopes"]) == (key["keyId"], ["public"])
    rotated = send("POST", f"/v1/keys/{key['keyId']}/rotate", {}, action="key.rotated", subject=key["keyId"])
    send("DELETE", f"/v1/keys/{rotated['keyId']}", action="key.revoked", subject=rotated["keyId"])
    fields = {"url": "https://shop.example/hook", "events": ["coupon.redeemed"]}
    whole = fields | {"description": "", "status": "active"}
    hook = send("POST", "/v1/webhooks", fields, action="webhook.created", after=whole)
    path = f"/v1/webhooks/{hook['webhookId']}"
    change(path, "webhook.changed", {"status": "active"}, {"status": "inactive"}, events=fields["events"])
    after = {"overlapSeconds": 60}
    rolled = send("POST", f"{path}/rotate", after, action="webhook.rotated", after=after)
    send("DELETE", path, action="webhook.deleted", subject=hook["webhookId"])
    everything = str(_entries(admin))
    secrets = [issued["secret"] for issued in (key, rotated, hook, rolled)]
    for hidden in (*codes, single["code"], key["prefix"], *secrets):
        assert hidden not in everything
    assert _entries(admin)[-1]["action"] in {"workspace.created", "key.created"}


def test_refused_changes_have_no_entry(admin: httpx.Client) -> None:
    """A refused change leaves no entry."""
    before = len(_entries(admin))
    book = ok(admin.post("/v1/books", json={"name": "Once"}), 201)["bookId"]
    assert len(_entries(admin)) == before + 1
    gift = {"giftBookId": "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"}
    for path, bad in (
        (f"/v1/books/{book}", {"lockSeconds": 9000}),
        (f"/v1/books/{book}", gift),
        ("/v1/workspace", gift),
    ):
        refused(admin.patch(path, json=bad), 422, "invalid")
    assert len(_entries(admin)) == before + 1


def test_a_filtered_audit_is_a_search(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with a filter, which may read all of the audit, has a turn among searches; one without does not wait."""
    searches, search = list[int](), Bulk.search

    async def count(self: Bulk, workspace: int, read: Any) -> Any:
        searches.append(workspace)
        return await search(self, workspace, read)

    monkeypatch.setattr(Bulk, "search", count)
    with Served(service, tmp_path) as served, served.client("Bearer demo_operate") as client:
        ok(client.get("/v1/audit"))
        assert searches == []
        filters = {"action": "book.created", "actor": "person", "keyId": str(UUID(int=0)), "person": "nobody"}
        for one in filters.items():
            ok(client.get("/v1/audit", params=[one]))
    assert len(searches) == len(filters)


def test_an_upload_is_one_entry(admin: httpx.Client) -> None:
    """An upload has one entry in the list and the file, with the number of its codes, also beside another one with the
    same request id. So has a single coupon."""
    book = ok(admin.post("/v1/books", json={"name": "Uploaded"}), 201)["bookId"]
    sent = {"Content-Type": "text/csv", "X-Request-Id": "the same"}
    for count in (2 * UPLOADED + 1, 3):
        codes = "".join(f"{new_code()}\n" for _ in range(count))
        ok(admin.post(f"/v1/books/{book}/codes", content=codes, headers=sent))
    added = [entry for entry in _entries(admin, action="codes.added") if entry["subject"] == book]
    assert [entry["after"] for entry in added] == [{"count": 3}, {"count": 2 * UPLOADED + 1}]
    rows = csv.DictReader(io.StringIO(admin.get("/v1/audit.csv").text))
    afters = [json.loads(row["after"]) for row in rows if row["action"] == "codes.added" and row["subject"] == book]
    assert afters == [entry["after"] for entry in added]
    code = ok(admin.post("/v1/coupons/generate", json={}, headers={"X-Request-Id": "single"}), 201)["code"]
    (entry,) = [entry for entry in _entries(admin) if entry["requestId"] == "single"]
    assert entry["after"]["code"] == mask(code)


def test_lists_and_files(service: Service, admin: httpx.Client) -> None:
    """Pages, filters and the file have the same entries; no key reads another workspace's."""
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
    after = next(row["after"] for row in rows if row["action"] == "book.created")
    assert json.loads(after)["name"] == "=Listed 2"
    assert not {entry["subject"] for entry in _entries(service.operate)} & {entry["subject"] for entry in created}
    refused(service.manage.get("/v1/audit"), 403, "forbidden")


async def test_the_audit_is_append_only(service: Service) -> None:
    """Postgres refuses every UPDATE, DELETE and TRUNCATE of the audit, whatever the role."""
    for sql in (
        "DELETE FROM audit", "TRUNCATE audit", "UPDATE audit SET ip = NULL", "UPDATE audit SET after = NULL",
        "UPDATE audit SET subject = 'x', before = NULL, after = NULL", "UPDATE audit SET action = 'x'",
    ):  # fmt: skip
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await service.fetch(sql)


def test_a_deleted_user(service: Service, admin: httpx.Client) -> None:
    """A pseudonym replaces a deleted user in the audit, and the user's fields are removed; nothing else changes."""
    user = new_id()
    changes = Changes(admin)
    changes.send("POST", "/v1/users", {"userId": user, "metadata": {"note": user}})
    changes.send("PATCH", f"/v1/users/{user}", {"maxCoupons": 4})
    changes.send("DELETE", f"/v1/users/{user}", action="user.deleted")
    pseudonym = changes.entry["subject"]
    assert pseudonym.startswith("deleted-")
    assert user not in str(_entries(admin))
    theirs = [one for one in _entries(admin) if one["subject"] == pseudonym]
    assert [one["action"] for one in theirs] == ["user.deleted", "user.changed", "user.created"]
    assert all(one["before"] is one["after"] is None for one in theirs)
    assert [(one["ipAddress"], one["userAgent"]) for one in theirs[1:]] == [(None, None)] * 2
    rows = asyncio.run(service.fetch("SELECT to_jsonb(audit)::text AS row FROM audit"))
    assert not any(user in row["row"] for row in rows)


def test_attempts_are_counted(service: Service, admin: httpx.Client) -> None:
    """The audit counts refusals of each key, also of a revoked one; attempts with an unknown key have no workspace."""
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
        entries = _entries(admin, action="attempts.refused")
        refusals = [entry["after"] for entry in entries if entry["subject"] == key["keyId"]]
        return sum(refusal["count"] for refusal in refusals if refusal["code"] == code)

    until(lambda: counted(weak, "forbidden") == 14 and counted(gone, "unauthenticated") == 5)
    nobodys = "SELECT count(*) AS number FROM audit WHERE workspace IS NULL AND action = 'attempts.refused'"
    assert asyncio.run(service.fetch(nobodys))[0]["number"] > 0


def test_a_code_is_masked() -> None:
    """The audit has at most the last quarter of a code, and at most four characters."""
    assert [mask(code) for code in ("ABC", "ABCD", "ABCDEFG", "ABCDEFGH", "SUMMER-7QX2", "A" * 64)] == [
        "…", "…D", "…G", "…GH", "…X2", "…AAAA",
    ]  # fmt: skip
